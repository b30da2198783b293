package sessionring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// The properties of the consistent ring over random node lists. Shares are counted over all partitions, so they are
// exact; what holds for each partition by itself is looked at in the first 16,384 (somePartitions), other ones for the
// nodes of each list. The tables here are computed from the scores alone; TestLibraryDecidesByScores shows that those
// where consistent decides are the same.

// someLists scales the number of random lists to what the run has time for.
func someLists(full int) int {
	switch {
	case ringUnderRace:
		return max(full/100, 2)
	case testing.Short():
		return max(full/20, 3)
	}
	return full
}

func randomNodes(draw *rand.Rand, count, maxWeight int) []Node {
	nodes := make([]Node, count)
	for i := range nodes {
		nodes[i] = Node{
			Index: i, Network: "tcp", Address: fmt.Sprintf("h%d.example:%d", draw.Uint32(), 6379+draw.IntN(3)),
			Weight: 1 + draw.IntN(maxWeight), Database: draw.IntN(17) - 1, Prefix: DefaultPrefix,
		}
	}
	return nodes
}

const somePartitions = partitions / 16

// scoreRing is NewRing without the library.
func scoreRing(t testing.TB, nodes []Node) *Ring { return cutRing(t, nodes, partitions, tableDepth) }

// partOfRing has the first partitions only: for tests that ask for partitions, not for ids.
func partOfRing(t testing.TB, nodes []Node, end uint32) *Ring {
	return cutRing(t, nodes, end, tableDepth)
}

// pairRing has only two nodes a row: for tests that look at no more.
func pairRing(t testing.TB, nodes []Node) *Ring { return cutRing(t, nodes, partitions, 2) }

func cutRing(t testing.TB, nodes []Node, end uint32, depth int) *Ring {
	t.Helper()
	f, err := newField(nodes, true)
	if err != nil {
		t.Fatal(err)
	}
	tab := &table{depth: uint(min(depth, len(f.contenders)))}
	tab.rows = make([]uint16, uint(end)*tab.depth)
	var wg sync.WaitGroup
	const workers = 4
	for w := range uint32(workers) {
		wg.Go(func() {
			b := newTableBuilder(f, tab)
			for p := w * (end / workers); p < (w+1)*(end/workers); p++ {
				b.rank(p)
				b.prefer()
				row := tab.row(p)
				for at, s := range b.order {
					row[at] = uint16(f.contenders[s.who].node)
				}
			}
		})
	}
	wg.Wait()
	r := &Ring{nodes: nodes, distribution: Consistent, copies: min(DefaultCopies, len(f.contenders)), field: f, table: tab}
	r.scratch.New = func() any { return new(scratch) }
	return r
}

// idsOf names nodes by what they serve.
func idsOf[I uint16 | int](nodes []Node, indexes []I) []string {
	ids := make([]string, len(indexes))
	for i, n := range indexes {
		ids[i] = nodes[n].ID()
	}
	return ids
}

func describe(nodes []Node) string {
	s := ""
	for _, n := range nodes {
		s += fmt.Sprintf("%s weight=%d, ", n.ID(), n.Weight)
	}
	return s
}

func TestLibraryDecidesByScores(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 1))
	lists := [][]Node{
		randomNodes(draw, 3, 1), sameHosts(draw, 12, 3), // these in short runs, too
		randomNodes(draw, 1, 1), randomNodes(draw, 2, 1), randomNodes(draw, 10, 10), randomNodes(draw, 23, 100),
		randomNodes(draw, 5, maxRingWeight), sameHosts(draw, 4, 1),
		// So many that they are dealt: plain, on few hosts, on many, one far heavier than all others.
		randomNodes(draw, 24, 100), sameHosts(draw, 50, 3), sameHosts(draw, 100, 60), randomNodes(draw, 300, 1),
	}
	extreme, skewed := randomNodes(draw, 6, 1), sameHosts(draw, 60, 20)
	extreme[1].Weight, extreme[2].Weight, extreme[3].Weight = maxRingWeight, maxRingWeight, maxRingWeight-1
	skewed[3].Weight, skewed[4].Weight = maxRingWeight, 1_000_000
	lists = append(lists, extreme, skewed)
	if testing.Short() || ringUnderRace {
		lists = lists[:2]
	}
	for _, nodes := range lists {
		r, err := NewRing(&SavePath{Nodes: nodes})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.table.rows, scoreRing(t, nodes).table.rows) {
			t.Errorf("the frozen table differs from the scores for %s", describe(nodes))
		}
		if len(nodes) == 1 {
			continue
		}
		// Asked for each partition anew, not once for each order of points, the library decides the same.
		b := newTableBuilder(r.field, r.table)
		for p := range uint32(2000) {
			b.rank(p)
			b.sit()
			if owner := b.seats[b.ask()]; int(r.field.contenders[owner].node) != r.table.owner(p) {
				t.Errorf("partition %d: the table says %d, the library %d, of %s", p, r.table.owner(p), owner, describe(nodes))
			}
		}
	}
}

