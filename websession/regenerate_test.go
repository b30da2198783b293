package websession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/phpsession"
)

func login(w http.ResponseWriter, r *http.Request) {
	s := Get(r)
	if err := errors.Join(s.Regenerate(r.Context()), Put(s, "user", "ann")); err != nil {
		http.Error(w, err.Error(), 500)
		return
	}
	fmt.Fprint(w, s.ID())
}

var loginRoutes = map[string]http.HandlerFunc{"/put": put, "/show": show, "/login": login, "/out": destroy, "/": counter}

// At login the id changes; the old id leads to the same session for the grace, tells nobody the new one, and
// is dead afterwards.
func TestRegenerate(t *testing.T) {
	for layout, params := range layouts {
		for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.Igbinary)} {
			t.Run(layout+" "+codec.String(), func(t *testing.T) {
				st := newSite(t, 2, params, Options{Codec: codec, RegenerateGrace: time.Hour, Cookie: Cookie{Name: "session"}}, wrapped(loginRoutes))
				b := st.browser()
				b.get("/put?key=cart&value=book")
				old, stolen := b.id(), b.twin()
				if got := b.get("/login"); got != b.id() || got == old {
					t.Fatalf("the handler was told %s, the browser %s", got[:6], b.id()[:6])
				}
				for key, want := range map[string]string{"cart": "book", "user": "ann"} {
					if got := b.get("/show?key=" + key); got != want {
						t.Errorf("%s is %s", key, got)
					}
				}
				// By the old id: the same session, both ways, without a word of the new id.
				if got := stolen.get("/show?key=user"); got != "ann" {
					t.Errorf("by the old id the user is %s", got)
				}
				stolen.get("/put?key=late&value=yes")
				if got := b.get("/show?key=late"); got != "yes" {
					t.Errorf("written by the old id: %s", got)
				}
				if stolen.id() != old {
					t.Error("the old id's holder was told the new one")
				}
				if n := st.present(b.id()); n == 0 {
					t.Fatal("no session")
				}
				// After the grace: dead, and its holder starts anew.
				age(t, st, old, 59*time.Minute)
				if got := stolen.get("/show?key=user"); got != "ann" {
					t.Errorf("by the old id, shortly before the end of the grace: %s", got)
				}
				age(t, st, old, time.Minute)
				if got := stolen.get("/show?key=user"); got != "-" {
					t.Errorf("by the old id, after the grace: %s", got)
				}
				if st.present(old) != 0 {
					t.Error("the record at the old id is still there")
				}
				stolen.get("/put?key=mine&value=1")
				if stolen.id() == old || stolen.id() == b.id() {
					t.Error("the old id was adopted again")
				}
				if got := b.get("/show?key=mine"); got != "-" {
					t.Error("sessions are mixed up")
				}
				if got := b.get("/show?key=user"); got != "ann" {
					t.Errorf("afterwards the user is %s", got)
				}
			})
		}
	}
}

