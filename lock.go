package sessionring

import (
	"context"
	"crypto/rand"
	"errors"
	mrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	lockPoll     = 20 * time.Millisecond // between tries of the one waiter that asks Redis for its process
	lockFairness = 8                     // grants within one process, then others get a chance
)

// Lock is a held session lock: the key that phpredis uses (key_LOCK), on every live owner, with an expiry
// that is renewed while it is held.
//
// What it guarantees: while at least one of the owners it was taken on lives on and is reachable, nobody else
// gets the lock before Unlock or its expiry. A write with SetOptions.Lock is refused by every owner where the
// lock is no longer this one's. What it cannot: when all owners that held it are lost at once, or clients are
// cut off from different owners, two holders are possible for a time; the fencing of writes is what protects
// the session then.
type Lock struct {
	c     *Client
	id    string
	token string
	nodes []*node
	maybe []*node // gave no answer: may have taken it all the same

	lost   chan struct{}
	cancel context.CancelFunc
	done   chan struct{} // the renewing goroutine ended
	once   sync.Once
}

// lockQueue lets the waiters of one process for one id stand in line, so that only the first asks Redis.
type lockQueue struct {
	turn   chan struct{} // holds one token
	users  int           // in line or holding; under Client.locks.mu
	grants int           // since the queue was last empty or gave way
}

type lockQueues struct {
	mu sync.Mutex
	m  map[string]*lockQueue
}

func (q *lockQueues) enter(id string) *lockQueue {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.m == nil {
		q.m = map[string]*lockQueue{}
	}
	l := q.m[id]
	if l == nil {
		l = &lockQueue{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		q.m[id] = l
	}
	l.users++
	return l
}

func (q *lockQueues) leave(id string, l *lockQueue, hadTurn bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if hadTurn {
		l.turn <- struct{}{}
	}
	if l.users--; l.users == 0 {
		delete(q.m, id)
	}
}

// Lock takes the session's lock and waits for it while somebody else has it, until ctx ends or the configured
// wait (lock_wait) is over: ErrLockHeld. The lock is renewed until Unlock, the context has no part in that.
// Go and PHP exclude each other where they share the layout (distribution=phpredis).
func (c *Client) Lock(ctx context.Context, id string) (*Lock, error) {
	if err := c.check(ctx, id); err != nil {
		return nil, err
	}
	start := time.Now()
	wait, cancel := context.WithTimeout(ctx, c.conf.lockWait)
	defer cancel()
	l, err := c.lock(wait, id)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrNoNode) {
		err = ErrLockHeld // the wait's own end; ErrNoNode may hold timeouts of connecting
	}
	if c.conf.hooks.Operation != nil {
		c.conf.hooks.Operation(Operation{Name: "lock", Err: err, Duration: time.Since(start)})
	}
	return l, err
}

func (c *Client) lock(ctx context.Context, id string) (*Lock, error) {
	q := c.locks.enter(id)
	select {
	case <-q.turn:
	case <-c.ctx.Done():
		c.locks.leave(id, q, false)
		return nil, ErrClosed
	case <-ctx.Done():
		c.locks.leave(id, q, false)
		return nil, ctx.Err()
	}
	if q.grants++; q.grants > lockFairness {
		q.grants = 0
		if err := c.pause(ctx, 2*lockPoll); err != nil { // waiters of other processes poll meanwhile
			c.locks.leave(id, q, true)
			return nil, err
		}
	}
	l := &Lock{c: c, id: id, lost: make(chan struct{}), done: make(chan struct{})}
	for {
		l.token = lockToken() // for each try its own: what an earlier one left behind may still be taken back
		ok, err := c.tryLock(ctx, l)
		if err == nil && ok {
			break
		}
		if err == nil {
			err = c.pause(ctx, lockPoll/2+mrand.N(lockPoll))
		}
		if err != nil {
			l.releaseMaybe()
			c.locks.leave(id, q, true)
			return nil, err
		}
	}
	renew, cancel := context.WithCancel(c.ctx)
	l.cancel = func() {
		cancel()
		c.locks.leave(id, q, true)
	}
	c.wg.Add(1)
	go l.renew(renew)
	return l, nil
}

func (c *Client) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lockToken names the holder as PHP does, host|pid, with what makes it unique behind it: PHP's own is the
// same for every request of a process.
func lockToken() string {
	host, _ := os.Hostname()
	return host + "|" + strconv.Itoa(os.Getpid()) + "|" + rand.Text()
}

