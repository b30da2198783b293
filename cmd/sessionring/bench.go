package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/load"
	"github.com/sessionring/sessionring/internal/redistest"
)

const (
	benchFillTime   = 10 * time.Minute // at most, for the first write of all sessions
	benchMaxTime    = 24 * time.Hour   // of measuring
	benchSlices     = 150              // about so many points in time on the plot,
	benchSliceLeast = 50 * time.Millisecond
	benchMaxNodes   = 64
	benchMaxProcs   = 64
	benchMemoryFull = 0.9 // of maxmemory: a bench that would fill a node further is refused
	benchKeyBytes   = 400 // of a session beside its bytes: key, stamp, their entries
)

type benchCmd struct {
	pathArg
	ringFlags

	Nodes   int   `placeholder:"N" help:"Start N redis-servers for this bench, 1 to 64, instead of using a save_path."`
	Weights []int `placeholder:"W" help:"Weights of these nodes, in turn (default all 1)."`

	Mode        string        `enum:"read,write,mixed" default:"mixed" placeholder:"read|write|mixed" help:"What operations do (default ${default})."`
	Reads       float64       `default:"50" placeholder:"PERCENT" help:"Share of reads in mode mixed (default ${default})."`
	Touch       bool          `help:"Reads prolong the session, as a web request does."`
	Sessions    int           `default:"1000" placeholder:"N" help:"How many different sessions (default ${default})."`
	Size        benchSize     `default:"1KiB" placeholder:"BYTES" help:"Bytes of a session, as 1024, 4KiB or 1MiB (default ${default})."`
	Concurrency []int         `default:"16" placeholder:"N" help:"Operations under way at most (default ${default}). Several values make steps."`
	Rate        []float64     `default:"0" placeholder:"N" help:"Operations a second; 0 is as fast as it goes (default). Several values make steps, a ramp."`
	Duration    time.Duration `default:"10s" help:"How long each step measures (default ${default})."`
	Warmup      time.Duration `default:"1s" help:"How long the first step runs before anything is measured (default ${default})."`
	Clients     int           `default:"1" placeholder:"N" help:"Clients in each process, as of so many application servers; they share the sessions (default ${default})."`
	Processes   int           `default:"1" placeholder:"N" help:"Spread the load over so many processes; what they measure is merged (default ${default})."`
	Seed        uint64        `default:"1" placeholder:"N" help:"Of the session ids and the order of operations (default ${default})."`

	Kill         []string `sep:"none" placeholder:"AT[:NODE]" help:"Kill a node (kill -9) so long after the measuring began, as 3s or 3s:1. May be repeated, as the next three."`
	Hang         []string `sep:"none" placeholder:"AT:FOR[:NODE]" help:"Make a node stand still (SIGSTOP), as 3s:2s."`
	Restart      []string `sep:"none" placeholder:"AT[:NODE]" help:"Kill a node unless it is dead, and start it with the data it had."`
	RestartEmpty []string `sep:"none" placeholder:"AT[:NODE]" help:"The same, without its data."`

	Report  string `placeholder:"FILE" help:"Write everything that was measured to a JSON file, histograms included."`
	Plot    string `placeholder:"FILE" help:"Draw throughput, latency over time and percentiles: FILE.png or FILE.svg."`
	Check   bool   `help:"Exit 1 if an operation failed, or a session was lost, went back in time, or was wrong."`
	Compare string `placeholder:"FILE" help:"Compare two reports instead: this one, and the one given as argument."`
	Clean   bool   `help:"Remove what earlier benches left behind on these nodes, if they were killed, instead."`

	worker []string // command line of a process of the load, this program's by default
}

