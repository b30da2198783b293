package websession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

// gate lets a test stop a handler in the middle.
type gate struct{ reached, goOn chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

func (g *gate) pass() { g.reached <- struct{}{}; <-g.goOn }
func (g *gate) wait() { <-g.reached }
func (g *gate) open() { g.goOn <- struct{}{} }
func (g *gate) around(during func(), request func() string) string {
	out := make(chan string)
	go func() { out <- request() }()
	g.wait()
	during()
	g.open()
	return <-out
}

// slowly is a handler that loads the session, waits at the gate, then changes it.
func slowly(g *gate, change func(s *Session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		if _, err := s.Keys(); err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		g.pass()
		if err := change(s); err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		fmt.Fprint(w, "ok")
	}
}

func destroy(w http.ResponseWriter, r *http.Request) {
	if err := Get(r).Destroy(r.Context()); err != nil {
		http.Error(w, err.Error(), 500)
	}
}

// layouts are the two ways in which sessions are kept.
var layouts = map[string]string{"consistent": "", "phpredis": "distribution=phpredis"}

// Case logout-undone-by-slow-request: A loads, B destroys, A saves. Two managers on two clients stand for two
// processes.
func TestLogoutUndoneBySlowRequest(t *testing.T) {
	for layout, params := range layouts {
		for _, regenerate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s regenerate=%v", layout, regenerate), func(t *testing.T) {
				g := newGate()
				nodes := redistest.Nodes(t, 2)
				slow := siteOn(t, nodes, params, Options{}, wrapped(map[string]http.HandlerFunc{"/": put, "/slow": slowly(g, func(s *Session) error {
					if regenerate {
						if err := s.Regenerate(context.Background()); err != nil {
							return err
						}
					}
					return Put(s, "a", "2")
				})}))
				quick := siteOn(t, nodes, params, Options{}, wrapped(map[string]http.HandlerFunc{"/out": destroy}))
				a := slow.browser()
				a.get("/?key=a&value=1")
				id := a.id()
				b := quick.browser()
				b.setCookie("session", id)
				var resp *http.Response
				g.around(func() { b.get("/out") }, func() string {
					r, _, err := a.try("/slow")
					if err != nil {
						t.Error(err)
					}
					resp = r
					return ""
				})
				if b.id() != "" {
					t.Error("logging out left the cookie")
				}
				if resp.StatusCode != 200 || resp.Header.Get("Set-Cookie") != "" {
					t.Errorf("slow request: %d %v", resp.StatusCode, resp.Header)
				}
				if n, _ := slow.keys(); n != 0 {
					t.Errorf("%d sessions after the logout", n)
				}
				op := slow.events.last(map[bool]string{false: "save", true: "regenerate"}[regenerate])
				if op.Outcome != OutcomeGone || !errors.Is(op.Err, ErrGone) {
					t.Errorf("the save ended %q with %v", op.Outcome, op.Err)
				}
				if got := a.get("/?key=a&value=new"); got != "ok" || a.id() == id {
					t.Errorf("the next login: %s", got)
				}
			})
		}
	}
}

// The variant with an owner down during the logout.
func TestLogoutWithOwnerDown(t *testing.T) {
	g := newGate()
	st := newSite(t, 2, "", Options{}, wrapped(map[string]http.HandlerFunc{
		"/": put, "/out": destroy, "/slow": slowly(g, func(s *Session) error { return Put(s, "a", "2") })}))
	a := st.browser()
	a.get("/?key=a&value=1")
	id := a.id()
	b := a.twin()
	g.around(func() {
		if err := st.nodes[0].Kill(); err != nil {
			t.Fatal(err)
		}
		b.get("/out")
		if err := st.nodes[0].Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
	}, func() string { return a.get("/slow") })
	if op := st.events.last("save"); op.Outcome != OutcomeGone {
		t.Errorf("the save ended %q with %v", op.Outcome, op.Err)
	}
	settled(t, st.client)
	if n := st.present(id); n != 0 {
		t.Errorf("%d copies of the destroyed session", n)
	}
}

