package main

import (
	"fmt"
	"slices"

	"github.com/sessionring/sessionring"
)

// change is one change of a node list.
type change struct {
	what     string
	from, to nodeList
	touched  int // the host that is added, removed or reweighted
}

// changes are those that the tables look at: of one node among n.
func changes(n int, l nodeList) []change {
	at := n / 2
	mean := 0
	for _, w := range l.weights {
		mean += w
	}
	mean = max(1, mean/n)
	return []change{
		{"add one", l, l.with(n, mean), n},
		{"remove one", l, l.without(at), l.hosts[at]},
		{"double one's weight", l, l.reweighted(at, 2*l.weights[at]), l.hosts[at]},
	}
}

// movement is what a change moves, in fractions of all sessions.
type movement struct {
	sessionring.Plan         // by first owner
	changed          float64 // sessions with another set of owners
	made             float64 // copies that must be made; a session can need more than one
	strangers        float64 // sessions none of whose owners stays
	needless         float64 // sessions that an untouched node takes up and another untouched node gives away
}

// move counts every partition.
func (s *study) move(c change, copies int) (movement, error) {
	name := fmt.Sprint(c, copies)
	m, known := s.movements[name]
	if known {
		return m, nil
	}
	from, err := s.ring(c.from)
	if err != nil {
		return m, err
	}
	to, err := s.ring(c.to)
	if err != nil {
		return m, err
	}
	m.Plan = sessionring.PlanChange(from, to, 0)
	before, err := s.owners(c.from, copies)
	if err != nil {
		return m, err
	}
	after, err := s.owners(c.to, copies)
	if err != nil {
		return m, err
	}
	for p := range partitions {
		old, next := before[p*copies:][:copies], after[p*copies:][:copies]
		gained, given := 0, 0 // by untouched nodes
		changed, stays := false, false
		for i := range copies {
			if !slices.Contains(old, next[i]) {
				changed = true
				m.made++
				if next[i] != int32(c.touched) {
					gained++
				}
			} else {
				stays = true
			}
			if !slices.Contains(next, old[i]) && old[i] != int32(c.touched) {
				given++
			}
		}
		if changed {
			m.changed++
		}
		if !stays {
			m.strangers++
		}
		if gained > 0 && given > 0 {
			m.needless++
		}
	}
	for _, count := range []*float64{&m.changed, &m.made, &m.strangers, &m.needless} {
		*count /= partitions
	}
	s.movements[name] = m
	return m, nil
}
