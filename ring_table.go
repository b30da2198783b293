package sessionring

import (
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/buraksezer/consistent"
)

// The frozen table: for each partition the first nodes of its order of preference. Two bytes a node bound it to
// partitions × 8 × 2 bytes = 4 MiB for any number of nodes.
const tableDepth = 8

type table struct {
	depth uint     // nodes a row
	rows  []uint16 // partitions rows of node indexes
}

func (t *table) partitions() uint32    { return uint32(uint(len(t.rows)) / t.depth) }
func (t *table) owner(p uint32) int    { return int(t.rows[uint(p)*t.depth]) }
func (t *table) row(p uint32) []uint16 { return t.rows[uint(p)*t.depth:][:t.depth] }

// The owners are decided by buraksezer/consistent. One ring of all points would take it minutes with many nodes, for it
// sorts all points again after each member. So each partition is a ring of its own, and of the contenders only those of
// the lowest scores sit there, each with one point that lies as far from the partition's beginning as its score is
// high; the library walks from there to the first point. Its answer depends on nothing but the order in which the seats'
// points lie, so it is asked once for each of the 24 orders. (Asked for each partition it gives the same table in ten
// times the time.)
const maxSeats = 4

// newTable computes the rows on all processors; it returns when every goroutine has ended.
func newTable(f *field) *table {
	t := &table{depth: uint(min(tableDepth, len(f.contenders)))}
	t.rows = make([]uint16, partitions*t.depth)
	if len(f.contenders) == 1 {
		for p := range t.rows {
			t.rows[p] = uint16(f.contenders[0].node)
		}
		return t // nothing to decide
	}
	var cards deck
	if len(f.contenders) >= dealFrom {
		cards = deal(f)
	}
	var next atomic.Uint32
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			b := newTableBuilder(f, t)
			for {
				no := next.Add(1) - 1
				if no >= partitions/tile {
					return
				}
				if cards != nil {
					b.hands.sort(cards, no)
				}
				for p := no * tile; p < (no+1)*tile; p++ {
					b.freeze(p)
				}
			}
		})
	}
	wg.Wait()
	return t
}

// tableBuilder is one goroutine's share of the work, and the library's Hasher for the partition in hand.
type tableBuilder struct {
	f         *field
	t         *table
	distances *[partitions]uint32
	ranking   []scored // the lowest scores of a partition, in order
	best      []scored // the lowest score of each host, where hosts are named twice
	order     []scored // order of preference
	hands     *hands   // nil: every node is scored in every partition
	sorted    []scored // a hand
	members   []consistent.Member
	seats     [maxSeats]int32           // contenders as seated
	points    [maxSeats]uint64          // where their points lie
	decided   [1 << (2 * maxSeats)]seat // by order of the seats' points; undecided where not asked yet
}

func newTableBuilder(f *field, t *table) *tableBuilder {
	b := &tableBuilder{f: f, t: t, distances: distances()}
	for i := range min(maxSeats, len(f.contenders)) {
		b.members = append(b.members, seat(i))
	}
	for i := range b.decided {
		b.decided[i] = undecided
	}
	b.ranking = make([]scored, 0, t.depth)
	b.order = make([]scored, 0, t.depth)
	if len(f.contenders) >= dealFrom {
		b.hands = new(hands)
		b.sorted = make([]scored, 0, dealRoom)
	}
	if f.hosts < len(f.contenders) {
		b.best = make([]scored, f.hosts)
	}
	return b
}

// freeze fills the row of partition p.
func (b *tableBuilder) freeze(p uint32) {
	if b.hands == nil || !b.play(p) {
		b.rank(p)
		b.prefer()
	}
	row := b.t.row(p)
	for at, s := range b.order {
		row[at] = uint16(b.f.contenders[s.who].node)
	}
	order := b.sit()
	if b.decided[order] == undecided {
		b.decided[order] = b.ask()
	}
	own(row, uint16(b.f.contenders[b.seats[b.decided[order]]].node))
}

// own puts the owner that the library names at the head of its row. The scores have put it there already; should a
// version of the library ever decide otherwise, the row still names it once, and the golden placements fail.
//
//go:norace
func own(row []uint16, owner uint16) {
	for at, node := range row {
		if node == owner {
			copy(row[1:at+1], row[:at])
			break
		}
	}
	row[0] = owner
}