// age makes a key on the nodes older, as time would.
func age(t *testing.T, st *site, id string, by time.Duration) {
	t.Helper()
	aged := 0
	for _, n := range st.nodes {
		for _, key := range []string{"PHPREDIS_SESSION:" + id, "sessionring:v:" + id} {
			v, err := n.Do("PTTL", key)
			if err != nil {
				t.Fatal(err)
			}
			if left := v.(int64); left > 0 {
				aged++
				if _, err := n.Do("PEXPIRE", key, max(1, left-by.Milliseconds())); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if aged == 0 {
		t.Fatal("nothing to make older")
	}
}

func TestRegenerateWithoutGrace(t *testing.T) {
	for layout, params := range layouts {
		t.Run(layout, func(t *testing.T) {
			st := newSite(t, 2, params, Options{RegenerateGrace: -1}, wrapped(loginRoutes))
			b := st.browser()
			b.get("/put?key=cart&value=book")
			old, stolen := b.id(), b.twin()
			b.get("/login")
			if got := stolen.get("/show?key=user"); got != "-" {
				t.Errorf("by the old id: %s", got)
			}
			if st.present(old) != 0 || st.present(b.id()) == 0 {
				t.Error("the old id is there, or the new one is not")
			}
		})
	}
}

// A request that loaded the session before Regenerate and saves after it lands in the new session; after the
// grace it is refused. It never revives the old id.
func TestRequestUnderWayAtLogin(t *testing.T) {
	for layout, params := range layouts {
		for _, afterGrace := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s afterGrace=%v", layout, afterGrace), func(t *testing.T) {
				g := newGate()
				routes := map[string]http.HandlerFunc{"/slow": slowly(g, func(s *Session) error { return Put(s, "slow", "done") })}
				for k, v := range loginRoutes {
					routes[k] = v
				}
				st := newSite(t, 2, params, Options{RegenerateGrace: time.Minute}, wrapped(routes))
				b := st.browser()
				b.get("/put?key=cart&value=book")
				tab, old := b.twin(), b.id()
				g.around(func() {
					b.get("/login")
					if afterGrace {
						age(t, st, old, time.Minute)
					}
				}, func() string { return tab.get("/slow") })
				want := "done"
				if afterGrace {
					want = "-"
				}
				if got := b.get("/show?key=slow"); got != want {
					t.Errorf("slow is %s, want %s", got, want)
				}
				if got := b.get("/show?key=user"); got != "ann" {
					t.Errorf("the login was undone: user %s", got)
				}
				if tab.id() != old {
					t.Error("the slow request's response changed the cookie")
				}
				if out := st.events.last("save").Outcome; afterGrace != (out == OutcomeGone) {
					t.Errorf("save ended %q", out)
				}
				if n := sessionsAlive(t, st); n != 1 {
					t.Errorf("%d sessions, the session forked", n)
				}
			})
		}
	}
}

// sessionsAlive counts sessions, without the records of Regenerate.
func sessionsAlive(t *testing.T, st *site) (n int) {
	t.Helper()
	ids := map[string]bool{}
	for s, err := range st.client.Sessions(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if !ids[s.ID] && !strings.HasPrefix(s.ID, indexMark) && st.manager.alive(context.Background(), s.ID) {
			n++
		}
		ids[s.ID] = true
	}
	return n
}

// The second click on a login button joins the first, in whatever order the browser hears of them.
func TestTwoLoginsAtOnce(t *testing.T) {
	for layout, params := range layouts {
		t.Run(layout, func(t *testing.T) {
			g := newGate()
			routes := map[string]http.HandlerFunc{"/second": slowly(g, func(s *Session) error {
				return errors.Join(s.Regenerate(context.Background()), Put(s, "second", "yes"))
			})}
			for k, v := range loginRoutes {
				routes[k] = v
			}
			st := newSite(t, 2, params, Options{}, wrapped(routes))
			b := st.browser()
			b.get("/put?key=cart&value=book")
			tab, late := b.twin(), b.twin()
			g.around(func() { b.get("/login") }, func() string { return tab.get("/second") }) // loaded before, saved after
			if tab.id() != b.id() {
				t.Error("the second login got another id than the first")
			}
			late.get("/login") // came by the old id
			if late.id() != b.id() {
				t.Error("a login by the old id got another id than the first")
			}
			for key, want := range map[string]string{"cart": "book", "user": "ann", "second": "yes"} {
				if got := b.get("/show?key=" + key); got != want {
					t.Errorf("%s is %s", key, got)
				}
			}
			if n := sessionsAlive(t, st); n != 1 {
				t.Errorf("%d sessions, the session forked", n)
			}
		})
	}
}

// Many logins, writers and readers of one session at once: in the end there is one session with all of it.
func TestRegenerateStorm(t *testing.T) {
	for _, lock := range []LockMode{LockNever, LockRequests} {
		st := newSite(t, 2, "lock_wait=30", Options{Lock: lock}, wrapped(loginRoutes))
		b := st.browser()
		b.get("/put?key=cart&value=book")
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() { b.twin().get(fmt.Sprintf("/put?key=k%d&value=v", i)) })
			wg.Go(func() { b.twin().get("/login") })
		}
		wg.Wait()
		if n := sessionsAlive(t, st); n != 1 {
			t.Errorf("lock %v: %d sessions, the session forked", lock, n)
		}
		for i := range 6 {
			if got := b.get(fmt.Sprintf("/show?key=k%d", i)); got != "v" {
				t.Errorf("lock %v: k%d is %s", lock, i, got)
			}
		}
	}
}

