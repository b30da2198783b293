package sessionring

import (
	"runtime"
	"sync/atomic"
	"time"
)

// longTurn is what a run through all goroutines that are ready may take. Requests alone take far less.
const longTurn = 3 * time.Millisecond

// turns lets other goroutines go first, unless that takes long: where a process computes, each turn costs the others'
// time slices.
type turns struct {
	until atomic.Int64 // nobody waits for others before, Unix nanoseconds
}

// long reports whether turns are long now, and so not to be waited for; nil always says so.
func (t *turns) long() bool {
	if t == nil {
		return true
	}
	until := t.until.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// yield lets all goroutines that are ready run once.
func (t *turns) yield() {
	begun := time.Now()
	runtime.Gosched()
	if took := time.Since(begun); took > longTurn {
		t.until.Store(begun.Add(100 * took).UnixNano())
	}
}

// flush writes to the connections that wait for it. Where others are about to use them too, they go first: their
// commands leave in the same write, and a write costs more than all else that a request does.
func (f *fan) flush() {
	if len(f.flushing) == 0 {
		return
	}
	var turns [len(f.flushing4)]uint64
	yielding := f.crowded && len(f.flushing) <= len(turns) && !f.c.turns.long()
	if yielding {
		for i, cn := range f.flushing {
			turns[i] = cn.yield()
		}
		f.c.turns.yield()
	}
	for i, cn := range f.flushing {
		if yielding && cn.resume(turns[i]) || !yielding && !(f.crowded && cn.postpone()) {
			cn.flush()
		}
		f.flushing[i] = nil
	}
	f.flushing = f.flushing[:0]
}
