package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/load"
)

const (
	benchMaxChanges = 200              // of node states, of one process
	benchVerifyTime = time.Minute      // for the last look at all sessions, and
	benchVerifyEach = time.Millisecond // so much more for each
	benchVerifyStop = 5 * time.Second  // the same after an interrupt
)

// benchJob is what one process has to do. It travels over a pipe and not on the command line, which everybody on
// the machine can read: the save_path holds passwords.
type benchJob struct {
	SavePath    string        `json:"save_path"` // prefix, copies, distribution and lifetime in it
	Lenient     bool          `json:"lenient"`
	Deadline    time.Duration `json:"deadline"`
	Clients     int           `json:"clients"`
	FirstClient int           `json:"first_client"` // number of the first of them
	Work        load.Workload `json:"work"`
	Warmup      load.Step     `json:"warmup"`
	Steps       []load.Step   `json:"steps"`
	Slice       time.Duration `json:"slice"`
	Concurrency int           `json:"concurrency"` // of filling and verifying
}

// benchChange is a change of a node's state in a client's eyes.
type benchChange struct {
	At     float64 `json:"at"`     // seconds since the measuring began
	Client int     `json:"client"` // numbered through all processes
	Node   string  `json:"node"`
	From   string  `json:"from"`
	To     string  `json:"to"`
	Cause  string  `json:"cause,omitempty"`
}

// benchWorker does one process's job.
type benchWorker struct {
	job     benchJob
	clients []*sessionring.Client
	runner  *load.Runner

	mu       sync.Mutex
	begin    time.Time // of the measuring; zero before
	changes  []benchChange
	failures map[string]int64
	repairs  map[string]int64
	failover int64
}

