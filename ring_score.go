package sessionring

// The functions marked go:norace share nothing: a table is 2^18 partitions of arithmetic, and instrumenting it made
// every program under -race stall for seconds when it opened a Client.

import (
	"cmp"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// How ids are placed. Changing anything in this file logs users out: it takes a new Distribution.
//
// The ring has a fixed number of partitions. In each of them every node has a score, the lowest wins, and the order of
// the scores is the order of preference: weighted rendezvous hashing (score = -ln(u)/weight, see Schindelhauer and
// Schomaker, "Weighted distributed hash tables", SPAA 2005). A score depends on the partition and on that node alone,
// so adding, removing or reweighting a node changes no order between two others, and only the ratio of weights counts.
//
// u is not drawn for each partition by itself. Each node deals the ranks 0 to partitions-1 out to the partitions by a
// pseudo-random permutation of its own, u = 1-(rank+½)/partitions. So each node has its lowest score exactly once, and
// so on, which halves the variance of a small node's share. Low-discrepancy permutations (random linear maps over
// GF(2)) were measured too: better in the median, but once in a hundred lists two nodes' maps resemble each other and
// a share is off by a quarter. docs/ring.md has the figures.
//
// Everything is integer arithmetic, so that every processor and compiler places alike: floating point logarithms and
// fused multiplication differ in the last bit between architectures.
const (
	partitionBits = 18
	partitions    = 1 << partitionBits

	halfBits = partitionBits / 2
	halfMask = 1<<halfBits - 1
)

// contender is a node as it competes for partitions.
type contender struct {
	keys   [4]uint64 // of its permutation
	weight uint32    // at most maxRingWeight
	hostNo int32     // number of its host, from 0: nodes of one host fall together
	node   int32     // index in SavePath.Nodes of the first entry that names it
}

// field is the set of contenders, in the order of their ids.
type field struct {
	contenders []contender
	hosts      int   // different hosts
	entry      []int // contender of each entry of the save_path
}

const noContender = -1

// newContender derives the keys of its permutation from its id.
func newContender(id string, node int, weight uint32, hostNo int32) contender {
	c := contender{weight: weight, hostNo: hostNo, node: int32(node)}
	seed := xxhash.Sum64String(id)
	for k := range c.keys {
		seed += 0x9e3779b97f4a7c15
		c.keys[k] = mix64(seed)
	}
	return c
}

// mix64 is the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
//
//go:norace
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// rank is the node's permutation of the partitions: a Feistel network of four rounds over the halves of the number.
//
//go:norace
func (c *contender) rank(p uint32) uint32 {
	left, right := uint64(p)>>halfBits, uint64(p)&halfMask
	left ^= feistelRound(right ^ c.keys[0])
	right ^= feistelRound(left ^ c.keys[1])
	left ^= feistelRound(right ^ c.keys[2])
	right ^= feistelRound(left ^ c.keys[3])
	return uint32(left<<halfBits | right)
}

// unrank is the inverse of rank.
//
//go:norace
func (c *contender) unrank(rank uint32) uint32 {
	left, right := uint64(rank)>>halfBits, uint64(rank)&halfMask
	right ^= feistelRound(left ^ c.keys[3])
	left ^= feistelRound(right ^ c.keys[2])
	right ^= feistelRound(left ^ c.keys[1])
	left ^= feistelRound(right ^ c.keys[0])
	return uint32(left<<halfBits | right)
}

//go:norace
func feistelRound(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x >> (64 - halfBits)
}

// distances returns -ln(1-(rank+½)/partitions) of every rank, in units of 2^-28: strictly rising, below 2^32.
// It is a constant, 1 MiB, computed when first needed.
var distances = sync.OnceValue(func() *[partitions]uint32 {
	// With m = 2·partitions-2·rank-1 the distance is ln(2·partitions/m): the sum of steps ln(m/(m-2)), each
	// 2·artanh(1/(m-1)), here in units of 2^-60. The rounding of a quarter of a million steps stays below 2^-40.
	const two = 2 * partitions
	out := new([partitions]uint32)
	sum := twiceArtanh(2*two - 1)
	for rank := range out {
		out[rank] = uint32((sum + 1<<31) >> 32)
		if m := uint64(two - 2*rank - 1); m > 1 {
			sum += twiceArtanh(m - 1)
		}
	}
	return out
})

// leastDistance returns (rank+½)/partitions in the units of distances, which -ln(1-x) is never below.
//
//go:norace
func leastDistance(rank uint32) uint64 { return uint64(2*rank+1) << (28 - partitionBits - 1) }

// twiceArtanh returns 2·artanh(1/n) in units of 2^-60, by its power series.
//
//go:norace
func twiceArtanh(n uint64) uint64 {
	const one = 1 << 60
	var sum uint64
	for power, k := uint64(one)/n, uint64(1); power > 0; k += 2 {
		sum += power / k
		if n > 1<<30 {
			break // the next power is below the unit, and n·n would not fit
		}
		power /= n * n
	}
	return 2 * sum
}

// scored is a contender with its distance in one partition.
type scored struct {
	distance uint32
	weight   uint32
	who      int32 // contender
}

// before orders by distance/weight without dividing: both products stay below 2^63. Equal scores fall by id.
//
//go:norace
func (a scored) before(b scored) bool { return compareScores(a, b) < 0 }

//go:norace
func compareScores(a, b scored) int {
	x, y := uint64(a.distance)*uint64(b.weight), uint64(b.distance)*uint64(a.weight)
	if x != y {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a.who, b.who)
}

// scratch is what computing an order needs.
type scratch struct {
	order []scored
	seen  []bool // by host
}

// appendOrder appends the first n nodes of partition p's order of preference, computed from the scores of all nodes.
// The contender first, if any, is taken as already chosen and left out.
func (r *Ring) appendOrder(dst []int, p uint32, first, n int) []int {
	s := r.scratch.Get().(*scratch)
	defer r.scratch.Put(s)
	r.field.order(s, p)
	s.seen = slices.Grow(s.seen[:0], r.field.hosts)[:r.field.hosts]
	clear(s.seen)
	if first != noContender {
		s.seen[r.field.contenders[first].hostNo] = true
	}
	end := len(dst) + n
	// The foremost of each host, then the others.
	for i, e := range s.order {
		if len(dst) == end {
			return dst
		}
		c := &r.field.contenders[e.who]
		switch {
		case int(e.who) == first:
			s.order[i].who = noContender
		case !s.seen[c.hostNo]:
			s.seen[c.hostNo] = true
			s.order[i].who = noContender
			dst = append(dst, int(c.node))
		}
	}
	for _, e := range s.order {
		if len(dst) == end {
			return dst
		}
		if e.who != noContender {
			dst = append(dst, int(r.field.contenders[e.who].node))
		}
	}
	return dst
}

// order fills s.order with all contenders, lowest score first.
func (f *field) order(s *scratch, p uint32) {
	d := distances()
	s.order = s.order[:0]
	for i := range f.contenders {
		c := &f.contenders[i]
		s.order = append(s.order, scored{d[c.rank(p)], c.weight, int32(i)})
	}
	slices.SortFunc(s.order, compareScores)
}
