package main

import (
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/sessionring/sessionring"
)

// partitionBits is the size of the ring: an id's partition is in the top bits of its xxhash64 (docs/ring.md).
const (
	partitionBits = 18
	partitions    = 1 << partitionBits
)

// study is one run: what is assumed, what was measured, what follows from it, and the rings built so far.
type study struct {
	assumptions
	m     *measurements
	bytes byteCost
	rates rates
	ids   []string // one of each partition
	nodes []int    // how many, in the tables

	// What was worked out already: tables and plots share much.
	rings     map[string]*sessionring.Ring
	groupings map[[2]int]groups // by nodes and copies
	movements map[string]movement
}

func newStudy(a assumptions, m *measurements) (*study, error) {
	b, err := m.bytesOf(a.Payload)
	if err != nil {
		return nil, err
	}
	r, err := ratesOf(m, a.Rate)
	if err != nil {
		return nil, err
	}
	return &study{
		assumptions: a, m: m, bytes: b, rates: r, ids: oneIDEach(), nodes: nodeCounts,
		rings: map[string]*sessionring.Ring{}, groupings: map[[2]int]groups{}, movements: map[string]movement{},
	}, nil
}

// oneIDEach finds an id in every partition, so that asking for those ids is asking for the whole ring.
func oneIDEach() []string {
	ids := make([]string, partitions)
	for i, left := 0, partitions; left > 0; i++ {
		id := strconv.Itoa(i)
		p := xxhash.Sum64String(id) >> (64 - partitionBits)
		if ids[p] == "" {
			ids[p] = id
			left--
		}
	}
	return ids
}

// ring builds the ring of a list, once.
func (s *study) ring(l nodeList) (*sessionring.Ring, error) {
	name := fmt.Sprint(l)
	if r := s.rings[name]; r != nil {
		return r, nil
	}
	r, err := sessionring.NewRing(l.path())
	if err == nil {
		s.rings[name] = r
	}
	return r, err
}

// owners are the host numbers that hold each partition: partition p has owners[p*copies:][:copies].
func (s *study) owners(l nodeList, copies int) ([]int32, error) {
	r, err := s.ring(l)
	if err != nil {
		return nil, err
	}
	if copies > len(l.hosts) {
		return nil, fmt.Errorf("%d copies on %d nodes", copies, len(l.hosts))
	}
	out := make([]int32, 0, partitions*copies)
	var row []int
	for _, id := range s.ids {
		row = r.AppendOwners(row[:0], id, copies)
		for _, at := range row {
			out = append(out, int32(l.hosts[at]))
		}
	}
	return out, nil
}

// groups are who holds partitions together among n equal nodes.
func (s *study) groups(n, copies int) (groups, error) {
	at := [2]int{n, copies}
	if g, ok := s.groupings[at]; ok {
		return g, nil
	}
	owners, err := s.owners(equal(n), copies)
	if err != nil {
		return groups{}, err
	}
	g := newGroups(owners, n, copies)
	s.groupings[at] = g
	return g, nil
}
