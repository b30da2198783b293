package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// key is a row.
type key struct {
	peer       string
	op         operation
	goroutines int
}

// table holds the samples of all rounds on one number of servers.
type table struct {
	servers    int
	goroutines []int
	peers      []string
	samples    map[key][]sample
}

func newTable(servers int, c config, all []*contestant) *table {
	t := &table{servers: servers, goroutines: c.goroutines, samples: map[key][]sample{}}
	for _, k := range all {
		t.peers = append(t.peers, k.name)
	}
	return t
}

func (t *table) add(peer string, op operation, goroutines int, s sample) {
	k := key{peer, op, goroutines}
	t.samples[k] = append(t.samples[k], s)
}

// row sums up what the rounds gave.
type row struct {
	ratio, least, most float64 // to the reference of the same round
	p50, p99           time.Duration
	allocs, cpu        float64
}

func (t *table) row(k key) row {
	var ratios, allocs, cpu []float64
	var latency []time.Duration
	against := t.samples[key{reference, k.op, k.goroutines}]
	for i, s := range t.samples[k] {
		ratios = append(ratios, s.rate/against[i].rate)
		allocs, cpu = append(allocs, s.allocs), append(cpu, s.cpu)
		latency = append(latency, s.latency...)
	}
	return row{
		median(ratios), slices.Min(ratios), slices.Max(ratios),
		quantile(latency, 0.5), quantile(latency, 0.99), median(allocs), median(cpu),
	}
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile is the nearest rank's. It sorts v.
func quantile[T cmp.Ordered](v []T, q float64) T {
	slices.Sort(v)
	return v[int(q*float64(len(v)-1)+0.5)]
}

func (t *table) write(w io.Writer) error {
	var b bytes.Buffer
	noun := "servers"
	if t.servers == 1 {
		noun = "server"
	}
	for _, op := range []operation{cycle, read} {
		for _, n := range t.goroutines {
			goroutines := "goroutines"
			if n == 1 {
				goroutines = "goroutine"
			}
			fmt.Fprintf(&b, "`%v`, %d %s, %d %s:\n\n", op, t.servers, noun, n, goroutines)
			fmt.Fprintln(&b, "| peer | requests/s, go-redis = 1 | p50 ms | p99 ms | allocations | CPU µs |")
			fmt.Fprintln(&b, "|---|---|--:|--:|--:|--:|")
			for _, p := range t.peers {
				r := t.row(key{p, op, n})
				fmt.Fprintf(&b, "| %s | %.2f (%.2f–%.2f) | %.2f | %.2f | %.0f | %.0f |\n", p, r.ratio, r.least, r.most,
					float64(r.p50)/float64(time.Millisecond), float64(r.p99)/float64(time.Millisecond), r.allocs, r.cpu)
			}
			fmt.Fprintln(&b)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