// Help is printed by --help.
func (benchCmd) Help() string {
	return `Puts the nodes of a save_path under load by reading and writing sessions of its own, and checks every one of them: each holds its id and a counter, so a session that was lost (acknowledged, reads as absent), went back in time (reads older than acknowledged) or is another's is counted. At the end every session is read once more.

With --rate, operations are due at even intervals, and latency counts from when an operation was due: a node that hangs cannot look fast by keeping the load from asking. Without it every worker starts its next operation when the last ended, and latency is what the store took.

Safe by default: keys have a prefix of the run's own ("sessionring-bench:…") instead of the save_path's, live for a limited time, and are removed at the end; nothing is ever flushed; a load that would fill a node's maxmemory is refused. Faults are for nodes that bench started itself.

Examples:

    sessionring bench --nodes 3 --kill 3s --plot kill.png
    sessionring bench --nodes 3 --rate 2000 --hang 3s:2s:1 --restart-empty 7s:2 --check
    sessionring bench --rate 1000,2000,4000,8000 --duration 5s --report a.json 'tcp://host1, tcp://host2'
    sessionring bench --processes 2 --concurrency 64 --size 4KiB @/etc/php/save_path
    sessionring bench --compare a.json b.json`
}

// benchSize is a number of bytes on the command line.
type benchSize int

// UnmarshalText reads "1024", "1KiB", "1k", "2MiB".
func (s *benchSize) UnmarshalText(text []byte) error {
	t := strings.ToLower(strings.TrimSpace(string(text)))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "b"), "i")
	unit := 1
	switch {
	case strings.HasSuffix(t, "k"):
		t, unit = t[:len(t)-1], 1<<10
	case strings.HasSuffix(t, "m"):
		t, unit = t[:len(t)-1], 1<<20
	}
	n, err := strconv.Atoi(strings.TrimSpace(t))
	if err != nil || n < 0 || n > sessionring.MaxDataLength/unit {
		return fmt.Errorf("%q is no size; write 1024, 4KiB or 1MiB", text)
	}
	*s = benchSize(n * unit)
	return nil
}

// Run does the load test.
func (c *benchCmd) Run(ctx context.Context, a *app) error {
	switch {
	case c.Compare != "":
		return compareReports(a, c.Compare, c.SavePath)
	case c.Clean:
		return c.clean(ctx, a)
	}
	plan, err := c.plan()
	if err != nil {
		return err
	}
	var servers []*redistest.Server
	var sp *sessionring.SavePath
	if c.Nodes > 0 {
		if servers, err = startBenchNodes(ctx, c.Nodes, plan.faults); err != nil {
			return err
		}
		defer func() { _ = redistest.StopNodes(servers) }() // a process that cannot be stopped dies with this one
		var entries []string
		for i, s := range servers {
			entries = append(entries, s.SavePath(fmt.Sprintf("weight=%d", c.weight(i))))
		}
		sp, err = a.parse(strings.Join(entries, ","))
	} else {
		var path string
		if path, err = a.savePath(c.SavePath); err != nil {
			return err
		}
		sp, err = a.parse(path)
	}
	if err != nil {
		return err
	}
	plan.takeOver(sp, c.ringFlags)
	if err := c.refuseToFill(ctx, a, plan); err != nil {
		return err
	}
	report, err := c.measure(ctx, a, plan, servers)
	if report == nil {
		return err
	}
	return errors.Join(err, c.deliver(ctx, a, report))
}

func (c *benchCmd) weight(i int) int {
	if len(c.Weights) == 0 {
		return 1
	}
	return c.Weights[i%len(c.Weights)]
}

// benchPlan is what the flags ask for.
type benchPlan struct {
	work     load.Workload
	steps    []load.Step
	warmup   load.Step
	faults   []benchFault
	slice    time.Duration
	measured time.Duration // all steps

	path   *sessionring.SavePath // the bench's own: prefix, copies, distribution, lifetime
	prefix string
}

