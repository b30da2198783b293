package load

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessionring/sessionring"
)

// Op is what an operation does.
type Op uint8

const (
	Read Op = iota
	Write
)

// String returns "read" or "write".
func (o Op) String() string {
	if o == Write {
		return "write"
	}
	return "read"
}

// Workload says what is done to which sessions.
type Workload struct {
	Sessions int     // different sessions
	Size     int     // bytes of a session, at least MinSize(IDLength)
	Reads    float64 // share of the operations that read, 0 to 1; the rest write
	Touch    bool    // reads prolong the session, as a web request does
	Seed     uint64  // of the ids and of the order of operations; the same seed gives the same
	Stream   uint64  // makes loads of one seed differ: the number of the process, say
}

// IDLength is the length of the ids: 128 bits in hexadecimal, as session ids
// are, since distribution=phpredis places them by their first bytes.
const IDLength = 32

// Step is a stretch of the load.
type Step struct {
	Concurrency int           // operations under way at most
	Rate        float64       // operations a second; 0: each worker starts the next as soon as the last ended
	Duration    time.Duration // operations start for so long; those under way then are waited for
}

// Sample is one finished operation.
type Sample struct {
	Op       Op
	Session  int           // index into IDs
	Intended time.Duration // when it should have started, since the load's begin
	Started  time.Duration // when it did
	Ended    time.Duration
	Err      error // nil also for a session that is absent: the verdict tells
	Verdict  Verdict
}

// Latency is what a user would have waited: from the intended start.
func (s *Sample) Latency() time.Duration { return s.Ended - s.Intended }

// Service is what the store took once it was asked.
func (s *Sample) Service() time.Duration { return s.Ended - s.Started }

// StepStats counts the operations of a step.
type StepStats struct {
	Started int64
	Unsent  int64 // due by the step's rate, and never started because every worker was busy
	Elapsed time.Duration
}

// Runner runs one workload. Its steps follow one another.
type Runner struct {
	clients []*sessionring.Client
	work    Workload
	ledger  *ledger
}

// New prepares a load; nothing is sent yet. Workers share the clients: with
// several of them, what one wrote another reads.
func New(clients []*sessionring.Client, w Workload) (*Runner, error) {
	switch {
	case len(clients) == 0:
		return nil, errors.New("load: no client")
	case w.Sessions < 1:
		return nil, fmt.Errorf("load: %d sessions; at least 1 is needed", w.Sessions)
	case w.Size < MinSize(IDLength):
		return nil, fmt.Errorf("load: sessions of %d bytes; at least %d are needed to tell them apart", w.Size, MinSize(IDLength))
	case w.Size > sessionring.MaxDataLength:
		return nil, fmt.Errorf("load: sessions of %d bytes; Redis takes at most %d", w.Size, sessionring.MaxDataLength)
	case !(w.Reads >= 0 && w.Reads <= 1):
		return nil, fmt.Errorf("load: share of reads %v; 0 to 1 is meant", w.Reads)
	}
	return &Runner{clients: clients, work: w, ledger: newLedger(makeIDs(w))}, nil
}

func makeIDs(w Workload) []string {
	var seed [32]byte
	for i := range 8 {
		seed[i], seed[8+i] = byte(w.Seed>>(8*i)), byte(w.Stream>>(8*i))
	}
	source := rand.NewChaCha8(seed)
	ids := make([]string, w.Sessions)
	var b [IDLength / 2]byte
	for i := range ids {
		_, _ = source.Read(b[:]) // never fails
		ids[i] = hex.EncodeToString(b[:])
	}
	return ids
}

// IDs returns the sessions' ids.
func (r *Runner) IDs() []string { return r.ledger.ids }

// Integrity returns what all reads so far found.
func (r *Runner) Integrity() Integrity { return r.ledger.integrity() }

// Fill writes every session once and ends with the first error. progress,
// which may be nil, is told of each session, from several goroutines.
func (r *Runner) Fill(ctx context.Context, concurrency int, progress func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.each(ctx, concurrency, func(c *sessionring.Client, i int) {
		r.ledger.claim(i) // nobody else writes yet
		if err := r.write(ctx, c, i); err != nil {
			cancel(err)
		} else if progress != nil {
			progress()
		}
	})
	return context.Cause(ctx)
}

// each runs f over all sessions on so many workers, until ctx ends.
func (r *Runner) each(ctx context.Context, concurrency int, f func(c *sessionring.Client, i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range max(1, min(concurrency, len(r.ledger.ids))) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= len(r.ledger.ids) {
					return
				}
				f(r.clients[w%len(r.clients)], i)
			}
		})
	}
	wg.Wait()
}

