package load

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sessionring/sessionring"
)

const (
	verifyTries = 5
	verifyPause = 200 * time.Millisecond
)

// Final is what the last look at every session found. It counts sessions; the
// same reads count in Integrity too.
type Final struct {
	Checked    int // sessions that were acknowledged at least once and could be read
	Lost       int // of Checked: absent
	Stale      int // of Checked: older than acknowledged
	Wrong      int // of Checked: foreign or corrupt
	Unreadable int // sessions that gave errors only, or that ctx left no time for
}

// Add adds another load's counts.
func (f *Final) Add(o Final) {
	f.Checked += o.Checked
	f.Lost += o.Lost
	f.Stale += o.Stale
	f.Wrong += o.Wrong
	f.Unreadable += o.Unreadable
}

// Verify reads every session that was acknowledged, once nothing writes any
// more. A read that fails is tried again a few times. It ends early with ctx.
func (r *Runner) Verify(ctx context.Context, concurrency int, progress func()) Final {
	var counts [Corrupt + 1]atomic.Int64
	var expected int
	for i := range r.ledger.ids {
		if r.ledger.acknowledged(i) > 0 {
			expected++
		}
	}
	r.each(ctx, concurrency, func(c *sessionring.Client, i int) {
		if r.ledger.acknowledged(i) == 0 {
			return
		}
		for try := range verifyTries {
			v, err := r.read(ctx, c, i)
			if err == nil {
				counts[v].Add(1)
				break
			}
			if try == verifyTries-1 || !newSleeper().until(ctx, time.Now().Add(verifyPause)) {
				break
			}
		}
		if progress != nil {
			progress()
		}
	})
	n := func(v Verdict) int { return int(counts[v].Load()) }
	f := Final{Lost: n(Lost) + n(Away), Stale: n(Stale), Wrong: n(Foreign) + n(Corrupt)}
	f.Checked = n(Good) + f.Lost + f.Stale + f.Wrong
	f.Unreadable = expected - f.Checked
	return f
}
