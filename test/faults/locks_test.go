package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// lockCall is one call of Lock or Unlock, as porcupine's input.
type lockCall struct {
	unlock bool
	holder int // who calls, unique for every attempt
	// unsure: nobody knows whether it took effect.
	unsure bool
}

// lockModel is one lock: held by at most one holder, and released by that one alone. Its state is the holder, 0 for
// nobody.
var lockModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		held, c := state.(int), input.(lockCall)
		switch {
		case !c.unlock:
			return held == 0, c.holder
		case held == c.holder:
			return true, 0
		}
		return c.unsure, held
	},
	DescribeOperation: func(input, _ any) string {
		c := input.(lockCall)
		if c.unlock {
			return fmt.Sprintf("%d releases", c.holder)
		}
		return fmt.Sprintf("%d takes", c.holder)
	},
}

// checkLock judges the history of one lock. A history that cannot be judged in time counts as a wrong one.
func checkLock(history []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(lockModel, history, 30*time.Second)
}

func TestLockCheckerFindsTwoHolders(t *testing.T) {
	take := func(holder int, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: holder, Input: lockCall{holder: holder}, Call: call, Return: ret}
	}
	release := func(holder int, unsure bool, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: holder, Input: lockCall{unlock: true, holder: holder, unsure: unsure}, Call: call, Return: ret}
	}
	right := [][]porcupine.Operation{
		{take(1, 0, 1), release(1, false, 2, 3), take(2, 1, 5), release(2, false, 6, 7)},
		{take(1, 0, 1), release(1, false, 2, 9), take(2, 3, 4), release(2, false, 5, 6)},
		{take(1, 0, 1), release(1, true, 2, math.MaxInt64), take(2, 5, 6), release(2, false, 7, 8)},
	}
	wrong := [][]porcupine.Operation{
		{take(1, 0, 1), take(2, 2, 3), release(1, false, 4, 5), release(2, false, 6, 7)},
		{take(1, 0, 1), release(1, false, 4, 5), take(2, 2, 3), release(2, false, 6, 7)},
		{take(1, 0, 1), release(2, false, 2, 3)},
		{take(1, 0, 1), release(1, false, 2, 3), release(1, false, 4, 5)},
		{take(1, 0, 1), take(2, 2, 3), release(1, true, 4, math.MaxInt64)},
	}
	for i, h := range right {
		if got := checkLock(h); got != porcupine.Ok {
			t.Errorf("right history %d: %v", i, got)
		}
	}
	for i, h := range wrong {
		if got := checkLock(h); got != porcupine.Illegal {
			t.Errorf("wrong history %d: %v", i, got)
		}
	}
}

// lockLab is locks that several clients fight for.
type lockLab struct {
	t       *testing.T
	clients []*sessionring.Client
	ids     []string

	mu      sync.Mutex
	history map[string][]porcupine.Operation
	holds   map[string]int // how many hold it, by their own belief
	twice   int
	held    int // times that a lock was held
	lost    int
	refused int            // attempts that ended without the lock
	stored  map[string]int // acknowledged steps of the counter under the lock
	errs    map[string]int
}

// TestLocks fights for locks while nodes are killed and hung. Each lock's history must be that of a lock, and counters
// that are loaded, raised and stored under it must not miss a step.
func TestLocks(t *testing.T) {
	redistest.FindOrSkip(t)
	t.Parallel()
	b := newBench(t, 3)
	l := &lockLab{t: t, history: map[string][]porcupine.Operation{}, holds: map[string]int{}, stored: map[string]int{}, errs: map[string]int{}}
	for range 3 {
		l.clients = append(l.clients, b.open(nil, sessionring.WithLockWait(20*time.Second), sessionring.WithLockExpire(20*time.Second)))
	}
	for i := range 6 { // so that every node is first and second owner of some
		l.ids = append(l.ids, b.idOn(l.clients[0], i%3, (i%3+1+i/3)%3))
	}
	for _, id := range l.ids {
		b.set(l.clients[0], id, string(count(0)))
	}
	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	for i := range 12 {
		workers.Go(func() { l.work(ctx, i) })
	}
	steps := []struct {
		name string
		do   func(n *redistest.Server)
	}{
		{"kill", func(n *redistest.Server) {
			b.must(n.Kill())
			time.Sleep(time.Second)
			b.must(n.Restart(context.Background()))
		}},
		{"kill, back empty", func(n *redistest.Server) {
			b.must(n.Kill())
			time.Sleep(700 * time.Millisecond)
			b.must(n.RestartEmpty(context.Background()))
		}},
		{"hang", func(n *redistest.Server) {
			b.must(n.Pause())
			time.Sleep(2500 * time.Millisecond)
			b.must(n.Resume())
		}},
	}
	for i, s := range steps {
		time.Sleep(700 * time.Millisecond)
		before := l.taken()
		s.do(b.nodes[i])
		b.settled(l.clients...)
		t.Logf("%s of node %d: locks were held %d times meanwhile", s.name, i, l.taken()-before)
	}
	time.Sleep(time.Second)
	stop()
	workers.Wait()
	l.judge(b)
}