// Run runs a step, begins at once, and returns when all its operations ended.
// When ctx ends no further operation starts; those under way are not cut off,
// since what becomes of them would not be known. record is called for every
// operation, for one worker from one goroutine; workers are numbered from 0.
// Times in samples count from begin.
func (r *Runner) Run(ctx context.Context, s Step, begin time.Time, record func(worker int, s *Sample)) (StepStats, error) {
	if s.Concurrency < 1 {
		return StepStats{}, fmt.Errorf("load: concurrency %d; at least 1 is needed", s.Concurrency)
	}
	if s.Concurrency > len(r.ledger.ids) {
		return StepStats{}, fmt.Errorf("load: %d operations at a time on %d sessions; as many sessions are needed, for one is written by one at a time", s.Concurrency, len(r.ledger.ids))
	}
	if s.Rate < 0 {
		return StepStats{}, fmt.Errorf("load: rate %v; 0 (no limit) or more is meant", s.Rate)
	}
	t := &stepRun{Runner: r, step: s, begin: begin, start: time.Now()}
	t.end = t.start.Add(s.Duration)
	if s.Rate > 0 {
		t.pacer = newPacer(t.start, s.Rate, s.Duration)
	}
	var wg sync.WaitGroup
	for w := range s.Concurrency {
		wg.Go(func() { t.worker(ctx, w, record) })
	}
	wg.Wait()
	stats := StepStats{Started: t.started.Load(), Elapsed: time.Since(t.start)}
	if t.pacer != nil {
		until := t.end
		if stopped := t.stopped.Load(); stopped != 0 {
			until = time.Unix(0, stopped)
		}
		stats.Unsent = max(0, t.pacer.due(until)-stats.Started)
	}
	return stats, nil
}

// stepRun is a step under way.
type stepRun struct {
	*Runner
	step       Step
	begin      time.Time // samples count from here
	start, end time.Time
	pacer      *pacer // nil: as fast as it goes
	started    atomic.Int64
	stopped    atomic.Int64 // Unix nanoseconds when ctx ended the step early
}

func (t *stepRun) worker(ctx context.Context, w int, record func(worker int, s *Sample)) {
	rng := rand.New(rand.NewPCG(t.work.Seed, t.work.Stream<<32|uint64(w)))
	client := t.clients[w%len(t.clients)]
	wait := newSleeper()
	for {
		now := time.Now()
		if ctx.Err() != nil {
			t.stopped.CompareAndSwap(0, now.UnixNano())
			return
		}
		if !now.Before(t.end) {
			return
		}
		intended := now
		if t.pacer != nil {
			var more bool
			if intended, more = t.pacer.next(); !more {
				return
			}
			if !wait.until(ctx, intended) {
				t.stopped.CompareAndSwap(0, time.Now().UnixNano())
				return
			}
		}
		t.started.Add(1)
		s := Sample{Intended: intended.Sub(t.begin)}
		if rng.Float64() < t.work.Reads {
			s.Op, s.Session = Read, rng.IntN(len(t.ledger.ids))
			s.Started = time.Since(t.begin)
			s.Verdict, s.Err = t.read(context.WithoutCancel(ctx), client, s.Session)
		} else {
			s.Op, s.Session = Write, t.claimAny(rng)
			s.Started = time.Since(t.begin)
			s.Err = t.write(context.WithoutCancel(ctx), client, s.Session)
		}
		s.Ended = time.Since(t.begin)
		if t.pacer == nil {
			s.Intended = s.Started
		}
		record(w, &s)
	}
}

// claimAny picks a session that nobody writes. There is one: a worker claims
// one at a time, and there are as many sessions as workers or more.
func (r *Runner) claimAny(rng *rand.Rand) int {
	n := len(r.ledger.ids)
	for range 8 {
		if i := rng.IntN(n); r.ledger.claim(i) {
			return i
		}
	}
	for i := rng.IntN(n); ; i = (i + 1) % n {
		if r.ledger.claim(i) {
			return i
		}
	}
}

// write does the write that a session was claimed for and ends the claim.
func (r *Runner) write(ctx context.Context, c *sessionring.Client, i int) error {
	n := r.ledger.next(i)
	err := c.Set(ctx, r.ledger.ids[i], AppendPayload(make([]byte, 0, r.work.Size), r.ledger.ids[i], n, r.work.Size))
	r.ledger.written(i, n, err == nil)
	return err
}

// read does one read. An absent session is a verdict, not an error.
func (r *Runner) read(ctx context.Context, c *sessionring.Client, i int) (Verdict, error) {
	before := r.ledger.acknowledged(i)
	it, err := c.Load(ctx, r.ledger.ids[i], sessionring.GetOptions{Touch: r.work.Touch})
	switch {
	case err == nil:
		return r.ledger.found(i, before, it.Data), nil
	case errors.Is(err, sessionring.ErrNotFound):
		return r.ledger.absent(i, before, errors.Is(err, sessionring.ErrOwnerAway)), nil
	}
	return Unread, err
}