// plan checks the flags.
func (c *benchCmd) plan() (*benchPlan, error) {
	if err := c.ringFlags.check(); err != nil {
		return nil, err
	}
	for _, check := range []struct {
		bad  bool
		text string
	}{
		{c.Nodes < 0 || c.Nodes > benchMaxNodes, fmt.Sprintf("--nodes must be 1 to %d", benchMaxNodes)},
		{c.Nodes > 0 && c.SavePath != "", "give a save_path or --nodes, not both"},
		{c.Nodes == 0 && len(c.Weights) > 0, "--weights are for the nodes of --nodes; in a save_path write weight=N"},
		{slices.ContainsFunc(c.Weights, func(w int) bool { return w < 1 }), "--weights must be 1 or more"},
		{!(c.Reads >= 0 && c.Reads <= 100), "--reads must be 0 to 100"},
		{c.Sessions < 1, "--sessions must be 1 or more"},
		{int(c.Size) < load.MinSize(load.IDLength), fmt.Sprintf("--size must be %d or more: a session holds its id and a counter", load.MinSize(load.IDLength))},
		{slices.ContainsFunc(c.Concurrency, func(n int) bool { return n < 1 }), "--concurrency must be 1 or more"},
		{slices.ContainsFunc(c.Rate, func(r float64) bool { return !(r >= 0) || math.IsInf(r, 0) }), "--rate must be 0 or more"},
		{c.Duration <= 0, "--duration must be above 0"},
		{c.Warmup < 0, "--warmup must be 0 or more"},
		{c.Clients < 1, "--clients must be 1 or more"},
		{c.Processes < 1 || c.Processes > benchMaxProcs, fmt.Sprintf("--processes must be 1 to %d", benchMaxProcs)},
		{c.Plot != "" && !strings.HasSuffix(c.Plot, ".png") && !strings.HasSuffix(c.Plot, ".svg"), "--plot must end in .png or .svg"},
	} {
		if check.bad {
			return nil, usageError{check.text}
		}
	}
	p := &benchPlan{work: load.Workload{Sessions: c.Sessions, Size: int(c.Size), Touch: c.Touch, Seed: c.Seed}}
	switch c.Mode {
	case "read":
		p.work.Reads = 1
	case "write":
		p.work.Reads = 0
	default:
		p.work.Reads = c.Reads / 100
	}
	if err := c.planSteps(p); err != nil {
		return nil, err
	}
	return p, c.planFaults(p)
}

func (c *benchCmd) planSteps(p *benchPlan) error {
	n := max(len(c.Concurrency), len(c.Rate))
	if len(c.Concurrency) > 1 && len(c.Rate) > 1 && len(c.Concurrency) != len(c.Rate) {
		return usagef("--concurrency has %d steps and --rate %d: give as many, or one value of either", len(c.Concurrency), len(c.Rate))
	}
	for i := range n {
		s := load.Step{
			Concurrency: c.Concurrency[min(i, len(c.Concurrency)-1)], Rate: c.Rate[min(i, len(c.Rate)-1)], Duration: c.Duration,
		}
		if s.Concurrency < c.Processes {
			return usagef("--concurrency %d cannot be spread over %d processes", s.Concurrency, c.Processes)
		}
		if s.Concurrency > c.Sessions {
			return usagef("--concurrency %d needs as many --sessions: one session is written by one operation at a time", s.Concurrency)
		}
		p.steps = append(p.steps, s)
	}
	if c.Duration > benchMaxTime/time.Duration(n) {
		return usagef("--duration: all steps together may last %v at most", benchMaxTime)
	}
	p.measured = time.Duration(n) * c.Duration
	p.warmup = p.steps[0]
	p.warmup.Duration = c.Warmup
	p.slice = max(benchSliceLeast, (p.measured / benchSlices).Round(10*time.Millisecond))
	return nil
}