// seat is a member of a partition's ring.
type seat int8

const undecided seat = -1

// String returns one digit. The library then names points "0:1" (replica, seat), never in eight bytes as partitions.
func (s seat) String() string { return strconv.Itoa(int(s)) }

// sit seats the contenders of the lowest scores, in the order of their ids, places their points, and returns the order
// of the points: seat numbers of two bits, the lowest point first.
//
//go:norace
func (b *tableBuilder) sit() int {
	seated := b.ranking[:len(b.members)]
	order := 0
	var last uint64
	for k, s := range seated {
		at := 0
		for _, other := range seated {
			if other.who < s.who {
				at++
			}
		}
		// Below 2^62, as distances stay below 2^31.8. Scores nearer than the ring can tell apart keep their order.
		point := uint64(s.distance) << 30 / uint64(s.weight)
		if k > 0 && point <= last {
			point = last + 1
		}
		last = point
		b.seats[at], b.points[at] = s.who, point
		order |= at << (2 * k)
	}
	return order
}

// ask lets the library decide which seat the partition falls to.
func (b *tableBuilder) ask() seat {
	ring := consistent.New(b.members, consistent.Config{
		Hasher:            b,
		PartitionCount:    1,
		ReplicationFactor: 1,
		// No seat is ever full: a bound on loads would move ids between nodes that did not change.
		Load: float64(len(b.members) + 1),
	})
	return ring.GetPartitionOwner(0).(seat)
}

// Sum64 places what the library asks for: the partition at the beginning, a seat's point by the score of who sits there.
func (b *tableBuilder) Sum64(name []byte) uint64 {
	if len(name) == 8 {
		return 0
	}
	return b.points[name[2]-'0']
}

// rank fills ranking with the lowest scores of partition p, and best with the lowest of each host.
//
//go:norace
func (b *tableBuilder) rank(p uint32) {
	for h := range b.best {
		b.best[h].who = noContender
	}
	b.ranking = b.ranking[:0]
	// What a score must be below to enter a full ranking: limit.distance/limit.weight. Equal is not enough, for who is
	// in the ranking has the lower id.
	limit := scored{distance: math.MaxUint32, weight: 1}
	for i := range b.f.contenders {
		c := &b.f.contenders[i]
		rank := c.rank(p)
		threshold := uint64(limit.distance) * uint64(c.weight)
		// A distance is never below leastDistance of its rank; most ranks need no look into the distances' megabyte.
		if b.best == nil && leastDistance(rank)*uint64(limit.weight) >= threshold {
			continue
		}
		distance := b.distances[rank]
		if b.best != nil {
			s := scored{distance, c.weight, int32(i)}
			if first := &b.best[c.hostNo]; first.who == noContender || s.before(*first) {
				*first = s
			}
		}
		if uint64(distance)*uint64(limit.weight) >= threshold {
			continue
		}
		b.ranking = insert(b.ranking, scored{distance, c.weight, int32(i)})
		if len(b.ranking) == cap(b.ranking) {
			limit = b.ranking[len(b.ranking)-1]
		}
	}
}

// insert keeps the lowest cap(list) scores, in order.
//
//go:norace
func insert(list []scored, s scored) []scored {
	at := len(list)
	if at == cap(list) {
		at--
		if !s.before(list[at]) {
			return list
		}
	} else {
		list = list[:at+1]
	}
	for at > 0 && s.before(list[at-1]) {
		list[at] = list[at-1]
		at--
	}
	list[at] = s
	return list
}

// prefer fills order with the head of the order of preference: the foremost of each host, then the others.
//
//go:norace
func (b *tableBuilder) prefer() {
	b.order = b.order[:0]
	if b.best == nil {
		b.order = append(b.order, b.ranking...)
		return
	}
	for _, s := range b.best {
		b.order = insert(b.order, s)
	}
	// As many as there are hosts are foremost, so the ranking has enough others to fill up.
	for _, s := range b.ranking {
		if len(b.order) == cap(b.order) {
			break
		}
		if b.best[b.f.contenders[s.who].hostNo].who != s.who {
			b.order = append(b.order, s)
		}
	}
}
