package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
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

// sample is one cell of one round.
type sample struct {
	rate    float64 // requests a second
	allocs  float64 // a request
	cpu     float64 // microseconds a request, user and system
	latency []time.Duration
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
	most := 0
	for _, n := range c.goroutines {
		most = max(most, n)
	}
	for _, p := range peers() {
		if servers > 1 && !p.several || servers < p.copies || p.name != reference && !c.peers.MatchString(p.name) {
			continue
		}
		o, err := p.open(ctx, nodes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		k := &contestant{peer: p, opened: o}
		all = append(all, k)
		if err := k.begin(ctx, most); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}

	t = newTable(servers, c, all)
	// A round that does not count dials the connections and fills the pools.
	for round := -1; round < c.rounds; round++ {
		for _, op := range []operation{cycle, read} {
			for _, n := range c.goroutines {
				for i := range all {
					k := all[(i+round+1)%len(all)] // what one leaves behind is not always the same one's to bear
					s, err := k.cell(ctx, op, n, c.cell)
					if err != nil {
						return nil, fmt.Errorf("%s, %v, %d goroutines: %w", k.name, op, n, err)
					}
					if round >= 0 {
						t.add(k.name, op, n, s)
					}
				}
			}
		}
		fmt.Fprintf(progress, "%d server(s): round %d of %d\n", servers, round+1, c.rounds)
	}
	return t, nil
}

// begin makes the sessions, and each goroutine's worker.
func (k *contestant) begin(ctx context.Context, goroutines int) error {
	k.tokens, k.saved = make([]string, sessionsEach), make([]uint64, sessionsEach)
	for range goroutines {
		k.work = append(k.work, k.worker())
	}
	for i := range sessionsEach {
		token, err := k.work[0].start(ctx, fmt.Sprintf("%04x%028x", i*40503%65536, i), &visit{})
		if err != nil {
			return err
		}
		k.tokens[i], k.saved[i] = token, 1
	}
	return nil
}

// cell lets n goroutines make requests for a time. A session is one goroutine's alone, so what each request must find
// is known.
func (k *contestant) cell(ctx context.Context, op operation, n int, d time.Duration) (sample, error) {
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
	runtime.ReadMemStats(&before)
	used, from := processCPU(), time.Now()
	end = from.Add(d)
	close(begin)
	wg.Wait()
	took := time.Since(from)
	used = processCPU() - used
	runtime.ReadMemStats(&after)

	s := sample{}
	for _, l := range latency {
		s.latency = append(s.latency, l...)
	}
	requests := float64(len(s.latency))
	s.rate = requests / took.Seconds()
	s.allocs = float64(after.Mallocs-before.Mallocs) / requests
	s.cpu = float64(used.Microseconds()) / requests
	return s, errors.Join(errs...)
}
