package sessionring

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// hostList makes nodes of "host" or "host*weight".
func hostList(entries ...string) []Node {
	nodes := make([]Node, len(entries))
	for i, e := range entries {
		host, weight, _ := strings.Cut(e, "*")
		w, _ := strconv.Atoi(weight)
		nodes[i] = Node{Index: i, Network: "tcp", Address: host + ":6379", Weight: max(w, 1), Database: -1, Prefix: DefaultPrefix}
	}
	return nodes
}

func ringOf(t testing.TB, d Distribution, nodes []Node) *Ring {
	t.Helper()
	r, err := NewRing(&SavePath{Nodes: nodes, Settings: Settings{Distribution: d}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every vector observed with the extension: testdata/routing.json says how.
func TestPHPRedisVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/routing.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			SavePath string `json:"save_path"`
			ID       string `json:"session_id"`
			Entries  []int  `json:"entries_naming_node"`
			Node     int    `json:"node"`
			Database int    `json:"database"`
		} `json:"vectors"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != 421 {
		t.Fatalf("%d vectors, want 421", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		sp, err := ParseSavePath(v.SavePath)
		if err != nil {
			t.Fatal(err)
		}
		nodes := sp.Nodes
		r := ringOf(t, PHPRedis, nodes)
		if err := r.Check(v.ID); err != nil {
			t.Errorf("%q: %v", v.ID, err)
		}
		owner := r.Owner(v.ID)
		if !slices.Contains(v.Entries, owner) || nodes[owner].Address != fmt.Sprintf("n%d:6379", v.Node) || max(nodes[owner].Database, 0) != v.Database {
			t.Errorf("%q of %q: entry %d (%s, database %d), want one of %v, database %d", v.ID, v.SavePath, owner, nodes[owner].Address, nodes[owner].Database, v.Entries, v.Database)
		}
		if got := r.Owners(v.ID); !slices.Equal(got, []int{owner}) {
			t.Errorf("owners %v, want the one PHP writes, %d", got, owner)
		}
		if got := r.Preference(nil, v.ID); got[0] != owner || len(got) != len(r.field.contenders) {
			t.Errorf("preference %v, want %d first and %d nodes", got, owner, len(r.field.contenders))
		}
	}
}

// The order of the list: phpredis/phpredis#1214.
func TestOrderOfTheList(t *testing.T) {
	const id = "r4t8w2y6u1i9o3p7a5"
	for list, want := range map[string]string{"a b c": "a", "c b a": "c", "a*1 b*5 c*2": "b", "a*2 b*10 c*4": "c"} {
		nodes := hostList(strings.Fields(list)...)
		if got := nodes[ringOf(t, PHPRedis, nodes).Owner(id)].Address; got != want+":6379" {
			t.Errorf("phpredis, %s: %s, want %s", list, got, want)
		}
	}
	forth, back := ringOf(t, Consistent, hostList("a", "b", "c")), ringOf(t, Consistent, hostList("c", "b", "a"))
	if plan := PlanChange(forth, back, 0); plan.Moved != 0 || plan.Minimum != 0 || plan.Samples != 0 {
		t.Errorf("the order of the list moves sessions: %+v", plan)
	}
}

func TestPHPRedisShortIDs(t *testing.T) {
	r := ringOf(t, PHPRedis, hostList("a", "b", "c"))
	for _, id := range []string{"", "a", "ab"} {
		if err := r.Check(id); !errors.Is(err, ErrID) {
			t.Errorf("Check(%q) = %v, want ErrID", id, err)
		}
		if owner := r.Owner(id); owner < 0 || owner > 2 {
			t.Errorf("Owner(%q) = %d", id, owner)
		}
	}
	if err := r.Check("abc"); err != nil {
		t.Errorf("three bytes and the closing zero are enough: %v", err)
	}
	if err := ringOf(t, Consistent, hostList("a")).Check("a"); err != nil {
		t.Errorf("consistent places any id: %v", err)
	}
}

// PHP's entry comes first whatever its host; the others stand in by weight, each node once, other hosts first.
func TestPHPRedisStandIns(t *testing.T) {
	nodes := hostList("a*3", "b", "a*2", "c*5", "d")
	nodes = append(nodes, Node{Network: "tcp", Address: "a:6380", Weight: 1}, Node{Network: "tcp", Address: "a:6379", Database: 3, Weight: 1})
	r := ringOf(t, PHPRedis, nodes)
	heirs := make(map[int]int)
	draw := rand.New(rand.NewPCG(1, 1))
	const ids = 40_000
	for range ids {
		id := drawID(draw)
		order := r.Preference(nil, id)
		if len(order) != 6 || order[0] != r.Owner(id) {
			t.Fatalf("%v, want six nodes and %d first", order, r.Owner(id))
		}
		seen := make(map[string]bool)
		for at, i := range order {
			if seen[nodes[i].ID()] {
				t.Fatalf("%v names a node twice", order)
			}
			seen[nodes[i].ID()] = true
			if at > 0 && at < 4 && nodes[i].Host() == "a" && nodes[order[0]].Host() == "a" {
				t.Fatalf("%v: a second node of host a before other hosts", order)
			}
		}
		if nodes[order[0]].Host() == "a" {
			heirs[order[1]]++
		}
	}
	// When host a falls, with 7 of 14 of the ids, b, c and d take over as 1:5:1.
	for i, weight := range map[int]float64{1: 1, 3: 5, 4: 1} {
		if due := ids * weight / 14; math.Abs(float64(heirs[i])-due) > 6*math.Sqrt(due) {
			t.Errorf("node %d stands in for %d ids, due %.0f", i, heirs[i], due)
		}
	}
	want := []float64{3. / 14, 1. / 14, 2. / 14, 5. / 14, 1. / 14, 1. / 14, 1. / 14}
	for i, share := range r.Shares() {
		if math.Abs(share-want[i]) > 1e-12 {
			t.Errorf("share of entry %d is %f, want %f", i, share, want[i])
		}
	}
}

func TestRefused(t *testing.T) {
	many := make([]Node, 65_536)
	for i := range many {
		many[i] = Node{Network: "tcp", Address: "h" + strconv.Itoa(i), Weight: 1}
	}
	otherPrefix := hostList("a", "b", "a")
	otherPrefix[2].Prefix, otherPrefix[2].Offset = "other:", 17
	for name, c := range map[string]struct {
		sp   *SavePath
		says string
	}{
		"nil":              {nil, "names no node"},
		"no nodes":         {&SavePath{}, "names no node"},
		"cluster":          {&SavePath{Kind: KindCluster, Nodes: hostList("a")}, "a cluster save_path has no ring"},
		"sentinel":         {&SavePath{Kind: KindSentinel, Nodes: hostList("a")}, "a sentinel save_path has no ring"},
		"too many":         {&SavePath{Nodes: many}, "65536 nodes"},
		"negative weight":  {&SavePath{Nodes: []Node{{Network: "tcp", Address: "a:1", Weight: -1}}}, "weight -1"},
		"copies":           {&SavePath{Nodes: hostList("a"), Settings: Settings{Copies: -1}}, "copies=-1"},
		"distribution":     {&SavePath{Nodes: hostList("a"), Settings: Settings{Distribution: "ketama"}}, `"ketama"`},
		"two prefixes":     {&SavePath{Nodes: otherPrefix}, "entry 3 at offset 17 (tcp://a:6379)"},
		"one node's sum":   {&SavePath{Nodes: hostList("a*2147483647", "a")}, "add up to more than 2147483647"},
		"phpredis's sum":   {&SavePath{Nodes: hostList("a*2147483647", "b"), Settings: Settings{Distribution: PHPRedis}}, "phpredis overflows"},
		"phpredis, weight": {&SavePath{Nodes: []Node{{Network: "tcp", Address: "a:1", Weight: -5}}, Settings: Settings{Distribution: PHPRedis}}, "weight -5"},
	} {
		r, err := NewRing(c.sp)
		var typed *RingError
		if r != nil || !errors.Is(err, ErrRing) || !errors.As(err, &typed) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want ErrRing that says %s", name, r, err, c.says)
		}
	}
}

// Whatever a save_path may hold is served: nothing reaches a panic of consistent ("not enough room to distribute
// partitions", buraksezer/consistent#13 and #28).
func TestServed(t *testing.T) {
	sizes := []int{1, 2, 3, 7, 64, 500}
	if testing.Short() || ringUnderRace {
		sizes = []int{1, 2, 3, 7}
	}
	lists := map[string][]Node{
		"largest weights":    hostList("a*2147483647", "b*2147483647", "c*2147483647"),
		"smallest to all":    hostList("a", "b*2147483647"),
		"one node twice":     hostList("a", "b", "a", "a"),
		"only one, twice":    hostList("a", "a"),
		"ports of one host":  {{Network: "tcp", Address: "a:1"}, {Network: "tcp", Address: "a:2"}, {Network: "tcp", Address: "a:3"}},
		"databases":          {{Network: "unix", Address: "/s"}, {Network: "unix", Address: "/s", Database: 1}},
		"empty node":         {{}},
		"no weight is one":   {{Network: "tcp", Address: "a:1"}, {Network: "tcp", Address: "b:1", Weight: 1}},
		"database 0 or none": {{Network: "tcp", Address: "a:1", Database: -1}, {Network: "tcp", Address: "a:1", Database: 0}, {Network: "tcp", Address: "b:1"}},
	}
	for _, size := range sizes {
		entries := make([]string, size)
		for i := range entries {
			entries[i] = fmt.Sprintf("h%d*%d", i, 1+999*(i%2))
		}
		lists[fmt.Sprintf("%d nodes 1:1000", size)] = hostList(entries...)
	}
	for name, nodes := range lists {
		for _, d := range []Distribution{Consistent, PHPRedis} {
			r, err := NewRing(&SavePath{Nodes: nodes, Settings: Settings{Distribution: d}})
			if err != nil {
				if !(d == PHPRedis && name == "largest weights" || d == PHPRedis && name == "smallest to all") {
					t.Errorf("%s, %s: %v", name, d, err)
				}
				continue
			}
			for _, id := range []string{"", "x", "4b261dcafb8e3536d2829c", strings.Repeat("z", 256)} {
				order := r.Preference(nil, id)
				if len(order) != len(r.field.contenders) || order[0] != r.Owner(id) {
					t.Errorf("%s, %s: order %v, owner %d", name, d, order, r.Owner(id))
				}
				if owners := r.Owners(id); len(owners) != r.Copies() || !slices.Equal(owners, order[:len(owners)]) {
					t.Errorf("%s, %s: owners %v of %v", name, d, owners, order)
				}
				if got := r.AppendOwners([]int{-7}, id, 0); !slices.Equal(got, []int{-7}) {
					t.Errorf("%s, %s: none of the order is %v", name, d, got)
				}
			}
			sum := 0.0
			for _, share := range r.Shares() {
				sum += share
			}
			if math.Abs(sum-1) > 1e-9 {
				t.Errorf("%s, %s: shares add up to %v", name, d, sum)
			}
		}
	}
}

func TestOneNodeTwiceAddsWeights(t *testing.T) {
	twice := ringOf(t, Consistent, hostList("a", "b", "a*2"))
	once := ringOf(t, Consistent, hostList("a*3", "b"))
	if plan := PlanChange(twice, once, 0); plan.Moved != 0 {
		t.Errorf("%v", plan)
	}
	if shares := twice.Shares(); shares[2] != 0 || shares[0] < 0.74 || shares[0] > 0.76 {
		t.Errorf("shares %v, want 3/4, 1/4 and 0", shares)
	}
	if twice.Copies() != 2 || len(twice.Nodes()) != 3 {
		t.Errorf("%d copies, %d entries", twice.Copies(), len(twice.Nodes()))
	}
}

func TestCopies(t *testing.T) {
	for _, c := range []struct {
		nodes, copies, want int
		d                   Distribution
	}{
		{1, 0, 1, ""}, {2, 0, 2, ""}, {5, 0, 2, Consistent}, {5, 1, 1, Consistent}, {5, 5, 5, Consistent}, {5, 9, 5, Consistent},
		{5, 0, 1, PHPRedis}, {5, 3, 1, PHPRedis},
	} {
		sp := &SavePath{Nodes: hostList("a", "b", "c", "d", "e")[:c.nodes], Settings: Settings{Copies: c.copies, Distribution: c.d}}
		r, err := NewRing(sp)
		if err != nil {
			t.Fatal(err)
		}
		if r.Copies() != c.want {
			t.Errorf("%+v: %d copies", c, r.Copies())
		}
		sp.Nodes[0].Address = "changed:1"
		if r.Nodes()[0].Address != "a:6379" {
			t.Error("the ring shares its nodes with the caller")
		}
		r.Nodes()[0].Address = "changed:1"
		if r.Nodes()[0].Address != "a:6379" {
			t.Error("Nodes hands out the ring's own")
		}
	}
}

// Placements are golden: where one of these changes, an update would log users out. A placement that differs is a new
// Distribution, never a new golden value.
func TestGoldenPlacements(t *testing.T) {
	ids := []string{"4b261dcafb8e3536d2829c", "r4t8w2y6u1i9o3p7a5", ""}
	for _, g := range []struct {
		savePath string
		table    uint64 // FNV-1a of the rows, each index as two bytes, the low one first
		orders   [3]string
		phpredis [3]string // of the same lists with distribution=phpredis
	}{
		{
			savePath: "tcp://a",
			table:    0xfc31bff590c22325,
			orders:   [3]string{"[0]", "[0]", "[0]"},
			phpredis: [3]string{"[0]", "[0]", "[0]"},
		},
		{
			savePath: "tcp://a:6379, tcp://b:6379, tcp://c:6379",
			table:    0xe6d48b09393021b5,
			orders:   [3]string{"[1 0 2]", "[1 0 2]", "[0 1 2]"},
			phpredis: [3]string{"[0 1 2]", "[0 1 2]", "[2 0 1]"},
		},
		{
			savePath: "tcp://host1:6379?weight=1&database=2, tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2",
			table:    0xe01f798f4f57972d,
			orders:   [3]string{"[0 1 2]", "[1 0 2]", "[2 0 1]"},
			phpredis: [3]string{"[0 1 2]", "[1 0 2]", "[2 0 1]"},
		},
		{
			savePath: "tcp://10.0.0.1?weight=1 tcp://10.0.0.2?weight=2 tcp://10.0.0.3?weight=3 tcp://10.0.0.4?weight=4 tcp://10.0.0.5?weight=5 tcp://10.0.0.6?weight=6 tcp://10.0.0.7?weight=7 tcp://10.0.0.8?weight=8 tcp://10.0.0.9?weight=9 tcp://10.0.0.10?weight=10",
			table:    0x2609eb832103db9b,
			orders:   [3]string{"[6 2 0 9 7 8 5 3 4 1]", "[2 1 7 8 4 6 3 9 5 0]", "[5 8 3 7 9 4 6 0 1 2]"},
			phpredis: [3]string{"[0 6 2 9 7 8 5 3 4 1]", "[4 2 1 7 8 6 3 9 5 0]", "[9 5 8 3 7 4 6 0 1 2]"},
		},
		{
			savePath: "unix:///run/a.sock, unix:///run/a.sock?database=2, tcp://[2001:db8::1]:6380, tls://h:6379, tcp://h:6380?weight=3, tcp://h:6381",
			table:    0x805c015f8af1fd95,
			orders:   [3]string{"[4 1 2 5 3 0]", "[1 3 2 0 4 5]", "[4 0 2 1 5 3]"},
			phpredis: [3]string{"[3 1 2 4 5 0]", "[4 1 2 0 3 5]", "[5 0 2 4 1 3]"},
		},
		{
			savePath: "tcp://a?weight=1000000000, tcp://b?weight=1000000001, tcp://c?weight=1, tcp://d?weight=100000",
			table:    0x81ff9d635b49955d,
			orders:   [3]string{"[1 0 3 2]", "[1 0 3 2]", "[0 1 3 2]"},
			phpredis: [3]string{"[1 0 3 2]", "[1 0 3 2]", "[3 0 1 2]"},
		},
	} {
		sp, err := ParseSavePath(g.savePath)
		if err != nil {
			t.Fatal(err)
		}
		if !testing.Short() && !ringUnderRace || len(sp.Nodes) == 3 {
			r := ringOf(t, Consistent, sp.Nodes)
			h := fnv.New64a()
			for _, n := range r.table.rows {
				h.Write([]byte{byte(n), byte(n >> 8)})
			}
			if got := h.Sum64(); got != g.table {
				t.Errorf("%s: table %#016x, want %#016x", g.savePath, got, g.table)
			}
			for i, id := range ids {
				if got := fmt.Sprint(r.Preference(nil, id)); got != g.orders[i] {
					t.Errorf("%s: %q has order %s, want %s", g.savePath, id, got, g.orders[i])
				}
			}
		}
		if r, err := NewRing(&SavePath{Nodes: sp.Nodes, Settings: Settings{Distribution: PHPRedis}}); err == nil {
			for i, id := range ids {
				if got := fmt.Sprint(r.Preference(nil, id)); got != g.phpredis[i] {
					t.Errorf("%s: %q has phpredis order %s, want %s", g.savePath, id, got, g.phpredis[i])
				}
			}
		} else {
			t.Error(err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	if ringUnderRace {
		t.Skip("the race detector drops pooled memory on purpose; make test runs it once without (make plain)")
	}
	dst := make([]int, 0, 64)
	const id = "4b261dcafb8e3536d2829c"
	for _, d := range []Distribution{Consistent, PHPRedis} {
		for _, size := range []int{1, 3, 20} {
			r := ringOf(t, d, randomNodes(rand.New(rand.NewPCG(1, 1)), size, 10))
			for what, f := range map[string]func(){
				"Owner":        func() { r.Owner(id) },
				"AppendOwners": func() { dst = r.AppendOwners(dst[:0], id, 2) },
				"Preference":   func() { dst = r.Preference(dst[:0], id) },
				"Check":        func() { _ = r.Check(id) },
			} {
				if n := testing.AllocsPerRun(200, f); n != 0 {
					t.Errorf("%s of %d nodes, %s: %v allocations", what, size, d, n)
				}
			}
		}
	}
}

func TestManyReaders(t *testing.T) {
	nodes := randomNodes(rand.New(rand.NewPCG(2, 2)), 12, 10)
	for _, d := range []Distribution{Consistent, PHPRedis} {
		r := ringOf(t, d, nodes)
		ids := make([]string, 300)
		want := make([][]int, len(ids))
		draw := rand.New(rand.NewPCG(3, 3))
		for i := range ids {
			ids[i] = drawID(draw)
			want[i] = r.Preference(nil, ids[i])
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				dst := make([]int, 0, len(nodes))
				for i, id := range ids {
					dst = r.Preference(dst[:0], id)
					if !slices.Equal(dst, want[i]) || r.Owner(id) != want[i][0] {
						t.Errorf("%q: order %v, before %v", id, dst, want[i])
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestPlanChange(t *testing.T) {
	consistent := ringOf(t, Consistent, hostList("a", "b", "c"))
	four := ringOf(t, Consistent, hostList("d", "a", "b", "c"))
	plan := PlanChange(consistent, four, 0)
	if plan.Samples != 0 || plan.BetweenUnchanged != 0 || plan.Moved != plan.Minimum || math.Abs(plan.Moved-0.25) > 0.005 {
		t.Errorf("three to four: %+v", plan)
	}
	if d := plan.PerNode[0]; d.Node != "tcp://d:6379" || d.OldIndex != -1 || d.NewIndex != 0 || d.In != plan.Moved || d.Out != 0 || d.OldShare != 0 || d.NewShare != plan.Moved {
		t.Errorf("the new node: %+v", d)
	}
	back := PlanChange(four, consistent, 0)
	if gone := back.PerNode[3]; len(back.PerNode) != 4 || gone.OldIndex != 0 || gone.NewIndex != -1 || gone.Out != back.Moved || gone.Node != "tcp://d:6379" {
		t.Errorf("four to three: %+v", back)
	}
	// phpredis/phpredis's own rule moves three quarters, most of them between nodes that stay (measured with PHP: 75 %).
	plan = PlanChange(ringOf(t, PHPRedis, hostList("a", "b", "c")), ringOf(t, PHPRedis, hostList("a", "b", "c", "d")), 20_000)
	if plan.Samples != 20_000 || math.Abs(plan.Moved-0.75) > 0.02 || math.Abs(plan.Minimum-0.25) > 0.02 || math.Abs(plan.BetweenUnchanged-0.5) > 0.02 {
		t.Errorf("phpredis, three to four: %+v", plan)
	}
	// From PHP's placement to ours two thirds move, and the shares stay.
	plan = PlanChange(ringOf(t, PHPRedis, hostList("a", "b", "c")), consistent, 0)
	if plan.Samples != DefaultPlanSamples || math.Abs(plan.Moved-2./3) > 0.02 || plan.Minimum > 0.02 {
		t.Errorf("phpredis to consistent: %+v", plan)
	}
}
