package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sessionring/sessionring/internal/load"
)

// Latencies are recorded in microseconds, from one to ten minutes: what is beyond counts as ten minutes.
const (
	benchHistMax      = int64(10 * time.Minute / time.Microsecond)
	benchHistDigits   = 3
	benchSliceDigits  = 2 // of the slices of time that the plot is made of
	benchRecorders    = 8 // workers share so many recorders: a histogram is 200 KB
	benchErrorSamples = 5
)

// benchHist is a histogram of latencies that travels in JSON, in HdrHistogram's own encoding (V2, compressed).
type benchHist struct{ *hdrhistogram.Histogram }

func newBenchHist(digits int) benchHist {
	return benchHist{hdrhistogram.New(1, benchHistMax, digits)}
}

func (h benchHist) record(d time.Duration) {
	_ = h.RecordValue(min(max(int64(d/time.Microsecond), 1), benchHistMax)) // within the range, so never refused
}

// ms returns a percentile (0 to 100) in milliseconds, 0 where nothing was recorded.
func (h benchHist) ms(percentile float64) float64 {
	if h.Histogram == nil || h.TotalCount() == 0 {
		return 0
	}
	return float64(h.ValueAtPercentile(percentile)) / 1e3
}

func (h benchHist) merge(o benchHist) {
	if o.Histogram != nil {
		h.Merge(o.Histogram)
	}
}

// MarshalText encodes the histogram, in base64 as in HdrHistogram's log format.
func (h benchHist) MarshalText() ([]byte, error) {
	if h.Histogram == nil {
		return nil, nil
	}
	return h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}

// UnmarshalText decodes a histogram.
func (h *benchHist) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		h.Histogram = nil
		return nil
	}
	d, err := hdrhistogram.Decode(b)
	if err != nil {
		return fmt.Errorf("not a histogram: %w", err)
	}
	h.Histogram = d
	return nil
}

// benchStep is what one step of the load came to.
type benchStep struct {
	Concurrency int       `json:"concurrency"`
	Rate        float64   `json:"rate"` // 0: as fast as it goes
	Seconds     float64   `json:"seconds"`
	Ops         int64     `json:"ops"` // finished, failed ones among them
	Errors      int64     `json:"errors"`
	Unsent      int64     `json:"unsent"` // due by the rate, never started
	OpsPerSec   float64   `json:"ops_per_sec"`
	P50         float64   `json:"p50_ms"`
	P99         float64   `json:"p99_ms"`
	P999        float64   `json:"p999_ms"`
	Max         float64   `json:"max_ms"`
	Reads       benchHist `json:"reads_histogram,omitzero"`  // latency, from the intended start
	Writes      benchHist `json:"writes_histogram,omitzero"` // the same
	Service     benchHist `json:"service_histogram,omitzero"`
}

// all is the latency of reads and writes together.
func (s *benchStep) all() benchHist {
	h := newBenchHist(benchHistDigits)
	h.merge(s.Reads)
	h.merge(s.Writes)
	return h
}

// merge adds the same step of another process.
func (s *benchStep) merge(o benchStep) {
	s.Concurrency += o.Concurrency
	s.Rate += o.Rate
	s.Seconds = max(s.Seconds, o.Seconds)
	s.Ops += o.Ops
	s.Errors += o.Errors
	s.Unsent += o.Unsent
	s.Reads.merge(o.Reads)
	s.Writes.merge(o.Writes)
	s.Service.merge(o.Service)
}

// sum fills in what follows from the rest.
func (s *benchStep) sum() {
	all := s.all()
	s.P50, s.P99, s.P999, s.Max = all.ms(50), all.ms(99), all.ms(99.9), all.ms(100)
	if s.Seconds > 0 {
		s.OpsPerSec = float64(s.Ops) / s.Seconds
	}
}

// benchSlice is a slice of time of the load, by when operations ended.
type benchSlice struct {
	Ops     int64     `json:"ops"`
	Errors  int64     `json:"errors,omitempty"`
	Latency benchHist `json:"histogram"`
}

// benchRecorder takes the operations of one process. Its steps follow one another.
type benchRecorder struct {
	ids    []string
	owner  func(id string) int // first owner's index, nil where the engine decides
	every  time.Duration       // of a slice
	shards []*benchShard
	steps  []benchStep
}

// benchShard is what some of the workers record into.
type benchShard struct {
	mu                     sync.Mutex
	reads, writes, service benchHist // of the step
	ops, failed            int64     // of the step
	slices                 []*benchSlice
	nodes                  []int64 // operations by first owner
	kinds                  map[string]int64
	samples                []string // texts of a few errors
}

func newBenchRecorder(ids []string, nodes int, owner func(string) int, every time.Duration, concurrency int) *benchRecorder {
	r := &benchRecorder{ids: ids, owner: owner, every: every}
	for range min(concurrency, benchRecorders) {
		r.shards = append(r.shards, &benchShard{
			reads: newBenchHist(benchHistDigits), writes: newBenchHist(benchHistDigits), service: newBenchHist(benchHistDigits),
			nodes: make([]int64, nodes), kinds: map[string]int64{},
		})
	}
	return r
}

