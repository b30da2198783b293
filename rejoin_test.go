package sessionring

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// A node that comes back with what it had long ago: while it returns and after, no read is older than what was
// acknowledged, and nothing destroyed exists. Other keys of the node stay.
func TestReturnsWithOldData(t *testing.T) {
	t.Parallel()
	for _, params := range []string{"copies=2", "copies=1", "distribution=phpredis"} {
		t.Run(params, func(t *testing.T) {
			f := startFleet(t, 3)
			ctx := ctxOf(t)
			c := f.up(f.path(params))
			do(t, f.servers[0], "SET", "somebody:else", "1")
			const n = 300
			var ids []string
			for range n {
				id := newID()
				ids = append(ids, id)
				must(t, c.Set(ctx, id, []byte("old")))
			}
			old, err := f.servers[0].SaveSnapshot(ctx)
			must(t, err)
			must(t, f.servers[0].Kill())
			waitState(t, c, StateDown, 0)
			for i, id := range ids {
				switch i % 3 {
				case 0:
					must(t, c.Set(ctx, id, []byte("new")))
				case 1:
					must(t, c.Delete(ctx, id))
				}
			}
			must(t, f.servers[0].RestartWith(ctx, old))
			check := func(c *Client, when string) {
				t.Helper()
				for i, id := range ids {
					got, err := c.Get(ctx, id)
					switch {
					case i%3 == 0 && (err != nil || string(got) != "new"),
						i%3 == 1 && !errors.Is(err, ErrNotFound),
						i%3 == 2 && (err != nil || string(got) != "old"):
						// A session that only the node away had, and nobody wrote since, is back with the node.
						if i%3 == 2 && params != "copies=2" && errors.Is(err, ErrOwnerAway) {
							continue
						}
						t.Fatalf("%s, session %d, owners %v: %q, %v", when, i%3, c.Ring().Owners(id), got, err)
					}
				}
			}
			check(c, "while it returns")
			fresh := f.open(f.path(params))
			if params != "distribution=phpredis" { // PHP's layout has no marks: a client that saw nothing cannot know
				check(fresh, "to a client that saw nothing")
			}
			waitUp(t, c)
			waitUp(t, fresh)
			check(c, "when it is up")
			check(fresh, "when it is up, to a client that saw nothing")
			if v := do(t, f.servers[0], "GET", "somebody:else"); v != "1" {
				t.Errorf("another application's key holds %v", v)
			}
			if params == "copies=2" {
				for i, id := range ids {
					f.holds(c, id, []string{"new", "", "old"}[i%3])
				}
			}
		})
	}
}

// A node that comes back empty gets all that it should hold, with the time that is left of each session, by one client.
func TestReturnsEmpty(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	clients := []*Client{f.up(f.path("copies=2")), f.up(f.path("copies=2")), f.up(f.path("copies=2"))}
	c := clients[0]
	var ids []string
	for i := range 400 {
		id := newID()
		ids = append(ids, id)
		_, err := c.Store(ctx, id, []byte(id), SetOptions{Lifetime: time.Duration(10+i) * time.Minute})
		must(t, err)
	}
	must(t, f.servers[1].RestartEmpty(ctx))
	for _, c := range clients {
		waitState(t, c, StateUp)
	}
	eventually(t, func() error {
		for _, c := range clients {
			if n := c.Nodes()[1]; n.State != StateUp {
				return fmt.Errorf("%s is %s", n.Node, n.State)
			}
		}
		for i, id := range ids {
			for _, o := range c.Ring().Owners(id) {
				s := f.servers[o]
				if v := do(t, s, "GET", DefaultPrefix+id); v != id {
					return fmt.Errorf("node %d holds %v", o, v)
				}
				about(t, "a copy", pttl(t, s, DefaultPrefix+id), time.Duration(10+i)*time.Minute)
				about(t, "its stamp", pttl(t, s, stampPrefix+id), time.Duration(10+i)*time.Minute)
			}
		}
		return nil
	})
	passes := 0
	for _, c := range clients {
		if p := c.Nodes()[1].Rejoin; !p.Since.IsZero() && p.Copied > 100 {
			passes++
		}
	}
	if passes > 1 {
		t.Errorf("%d clients brought everything over", passes)
	}
	do(t, f.servers[1], "PING")
	if n := do(t, f.servers[1], "EXISTS", leaseKey); n != int64(0) {
		t.Error("the lease was left behind")
	}
}

