package sessionring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// holds waits until each of a session's owners holds exactly data; "" is nothing.
func (f *fleet) holds(c *Client, id, data string) {
	f.t.Helper()
	eventually(f.t, func() error {
		for _, o := range c.Ring().Owners(id) {
			if v, _ := do(f.t, f.servers[o], "GET", DefaultPrefix+id).(string); v != data {
				return fmt.Errorf("node %d holds %q, not %q", o, v, data)
			}
		}
		return nil
	})
}

// Eviction takes the first copy away without a word. The session is served by the second owner, and repaired.
func TestEvictedFirstCopy(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	var repairs atomic.Int64
	c := f.up(f.path("copies=2"), WithHooks(Hooks{Repair: func(r Repair) {
		if r.Reason == "read" {
			repairs.Add(1)
		}
	}}))
	for _, keys := range []string{"value", "stamp", "both"} {
		for at := range 2 {
			t.Run(fmt.Sprintf("%s of owner %d", keys, at+1), func(t *testing.T) {
				id := newID()
				_, err := c.Store(ctx, id, []byte("v"), SetOptions{Lifetime: time.Hour})
				must(t, err)
				s := f.servers[c.Ring().Owners(id)[at]]
				if keys != "stamp" {
					do(t, s, "DEL", DefaultPrefix+id)
				}
				if keys != "value" {
					do(t, s, "DEL", stampPrefix+id)
				}
				if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
					t.Fatalf("%q, %v", got, err)
				}
				if keys == "value" && at == 1 {
					// The second owner is asked for its stamp alone; a missing value there is found by a write or a rejoin.
					must(t, c.Set(ctx, id, []byte("v")))
				}
				f.holds(c, id, "v")
				eventually(t, func() error {
					if n := do(t, s, "EXISTS", stampPrefix+id); n != int64(1) {
						return errors.New("no stamp")
					}
					return nil
				})
				if keys != "stamp" && !(keys == "value" && at == 1) {
					about(t, "the repaired copy", pttl(t, s, DefaultPrefix+id), time.Hour)
				}
			})
		}
	}
	if repairs.Load() == 0 {
		t.Error("the hook saw no repair")
	}
}

// A destroyed session stays destroyed when its second owner was down, with its copy, while it happened.
func TestDestroyedWhileOwnerWasDown(t *testing.T) {
	t.Parallel()
	for _, hint := range []bool{true, false} { // with and without the hint that was left for the owner
		t.Run(fmt.Sprint("hint=", hint), func(t *testing.T) {
			f := startFleet(t, 3, redistest.Options{AppendOnly: true})
			ctx := ctxOf(t)
			a, b := f.up(f.path("copies=2")), f.up(f.path("copies=2"))
			id := idOn(a, 0, 1)
			must(t, a.Set(ctx, id, []byte("v")))
			must(t, f.servers[1].Kill())
			must(t, a.Delete(ctx, id))
			if !hint {
				for _, i := range []int{0, 2} {
					keys := do(t, f.servers[i], "KEYS", hintPrefix+"*").([]any)
					for _, k := range keys {
						do(t, f.servers[i], "DEL", k)
					}
				}
			}
			for _, c := range []*Client{a, b} {
				if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
					t.Errorf("while it is down: %v", err)
				}
				if err := c.Set(ctx, id, []byte("again")); !errors.Is(err, ErrDestroyed) {
					t.Errorf("Set while it is down: %v", err)
				}
			}
			must(t, f.servers[1].Restart(ctx))
			fresh := f.open(f.path("copies=2")) // knows nothing of all that
			for _, c := range []*Client{a, b, fresh} {
				for range 20 {
					if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
						t.Fatalf("after its return: %v", err)
					}
					if err := c.Set(ctx, id, []byte("again")); !errors.Is(err, ErrDestroyed) {
						t.Fatalf("Set after its return: %v", err)
					}
				}
			}
			f.holds(a, id, "")
		})
	}
}

