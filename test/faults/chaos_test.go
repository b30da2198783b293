package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random faults of TestChaos; 0 takes one from the clock")

var onlyFlag = flag.String("faults", "", "the only faults that TestChaos deals out, by name, separated by semicolons")

// chaosTime is how long random faults go on. SESSIONRING_CHAOS=3h makes it hours.
var chaosTime = envDuration("SESSIONRING_CHAOS", 25*time.Second)

// chaosRound bounds one history, so that hours of chaos need no more memory than minutes.
const chaosRound = 25 * time.Second

// blow is one random fault.
type blow struct {
	name   string
	node   int
	client int // whose way to the node it is, for faults of one way; -1: everybody's
	last   time.Duration
	gap    time.Duration // after everything was whole again
	amount int
}

func (b blow) String() string {
	who := "everybody"
	if b.client >= 0 {
		who = fmt.Sprintf("client %d", b.client)
	}
	return fmt.Sprintf("%s at node %d for %v, for %s, amount %d", b.name, b.node, b.last.Round(time.Millisecond), who, b.amount)
}

type kindOfBlow struct {
	name string
	odds int
	play func(r *run, b blow)
}

var blows = []kindOfBlow{
	{"kill", 4, func(r *run, b blow) {
		r.must(r.servers[b.node].Kill())
		r.pause(b)
		r.must(r.servers[b.node].Restart(context.Background()))
	}},
	{"kill, back empty", 4, func(r *run, b blow) {
		r.must(r.servers[b.node].Kill())
		r.pause(b)
		r.must(r.servers[b.node].RestartEmpty(context.Background()))
	}},
	{"kill, back with old data", 4, func(r *run, b blow) {
		snap, err := r.servers[b.node].SaveSnapshot(context.Background())
		r.must(err)
		time.Sleep(b.last / 2)
		r.must(r.servers[b.node].Kill())
		r.pause(b)
		r.must(r.servers[b.node].RestartWith(context.Background(), snap))
	}},
	{"restart at once", 2, func(r *run, b blow) {
		r.must(r.servers[b.node].Restart(context.Background()))
	}},
	{"flush", 1, func(r *run, b blow) {
		r.must(r.servers[b.node].FlushAll())
		time.Sleep(1500 * time.Millisecond) // until the missing mark has been noticed
	}},
	{"hang", 5, func(r *run, b blow) {
		r.must(r.servers[b.node].Pause())
		r.pause(b)
		r.must(r.servers[b.node].Resume())
	}},
	{"short hang", 4, func(r *run, b blow) {
		r.must(r.servers[b.node].Pause())
		time.Sleep(b.last / 8)
		r.must(r.servers[b.node].Resume())
	}},
	{"partition", 4, func(r *run, b blow) {
		r.ways(b, func(p *redistest.Proxy) { r.must(p.Partition()) })
		r.pause(b)
		r.ways(b, func(p *redistest.Proxy) { r.must(p.Pass()) })
	}},
	{"drop", 3, func(r *run, b blow) {
		r.ways(b, func(p *redistest.Proxy) { p.Blackhole(redistest.Direction(b.amount % 2)) })
		r.pause(b)
		r.ways(b, func(p *redistest.Proxy) { r.must(p.Pass()); p.ResetConns() })
	}},
	{"late bytes", 4, func(r *run, b blow) {
		var held []*redistest.Held
		r.ways(b, func(p *redistest.Proxy) { p.Hold(redistest.ToServer) })
		r.pause(b)
		r.ways(b, func(p *redistest.Proxy) { held = append(held, p.TakeHeld()); r.must(p.Pass()) })
		r.settle(r.t)
		time.Sleep(b.last / 4)
		for _, h := range held {
			h.Release()
		}
	}},
	{"delay", 3, func(r *run, b blow) {
		r.ways(b, func(p *redistest.Proxy) {
			p.Delay(time.Duration(b.amount)*time.Millisecond, time.Duration(b.amount/2)*time.Millisecond)
		})
		r.pause(b)
		r.ways(b, func(p *redistest.Proxy) { r.must(p.Pass()) })
	}},
	{"resets", 3, func(r *run, b blow) {
		for end := time.Now().Add(b.last); time.Now().Before(end); time.Sleep(b.last / 10) {
			r.ways(b, func(p *redistest.Proxy) { p.ResetConns() })
		}
	}},
	{"cut in mid-stream", 3, func(r *run, b blow) {
		for end := time.Now().Add(b.last); time.Now().Before(end); time.Sleep(b.last / 10) {
			r.ways(b, func(p *redistest.Proxy) { p.CutAfter(redistest.Direction(b.amount%2), int64(b.amount), 1) })
		}
		r.ways(b, func(p *redistest.Proxy) { r.must(p.Pass()) })
	}},
	{"scripts forgotten", 1, func(r *run, b blow) {
		_, err := r.servers[b.node].Do("SCRIPT", "FLUSH")
		r.must(err)
	}},
	{"new weights", 2, func(r *run, b blow) {
		var list []string
		for i, n := range r.servers {
			list = append(list, n.SavePath(fmt.Sprintf("weight=%d", 1+(i*b.amount)%4)))
		}
		path := strings.Join(list, ",")
		for _, a := range r.apps {
			r.must(a.Reconfigure(path))
			time.Sleep(b.last / 8)
		}
		r.ring = ringOf(r.t, path, r.copies)
	}},
}