// Nothing moves between nodes that did not change, and nothing moves that need not: adding, removing, reweighting.
func TestOnlyWhatMustMoves(t *testing.T) {
	draw := rand.New(rand.NewPCG(2, 2))
	for range someLists(200) {
		count := 1 + draw.IntN(32)
		before := randomNodes(draw, count, 100)
		after := slices.Clone(before)
		single := true // one node gains, or one loses
		change := draw.IntN(4)
		switch {
		case change == 0 || count == 1:
			after = append(after, randomNodes(draw, 1, 100)...)
		case change == 1:
			after = slices.Delete(after, 0, 1)
		case change == 2:
			after[0].Weight = 1 + draw.IntN(100)
		default: // several at once
			after = append(after, randomNodes(draw, 2, 100)...)
			after[count-1].Weight = 1 + draw.IntN(100)
			after = slices.Delete(after, 0, 1)
			single = false
		}
		draw.Shuffle(len(after), func(i, j int) { after[i], after[j] = after[j], after[i] })
		plan := PlanChange(partOfRing(t, before, somePartitions), partOfRing(t, after, somePartitions), 0)
		if plan.BetweenUnchanged != 0 {
			t.Errorf("%v\nfrom %s\nto %s", plan, describe(before), describe(after))
		}
		if single && plan.Moved != plan.Minimum {
			t.Errorf("moved %v, the least is %v\nfrom %s\nto %s", plan.Moved, plan.Minimum, describe(before), describe(after))
		}
		if plan.Moved < plan.Minimum {
			t.Errorf("moved %v, less than the minimum %v", plan.Moved, plan.Minimum)
		}
	}
}

// 2:2:2 to 2:2:3 changes the common divisor of the weights; a ring of so many points a weight unit moves nearly all.
func TestCommonDivisorMovesNobody(t *testing.T) {
	nodes := randomNodes(rand.New(rand.NewPCG(3, 3)), 3, 1)
	for i := range nodes {
		nodes[i].Weight = 2
	}
	heavier := slices.Clone(nodes)
	heavier[1].Weight = 3
	plan := PlanChange(scoreRing(t, nodes), scoreRing(t, heavier), 0)
	if plan.BetweenUnchanged != 0 || plan.Moved != plan.Minimum || plan.Moved < 0.09 || plan.Moved > 0.11 {
		t.Errorf("3/7-1/3 = 9.5 %% must move: %v", plan)
	}
	if in := plan.PerNode[1]; in.Out != 0 || math.Abs(in.In-plan.Moved) > 1e-12 {
		t.Errorf("the heavier node takes all that moves: %+v", in)
	}
}

