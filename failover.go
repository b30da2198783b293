package sessionring

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// State is what a Client thinks of a node.
type State int32

const (
	// StateReturning: the node answers, but may miss writes: it takes writes, and its reads count only beside
	// another copy until it has been brought up to date. A node that was never met starts here.
	StateReturning State = iota
	// StateUp: all is well.
	StateUp
	// StateSuspect: it failed lately, is still used, and is being probed.
	StateSuspect
	// StateDown: it is not used; probes look for its return.
	StateDown
)

// String returns "returning", "up", "suspect" or "down".
func (s State) String() string {
	switch s {
	case StateUp:
		return "up"
	case StateSuspect:
		return "suspect"
	case StateDown:
		return "down"
	default:
		return "returning"
	}
}

const (
	breakerFailures = 3                      // consecutive failures that open the breaker
	checkInterval   = time.Second            // between looks at a node that is up
	probeMin        = 50 * time.Millisecond  // between probes of a node that is down: first,
	probeMax        = time.Second            // and at most
	minSilence      = 100 * time.Millisecond // of a node, before it is suspected
	maxLonger       = 4                      // times that a wait is prolonged because this process stood still
	returningPoll   = 200 * time.Millisecond // between looks at a node that another client brings up to date
)

// health is the state of one node in this client's eyes. Its transitions stand in this file alone.
type health struct {
	node   *node
	notify func(StateChange)

	state atomic.Int32
	epoch atomic.Uint64 // grows when the node is given up or comes back: results of calls begun before say nothing

	mu       sync.Mutex
	breaker  circuitbreaker.CircuitBreaker[any]
	since    time.Time // of the state
	lastErr  error     // why it is not up; kept when it is up again
	lastFail time.Time
	runID    string // of the server process last met
	version  string
	hidden   bool // restarts cannot be seen: the user may not call INFO
	progress Progress
	debts    map[string]int64 // ids that wait for this node, by the node that holds them
	rings    []string         // fingerprints of rings that other clients were heard to work by
	pass     bool             // a node that was absent from the last full pass is back
	unnamed  int              // writes that it missed and that no hint names: all is to be compared

	pinned bool // an engine that fails over by itself: always up

	kick chan struct{} // wakes the node's watcher
}

func newHealth(n *node, notify func(StateChange)) *health {
	h := &health{node: n, notify: notify, since: time.Now(), kick: make(chan struct{}, 1)}
	// The delay is never waited for: only our probe closes the breaker, once the node is caught up.
	h.breaker = circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerFailures).WithDelay(24 * time.Hour).Build()
	return h
}

// cause is why the node is not up.
func (h *health) cause() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastErr
}

func (h *health) now() State { return State(h.state.Load()) }

func (h *health) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// set changes the state; h.mu is held.
func (h *health) set(to State, cause error) {
	from := h.now()
	if cause != nil {
		h.lastErr, h.lastFail = cause, time.Now()
	}
	if from == to {
		return
	}
	h.state.Store(int32(to))
	h.since = time.Now()
	if to == StateDown || from == StateDown {
		h.epoch.Add(1)
	}
	if to == StateDown {
		h.breaker.Open()
	} else if from == StateDown {
		h.breaker.Close()
	}
	if h.notify != nil {
		h.notify(StateChange{Node: h.node.id, From: from, To: to, Cause: cause})
	}
}

