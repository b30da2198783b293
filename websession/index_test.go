package websession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/phpsession"
)

var accountRoutes = map[string]http.HandlerFunc{
	"/put": put, "/show": show, "/out": destroy,
	"/login": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		if err := errors.Join(s.Regenerate(r.Context()), s.SetUser(r.FormValue("user")), Put(s, "user", r.FormValue("user"))); err != nil {
			http.Error(w, err.Error(), 500)
		}
	},
	"/others": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		if r.FormValue("renew") != "" {
			_ = s.Regenerate(r.Context())
		}
		n, err := s.DestroyOthers(r.Context())
		fmt.Fprint(w, n, err)
	},
	"/handle": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, Get(r).Handle()) },
}

func (b *browser) as(agent string) *browser {
	b.http.Transport = agentTransport{agent, b.http.Transport}
	return b
}

type agentTransport struct {
	agent string
	next  http.RoundTripper
}

func (a agentTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", a.agent)
	if a.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return a.next.RoundTrip(r)
}

func TestMyDevicesAndLogOutEverywhere(t *testing.T) {
	for layout, params := range layouts {
		for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.Igbinary)} {
			t.Run(layout+" "+codec.String(), func(t *testing.T) {
				st := newSite(t, 2, params, Options{Codec: codec, Cookie: Cookie{Name: "session"}}, wrapped(accountRoutes))
				ctx := context.Background()
				mons := monitors(t, st.nodes)
				phone, laptop, other := st.browser().as("Phone"), st.browser().as("Laptop"), st.browser().as("Other")
				phone.get("/put?key=cart&value=book")
				phone.get("/login?user=ann")
				laptop.get("/login?user=ann")
				other.get("/login?user=bob")
				devices := func(user string) string {
					t.Helper()
					list, err := st.manager.SessionsOf(ctx, user)
					if err != nil {
						t.Fatal(err)
					}
					var labels []string
					for _, d := range list {
						if time.Since(d.Created) > time.Minute || time.Since(d.LastSeen) > time.Minute || time.Until(d.LastSeen) > time.Second {
							t.Errorf("%s: created %v, last seen %v", d.Label, d.Created, d.LastSeen)
						}
						labels = append(labels, d.Label)
					}
					slices.Sort(labels) // two in the same moment have no order
					return strings.Join(labels, " ")
				}
				if got := devices("ann"); got != "Laptop Phone" {
					t.Errorf("ann's devices: %s", got)
				}
				if got := devices("nobody"); got != "" {
					t.Errorf("nobody's devices: %s", got)
				}
				// One.
				if err := st.manager.DestroySession(ctx, "ann", phone.get("/handle")); err != nil {
					t.Fatal(err)
				}
				if got := phone.get("/show?key=user") + " " + devices("ann"); got != "- Laptop" {
					t.Errorf("after ending the phone's session: %s", got)
				}
				// All but this one, while it changes its id.
				phone.get("/login?user=ann")
				if got := laptop.get("/others?renew=1"); got != "1 <nil>" {
					t.Errorf("log out others: %s", got)
				}
				if got := phone.get("/show?key=user") + laptop.get("/show?key=user") + " " + devices("ann"); got != "-ann Laptop" {
					t.Errorf("after logging out the others: %s", got)
				}
				// Everywhere.
				phone.get("/login?user=ann")
				if n, err := st.manager.DestroyAll(ctx, "ann"); n != 2 || err != nil {
					t.Errorf("log out everywhere: %d %v", n, err)
				}
				if got := phone.get("/show?key=user") + laptop.get("/show?key=user") + other.get("/show?key=user") + devices("ann") + devices("bob"); got != "--bobOther" {
					t.Errorf("after logging out everywhere: %s", got)
				}
				// A logout takes the session out.
				laptop.get("/login?user=ann")
				laptop.get("/out")
				if ix, _, err := st.manager.loadIndex(ctx, "ann", getOptions); err != nil || len(ix.Sessions) != 0 {
					t.Errorf("%d entries left after the logout, %v", len(ix.Sessions), err)
				}
				for _, c := range commands(t, mons) {
					if n := c.Name(); n == "KEYS" || n == "SCAN" && c.Source != "lua" && !strings.Contains(strings.Join(c.Args, " "), "sessionring:v:") {
						t.Errorf("sent %q", c.Args)
					}
				}
			})
		}
	}
}

// The session changes hands: it is in one index only.
func TestSetUserAnother(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(accountRoutes))
	ctx := context.Background()
	b := st.browser()
	count := func(user string) int {
		list, err := st.manager.SessionsOf(ctx, user)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	b.get("/login?user=ann")
	b.get("/login?user=bob")
	if a, b := count("ann"), count("bob"); a != 0 || b != 1 {
		t.Errorf("ann %d, bob %d", a, b)
	}
	b.get("/login?user=")
	if a, b := count("ann"), count("bob"); a != 0 || b != 0 {
		t.Errorf("ann %d, bob %d", a, b)
	}
}

