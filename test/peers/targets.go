package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// A target is a goal of the project for one row at some numbers of goroutines.
type target struct {
	goal    string
	servers int
	peer    string
	against string // the peer of the same round that it is a ratio to; "" is the figure itself
	op      operation
	figure  func(sample) float64
	bound   bound
	at      []int     // goroutines
	want    []float64 // of each
}

// bound says on which side of a target is good.
type bound string

const (
	atLeast bound = "≥"
	atMost  bound = "≤"
	below   bound = "<"
)

func (b bound) holds(v, want float64) bool {
	switch b {
	case atLeast:
		return v >= want
	case atMost:
		return v <= want
	default:
		return v < want
	}
}

// targets are those that the project set itself before it was fast.
func targets() []target {
	under, everywhere := []int{16, 64}, []int{1, 16, 64}
	all := []target{
		{"one copy: requests/s", 1, clientOne, reference, cycle, rate, atLeast, under, []float64{1.2, 2}},
		{"one copy: client CPU", 1, clientOne, reference, cycle, client, atMost, under, []float64{0.7, 0.5}},
		{"one copy: allocations", 1, clientOne, "", cycle, allocs, atMost, everywhere, []float64{15, 15, 15}},
		{"two copies against go-redis's one: requests/s", 3, clientTwo, reference, cycle, rate, atLeast, everywhere, []float64{0.75, 0.75, 1}},
		{"one copy, against GET and EXPIRE: requests/s", 1, clientOne, reference, read, rate, atLeast, under, []float64{2, 3}},
	}
	for _, op := range []operation{cycle, read} {
		for _, p := range []string{clientOne, websiteOne} {
			all = append(all, target{p + ", against scs: requests/s", 1, p, scsName, op, rate, atLeast, everywhere, []float64{2, 2, 2}})
		}
	}
	for _, op := range []operation{cycle, read} {
		all = append(all,
			target{"one copy: p99", 1, clientOne, reference, op, p99, below, under, []float64{1, 1}},
			target{"two copies against go-redis's one: p99", 3, clientTwo, reference, op, p99, below, under, []float64{1, 1}})
	}
	return all
}

// outcome is what a run says of a target at one number of goroutines.
type outcome struct {
	measured bool
	spread
	met bool
}

// judge compares medians, not rounded.
func (g target) judge(tables []*table) []outcome {
	out := make([]outcome, len(g.at))
	i := slices.IndexFunc(tables, func(t *table) bool { return t.servers == g.servers })
	if i < 0 {
		return out
	}
	for j, n := range g.at {
		k := key{g.peer, g.op, n}
		s := tables[i].of(k, g.figure)
		if g.against != "" {
			s = tables[i].ratio(k, g.against, g.figure)
		}
		if s == (spread{}) {
			continue
		}
		out[j] = outcome{true, s, g.bound.holds(s.median, g.want[j])}
	}
	return out
}

func (o outcome) verdict() string {
	switch {
	case !o.measured:
		return "not measured"
	case o.met:
		return "met"
	default:
		return "not met"
	}
}

// figure is the median with the middle half of the rounds.
func (o outcome) figure() string {
	if !o.measured {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", o.median, o.low, o.high)
}

func writeTargets(w io.Writer, goals []target, tables []*table) error {
	var b strings.Builder
	b.WriteString("| target | operation | servers | goroutines | wanted | reached (middle half) | |\n|---|---|--:|---|---|---|---|\n")
	for _, g := range goals {
		var at, want, reached, verdicts []string
		for i, o := range g.judge(tables) {
			at = append(at, fmt.Sprint(g.at[i]))
			want = append(want, fmt.Sprint(g.want[i]))
			reached = append(reached, o.figure())
			verdicts = append(verdicts, o.verdict())
		}
		if len(slices.Compact(slices.Clone(verdicts))) == 1 {
			verdicts = verdicts[:1]
		}
		if len(slices.Compact(slices.Clone(want))) == 1 {
			want = want[:1]
		}
		fmt.Fprintf(&b, "| %s | `%v` | %d | %s | %s %s | %s | %s |\n", g.goal, g.op, g.servers, strings.Join(at, " / "),
			g.bound, strings.Join(want, " / "), strings.Join(reached, " / "), strings.Join(verdicts, " / "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