// Both owners were evicted of a session that another node still holds as a stand-in: it is found.
func TestStandInIsFound(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2")), f.up(f.path("copies=2"))
	id := idOn(a, 0, 1)
	must(t, a.Set(ctx, id, []byte("old")))
	must(t, f.servers[0].Pause())
	must(t, a.Set(ctx, id, []byte("new"))) // on 1, and 2 stands in
	must(t, f.servers[1].Pause())
	for _, c := range []*Client{a, b} {
		if got, err := c.Get(ctx, id); err != nil || string(got) != "new" {
			t.Errorf("both owners hang: %q, %v", got, err)
		}
	}
	must(t, a.Set(ctx, id, []byte("newer")))
	must(t, f.servers[0].Resume())
	must(t, f.servers[1].Resume())
	for _, c := range []*Client{a, b} {
		if got, err := c.Get(ctx, id); err != nil || string(got) != "newer" {
			t.Errorf("both owners are back: %q, %v", got, err)
		}
	}
	f.holds(a, id, "newer")
	// The stand-in copy is taken away once both owners have the session.
	eventually(t, func() error {
		if n := do(t, f.servers[2], "EXISTS", DefaultPrefix+id, stampPrefix+id); n != int64(0) {
			return fmt.Errorf("%d keys are still on the stand-in", n)
		}
		return nil
	})
}

// Copies that differ are made equal behind a read, whichever is the newer; a touch brings no data.
func TestReadRepairs(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	c := f.up(f.path("copies=2"))
	id := idOn(c, 0, 1)
	set := func(node int, v Version, data string) {
		do(t, f.servers[node], "SET", DefaultPrefix+id, data, "PX", 3600000)
		do(t, f.servers[node], "SET", stampPrefix+id, string(v)+"v", "PX", 3600000)
	}
	older, newer := c.clock.next(), c.clock.next()
	for _, node := range []int{0, 1} {
		set(node, newer, "newer")
		set(1-node, older, "older")
		if got, err := c.Get(ctx, id); err != nil || string(got) != "newer" {
			t.Fatalf("the newer one on node %d: %q, %v", node, got, err)
		}
		f.holds(c, id, "newer")

		set(node, newer, "newer")
		set(1-node, older, "older")
		must(t, c.Touch(ctx, id))
		f.holds(c, id, "newer")
	}
}

