package sessionring

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// lag is how long a goroutine of this process waits for its turn once the answer that it waits for is there. Where a
// process has more to do than it can, that grows until every operation ends too late, though each was given its share
// of work: then nothing gets done at all. So while it is long, so many operations are let in as keep it short, and
// others are refused while that costs nothing yet.
type lag struct {
	active atomic.Int64 // operations under way
	limit  atomic.Int64 // of them; 0: none
	mean   atomic.Int64 // of the last few dozen lags, nanoseconds
	budget atomic.Int64 // the time that the operations of these had, on average
	next   atomic.Int64 // when the limit is looked at next, Unix nanoseconds
	over   atomic.Int64 // since when the mean is too long; 0: it is not
}

const (
	lagWeight = 32 // how many the mean remembers
	lagLook   = 10 * time.Millisecond
	// lagTurns is the part of its time that an operation may wait for one turn. A request takes a dozen turns, its
	// caller's own included, and is to be done early rather than just in time: the longer the queue, the more is spent
	// on those who wait in it.
	lagTurns = 64
	lagTries = 8 // the part of an operation's time for which it has to be longer before anybody is refused
	// lagLeast is a turn that is never too long: a few in a hurry must not cost all others.
	lagLeast = 2 * time.Millisecond
)

// errBehind refuses an operation for the process's sake, not a node's.
var errBehind = fmt.Errorf("%w: this process does not get round to them in time", ErrOverloaded)

// saw notes that somebody ran at now for whom an answer had been there since then, in an operation that has so much time.
// That two may meet in here does no harm.
func (l *lag) saw(answered int64, now time.Time, budget time.Duration) {
	at := now.UnixNano()
	took := min(max(at-answered, 0), max(budget.Nanoseconds(), 0))
	mean, all := l.mean.Load(), l.budget.Load()
	mean += (took - mean) / lagWeight
	if all == 0 {
		all = budget.Nanoseconds()
	}
	all += (budget.Nanoseconds() - all) / lagWeight
	l.mean.Store(mean)
	l.budget.Store(all)
	if next := l.next.Load(); at >= next && l.next.CompareAndSwap(next, at+lagLook.Nanoseconds()) {
		l.look(at, mean, all)
	}
}

// look sets the limit. One goroutine at a time does.
func (l *lag) look(now, mean, budget int64) {
	target, limit, over := max(budget/lagTurns, lagLeast.Nanoseconds()), l.limit.Load(), l.over.Load()
	switch {
	case mean <= target:
		l.over.Store(0)
		if limit > 0 {
			if limit += limit/16 + 1; limit > maxPipeCalls {
				limit = 0
			}
		}
	case over == 0:
		l.over.Store(now)
	case now-over < budget/lagTries:
	case limit == 0:
		limit = max(l.active.Load()*target/mean, shedFrom)
	default:
		limit = max(limit*target/mean, limit*3/4, shedFrom)
	}
	l.limit.Store(limit)
}

// refuses reports whether one operation more is too many. Writes are refused later than reads: most are the second half
// of a request whose first is done.
func (l *lag) refuses(now time.Time, writes bool) bool {
	limit := l.limit.Load()
	if limit == 0 {
		return false
	}
	if now.UnixNano()-l.next.Load() > time.Second.Nanoseconds() { // nobody has waited for anything since
		l.limit.Store(0)
		return false
	}
	if writes {
		limit *= 2
	}
	return l.active.Load() >= limit
}

// hasNoTime is the error of an operation that is refused for that: cheap, for there are many then.
func (c *Client) hasNoTime(name string, writes bool) error {
	if c.lag.limit.Load() == 0 || !c.lag.refuses(time.Now(), writes) {
		return nil
	}
	err := &NoNodeError{Op: name, behind: true}
	if c.conf.hooks.Operation != nil {
		c.conf.hooks.Operation(Operation{Name: name, Err: err})
	}
	return err
}

// overloaded is the error of an operation that is not even begun: all owners have so much to do, on the connection
// that it would use, that their answers would come too late. To ask others instead would make them the next. One slow
// owner is left to patience.
func (f *fan) overloaded() error {
	var room [4]*node
	busy, all := room[:0], true
	f.eachOwner(func(o *node) {
		if all && o.health.now() != StateDown && !slices.Contains(busy, o) { // by two lists maybe
			all = f.lane(o).overloaded(f.began, f.until)
			busy = append(busy, o)
		}
	})
	if !all || len(busy) == 0 {
		return nil
	}
	e := &NoNodeError{Op: f.name, Elapsed: time.Since(f.began)}
	for _, o := range busy {
		err := o.err(f.name, ErrOverloaded)
		e.Nodes = append(e.Nodes, err)
		f.c.failure(o, f.name, err)
	}
	return e
}