// The index is bounded, and loses what is gone, without a scan.
func TestIndexPrunesItself(t *testing.T) {
	st := newSite(t, 1, "", Options{MaxSessions: 10}, wrapped(accountRoutes))
	ctx := context.Background()
	old := index{Epoch: "e"}
	for i := range 8 { // sessions that ran out long ago
		old.Sessions = append(old.Sessions, entry{ID: fmt.Sprintf("gone%dgone", i), Created: time.Now().Add(-time.Hour).UnixMilli()})
	}
	if _, err := st.manager.changeIndex(ctx, "ann", func(ix *index) (bool, error) { *ix = old; return true, nil }); err != nil {
		t.Fatal(err)
	}
	size := func() int {
		ix, _, err := st.manager.loadIndex(ctx, "ann", getOptions)
		if err != nil {
			t.Fatal(err)
		}
		return len(ix.Sessions)
	}
	var all []*browser
	for i := range 3 {
		b := st.browser()
		b.get("/login?user=ann")
		all = append(all, b)
		if want := []int{5, 2, 3}[i]; size() != want {
			t.Fatalf("%d entries after login %d, want %d", size(), i+1, want)
		}
	}
	for range 9 {
		b := st.browser()
		b.get("/login?user=ann")
		all = append(all, b)
		time.Sleep(2 * time.Millisecond)
	}
	if size() != 10 {
		t.Fatalf("%d entries, the limit is 10", size())
	}
	alive := 0
	for _, b := range all {
		if b.get("/show?key=user") == "ann" {
			alive++
		}
	}
	if alive != 10 || all[0].get("/show?key=user") != "-" || all[1].get("/show?key=user") != "-" {
		t.Errorf("%d of 12 sessions alive; the two oldest should have ended", alive)
	}
}

// An index that was lost is made good by the sessions that are used.
func TestIndexComesBack(t *testing.T) {
	st := newSite(t, 1, "", Options{TouchInterval: -1}, wrapped(accountRoutes))
	ctx := context.Background()
	b := st.browser()
	b.get("/login?user=ann")
	if _, err := st.nodes[0].Do("DEL", "PHPREDIS_SESSION:"+indexID("ann"), "sessionring:v:"+indexID("ann")); err != nil {
		t.Fatal(err)
	}
	b.get("/show?key=user")
	if list, err := st.manager.SessionsOf(ctx, "ann"); err != nil || len(list) != 1 {
		t.Errorf("%d sessions, %v", len(list), err)
	}
}

// Logins and "log out everywhere" at once: whoever is alive afterwards is in the index, so that the next one
// ends him.
func TestDestroyAllDuringLogins(t *testing.T) {
	for layout, params := range layouts {
		t.Run(layout, func(t *testing.T) {
			st := newSite(t, 2, params, Options{}, wrapped(accountRoutes))
			ctx := context.Background()
			var browsers []*browser
			var wg sync.WaitGroup
			for range 12 {
				b := st.browser()
				browsers = append(browsers, b)
				wg.Go(func() {
					for range 3 {
						b.get("/login?user=ann")
					}
				})
			}
			wg.Go(func() {
				for range 5 {
					if _, err := st.manager.DestroyAll(ctx, "ann"); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Wait()
			list, err := st.manager.SessionsOf(ctx, "ann")
			if err != nil {
				t.Fatal(err)
			}
			listed := map[string]bool{}
			for _, s := range list {
				listed[s.Handle] = true
			}
			for _, b := range browsers {
				if b.get("/show?key=user") == "ann" && !listed[b.get("/handle")] {
					t.Error("a logged in session is in no index")
				}
			}
			if _, err := st.manager.DestroyAll(ctx, "ann"); err != nil {
				t.Fatal(err)
			}
			for _, b := range browsers {
				if got := b.get("/show?key=user"); got != "-" {
					t.Errorf("logged in after everything was logged out: %s", got)
				}
			}
		})
	}
}

// A login that stored its place in the index, but not yet its session, when everything is logged out.
func TestDestroyAllInTheMiddleOfALogin(t *testing.T) {
	for layout, params := range layouts {
		t.Run(layout, func(t *testing.T) {
			st := newSite(t, 2, params, Options{}, wrapped(accountRoutes))
			ctx := context.Background()
			m := st.manager
			e := entry{ID: "sessionunderway0001", Created: time.Now().UnixMilli()}
			epoch, err := m.enlist(ctx, "ann", e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.DestroyAll(ctx, "ann"); err != nil {
				t.Fatal(err)
			}
			if err := m.confirm(ctx, "ann", e, epoch); !errors.Is(err, ErrGone) {
				t.Errorf("the login was confirmed: %v", err)
			}
		})
	}
}

func TestIndexCannotBeASession(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(accountRoutes))
	ann := st.browser()
	ann.get("/login?user=ann")
	thief := st.browser()
	thief.setCookie("session", indexID("ann"))
	if got := thief.get("/show?key=user"); got != "-" {
		t.Errorf("read %s", got)
	}
	thief.get("/put?key=a&value=1")
	thief.get("/out")
	if list, err := st.manager.SessionsOf(context.Background(), "ann"); err != nil || len(list) != 1 {
		t.Errorf("%d sessions, %v", len(list), err)
	}
}
