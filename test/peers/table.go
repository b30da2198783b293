package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
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
	peers      []peer
	samples    map[key][]sample
	unpinned   error // why cells with one goroutine were not pinned to cores
}

func newTable(servers int, c config, all []*contestant) *table {
	t := &table{servers: servers, goroutines: c.goroutines, samples: map[key][]sample{}}
	for _, k := range all {
		t.peers = append(t.peers, k.peer)
	}
	return t
}

func (t *table) add(peer string, op operation, goroutines int, s sample) {
	k := key{peer, op, goroutines}
	t.samples[k] = append(t.samples[k], s)
}

// spread sums up what the rounds gave: the median, the middle half of the rounds, and all of them.
type spread struct{ median, low, high, least, most float64 }

// spreadOf is all zeros where there is nothing.
func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	return spread{quantile(v, 0.5), quantile(v, 0.25), quantile(v, 0.75), quantile(v, 0), quantile(v, 1)}
}

// of sums up one figure of a row.
func (t *table) of(k key, figure func(sample) float64) spread {
	var v []float64
	for _, s := range t.samples[k] {
		v = append(v, figure(s))
	}
	return spreadOf(v)
}

// ratio sums up a figure of a row divided by the same figure of another peer in the same round. Rounds where the other
// has none (CPU on an OS that does not tell it) are left out.
func (t *table) ratio(k key, against string, figure func(sample) float64) spread {
	var v []float64
	others := t.samples[key{against, k.op, k.goroutines}]
	for i, s := range t.samples[k] {
		if i < len(others) && figure(others[i]) > 0 {
			v = append(v, figure(s)/figure(others[i]))
		}
	}
	return spreadOf(v)
}

// Figures of a sample.
func rate(s sample) float64    { return s.rate }
func allocs(s sample) float64  { return s.allocs }
func client(s sample) float64  { return s.client }
func servers(s sample) float64 { return s.servers }
func p50(s sample) float64     { return float64(s.p50) / float64(time.Microsecond) }
func p99(s sample) float64     { return float64(s.p99) / float64(time.Microsecond) }

// quantile is the nearest rank's. It sorts v.
func quantile[T cmp.Ordered](v []T, q float64) T {
	slices.Sort(v)
	return v[int(q*float64(len(v)-1)+0.5)]
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprint(n, " ", noun, "s")
}

// heading says what a table is of.
func (t *table) heading(op operation, n int) string {
	text := fmt.Sprintf("`%v`, %s, %s", op, count(t.servers, "server"), count(n, "goroutine"))
	switch {
	case n != 1:
	case t.unpinned != nil:
		text += fmt.Sprintf(" (not pinned: %v)", t.unpinned)
	default:
		text += ", pinned"
	}
	return text
}

func (t *table) write(w io.Writer) error {
	var b bytes.Buffer
	for _, op := range []operation{cycle, read} {
		for _, n := range t.goroutines {
			fmt.Fprintf(&b, "### %s\n\n", t.heading(op, n))
			t.rows(&b, op, n)
			fmt.Fprintln(&b)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (t *table) rows(b *bytes.Buffer, op operation, n int) {
	fmt.Fprintf(b, "go-redis = 1 is %s requests a second.\n\n", thousands(t.of(key{reference, op, n}, rate).median))
	pulled := op == read && len(t.samples[key{lever, op, n}]) > 0
	second, line := "", ""
	if pulled {
		second, line = " GETEX = 1 |", "--:|"
	}
	fmt.Fprintln(b, "| peer | requests/s | middle half | all rounds |"+second+" p50 µs | p99 µs | allocations | client CPU µs | server CPU µs |")
	fmt.Fprintln(b, "|---|--:|---|---|"+line+"--:|--:|--:|--:|--:|")
	for _, p := range t.peers {
		if !p.does(op) {
			continue
		}
		k := key{p.name, op, n}
		r := t.ratio(k, reference, rate)
		fmt.Fprintf(b, "| %s | %.2f | %.2f–%.2f | %.2f–%.2f |", p.row(op), r.median, r.low, r.high, r.least, r.most)
		if pulled {
			fmt.Fprintf(b, " %.2f |", t.ratio(k, lever, rate).median)
		}
		fmt.Fprintf(b, " %.0f | %.0f | %.0f | %.1f | %.1f |\n", t.of(k, p50).median, t.of(k, p99).median,
			t.of(k, allocs).median, t.of(k, client).median, t.of(k, servers).median)
	}
}

// thousands writes a number as people read it: 46,172.
func thousands(v float64) string {
	s := fmt.Sprint(int64(math.Round(v)))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
