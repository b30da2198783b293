package sessionring

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// load is 16 goroutines on two clients of one process. Each session has one writer at a time, which knows what it
// wrote last; everybody reads. It tells failed operations, sessions that were lost and ones that went back in time.
type load struct {
	t        *testing.T
	clients  []*Client
	sessions []loadSession
	ops      atomic.Int64
	failed   sync.Map // error text
	lost     atomic.Int64
	stale    sync.Map // phase
	phase    atomic.Value
	one      bool // copies=1: see startLoad

	stop chan struct{}
	wg   sync.WaitGroup
}

type loadSession struct {
	mu    sync.Mutex // one writer, or a few readers one after another
	id    string
	acked int
	by    *Client // who wrote it
}

// With one copy a session whose node is away is not there, and while two clients disagree on whether that node is back
// (a second, at most) each is only sure of what it wrote itself.
func startLoad(t *testing.T, one bool, clients ...*Client) *load {
	l := &load{t: t, clients: clients, stop: make(chan struct{}), sessions: make([]loadSession, 64), one: one}
	for i := range l.sessions {
		l.sessions[i].id = newID()
		must(t, clients[0].Set(ctxOf(t), l.sessions[i].id, []byte("0")))
	}
	for w := range 16 {
		l.wg.Go(func() { l.work(clients[w%len(clients)], w) })
	}
	return l
}

func (l *load) work(c *Client, w int) {
	ctx := context.Background()
	for i := w; ; i += 7 {
		select {
		case <-l.stop:
			return
		default:
		}
		s := &l.sessions[i%len(l.sessions)]
		s.mu.Lock()
		l.ops.Add(2)
		got, err := c.Get(ctx, s.id)
		n := -1
		if err == nil {
			fmt.Sscan(string(got), &n)
		}
		switch {
		case errors.Is(err, ErrNotFound):
			if !l.one {
				l.lost.Add(1)
			}
		case err != nil:
			l.failed.Store("get: "+err.Error(), true)
		case n < s.acked && (!l.one || s.by == c):
			l.stale.Store(fmt.Sprintf("%v: read %d after %d was written", l.phase.Load(), n, s.acked), true)
		}
		next := s.acked + 1
		if err := c.Set(ctx, s.id, fmt.Append(nil, next)); err != nil {
			l.failed.Store("set: "+err.Error(), true)
		} else {
			s.acked, s.by = next, c
		}
		s.mu.Unlock()
	}
}

// progress waits until the load has done n more operations; phase is for what it finds in them.
func (l *load) progress(phase string, n int64) {
	l.t.Helper()
	l.phase.Store(phase)
	from := l.ops.Load()
	eventually(l.t, func() error {
		if done := l.ops.Load() - from; done < n {
			return fmt.Errorf("%d operations of %d", done, n)
		}
		return nil
	})
}

func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.failed.Range(func(k, _ any) bool {
		l.t.Errorf("failed: %v", k)
		return true
	})
	if n := l.lost.Load(); n > 0 {
		l.t.Errorf("%d reads found a session lost", n)
	}
	l.stale.Range(func(k, _ any) bool {
		l.t.Errorf("went back in time while the node was %v", k)
		return true
	})
	l.t.Logf("%d operations", l.ops.Load())
}