func (c *benchCmd) planFaults(p *benchPlan) error {
	for _, kind := range []struct {
		name  string
		texts []string
	}{{"kill", c.Kill}, {"hang", c.Hang}, {"restart", c.Restart}, {"restart-empty", c.RestartEmpty}} {
		faults, err := parseBenchFaults(kind.name, kind.texts)
		if err != nil {
			return err
		}
		for _, f := range faults {
			switch {
			case c.Nodes == 0:
				return usagef("--%s is for nodes that bench starts itself: add --nodes N", kind.name)
			case f.Node >= c.Nodes:
				return usagef("--%s: there is no node %d; 0 to %d are", kind.name, f.Node, c.Nodes-1)
			case f.At >= p.measured:
				return usagef("--%s at %v comes after the end: all steps together measure for %v", kind.name, f.At, p.measured)
			}
		}
		p.faults = append(p.faults, faults...)
	}
	slices.SortStableFunc(p.faults, func(a, b benchFault) int { return cmp.Compare(a.At, b.At) })
	return nil
}

// takeOver makes the save_path the bench's own.
func (p *benchPlan) takeOver(sp *sessionring.SavePath, ring ringFlags) {
	p.path, p.prefix = sp, newBenchPrefix()
	ring.apply(sp)
	for i := range sp.Nodes {
		sp.Nodes[i].Prefix = p.prefix
	}
	// Long enough for the whole run, so that no session ends during it; short enough to be gone soon by itself
	// should the run be killed before it has cleaned up.
	lifetime := benchFillTime + p.warmup.Duration + p.measured + verifyLimit(p.work.Sessions) + benchCleanTime
	sp.Settings.Lifetime = lifetime.Round(time.Second)
}

// jobs divides the load among processes.
func (c *benchCmd) jobs(a *app, p *benchPlan) []benchJob {
	share := func(n, i int) int { return n/c.Processes + min(1, max(0, n%c.Processes-i)) }
	var jobs []benchJob
	for i := range c.Processes {
		work := p.work
		work.Sessions, work.Stream = share(p.work.Sessions, i), uint64(i)
		part := func(s load.Step) load.Step {
			s.Concurrency, s.Rate = share(s.Concurrency, i), s.Rate/float64(c.Processes)
			return s
		}
		job := benchJob{
			SavePath: p.path.Reveal(), Lenient: a.Lenient, Deadline: a.Deadline, Clients: c.Clients, FirstClient: i * c.Clients,
			Work: work, Warmup: part(p.warmup), Slice: p.slice, Concurrency: min(work.Sessions, 4*runtime.GOMAXPROCS(0)),
		}
		for _, s := range p.steps {
			job.Steps = append(job.Steps, part(s))
		}
		jobs = append(jobs, job)
	}
	return jobs
}

// refuseToFill asks the nodes for their memory: a bench must not make a node evict its users' sessions, or
// refuse them. What cannot be asked is not refused.
func (c *benchCmd) refuseToFill(ctx context.Context, a *app, p *benchPlan) error {
	if c.Nodes > 0 || p.path.Kind != sessionring.KindNodes {
		return nil
	}
	client, err := sessionring.Open(p.path.Reveal(), sessionring.WithObserver(), sessionring.WithLenient())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ring := client.Ring()
	shares := ring.Shares()
	for i, n := range ring.Nodes() {
		ctx, cancel := context.WithTimeout(ctx, benchRawTime)
		info, err := client.ServerInfo(ctx, i)
		cancel()
		if err != nil {
			a.warn("%s does not say how much memory it has: %s", n.ID(), plain(err))
			continue
		}
		// Second copies go where first ones would; twice the share is more than any node gets of them.
		need := float64(p.work.Sessions) * float64(p.work.Size+benchKeyBytes) * min(1, shares[i]*float64(ring.Copies()))
		if info.MaxMemory > 0 && float64(info.UsedMemory)+need > benchMemoryFull*float64(info.MaxMemory) {
			return fmt.Errorf("refused: %d sessions of %d bytes would take about %s on %s, which uses %s of its maxmemory of %s; with less room it would evict sessions or refuse writes. Use fewer --sessions or a smaller --size",
				p.work.Sessions, p.work.Size, byteText(int64(need)), n.ID(), byteText(info.UsedMemory), byteText(info.MaxMemory))
		}
	}
	return nil
}