func (l *lockLab) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

func (l *lockLab) judge(b *bench) {
	t := l.t
	t.Logf("held %d times, refused %d, lost %d, errors %v", l.held, l.refused, l.lost, l.errs)
	if l.held < 100 {
		t.Errorf("locks were held only %d times", l.held)
	}
	if l.twice > 0 {
		t.Errorf("%d times two held one lock, by their own belief", l.twice)
	}
	if l.lost > 0 {
		t.Errorf("%d locks were lost while one of the owners lived", l.lost)
	}
	for _, id := range l.ids {
		if got := checkLock(l.history[id]); got != porcupine.Ok {
			t.Errorf("a lock with %d calls: %v", len(l.history[id]), got)
		}
		data, err := l.clients[0].Get(context.Background(), id)
		b.must(err)
		if got := int(binary.BigEndian.Uint64(data)); got < l.stored[id] {
			t.Errorf("the counter under a lock says %d, %d steps were acknowledged", got, l.stored[id])
		}
	}
}

func count(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// work takes locks, raises the counter, and lets go.
func (l *lockLab) work(ctx context.Context, worker int) {
	rnd := rand.New(rand.NewPCG(1, uint64(worker)))
	c := l.clients[worker%len(l.clients)]
	for attempt := 1; ctx.Err() == nil; attempt++ {
		id := l.ids[rnd.IntN(len(l.ids))]
		holder := worker + attempt*1000 + 1
		o := porcupine.Operation{ClientId: holder, Input: lockCall{holder: holder}, Call: now()}
		lock, err := c.Lock(context.Background(), id)
		o.Return = now()
		if err != nil { // never held: whatever it left behind holds others up, but nobody believes to have the lock
			l.mu.Lock()
			l.refused++
			l.errs[err.Error()]++
			l.mu.Unlock()
			continue
		}
		l.mu.Lock()
		l.held++
		if l.holds[id]++; l.holds[id] > 1 {
			l.twice++
		}
		l.mu.Unlock()
		stored := l.raise(c, id, lock)
		time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond)

		u := porcupine.Operation{ClientId: holder, Call: now()}
		l.mu.Lock()
		l.holds[id]--
		l.mu.Unlock()
		in := lockCall{unlock: true, holder: holder}
		err = lock.Unlock(context.Background())
		u.Return = now()
		l.mu.Lock()
		if stored {
			l.stored[id]++
		}
		switch {
		case errors.Is(err, sessionring.ErrLockLost):
			l.lost++
			in.unsure = true
		case err != nil: // it ends by itself, when nobody knows
			in.unsure = true
			u.Return = math.MaxInt64
			l.errs["unlock: "+err.Error()]++
		}
		u.Input = in
		l.history[id] = append(l.history[id], o, u)
		l.mu.Unlock()
		time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
	}
}

// raise adds one to the counter under the lock; false when that failed, so that nobody knows.
func (l *lockLab) raise(c *sessionring.Client, id string, lock *sessionring.Lock) bool {
	ctx := context.Background()
	data, err := c.Get(ctx, id)
	if err == nil {
		n := binary.BigEndian.Uint64(data)
		_, err = c.Store(ctx, id, count(n+1), sessionring.SetOptions{Lock: lock})
	}
	if err != nil {
		l.mu.Lock()
		l.errs["under the lock: "+err.Error()]++
		l.mu.Unlock()
	}
	return err == nil
}