// One of three nodes is killed, comes back empty, hangs, is woken, and comes back with old data, while two clients work.
func TestFaultsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, copies := range []int{2, 1} {
		t.Run(fmt.Sprint("copies=", copies), func(t *testing.T) {
			f := startFleet(t, 3)
			ctx := ctxOf(t)
			path := f.path(fmt.Sprint("copies=", copies))
			a, b := f.up(path), f.up(path)
			both := func(s State) {
				t.Helper()
				waitState(t, a, s, 0)
				waitState(t, b, s, 0)
			}
			l := startLoad(t, copies == 1, a, b)
			l.progress("well", 2000)
			old, err := f.servers[0].SaveSnapshot(ctx)
			must(t, err)

			must(t, f.servers[0].Kill())
			l.progress("killed", 2000)
			both(StateDown)
			must(t, f.servers[0].RestartEmpty(ctx))
			l.progress("back empty", 1000)
			both(StateUp)

			must(t, f.servers[0].Pause())
			l.progress("hung", 2000)
			both(StateDown)
			must(t, f.servers[0].Resume())
			l.progress("awake", 1000)
			both(StateUp)

			must(t, f.servers[0].Kill())
			l.progress("killed again", 1000)
			both(StateDown)
			must(t, f.servers[0].RestartWith(ctx, old))
			l.progress("back with old data", 1000)
			both(StateUp)
			l.progress("well again", 1000)
			l.end()
			if copies == 1 {
				return
			}
			// Redundancy is whole again: every session is the newest on both of its owners.
			for i := range l.sessions {
				s := &l.sessions[i]
				eventually(t, func() error {
					for _, o := range a.Ring().Owners(s.id) {
						if v := do(t, f.servers[o], "GET", DefaultPrefix+s.id); v != fmt.Sprint(s.acked) {
							return fmt.Errorf("node %d holds %v, not %d", o, v, s.acked)
						}
					}
					return nil
				})
			}
		})
	}
}

// A server, or a proxy before it, closes idle connections. No operation fails and the node stays up.
func TestServerClosesIdleConnections(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2, redistest.Options{IdleTimeout: time.Second})
	ctx := ctxOf(t)
	var states stateLog
	c := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: states.add}))
	before := len(states.all())
	var ids []string
	for range 50 {
		ids = append(ids, newID())
		must(t, c.Set(ctx, ids[len(ids)-1], []byte("v")))
	}
	for range 2 {
		time.Sleep(2500 * time.Millisecond) // the server's timeout, and its housekeeping
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
					t.Errorf("%q, %v", got, err)
				}
				if err := c.Set(ctx, id, []byte("v")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for _, s := range states.all()[before:] {
		t.Errorf("%s went from %s to %s: %v", s.Node, s.From, s.To, s.Cause)
	}
}

// CLIENT KILL under load: no operation fails, no node falls, and no retry undoes what another client wrote since.
func TestConnectionsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	var states stateLog
	a := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: states.add}))
	b := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: states.add}))
	before := len(states.all())
	counter := newID()
	ctx := ctxOf(t)
	must(t, a.Set(ctx, counter, []byte("0")))
	l := startLoad(t, false, a, b)
	// Beside the load, a counter by compare-and-set: a write that is carried out twice would show.
	added := 0
	l.wg.Go(func() {
		for c := a; ; {
			select {
			case <-l.stop:
				return
			default:
			}
			it, err := c.Load(ctx, counter, GetOptions{})
			if err != nil {
				t.Errorf("counter: %v", err)
				return
			}
			if string(it.Data) != fmt.Sprint(added) {
				t.Errorf("counter is %s after %d increments", it.Data, added)
				return
			}
			if _, err := c.Store(ctx, counter, fmt.Append(nil, added+1), SetOptions{IfVersion: &it.Version}); err != nil {
				t.Errorf("counter: %v", err)
				return
			}
			added++
			if c = b; added%2 == 0 {
				c = a
			}
		}
	})
	for i := range 60 {
		do(t, f.servers[i%3], "CLIENT", "KILL", "TYPE", "normal")
		l.progress("losing connections", 100)
	}
	l.end()
	for _, s := range states.all()[before:] {
		t.Errorf("%s went from %s to %s: %v", s.Node, s.From, s.To, s.Cause)
	}
	t.Logf("%d increments", added)
}

