package load

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// pacer hands out the intended starts of one step, evenly spaced.
type pacer struct {
	begin time.Time
	every float64 // nanoseconds between two starts
	total int64   // starts in the step
	taken atomic.Int64
}

func newPacer(begin time.Time, rate float64, d time.Duration) *pacer {
	return &pacer{begin: begin, every: 1e9 / rate, total: int64(math.Ceil(rate * d.Seconds()))}
}

// next returns when the next operation should start; false when there is none
// left. It does not wait.
func (p *pacer) next() (time.Time, bool) {
	k := p.taken.Add(1) - 1
	if k >= p.total {
		return time.Time{}, false
	}
	return p.begin.Add(time.Duration(float64(k) * p.every)), true
}

// due counts the starts that were intended before a moment.
func (p *pacer) due(t time.Time) int64 {
	since := t.Sub(p.begin)
	if since <= 0 {
		return 0
	}
	return min(p.total, int64(float64(since)/p.every)+1)
}

// sleeper waits for a time on one reused timer.
type sleeper struct{ timer *time.Timer }

func newSleeper() *sleeper {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &sleeper{t}
}

// until returns false when ctx ended first.
func (s *sleeper) until(ctx context.Context, t time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	s.timer.Reset(d)
	select {
	case <-s.timer.C:
		return true
	case <-ctx.Done():
		s.timer.Stop()
		return false
	}
}
