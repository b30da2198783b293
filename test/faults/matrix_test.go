package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// row is one fault of docs/promises.md.
type row struct {
	name string
	play func(r *run)
	// apart: the clients are processes of their own.
	apart bool
	// lists: a spare node runs that the clients do not know at first.
	lists bool
	// slow: nodes are brought up to date at a low rate.
	slow bool
	// loses: with one copy, sessions are lost for good.
	loses bool
	// fails: operations may fail, with ErrNoNode alone.
	fails bool
	// copies that the row is about; 0: any.
	copies int
}

var rows = []row{
	{name: "kill", play: killed},
	{name: "hang", play: hung},
	{name: "restart-empty", play: restartedEmpty, loses: true},
	{name: "old-data", play: oldData},
	{name: "all-down", play: allDown, fails: true},
	{name: "rolling-restart", play: rolling},
	{name: "rolling-empty", play: rollingEmpty, copies: 2},
	{name: "evicted", play: evicted, copies: 2},
	{name: "partition", play: partitioned, apart: true},
	{name: "late-writes", play: lateWrites, apart: true},
	{name: "clocks", play: clocks, apart: true},
	{name: "one-rejoins", play: oneRejoins, slow: true, copies: 2},
	{name: "node-lists", play: nodeLists, lists: true},
}

// TestMatrix plays every fault with one and with two copies. By default each is tried with one of the shapes, so that
// all shapes have their turn; SESSIONRING_FULL=1 tries every fault with every shape.
func TestMatrix(t *testing.T) {
	redistest.FindOrSkip(t)
	t.Parallel()
	for copies := 1; copies <= 2; copies++ {
		t.Run(fmt.Sprintf("copies=%d", copies), func(t *testing.T) {
			for sh, list := range plan(copies) {
				t.Run(sh.String(), func(t *testing.T) {
					t.Parallel()
					s := newSite(t, sh)
					for _, w := range list {
						t.Run(w.name, func(t *testing.T) {
							r := s.begin(t, w)
							w.play(r)
							r.end()
						})
					}
				})
			}
		})
	}
}

// plan says which rows are played with which shape.
func plan(copies int) map[shape][]row {
	together := []shape{{nodes: 3, clients: 3}, {nodes: 5, clients: 1}}
	apart := []shape{{nodes: 3, clients: 3, apart: true}}
	lists := []shape{{nodes: 3, clients: 3, spare: true}}
	slow := []shape{{nodes: 3, clients: 3, rejoinRate: 200}}
	full := env("SESSIONRING_FULL") == "1"
	if full {
		together = append(together, shape{nodes: 3, clients: 1}, shape{nodes: 5, clients: 3})
		apart = append(apart, shape{nodes: 5, clients: 3, apart: true}, shape{nodes: 3, clients: 1, apart: true}, shape{nodes: 5, clients: 1, apart: true})
	}
	out := map[shape][]row{}
	turn := copies
	for _, w := range rows {
		if w.copies != 0 && w.copies != copies {
			continue
		}
		if only := env("SESSIONRING_ROW"); only != "" && only != w.name {
			continue
		}
		shapes := together
		switch {
		case w.apart:
			shapes = apart
		case w.lists:
			shapes = lists
		case w.slow:
			shapes = slow
		}
		if !full {
			shapes = []shape{shapes[turn%len(shapes)]}
			turn++
		}
		for _, sh := range shapes {
			sh.copies = copies
			out[sh] = append(out[sh], w)
		}
	}
	return out
}

// killed: kill -9 of one node.
func killed(r *run) {
	r.mark("kill -9")
	r.must(r.node().Kill())
	r.rest()
	time.Sleep(2 * time.Second)
	r.mark("every session is read")
	r.each(Get, r.sessions())
	r.allSeen(r.hit, "down")
	r.mark("restarted")
	r.must(r.node().Restart(context.Background()))
}

// hung: SIGSTOP for three seconds, or until everybody noticed.
func hung(r *run) {
	r.mark("SIGSTOP")
	r.must(r.node().Pause())
	r.rest()
	time.Sleep(time.Until(time.Now().Add(3*time.Second - time.Duration(now()-r.fault))))
	r.allSeen(r.hit, "down") // a machine that stands still takes longer
	r.mark("SIGCONT")
	r.must(r.node().Resume())
}

// restartedEmpty: a node that keeps nothing on disk is restarted. Once all is whole again another one dies.
func restartedEmpty(r *run) {
	r.mark("kill -9")
	r.must(r.node().Kill())
	r.rest()
	time.Sleep(700 * time.Millisecond)
	r.mark("restarted empty")
	r.must(r.node().RestartEmpty(context.Background()))
	r.allSeen(r.hit, "down")
	if r.copies < 2 {
		return
	}
	r.settle(r.t)
	other := (r.hit + 1) % r.nodes
	r.mark("another one: kill -9")
	r.must(r.servers[other].Kill())
	time.Sleep(300 * time.Millisecond)
	r.each(Get, r.sessions())
	r.mark("restarted")
	r.must(r.servers[other].Restart(context.Background()))
}