// A node's id order of the others stays when it goes, whether it died (skipped) or was removed (another ring).
func TestFailoverAndRemovalAgree(t *testing.T) {
	draw := rand.New(rand.NewPCG(4, 4))
	for range someLists(100) {
		nodes := randomNodes(draw, 2+draw.IntN(31), 100)
		gone := draw.IntN(len(nodes))
		rest := slices.Delete(slices.Clone(nodes), gone, gone+1)
		whole, less := partOfRing(t, nodes, somePartitions), partOfRing(t, rest, somePartitions)
		for p := range uint32(somePartitions) {
			row, left := whole.table.row(p), less.table.row(p)
			k := 0
			for _, n := range row {
				if int(n) == gone {
					continue
				}
				if k == len(left) {
					break
				}
				now := int(left[k])
				if now >= gone {
					now++ // its index before
				}
				if now != int(n) {
					t.Fatalf("partition %d: without node %d the order %v becomes %v of %s", p, gone, row, left, describe(nodes))
				}
				k++
			}
		}
		// The whole order, where the table ends too.
		for range 200 {
			p := draw.Uint32N(partitions)
			want := idsOf(nodes, whole.appendOrder(nil, p, noContender, len(nodes)))
			want = slices.DeleteFunc(want, func(s string) bool { return s == nodes[gone].ID() })
			if got := idsOf(rest, less.appendOrder(nil, p, noContender, len(rest))); !slices.Equal(got, want) {
				t.Fatalf("order in partition %d without %s: %v, want %v", p, nodes[gone].ID(), got, want)
			}
		}
	}
}

// Only what nodes serve and the ratio of their weights counts.
func TestNobodyMovesFor(t *testing.T) {
	draw := rand.New(rand.NewPCG(5, 5))
	changes := map[string]func(nodes []Node){
		"weights doubled": func(nodes []Node) {
			for i := range nodes {
				nodes[i].Weight *= 2
			}
		},
		"weights times a million": func(nodes []Node) {
			for i := range nodes {
				nodes[i].Weight *= 1_000_003
			}
		},
		"entries reordered": func(nodes []Node) {
			draw.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		},
		"options changed": func(nodes []Node) {
			for i := range nodes {
				n := &nodes[i]
				n.TLS, n.Prefix, n.Timeout, n.ReadTimeout, n.Persistent = true, "other:", 5, 6, true
				n.Auth = Auth{HasUser: true, Username: "u", Password: NewSecret("p")}
				n.Offset, n.PersistentID = 99, "x"
			}
		},
		"database 0 written out": func(nodes []Node) {
			for i := range nodes {
				nodes[i].Database = max(nodes[i].Database, 0)
			}
		},
	}
	for what, change := range changes {
		for range someLists(20) {
			before := randomNodes(draw, 1+draw.IntN(32), 100)
			after := slices.Clone(before)
			change(after)
			old, now := partOfRing(t, before, somePartitions), partOfRing(t, after, somePartitions)
			number := make(map[string]uint16)
			for i, n := range after {
				number[n.ID()] = uint16(i)
			}
			same := make([]uint16, len(before))
			for i, n := range before {
				same[i] = number[n.ID()]
			}
			for i, n := range old.table.rows {
				if same[n] != now.table.rows[i] {
					t.Fatalf("%s: partition %d changed for %s", what, i/int(old.table.depth), describe(before))
				}
			}
		}
	}
}

// worstShare returns how far the node farthest from its weight's share is off, relative to that share.
func worstShare(r *Ring) float64 {
	total := 0.0
	for _, n := range r.nodes {
		total += float64(n.Weight)
	}
	worst := 0.0
	for i, share := range r.Shares() {
		worst = max(worst, math.Abs(share*total/float64(r.nodes[i].Weight)-1))
	}
	return worst
}

// Up to ten nodes of weights 1 to 10: within 3 % of its weight's share at the median of lists, 6 % at the worst; and
// so are the survivors when any one node is dead, for they take over by weight.
func TestSharesFollowWeights(t *testing.T) {
	draw := rand.New(rand.NewPCG(6, 6))
	var worst, survivors []float64
	for range someLists(300) {
		nodes := randomNodes(draw, 2+draw.IntN(9), 10)
		r := pairRing(t, nodes)
		worst = append(worst, worstShare(r))
		if len(nodes) > 2 {
			survivors = append(survivors, worstSurvivor(r))
		}
	}
	slices.Sort(worst)
	slices.Sort(survivors)
	median, last := worst[len(worst)/2], worst[len(worst)-1]
	t.Logf("share off its weight, worst node of a list: median %.2f %%, worst of %d lists %.2f %%", 100*median, len(worst), 100*last)
	if median > 0.03 || last > 0.06 {
		t.Errorf("median %.4f, worst %.4f; want 0.03 and 0.06", median, last)
	}
	median, last = survivors[len(survivors)/2], survivors[len(survivors)-1]
	t.Logf("load of the most loaded survivor over its due, worst node dead: median %.4f, worst %.4f", median, last)
	if median > 1.02 || last > 1.06 {
		t.Errorf("survivors: median %.4f, worst %.4f; want 1.02 and 1.06", median, last)
	}
}

