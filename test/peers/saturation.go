package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/go-redis/v9"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

const recorderShards = 16

// loads are the offered loads, in parts of what the client reaches in a closed loop. The last shows what overload
// leaves behind.
func loads() []float64 { return []float64{0.25, 0.5, 0.75, 0.9, 1, 1.25, 1.5, 2, 0.5} }

// step is one offered load, of all rounds.
type step struct {
	part    float64 // of the closed loop's rate
	offered float64 // requests a second
	done    []float64
	latency *hdrhistogram.Histogram // of all that ended, failed ones too, microseconds from when each was due
	late    *hdrhistogram.Histogram // how long after it was due each began: what the process lacked CPU
	ended   int
	failed  map[string]int // by kind
	away    int            // turned away: too many were under way
	wrong   int            // sessions that went back in time
	slowest time.Duration  // of the failed, from when it was sent
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
}

// curve is what one client does under rising load.
type curve struct {
	name   string
	closed float64 // requests a second in a closed loop
	steps  []*step
}

// saturation offers load to clients, whatever they do with it: requests are due at even intervals, and latency counts
// from when a request was due, so one that waits for others shows ("coordinated omission" would hide it).
func (c config) saturation(ctx context.Context, out, progress io.Writer) (err error) {
	how := fmt.Sprintf("%s of %v a load after %v that do not count, three servers; a request is a cycle with a deadline of %v, %s under way at most.",
		count(c.rounds, "round"), c.cell, c.limit, c.limit, thousands(float64(c.underWay)))
	text, err := circumstances(ctx, how, goRedisModule)
	if err != nil {
		return err
	}
	nodes, err := redistest.StartNodes(ctx, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, redistest.StopNodes(nodes)) }()
	inTime := func(o *redis.Options) { o.ContextTimeoutEnabled = true }
	var loops []*openLoop
	defer func() {
		for _, l := range loops {
			err = errors.Join(err, l.contestant.close())
		}
	}()
	for _, p := range []peer{
		{name: reference, open: openGoRedis("s:", expire, inTime)},
		{name: clientOne, open: openClient(1, deadline)},
		{name: clientTwo, open: openClient(2, deadline)},
	} {
		l, err := c.prepare(ctx, p, nodes)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		loops = append(loops, l)
	}
	curves, err := c.closedLoops(ctx, loops, nodes)
	if err != nil {
		return err
	}
	for _, v := range curves {
		fmt.Fprintf(progress, "%s: %s requests a second in a closed loop\n", v.name, thousands(v.closed))
	}
	for round := range c.rounds {
		for i := range curves {
			at := (i + round) % len(curves)
			for _, s := range curves[at].steps {
				if err := loops[at].run(ctx, s, c.cell); err != nil {
					return fmt.Errorf("%s: %w", curves[at].name, err)
				}
			}
			fmt.Fprintf(progress, "round %d of %d: %s\n", round+1, c.rounds, curves[at].name)
		}
	}
	text += writeCurves(curves)
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	if c.docs == "" {
		return nil
	}
	return errors.Join(drawCurves(c.docs.figure("saturation"), curves), c.docs.write(saturationSection, text))
}

// prepare makes the sessions.
func (c config) prepare(ctx context.Context, p peer, nodes []*redistest.Server) (*openLoop, error) {
	k, err := p.begin(ctx, addresses(nodes), slices.Max(crowds()))
	if err != nil {
		return nil, err
	}
	s, ok := k.worker().(*store)
	if !ok {
		return nil, errors.Join(errors.New("not a store"), k.close())
	}
	l := &openLoop{contestant: k, store: s, limit: c.limit, sessions: make([]openSession, c.underWay), free: make(chan int, c.underWay)}
	if err := l.fill(ctx); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return l, nil
}

// crowds are the numbers of goroutines of the closed loop.
func crowds() []int { return []int{64, 256} }

// closedLoops finds what each client reaches when each goroutine waits for its answer: the median of five tries in
// turn, of the number of goroutines that suits it best.
func (c config) closedLoops(ctx context.Context, loops []*openLoop, nodes []*redistest.Server) ([]*curve, error) {
	rates := make([]map[int][]float64, len(loops))
	for try := range 5 {
		for i := range loops {
			at := (i + try) % len(loops)
			for _, n := range crowds() {
				s, err := loops[at].contestant.cell(ctx, nodes, cycle, n, c.cell/2)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", loops[at].contestant.name, err)
				}
				if rates[at] == nil {
					rates[at] = map[int][]float64{}
				}
				rates[at][n] = append(rates[at][n], s.rate)
			}
		}
	}
	var curves []*curve
	for i, l := range loops {
		v := &curve{name: l.contestant.name}
		for _, all := range rates[i] {
			v.closed = max(v.closed, median(all))
		}
		for _, part := range loads() {
			v.steps = append(v.steps, &step{part: part, offered: part * v.closed, latency: newHistogram(), late: newHistogram(), failed: map[string]int{}})
		}
		curves = append(curves, v)
	}
	return curves, nil
}