func (r *benchRecorder) record(worker int, s *load.Sample) {
	h := r.shards[worker%len(r.shards)]
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.Op == load.Write {
		h.writes.record(s.Latency())
	} else {
		h.reads.record(s.Latency())
	}
	h.service.record(s.Service())
	at := max(0, int(s.Ended/r.every))
	for len(h.slices) <= at {
		h.slices = append(h.slices, nil)
	}
	if h.slices[at] == nil {
		h.slices[at] = &benchSlice{Latency: newBenchHist(benchSliceDigits)}
	}
	slice := h.slices[at]
	slice.Latency.record(s.Latency())
	slice.Ops++
	h.ops++
	if r.owner != nil {
		h.nodes[r.owner(r.ids[s.Session])]++
	}
	if s.Err != nil {
		h.failed++
		slice.Errors++
		h.kinds[load.Kind(s.Err)]++
		if len(h.samples) < benchErrorSamples {
			h.samples = append(h.samples, plain(s.Err))
		}
	}
}

// endStep closes a step's books.
func (r *benchRecorder) endStep(s load.Step, stats load.StepStats) {
	step := benchStep{
		Concurrency: s.Concurrency, Rate: s.Rate, Seconds: stats.Elapsed.Seconds(), Unsent: stats.Unsent,
		Reads: newBenchHist(benchHistDigits), Writes: newBenchHist(benchHistDigits), Service: newBenchHist(benchHistDigits),
	}
	for _, h := range r.shards {
		h.mu.Lock()
		step.Ops += h.ops
		step.Errors += h.failed
		step.Reads.merge(h.reads)
		step.Writes.merge(h.writes)
		step.Service.merge(h.service)
		h.reads.Reset()
		h.writes.Reset()
		h.service.Reset()
		h.ops, h.failed = 0, 0
		h.mu.Unlock()
	}
	r.steps = append(r.steps, step)
}

// result merges the shards, once all steps ended.
func (r *benchRecorder) result() *benchResult {
	out := &benchResult{Steps: r.steps, Kinds: map[string]int64{}}
	for _, h := range r.shards {
		out.addSlices(derefSlices(h.slices))
		out.addNodes(h.nodes)
		for k, n := range h.kinds {
			out.Kinds[k] += n
		}
		out.addSamples(h.samples)
	}
	return out
}

func derefSlices(in []*benchSlice) []benchSlice {
	out := make([]benchSlice, len(in))
	for i, s := range in {
		if s != nil {
			out[i] = *s
		}
	}
	return out
}

// benchResult is what one process measured, or several together.
type benchResult struct {
	Steps     []benchStep      `json:"steps"`
	Slices    []benchSlice     `json:"slices"`
	Nodes     []int64          `json:"nodes"` // operations by the session's first owner
	Failures  map[string]int64 `json:"failures"`
	Failover  int64            `json:"failover"`
	Repairs   map[string]int64 `json:"repairs"`
	Kinds     map[string]int64 `json:"kinds"`
	Samples   []string         `json:"samples"`
	Changes   []benchChange    `json:"changes"`
	Integrity load.Integrity   `json:"integrity"`
	Final     load.Final       `json:"final"`
}

func (r *benchResult) addSlices(in []benchSlice) {
	for len(r.Slices) < len(in) {
		r.Slices = append(r.Slices, benchSlice{})
	}
	for i, s := range in {
		if s.Ops == 0 {
			continue
		}
		to := &r.Slices[i]
		if to.Latency.Histogram == nil {
			to.Latency = newBenchHist(benchSliceDigits)
		}
		to.Ops += s.Ops
		to.Errors += s.Errors
		to.Latency.merge(s.Latency)
	}
}

func (r *benchResult) addNodes(in []int64) {
	for len(r.Nodes) < len(in) {
		r.Nodes = append(r.Nodes, 0)
	}
	for i, n := range in {
		r.Nodes[i] += n
	}
}

func (r *benchResult) addSamples(in []string) {
	for _, s := range in {
		if len(r.Samples) < benchErrorSamples {
			r.Samples = append(r.Samples, s)
		}
	}
}

// merge adds another process's result.
func (r *benchResult) merge(o *benchResult) {
	for i, s := range o.Steps {
		if i < len(r.Steps) {
			r.Steps[i].merge(s)
		} else {
			r.Steps = append(r.Steps, s)
		}
	}
	r.addSlices(o.Slices)
	r.addNodes(o.Nodes)
	addCounts(&r.Failures, o.Failures)
	addCounts(&r.Repairs, o.Repairs)
	addCounts(&r.Kinds, o.Kinds)
	r.addSamples(o.Samples)
	r.Failover += o.Failover
	r.Changes = append(r.Changes, o.Changes...)
	r.Integrity.Add(o.Integrity)
	r.Final.Add(o.Final)
}

func addCounts(to *map[string]int64, in map[string]int64) {
	if *to == nil {
		*to = map[string]int64{}
	}
	for k, n := range in {
		(*to)[k] += n
	}
}
