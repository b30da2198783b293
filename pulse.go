package sessionring

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

const (
	pulseEvery = 25 * time.Millisecond
	pulseStall = 75 * time.Millisecond // a gap between beats that says: this process stood still
)

const (
	pulseKept  = 64         // standstills that are remembered
	pulseGrace = pulseStall // what a process needs after one to read what has come meanwhile
)

// pulse tells a node that hangs from a process of ours that stood still (a busy or paused machine): the answers
// are in the sockets then, and no node is to blame. Time that this process ran does count, however often it stood
// still in between: on a machine that is busy for long, a node that hangs is found all the same, only later.
type pulse struct {
	last   atomic.Int64                 // Unix nanoseconds of the last beat
	stalls atomic.Pointer[[]standstill] // the last ones, in their order; never changed in place
}

type standstill struct{ from, to int64 } // Unix nanoseconds

func (p *pulse) run(ctx context.Context) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	p.beat(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.beat(time.Now())
		}
	}
}

func (p *pulse) beat(at time.Time) {
	now := at.UnixNano()
	last := p.last.Load()
	defer p.last.Store(now) // after the standstill is noted: whoever asks in between counts it once more, which is capped
	if last == 0 || now-last <= pulseStall.Nanoseconds() {
		return
	}
	var kept []standstill
	if old := p.stalls.Load(); old != nil {
		kept = (*old)[max(0, len(*old)-pulseKept+1):]
	}
	kept = append(slices.Clone(kept), standstill{last, now})
	p.stalls.Store(&kept)
}

// since is the moment from which waiting since t counts: later by as much as this process stood still since then and
// needed to catch up, though not later than the end of its last standstill, which may be now.
func (p *pulse) since(t, now time.Time) time.Time {
	from, last := t.UnixNano(), p.last.Load()
	ended, lost := int64(0), time.Duration(0)
	add := func(s standstill) bool {
		if s.to <= from {
			return false
		}
		ended = max(ended, s.to)
		lost += time.Duration(s.to-max(s.from, from)) + pulseGrace
		return true
	}
	if now.UnixNano()-last > pulseStall.Nanoseconds() {
		add(standstill{last, now.UnixNano()})
	}
	if stalls := p.stalls.Load(); stalls != nil {
		for i := len(*stalls) - 1; i >= 0 && add((*stalls)[i]); i-- {
		}
	}
	switch counts := t.Add(lost); {
	case ended == 0:
		return t
	case ended < counts.UnixNano():
		return time.Unix(0, ended)
	default:
		return counts
	}
}