// tryLock takes the lock on each live owner in ring order, or on none. A node that cannot be asked is passed
// over; when all are, the next of the preference list stand in.
func (c *Client) tryLock(ctx context.Context, l *Lock) (bool, error) {
	v := c.view.Load()
	want := v.copies
	l.nodes = l.nodes[:0]
	noNode := &NoNodeError{Op: "lock"}
	start := time.Now()
	order := v.ring.Preference(nil, l.id)
	seen := map[*node]bool{}
	for pos, i := range order {
		n := v.nodes[i]
		if pos >= want && len(l.nodes) > 0 {
			break
		}
		if seen[n] {
			continue
		}
		seen[n] = true
		if n.health.now() == StateDown {
			noNode.Nodes = append(noNode.Nodes, n.failure("lock", n.health.cause()))
			continue
		}
		epoch := n.health.epoch.Load()
		taken, err := c.takeLock(ctx, n, l)
		switch {
		case ctx.Err() != nil:
			// It may have been taken after all.
			l.nodes = append(l.nodes, n)
			l.release()
			return false, ctx.Err()
		case err != nil && judge(err) != verdictFine:
			l.maybe = append(l.maybe, n)
			ne := n.failure("lock", err)
			n.health.failed(epoch, ne)
			noNode.Nodes = append(noNode.Nodes, ne)
			continue
		case err != nil:
			l.release()
			return false, n.err("lock", err)
		case !taken:
			l.release()
			return false, nil
		}
		l.nodes = append(l.nodes, n)
	}
	if len(l.nodes) == 0 {
		noNode.Elapsed = time.Since(start)
		return false, noNode
	}
	return true, nil
}

// takeLock takes the lock on one node. Where the connection broke and the command was sent again, the first one may
// have been carried out: a lock that is held then may be this one.
func (c *Client) takeLock(ctx context.Context, n *node, l *Lock) (bool, error) {
	key := n.lockKey(l.id)
	set := appendCommand(nil, "SET", key, l.token, "NX", "PX", formatMillis(c.conf.lockExpire))
	r, twice, err := c.askTwice(ctx, n, c.probeTime(n), 1, set)
	if err == nil && r[0].null && twice {
		if r, err = c.ask(ctx, n, c.probeTime(n), 1, appendCommand(nil, "GET", key)); err == nil {
			return string(r[0].b) == l.token, nil
		}
	}
	return err == nil && !r[0].null, err
}

// release takes the lock back wherever it was taken, without waiting on a cancelled context.
func (l *Lock) release() {
	for _, n := range l.nodes {
		_, _ = l.c.run(l.c.ctx, n, releaseScript, "1", n.lockKey(l.id), l.token)
	}
	l.nodes = l.nodes[:0]
	l.releaseMaybe()
}

// releaseMaybe takes the lock back from nodes that gave no answer: one that hung takes it when it wakes, and
// would keep the session locked until the expiry. It is tried until then, by a goroutine of the Client's.
func (l *Lock) releaseMaybe() {
	if len(l.maybe) == 0 {
		return
	}
	c, nodes, token := l.c, l.maybe, l.token
	l.maybe = nil
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		for until := time.Now().Add(c.conf.lockExpire); len(nodes) > 0 && time.Now().Before(until); {
			if c.pause(context.Background(), time.Second) != nil {
				return
			}
			nodes = slices.DeleteFunc(nodes, func(n *node) bool {
				if n.health.now() == StateDown {
					return false
				}
				_, err := c.run(c.ctx, n, releaseScript, "1", n.lockKey(l.id), token)
				return err == nil
			})
		}
	}()
}

// renew prolongs the lock until Unlock. It is lost when no owner has it any more.
func (l *Lock) renew(ctx context.Context) {
	defer l.c.wg.Done()
	defer close(l.done)
	expire := l.c.conf.lockExpire
	tick := time.NewTicker(max(expire/3, time.Millisecond))
	defer tick.Stop()
	sure := time.Now().Add(expire) // nobody else can have it before
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked, ours := 0, 0
		begun := time.Now()
		for _, n := range l.nodes {
			r, err := l.c.run(ctx, n, renewScript, "1", n.lockKey(l.id), l.token, formatMillis(expire))
			if err == nil && len(r) == 1 {
				asked++
				ours += int(r[0].n)
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case ours > 0:
			sure = begun.Add(expire)
		case asked == len(l.nodes), time.Now().After(sure):
			close(l.lost)
			<-ctx.Done()
			return
		}
	}
}

// Lost is closed when the lock turns out to be somebody else's, or nobody's. Writes with it are refused then.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// Unlock releases the lock if it is still this one's; ErrLockLost if it was not. It may be called twice.
func (l *Lock) Unlock(ctx context.Context) error {
	err := error(nil)
	l.once.Do(func() {
		start := time.Now()
		released, failed := int64(0), error(nil)
		for _, n := range l.nodes {
			r, e := l.c.run(context.WithoutCancel(ctx), n, releaseScript, "1", n.lockKey(l.id), l.token)
			if e != nil {
				failed = e
				l.maybe = append(l.maybe, n) // it comes back with the lock in its data
			} else if len(r) == 1 {
				released += r[0].n
			}
		}
		l.releaseMaybe()
		l.cancel()
		<-l.done
		switch {
		case released > 0:
		case failed != nil:
			err = failed // it ends by itself
		default:
			err = ErrLockLost
		}
		if l.c.conf.hooks.Operation != nil {
			l.c.conf.hooks.Operation(Operation{Name: "unlock", Err: err, Duration: time.Since(start)})
		}
	})
	return err
}

// holds reports whether the lock was taken on n.
func (l *Lock) holds(n *node) bool {
	for _, o := range l.nodes {
		if o.is(n) {
			return true
		}
	}
	return false
}