// openLoop sends requests when they are due.
type openLoop struct {
	contestant *contestant // nil in tests

	store    *store
	limit    time.Duration // of a request
	sessions []openSession
	free     chan int // sessions that no request under way holds
}

// openSession is one request's alone as long as it is under way. A save that failed may have happened.
type openSession struct{ saved, tried uint64 }

// ids of the open loop follow those of the closed one.
func openID(i int) string { return sessionID(sessionsEach + 1 + i) }

func (l *openLoop) fill(ctx context.Context) error {
	errs := make([]error, 64)
	var next atomic.Int64
	var wg sync.WaitGroup
	for g := range errs {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < len(l.sessions) && errs[g] == nil; i = int(next.Add(1) - 1) {
				errs[g] = l.store.set(ctx, openID(i), (&visit{}).bytes())
				l.sessions[i] = openSession{1, 1}
				l.free <- i
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// errBack is a session older than what was acknowledged, or newer than what was tried.
var errBack = errors.New("the session went back in time")

// request is one cycle.
func (l *openLoop) request(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	id, s := openID(i), &l.sessions[i]
	data, err := l.store.get(ctx, id)
	if err != nil {
		return err
	}
	n, err := saves(data)
	if err != nil {
		return err
	}
	if n < s.saved || n > s.tried {
		*s = openSession{n, n}
		return errBack
	}
	v := visit{want: s.tried}
	s.tried++
	if err := l.store.set(ctx, id, v.bytes()); err != nil {
		return err
	}
	s.saved = s.tried
	return nil
}

// shard takes the results of some requests.
type shard struct {
	mu      sync.Mutex
	done    int
	ended   int
	latency *hdrhistogram.Histogram
	late    *hdrhistogram.Histogram
	failed  map[string]int
	wrong   int
	slowest time.Duration
}

// run offers a step's load for a time. What is due before a first request can have met its deadline does not
// count: only then has a queue that grows reached its length.
func (l *openLoop) run(ctx context.Context, s *step, d time.Duration) error {
	shards := make([]*shard, recorderShards)
	for i := range shards {
		shards[i] = &shard{latency: newHistogram(), late: newHistogram(), failed: map[string]int{}}
	}
	var wg sync.WaitGroup
	begin := time.Now()
	from, until := begin.Add(l.limit), begin.Add(l.limit+d)
	due := func(n int) time.Time { return begin.Add(time.Duration(float64(n) / s.offered * float64(time.Second))) }
	for n := 0; due(n).Before(until); {
		if err := sleepUntil(ctx, due(n)); err != nil {
			wg.Wait()
			return err
		}
		for now := time.Now(); !due(n).After(now) && due(n).Before(until); n++ {
			at := due(n)
			select {
			case i := <-l.free:
				wg.Go(func() {
					sent := time.Now()
					err := l.request(ctx, i)
					end := time.Now()
					l.free <- i
					shards[i%recorderShards].record(at, sent, end, from, until, err)
				})
			default:
				if !at.Before(from) {
					s.away++
				}
			}
		}
	}
	wg.Wait()
	done := 0
	for _, h := range shards {
		done += h.done
		s.add(h)
	}
	s.done = append(s.done, float64(done)/d.Seconds())
	return ctx.Err()
}

func sleepUntil(ctx context.Context, t time.Time) error {
	time.Sleep(time.Until(t)) // a step is short
	return ctx.Err()
}

func (h *shard) record(due, sent, end, from, until time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && end.After(from) && !end.After(until) {
		h.done++
	}
	if errors.Is(err, errBack) {
		h.wrong++
	}
	if due.Before(from) {
		return
	}
	h.ended++
	_ = h.latency.RecordValue(max(1, int64(end.Sub(due)/time.Microsecond))) // a minute is out of reach
	_ = h.late.RecordValue(max(1, int64(sent.Sub(due)/time.Microsecond)))
	if err != nil {
		h.failed[kind(err)]++
		h.slowest = max(h.slowest, end.Sub(sent))
	}
}

func (s *step) add(h *shard) {
	s.latency.Merge(h.latency)
	s.late.Merge(h.late)
	s.ended += h.ended
	s.wrong += h.wrong
	s.slowest = max(s.slowest, h.slowest)
	for k, n := range h.failed {
		s.failed[k] += n
	}
}

// kind names an error for people: our own by their names.
func kind(err error) string {
	var timeout net.Error
	ours := ""
	switch {
	case errors.Is(err, sessionring.ErrOverloaded):
		ours = "ErrOverloaded"
	case errors.Is(err, sessionring.ErrTimeout):
		ours = "ErrTimeout"
	}
	switch {
	case errors.Is(err, errBack):
		return "went back in time"
	case errors.Is(err, sessionring.ErrNoNode) && ours != "":
		return "ErrNoNode, " + ours
	case errors.Is(err, sessionring.ErrNoNode):
		return "ErrNoNode"
	case ours != "":
		return ours
	case errors.Is(err, sessionring.ErrNotFound), errors.Is(err, redis.Nil):
		return "not found"
	case errors.Is(err, sessionring.ErrConflict):
		return "ErrConflict"
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return "no connection in the pool"
	case errors.Is(err, context.DeadlineExceeded):
		return "context deadline"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "i/o timeout"
	default:
		return "other"
	}
}

// kinds are errors by how many there were, in parts of those that ended.
func (s *step) kinds() string {
	names := slices.SortedFunc(maps.Keys(s.failed), func(a, b string) int {
		if d := s.failed[b] - s.failed[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %s", name, percent(s.failed[name], s.ended+s.away))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "; ")
}

func percent(n, of int) string {
	v := 100 * float64(n) / float64(max(of, 1))
	if v > 0 && v < 0.1 {
		return "<0.1 %"
	}
	return fmt.Sprintf("%.1f %%", v)
}

func ms(h *hdrhistogram.Histogram, percentile float64) float64 {
	return float64(h.ValueAtQuantile(percentile)) / 1000
}

// peak is the most that a client did at any load.
func (v *curve) peak() float64 {
	most := 0.0
	for _, s := range v.steps {
		most = max(most, median(slices.Clone(s.done)))
	}
	return most
}

func writeCurves(curves []*curve) string {
	var b strings.Builder
	b.WriteString("| client | offered, closed loop = 1 | offered/s | done/s | p50 ms | p99 ms | began late, p99 ms | failed | turned away | slowest failure ms |\n" +
		"|---|--:|--:|--:|--:|--:|--:|---|--:|--:|\n")
	for _, v := range curves {
		for i, s := range v.steps {
			part := fmt.Sprint(s.part)
			if i == len(v.steps)-1 {
				part += " again"
			}
			slowest := "–"
			if s.slowest > 0 {
				slowest = fmt.Sprintf("%.0f", float64(s.slowest)/float64(time.Millisecond))
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f | %.2f | %.2f | %s | %s | %s |\n", v.name, part, thousands(s.offered),
				thousands(median(slices.Clone(s.done))), ms(s.latency, 50), ms(s.latency, 99), ms(s.late, 99), s.kinds(), percent(s.away, s.ended+s.away), slowest)
		}
	}
	b.WriteString("\n| client | peak done/s | at twice the closed loop | of its peak | sessions that went back in time |\n|---|--:|--:|--:|--:|\n")
	for _, v := range curves {
		wrong := 0
		for _, s := range v.steps {
			wrong += s.wrong
		}
		twice := median(slices.Clone(v.steps[len(v.steps)-2].done))
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %d |\n", v.name, thousands(v.peak()), thousands(twice), twice/max(v.peak(), 1), wrong)
	}
	return b.String()
}

func drawCurves(file string, curves []*curve) error {
	rates := newPanel("throughput", "", "requests done in time, a second")
	tails := newPanel("latency from when a request was due", "requests offered a second", "p99, ms")
	most := 0.0
	for i, v := range curves {
		var done, tail plotter.XYs
		for _, s := range v.steps[:len(v.steps)-1] {
			done = append(done, plotter.XY{X: s.offered, Y: median(slices.Clone(s.done))})
			tail = append(tail, plotter.XY{X: s.offered, Y: max(ms(s.latency, 99), 0.01)})
			most = max(most, s.offered)
		}
		if err := errors.Join(addLine(rates, v.name, i, done), addLine(tails, v.name, i, tail)); err != nil {
			return err
		}
	}
	highest := max(rates.Y.Max, 1) * 1.5 // room for the legend
	ideal, err := plotter.NewLine(plotter.XYs{{X: 0, Y: 0}, {X: min(most, highest), Y: min(most, highest)}})
	if err != nil {
		return err
	}
	ideal.Color = grey
	rates.Add(ideal)
	rates.Legend.Add("all that is offered", ideal)
	rates.Y.Min, rates.Y.Max = 0, highest
	logAxis(&tails.Y, 5) // room for the legend
	for _, p := range []*plot.Plot{rates, tails} {
		p.X.Min, p.X.Max, p.X.Tick.Marker = 0, most*1.02, roundTicks(10)
	}
	tails.Legend.Left = true
	rates.Y.Tick.Marker = roundTicks(8)
	return drawPanels(file, heights(2), rates, tails)
}