// FLUSHALL on a node that nobody saw fall: its sessions are served by the others and brought back.
func TestNodeIsEmptied(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	c := f.up(f.path("copies=2"))
	var ids []string
	for range 100 {
		id := newID()
		ids = append(ids, id)
		must(t, c.Set(ctx, id, []byte(id)))
	}
	must(t, f.servers[2].FlushAll())
	for _, id := range ids {
		if got, err := c.Get(ctx, id); err != nil || string(got) != id {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for _, id := range ids {
		f.holds(c, id, id)
	}
	waitUp(t, c)
}

// The client that brings a node up to date dies half way. Its lease ends, and another takes over.
func TestLeaseOfDeadClient(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	c := f.up(f.path("copies=2"))
	var ids []string
	for range 100 {
		id := newID()
		ids = append(ids, id)
		must(t, c.Set(ctx, id, []byte(id)))
	}
	must(t, c.Close())
	must(t, f.servers[0].RestartEmpty(ctx))
	do(t, f.servers[0], "SET", leaseKey, "somebody who died", "PX", 1500)
	other := f.open(f.path("copies=2"))
	for _, id := range ids {
		if got, err := other.Get(ctx, id); err != nil || string(got) != id {
			t.Fatalf("while nobody works on it: %q, %v", got, err)
		}
	}
	waitUp(t, other)
	for _, id := range ids {
		f.holds(other, id, id)
	}
}

// The pass is rate limited and ends with the client.
func TestRejoinRateAndClose(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	filler := f.up(f.path("copies=2"))
	for range 300 {
		must(t, filler.Set(ctx, newID(), []byte("v")))
	}
	must(t, filler.Close())
	must(t, f.servers[0].RestartEmpty(ctx))
	slow := f.open(f.path("copies=2"), WithRejoinRate(20))
	eventually(t, func() error {
		if p := slow.Nodes()[0].Rejoin; p.Since.IsZero() {
			return errors.New("no pass yet")
		}
		return nil
	})
	if s := slow.Nodes()[0].State; s != StateReturning {
		t.Errorf("300 sessions at 20 a second, and the node is %s at once", s)
	}
	start := time.Now()
	must(t, slow.Close())
	if took := time.Since(start); took > patient/3 {
		t.Errorf("Close took %v during a pass", took)
	}
	fast := f.up(f.path("copies=2"))
	if n, err := f.servers[0].DBSize(); err != nil || n < 600 {
		t.Errorf("%d keys after a full pass, %v", n, err)
	}
	_ = fast
}

// Writes that an owner missed are named on a node that took them, once each, and the list goes when it is worked off.
func TestHints(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	c := f.up(f.path("copies=2"))
	must(t, f.servers[0].Pause())
	waitDown := func() { waitState(t, c, StateDown, 0) }
	var ids []string
	for range 60 {
		id := newID()
		ids = append(ids, id)
		must(t, c.Set(ctx, id, []byte(id)))
		must(t, c.Set(ctx, id, []byte(id)))
	}
	waitDown()
	missed := map[string]bool{}
	for _, id := range ids {
		for _, o := range c.Ring().Owners(id) {
			if o == 0 {
				missed[id] = true
			}
		}
	}
	eventually(t, func() error {
		named := map[string]bool{}
		for _, i := range []int{1, 2} {
			members, _ := do(t, f.servers[i], "SMEMBERS", hintPrefix+c.Nodes()[0].Node).([]any)
			for _, m := range members {
				named[m.(string)] = true
			}
			if len(members) > 0 {
				if ms := pttl(t, f.servers[i], hintPrefix+c.Nodes()[0].Node); ms <= 0 {
					t.Errorf("a list of hints that never ends: %d", ms)
				}
			}
		}
		for id := range missed {
			if !named[id] {
				return errors.New("a missed write is named nowhere")
			}
		}
		return nil
	})
	must(t, f.servers[0].Resume())
	waitUp(t, c)
	for id := range missed {
		f.holds(c, id, id)
	}
	eventually(t, func() error {
		for _, i := range []int{1, 2} {
			if n := do(t, f.servers[i], "EXISTS", hintPrefix+c.Nodes()[0].Node); n != int64(0) {
				return fmt.Errorf("node %d still holds hints", i)
			}
		}
		if d := c.Nodes()[0].Debt; d != 0 {
			return fmt.Errorf("status shows a debt of %d", d)
		}
		return nil
	})
}

// A client is cut off from one node that all others see. What it writes meanwhile is not lost, what the others wrote
// is not overwritten, and nobody reads an older session than was acknowledged.
func TestPartitionedClient(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	whole := f.up(f.path("copies=2"))
	proxies := f.proxied()
	cut := f.up(f.path("copies=2"))
	must(t, proxies[0].Partition())
	id := idOn(whole, 0, 1)
	last := ""
	for i := range 60 {
		w, r := whole, cut
		if i%2 == 0 {
			w, r = cut, whole
		}
		last = fmt.Sprint(i)
		must(t, w.Set(ctx, id, []byte(last)))
		for _, c := range []*Client{r, w} {
			if got, err := c.Get(ctx, id); err != nil || string(got) != last {
				t.Fatalf("write %d: %q, %v", i, got, err)
			}
		}
	}
	must(t, proxies[0].Pass())
	for _, c := range []*Client{cut, whole} {
		if got, err := c.Get(ctx, id); err != nil || string(got) != last {
			t.Fatalf("healed: %q, %v", got, err)
		}
	}
	waitUp(t, cut)
	f.holds(whole, id, last)
}

// Every node restarts once, one after another, under load: nothing is lost.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3, redistest.Options{AppendOnly: true})
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2")), f.up(f.path("copies=2"))
	l := startLoad(t, false, a, b)
	for i, s := range f.servers {
		l.progress(fmt.Sprint("well before ", i), 300)
		must(t, s.Shutdown(ctx, true))
		l.progress(fmt.Sprint("away ", i), 300)
		must(t, s.Restart(ctx))
		l.progress(fmt.Sprint("back ", i), 300)
		waitUp(t, a)
		waitUp(t, b)
	}
	l.end()
}

func TestMarkText(t *testing.T) {
	for _, m := range []mark{{runID: "a"}, {runID: "a", absent: []string{"tcp://x:1", "unix:///s"}}} {
		got := parseMark(m.String())
		if got.runID != m.runID || strings.Join(got.absent, ",") != strings.Join(m.absent, ",") {
			t.Errorf("%+v reads as %+v", m, got)
		}
	}
	if got := globEscape(`a*b?[c]\^-`); got != `a\*b\?\[c\]\\\^\-` {
		t.Error(got)
	}
}

// Listing goes by SCAN, tells each session once whatever SCAN repeats, and knows a side key from a session.
func TestSessionsAreListed(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	c := f.up(f.path("copies=2"))
	want := map[string]bool{}
	for range 700 {
		id := newID()
		want[id] = true
		must(t, c.Set(ctx, id, []byte("12345")))
	}
	l, err := c.Lock(ctx, newID())
	must(t, err)
	defer func() { must(t, l.Unlock(context.Background())) }()
	gone := newID()
	must(t, c.Set(ctx, gone, nil))
	must(t, c.Delete(ctx, gone))
	for s, err := range c.Sessions(ctx) {
		must(t, err)
		if !want[s.ID] {
			t.Fatalf("%q is listed twice, or no session", s.ID)
		}
		delete(want, s.ID)
		if s.Bytes != 5 || s.TTL <= 0 || s.TTL > DefaultLifetime || s.Node != c.Nodes()[s.Index].Node {
			t.Fatalf("%+v", s)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d sessions are not listed", len(want))
	}
	// A node away is told, and the others are listed all the same.
	must(t, f.servers[1].Kill())
	n, failed := 0, 0
	for _, err := range c.Sessions(ctx) {
		if err != nil {
			failed++
		} else {
			n++
		}
	}
	if n != 700 || failed != 1 {
		t.Errorf("with a node away: %d sessions, %d errors", n, failed)
	}
	for range c.Sessions(ctx) {
		break // leaves nothing behind
	}
	infos, err := c.Explain(ctx, gone)
	must(t, err)
	if len(infos) != 3 {
		t.Fatalf("Explain: %+v", infos)
	}
	for i, info := range infos {
		if info.Owner != (i < 2) || info.Present || (info.Err == nil) != (info.Index != 1) || info.Owner && info.Err == nil && !info.Dead {
			t.Errorf("Explain of a destroyed session: %+v", info)
		}
	}
}

// Whoever looks sees how far a rejoin is and about how long it will last: the client that does it, one that waits for
// it, and a tool.
func TestRejoinProgress(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2"), WithRejoinRate(100)), f.up(f.path("copies=2"), WithRejoinRate(100))
	for range 1500 {
		must(t, a.Set(ctx, newID(), []byte("v")))
	}
	must(t, f.servers[1].Kill())
	waitState(t, a, StateDown, 1)
	waitState(t, b, StateDown, 1)
	must(t, f.servers[1].RestartEmpty(ctx))
	tool := f.open(f.path("copies=2"), WithObserver())
	for name, c := range map[string]*Client{"one": a, "the other": b, "a tool": tool} {
		eventually(t, func() error {
			n := c.Nodes()[1]
			if n.State != StateReturning || n.Rejoin.Total < 1500 || n.Rejoin.Seen <= 0 || n.Rejoin.Done || n.Whole <= 0 {
				return fmt.Errorf("%s: %s, %+v, whole in %v", name, n.State, n.Rejoin, n.Whole)
			}
			return nil
		})
	}
	if left := (Progress{Since: time.Now().Add(-time.Minute), Seen: 100, Total: 300}).Left(); left < 119*time.Second || left > 130*time.Second {
		t.Errorf("two thirds are left after a minute: %v", left)
	}
	if left := (Progress{Since: time.Now().Add(-time.Minute), Seen: 300, Total: 300, Done: true}).Left(); left != 0 {
		t.Errorf("done: %v", left)
	}
}
