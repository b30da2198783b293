package load

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

func openTest(t *testing.T, path string, opts ...sessionring.Option) *sessionring.Client {
	t.Helper()
	c, err := sessionring.Open(path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type tallies struct {
	sync.Mutex
	samples, errs int
	bad           map[Verdict]int
	ops           map[Op]int
	last          time.Duration
}

func (c *tallies) record(_ int, s *Sample) {
	c.Lock()
	defer c.Unlock()
	c.samples++
	c.ops[s.Op]++
	c.last = max(c.last, s.Ended)
	if s.Err != nil {
		c.errs++
	}
	if s.Verdict.Bad() {
		c.bad[s.Verdict]++
	}
}

func newTallies() *tallies { return &tallies{bad: map[Verdict]int{}, ops: map[Op]int{}} }

// Two clients share sessions while one of three nodes is killed: nothing
// fails, and nothing is lost or goes back in time.
func TestLoadThroughAKill(t *testing.T) {
	nodes := redistest.Nodes(t, 3)
	path := redistest.SavePath(nodes)
	r, err := New([]*sessionring.Client{openTest(t, path), openTest(t, path)},
		Workload{Sessions: 200, Size: 300, Reads: 0.5, Touch: true, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	var filled atomic.Int64
	if err := r.Fill(t.Context(), 8, func() { filled.Add(1) }); err != nil || filled.Load() != 200 {
		t.Fatalf("%d sessions filled: %v", filled.Load(), err)
	}
	c := newTallies()
	kill := time.AfterFunc(300*time.Millisecond, func() { _ = nodes[1].Kill() })
	defer kill.Stop()
	stats, err := r.Run(t.Context(), Step{Concurrency: 8, Rate: 1000, Duration: time.Second}, time.Now(), c.record)
	if err != nil {
		t.Fatal(err)
	}
	if int64(c.samples) != stats.Started || stats.Started+stats.Unsent != 1000 {
		t.Errorf("%d recorded, %d started, %d unsent; 1000 in all were due", c.samples, stats.Started, stats.Unsent)
	}
	if c.ops[Read] == 0 || c.ops[Write] == 0 {
		t.Errorf("reads and writes were asked for, came: %v", c.ops)
	}
	f := r.Verify(t.Context(), 8, nil)
	if c.errs != 0 || len(c.bad) != 0 || r.Integrity().Bad() || f != (Final{Checked: 200}) {
		t.Errorf("%d errors, verdicts %v, %+v, at the end %+v", c.errs, c.bad, r.Integrity(), f)
	}
}

// What goes wrong behind the client's back is noticed.
func TestLoadNoticesDamage(t *testing.T) {
	node := redistest.Node(t)
	path := node.SavePath("prefix=load:")
	client := openTest(t, path)
	r, err := New([]*sessionring.Client{client}, Workload{Sessions: 5, Size: 200, Reads: 1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	old := map[int]string{}
	for round := range 2 {
		if err := r.Fill(t.Context(), 2, nil); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			for i, id := range r.IDs() {
				v, err := node.Do("GET", "load:"+id)
				if err != nil {
					t.Fatal(err)
				}
				old[i] = text(v)
			}
		}
	}
	do := func(args ...any) {
		t.Helper()
		if _, err := node.Do(args...); err != nil {
			t.Fatal(err)
		}
	}
	ids := r.IDs()
	do("SET", "load:"+ids[0], old[0]) // as it was
	do("SET", "load:"+ids[1], old[2]) // another's
	do("SET", "load:"+ids[2], strings.ToUpper(old[2]))
	do("DEL", "load:"+ids[3], "sessionring:k:load:"+ids[3])
	f := r.Verify(t.Context(), 2, nil)
	if f != (Final{Checked: 5, Lost: 1, Stale: 1, Wrong: 2}) {
		t.Errorf("at the end: %+v", f)
	}
	want := Integrity{Lost: 1, Stale: 1, Foreign: 1, Corrupt: 1, LostReads: 1, StaleReads: 1, ForeignReads: 1, CorruptReads: 1}
	if got := r.Integrity(); got != want {
		t.Errorf("counted %+v; want %+v", got, want)
	}
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// A store that hangs cannot hide by keeping the load from asking: operations
// that were due meanwhile have waited from when they were due.
func TestLatencyCountsFromTheIntendedStart(t *testing.T) {
	node := redistest.Node(t)
	r, err := New([]*sessionring.Client{openTest(t, node.SavePath(), sessionring.WithDeadline(30*time.Second))},
		Workload{Sessions: 10, Size: 200, Reads: 1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Fill(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := node.Pause(); err != nil {
		t.Fatal(err)
	}
	wake := time.AfterFunc(500*time.Millisecond, func() { _ = node.Resume() })
	defer wake.Stop()
	waited := 0
	_, err = r.Run(t.Context(), Step{Concurrency: 1, Rate: 100, Duration: time.Second}, time.Now(), func(_ int, s *Sample) {
		if s.Latency() < s.Service() {
			t.Errorf("latency %v is less than the service time %v", s.Latency(), s.Service())
		}
		if s.Latency() > 100*time.Millisecond {
			waited++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// One worker was stuck on one operation for half a second; of the 40 that
	// were due in its first 400 ms all waited for 100 ms or more.
	if waited < 20 {
		t.Errorf("only %d operations waited for the hung node", waited)
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	node := redistest.Node(t)
	r, err := New([]*sessionring.Client{openTest(t, node.SavePath())}, Workload{Sessions: 10, Size: 200, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, rate := range []float64{0, 50} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		stats, err := r.Run(ctx, Step{Concurrency: 1, Rate: rate, Duration: time.Hour}, time.Now(), func(_ int, s *Sample) {
			if s.Err != nil {
				t.Errorf("an operation under way was cut off: %v", s.Err)
			}
			if n++; n == 5 {
				cancel()
			}
		})
		cancel()
		if err != nil || n != 5 || stats.Started != 5 {
			t.Errorf("rate %v: %d operations, %+v, %v", rate, n, stats, err)
		}
		if stats.Unsent > 2 { // not those of the rest of the hour
			t.Errorf("rate %v: %d operations count as unsent after a stop", rate, stats.Unsent)
		}
	}
}

func TestRefusals(t *testing.T) {
	client := openTest(t, "tcp://127.0.0.1:1")
	clients := []*sessionring.Client{client}
	good := Workload{Sessions: 4, Size: 200}
	for name, w := range map[string]Workload{
		"no sessions":  {Size: 200},
		"too small":    {Sessions: 1, Size: MinSize(IDLength) - 1},
		"too large":    {Sessions: 1, Size: sessionring.MaxDataLength + 1},
		"share over 1": {Sessions: 1, Size: 200, Reads: 1.1},
	} {
		if _, err := New(clients, w); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := New(nil, good); err == nil {
		t.Error("no client: accepted")
	}
	r, err := New(clients, good)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Step{
		"no workers":            {Duration: time.Second},
		"more workers than ids": {Concurrency: 5, Duration: time.Second},
		"negative rate":         {Concurrency: 1, Rate: -1, Duration: time.Second},
	} {
		if _, err := r.Run(t.Context(), s, time.Now(), nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := r.Fill(t.Context(), 2, nil); !errors.Is(err, sessionring.ErrNoNode) {
		t.Errorf("filling a store that is not there: %v", err)
	}
}

func TestIDs(t *testing.T) {
	ids := func(w Workload) []string {
		r, err := New([]*sessionring.Client{nil}, w)
		if err != nil {
			t.Fatal(err)
		}
		return r.IDs()
	}
	seen := map[string]bool{}
	for _, w := range []Workload{{Sessions: 1000, Size: 200}, {Sessions: 1000, Size: 200, Seed: 1}, {Sessions: 1000, Size: 200, Stream: 1}} {
		for i, id := range ids(w) {
			if seen[id] || len(id) != IDLength || sessionring.CheckID(id) != nil {
				t.Fatalf("id %d of seed %d, stream %d", i, w.Seed, w.Stream)
			}
			seen[id] = true
		}
		if again := ids(w); !seen[again[999]] {
			t.Error("the same seed gives other ids")
		}
	}
}

func TestKind(t *testing.T) {
	for want, err := range map[string]error{
		"":              nil,
		"no_node":       &sessionring.NoNodeError{Op: "get"},
		"timeout":       &sessionring.NodeError{Node: "tcp://a:1", Op: "get", Err: sessionring.ErrTimeout},
		"auth":          &sessionring.NoNodeError{Nodes: []*sessionring.NodeError{{Err: sessionring.ErrAuth}}},
		"out_of_memory": &sessionring.NodeError{Err: sessionring.ErrOutOfMemory},
		"deadline":      context.DeadlineExceeded,
		"other":         errors.New("something"),
	} {
		if got := Kind(err); got != want {
			t.Errorf("%v is %q; want %q", err, got, want)
		}
	}
}
