package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"

	"github.com/sessionring/sessionring/internal/redistest"
)

const (
	largeSize       = 1 << 20 // bytes of the large session
	smallGoroutines = 16
)

// besides are the samples of small sessions alone and beside the large one, by round.
type besides struct {
	alone, beside []sample
	cycles        []float64 // of the large session, a second
}

// large measures small sessions while one goroutine reads and writes a session of 1 MiB in a loop, through the same
// client, beside the same without it.
func (c config) large(ctx context.Context, out, progress io.Writer) error {
	how := fmt.Sprintf("Medians of %s of %v a cell, %d goroutines with sessions of 1 KiB.", count(c.rounds, "round"), c.cell, smallGoroutines)
	text, err := circumstances(ctx, how, goRedisModule, rueidisModule)
	if err != nil {
		return err
	}
	text += "| client | servers | alone p50 / p99 µs | beside it p50 / p99 µs | p99, alone = 1 (middle half) | requests/s, alone = 1 | 1 MiB cycles/s |\n" +
		"|---|--:|--:|--:|--:|--:|--:|\n"
	for _, g := range []struct {
		servers int
		names   []string
	}{{1, []string{reference, "rueidis", clientOne}}, {3, []string{reference, clientOne, clientTwo}}} {
		rows, err := c.largeOn(ctx, g.servers, g.names, progress)
		if err != nil {
			return err
		}
		text += rows
	}
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return c.docs.write(largeSection, text)
}

func (c config) largeOn(ctx context.Context, servers int, names []string, progress io.Writer) (rows string, err error) {
	nodes, err := redistest.StartNodes(ctx, servers)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, redistest.StopNodes(nodes)) }()
	all := make([]*contestant, len(names))
	defer func() {
		for _, k := range all {
			if k != nil {
				err = errors.Join(err, k.close())
			}
		}
	}()
	for i, name := range names {
		if all[i], err = peerNamed(name).begin(ctx, addresses(nodes), smallGoroutines); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	results := make([]besides, len(all))
	for round := -1; round < c.rounds; round++ {
		for i := range all {
			at := (i + round + 1) % len(all)
			r, err := c.beside(ctx, nodes, all[at])
			if err != nil {
				return "", fmt.Errorf("%s: %w", all[at].name, err)
			}
			if round >= 0 {
				results[at].alone = append(results[at].alone, r.alone...)
				results[at].beside = append(results[at].beside, r.beside...)
				results[at].cycles = append(results[at].cycles, r.cycles...)
			}
		}
		fmt.Fprintf(progress, "%s: round %d of %d\n", count(servers, "server"), round+1, c.rounds)
	}
	for i, r := range results {
		rows += r.row(all[i].name, servers)
	}
	return rows, nil
}

// beside is one round of one client.
func (c config) beside(ctx context.Context, nodes []*redistest.Server, k *contestant) (besides, error) {
	alone, err := k.cell(ctx, nodes, cycle, smallGoroutines, c.cell)
	if err != nil {
		return besides{}, err
	}
	s, ok := k.worker().(*store)
	if !ok {
		return besides{}, errors.New("not a store")
	}
	first := make(chan struct{})
	ended := make(chan error, 1)
	var stop atomic.Bool
	var cycles atomic.Int64
	go func() { ended <- s.large(ctx, first, &stop, &cycles) }()
	select {
	case <-first:
	case err := <-ended:
		return besides{}, err
	}
	before := cycles.Load()
	beside, err := k.cell(ctx, nodes, cycle, smallGoroutines, c.cell)
	during := cycles.Load() - before
	stop.Store(true)
	if err := errors.Join(err, <-ended); err != nil {
		return besides{}, err
	}
	return besides{[]sample{alone}, []sample{beside}, []float64{float64(during) / c.cell.Seconds()}}, nil
}

// large saves and loads a session of 1 MiB until stop is set, and closes first after the first save.
func (s *store) large(ctx context.Context, first chan<- struct{}, stop *atomic.Bool, cycles *atomic.Int64) error {
	id := sessionID(sessionsEach)
	data := bytes.Repeat([]byte(filler), largeSize/size)
	for i := 0; !stop.Load(); i++ {
		copy(data, fmt.Sprintf("%0*d", digits, i))
		if err := s.set(ctx, id, data); err != nil {
			return fmt.Errorf("1 MiB: %w", err)
		}
		if i == 0 {
			close(first)
		}
		got, err := s.get(ctx, id)
		if err != nil {
			return fmt.Errorf("1 MiB: %w", err)
		}
		if !bytes.Equal(got, data) {
			return errors.New("1 MiB: the session is another than was saved")
		}
		cycles.Add(1)
	}
	return nil
}

func (r besides) row(name string, servers int) string {
	var tails, rates []float64
	t := table{samples: map[key][]sample{{peer: "alone"}: r.alone, {peer: "beside"}: r.beside}}
	for i := range r.alone {
		tails = append(tails, p99(r.beside[i])/p99(r.alone[i]))
		rates = append(rates, r.beside[i].rate/r.alone[i].rate)
	}
	tail := spreadOf(tails)
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %d |", name, servers)
	for _, who := range []string{"alone", "beside"} {
		k := key{peer: who}
		fmt.Fprintf(&b, " %.0f / %.0f |", t.of(k, p50).median, t.of(k, p99).median)
	}
	fmt.Fprintf(&b, " %.2f (%.2f–%.2f) | %.2f | %.0f |\n", tail.median, tail.low, tail.high, median(rates), math.Round(median(r.cycles)))
	return b.String()
}

// peerNamed finds one of peers by its name, which is a constant of ours.
func peerNamed(name string) peer {
	for _, p := range peers() {
		if p.name == name {
			return p
		}
	}
	return peer{name: name, open: func(context.Context, []string) (opened, error) {
		return opened{}, errors.New("no such peer")
	}}
}