// oldData: a node comes back with what it held some time before it died; with one copy, with what it held when it died.
func oldData(r *run) {
	ctx := context.Background()
	snap, err := r.node().SaveSnapshot(ctx)
	r.must(err)
	time.Sleep(700 * time.Millisecond)
	r.mark("kill -9")
	r.must(r.node().Kill())
	r.rest()
	time.Sleep(700 * time.Millisecond)
	r.mark("restarted with old data")
	if r.copies < 2 {
		r.must(r.node().Restart(ctx))
	} else {
		r.must(r.node().RestartWith(ctx, snap))
	}
	r.allSeen(r.hit, "down")
	r.allSeen(r.hit, "returning")
}

// allDown: every node is killed, and comes back with what it had.
func allDown(r *run) {
	r.mark("all: kill -9")
	for _, n := range r.servers {
		r.must(n.Kill())
	}
	time.Sleep(1500 * time.Millisecond)
	for i := range r.servers {
		r.allSeen(i, "down")
	}
	r.mark("restarted")
	var wg sync.WaitGroup
	errs := make([]error, r.nodes)
	for i, n := range r.servers {
		wg.Go(func() { errs[i] = n.Restart(context.Background()) })
	}
	wg.Wait()
	for _, err := range errs {
		r.must(err)
	}
	if r.copies < 2 {
		// What stand-ins hold for owners is looked for once a second, and with one copy nothing else tells that an
		// owner is behind.
		r.settle(r.t)
		time.Sleep(2500 * time.Millisecond)
	}
	r.t.Cleanup(func() {
		failed := 0
		for _, o := range r.ops {
			if o.Outcome == Unknown {
				failed++
			}
		}
		if failed == 0 && !r.t.Failed() {
			r.t.Error("with every node down no operation failed: nothing was tested")
		}
	})
}

// rolling: every node is restarted with its data, one at a time.
func rolling(r *run) {
	for i, n := range r.servers {
		r.mark("restart of node %d", i)
		r.must(n.Shutdown(context.Background(), true))
		if i == 0 {
			r.rest()
		}
		time.Sleep(500 * time.Millisecond)
		r.must(n.Restart(context.Background()))
		r.settle(r.t)
		r.allSeen(i, "down", "returning")
	}
}

// rollingEmpty: the same with nodes that keep nothing on disk.
func rollingEmpty(r *run) {
	for i, n := range r.servers {
		r.mark("restart of node %d, empty", i)
		r.must(n.Kill())
		if i == 0 {
			r.rest()
		}
		time.Sleep(500 * time.Millisecond)
		r.must(n.RestartEmpty(context.Background()))
		r.settle(r.t)
		r.allSeen(i, "down", "returning")
	}
}

// evicted: a node drops sessions to make room, as with maxmemory and an eviction policy: some with their stamps, some
// without. Reads mend that. (Where the second owner keeps the stamp of what it dropped, only the next write does.)
func evicted(r *run) {
	r.mark("a third evicted")
	gone := 0
	for s := range int64(durable) {
		id := sessionID(r.load.Space, s)
		if s%3 != 0 || !slices.Contains(r.owners(id), r.hit) {
			continue
		}
		keys := []any{"DEL", "PHPREDIS_SESSION:" + id}
		if s%2 == 0 || r.owners(id)[0] != r.hit {
			keys = append(keys, stampKey(id))
		}
		n, err := r.node().Do(keys...)
		r.must(err)
		gone += int(n.(int64))
	}
	if gone < 5 {
		r.t.Fatalf("only %d keys were evicted", gone)
	}
	time.Sleep(time.Second)
	r.spread(Get, r.sessions()[:durable]) // each is read once more at least
	time.Sleep(300 * time.Millisecond)
	repairs := 0
	for _, a := range r.apps {
		v, err := a.View()
		r.must(err)
		repairs += v.Repairs["read"]
	}
	if repairs == 0 {
		r.t.Error("no read repaired anything")
	}
}

// partitioned: no packets between one client and one node.
func partitioned(r *run) {
	link := r.proxies[0][r.hit]
	r.mark("client 0 cut off")
	r.must(link.Partition())
	r.rest()
	time.Sleep(time.Until(time.Now().Add(3*time.Second - time.Duration(now()-r.fault))))
	r.seen(0, r.hit, "down")
	r.mark("healed")
	r.must(link.Pass())
}

