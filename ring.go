package sessionring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Limits of a ring.
const (
	maxRingNodes  = 1<<16 - 1 // the table holds 16 bits a node
	maxRingWeight = 1<<31 - 1 // phpredis reads weights into a C int
)

// ErrRing matches every refusal of NewRing.
var ErrRing = errors.New("sessionring: no ring")

// RingError says why NewRing refused a SavePath, and what to write instead. It matches ErrRing.
type RingError struct {
	Node   int    // index of the entry to blame, -1 where it is the list as a whole
	Offset int    // byte offset of that entry in the save_path
	Entry  string // what it serves, as tcp://host:port; holds no password
	Reason string // what is wrong, and the remedy
}

// Error names the entry and the reason.
func (e *RingError) Error() string {
	if e.Node < 0 {
		return fmt.Sprintf("%v: %s", ErrRing, e.Reason)
	}
	return fmt.Sprintf("%v: entry %d at offset %d (%s): %s", ErrRing, e.Node+1, e.Offset, e.Entry, e.Reason)
}

// Is matches ErrRing.
func (e *RingError) Is(target error) bool { return target == ErrRing }

// Ring places session ids on the nodes of one save_path. It never changes once built and is safe for any number of
// goroutines. Nodes are named by their index in SavePath.Nodes.
//
// The placement is a function of the id and of what the nodes serve (network, address, database) and weigh, of nothing
// else: the order of the entries, prefixes, passwords and timeouts move no session. (With PHPRedis the order counts,
// because it does for the extension.)
type Ring struct {
	nodes        []Node
	distribution Distribution
	copies       int
	field        *field
	table        *table        // Consistent
	php          *phpredisRule // PHPRedis
	scratch      sync.Pool     // *scratch: orders that the table does not hold
	counted      sync.Once     // shares, when first asked for: a walk through the whole table
	shares       []float64
}

// NewRing builds the ring of sp. What it needs is Kind, Nodes (Network, Address, Database, Weight, Prefix; a zero
// Weight is 1) and Settings.Distribution and Settings.Copies.
//
// With Consistent this takes a processor 30 ms for three nodes, 150 for ten and 300 for a thousand (docs/ring.md), and
// it uses all processors: build it off the path of a request. Errors are *RingError and match ErrRing: no nodes, more
// than 65,535, a weight outside 1 to 2147483647, one node named twice with two prefixes, weights that phpredis cannot
// add, a kind that has no ring (Redis Cluster and Sentinel distribute by themselves).
func NewRing(sp *SavePath) (*Ring, error) {
	if sp == nil || len(sp.Nodes) == 0 && sp.Kind == KindNodes {
		return nil, &RingError{Node: -1, Reason: "the save_path names no node; write at least tcp://host:6379"}
	}
	if sp.Kind != KindNodes {
		return nil, &RingError{Node: -1, Reason: fmt.Sprintf("a %s save_path has no ring: the %s decides where a session lives", sp.Kind, sp.Kind)}
	}
	if len(sp.Nodes) > maxRingNodes {
		return nil, &RingError{Node: -1, Reason: fmt.Sprintf("%d nodes, at most %d can share a ring; use Redis Cluster (seed[]=…)", len(sp.Nodes), maxRingNodes)}
	}
	if sp.Settings.Copies < 0 {
		return nil, &RingError{Node: -1, Reason: fmt.Sprintf("copies=%d; write 1 or more", sp.Settings.Copies)}
	}
	r := &Ring{nodes: append([]Node(nil), sp.Nodes...), distribution: sp.Settings.Distribution}
	r.scratch.New = func() any { return new(scratch) }
	if r.distribution == "" {
		r.distribution = Consistent
	}
	var err error
	switch r.distribution {
	case Consistent:
		if r.field, err = newField(r.nodes, true); err != nil {
			return nil, err
		}
		r.table = newTable(r.field)
		if r.copies = sp.Settings.Copies; r.copies == 0 {
			r.copies = DefaultCopies
		}
		r.copies = min(r.copies, len(r.field.contenders))
	case PHPRedis:
		// The field orders the nodes that stand in; PHP never asks them, so no table is worth its building.
		if r.field, err = newField(r.nodes, false); err != nil {
			return nil, err
		}
		if r.php, err = newPHPRedisRule(r.nodes, r.field); err != nil {
			return nil, err
		}
		r.copies = 1
	default:
		return nil, &RingError{Node: -1, Reason: fmt.Sprintf("unknown distribution %q; write %s or %s", r.distribution, Consistent, PHPRedis)}
	}
	return r, nil
}

// partitionOf is where an id lies on the ring: the top bits of the xxhash64 of the id, without any prefix.
func partitionOf(id string) uint32 { return uint32(xxhash.Sum64String(id) >> (64 - partitionBits)) }

// Owner returns the index of the node that id lives on. It allocates nothing.
// With PHPRedis ask Check first: it is what refuses ids that phpredis reads beyond their end.
func (r *Ring) Owner(id string) int {
	if r.php != nil {
		return r.php.entry(id)
	}
	return r.table.owner(partitionOf(id))
}