// ways are the proxies that a fault concerns.
func (r *run) ways(b blow, do func(*redistest.Proxy)) {
	for i, list := range r.proxies {
		if b.client < 0 || b.client == i {
			do(list[b.node])
		}
	}
}

func (r *run) pause(b blow) { time.Sleep(b.last) }

// chance picks the next fault.
func chance(rnd *rand.Rand, nodes, clients int) (blow, func(*run, blow)) {
	list := blows
	if *onlyFlag != "" {
		only := strings.Split(*onlyFlag, ";")
		list = slices.DeleteFunc(slices.Clone(list), func(k kindOfBlow) bool { return !slices.Contains(only, k.name) })
	}
	sum := 0
	for _, x := range list {
		sum += x.odds
	}
	n := rnd.IntN(sum)
	b := blow{
		node: rnd.IntN(nodes), client: rnd.IntN(clients+1) - 1, amount: 1 + rnd.IntN(200),
		last: 300*time.Millisecond + time.Duration(rnd.Int64N(int64(2*time.Second))), gap: time.Duration(rnd.Int64N(int64(700 * time.Millisecond))),
	}
	for _, x := range list {
		if n -= x.odds; n < 0 {
			b.name = x.name
			return b, x.play
		}
	}
	panic("not reached")
}

// TestChaos deals out random faults, one at a time, each when the last is mended: that is what two copies are promised
// to withstand. The seed decides which faults come in which order, where, and for how long.
func TestChaos(t *testing.T) {
	redistest.FindOrSkip(t)
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again with: go test ./faults -run TestChaos -seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, shape{nodes: 3 + 2*rnd.IntN(2), clients: 2 + rnd.IntN(2), copies: 2, apart: true})
	t.Logf("%v", s.shape)
	end := time.Now().Add(chaosTime)
	for round := 1; time.Now().Before(end) && !t.Failed(); round++ {
		r := s.begin(t, row{name: fmt.Sprintf("chaos%d", round)})
		roundEnd := time.Now().Add(chaosRound)
		for time.Now().Before(roundEnd) && time.Now().Before(end) {
			b, play := chance(rnd, s.nodes, s.clients)
			t.Logf("%.3f s: %v", time.Duration(now()).Seconds(), b)
			r.mark("%s", b.name)
			play(r, b)
			s.settle(t)
			time.Sleep(b.gap)
		}
		r.end()
	}
}