// lateWrites: what a client sent to a node lies in a socket until everybody has moved on, then the node works on it.
func lateWrites(r *run) {
	link := r.proxies[0][r.hit]
	r.mark("bytes held")
	link.Hold(redistest.ToServer)
	r.rest()
	time.Sleep(1500 * time.Millisecond)
	late := link.TakeHeld()
	if late.Bytes() == 0 {
		r.t.Fatal("nothing was held back")
	}
	r.seen(0, r.hit, "down")
	r.must(link.Pass())
	r.mark("the link works again")
	r.settle(r.t)
	time.Sleep(300 * time.Millisecond)
	// What rests must be newer than what was held, too.
	var again []int64
	for i := int64(0); i < resting; i += 3 {
		again = append(again, coldBase+i)
	}
	r.spread(Set, again)
	sessions := r.sessions()
	before := r.inspect(sessions)
	r.mark("%d bytes arrive late", late.Bytes())
	late.Release()
	waitUntil(r.t, "the late bytes are worked on", recovery, func() error {
		if n := late.Bytes(); n > 0 {
			return fmt.Errorf("%d bytes wait", n)
		}
		return nil
	})
	time.Sleep(300 * time.Millisecond)
	back := 0
	for s, h := range r.inspect(sessions) {
		if was := before[s].stamps[r.hit]; h.stamps[r.hit] < was {
			back++
			r.t.Logf("session %d on node %d: stamp was %q, is %q", s, r.hit, was, h.stamps[r.hit])
		}
	}
	if back > 0 {
		r.t.Errorf("late bytes put %d sessions back in time", back)
	}
}

// clocks: the application servers' clocks are years and minutes apart, while a node hangs.
func clocks(r *run) {
	hung(r)
	r.settle(r.t)
	var again []int64
	for i := range int64(durable) {
		again = append(again, i)
	}
	wrote := time.Now()
	r.spread(Set, again)
	for _, n := range r.servers {
		for _, s := range again {
			got, err := n.Do("PTTL", "PHPREDIS_SESSION:"+sessionID(r.load.Space, s))
			r.must(err)
			ms := got.(int64)
			if ms == -2 {
				continue // not an owner
			}
			left, want := time.Duration(ms)*time.Millisecond, lifetime-time.Since(wrote)-margin
			if left > lifetime || left < want {
				r.t.Errorf("session %d lives %v more, written with %v", s, left, lifetime)
			}
		}
	}
}

// oneRejoins: of all clients one brings a returning node up to date, and the others wait for it.
func oneRejoins(r *run) {
	r.mark("kill -9")
	r.must(r.node().Kill())
	r.rest()
	time.Sleep(500 * time.Millisecond)
	r.mark("restarted empty")
	r.must(r.node().RestartEmpty(context.Background()))
	r.settle(r.t)
	id := "tcp://" + r.node().Addr()
	var passes []Pass
	for _, a := range r.apps {
		v, err := a.View()
		r.must(err)
		for _, p := range v.Passes {
			if p.Node == id && p.Begun > r.fault {
				passes = append(passes, p)
			}
		}
	}
	r.t.Logf("passes over the node: %+v", passes)
	if len(passes) == 0 {
		r.t.Error("nobody was seen to bring the node up to date")
	}
	for i, p := range passes {
		for _, q := range passes[:i] {
			if p.Begun < q.LastRun && q.Begun < p.LastRun {
				r.t.Errorf("clients %d and %d brought the node up to date at the same time", q.App, p.App)
			}
		}
	}
}

// nodeLists: a node is added, weights change, a node is taken away, while clients change over one by one.
func nodeLists(r *run) {
	first, spare := r.servers[:r.nodes], r.servers[r.nodes]
	lists := [][]string{nil, nil, nil}
	for i, n := range append(slices.Clone(first), spare) {
		lists[0] = append(lists[0], n.SavePath())
		weight := n.SavePath("weight=" + fmt.Sprint(1+i%2*2))
		lists[1] = append(lists[1], weight)
		if i > 0 {
			lists[2] = append(lists[2], weight)
		}
	}
	for i, what := range []string{"a node is added", "weights change", "a node is taken away"} {
		path := strings.Join(lists[i], ",")
		for j, a := range r.apps {
			r.mark("%s, client %d", what, j)
			r.must(a.Reconfigure(path))
			time.Sleep(400 * time.Millisecond)
			if j == 0 {
				r.restSome(i)
			}
		}
		r.ring = ringOf(r.t, path, r.copies)
	}
	waitUntil(r.t, "all sessions have moved", 3*recovery, func() error {
		for i, a := range r.apps {
			v, err := a.View()
			r.must(err)
			if v.Draining {
				return fmt.Errorf("client %d still moves sessions", i)
			}
		}
		return nil
	})
	r.mark("the node that was taken away is switched off")
	r.must(first[0].Kill())
}
