package sessionring

import (
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// With many nodes most scores of a partition are far from the lowest, and scoring every node in every partition takes
// seconds. A node's permutation can be walked the other way round, too: from its lowest score up it names the
// partitions. Dealing does so for each node up to one common score, which leaves about sixteen contenders a partition
// whatever the number of nodes. All whose score is at most the common one are dealt, so eight of them in a partition
// are its eight lowest. Where fewer came, or more than there is room for, all nodes are scored.
const (
	dealFrom = 24 // nodes; below, scoring all is as fast
	dealMean = 16 // contenders a partition: fewer than 8 or more than dealRoom in 1 of 100
	dealRoom = 32

	tileBits = 12 // partitions are dealt and frozen a tile at a time, for the sake of the processor's cache
	tile     = 1 << tileBits
)

// deck holds what was dealt, by dealer and tile: the partition within its tile, then 16 bits of the contender.
type deck [][partitions / tile][]uint32

func deal(f *field) deck {
	all := make(deck, min(runtime.GOMAXPROCS(0), len(f.contenders)))
	common := commonScore(f)
	d := distances()
	var next atomic.Int32
	var wg sync.WaitGroup
	for dealer := range all {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(f.contenders) {
					return
				}
				c := &f.contenders[i]
				over, limit := bits.Mul64(common, uint64(c.weight))
				if over > 0 {
					limit = math.MaxUint64 // all its scores are lower
				}
				for rank, distance := range d {
					if uint64(distance)<<commonBits > limit {
						break
					}
					p := c.unrank(uint32(rank))
					cards := &all[dealer][p>>tileBits]
					*cards = append(*cards, p%tile<<16|uint32(i))
				}
			}
		})
	}
	wg.Wait()
	return all
}

// hands are the contenders dealt to the partitions of one tile.
type hands struct {
	dealt [tile]int32 // how many, also those without room
	who   [tile * dealRoom]uint16
}

// sort fills the hands of tile number no.
func (h *hands) sort(all deck, no uint32) {
	clear(h.dealt[:])
	for dealer := range all {
		for _, card := range all[dealer][no] {
			p := card >> 16
			if k := h.dealt[p]; k < dealRoom {
				h.who[p*dealRoom+uint32(k)] = uint16(card)
			}
			h.dealt[p]++
		}
	}
}

// commonBits is how much finer than the units of distances the common score is.
const commonBits = 20

// commonScore returns the score that dealMean contenders a partition are at most, in the mean. Floating point may round
// it as it likes: it decides what is computed how, not what comes out.
func commonScore(f *field) uint64 {
	lowest := uint32(math.MaxUint32)
	for i := range f.contenders {
		lowest = min(lowest, f.contenders[i].weight)
	}
	low, high := 0.0, 16/float64(lowest) // at 16/weight nearly all of a node's scores are lower
	for range 60 {
		mid, sum := (low+high)/2, 0.0
		for i := range f.contenders {
			sum += -math.Expm1(-mid * float64(f.contenders[i].weight))
		}
		if sum < dealMean {
			low = mid
		} else {
			high = mid
		}
	}
	return uint64(high * (1 << (28 + commonBits)))
}

// play fills ranking and order from the hand of partition p; it returns false where the hand does not suffice.
func (b *tableBuilder) play(p uint32) bool {
	at := p % tile
	depth, dealt := int(b.t.depth), int(b.hands.dealt[at])
	if dealt < depth || dealt > dealRoom {
		return false
	}
	sorted := b.sorted[:0:depth]
	if b.best != nil {
		sorted = b.sorted[:0] // the foremost of a host may lie far behind
	}
	for _, i := range b.hands.who[at*dealRoom:][:dealt] {
		c := &b.f.contenders[i]
		sorted = insert(sorted, scored{b.distances[c.rank(p)], c.weight, int32(i)})
	}
	b.ranking = append(b.ranking[:0], sorted[:depth]...)
	b.order = b.order[:0]
	if b.best == nil {
		b.order = append(b.order, b.ranking...)
		return true
	}
	firsts := min(b.f.hosts, cap(b.order))
	for _, s := range sorted {
		if len(b.order) == firsts {
			break
		}
		host := b.f.contenders[s.who].hostNo
		if !slices.ContainsFunc(b.order, func(o scored) bool { return b.f.contenders[o.who].hostNo == host }) {
			b.order = append(b.order, s)
		}
	}
	if len(b.order) < firsts {
		return false // the foremost of other hosts were not dealt
	}
	for _, s := range sorted {
		if len(b.order) == cap(b.order) {
			break
		}
		if !slices.Contains(b.order[:firsts], s) {
			b.order = append(b.order, s)
		}
	}
	return true
}
