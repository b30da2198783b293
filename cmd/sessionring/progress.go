package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// plainInterval is how often progress is told where standard error is no terminal.
const plainInterval = 5 * time.Second

// progress tells on standard error how far something is: a bar on a terminal, a line now and then elsewhere.
// Nothing shorter than a second shows anything.
type progress struct {
	app   *app
	name  string
	total int64 // 0: unknown
	done  atomic.Int64
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

// startProgress begins to show progress; end must be called, twice does no harm. A nil progress shows nothing.
func (a *app) startProgress(ctx context.Context, name string, total int64) *progress {
	ctx, stop := context.WithCancel(ctx)
	p := &progress{app: a, name: name, total: total, stop: stop}
	p.wg.Go(func() { p.show(ctx) })
	return p
}

// add counts work that was done.
func (p *progress) add(n int64) {
	if p != nil {
		p.done.Add(n)
	}
}

// end takes the bar away and waits for that.
func (p *progress) end() {
	if p != nil {
		p.stop()
		p.wg.Wait()
	}
}

func (p *progress) show(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(time.Second):
	}
	if isTerminal(p.app.err) {
		p.bar(ctx)
		return
	}
	begun := time.Now()
	tick := time.NewTicker(plainInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			done, rate := p.done.Load(), float64(p.done.Load())/(time.Since(begun)+time.Second).Seconds()
			if p.total > 0 {
				p.app.message("%s: %d of %d, %.0f/s", p.name, done, p.total, rate)
			} else {
				p.app.message("%s: %d, %.0f/s", p.name, done, rate)
			}
		}
	}
}

func (p *progress) bar(ctx context.Context) {
	bars := mpb.New(mpb.WithOutput(p.app.err), mpb.WithWidth(48), mpb.WithRefreshRate(200*time.Millisecond))
	name := mpb.PrependDecorators(decor.Name(p.name+" "), decor.CurrentNoUnit("%d "))
	speed := mpb.AppendDecorators(decor.AverageSpeed(0, " %.0f/s"))
	var bar *mpb.Bar
	if p.total > 0 {
		bar = bars.New(p.total, mpb.BarStyle(), name, speed, mpb.AppendDecorators(decor.Percentage(decor.WC{W: 6})), mpb.BarRemoveOnComplete())
	} else {
		bar = bars.New(0, mpb.SpinnerStyle(), name, speed, mpb.BarRemoveOnComplete())
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			bar.Abort(true)
			bars.Wait()
			return
		case <-tick.C:
			bar.SetCurrent(p.done.Load())
		}
	}
}