func (c *benchCmd) team(a *app, p *benchPlan) (benchTeam, error) {
	jobs := c.jobs(a, p)
	if len(jobs) == 1 {
		w, err := newBenchWorker(jobs[0])
		if err != nil {
			return nil, err
		}
		return benchSolo{w}, nil
	}
	worker := c.worker
	if worker == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find this program to start it again: %w", err)
		}
		worker = []string{self, "bench-worker"}
	}
	return startBenchProcs(worker, a.err, jobs)
}

// measure runs the load and cleans up after it, whatever happens. An interrupted run has a report and an error.
func (c *benchCmd) measure(ctx context.Context, a *app, p *benchPlan, servers []*redistest.Server) (report *benchReport, err error) {
	team, err := c.team(a, p)
	if err != nil {
		return nil, err
	}
	open := true
	shut := func() {
		if open {
			open = false
			err = errors.Join(err, team.close())
		}
	}
	defer func() {
		shut()
		if servers != nil {
			return // they go, with all that is on them
		}
		removed, failed := benchClean(context.WithoutCancel(ctx), p.path, p.prefix)
		if failed != nil {
			a.warn("not everything could be removed: %s. The sessions end by themselves within %v; sessionring bench --clean removes the rest once the nodes are back", plain(failed), p.path.Settings.Lifetime)
		}
		if report != nil {
			report.Removed, report.CleanedUp = removed, failed == nil
		}
	}()
	if err := c.fill(ctx, a, p, team); err != nil {
		return nil, err
	}
	before := benchCommands(ctx, p.path)
	start := time.Now().Add(benchStartIn)
	begin := start.Add(p.warmup.Duration)
	running := a.startProgress(ctx, "load", p.expected())
	faultsCtx, stopFaults := context.WithCancel(ctx)
	faults := make(chan []benchFaultDone, 1)
	go func() { faults <- runBenchFaults(faultsCtx, begin, servers, p.faults) }()
	result, err := team.run(ctx, start, running.add)
	running.end()
	stopFaults()
	done := <-faults
	if result == nil || len(result.Steps) == 0 {
		if err == nil || ctx.Err() != nil {
			err = errBenchInterrupted
		}
		return nil, err
	}
	if ctx.Err() != nil {
		err = errBenchInterrupted
	} else if err != nil {
		return nil, err
	}
	after := benchCommands(context.WithoutCancel(ctx), p.path)
	shut()
	report = newBenchReport(c, p, result, done, begin, before, after)
	report.Interrupted = ctx.Err() != nil
	return report, err
}

var errBenchInterrupted = errors.New("interrupted")

func (c *benchCmd) fill(ctx context.Context, a *app, p *benchPlan, team benchTeam) error {
	ctx, cancel := context.WithTimeout(ctx, benchFillTime)
	defer cancel()
	fill := a.startProgress(ctx, "writing the sessions", int64(p.work.Sessions))
	var filled atomic.Int64
	err := team.fill(ctx, func(n int64) { filled.Add(n); fill.add(n) })
	fill.end()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("only %d of %d sessions could be written within %v", filled.Load(), p.work.Sessions, benchFillTime)
	case errors.Is(err, context.Canceled):
		return errBenchInterrupted
	}
	return err
}

// expected is how many operations there will be, 0 where that cannot be told.
func (p *benchPlan) expected() int64 {
	total := 0.0
	for _, s := range p.steps {
		if s.Rate == 0 {
			return 0
		}
		total += s.Rate * s.Duration.Seconds()
	}
	return int64(total)
}

// clean removes what benches left behind.
func (c *benchCmd) clean(ctx context.Context, a *app) error {
	path, err := a.savePath(c.SavePath)
	if err != nil {
		return err
	}
	sp, err := a.parse(path)
	if err != nil {
		return err
	}
	removed, err := benchClean(ctx, sp, benchPrefix)
	if a.JSON {
		err = errors.Join(err, a.emit(map[string]int64{"removed": removed}))
	} else {
		a.printf("%s of earlier benches removed\n", count(int(removed), "key"))
	}
	return err
}