// The same behind TLS and unix sockets, where a dead connection is not seen before it is used.
func TestConnectionsKilledOtherTransports(t *testing.T) {
	t.Parallel()
	s := redistest.Node(t, redistest.Options{TLS: true})
	ctx := ctxOf(t)
	for _, path := range []string{s.TLSSavePath(), s.UnixSavePath()} {
		c := openTest(t, path)
		waitUp(t, c)
		id := newID()
		for i := range 20 {
			v := fmt.Sprint(i)
			must(t, c.Set(ctx, id, []byte(v)))
			do(t, s, "CLIENT", "KILL", "TYPE", "normal")
			if got, err := c.Get(ctx, id); err != nil || string(got) != v {
				t.Fatalf("%q, %v", got, err)
			}
			do(t, s, "CLIENT", "KILL", "TYPE", "normal")
		}
		if s := c.Nodes()[0].State; s != StateUp {
			t.Errorf("the node is %s", s)
		}
	}
}

// A node falls and comes back by turns, with what it had. What was read last never comes back as what was before.
func TestFlappingNode(t *testing.T) {
	t.Parallel()
	for _, params := range []string{"copies=1", "copies=2", "distribution=phpredis"} {
		t.Run(params, func(t *testing.T) {
			f := startFleet(t, 3, redistest.Options{AppendOnly: true})
			ctx := ctxOf(t)
			c := f.up(f.path(params))
			id := idOn(c, 0)
			must(t, c.Set(ctx, id, []byte("a")))
			must(t, f.servers[0].Kill())
			waitState(t, c, StateDown, 0)
			must(t, c.Set(ctx, id, []byte("b")))
			must(t, f.servers[0].Restart(ctx))
			waitState(t, c, StateUp, 0)
			if got, err := c.Get(ctx, id); err != nil || string(got) != "b" {
				t.Errorf("after its return: %q, %v", got, err)
			}
			must(t, c.Set(ctx, id, []byte("c")))
			must(t, f.servers[0].Kill())
			waitState(t, c, StateDown, 0)
			got, err := c.Get(ctx, id)
			if err == nil && string(got) != "c" || err != nil && (params == "copies=2" || !errors.Is(err, ErrNotFound)) {
				t.Errorf("away again: %q, %v", got, err)
			}
			if err != nil && !errors.Is(err, ErrOwnerAway) {
				t.Errorf("its only owner is away, but the error does not say so: %v", err)
			}
			must(t, f.servers[0].Restart(ctx))
			waitUp(t, c)
			if got, err := c.Get(ctx, id); err != nil || string(got) != "c" {
				t.Errorf("at the end: %q, %v", got, err)
			}
		})
	}
}

// With any one host down everything works, whatever the order of the list.
func TestAnyNodeDown(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	forward := f.path()
	backward := strings.Join([]string{"tcp://" + f.names[2] + "?" + unhurried, "tcp://" + f.names[1] + "?" + unhurried, "tcp://" + f.names[0] + "?" + unhurried}, ", ")
	clients := []*Client{f.up(forward), f.up(backward), f.up(f.path("distribution=phpredis"))}
	for down := range f.servers {
		must(t, f.servers[down].Kill())
		for n, c := range clients {
			for range 30 {
				id := newID()
				must(t, c.Set(ctx, id, []byte("v")))
				for m, other := range clients {
					if (m == 2) != (n == 2) {
						continue
					}
					if got, err := other.Get(ctx, id); err != nil || string(got) != "v" {
						t.Fatalf("node %d down, written by %d, read by %d: %q, %v", down, n, m, got, err)
					}
				}
			}
		}
		must(t, f.servers[down].Restart(ctx))
		for _, c := range clients {
			waitUp(t, c)
		}
	}
}

