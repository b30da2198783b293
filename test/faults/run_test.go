package faults

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// run is one row of the matrix under way: load, a fault, and what came of it.
type run struct {
	*site
	t     *testing.T
	row   row
	load  Load
	hit   int // the node that the fault is done to
	ops   []Op
	marks []Mark
	cold  int64 // sessions at rest so far
	fault int64 // when the fault began
	whole int64 // when all was well again
	ended int64 // when the load was last stopped
	pulse *stallWatch
}

// Mark is a moment to show in a picture.
type Mark struct {
	At   int64
	Text string
}

const (
	durable = 150 // sessions that are in use all the time
	resting = 60  // sessions that are at rest but for one operation during the fault
	workers = 12
)

// begin fills the nodes and starts the load.
func (s *site) begin(t *testing.T, w row) *run {
	t.Helper()
	r := &run{site: s, t: t, row: w, hit: s.runs % s.nodes, pulse: watchStalls()}
	t.Cleanup(func() { r.pulse.end() })
	s.runs++
	r.load = Load{
		Space: fmt.Sprintf("%s-%d", w.name, s.runs), Sessions: durable, Workers: max(1, workers/len(s.apps)),
		Pause: 8 * time.Millisecond, Seed: uint64(s.runs), Epoch: now(),
	}
	r.cold = resting
	var sessions []int64
	for i := range int64(durable) {
		sessions = append(sessions, i)
	}
	for i := range int64(resting) {
		sessions = append(sessions, coldBase+i)
	}
	r.spread(Set, sessions)
	for _, a := range s.apps {
		r.must(a.Start(r.load))
	}
	time.Sleep(500 * time.Millisecond)
	before := r.commands(r.hit)
	waitUntil(t, "the node that will be hit is in use", recovery, func() error {
		if got := r.commands(r.hit) - before; got < 50 {
			return fmt.Errorf("%d commands", got)
		}
		return nil
	})
	return r
}

func (r *run) commands(node int) int {
	r.t.Helper()
	info, err := r.servers[node].Info("stats")
	r.must(err)
	n := 0
	fmt.Sscan(info["total_commands_processed"], &n)
	return n
}

func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// spread has the clients share an operation on each of some sessions.
func (r *run) spread(kind Kind, sessions []int64) {
	r.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(r.apps))
	for i, a := range r.apps {
		var mine []int64
		for j, s := range sessions {
			if j%len(r.apps) == i {
				mine = append(mine, s)
			}
		}
		wg.Go(func() { errs[i] = a.Do(Job{r.load.Space, kind, mine}) })
	}
	wg.Wait()
	for _, err := range errs {
		r.must(err)
	}
}

// each has every client do an operation on each of some sessions.
func (r *run) each(kind Kind, sessions []int64) {
	r.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(r.apps))
	for i, a := range r.apps {
		wg.Go(func() { errs[i] = a.Do(Job{r.load.Space, kind, sessions}) })
	}
	wg.Wait()
	for _, err := range errs {
		r.must(err)
	}
}

// mark notes a moment; the first one begins the fault.
func (r *run) mark(format string, args ...any) {
	m := Mark{now(), fmt.Sprintf(format, args...)}
	if r.fault == 0 {
		r.fault = m.At
	}
	r.marks = append(r.marks, m)
}

// rest does one operation on sessions at rest: a third is overwritten, a third destroyed, a third left alone, and
// some are new. Nobody reads them before the end, so no read mends them.
func (r *run) rest() {
	r.t.Helper()
	var written, destroyed []int64
	for i := range int64(resting) {
		switch i % 3 {
		case 0:
			written = append(written, coldBase+i)
		case 1:
			destroyed = append(destroyed, coldBase+i)
		}
	}
	for range 20 {
		written = append(written, coldBase+r.cold)
		r.cold++
	}
	r.spread(Set, written)
	r.spread(Delete, destroyed)
}

// restSome does the same with a part of them, so that it can be done several times.
func (r *run) restSome(part int) {
	r.t.Helper()
	lo := coldBase + int64(part*12)
	r.spread(Set, []int64{lo, lo + 1, lo + 2, lo + 3, coldBase + r.cold, coldBase + r.cold + 1})
	r.cold += 2
	r.spread(Delete, []int64{lo + 4, lo + 5, lo + 6, lo + 7})
}

// sessions are all that were ever used in this run.
func (r *run) sessions() []int64 {
	var out []int64
	for i := range int64(durable) {
		out = append(out, i)
	}
	for i := range r.cold {
		out = append(out, coldBase+i)
	}
	at := now()
	if r.ended > 0 {
		at = r.ended
	}
	for i := shortBase; i <= r.load.newestShort(at); i++ {
		out = append(out, i)
	}
	return out
}

// seen waits until the client has noticed, since the fault began, that the node was in one of the states.
func (r *run) seen(client, node int, states ...string) {
	r.t.Helper()
	id := "tcp://" + r.servers[node].Addr()
	waitUntil(r.t, fmt.Sprintf("client %d noticed that node %d is one of %v", client, node, states), recovery, func() error {
		v, err := r.apps[client].View()
		r.must(err)
		var got []string
		for _, e := range v.Events {
			if e.At >= r.fault && e.Node == id {
				got = append(got, e.To)
				if slices.Contains(states, e.To) {
					return nil
				}
			}
		}
		return fmt.Errorf("it became %v", got)
	})
}

// allSeen is seen for all clients.
func (r *run) allSeen(node int, states ...string) {
	r.t.Helper()
	for i := range r.apps {
		r.seen(i, node, states...)
	}
}

// node is the server that the fault is done to.
func (r *run) node() *redistest.Server { return r.servers[r.hit] }
