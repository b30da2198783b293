package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sessionring/sessionring"
)

// benchReport is the line of bench --json and, with Detail, the file of --report. Its first ten fields are part of
// the tool's contract. Latencies count from the intended start where a rate was given.
type benchReport struct {
	Ops       int64   `json:"ops"`    // finished, failed ones among them
	Errors    int64   `json:"errors"` // of Ops
	OpsPerSec float64 `json:"ops_per_sec"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
	Lost      int     `json:"lost"`  // sessions that were acknowledged and read as absent
	Stale     int     `json:"stale"` // sessions that read older than acknowledged

	P90     float64 `json:"p90_ms"`
	Mean    float64 `json:"mean_ms"`
	Seconds float64 `json:"seconds"`
	Unsent  int64   `json:"unsent"` // due by the rate, never started because all workers were busy

	Reads   benchLatency `json:"reads"`
	Writes  benchLatency `json:"writes"`
	Service benchLatency `json:"service"` // the same operations, from when they were sent

	Foreign    int   `json:"foreign"`     // sessions that read as another's
	Corrupt    int   `json:"corrupt"`     // sessions that read damaged
	Away       int   `json:"away"`        // of Lost: absent only while a node that should hold them was away
	LostReads  int64 `json:"lost_reads"`  // reads that found one of Lost
	StaleReads int64 `json:"stale_reads"` // reads that found one of Stale
	Checked    int   `json:"checked"`     // sessions read once more at the end,
	LostEnd    int   `json:"lost_at_end"` // of them absent then,
	StaleEnd   int   `json:"stale_at_end"`
	Unreadable int   `json:"unreadable"` // and those that gave only errors then

	Failover     int64            `json:"failover_ops"` // operations of which a node that should have served them did not
	Repaired     map[string]int64 `json:"repaired"`     // copies brought up to date, by what found them
	ErrorKinds   map[string]int64 `json:"errors_by_kind"`
	ErrorSamples []string         `json:"error_samples"`

	Nodes   []benchNode      `json:"nodes"`
	Steps   []benchStep      `json:"steps"`
	Faults  []benchFaultDone `json:"faults"`
	Changes []benchChange    `json:"state_changes"`

	Config      benchConfig `json:"config"`
	StartedAt   time.Time   `json:"started_at"`
	Interrupted bool        `json:"interrupted"`
	CleanedUp   bool        `json:"cleaned_up"` // nothing of the run is left on the nodes
	Removed     int64       `json:"removed"`    // keys

	Detail *benchDetail `json:"detail,omitempty"`
}

// benchLatency are percentiles of some of the operations.
type benchLatency struct {
	Ops  int64   `json:"ops"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

func (h benchHist) latency() benchLatency {
	l := benchLatency{P50: h.ms(50), P99: h.ms(99), P999: h.ms(99.9), Max: h.ms(100)}
	if h.Histogram != nil {
		l.Ops = h.TotalCount()
	}
	return l
}

// benchNode is a node's part.
type benchNode struct {
	Index    int     `json:"index"`
	Address  string  `json:"address"`
	Weight   int     `json:"weight"`
	Expected float64 `json:"expected"` // share of the sessions by weight, exactly as the ring deals them
	Ops      int64   `json:"ops"`      // on sessions that it is the first owner of
	Share    float64 `json:"share"`    // of all operations
	Failures int64   `json:"failures"` // of single tries; the operation mostly went on elsewhere
	Commands *int64  `json:"commands"` // carried out by the server, copies and other users' too; null where it was not told
}

// benchConfig says what the figures are figures of.
type benchConfig struct {
	Kind         string    `json:"kind"` // nodes, cluster, sentinel
	SavePath     string    `json:"save_path"`
	OwnNodes     int       `json:"own_nodes"`
	Distribution string    `json:"distribution"`
	Copies       int       `json:"copies"`
	Mode         string    `json:"mode"`
	ReadShare    float64   `json:"read_share"`
	Touch        bool      `json:"touch"`
	Sessions     int       `json:"sessions"`
	Size         int       `json:"size"`
	Concurrency  []int     `json:"concurrency"`
	Rate         []float64 `json:"rate"`
	Duration     float64   `json:"duration"` // of a step, in seconds
	Warmup       float64   `json:"warmup"`
	Clients      int       `json:"clients"`
	Processes    int       `json:"processes"`
	Seed         uint64    `json:"seed"`
	Go           string    `json:"go"`
	CPUs         int       `json:"cpus"`
}

// benchDetail is what plots and comparisons need.
type benchDetail struct {
	Latency benchHist    `json:"latency_histogram"`
	Reads   benchHist    `json:"reads_histogram"`
	Writes  benchHist    `json:"writes_histogram"`
	Service benchHist    `json:"service_histogram"`
	Slice   float64      `json:"slice_seconds"`
	Points  []benchPoint `json:"points"`
}

// benchPoint is a slice of time, by when its operations ended.
type benchPoint struct {
	At        float64 `json:"at"` // its begin, in seconds since the measuring began
	Ops       int64   `json:"ops"`
	Errors    int64   `json:"errors"`
	OpsPerSec float64 `json:"ops_per_sec"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
}

func newBenchReport(c *benchCmd, p *benchPlan, r *benchResult, faults []benchFaultDone, begin time.Time, before, after map[string]benchCounters) *benchReport {
	b := &benchReport{
		StartedAt: begin.Round(time.Millisecond).UTC(), Faults: faults, Changes: r.Changes, Steps: r.Steps,
		Lost: r.Integrity.Lost, Stale: r.Integrity.Stale, Foreign: r.Integrity.Foreign, Corrupt: r.Integrity.Corrupt,
		Away: r.Integrity.Away, LostReads: r.Integrity.LostReads, StaleReads: r.Integrity.StaleReads,
		Checked: r.Final.Checked, LostEnd: r.Final.Lost, StaleEnd: r.Final.Stale, Unreadable: r.Final.Unreadable,
		Failover: r.Failover, Repaired: r.Repairs, ErrorKinds: r.Kinds, ErrorSamples: r.Samples, CleanedUp: true,
	}
	d := &benchDetail{
		Latency: newBenchHist(benchHistDigits), Reads: newBenchHist(benchHistDigits),
		Writes: newBenchHist(benchHistDigits), Service: newBenchHist(benchHistDigits), Slice: p.slice.Seconds(),
	}
	for i := range b.Steps {
		s := &b.Steps[i]
		s.sum()
		b.Ops += s.Ops
		b.Errors += s.Errors
		b.Unsent += s.Unsent
		b.Seconds += s.Seconds
		d.Reads.merge(s.Reads)
		d.Writes.merge(s.Writes)
		d.Service.merge(s.Service)
	}
	d.Latency.merge(d.Reads)
	d.Latency.merge(d.Writes)
	b.P50, b.P90, b.P99, b.P999, b.Max = d.Latency.ms(50), d.Latency.ms(90), d.Latency.ms(99), d.Latency.ms(99.9), d.Latency.ms(100)
	if d.Latency.TotalCount() > 0 {
		b.Mean = d.Latency.Mean() / 1e3
	}
	if b.Seconds > 0 {
		b.OpsPerSec = float64(b.Ops) / b.Seconds
	}
	b.Reads, b.Writes, b.Service = d.Reads.latency(), d.Writes.latency(), d.Service.latency()
	d.Points = benchPoints(r.Slices, p.slice, b.Seconds)
	b.Detail = d
	b.Config = c.config(p)
	b.Nodes = benchNodes(p, r, b.Ops, before, after)
	b.Config.Copies, b.Config.Distribution = benchRing(p.path)
	if b.Changes == nil {
		b.Changes = []benchChange{}
	}
	if b.ErrorSamples == nil {
		b.ErrorSamples = []string{}
	}
	slices.SortStableFunc(b.Changes, func(x, y benchChange) int { return cmp.Compare(x.At, y.At) })
	return b
}

func (c *benchCmd) config(p *benchPlan) benchConfig {
	return benchConfig{
		Kind: p.path.Kind.String(), SavePath: p.path.String(), OwnNodes: c.Nodes, Mode: c.Mode, ReadShare: p.work.Reads,
		Touch: c.Touch, Sessions: c.Sessions, Size: int(c.Size), Concurrency: c.Concurrency, Rate: c.Rate,
		Duration: c.Duration.Seconds(), Warmup: c.Warmup.Seconds(), Clients: c.Clients, Processes: c.Processes,
		Seed: c.Seed, Go: runtime.Version(), CPUs: runtime.NumCPU(),
	}
}

func benchRing(sp *sessionring.SavePath) (copies int, distribution string) {
	if sp.Kind != sessionring.KindNodes {
		return 1, sp.Kind.String()
	}
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		return 0, "" // cannot be: the load ran on it
	}
	return ring.Copies(), string(ring.Distribution())
}

func benchNodes(p *benchPlan, r *benchResult, ops int64, before, after map[string]benchCounters) []benchNode {
	out := []benchNode{}
	if p.path.Kind != sessionring.KindNodes {
		return out
	}
	ring, err := sessionring.NewRing(p.path)
	if err != nil {
		return out
	}
	shares := ring.Shares()
	for i, n := range ring.Nodes() {
		b := benchNode{Index: i, Address: n.Address, Weight: n.Weight, Expected: shares[i], Failures: r.Failures[n.ID()]}
		if i < len(r.Nodes) {
			b.Ops = r.Nodes[i]
		}
		if ops > 0 {
			b.Share = float64(b.Ops) / float64(ops)
		}
		if now, ok := after[n.ID()]; ok {
			commands := now.commands
			if then := before[n.ID()]; then.runID == now.runID {
				commands -= then.commands // else it restarted, and counts from there
			}
			b.Commands = &commands
		}
		out = append(out, b)
	}
	return out
}

func benchPoints(in []benchSlice, width time.Duration, seconds float64) []benchPoint {
	out := []benchPoint{}
	for i, s := range in {
		at := float64(i) * width.Seconds()
		// What ended after the load's end is too little to be a rate.
		long := min(width.Seconds(), seconds-at)
		if long < width.Seconds()/2 {
			break
		}
		out = append(out, benchPoint{
			At: at, Ops: s.Ops, Errors: s.Errors, OpsPerSec: float64(s.Ops) / long,
			P50: s.Latency.ms(50), P99: s.Latency.ms(99), Max: s.Latency.ms(100),
		})
	}
	return out
}

// brief is the report without what only machines read.
func (b *benchReport) brief() *benchReport {
	c := *b
	c.Detail = nil
	c.Steps = slices.Clone(b.Steps)
	for i := range c.Steps {
		c.Steps[i].Reads, c.Steps[i].Writes, c.Steps[i].Service = benchHist{}, benchHist{}, benchHist{}
	}
	return &c
}

// deliver prints the report and writes the files.
func (c *benchCmd) deliver(_ context.Context, a *app, b *benchReport) error {
	var errs []error
	if c.Report != "" {
		if err := writeReport(c.Report, b); err != nil {
			errs = append(errs, err)
		} else {
			a.message("report: %s", c.Report)
		}
	}
	if c.Plot != "" {
		if err := plotReport(c.Plot, b); err != nil {
			errs = append(errs, fmt.Errorf("cannot draw the plot: %w", err))
		} else {
			a.message("plot: %s", c.Plot)
		}
	}
	if a.JSON {
		errs = append(errs, a.emit(b.brief()))
	} else {
		errs = append(errs, a.printReport(b))
	}
	if c.Check {
		errs = append(errs, b.check())
	}
	return errors.Join(errs...)
}

// check is --check.
func (b *benchReport) check() error {
	var bad []string
	for _, x := range []struct {
		n    int64
		what string
	}{
		{b.Errors, "operations failed"}, {int64(b.Lost), "sessions lost"}, {int64(b.Stale), "sessions went back in time"},
		{int64(b.Foreign), "sessions read as another's"}, {int64(b.Corrupt), "sessions damaged"},
		{int64(b.Unreadable), "sessions could not be read at the end"},
	} {
		if x.n > 0 {
			bad = append(bad, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	for _, f := range b.Faults {
		if f.Error != "" {
			bad = append(bad, fmt.Sprintf("%s of node %d did not work: %s", f.Kind, f.Node, f.Error))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("check failed: %s", strings.Join(bad, ", "))
}

func writeReport(name string, b *benchReport) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, append(text, '\n'), 0o644); err != nil { //nolint:gosec // holds nothing secret: the save_path is masked
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

func readReport(name string) (*benchReport, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var b benchReport
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("%s is no report of bench: %w", name, err)
	}
	if b.Detail == nil || b.Detail.Latency.Histogram == nil {
		return nil, fmt.Errorf("%s is no report of bench --report: it has no histograms", filepath.Base(name))
	}
	return &b, nil
}

// printReport prints the report for people.
func (a *app) printReport(b *benchReport) error {
	a.printf("%s\n\n", b.subject())
	rate := fmt.Sprintf("%.0f/s", b.OpsPerSec)
	failed := "none failed"
	if b.Errors > 0 {
		failed = a.paint(a.out, red, fmt.Sprintf("%d failed", b.Errors))
	}
	a.printf("operations  %d in %.1f s, %s, %s", b.Ops, b.Seconds, rate, failed)
	if b.Failover > 0 {
		a.printf(", %d served although a node failed", b.Failover)
	}
	a.printf("\n")
	bad := b.Lost + b.Stale + b.Foreign + b.Corrupt + b.Unreadable
	sessions := fmt.Sprintf("%d lost, %d went back in time, %d another's, %d damaged", b.Lost, b.Stale, b.Foreign, b.Corrupt)
	if b.Away > 0 {
		sessions += fmt.Sprintf("; of the lost ones %d were absent only while their node was away, %d are at the end", b.Away, b.LostEnd)
	}
	if b.Unreadable > 0 {
		sessions += fmt.Sprintf("; %d could not be read at the end", b.Unreadable)
	}
	if bad > 0 {
		sessions = a.paint(a.out, red, sessions)
	}
	a.printf("sessions    %d checked by their content: %s\n", b.Checked+b.Unreadable, sessions)
	if b.Unsent > 0 {
		a.printf("%s\n", a.paint(a.out, yellow, fmt.Sprintf("overload    %d operations were due and never started: the load asks for more than it gets, or needs more --concurrency", b.Unsent)))
	}
	a.printf("\n")
	t := a.table()
	fmt.Fprintln(t, "latency in ms\toperations\tp50\tp99\tp99.9\tmax")
	row := func(name string, l benchLatency) {
		if l.Ops > 0 {
			fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\n", name, l.Ops, l.P50, l.P99, l.P999, l.Max)
		}
	}
	row("all", benchLatency{b.Ops, b.P50, b.P99, b.P999, b.Max})
	if b.Reads.Ops > 0 && b.Writes.Ops > 0 {
		row("reads", b.Reads)
		row("writes", b.Writes)
	}
	if b.Config.paced() {
		row("from when they were sent", b.Service)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := a.printSteps(b); err != nil {
		return err
	}
	if err := a.printShares(b); err != nil {
		return err
	}
	a.printEvents(b)
	if b.Removed > 0 {
		a.printf("\n%d keys removed from the nodes\n", b.Removed)
	}
	return nil
}

func (c benchConfig) paced() bool {
	return slices.ContainsFunc(c.Rate, func(r float64) bool { return r > 0 })
}

// subject says what was measured, in a line.
func (b *benchReport) subject() string {
	c := b.Config
	where := c.Kind
	if c.Kind == "nodes" {
		where = fmt.Sprintf("%s, %s", count(len(b.Nodes), "node"), copiesText(c.Copies))
		if c.Distribution != string(sessionring.Consistent) {
			where += ", distribution " + c.Distribution
		}
	}
	what := c.Mode
	if c.Mode == "mixed" {
		what = fmt.Sprintf("%.0f %% reads", 100*c.ReadShare)
	}
	speed := "as fast as it goes"
	if c.paced() {
		speed = joinNumbers(c.Rate, "%.0f") + " a second"
	}
	s := fmt.Sprintf("%s; %d sessions of %s, %s, %s at a time, %s", where, c.Sessions, byteText(int64(c.Size)), what, joinNumbers(c.Concurrency, "%d"), speed)
	if c.Clients > 1 {
		s += fmt.Sprintf(", %d clients", c.Clients)
	}
	if c.Processes > 1 {
		s += fmt.Sprintf(", %d processes", c.Processes)
	}
	return s
}

func joinNumbers[T int | float64](in []T, format string) string {
	var out []string
	for _, x := range in {
		out = append(out, fmt.Sprintf(format, x))
	}
	return strings.Join(out, ", ")
}

func (a *app) printSteps(b *benchReport) error {
	if len(b.Steps) < 2 {
		return nil
	}
	a.printf("\n")
	t := a.table()
	fmt.Fprintln(t, "step\tat a time\tasked for\treached\tfailed\tunsent\tp50\tp99\tp99.9\tmax")
	for i, s := range b.Steps {
		asked := "–"
		if s.Rate > 0 {
			asked = fmt.Sprintf("%.0f/s", s.Rate)
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%.0f/s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\n", i+1, s.Concurrency, asked, s.OpsPerSec, s.Errors, s.Unsent, s.P50, s.P99, s.P999, s.Max)
	}
	return t.Flush()
}

func (a *app) printShares(b *benchReport) error {
	if len(b.Nodes) == 0 {
		return nil
	}
	a.printf("\n")
	t := a.table()
	fmt.Fprintln(t, "node\taddress\tweight\tshare by weight\tof the operations\toperations\tfailed tries\tcommands on the server")
	for _, n := range b.Nodes {
		commands := "–"
		if n.Commands != nil {
			commands = fmt.Sprint(*n.Commands)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%d\t%d\t%s\n", n.Index, n.Address, n.Weight, percent(n.Expected), percent(n.Share), n.Ops, n.Failures, commands)
	}
	return t.Flush()
}

const benchShownChanges = 20

func (a *app) printEvents(b *benchReport) {
	if len(b.ErrorKinds) > 0 {
		a.printf("\n")
		for _, k := range slices.SortedFunc(maps.Keys(b.ErrorKinds), func(x, y string) int { return cmp.Compare(b.ErrorKinds[y], b.ErrorKinds[x]) }) {
			a.printf("failed: %d × %s\n", b.ErrorKinds[k], k)
		}
		for _, s := range b.ErrorSamples {
			a.printf("  e.g. %s\n", s)
		}
	}
	if len(b.Faults)+len(b.Changes) > 0 {
		a.printf("\n")
	}
	for _, f := range b.Faults {
		a.printf("%8.3f s  %s node %d", f.At, f.Kind, f.Node)
		if f.Until > f.At {
			a.printf(", over at %.3f s", f.Until)
		}
		if f.Error != "" {
			a.printf(": %s", f.Error)
		}
		a.printf("\n")
	}
	for i, s := range b.Changes {
		if i == benchShownChanges {
			a.printf("  … and %d more changes of state\n", len(b.Changes)-i)
			break
		}
		a.printf("%8.3f s  ", s.At)
		if b.Config.Clients*b.Config.Processes > 1 {
			a.printf("client %d: ", s.Client)
		}
		a.printf("%s %s → %s", s.Node, s.From, s.To)
		if s.Cause != "" {
			a.printf(" (%s)", s.Cause)
		}
		a.printf("\n")
	}
}

// byteText is a number of bytes for people.
func byteText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
