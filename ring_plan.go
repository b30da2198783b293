package sessionring

import (
	"fmt"
	"math/rand/v2"
)

// DefaultPlanSamples is how many ids PlanChange draws where it cannot count exactly.
const DefaultPlanSamples = 100_000

// Plan says what a change of rings moves: fractions of all ids, by their first owner.
type Plan struct {
	Moved            float64    // ids that get another first owner
	Minimum          float64    // the least that any placement must move to get from the old shares to the new ones
	BetweenUnchanged float64    // of Moved: from and to a node that is in both rings with the same weight
	PerNode          []PlanNode // the new ring's nodes in its order, then those that are gone in the old ring's order
	Samples          int        // ids that were drawn; 0: every partition was counted, the fractions are exact
}

// PlanNode is what a change does to one node.
type PlanNode struct {
	Node     string // as Node.ID
	OldIndex int    // in the old ring's nodes, -1: added
	NewIndex int    // in the new ring's nodes, -1: removed
	OldShare float64
	NewShare float64
	In       float64 // ids that come to it
	Out      float64 // ids that leave it
}

// PlanChange compares two rings. Nodes are the same when they serve the same (Node.ID), wherever they stand in their
// lists; entries that name one node are taken together. Between two rings of the distribution Consistent it counts
// exactly. Otherwise it draws ids as PHP makes them, always the same ones, samples of them (0 or less:
// DefaultPlanSamples), and the shares are those of the drawn ids.
func PlanChange(from, to *Ring, samples int) Plan {
	c := newComparison(from, to)
	if from.table != nil && to.table != nil {
		for p := range from.table.partitions() {
			c.count(from.table.owner(p), to.table.owner(p))
		}
		return c.plan()
	}
	if samples <= 0 {
		samples = DefaultPlanSamples
	}
	draw := rand.New(rand.NewPCG(1, 2))
	for range samples {
		id := drawID(draw)
		c.count(from.Owner(id), to.Owner(id))
	}
	plan := c.plan()
	plan.Samples = samples
	return plan
}

// drawID returns an id as PHP 8 makes them with 5 bits a character (session.sid_bits_per_character).
func drawID(draw *rand.Rand) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuv"
	var id [26]byte
	for i := range id {
		id[i] = alphabet[draw.IntN(len(alphabet))]
	}
	return string(id[:])
}

// comparison counts moves between the nodes of two rings.
type comparison struct {
	nodes     []PlanNode
	unchanged []bool
	oldNode   []int // number in nodes by index in the old ring
	newNode   []int
	total     int
	moved     int
	between   int
	counts    []struct{ before, after, in, out int }
}

func newComparison(from, to *Ring) *comparison {
	c := &comparison{oldNode: make([]int, len(from.nodes)), newNode: make([]int, len(to.nodes))}
	number := make(map[string]int)
	weights := make(map[string][2]int64)
	add := func(ring *Ring, side int, to []int) {
		for i, n := range ring.nodes {
			id := n.ID()
			w := weights[id]
			w[side] += weightOf(n)
			weights[id] = w
			at, known := number[id]
			if !known {
				at = len(c.nodes)
				number[id] = at
				c.nodes = append(c.nodes, PlanNode{Node: id, OldIndex: -1, NewIndex: -1})
			}
			to[i] = at
			index := &c.nodes[at].OldIndex
			if side == 1 {
				index = &c.nodes[at].NewIndex
			}
			if *index < 0 {
				*index = i
			}
		}
	}
	add(to, 1, c.newNode)
	add(from, 0, c.oldNode)
	c.unchanged = make([]bool, len(c.nodes))
	for i, n := range c.nodes {
		w := weights[n.Node]
		c.unchanged[i] = w[0] == w[1]
	}
	c.counts = make([]struct{ before, after, in, out int }, len(c.nodes))
	return c
}

// count takes one id, or partition, by its old and its new first owner.
func (c *comparison) count(oldIndex, newIndex int) {
	from, to := c.oldNode[oldIndex], c.newNode[newIndex]
	c.total++
	c.counts[from].before++
	c.counts[to].after++
	if from == to {
		return
	}
	c.moved++
	c.counts[from].out++
	c.counts[to].in++
	if c.unchanged[from] && c.unchanged[to] {
		c.between++
	}
}

func (c *comparison) plan() Plan {
	share := func(n int) float64 { return float64(n) / float64(c.total) }
	p := Plan{Moved: share(c.moved), BetweenUnchanged: share(c.between), PerNode: c.nodes}
	grown := 0
	for i, n := range c.counts {
		grown += max(0, n.after-n.before)
		p.PerNode[i].OldShare, p.PerNode[i].NewShare = share(n.before), share(n.after)
		p.PerNode[i].In, p.PerNode[i].Out = share(n.in), share(n.out)
	}
	p.Minimum = share(grown)
	return p
}

// String is for logs: "moves 25.0 % of the sessions (at least 25.0 %), 0.0 % between unchanged nodes".
func (p Plan) String() string {
	return fmt.Sprintf("moves %.1f %% of the sessions (at least %.1f %%), %.1f %% between unchanged nodes", 100*p.Moved, 100*p.Minimum, 100*p.BetweenUnchanged)
}
