package faults

import (
	"sync"
	"time"
)

// stallWatch measures for how long this process was not given its turn. The proxies live in it: while it stands still
// every node behind them hangs at once, which is more than one fault.
type stallWatch struct {
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu      sync.Mutex
	longest time.Duration
}

func watchStalls() *stallWatch {
	w := &stallWatch{stop: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
			w.mu.Lock()
			w.longest = max(w.longest, time.Since(last))
			w.mu.Unlock()
			last = time.Now()
		}
	})
	return w
}

// end stops watching and returns the longest standstill. It may be called twice.
func (w *stallWatch) end() time.Duration {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
	return w.longest
}
