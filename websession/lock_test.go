package websession

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// Case parallel-counter: 50 requests under locking=1, each saw another value.
func TestParallelCounter(t *testing.T) {
	for layout, params := range layouts {
		t.Run(layout, func(t *testing.T) {
			st := newSite(t, 2, strings.TrimPrefix(params+"&locking=1&lock_wait=60", "&"), Options{}, wrapped(map[string]http.HandlerFunc{
				"/": func(w http.ResponseWriter, r *http.Request) {
					s := Get(r)
					n, err := Value[int](s, "visits")
					time.Sleep(20 * time.Millisecond)
					if err = errors.Join(err, Put(s, "visits", n+1)); err != nil {
						http.Error(w, err.Error(), 500)
						return
					}
					fmt.Fprint(w, n+1)
				}}))
			b := st.browser()
			b.get("/")
			var mu sync.Mutex
			seen := map[string]bool{}
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					got := b.twin().get("/")
					mu.Lock()
					defer mu.Unlock()
					if seen[got] {
						t.Errorf("%s was seen twice", got)
					}
					seen[got] = true
				})
			}
			wg.Wait()
			if !seen["51"] || len(seen) != 50 {
				t.Errorf("%d values seen, the last one there: %v", len(seen), seen["51"])
			}
			for _, n := range st.nodes {
				if left, err := n.Do("KEYS", "*_LOCK"); err != nil || len(left.([]any)) > 0 {
					t.Errorf("locks left: %d %v", len(left.([]any)), err)
				}
			}
		})
	}
}

// Case lock-timeout-shown-as-no-session.
func TestLockTimeout(t *testing.T) {
	var holders []*gate
	for range 2 {
		holders = append(holders, newGate())
	}
	ran := 0
	nodes := redistest.Nodes(t, 1)
	for i, policy := range []LockedPolicy{LockedFail, LockedReadOnly} {
		g := holders[i]
		st := siteOn(t, nodes, "lock_wait=0.3", Options{Lock: LockRequests, Locked: policy}, func(m *Manager) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/put", m.Wrap(http.HandlerFunc(put)))
			mux.Handle("/slow", m.Wrap(slowly(g, func(s *Session) error { return Put(s, "a", "2") })))
			mux.Handle("/look", m.ReadOnly(http.HandlerFunc(show)))
			mux.Handle("/second", m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ran++
				s := Get(r)
				v, err := Value[string](s, "a")
				_, errFlash := s.Flashes()
				fmt.Fprint(w, v, " ", err, " ", errors.Is(Put(s, "a", "3"), ErrReadOnly), errors.Is(s.Destroy(r.Context()), ErrReadOnly), errFlash)
			})))
			return mux
		})
		b := st.browser()
		b.get("/put?key=a&value=1")
		tab := b.twin()
		var resp *http.Response
		var body, look string
		g.around(func() {
			var err error
			if resp, body, err = tab.try("/second"); err != nil {
				t.Error(err)
			}
			look = tab.get("/look?key=a") // takes no lock
		}, func() string { return b.get("/slow") })
		if look != "1" {
			t.Errorf("read-only handler beside the lock: %s", look)
		}
		if resp.Header.Get("Set-Cookie") != "" || tab.id() != b.id() {
			t.Error("the cookie changed")
		}
		switch policy {
		case LockedFail:
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || ran != 0 {
				t.Errorf("status %d, Retry-After %q, handler ran %d times", resp.StatusCode, resp.Header.Get("Retry-After"), ran)
			}
			if st.events.count("lock", OutcomeError) != 1 {
				t.Error("the wait in vain was not told")
			}
		case LockedReadOnly:
			if resp.StatusCode != 200 || body != "1 <nil> true true <nil>" {
				t.Errorf("status %d: %s", resp.StatusCode, body)
			}
		}
		if got := b.get("/look?key=a"); got != "2" {
			t.Errorf("the holder's change: %s", got)
		}
	}
}

// A handler inside of Wrap that only reads gives the lock back at once.
func TestReadOnlyInsideWrapReleasesTheLock(t *testing.T) {
	g := newGate()
	st := newSite(t, 1, "lock_wait=10", Options{Lock: LockRequests}, func(m *Manager) http.Handler {
		mux := http.NewServeMux()
		mux.HandleFunc("/put", put)
		mux.Handle("/long", m.ReadOnly(slowly(g, func(s *Session) error {
			if err := Put(s, "a", "x"); !errors.Is(err, ErrReadOnly) {
				t.Errorf("Put in a read-only handler: %v", err)
			}
			return nil
		})))
		return m.Wrap(mux)
	})
	b := st.browser()
	b.get("/put?key=a&value=1")
	tab := b.twin()
	start := time.Now()
	g.around(func() { tab.get("/put?key=a&value=2") }, func() string { return b.get("/long") })
	if d := time.Since(start); d > 8*time.Second {
		t.Errorf("the writer waited %v for a reader", d)
	}
}

// A lock that was lost on the way: nothing is written under it, and the response says so.
func TestLockLost(t *testing.T) {
	g := newGate()
	st := newSite(t, 1, "", Options{Lock: LockRequests}, wrapped(map[string]http.HandlerFunc{
		"/put": put, "/show": show, "/slow": slowly(g, func(s *Session) error { return Put(s, "a", "2") })}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	got := g.around(func() {
		if _, err := st.nodes[0].Do("SET", "PHPREDIS_SESSION:"+b.id()+"_LOCK", "somebody else"); err != nil {
			t.Fatal(err)
		}
	}, func() string {
		resp, _, err := b.try("/slow")
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Retry-After"))
	})
	if got != "503 1" {
		t.Errorf("answer %s", got)
	}
	if op := st.events.last("save"); !errors.Is(op.Err, sessionring.ErrLockLost) {
		t.Errorf("save ended with %v", op.Err)
	}
	st.nodes[0].Do("DEL", "PHPREDIS_SESSION:"+b.id()+"_LOCK")
	if got := b.get("/show?key=a"); got != "1" {
		t.Errorf("a is %s", got)
	}
}

// Under Lock the lock goes with the first byte; what changes after it is saved under a lock of its own, on top
// of what others did meanwhile.
func TestLateSaveUnderLock(t *testing.T) {
	g := newGate()
	st := newSite(t, 1, "", Options{Lock: LockRequests}, wrapped(map[string]http.HandlerFunc{"/put": put, "/show": show,
		"/stream": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "begun")
			_ = http.NewResponseController(w).Flush()
			g.pass()
			_ = Put(Get(r), "late", "1")
		}}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	tab := b.twin()
	g.around(func() { tab.get("/put?key=a&value=2") }, func() string { return b.get("/stream") })
	eventually(t, "late change saved", func() bool { return b.get("/show?key=late") == "1" })
	if got := b.get("/show?key=a"); got != "2" {
		t.Errorf("a is %s", got)
	}
	if op := st.events.last("save"); !op.Late || op.Outcome != OutcomeMerged {
		t.Errorf("%+v", op)
	}
	if left, err := st.nodes[0].Do("KEYS", "*_LOCK"); err != nil || len(left.([]any)) > 0 {
		t.Errorf("locks left: %d %v", len(left.([]any)), err)
	}
}