func TestLogoutByTheOldID(t *testing.T) {
	st := newSite(t, 2, "", Options{}, wrapped(loginRoutes))
	b := st.browser()
	b.get("/put?key=cart&value=book")
	tab := b.twin()
	b.get("/login")
	tab.get("/out")
	if got := b.get("/show?key=user"); got != "-" {
		t.Errorf("after a logout by the old id the user is %s", got)
	}
	if n := sessionsAlive(t, st); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// A new session in the same request as a logout has a new id.
func TestDestroyThenPut(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/put": put, "/show": show, "/out": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		if err := errors.Join(s.Destroy(r.Context()), Put(s, "notice", "bye")); err != nil {
			t.Error(err)
		}
	}}))
	b := st.browser()
	b.get("/put?key=user&value=ann")
	old := b.id()
	b.get("/out")
	if b.id() == "" || b.id() == old {
		t.Errorf("cookie after the logout: same %v", b.id() == old)
	}
	if u, n := b.get("/show?key=user"), b.get("/show?key=notice"); u != "-" || n != "bye" {
		t.Errorf("user %s, notice %s", u, n)
	}
	if st.present(old) != 0 {
		t.Error("the old session is there")
	}
}

func TestAbsoluteTimeout(t *testing.T) {
	st := newSite(t, 1, "", Options{AbsoluteTimeout: time.Hour, TouchInterval: -1}, wrapped(loginRoutes))
	ctx := context.Background()
	b := st.browser()
	b.get("/put?key=a&value=1")
	old := b.id()
	// began moves the session's beginning into the past.
	began := func(id string, ago time.Duration) {
		t.Helper()
		data, err := st.client.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		was := regexp.MustCompile(`"created":\d+`)
		if !was.Match(data) {
			t.Fatalf("no time of creation in %s", data)
		}
		now := was.ReplaceAllString(string(data), fmt.Sprintf(`"created":%d`, time.Now().Add(-ago).UnixMilli()))
		if err := st.client.Set(ctx, id, []byte(now)); err != nil {
			t.Fatal(err)
		}
	}
	began(old, 50*time.Minute)
	b.get("/login") // does not start it anew
	if got := b.get("/show?key=a"); got != "1" {
		t.Errorf("after 50 of 60 minutes: %s", got)
	}
	if d := ttl(t, st, b.id()); d > 10*time.Minute {
		t.Errorf("life left in the store %v", d)
	}
	id := b.id()
	began(id, time.Hour)
	if got := b.get("/show?key=a"); got != "-" {
		t.Errorf("after 60 minutes: %s", got)
	}
	if st.present(id) != 0 {
		t.Error("the ended session is still stored")
	}
	b.get("/put?key=a&value=1")
	if b.id() == id {
		t.Error("the ended session's id goes on")
	}
	// A session that another made without a time of creation gets one when it is first seen.
	if err := st.client.Set(ctx, "fromsomewhereelse", []byte(`{"a":"1"}`)); err != nil {
		t.Fatal(err)
	}
	c := st.browser()
	c.setCookie("session", "fromsomewhereelse")
	c.get("/show?key=a")
	began("fromsomewhereelse", time.Hour)
	if got := c.get("/show?key=a"); got != "-" {
		t.Errorf("its end: %s", got)
	}
}

func TestIdleTimeout(t *testing.T) {
	st := newSite(t, 2, "", Options{IdleTimeout: time.Hour, TouchInterval: -1}, wrapped(loginRoutes))
	b := st.browser()
	b.get("/put?key=a&value=1")
	full := func(when string) {
		t.Helper()
		if d := ttl(t, st, b.id()); d <= 59*time.Minute || d > time.Hour {
			t.Errorf("%s: life %v", when, d)
		}
	}
	full("written")
	age(t, st, b.id(), 30*time.Minute)
	b.get("/show?key=a")
	full("read")
	age(t, st, b.id(), time.Hour)
	eventually(t, "the end", func() bool { return st.present(b.id()) == 0 })
	if got := b.get("/show?key=a"); got != "-" {
		t.Errorf("idle for longer than the timeout: %s", got)
	}
}