// worstSurvivor lets each node be dead in turn, and returns the highest load of a survivor over its due.
func worstSurvivor(r *Ring) float64 {
	n := len(r.nodes)
	total := 0.0
	load := make([][]float64, n) // by dead node, with the last row for none
	for i := range load {
		load[i] = make([]float64, n)
		total += float64(r.nodes[i].Weight)
	}
	own := make([]float64, n)
	for p := range uint32(partitions) {
		row := r.table.row(p)
		own[row[0]]++
		load[row[0]][row[1]]++
	}
	worst := 0.0
	for dead := range n {
		for i := range n {
			if i != dead {
				due := float64(partitions) * float64(r.nodes[i].Weight) / (total - float64(r.nodes[dead].Weight))
				worst = max(worst, (own[i]+load[dead][i])/due)
			}
		}
	}
	return worst
}

// With ten equal nodes, any of them dead, the most loaded survivor has at most 3 % more than its due; and a dead node's
// ids go to all survivors by weight, none is left out.
func TestDeadNodesLoadIsSpread(t *testing.T) {
	draw := rand.New(rand.NewPCG(7, 7))
	for range someLists(20) {
		if worst := worstSurvivor(pairRing(t, randomNodes(draw, 10, 1))); worst > 1.03 {
			t.Errorf("a survivor has %.3f of its due", worst)
		}
		nodes := randomNodes(draw, 3+draw.IntN(30), 100)
		r := pairRing(t, nodes)
		heir := make([][]float64, len(nodes))
		for i := range heir {
			heir[i] = make([]float64, len(nodes))
		}
		total := 0.0
		for p := range uint32(partitions) {
			row := r.table.row(p)
			heir[row[0]][row[1]]++
		}
		for _, n := range nodes {
			total += float64(n.Weight)
		}
		for dead := range nodes {
			had := 0.0
			for _, ids := range heir[dead] {
				had += ids
			}
			for i, n := range nodes {
				if i == dead {
					continue
				}
				due := had * float64(n.Weight) / (total - float64(nodes[dead].Weight))
				if off := math.Abs(heir[dead][i] - due); off > 6*math.Sqrt(due)+6 {
					t.Errorf("of dead node %d's %v partitions node %d takes %v, due %.0f, of %s", dead, had, i, heir[dead][i], due, describe(nodes))
				}
			}
		}
	}
}

// sameHosts gives count nodes on few hosts.
func sameHosts(draw *rand.Rand, count, hosts int) []Node {
	nodes := randomNodes(draw, count, 20)
	for i := range nodes {
		nodes[i].Address = fmt.Sprintf("host%d:%d", draw.IntN(hosts), 6379+i)
	}
	return nodes
}