// succeeded notes an answer. It costs an atomic load while the node is up. A suspect that answers is not up yet:
// while it was silent other clients may have given it up and written elsewhere, so its watcher asks for hints first.
func (h *health) succeeded(epoch uint64) {
	if h.now() != StateSuspect {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch == h.epoch.Load() && h.now() == StateSuspect {
		h.breaker.RecordSuccess()
		h.wake()
	}
}

// cleared ends a suspicion: the node answers, and nothing waits for it elsewhere.
func (h *health) cleared(epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch == h.epoch.Load() && h.now() == StateSuspect {
		h.breaker.RecordSuccess()
		h.set(StateUp, nil)
	}
}

// failed notes a failure that counts against the node.
func (h *health) failed(epoch uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch != h.epoch.Load() || h.now() == StateDown {
		return
	}
	if h.pinned {
		h.lastErr, h.lastFail = err, time.Now()
		return
	}
	h.breaker.RecordFailure()
	switch {
	case permanent(err) || h.breaker.IsOpen():
		h.set(StateDown, err)
	case h.now() == StateUp:
		h.set(StateSuspect, err)
	default:
		h.lastErr, h.lastFail = err, time.Now()
	}
	h.wake()
}

// silent notes that nothing came back for an operation's patience. That alone condemns nobody, on a busy
// machine all the less: the watcher asks for a sign of life at once, and its verdict counts.
func (h *health) silent(epoch uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch != h.epoch.Load() || h.now() == StateDown || h.pinned {
		return
	}
	if h.now() == StateUp {
		h.set(StateSuspect, err)
	} else {
		h.lastErr, h.lastFail = err, time.Now()
	}
	h.wake()
}

// unreachable notes that no connection could be made: a failed probe, so the node is down at once.
func (h *health) unreachable(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(StateDown, err)
	h.wake()
}

// met notes a new connection and whom it reached. A process that was not met before may have lost or kept
// anything: it is returning until its mark says that it was brought up to date.
func (h *health) met(f facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hidden = f.noInfo
	h.version = f.version
	same := h.runID == f.runID
	h.runID = f.runID
	if !same {
		h.node.forgetScripts()
		h.epoch.Add(1) // what was thought of the process before says nothing of this one
	}
	switch {
	case h.now() == StateDown, !same:
		h.set(StateReturning, nil)
		h.wake()
	}
}

// caughtUp makes a returning node an ordinary one.
func (h *health) caughtUp(epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.progress.Done = !h.progress.Since.IsZero()
	if epoch == h.epoch.Load() && h.now() == StateReturning && h.unnamed == 0 {
		h.breaker.Close()
		h.set(StateUp, nil)
	}
}

// doubted makes a node that was up a returning one: its mark is gone, others hold writes that it missed, or writes
// to it were lost.
func (h *health) doubted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.now(); s == StateUp || s == StateSuspect {
		h.set(StateReturning, nil)
	}
}

// lost notes that writes to the node were lost which other nodes took and nobody waits for any more. They left hints,
// and the node counts again once these were looked for.
func (h *health) lost() {
	if h.pinned {
		return
	}
	h.doubted()
	h.wake()
}

// missed notes that the node missed a write, and that no other node names it.
func (h *health) missed() {
	h.mu.Lock()
	h.unnamed++
	h.mu.Unlock()
	h.doubted()
	h.wake()
}

// watch is the node's goroutine: probes while it is down, looks after it otherwise. It ends with ctx.
func (c *Client) watch(ctx context.Context, n *node) {
	defer c.wg.Done()
	h := n.health
	backoff := probeMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
		case <-timer.C:
		}
		wait := checkInterval
		switch h.now() {
		case StateDown:
			if c.probe(ctx, n) {
				backoff, wait = probeMin, 0
			} else {
				wait, backoff = backoff, min(backoff*2, probeMax)
			}
		case StateSuspect:
			epoch := h.epoch.Load()
			if err := c.pingWithin(ctx, n, c.suspicion()); err == nil {
				n.dropSilentBulk(c.silence(c.view.Load()) + c.suspicion())
				if c.hintsFor(ctx, n, c.view.Load(), c.suspicion()) > 0 {
					h.doubted()
					wait = 0
				} else {
					h.cleared(epoch)
				}
			} else if ctx.Err() == nil {
				h.unreachable(n.err("probe", err))
				n.drop(ErrTimeout)
				wait = probeMin
			}
		case StateReturning:
			backoff = probeMin
			if c.bringUpToDate(ctx, n) {
				wait = checkInterval
			} else {
				wait = returningPoll
			}
		case StateUp:
			backoff = probeMin
			c.look(ctx, n)
		}
		// Jitter keeps a fleet of clients from knocking together.
		wait += rand.N(wait/4 + time.Millisecond)
		timer.Reset(wait)
		if h.now() == StateDown {
			select { // failures of operations that were under way must not hurry the backoff
			case <-h.kick:
			default:
			}
		}
	}
}

// probe tries to connect to a node that is down and gives the connection to the pipe.
func (c *Client) probe(ctx context.Context, n *node) bool {
	d, err := n.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			n.health.mu.Lock()
			n.health.lastErr, n.health.lastFail = err, time.Now()
			n.health.mu.Unlock()
		}
		return false
	}
	c.meetProbed(n, d)
	return true
}

// ping asks a suspect for a sign of life on the shared connection.
func (c *Client) ping(ctx context.Context, n *node) error {
	return c.pingWithin(ctx, n, c.probeTime(n))
}

func (c *Client) pingWithin(ctx context.Context, n *node, wait time.Duration) error {
	_, err := c.ask(ctx, n, wait, 1, appendCommand(nil, "PING"))
	var re replyError
	if errors.As(err, &re) || errors.Is(err, errBusy) {
		return nil // even an error is a sign of life, and so are answers to others
	}
	return err
}

