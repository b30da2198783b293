package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// sessionsEach peer has.
const sessionsEach = 1024

// contestant is a peer at work: its sessions, and how often each was saved.
type contestant struct {
	peer
	opened
	tokens []string
	saved  []uint64
	work   []worker
}

// sample is one cell of one round. CPU is microseconds a request, user and system.
type sample struct {
	rate     float64 // requests a second
	allocs   float64 // a request
	client   float64 // CPU of this process, the driver in it
	servers  float64 // CPU of all servers
	p50, p99 time.Duration
}

// measure runs all rounds on servers of their own.
func (c config) measure(ctx context.Context, servers int, progress io.Writer) (t *table, err error) {
	nodes, err := redistest.StartNodes(ctx, servers)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, redistest.StopNodes(nodes)) }()

	var all []*contestant
	defer func() {
		for _, p := range all {
			err = errors.Join(err, p.close())
		}
	}()
	for _, p := range peers() {
		if servers > 1 && !p.several || servers < p.copies || p.name != reference && !c.peers.MatchString(p.name) {
			continue
		}
		k, err := p.begin(ctx, addresses(nodes), slices.Max(c.goroutines))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, k)
	}

	t = newTable(servers, c, all)
	// A round that does not count dials the connections and fills the pools.
	for round := -1; round < c.rounds; round++ {
		for _, op := range []operation{cycle, read} {
			for _, n := range c.goroutines {
				if err := c.cells(ctx, t, nodes, all, round, op, n); err != nil {
					return nil, err
				}
			}
		}
		fmt.Fprintf(progress, "%d server(s): round %d of %d\n", servers, round+1, c.rounds)
	}
	return t, nil
}

// cells are one round of one operation with n goroutines, a cell a peer. One goroutine is priced by round trips, and
// those by where the scheduler puts the client and the servers; so there it has no say.
func (c config) cells(ctx context.Context, t *table, nodes []*redistest.Server, all []*contestant, round int, op operation, n int) (err error) {
	if n == 1 {
		release, cannot := pin(nodes)
		if t.unpinned = cannot; cannot == nil {
			defer func() { err = errors.Join(err, release()) }()
		}
	}
	for i := range all {
		k := all[(i+round+1)%len(all)] // what one leaves behind is not always the same one's to bear
		if !k.does(op) {
			continue
		}
		s, err := k.cell(ctx, nodes, op, n, c.cell)
		if err != nil {
			return fmt.Errorf("%s, %v, %d goroutines: %w", k.name, op, n, err)
		}
		if round >= 0 {
			t.add(k.name, op, n, s)
		}
	}
	return nil
}

func addresses(nodes []*redistest.Server) []string {
	var addrs []string
	for _, s := range nodes {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// sessionID is an id as sites make them: 32 hexadecimal digits, spread by the first.
func sessionID(i int) string { return fmt.Sprintf("%04x%028x", i*40503%65536, i) }

// begin opens the peer and makes the sessions, and each goroutine's worker.
func (p peer) begin(ctx context.Context, addrs []string, goroutines int) (*contestant, error) {
	o, err := p.open(ctx, addrs)
	if err != nil {
		return nil, err
	}
	k := &contestant{peer: p, opened: o, tokens: make([]string, sessionsEach), saved: make([]uint64, sessionsEach)}
	for range goroutines {
		k.work = append(k.work, k.worker())
	}
	for i := range sessionsEach {
		token, err := k.work[0].start(ctx, sessionID(i), &visit{})
		if err != nil {
			return nil, errors.Join(err, k.close())
		}
		k.tokens[i], k.saved[i] = token, 1
	}
	return k, nil
}

// cell lets n goroutines make requests for a time. A session is one goroutine's alone, so what each request must find
// is known.
func (k *contestant) cell(ctx context.Context, nodes []*redistest.Server, op operation, n int, d time.Duration) (sample, error) {
	latency, errs := make([][]time.Duration, n), make([]error, n)
	begin := make(chan struct{})
	var end time.Time
	var wg sync.WaitGroup
	for g := range n {
		latency[g] = make([]time.Duration, 0, 4096)
		do := k.work[g].cycle
		if op == read {
			do = k.work[g].read
		}
		wg.Go(func() {
			var v visit
			<-begin
			for i := g; ; i += n {
				if i >= sessionsEach {
					i = g
				}
				v.want = k.saved[i]
				from := time.Now()
				if errs[g] = do(ctx, k.tokens[i], &v); errs[g] != nil {
					return
				}
				if op == cycle {
					k.saved[i]++
				}
				now := time.Now()
				latency[g] = append(latency[g], now.Sub(from))
				if !now.Before(end) {
					return
				}
			}
		})
	}
	runtime.GC() // the garbage of the one before
	var before, after runtime.MemStats
	theirs, err := serversCPU(ctx, nodes)
	if err != nil {
		return sample{}, err
	}
	runtime.ReadMemStats(&before)
	used, from := processCPU(), time.Now()
	end = from.Add(d)
	close(begin)
	wg.Wait()
	took := time.Since(from)
	used = processCPU() - used
	runtime.ReadMemStats(&after)
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	spent, err := serversCPU(ctx, nodes)
	if err != nil {
		return sample{}, err
	}

	all := slices.Concat(latency...)
	requests := float64(len(all))
	return sample{
		rate:    requests / took.Seconds(),
		allocs:  float64(after.Mallocs-before.Mallocs) / requests,
		client:  float64(used.Microseconds()) / requests,
		servers: float64((spent - theirs).Microseconds()) / requests,
		p50:     quantile(all, 0.5), p99: quantile(all, 0.99),
	}, nil
}
