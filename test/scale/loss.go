package main

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
)

// Losing sessions by faults that overlap. Each node fails by itself, independently of the others; the time from being
// whole to the next failure is exponential with mean MTBF; a failure empties it, and for a window after it (away, then
// the rejoin pass; fixed, not drawn) none of its sessions is on it. A session is lost when the last of its owners
// fails within the others' windows. It is assumed that nobody saves or reads anything meanwhile: a session that is
// saved has its copies again at once, on a stand-in, so this is the worst case.

// faults are times in seconds.
type faults struct {
	mtbf, window float64
}

// unavailable is the part of the time that a node spends in its window.
func (f faults) unavailable() float64 { return f.window / (f.mtbf + f.window) }

// perYear is how often a node fails.
func (f faults) perYear() float64 { return year.Seconds() / (f.mtbf + f.window) }

// lostShare is the closed form: sessions lost a year as a part of all. Each of the copies' owners may be the last to
// fail, and finds the others in their windows with the chance of their unavailability.
func (f faults) lostShare(copies int) float64 {
	return float64(copies) * f.perYear() * math.Pow(f.unavailable(), float64(copies-1))
}

// events is the closed form of how often a year a failure loses something: for each node, how often it fails times the
// chance that some group of nodes that completes one of its partitions is in its windows. With three copies, groups
// that share a node are taken as independent, which errs on the safe side by what they overlap.
func (f faults) events(g groups) float64 {
	sum := 0.0
	for _, k := range g.partners {
		if g.copies == 1 {
			sum += f.perYear()
			continue
		}
		none := math.Pow(1-math.Pow(f.unavailable(), float64(g.copies-1)), float64(k))
		sum += f.perYear() * (1 - none)
	}
	return sum
}

// group is the hosts that own a partition, in the order of their numbers; -1 where there are fewer than three copies.
type group [3]int32

// groupOf sorts hosts into a group.
func groupOf(hosts ...int32) group {
	g := group{-1, -1, -1}
	copy(g[:], hosts)
	slices.Sort(g[:])
	return g
}

// groups is which nodes hold partitions together.
type groups struct {
	copies   int
	nodes    int
	count    map[group]int // partitions
	partners []int         // how many different groups each node is in
}

func newGroups(owners []int32, nodes, copies int) groups {
	g := groups{copies: copies, nodes: nodes, count: map[group]int{}, partners: make([]int, nodes)}
	for p := range partitions {
		held := owners[p*copies:][:copies]
		key := groupOf(held...)
		if g.count[key]++; g.count[key] == 1 {
			for _, o := range held {
				g.partners[o]++
			}
		}
	}
	return g
}

// complete counts the partitions that node owns together with nodes that are away, and with no others.
func (g groups) complete(node int32, away []int32) int {
	lost := 0
	switch g.copies {
	case 1:
		lost = g.count[groupOf(node)]
	case 2:
		for _, a := range away {
			lost += g.count[groupOf(node, a)]
		}
	case 3:
		for i, a := range away {
			for _, b := range away[:i] {
				lost += g.count[groupOf(node, a, b)]
			}
		}
	}
	return lost
}

// outcome is what a simulation saw.
type outcome struct {
	years    float64
	failures int
	events   int     // failures that lost something
	badYears int     // years with such a failure
	lost     float64 // share of all sessions, summed up
}

// failure is the next one of a node.
type failure struct {
	at   float64
	node int32
}

// schedule is a heap of failures by time.
type schedule []failure

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at < s[j].at }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)        { *s = append(*s, x.(failure)) }
func (s *schedule) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// simulate plays so many failures of nodes, one after the other. It draws from the seed alone.
func (f faults) simulate(g groups, failures int, seed uint64) outcome {
	draw := rand.New(rand.NewPCG(seed, uint64(g.nodes*10+g.copies)))
	upFor := func() float64 { return -f.mtbf * math.Log(1-draw.Float64()) }
	next := make(schedule, g.nodes)
	for i := range next {
		next[i] = failure{upFor(), int32(i)}
	}
	heap.Init(&next)
	var out outcome
	lastYear := -1
	until := make([]float64, g.nodes) // the end of each node's window
	var away []int32                  // nodes in their windows, the first to end first: all windows are as long
	for out.failures < failures {
		now, node := next[0].at, next[0].node
		for len(away) > 0 && until[away[0]] <= now {
			away = away[1:]
		}
		if lost := g.complete(node, away); lost > 0 {
			out.events++
			if y := int(now / year.Seconds()); y != lastYear {
				lastYear = y
				out.badYears++
			}
			out.lost += float64(lost) / partitions
		}
		until[node] = now + f.window
		away = append(away, node)
		next[0].at = until[node] + upFor()
		heap.Fix(&next, 0)
		out.failures++
		out.years = now / year.Seconds()
	}
	return out
}