// Case touch-writes-old-data-back.
func TestTouchWritesOldDataBack(t *testing.T) {
	for layout, params := range layouts {
		t.Run(layout, func(t *testing.T) {
			g := newGate()
			nodes := redistest.Nodes(t, 2)
			opt := Options{TouchInterval: -1}
			st := siteOn(t, nodes, params, opt, wrapped(map[string]http.HandlerFunc{
				"/": put, "/show": show, "/slow": slowly(g, func(s *Session) error { return nil })}))
			a := st.browser()
			a.get("/?key=n&value=1")
			b := a.twin()
			mons := monitors(t, nodes)
			var extended int
			var wrote []string
			g.around(func() {
				b.get("/?key=n&value=2")
				extended, wrote = carriedOut(t, mons, a.id())
			}, func() string { return a.get("/slow") })
			if got := a.get("/show?key=n"); got != "2" {
				t.Errorf("n is %s", got)
			}
			extendedNow, wroteNow := carriedOut(t, mons, a.id())
			copies := map[string]int{"consistent": 2, "phpredis": 1}[layout]
			if len(wroteNow) != len(wrote) || extendedNow-extended != 2*copies { // by A and by the last look
				t.Errorf("after B: %d writes %q, life extended %d times on %d copies",
					len(wroteNow)-len(wrote), wroteNow[len(wrote):], extendedNow-extended, copies)
			}
			data, err := st.client.Get(context.Background(), a.id())
			if string(data) != `{"n":"2"}` {
				t.Errorf("stored %s %v", data, err)
			}
		})
	}
}

// Case session-expires-during-request.
func TestSessionExpiresDuringRequest(t *testing.T) {
	for layout, params := range layouts {
		for _, changed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s changed=%v", layout, changed), func(t *testing.T) {
				g := newGate()
				st := newSite(t, 1, params, Options{TouchInterval: -1}, wrapped(map[string]http.HandlerFunc{
					"/": put, "/slow": slowly(g, func(s *Session) error {
						if !changed {
							return nil
						}
						return Put(s, "a", "2")
					})}))
				b := st.browser()
				b.get("/?key=a&value=1")
				id := b.id()
				got := g.around(func() { // it runs out: what Redis does after IdleTimeout
					if _, err := st.nodes[0].Do("DEL", "PHPREDIS_SESSION:"+id, "sessionring:v:"+id); err != nil {
						t.Fatal(err)
					}
				}, func() string { return b.get("/slow") })
				if got != "ok" {
					t.Errorf("answer %q", got)
				}
				want := 0
				if changed && layout == "consistent" {
					want = 1 // documented: saved again, for tombstones tell it from a logout
				}
				if n, _ := st.keys(); n != want {
					t.Errorf("%d sessions in the store, want %d", n, want)
				}
				if !changed && (st.events.count("touch", OutcomeMiss) != 1 || st.events.count("touch", OutcomeError) != 0) {
					t.Error("the touch of a session that ran out is no plain miss")
				}
				if changed && layout == "phpredis" && st.events.last("save").Outcome != OutcomeGone {
					t.Errorf("save ended %q", st.events.last("save").Outcome)
				}
			})
		}
	}
}

// Without a lock, requests that change different keys lose nothing, of the same key the last one wins.
func TestChangesOfDifferentKeysAreMerged(t *testing.T) {
	for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.Igbinary)} {
		for layout, params := range layouts {
			t.Run(codec.String()+" "+layout, func(t *testing.T) {
				g := newGate()
				st := newSite(t, 2, params, Options{Codec: codec}, wrapped(map[string]http.HandlerFunc{
					"/put": put, "/show": show,
					"/del": func(w http.ResponseWriter, r *http.Request) { _ = Get(r).Delete("gone2") },
					"/slow": slowly(g, func(s *Session) error {
						_ = s.AddFlash("info", "from A")
						return errors.Join(Put(s, "mine", "A"), Put(s, "both", "A"), s.Delete("gone"))
					}),
					"/flash": func(w http.ResponseWriter, r *http.Request) { _ = Get(r).AddFlash("info", "from B") },
					"/flashes": func(w http.ResponseWriter, r *http.Request) {
						list, err := Get(r).Flashes()
						fmt.Fprint(w, list, err)
					},
				}))
				a := st.browser()
				for _, key := range []string{"same", "both", "gone", "gone2"} {
					a.get("/put?value=0&key=" + key)
				}
				b := a.twin()
				g.around(func() {
					b.get("/put?key=theirs&value=B")
					b.get("/put?key=both&value=B")
					b.get("/del")
					b.get("/flash")
				}, func() string { return a.get("/slow") })
				for key, want := range map[string]string{"same": "0", "mine": "A", "theirs": "B", "both": "A", "gone": "-", "gone2": "-"} {
					if got := a.get("/show?key=" + key); got != want {
						t.Errorf("%s is %s, want %s", key, got, want)
					}
				}
				if got := a.get("/flashes"); got != "[{info from B} {info from A}] <nil>" {
					t.Errorf("flash messages %s", got)
				}
				if got := a.get("/flashes"); got != "[] <nil>" {
					t.Errorf("flash messages once more: %s", got)
				}
				if st.events.count("save", OutcomeMerged) != 1 {
					t.Error("no save was told to be merged")
				}
			})
		}
	}
}