// While all is well, an operation sends one command to each owner, nothing to anybody else, and nothing slow.
func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for _, tc := range []struct {
		params               string
		get, set, touch, del []string // to the first owner; the second gets GET for MGET
	}{
		{"copies=2", []string{"MGET"}, []string{"EVALSHA"}, []string{"EVALSHA"}, []string{"EVALSHA"}},
		{"copies=1", []string{"MGET"}, []string{"EVALSHA"}, []string{"EVALSHA"}, []string{"EVALSHA"}},
		{"distribution=phpredis", []string{"GET"}, []string{"SETEX"}, []string{"EXPIRE"}, []string{"DEL"}},
	} {
		t.Run(tc.params, func(t *testing.T) {
			c := f.up(f.path(tc.params))
			for range 30 { // every node has the scripts
				id := newID()
				must(t, c.Set(ctx, id, []byte("v")))
				must(t, c.Touch(ctx, id))
				must(t, c.Delete(ctx, id))
			}
			id := newID()
			owners := c.Ring().Owners(id)
			for name, step := range map[string]struct {
				op   func() error
				want []string
			}{
				"1 set":   {func() error { return c.Set(ctx, id, []byte("v")) }, tc.set},
				"2 get":   {func() error { _, err := c.Get(ctx, id); return err }, tc.get},
				"3 touch": {func() error { return c.Touch(ctx, id) }, tc.touch},
			} {
				if name != "1 set" {
					must(t, c.Set(ctx, id, []byte("v")))
				}
				monitors := f.monitored()
				must(t, step.op())
				f.checkSent(monitors, id, name, owners, step.want)
			}
			monitors := f.monitored()
			must(t, c.Delete(ctx, id))
			f.checkSent(monitors, id, "delete", owners, tc.del)
		})
	}
}

func (f *fleet) checkSent(monitors []*redistest.Monitor, id, name string, owners []int, want []string) {
	f.t.Helper()
	for i, m := range monitors {
		got := strings.Join(sent(f.t, m, id), " ")
		m.Stop()
		expected := ""
		for at, o := range owners {
			if expected = strings.Join(want, " "); o == i && at > 0 {
				expected = strings.Replace(expected, "MGET", "GET", 1)
			}
			if o == i {
				break
			}
			expected = ""
		}
		if got != expected {
			f.t.Errorf("%s sends %q to node %d (owners %v), not %q", name, got, i, owners, expected)
		}
	}
}

// Through a whole life with failures and returns no command is sent that goes over all keys at once or empties anything.
func TestNothingDangerousIsSent(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2, redistest.Options{AppendOnly: true})
	ctx := ctxOf(t)
	do(t, f.servers[1], "SET", "somebody:else", "1")
	m, err := f.servers[1].Monitor(ctx)
	must(t, err)
	c := f.up(f.path("copies=2"))
	for range 40 {
		must(t, c.Set(ctx, newID(), []byte("v")))
	}
	must(t, f.servers[0].Kill())
	for range 40 {
		must(t, c.Set(ctx, newID(), []byte("v")))
	}
	must(t, f.servers[0].RestartEmpty(ctx))
	waitUp(t, c)
	for s, err := range c.Sessions(ctx) {
		must(t, err)
		must(t, c.Delete(ctx, s.ID))
	}
	cmds, err := m.Commands(ctx)
	must(t, err)
	seen := map[string]int{}
	for _, cmd := range cmds {
		seen[cmd.Name()]++
	}
	for _, bad := range []string{"KEYS", "FLUSHDB", "FLUSHALL", "CONFIG", "DEBUG", "SMEMBERS", "HGETALL", "RANDOMKEY", "WAIT"} {
		if seen[bad] > 0 {
			t.Errorf("%s was sent %d times", bad, seen[bad])
		}
	}
	if seen["SCAN"] == 0 {
		t.Error("nothing was scanned: this test saw no rejoin")
	}
	if v := do(t, f.servers[1], "GET", "somebody:else"); v != "1" {
		t.Errorf("another application's key holds %v", v)
	}
}

// An idle client finds out by itself that a node is back.
func TestRecoversWithoutTraffic(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	c := f.up(f.path())
	ctx := ctxOf(t)
	for range 2 {
		for _, s := range f.servers {
			must(t, s.Kill())
		}
		if _, err := c.Get(ctx, newID()); !errors.Is(err, ErrNoNode) {
			t.Fatalf("Get: %v", err)
		}
		waitState(t, c, StateDown)
		for _, s := range f.servers {
			must(t, s.Restart(ctx))
		}
		waitUp(t, c)
	}
}