func newBenchWorker(job benchJob) (*benchWorker, error) {
	w := &benchWorker{job: job, failures: map[string]int64{}, repairs: map[string]int64{}}
	opts := []sessionring.Option{}
	if job.Lenient {
		opts = append(opts, sessionring.WithLenient())
	}
	if job.Deadline > 0 {
		opts = append(opts, sessionring.WithDeadline(job.Deadline))
	}
	for i := range job.Clients {
		hooks := sessionring.WithHooks(sessionring.Hooks{
			StateChange: func(s sessionring.StateChange) { w.stateChanged(job.FirstClient+i, s) },
			Failure:     w.failed, Repair: w.repaired, Operation: w.ended,
		})
		c, err := sessionring.Open(job.SavePath, append(opts, hooks)...)
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.clients = append(w.clients, c)
	}
	var err error
	if w.runner, err = load.New(w.clients, job.Work); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *benchWorker) close() error {
	var errs []error
	for _, c := range w.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// fill writes every session once.
func (w *benchWorker) fill(ctx context.Context, progress func()) error {
	return w.runner.Fill(ctx, w.job.Concurrency, progress)
}

// run waits for the start, warms up, runs the steps, and looks at every session a last time. When ctx ends it
// comes to an end soon, with what there is.
func (w *benchWorker) run(ctx context.Context, start time.Time, progress func()) (*benchResult, error) {
	if d := time.Until(start); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	begin := start
	if w.job.Warmup.Duration > 0 {
		if _, err := w.runner.Run(ctx, w.job.Warmup, start, func(int, *load.Sample) {}); err != nil {
			return nil, err
		}
		begin = start.Add(w.job.Warmup.Duration)
	}
	w.mu.Lock()
	w.begin = begin
	w.failures, w.repairs, w.failover = map[string]int64{}, map[string]int64{}, 0
	w.mu.Unlock()
	recorder := w.recorder()
	for _, step := range w.job.Steps {
		stats, err := w.runner.Run(ctx, step, begin, func(worker int, s *load.Sample) {
			recorder.record(worker, s)
			progress()
		})
		if err != nil {
			return nil, err
		}
		recorder.endStep(step, stats)
		if ctx.Err() != nil {
			break
		}
	}
	out := recorder.result()
	w.mu.Lock()
	out.Changes, out.Failures, out.Repairs, out.Failover = w.changes, w.failures, w.repairs, w.failover
	w.changes, w.failures, w.repairs = nil, map[string]int64{}, map[string]int64{}
	w.mu.Unlock()
	limit := verifyLimit(w.job.Work.Sessions)
	if ctx.Err() != nil {
		limit = benchVerifyStop
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	out.Final = w.runner.Verify(last, w.job.Concurrency, nil)
	out.Integrity = w.runner.Integrity()
	return out, nil
}

func verifyLimit(sessions int) time.Duration {
	return benchVerifyTime + time.Duration(sessions)*benchVerifyEach
}

func (w *benchWorker) recorder() *benchRecorder {
	most := 1
	for _, s := range w.job.Steps {
		most = max(most, s.Concurrency)
	}
	var owner func(string) int
	nodes := 0
	if ring := w.clients[0].Ring(); ring != nil {
		owner, nodes = ring.Owner, len(ring.Nodes())
	}
	return newBenchRecorder(w.runner.IDs(), nodes, owner, w.job.Slice, most)
}

func (w *benchWorker) stateChanged(client int, s sessionring.StateChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begin.IsZero() || len(w.changes) >= benchMaxChanges {
		return // the first connections are no news
	}
	w.changes = append(w.changes, benchChange{
		At: time.Since(w.begin).Seconds(), Client: client, Node: s.Node, From: s.From.String(), To: s.To.String(), Cause: wordCause(s.Cause),
	})
}

func (w *benchWorker) failed(f sessionring.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures[f.Node]++
}

func (w *benchWorker) repaired(r sessionring.Repair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repairs[r.Reason] += int64(r.Copies)
}

func (w *benchWorker) ended(o sessionring.Operation) {
	if o.Failover {
		w.mu.Lock()
		w.failover++
		w.mu.Unlock()
	}
}

// benchWorkerCmd is a process of bench --processes. It is told what to do on standard input: the job, then the
// start; its end is the order to stop. It tells its progress and the result on standard output, a JSON object a
// line.
type benchWorkerCmd struct{}

// benchOrder is a line that the worker reads after the job.
type benchOrder struct {
	Start int64 `json:"start"` // Unix nanoseconds
}

// benchWord is a line that the worker writes: one of its fields is set.
type benchWord struct {
	Error    string       `json:"error,omitempty"`
	Filled   bool         `json:"filled,omitempty"` // ready to start
	Progress int64        `json:"progress,omitempty"`
	Result   *benchResult `json:"result,omitempty"`
}

// Run works until the job is done or standard input ends. A signal is for the process that started this one.
func (benchWorkerCmd) Run(ctx context.Context, a *app) error {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	in := json.NewDecoder(a.in)
	var job benchJob
	if err := in.Decode(&job); err != nil {
		return fmt.Errorf("no job on standard input (bench starts this command by itself): %w", err)
	}
	out := &benchVoice{enc: json.NewEncoder(a.out)}
	err := func() error {
		w, err := newBenchWorker(job)
		if err != nil {
			return err
		}
		defer func() { _ = w.close() }() // the sessions are gone anyway
		orders := make(chan benchOrder, 1)
		go func() { // ends with standard input, which ends with the process that started this one
			var o benchOrder
			for in.Decode(&o) == nil {
				orders <- o
			}
			stop()
		}()
		ticking := out.tick(ctx)
		defer ticking()
		if err := w.fill(ctx, out.count); err != nil {
			return err
		}
		if err := out.say(benchWord{Filled: true}); err != nil {
			return err
		}
		var order benchOrder
		select {
		case order = <-orders:
		case <-ctx.Done():
			return nil
		}
		// By the monotonic clock from here on.
		start := time.Now().Add(time.Until(time.Unix(0, order.Start)))
		result, err := w.run(ctx, start, out.count)
		if err != nil {
			return err
		}
		return out.say(benchWord{Result: result})
	}()
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		_ = out.say(benchWord{Error: plain(err)})
	}
	return err
}