// A long poll that changes nothing must not undo what another request wrote, also where an owner missed that write.
func TestTouchWritesNothingBack(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2")), f.up(f.path("copies=2"))
	id := idOn(a, 0, 1)
	must(t, a.Set(ctx, id, []byte("visits=1")))
	_, err := a.Get(ctx, id)
	must(t, err)
	must(t, f.servers[1].Pause())
	must(t, b.Set(ctx, id, []byte("visits=2")))
	monitors := []*redistest.Monitor{}
	for _, i := range []int{0, 2} {
		m, err := f.servers[i].Monitor(ctx)
		must(t, err)
		monitors = append(monitors, m)
	}
	must(t, a.Touch(ctx, id))
	for _, m := range monitors {
		cmds, err := m.Commands(ctx)
		must(t, err)
		for _, cmd := range cmds {
			if strings.Contains(strings.Join(cmd.Args, " "), "visits=") {
				t.Errorf("the touch sent data: %s", cmd.Name())
			}
			if len(cmd.Args) > 1 && cmd.Args[1] == DefaultPrefix+id && slices.Contains([]string{"SET", "SETEX", "PSETEX", "DEL"}, cmd.Name()) {
				t.Errorf("the touch carried out %s", cmd.Name())
			}
		}
		m.Stop()
	}
	must(t, f.servers[1].Resume())
	waitUp(t, a)
	waitUp(t, b)
	f.holds(a, id, "visits=2")
	for _, c := range []*Client{a, b} {
		if got, err := c.Get(ctx, id); err != nil || string(got) != "visits=2" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// What a client sent to a node that hangs is carried out when the node wakes, long after somebody else wrote again.
func TestLateWriteChangesNothing(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	proxies := f.proxied()
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2")), f.up(f.path("copies=2"), WithDialer(f.straight))
	destroyed, kept := idOn(a, 0, 1), idOn(a, 0, 1)
	for _, id := range []string{destroyed, kept} {
		must(t, a.Set(ctx, id, []byte("1")))
		eventually(t, func() error {
			must(t, proxies[0].Pass())
			waitUp(t, a)
			proxies[0].Hold(redistest.ToServer)
			must(t, a.Set(ctx, id, []byte("late")))
			for range 100 {
				if proxies[0].Stats().Held > 0 {
					return nil
				}
				time.Sleep(5 * time.Millisecond)
			}
			return errors.New("nothing is on its way to the first owner")
		})
		held := proxies[0].TakeHeld()
		proxies[0].Release()
		if id == kept {
			must(t, b.Set(ctx, id, []byte("2")))
		} else {
			must(t, b.Delete(ctx, id))
		}
		held.Release()
		waitUp(t, a)
	}
	for _, c := range []*Client{a, b} {
		if got, err := c.Get(ctx, kept); err != nil || string(got) != "2" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := c.Get(ctx, destroyed); !errors.Is(err, ErrNotFound) {
			t.Errorf("destroyed: %q, %v", got, err)
		}
	}
	f.holds(a, kept, "2")
	f.holds(a, destroyed, "")
}

// The backlog of repairs is bounded, and a busy session stands in it once.
func TestMender(t *testing.T) {
	m := newMender()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2 * mendBacklog {
				m.add(fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
	if len(m.queue) != mendBacklog || len(m.waiting) != mendBacklog {
		t.Errorf("%d in the queue, %d known", len(m.queue), len(m.waiting))
	}
	for range mendBacklog {
		m.took(<-m.queue)
	}
	m.add("x")
	m.add("x")
	if len(m.queue) != 1 {
		t.Errorf("one id stands in the queue %d times", len(m.queue))
	}
}

// A write to an owner that was slow is given up, others took it, and then it is lost with its connection, though the
// owner was never under suspicion. It has missed that write: it is a returning one until the hint was looked for.
func TestWriteLostWithItsConnection(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	proxies := f.proxied()
	var states stateLog
	c := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: states.add}))
	nodes := c.view.Load().nodes
	id := idOn(c, 0, 1)
	ctx := ctxOf(t)
	must(t, c.Set(ctx, id, []byte("1")))
	owner, data, tries := nodes[0], "", 0
	eventually(t, func() error {
		waitUp(t, c)
		tries++
		data = fmt.Sprint("written the time after ", tries)
		before := len(states.all())
		proxies[0].Hold(redistest.ToServer)
		// Its caller is in a hurry: what it waits is no silence that says anything of the node.
		short, cancel := context.WithTimeout(ctx, c.silence(c.view.Load()))
		err := c.Set(short, id, []byte(data))
		cancel()
		quiet := len(states.all()) == before
		proxies[0].ResetConns() // what was held is lost
		proxies[0].Release()
		if err != nil || !quiet {
			return fmt.Errorf("a machine too busy for this: %v, %v", err, states.all()[before:])
		}
		if got := do(t, f.servers[0], "GET", owner.key(id)); got == data {
			return errors.New("the owner took the write: nothing was tested")
		}
		if got, err := c.Get(ctx, id); err != nil || string(got) != data {
			t.Fatalf("%q, %v", got, err)
		}
		eventually(t, func() error {
			all := states.all()[before:]
			if len(all) == 0 {
				return errors.New("the owner is as good as before")
			}
			if s := all[0]; s.Node != owner.id || s.From != StateUp || s.To != StateReturning {
				t.Fatalf("%+v", s)
			}
			return nil
		})
		return nil
	})
	waitUp(t, c)
	eventually(t, func() error {
		if got := do(t, f.servers[0], "GET", owner.key(id)); got != data {
			return fmt.Errorf("the owner holds %v", got)
		}
		for i, s := range f.servers {
			if n := do(t, s, "EXISTS", nodes[i].hintKey(owner)); n != int64(0) {
				return fmt.Errorf("the hint is still on node %d", i)
			}
		}
		return nil
	})
}