// 50 parallel requests each add one: Merge adds up what the default would not.
func TestMerge(t *testing.T) {
	add := func(base, mine, theirs *Session) error {
		b, _ := Value[int](base, "visits")
		m, _ := Value[int](mine, "visits")
		n, err := Value[int](theirs, "visits")
		if err != nil {
			return err
		}
		if err := MergeKeys(base, mine, theirs); err != nil {
			return err
		}
		if theirs.Save(context.Background()) != ErrDetached || theirs.Destroy(context.Background()) != ErrDetached ||
			theirs.Regenerate(context.Background()) != ErrDetached || theirs.SetUser("x") != ErrDetached {
			t.Error("a side of a merge can be saved")
		}
		return Put(theirs, "visits", n+m-b)
	}
	for _, lock := range []LockMode{LockNever, LockRequests} {
		st := newSite(t, 2, "lock_wait=30", Options{Merge: add, Lock: lock}, wrapped(map[string]http.HandlerFunc{"/": counter}))
		b := st.browser()
		b.get("/")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { b.twin().get("/") })
		}
		wg.Wait()
		if got := b.get("/"); got != "52" {
			t.Errorf("lock %v: the counter shows %s after 52 visits", lock, got)
		}
		if lock == LockRequests && st.events.count("save", OutcomeMerged) > 0 {
			t.Error("under the lock something had to be merged")
		}
	}
}

// Case two-goroutines-one-request, run with the race detector.
func TestTwoGoroutinesOneRequest(t *testing.T) {
	for _, codec := range []Codec{JSON(), PHP(phpsession.PHP)} {
		st := newSite(t, 1, "", Options{Codec: codec}, wrapped(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					for j := range 20 {
						_ = Put(s, fmt.Sprint("k", i), j)
						_, _ = Value[int](s, "shared")
						_ = Put(s, "shared", j)
						_, _ = s.Keys()
						_ = s.AddFlash("a", "b")
						_, _ = s.Bytes()
						_ = s.ID()
						_, _ = s.User()
					}
				})
			}
			wg.Wait()
			_ = Put(s, "shared", 99)
		}, "/show": func(w http.ResponseWriter, r *http.Request) {
			n, err := Value[int](Get(r), "shared")
			keys, _ := Get(r).Keys()
			fmt.Fprint(w, n, len(keys), err)
		}}))
		b := st.browser()
		b.get("/")
		if got := b.get("/show"); got != "99 11 <nil>" {
			t.Errorf("%s: %s", codec, got)
		}
		if n := st.events.count("save", ""); n != 1 {
			t.Errorf("%s: %d saves", codec, n)
		}
	}
}

// A save while everything else writes without looking: never half a session.
func TestNoHalfWrittenSession(t *testing.T) {
	st := newSite(t, 2, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		x, errX := Value[string](s, "x")
		y, errY := Value[string](s, "y")
		if x != y || errX != nil || errY != nil {
			http.Error(w, "half a session: "+x+" "+y, 500)
			return
		}
		v := r.FormValue("v")
		if err := errors.Join(Put(s, "x", v), Put(s, "y", v)); err != nil {
			http.Error(w, err.Error(), 500)
		}
	}}))
	b := st.browser()
	b.get("/?v=0")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			tab := b.twin()
			for j := range 15 {
				tab.get(fmt.Sprintf("/?v=%d-%d", i, j))
			}
		})
	}
	wg.Wait()
}