// silence is how long nothing at all may come back from a node before it is suspected: an operation's patience, but
// however little time operations have, not so little that a busy machine makes all nodes suspects at once.
func (c *Client) silence(v *view) time.Duration {
	return max(c.patience(c.conf.deadline, len(v.nodes), v.copies), minSilence)
}

// suspicion is how long a suspect may take for its sign of life. Together with the silence before it, this is well
// within an operation's deadline: one that waits for an owner goes on when that is down.
func (c *Client) suspicion() time.Duration {
	v := c.view.Load()
	silence := c.silence(v)
	if v.copies < 2 {
		return silence
	}
	return 2 * silence
}

func (c *Client) probeTime(n *node) time.Duration {
	if n.cfg.ReadTimeout > 0 {
		return min(n.cfg.ReadTimeout, c.conf.deadline)
	}
	return c.conf.deadline
}

// ask sends commands to one node outside any operation and waits for the replies. Of the wait counts what this process
// did not stand still.
func (c *Client) ask(ctx context.Context, n *node, wait time.Duration, want int, buf []byte) ([]reply, error) {
	r, _, err := c.askTwice(ctx, n, wait, want, buf)
	return r, err
}

// askTwice is ask that tells whether the commands were sent a second time because their connection broke.
func (c *Client) askTwice(ctx context.Context, n *node, wait time.Duration, want int, buf []byte) (r []reply, twice bool, err error) {
	return c.askBy(ctx, n, false, wait, want, buf)
}

// askBy is askTwice that says by which connection.
func (c *Client) askBy(ctx context.Context, n *node, large bool, wait time.Duration, want int, buf []byte) (r []reply, twice bool, err error) {
	begun := time.Now()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	again := 0 // times that it was waited longer for this process's sake
	for try := 0; ; try++ {
		o := newOp()
		k := &call{op: o, node: n, want: want}
		sendBy(n.lane(large), k, buf)
		for waiting := true; waiting; {
			over := false
			select {
			case <-o.wake:
				waiting = false
			case <-ctx.Done():
				over = true
			case <-timer.C:
				now := time.Now()
				left := wait - now.Sub(c.pulse.since(begun, now))
				again++
				over = left <= 0 || again > maxLonger
				timer.Reset(max(left, time.Millisecond))
			}
			switch {
			case !over:
			case k.conn == nil:
				return nil, try > 0, ErrTimeout
			case !k.conn.silentSince(k.sentAt):
				return nil, try > 0, errBusy
			default:
				switch silence := c.silence(c.view.Load()); {
				case time.Since(k.sentAt) < silence: // says nothing of the connection
				case k.conn.pipe.spare:
					n.dropSilentBulk(silence)
				default:
					k.conn.pipe.drop(ErrTimeout)
				}
				return nil, try > 0, ErrTimeout
			}
		}
		switch {
		case k.err == nil:
			for _, r := range k.replies {
				if r.err != nil {
					return k.replies, try > 0, r.err
				}
			}
			return k.replies, try > 0, nil
		case judge(k.err) == verdictRetry && try == 0:
		default:
			return nil, try > 0, k.err
		}
	}
}

// process is the run_id of the server process last met.
func (h *health) process() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runID
}

// isProcess reports whether a mark is that of the process last met, as far as can be told.
func (h *health) isProcess(runID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hidden || h.runID == runID
}

// owe notes how many ids wait for this node on another; true where some do.
func (h *health) owe(holder string, count int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if count == 0 {
		delete(h.debts, holder)
		return false
	}
	if h.debts == nil {
		h.debts = map[string]int64{}
	}
	h.debts[holder] = count
	return true
}

// debt is how many sessions wait for this node, as last counted.
func (h *health) debt() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	total := int64(0)
	for _, n := range h.debts {
		total += n
	}
	return total
}

func (h *health) ringsHeard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rings
}

func (h *health) hears(rings []string) {
	h.mu.Lock()
	h.rings = rings
	h.mu.Unlock()
}

func (h *health) wantsPass() {
	h.mu.Lock()
	h.pass = true
	h.mu.Unlock()
}

func (h *health) passWanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pass
}

// missing is how many writes the node missed that no other node names.
func (h *health) missing() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unnamed
}

// passDone notes that a full pass ended before which so many were missing.
func (h *health) passDone(ok bool, missing int) {
	if !ok {
		return
	}
	h.mu.Lock()
	h.pass, h.unnamed = false, h.unnamed-missing
	h.mu.Unlock()
}

func (h *health) report(change func(*Progress)) {
	h.mu.Lock()
	change(&h.progress)
	h.mu.Unlock()
}