// A miss is believed where an owner says so that has all of its sessions, and only there.
func TestMissWhileOwnerIsAway(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	one, two := f.up(f.path("copies=1")), f.up(f.path("copies=2"))
	id := idOn(two, 0, 1)
	check := func(when string, c *Client, away bool) {
		t.Helper()
		for name, op := range map[string]func() error{
			"Get":   func() error { _, err := c.Get(ctx, id); return err },
			"Touch": func() error { return c.Touch(ctx, id) },
		} {
			err := op()
			if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrOwnerAway) != away {
				t.Errorf("%s, %s: %v", when, name, err)
			}
			if away && !strings.Contains(err.Error(), f.names[0]) {
				t.Errorf("%s, %s: the error does not say who is away: %v", when, name, err)
			}
		}
	}
	check("all there", one, false)
	check("all there", two, false)
	must(t, f.servers[0].Kill())
	waitState(t, one, StateDown, 0)
	waitState(t, two, StateDown, 0)
	check("the only owner away", one, true)
	check("one of two owners away", two, false)
	must(t, f.servers[1].Kill())
	waitState(t, two, StateDown, 1)
	check("both owners away", two, true)
}

func TestStateNames(t *testing.T) {
	for s, want := range map[State]string{StateUp: "up", StateDown: "down", StateSuspect: "suspect", StateReturning: "returning"} {
		if s.String() != want {
			t.Errorf("%d is %q", s, s)
		}
	}
}

// What the breaker and the epochs decide, without a network.
func TestHealth(t *testing.T) {
	var log stateLog
	h := newHealth(&node{id: "tcp://h:6379"}, log.add)
	boom := errors.New("boom")
	h.met(facts{runID: "1"})
	h.caughtUp(h.epoch.Load())
	if h.now() != StateUp {
		t.Fatalf("after the first meeting: %s", h.now())
	}
	h.failed(h.epoch.Load(), boom)
	if h.now() != StateSuspect {
		t.Fatalf("after one failure: %s", h.now())
	}
	h.succeeded(h.epoch.Load())
	if h.now() != StateSuspect {
		t.Fatalf("after a success, before anybody asked for hints: %s", h.now())
	}
	h.cleared(h.epoch.Load())
	if h.now() != StateUp {
		t.Fatalf("after no hints were found: %s", h.now())
	}
	early := h.epoch.Load()
	for range breakerFailures {
		h.failed(early, boom)
	}
	if h.now() != StateDown {
		t.Fatalf("after %d failures: %s", breakerFailures, h.now())
	}
	h.met(facts{runID: "1"})
	if h.now() != StateReturning {
		t.Fatalf("met again: %s", h.now())
	}
	h.caughtUp(early) // a pass that was begun before the fall
	if h.now() != StateReturning {
		t.Fatalf("an old pass made it %s", h.now())
	}
	h.caughtUp(h.epoch.Load())
	for range 2 * breakerFailures {
		h.failed(early, boom) // results of calls begun before it fell
	}
	if h.now() != StateUp {
		t.Fatalf("old results made it %s", h.now())
	}
	h.met(facts{runID: "2"})
	if h.now() != StateReturning {
		t.Fatalf("another process: %s", h.now())
	}
	h.caughtUp(h.epoch.Load())
	h.failed(h.epoch.Load(), &NodeError{"tcp://h:6379", "connect", ErrAuth})
	if h.now() != StateDown || !errors.Is(h.cause(), ErrAuth) {
		t.Fatalf("after a permanent error: %s, %v", h.now(), h.cause())
	}
	var states []string
	for _, s := range log.all() {
		states = append(states, s.To.String())
	}
	if got, want := strings.Join(states, " "), "up suspect up suspect down returning up returning up down"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
}
