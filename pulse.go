package sessionring

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	pulseEvery = 25 * time.Millisecond
	pulseStall = 75 * time.Millisecond // a gap between beats that says: this process stood still
)

// pulse tells a node that hangs from a process of ours that stood still (a busy or paused machine): the answers
// are in the sockets then, and no node is to blame.
type pulse struct {
	last  atomic.Int64 // Unix nanoseconds of the last beat
	ended atomic.Int64 // when the last standstill ended
}

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

func (p *pulse) beat(now time.Time) {
	last := p.last.Swap(now.UnixNano())
	if last != 0 && now.UnixNano()-last > pulseStall.Nanoseconds() {
		p.ended.Store(now.UnixNano())
	}
}

// since is the moment from which waiting since t counts: not before a standstill ended, and not at all while
// one may be ending.
func (p *pulse) since(t, now time.Time) time.Time {
	if now.UnixNano()-p.last.Load() > pulseStall.Nanoseconds() {
		return now
	}
	if ended := time.Unix(0, p.ended.Load()); ended.After(t) {
		return ended
	}
	return t
}
