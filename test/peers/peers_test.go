package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// The measurement of memory starts this binary again.
func TestMain(m *testing.M) {
	if job := os.Getenv(memoryJob); job != "" {
		os.Exit(memoryChild(job, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func flags(t *testing.T, args ...string) config {
	t.Helper()
	c, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// docsOf is a folder with the marks of the real performance.md.
func docsOf(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(docs(dir).file(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// part is what a section of a file holds.
func part(t *testing.T, dir string, s section) string {
	t.Helper()
	text, err := os.ReadFile(docs(dir).file())
	if err != nil {
		t.Fatal(err)
	}
	_, text2, _ := strings.Cut(string(text), string(s.begin()))
	text2, _, found := strings.Cut(text2, string(s.end()))
	if !found {
		t.Fatalf("no section %s", s)
	}
	return text2
}

func drawn(t *testing.T, dir, name string) {
	t.Helper()
	text, err := os.ReadFile(docs(dir).figure(name))
	if err != nil || !strings.Contains(string(text), "</svg>") || strings.Contains(string(text), "NaN") {
		t.Errorf("%s is no picture: %v", name, err)
	}
}

// Every peer serves and answers right, and each has its row in each table it belongs to. The docs get the tables, the
// targets and the pictures.
func TestEveryPeerHasItsRows(t *testing.T) {
	redistest.FindOrSkip(t)
	dir := docsOf(t)
	var out strings.Builder
	if err := flags(t, "-rounds", "2", "-time", "10ms", "-goroutines", "1,2", "-write", dir).run(t.Context(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	tables := part(t, dir, tableSection)
	for _, p := range peers() {
		for _, op := range []operation{cycle, read} {
			want := 0
			if p.does(op) && p.copies == 1 {
				want += 2 // numbers of goroutines
			}
			if p.does(op) && p.several {
				want += 2 // on three servers
			}
			got := 0
			for _, table := range strings.Split(tables, "### ")[1:] {
				if strings.HasPrefix(table, "`"+op.String()+"`") {
					got += strings.Count(table, "| "+p.row(op)+" | ")
				}
			}
			if got != want {
				t.Errorf("%s, %v has %d rows instead of %d", p.name, op, got, want)
			}
		}
	}
	if !strings.Contains(out.String(), strings.TrimSpace(tables)) {
		t.Error("the docs have other tables than were printed")
	}
	if goals := part(t, dir, targetSection); strings.Count(goals, "| not measured |") == 0 || !strings.Contains(goals, targets()[0].goal) {
		t.Errorf("no row of goroutines that were not measured in the targets:\n%s", goals)
	}
	drawn(t, dir, "peers-1")
	drawn(t, dir, "peers-3")
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestMemory(t *testing.T) {
	nodes := redistest.Nodes(t, 3)
	for _, p := range memoryPeers() {
		r, err := runChild(t.Context(), job{p.name, addresses(nodes), 20, 20 * time.Millisecond, 1, []int{1_000_000}})
		if err != nil {
			t.Fatal(p.name, err)
		}
		f := r.Flights[0]
		// The sessions in flight are in the heap, so less is a mistake.
		if f.Tries != 20 || len(f.Failed) != 0 || f.Save.Heap < 900_000 || f.Load.Heap < 900_000 || r.Idle.Heap == 0 {
			t.Errorf("%s: %+v", p.name, r)
		}
		if rss() > 0 && r.Busy.RSS == 0 {
			t.Errorf("%s: no RSS", p.name)
		}
	}
	if _, err := runChild(t.Context(), job{Peer: "nobody"}); err == nil || !strings.Contains(err.Error(), `no peer "nobody"`) {
		t.Errorf("a job of nobody: %v", err)
	}
}

func TestMemoryTables(t *testing.T) {
	all := map[string]memoryResult{}
	for i, p := range memoryPeers() {
		all[p.name] = memoryResult{
			Idle: usage{2048 << 10, 7 + i, 3 << 20}, Busy: usage{9 << 20, 5, 11 << 20}, After: usage{1 << 20, 0, 0},
			Flights: []flight{{1e6, usage{2e6, 1, 3e6}, usage{4e6, 1, 5e6}, map[string]int{"ErrOverloaded": 1}, 4}},
		}
	}
	if text, want := writeMemory(map[int]map[string]memoryResult{3: all}), "| go-redis | 3 | 2,048 | 7 | 3.0 | 9.0 | 5 | 11.0 | 1,024 |"; !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
	if text, want := writeFlights(all), "| go-redis | 1 | 2.0 | 2.0 | 3.0 | 4.0 | 4.0 | 5.0 | ErrOverloaded 25.0 % |"; !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
	dir := t.TempDir()
	if err := drawFlights(docs(dir).figure("memory"), all); err != nil {
		t.Fatal(err)
	}
	drawn(t, dir, "memory")
}

func TestSaturation(t *testing.T) {
	redistest.FindOrSkip(t)
	dir := docsOf(t)
	var out strings.Builder
	if err := flags(t, "-saturation", "-rounds", "1", "-time", "30ms", "-deadline", "50ms", "-outstanding", "512", "-write", dir).run(t.Context(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	text := part(t, dir, saturationSection)
	for _, name := range []string{reference, clientOne, clientTwo} {
		if got := strings.Count(text, "| "+name+" | "); got != len(loads())+1 {
			t.Errorf("%s has %d rows instead of %d:\n%s", name, got, len(loads())+1, text)
		}
	}
	drawn(t, dir, "saturation")
}

// A range without an extent, or none at all, has ticks and an end.
func TestAxesOfNothing(t *testing.T) {
	for _, ticks := range []plot.Ticker{logTicks{}, roundTicks(8)} {
		for _, r := range [][2]float64{{0, 2}, {-1, 0}, {1, 1}, {math.Inf(1), math.Inf(-1)}, {0, math.Inf(1)}, {0, 0}, {1, math.NaN()}} {
			if got := len(ticks.Ticks(r[0], r[1])); got > 100 {
				t.Errorf("%T of %v: %d ticks", ticks, r, got)
			}
		}
	}
	for _, r := range [][2]float64{{math.Inf(1), math.Inf(-1)}, {3, 3}, {0, 5}} {
		a := plot.Axis{Min: r[0], Max: r[1]}
		if logAxis(&a, 2); !(a.Min > 0 && a.Max > a.Min) {
			t.Errorf("%v became %v to %v", r, a.Min, a.Max)
		}
	}
}

// A store that answers half of what is offered: the rest waits, is counted from when it was due, and ends by the
// deadline or is turned away. Nothing is lost from the count.
func TestOpenLoopCountsWhatWaits(t *testing.T) {
	free := make(chan struct{}, 1)
	free <- struct{}{}
	l := &openLoop{limit: 250 * time.Millisecond, sessions: make([]openSession, 4), free: make(chan int, 4)}
	l.store = &store{
		get: func(ctx context.Context, _ string) ([]byte, error) {
			select {
			case <-free:
				return (&visit{}).bytes(), nil // the count 1
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		set: func(context.Context, string, []byte) error {
			time.Sleep(time.Millisecond)
			free <- struct{}{}
			return errors.New("not saved, so the count stays")
		},
	}
	for i := range l.sessions {
		l.sessions[i] = openSession{1, 1}
		l.free <- i
	}
	s := &step{offered: 4000, latency: newHistogram(), late: newHistogram(), failed: map[string]int{}}
	if err := l.run(t.Context(), s, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := s.ended + s.away; got < 390 || got > 401 {
		t.Errorf("%d requests instead of 400", got)
	}
	if s.away == 0 || s.failed["other"] == 0 || s.wrong != 0 || int(s.latency.TotalCount()) != s.ended || s.late.TotalCount() != s.latency.TotalCount() {
		t.Errorf("%d turned away, failed %v, %d wrong, %d latencies of %d", s.away, s.failed, s.wrong, s.latency.TotalCount(), s.ended)
	}
}

func TestOpenLoopNoticesAnOldSession(t *testing.T) {
	l := &openLoop{limit: time.Minute, sessions: []openSession{{3, 4}}}
	for count, want := range []error{errBack, errBack, errBack, nil, nil, errBack} {
		l.sessions[0] = openSession{3, 4}
		l.store = &store{
			get: func(context.Context, string) ([]byte, error) { return (&visit{want: uint64(count - 1)}).bytes(), nil },
			set: func(context.Context, string, []byte) error { return nil },
		}
		if count == 0 {
			continue // nobody writes it
		}
		if err := l.request(t.Context(), 0); !errors.Is(err, want) {
			t.Errorf("count %d: %v instead of %v", count, err, want)
		}
		if want == nil && l.sessions[0] != (openSession{5, 5}) {
			t.Errorf("count %d: %+v", count, l.sessions[0])
		}
	}
}

func TestKind(t *testing.T) {
	node := &sessionring.NodeError{Node: "tcp://h:1", Op: "get", Err: sessionring.ErrTimeout}
	for want, err := range map[string]error{
		"ErrNoNode, ErrTimeout": &sessionring.NoNodeError{Op: "get", Nodes: []*sessionring.NodeError{node}},
		"ErrNoNode":             &sessionring.NoNodeError{Op: "get"},
		"ErrTimeout":            node,
		"ErrOverloaded":         fmt.Errorf("set: %w", sessionring.ErrOverloaded),
		"context deadline":      fmt.Errorf("get: %w", context.DeadlineExceeded),
		"i/o timeout":           os.ErrDeadlineExceeded,
		"other":                 io.EOF,
	} {
		if got := kind(err); got != want {
			t.Errorf("%v: %s instead of %s", err, got, want)
		}
	}
}

func TestLarge(t *testing.T) {
	redistest.FindOrSkip(t)
	dir := docsOf(t)
	var out strings.Builder
	if err := flags(t, "-large", "-rounds", "1", "-time", "20ms", "-write", dir).run(t.Context(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	text := part(t, dir, largeSection)
	for _, row := range []string{"| go-redis | 1 |", "| rueidis | 1 |", "| " + clientOne + " | 1 |", "| go-redis | 3 |", "| " + clientTwo + " | 3 |"} {
		if strings.Count(text, row) != 1 {
			t.Errorf("no row %s in\n%s", row, text)
		}
	}
}

// What a request of ours may allocate, the payload that the measurement makes included: with one copy, the target. Under the race detector the runtime allocates too.
func TestAllocationsOfOurs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	nodes := redistest.Nodes(t, 3)
	ceilings := map[string]map[operation]float64{
		clientOne: {cycle: 15, read: 15},
		clientTwo: {cycle: 20, read: 20},
	}
	for name, ops := range ceilings {
		k, err := peerNamed(name).begin(t.Context(), addresses(nodes), 2)
		if err != nil {
			t.Fatal(err)
		}
		for op, ceiling := range ops {
			s, err := k.cell(t.Context(), nodes, op, 2, 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, %v: %.1f allocations", name, op, s.allocs)
			if s.allocs > ceiling {
				t.Errorf("%s, %v: %.1f allocations a request, over %.0f", name, op, s.allocs, ceiling)
			}
			if s.servers <= 0 {
				t.Errorf("%s, %v: the servers used no CPU", name, op)
			}
		}
		if err := k.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A client that answers with what was there before the last save ends the measurement.
func TestLostSaveIsNoticed(t *testing.T) {
	var last []byte
	saves := 0
	s := &store{
		get: func(context.Context, string) ([]byte, error) { return last, nil },
		set: func(_ context.Context, _ string, data []byte) error {
			if saves++; saves != sessionsEach+3 { // the third after the sessions were made is lost
				last = data
			}
			return nil
		},
	}
	lossy := peer{open: func(context.Context, []string) (opened, error) { return stores(s, func() error { return nil }) }}
	k, err := lossy.begin(t.Context(), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{}
	for i := range 4 {
		v.want = uint64(i + 1)
		if err = k.work[0].cycle(t.Context(), k.tokens[0], v); err != nil {
			break
		}
	}
	if want := "session was saved 4 times and holds the count 3"; fmt.Sprint(err) != want {
		t.Fatalf("%v, not: %s", err, want)
	}
}

// madeUp is a table of one peer beside the reference.
func madeUp(servers int, name string, op operation, goroutines int, rounds ...[2]sample) *table {
	t := newTable(servers, config{goroutines: []int{goroutines}}, nil)
	t.peers = []peer{peerNamed(reference), peerNamed(name)}
	for _, r := range rounds {
		t.add(reference, op, goroutines, r[0])
		t.add(name, op, goroutines, r[1])
	}
	return t
}

func TestRatioIsOfTheSameRound(t *testing.T) {
	tb := madeUp(1, clientOne, cycle, 1, [2]sample{{rate: 100}, {rate: 50}}, [2]sample{{rate: 10}, {rate: 20}}, [2]sample{{rate: 200}, {rate: 200}})
	k := key{clientOne, cycle, 1}
	if got, want := tb.ratio(k, reference, rate), (spread{1, 1, 2, 0.5, 2}); got != want {
		t.Errorf("%+v instead of %+v", got, want)
	}
	if got := tb.ratio(k, reference, client); got != (spread{}) {
		t.Errorf("a ratio to nothing: %+v", got)
	}
	if got := tb.ratio(key{"nobody", cycle, 1}, reference, rate); got != (spread{}) {
		t.Errorf("a ratio of nobody: %+v", got)
	}
}

func TestTargetsAreJudged(t *testing.T) {
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	ref := sample{rate: 100, client: 10, allocs: 18, p99: us(500)}
	tables := []*table{madeUp(1, clientOne, cycle, 64,
		[2]sample{ref, {rate: 200, client: 5.1, allocs: 15, p99: us(500)}}, [2]sample{ref, {rate: 210, client: 5.1, allocs: 15, p99: us(499)}}, [2]sample{ref, {rate: 190, client: 4, allocs: 16, p99: us(600)}})}
	for _, c := range []struct {
		figure  func(sample) float64
		against string
		bound   bound
		want    float64
		reached float64
		verdict string
	}{
		{rate, reference, atLeast, 2, 2, "met"},
		{rate, reference, atLeast, 2.01, 2, "not met"},
		{client, reference, atMost, 0.5, 0.51, "not met"},
		{client, reference, atMost, 0.51, 0.51, "met"},
		{allocs, "", atMost, 15, 15, "met"},
		{allocs, "", atMost, 14, 15, "not met"},
		{p99, reference, below, 1, 1, "not met"},
		{p99, reference, below, 1.1, 1, "met"},
		{rate, scsName, atLeast, 0, 0, "not measured"},
	} {
		g := target{"goal", 1, clientOne, c.against, cycle, c.figure, c.bound, []int{64, 16}, []float64{c.want, c.want}}
		got := g.judge(tables)
		if got[0].median != c.reached || got[0].verdict() != c.verdict || got[1].verdict() != "not measured" {
			t.Errorf("%s %v: %v, %s, %s", c.bound, c.want, got[0].median, got[0].verdict(), got[1].verdict())
		}
		g.servers = 3
		if got := g.judge(tables); got[0].measured {
			t.Error("judged by another number of servers")
		}
	}
	var b strings.Builder
	if err := writeTargets(&b, []target{{"goal", 1, clientOne, reference, cycle, rate, atLeast, []int{16, 64}, []float64{1.2, 2}}}, tables); err != nil {
		t.Fatal(err)
	}
	if want := "| goal | `cycle` | 1 | 16 / 64 | ≥ 1.2 / 2 | – / 2.00 (2.00–2.10) | not measured / met |\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("%s\nnot\n%s", b.String(), want)
	}
}

// Each target names rows that are measured, and as many values as numbers of goroutines.
func TestTargetsNameRows(t *testing.T) {
	for _, g := range targets() {
		for _, name := range []string{g.peer, g.against} {
			if name == "" {
				continue
			}
			p := peerNamed(name)
			if p.copies == 0 || !p.does(g.op) || g.servers > 1 && !p.several || g.servers < p.copies {
				t.Errorf("%s: %q has no such row", g.goal, name)
			}
		}
		if len(g.at) != len(g.want) {
			t.Errorf("%s: %d values at %d numbers of goroutines", g.goal, len(g.want), len(g.at))
		}
	}
}

func TestDocsHaveTheMarks(t *testing.T) {
	if err := docs("../../docs").check(targetSection, tableSection, memorySection, saturationSection, largeSection); err != nil {
		t.Error(err)
	}
}

func TestSectionIsReplaced(t *testing.T) {
	s := section("x")
	doc := "a\n" + string(s.begin()) + "old\n" + string(s.end()) + "b\n"
	got, err := s.replace([]byte(doc), "new\n")
	if want := "a\n" + string(s.begin()) + "\nnew\n\n" + string(s.end()) + "b\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v instead of %q", got, err, want)
	}
	for _, bad := range []string{"a", doc + doc, string(s.begin()), string(s.end()) + string(s.begin())} {
		if _, err := s.replace([]byte(bad), "new"); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestUsedCPU(t *testing.T) {
	got, err := usedCPU("# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:0.25\r\nused_cpu_sys_children:7\r\nused_cpu_user_main_thread:3\r\n")
	if err != nil || got != 1.75 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "used_cpu_sys:1\r\n", "used_cpu_sys:x\r\nused_cpu_user:1\r\n"} {
		if _, err := usedCPU(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range [][]string{{"-goroutines", "0"}, {"-rounds", "0"}, {"-time", "-1s"}, {"-peers", "("}, {"-memory", "-large"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if c := flags(t, "-memory", "-rounds", "4"); c.rounds != 4 || c.cell != time.Second || c.mode != memoryMode {
		t.Errorf("%+v", c)
	}
}