// Owners returns the indexes of the Copies() nodes that hold id, the first owner first.
func (r *Ring) Owners(id string) []int {
	return r.AppendOwners(make([]int, 0, r.copies), id, r.copies)
}

// AppendOwners appends the first n nodes of id's order of preference to dst, all of them where there are fewer.
// With room in dst it allocates nothing.
func (r *Ring) AppendOwners(dst []int, id string, n int) []int {
	if n <= 0 {
		return dst
	}
	if r.php != nil {
		return r.appendPHPRedis(dst, id, n)
	}
	p := partitionOf(id)
	n = min(n, len(r.field.contenders))
	if uint(n) > r.table.depth {
		return r.appendOrder(dst, p, noContender, n)
	}
	for _, node := range r.table.row(p)[:n] {
		dst = append(dst, int(node))
	}
	return dst
}

// Preference appends all nodes in id's order of preference to dst: the owners, then those that stand in when owners
// are away. A node that goes away leaves the order of the others as it is, whether it died or was taken off the list.
// Of several databases or ports of one host the foremost comes first and the others after all other hosts, for they
// fall together; where no host is named twice this changes nothing. A node named by two entries is listed once.
// With room in dst it allocates nothing. Beyond the first eight nodes the order is computed, 0.1 µs a node or less.
func (r *Ring) Preference(dst []int, id string) []int {
	return r.AppendOwners(dst, id, len(r.nodes))
}

// Copies returns how many nodes hold each session: Settings.Copies, else DefaultCopies, but no more than there are
// different nodes. With PHPRedis it is 1, because PHP writes one.
func (r *Ring) Copies() int { return r.copies }

// Distribution returns the distribution in use.
func (r *Ring) Distribution() Distribution { return r.distribution }

// Nodes returns the entries that the ring's indexes mean, in the order of the save_path.
func (r *Ring) Nodes() []Node { return append([]Node(nil), r.nodes...) }

// Shares returns for each node the exact share of all ids that it is the first owner of, together 1.
// Of entries that name one node the first has the share of all with Consistent.
func (r *Ring) Shares() []float64 {
	r.counted.Do(func() { r.shares = r.countShares() })
	return append([]float64(nil), r.shares...)
}

func (r *Ring) countShares() []float64 {
	shares := make([]float64, len(r.nodes))
	if r.php != nil {
		for i := range shares {
			shares[i] = r.php.share(i)
		}
		return shares
	}
	for p := range r.table.partitions() {
		shares[r.table.owner(p)]++
	}
	for i := range shares {
		shares[i] /= partitions
	}
	return shares
}

// Check refuses ids that the distribution cannot place: with PHPRedis those under three bytes, because the extension
// reads four bytes and where they end too early what it reads is chance. The error matches ErrID.
func (r *Ring) Check(id string) error {
	if r.php != nil && len(id) < phpredisMinID {
		return fmt.Errorf("%w: distribution phpredis needs %d bytes or more, this one has %d", ErrID, phpredisMinID, len(id))
	}
	return nil
}

// newField validates the nodes and merges entries of one node. With onePrefix, entries of one node must agree on the
// prefix: only one of them will be used.
func newField(nodes []Node, onePrefix bool) (*field, error) {
	type distinct struct {
		id     string
		first  int // entry
		weight int64
	}
	var found []*distinct
	byID := make(map[string]*distinct, len(nodes))
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.ID()
		refuse := func(format string, args ...any) error {
			return &RingError{Node: i, Offset: n.Offset, Entry: ids[i], Reason: fmt.Sprintf(format, args...)}
		}
		weight := weightOf(n)
		if weight < 1 || weight > maxRingWeight {
			return nil, refuse("weight %d; write 1 to %d", n.Weight, maxRingWeight)
		}
		d := byID[ids[i]]
		if d == nil {
			d = &distinct{id: ids[i], first: i}
			byID[d.id] = d
			found = append(found, d)
		}
		if first := nodes[d.first]; onePrefix && first.Prefix != n.Prefix {
			return nil, refuse("named before at offset %d with prefix %q, now with %q; name it once, or with one prefix", first.Offset, first.Prefix, n.Prefix)
		}
		if d.weight += weight; d.weight > maxRingWeight {
			return nil, refuse("named more than once, with weights that add up to more than %d; name it once", maxRingWeight)
		}
	}
	// In the order of their ids, so that equal scores fall the same way whatever the order of the list.
	slices.SortFunc(found, func(a, b *distinct) int { return strings.Compare(a.id, b.id) })
	f := &field{entry: make([]int, len(nodes))}
	number := make(map[string]int, len(found))
	hosts := make(map[string]int32)
	for i, d := range found {
		host := nodes[d.first].Host()
		no, ok := hosts[host]
		if !ok {
			no = int32(len(hosts))
			hosts[host] = no
		}
		f.contenders = append(f.contenders, newContender(d.id, d.first, uint32(d.weight), no))
		number[d.id] = i
	}
	f.hosts = len(hosts)
	for i, id := range ids {
		f.entry[i] = number[id]
	}
	return f, nil
}

// weightOf is the weight of an entry; 0, of a Node made by hand, is the default of 1.
func weightOf(n Node) int64 {
	if n.Weight == 0 {
		return 1
	}
	return int64(n.Weight)
}
