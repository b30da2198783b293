package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot"

	"github.com/sessionring/sessionring/internal/load"
	"github.com/sessionring/sessionring/internal/redistest"
)

func benchLine(t *testing.T, out string) map[string]any {
	t.Helper()
	var line map[string]any
	d := json.NewDecoder(strings.NewReader(out))
	if err := d.Decode(&line); err != nil {
		t.Fatalf("no JSON object: %v\n%s", err, out)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one JSON object (%v):\n%s", err, out)
	}
	return line
}

func wantNumbers(t *testing.T, line map[string]any, want map[string]float64) {
	t.Helper()
	for name, n := range want {
		if got, ok := line[name].(float64); !ok || got != n {
			t.Errorf("%s is %v; want %v", name, line[name], n)
		}
	}
}

// keysOf lists what is on the nodes, less leases, which end by themselves.
func keysOf(t *testing.T, servers []*redistest.Server) []string {
	t.Helper()
	out := []string{}
	for i, s := range servers {
		for db := range 4 {
			conn, err := s.Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Do(t.Context(), "SELECT", db); err != nil && db > 0 {
				_ = conn.Close()
				break // a cluster has one database
			}
			v, err := conn.Do(t.Context(), "KEYS", "*")
			_ = conn.Close()
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range v.([]any) {
				if key := fmt.Sprintf("%s", k); !strings.HasPrefix(key, "sessionring:lease") {
					out = append(out, fmt.Sprintf("node %d, database %d: %s", i, db, key))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// One of three own nodes is killed, comes back empty, and hangs: nobody notices. (Always the same one: two copies
// bear one fault at a time, and how long the first takes to mend depends on the machine.)
func TestBenchFaults(t *testing.T) {
	redistest.FindOrSkip(t)
	dir := t.TempDir()
	report, plot := filepath.Join(dir, "a.json"), filepath.Join(dir, "a.png")
	x := newTool(t)
	r := x.run("bench", "--nodes", "3", "--weights", "1,2,2", "--sessions", "200", "--concurrency", "8", "--rate", "800",
		"--clients", "2", "--duration", "2s", "--warmup", "100ms", "--kill", "300ms:1", "--restart-empty", "900ms:1",
		"--hang", "1500ms:300ms:1", "--json", "--report", report, "--plot", plot).exits(exitDone)
	line := benchLine(t, r.out)
	for _, name := range []string{"ops", "errors", "ops_per_sec", "p50_ms", "p99_ms", "p999_ms", "max_ms", "lost", "stale"} {
		if _, ok := line[name].(float64); !ok {
			t.Errorf("the contract's %s is %v", name, line[name])
		}
	}
	wantNumbers(t, line, map[string]float64{"errors": 0, "stale": 0, "foreign": 0, "corrupt": 0, "checked": 200, "lost_at_end": 0, "unreadable": 0})
	// On a machine so busy that a healthy node does not answer for a while, a read may find neither owner.
	if line["lost"].(float64) != line["away"].(float64) {
		t.Errorf("%v sessions lost, %v of them only while their nodes were away", line["lost"], line["away"])
	}
	if ops, unsent := line["ops"].(float64), line["unsent"].(float64); ops == 0 || ops+unsent != 1600 {
		t.Errorf("%v operations and %v unsent; 1600 were due", ops, unsent)
	}
	if faults := line["faults"].([]any); len(faults) != 3 {
		t.Errorf("faults: %v", faults)
	}
	if changes := line["state_changes"].([]any); len(changes) == 0 {
		t.Error("a node died, and no change of state is told")
	}
	if _, ok := line["detail"]; ok {
		t.Error("histograms on standard output")
	}
	shares := 0.0
	for _, n := range line["nodes"].([]any) {
		shares += n.(map[string]any)["share"].(float64)
	}
	if shares < 0.999 || shares > 1.001 {
		t.Errorf("the nodes' shares are %v together", shares)
	}

	b, err := readReport(report)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.Detail.Latency.TotalCount(); n != b.Ops || b.Detail.Reads.TotalCount()+b.Detail.Writes.TotalCount() != n {
		t.Errorf("the histograms hold %d operations of %d", n, b.Ops)
	}
	if len(b.Detail.Points) < 10 {
		t.Errorf("%d points in time", len(b.Detail.Points))
	}
	checkPicture(t, plot)
	svg := filepath.Join(dir, "a.svg")
	if err := plotReport(svg, b); err != nil {
		t.Fatal(err)
	}
	checkPicture(t, svg)

	r = x.run("bench", "--compare", report, report, "--json").exits(exitDone)
	rows := benchLine(t, r.out)["rows"].(map[string]any)
	if row := rows["p99_ms"].(map[string]any); row["ratio"].(float64) != 1 || row["a"] != row["b"] {
		t.Errorf("a report compared with itself: %v", row)
	}
	text := x.run("bench", "--compare", report, report).exits(exitDone).out
	if !strings.Contains(text, "p99_ms") {
		t.Errorf("the comparison: %s", text)
	}
}

func checkPicture(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".png") {
		img, err := png.Decode(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		colours := map[[4]uint32]bool{}
		size := img.Bounds()
		for y := size.Min.Y; y < size.Max.Y; y += 2 {
			for x := size.Min.X; x < size.Max.X; x += 2 {
				r, g, b, a := img.At(x, y).RGBA()
				colours[[4]uint32{r, g, b, a}] = true
			}
		}
		if size.Dx() < 800 || size.Dy() < 800 || len(colours) < 20 {
			t.Errorf("a picture of %v with %d colours", size, len(colours))
		}
		return
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	shown := ""
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := token.(xml.CharData); ok {
			shown += string(c) + "\n"
		}
	}
	for _, want := range []string{"kill node 1", "restart-empty node 1", "hang node 1", "latency, ms", "percentile", "99 %"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
}

// On nodes that others use too: their keys are left alone, and nothing of the bench stays.
func TestBenchLeavesNothing(t *testing.T) {
	servers := redistest.Nodes(t, 2, redistest.Options{Password: "bench-pw"}, redistest.Options{TLS: true})
	path := servers[0].SavePath("prefix=app:", "weight=2") + ", " + servers[1].TLSSavePath("database=3")
	x := newTool(t)
	x.stdin("visits|i:1;").run("set", path, "abcdefabcdefabcdefabcdef").exits(exitDone)
	theirs := []string{"app:abcdefabcdefabcdefabcdef", "sessionring-benchmark", "x"}
	for _, s := range servers {
		for _, k := range theirs {
			if _, err := s.Do("SET", k, "theirs"); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := keysOf(t, servers)
	for _, args := range [][]string{
		{"--mode", "write", "--size", "4KiB", "--concurrency", "2,4"},
		{"--mode", "read", "--touch", "--copies", "1", "--concurrency", "4"},
		{"--rate", "200,400", "--distribution", "phpredis", "--reads", "90"},
	} {
		r := x.run(append([]string{"bench", path, "--json", "--check", "--sessions", "50", "--duration", "150ms", "--warmup", "0s"}, args...)...).exits(exitDone)
		line := benchLine(t, r.out)
		if line["ops"].(float64) == 0 || line["cleaned_up"] != true || line["removed"].(float64) < 50 {
			t.Errorf("%v: %v operations, cleaned up %v, %v keys removed", args, line["ops"], line["cleaned_up"], line["removed"])
		}
		steps := line["steps"].([]any)
		if strings.Contains(strings.Join(args, " "), ",") != (len(steps) == 2) {
			t.Errorf("%v: %d steps", args, len(steps))
		}
		if strings.Contains(r.out+r.err, "bench-pw") {
			t.Errorf("%v: the password is shown", args)
		}
	}
	if after := keysOf(t, servers); !slices.Equal(after, before) {
		t.Errorf("keys before: %q\nafterwards: %q", before, after)
	}
	for _, s := range servers {
		for _, k := range theirs {
			if v, err := s.Do("GET", k); err != nil || fmt.Sprintf("%s", v) != "theirs" {
				t.Errorf("%s is %v, %v", k, v, err)
			}
		}
	}

	// What a killed bench leaves goes with --clean.
	for _, k := range []string{"sessionring-bench:0123:id", "sessionring:k:sessionring-bench:0123:id", "sessionring:mark|sessionring-bench:0123:|"} {
		if _, err := servers[0].Do("SET", k, "left"); err != nil {
			t.Fatal(err)
		}
	}
	r := x.run("bench", "--clean", path, "--json").exits(exitDone)
	wantNumbers(t, benchLine(t, r.out), map[string]float64{"removed": 3})
	if after := keysOf(t, servers); !slices.Equal(after, before) {
		t.Errorf("keys before: %q\nafter --clean: %q", before, after)
	}
}

// With one copy a killed node takes its sessions along, and that is told.
func TestBenchTellsLosses(t *testing.T) {
	redistest.FindOrSkip(t)
	r := newTool(t).run("bench", "--nodes", "3", "--copies", "1", "--sessions", "100", "--concurrency", "4", "--rate", "500",
		"--duration", "700ms", "--warmup", "0s", "--mode", "read", "--restart-empty", "200ms:1", "--check")
	r.exits(exitFailed).says("sessions lost")
	if !strings.Contains(r.out, "none failed") || !strings.Contains(r.out, "restart-empty node 1") {
		t.Errorf("the report: %s", r.out)
	}
}

func TestBenchInterrupted(t *testing.T) {
	servers := redistest.Nodes(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		// Value and stamp of 100 sessions are 200 keys; what comes after those is the load. It would run for an hour.
		filled := 0
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			n, err := servers[0].DBSize()
			info, infoErr := servers[0].Info("stats")
			commands, _ := strconv.Atoi(info["total_commands_processed"])
			switch {
			case err != nil || infoErr != nil || n < 200:
			case filled == 0:
				filled = commands
			case commands > filled+1000:
				cancel()
			}
		}
	}()
	r := newTool(t).runContext(ctx, "bench", redistest.SavePath(servers), "--duration", "1h", "--warmup", "0s", "--sessions", "100",
		"--concurrency", "4", "--json").exits(exitFailed)
	line := benchLine(t, r.out)
	if line["interrupted"] != true || line["ops"].(float64) == 0 {
		t.Errorf("interrupted %v after %v operations", line["interrupted"], line["ops"])
	}
	wantNumbers(t, line, map[string]float64{"errors": 0, "lost": 0, "stale": 0, "checked": 100})
	if left := keysOf(t, servers); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// TestBenchProcess is the worker of TestBenchProcesses, a process of its own.
func TestBenchProcess(t *testing.T) {
	if os.Getenv(benchWorkerEnv) == "" {
		t.Skip("runs as a process of TestBenchProcesses")
	}
	os.Exit(run(t.Context(), []string{"bench-worker"}, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv}))
}

func TestBenchProcesses(t *testing.T) {
	redistest.FindOrSkip(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	a := &app{globals: &globals{JSON: true}, streams: streams{out: &out, err: &errs, env: os.LookupEnv}}
	c := &benchCmd{
		Nodes: 3, Mode: "mixed", Reads: 50, Sessions: 101, Size: 300, Concurrency: []int{5}, Rate: []float64{600},
		Duration: 600 * time.Millisecond, Warmup: 100 * time.Millisecond, Clients: 1, Processes: 2, Seed: 7,
		Kill: []string{"200ms"}, worker: []string{self, "-test.run=^TestBenchProcess$"},
	}
	if err := c.Run(t.Context(), a); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	line := benchLine(t, out.String())
	wantNumbers(t, line, map[string]float64{"errors": 0, "lost_at_end": 0, "stale": 0, "checked": 101})
	if ops, unsent := line["ops"].(float64), line["unsent"].(float64); ops == 0 || ops+unsent != 360 {
		t.Errorf("%v operations and %v unsent; two processes were due 360", ops, unsent)
	}
	step := line["steps"].([]any)[0].(map[string]any)
	wantNumbers(t, step, map[string]float64{"concurrency": 5, "rate": 600})

	// A process that cannot work says why.
	c.worker, c.Kill = []string{self, "-test.run=^TestNoSuchTest$"}, nil
	if err := c.Run(t.Context(), a); err == nil || !strings.Contains(err.Error(), "process") {
		t.Errorf("workers that end at once: %v", err)
	}
}

func TestBenchRefusals(t *testing.T) {
	x := newTool(t)
	path := "tcp://127.0.0.1:1"
	for _, c := range []struct {
		args string
		says string
	}{
		{"", "no save_path"},
		{path + " --nodes 3", "not both"},
		{path + " --kill 1s", "--nodes N"},
		{path + " --hang 1s:1s", "--nodes N"},
		{path + " --weights 1,2", "weight=N"},
		{"--nodes 65", "--nodes"},
		{"--nodes 3 --weights 1,0", "--weights"},
		{"--nodes 3 --kill 10s", "after the end"},
		{"--nodes 3 --kill 1s:3", "no node 3"},
		{"--nodes 3 --kill soon", "AT[:NODE]"},
		{"--nodes 3 --hang 1s", "AT:FOR"},
		{"--nodes 3 --hang 1s:0s", "AT:FOR"},
		{"--nodes 3 --restart 1s:-1", "AT[:NODE]"},
		{"--nodes 3 --sessions 8", "--sessions"},
		{"--nodes 3 --size 10", "--size"},
		{"--nodes 3 --size huge", "size"},
		{"--nodes 3 --size 1GiB", "size"},
		{"--nodes 3 --reads 101", "--reads"},
		{"--nodes 3 --rate -1", "--rate"},
		{"--nodes 3 --duration 0s", "--duration"},
		{"--nodes 3 --duration 25h", "24h"},
		{"--nodes 3 --concurrency 1,2 --rate 1,2,3", "steps"},
		{"--nodes 3 --concurrency 1 --processes 2", "processes"},
		{"--nodes 3 --mode delete", "mode"},
		{"--nodes 3 --plot a.jpg", ".png"},
		{"--nodes 3 --copies -1", "--copies"},
		{"--compare a.json", "second report"},
		{"tcp://127.0.0.1:1?weight=0", "weight"},
	} {
		r := x.run(append([]string{"bench"}, strings.Fields(c.args)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, c.says) {
			t.Errorf("bench %s: exit %d, %s", c.args, r.code, r.err)
		}
	}
	x.run("bench", path, "--duration", "1s").exits(exitFailed).says("127.0.0.1:1")
	x.run("bench", "--compare", "bench_test.go", "bench_test.go").exits(exitFailed).says("no report")
}

func TestBenchNoServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("REDIS_SERVER", "")
	newTool(t).run("bench", "--nodes", "3").exits(exitFailed).says("apt install redis-server")
}

func TestBenchRefusesToFill(t *testing.T) {
	node := redistest.Node(t, redistest.Options{MaxMemory: 8 << 20, MaxMemoryPolicy: "allkeys-lru"})
	newTool(t).run("bench", node.SavePath(), "--sessions", "20000", "--size", "1KiB").exits(exitFailed).says("refused", "maxmemory")
	if n, err := node.DBSize(); err != nil || n != 0 {
		t.Errorf("%d keys, %v", n, err)
	}
}

func TestBenchOnACluster(t *testing.T) {
	cluster := redistest.StartClusterFor(t, 3, 0)
	r := newTool(t).run("bench", cluster.SavePath(), "--json", "--check", "--sessions", "60", "--concurrency", "4", "--duration", "200ms", "--warmup", "0s").exits(exitDone)
	line := benchLine(t, r.out)
	if line["ops"].(float64) == 0 || line["cleaned_up"] != true {
		t.Errorf("%v operations, cleaned up: %v", line["ops"], line["cleaned_up"])
	}
	if left := keysOf(t, cluster.Nodes); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestBenchCleanRefusesOtherPrefixes(t *testing.T) {
	sp, err := quietApp().parse("tcp://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "*", "PHPREDIS_SESSION:", "sessionring"} {
		if _, err := benchClean(t.Context(), sp, prefix); err == nil || !strings.Contains(err.Error(), "no prefix of a bench") {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}

func TestBenchSize(t *testing.T) {
	for text, want := range map[string]benchSize{"1024": 1024, "1KiB": 1024, "4k": 4096, "2 MiB": 2 << 20, "10kb": 10240, "300B": 300} {
		var s benchSize
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "k", "-1", "1.5k", "512MiB", "99999999999M", "1e3"} {
		var s benchSize
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, s)
		}
	}
}

// Several workers' operations, recorded apart and sent as JSON, come together as one.
func TestBenchRecorderMerges(t *testing.T) {
	ids := []string{"a", "b", "c"}
	owner := func(id string) int { return int(id[0]-'a') % 2 }
	total := &benchResult{}
	for process := range 2 {
		r := newBenchRecorder(ids, 2, owner, 100*time.Millisecond, 3)
		for worker := range 3 {
			for i := range 100 {
				s := &load.Sample{Op: load.Op(i % 2), Session: worker, Intended: time.Duration(i) * time.Millisecond}
				s.Started = s.Intended + time.Millisecond
				s.Ended = s.Started + time.Duration(i+1)*time.Millisecond
				if i == 99 && process == 1 {
					s.Err = errors.New("broken")
					s.Ended = s.Started + time.Hour // beyond the histogram's range
				}
				if s.Ended < time.Second {
					r.record(worker, s)
				} else {
					s.Ended = s.Started + 700*time.Millisecond
					r.record(worker, s)
				}
			}
		}
		r.endStep(load.Step{Concurrency: 3, Rate: 50}, load.StepStats{Elapsed: time.Second})
		text, err := json.Marshal(r.result())
		if err != nil {
			t.Fatal(err)
		}
		var back benchResult
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		total.merge(&back)
	}
	if len(total.Steps) != 1 {
		t.Fatalf("%d steps", len(total.Steps))
	}
	s := total.Steps[0]
	s.sum()
	if s.Ops != 600 || s.Errors != 3 || s.Concurrency != 6 || s.Rate != 100 || s.all().TotalCount() != 600 || s.OpsPerSec != 600 {
		t.Errorf("the step: %+v", s)
	}
	// Latency is 2 to 101 ms, evenly; a histogram of three digits is off by a thousandth.
	if s.P50 < 51 || s.P50 > 52 || s.Max < 700 || s.Max > 702 {
		t.Errorf("p50 %v, max %v", s.P50, s.Max)
	}
	if p := s.Service.ms(50); p < 50 || p > 51 {
		t.Errorf("p50 from when they were sent: %v", p)
	}
	if total.Nodes[0] != 400 || total.Nodes[1] != 200 || total.Kinds["other"] != 3 || len(total.Samples) != 3 {
		t.Errorf("nodes %v, kinds %v, samples %v", total.Nodes, total.Kinds, total.Samples)
	}
	ops := int64(0)
	for _, slice := range total.Slices {
		ops += slice.Ops
	}
	if ops != 600 {
		t.Errorf("the slices of time hold %d operations", ops)
	}
	h := newBenchHist(benchHistDigits)
	h.record(time.Hour)
	h.record(0)
	if h.TotalCount() != 2 || h.ms(100) < 590_000 {
		t.Errorf("values beyond the range: %d recorded, longest %v ms", h.TotalCount(), h.ms(100))
	}
}

func TestPlotTicks(t *testing.T) {
	labels := func(ticks []plot.Tick) string {
		var out []string
		for _, x := range ticks {
			if x.Label != "" {
				out = append(out, x.Label)
			}
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct{ got, want string }{
		{labels(roundTicks(12).Ticks(0, 12)), "0 1 2 3 4 5 6 7 8 9 10 11 12"},
		{labels(roundTicks(12).Ticks(0, 0.6)), "0.00 0.05 0.10 0.15 0.20 0.25 0.30 0.35 0.40 0.45 0.50 0.55 0.60"},
		{labels(roundTicks(6).Ticks(0, 2_400_000)), "0 500000 1000000 1500000 2000000"},
		{labels(decadeTicks{}.Ticks(0.1, 10_000)), "0.1 1 10 100 1000 10000"},
		{labels(decadeTicks{}.Ticks(1, 10)), "1 2 5 10"},
		{labels(percentileTicks{}.Ticks(1, 10_000)), "0 % 50 % 75 % 90 % 99 % 99.9 % 99.99 %"},
	} {
		if c.got != c.want {
			t.Errorf("ticks %s; want %s", c.got, c.want)
		}
	}
}

// A report of nothing, or of next to nothing, is drawn as well.
func TestPlotOfLittle(t *testing.T) {
	for ops := range 3 {
		r := newBenchRecorder([]string{"a"}, 1, func(string) int { return 0 }, time.Second, 1)
		for range ops {
			r.record(0, &load.Sample{Ended: time.Microsecond})
		}
		r.endStep(load.Step{Concurrency: 1}, load.StepStats{Elapsed: time.Second})
		sp, err := quietApp().parse("tcp://127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		c := &benchCmd{Mode: "mixed", Concurrency: []int{1}, Rate: []float64{0}, Clients: 1, Processes: 1}
		b := newBenchReport(c, &benchPlan{path: sp, slice: time.Second}, r.result(), nil, time.Now(), nil, nil)
		for _, name := range []string{"a.png", "a.svg"} {
			name = filepath.Join(t.TempDir(), name)
			if err := plotReport(name, b); err != nil {
				t.Errorf("%d operations: %v", ops, err)
			} else if info, err := os.Stat(name); err != nil || info.Size() == 0 {
				t.Errorf("%d operations: %v, %v", ops, info, err)
			}
		}
	}
}