// The foremost node of each host comes before any second node of a host; within both groups scores decide.
func TestDistinctHostsFirst(t *testing.T) {
	draw := rand.New(rand.NewPCG(8, 8))
	for range someLists(60) {
		nodes := sameHosts(draw, 2+draw.IntN(31), 1+draw.IntN(12))
		r := partOfRing(t, nodes, somePartitions)
		hosts := make(map[string]bool)
		for _, n := range nodes {
			hosts[n.Host()] = true
		}
		// A host that falls with all its nodes changes no order between the others.
		gone := nodes[0].Host()
		rest := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.Host() == gone })
		var less *Ring
		if len(rest) > 0 {
			less = partOfRing(t, rest, somePartitions)
		}
		for range 300 {
			p := draw.Uint32N(somePartitions)
			order := r.appendOrder(nil, p, noContender, len(nodes))
			seen := make(map[string]bool)
			for at, i := range order {
				host := nodes[i].Host()
				if at < len(hosts) && seen[host] {
					t.Fatalf("%v has host %s twice before others of %s", order, host, describe(nodes))
				}
				seen[host] = true
			}
			var s scratch
			r.field.order(&s, p)
			place := make(map[int]int)
			for at, e := range s.order {
				place[int(r.field.contenders[e.who].node)] = at
			}
			ascending := func(list []int) bool {
				return slices.IsSortedFunc(list, func(a, b int) int { return place[a] - place[b] })
			}
			if place[order[0]] != 0 || !ascending(order[:len(hosts)]) || !ascending(order[len(hosts):]) {
				t.Fatalf("%v is not in the order of scores, of %s", order, describe(nodes))
			}
			for at, i := range r.table.row(p) {
				if int(i) != order[at] {
					t.Fatalf("table %v, computed %v, of %s", r.table.row(p), order, describe(nodes))
				}
			}
			if less == nil {
				continue
			}
			var want []string
			for _, i := range order {
				if nodes[i].Host() != gone {
					want = append(want, nodes[i].ID())
				}
			}
			if got := idsOf(rest, less.appendOrder(nil, p, noContender, len(rest))); !slices.Equal(got, want) {
				t.Fatalf("without host %s the order is %v, want %v", gone, got, want)
			}
		}
	}
}

// A thousand nodes: served, by weight, in bounded memory, and removing one moves what it had and nothing else.
func TestThousandNodes(t *testing.T) {
	if testing.Short() || ringUnderRace {
		t.Skip("takes too long under the race detector or with -short; make test runs it once without (make plain)")
	}
	draw := rand.New(rand.NewPCG(9, 9))
	nodes := randomNodes(draw, 1000, 100)
	r, err := NewRing(&SavePath{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	if bytes := 2 * len(r.table.rows); bytes > 4<<20 {
		t.Errorf("the table takes %d bytes", bytes)
	}
	total := 0.0
	for _, n := range nodes {
		total += float64(n.Weight)
	}
	for i, share := range r.Shares() {
		due := partitions * float64(nodes[i].Weight) / total
		if off := math.Abs(share*partitions - due); off > 6*math.Sqrt(due)+6 {
			t.Errorf("node %d of weight %d has %v partitions, due %.0f", i, nodes[i].Weight, share*partitions, due)
		}
	}
	fewer, err := NewRing(&SavePath{Nodes: nodes[1:]})
	if err != nil {
		t.Fatal(err)
	}
	plan := PlanChange(r, fewer, 0)
	if plan.Moved != r.Shares()[0] || plan.Moved != plan.Minimum || plan.BetweenUnchanged != 0 {
		t.Errorf("%v, the removed node had %v", plan, r.Shares()[0])
	}
	order := r.Preference(nil, "4b261dcafb8e3536d2829c")
	slices.Sort(order)
	for i := range order {
		if order[i] != i {
			t.Fatalf("the order of preference does not name node %d once", i)
		}
	}
}

func TestRankIsAPermutation(t *testing.T) {
	c := newContender("tcp://a:6379", 0, 1, 0)
	var seen [partitions]bool
	for p := range uint32(partitions) {
		rank := c.rank(p)
		if seen[rank] {
			t.Fatalf("rank %d twice", rank)
		}
		seen[rank] = true
		if back := c.unrank(rank); back != p {
			t.Fatalf("rank %d comes from partition %d, not %d", rank, p, back)
		}
	}
}

func TestDistances(t *testing.T) {
	d := distances()
	for rank, got := range d {
		want := -math.Log1p(-(float64(rank) + 0.5) / partitions)
		if math.Abs(float64(got)-want*(1<<28)) > 1 {
			t.Fatalf("distance of rank %d is %d, want %f", rank, got, want*(1<<28))
		}
		if rank > 0 && got <= d[rank-1] {
			t.Fatalf("distance of rank %d does not rise", rank)
		}
		if leastDistance(uint32(rank)) > uint64(got) {
			t.Fatalf("distance of rank %d is below its least", rank)
		}
	}
}
