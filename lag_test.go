package sessionring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// A process whose goroutines wait long for their turns lets in fewer operations; one that does not, all.
func TestLag(t *testing.T) {
	const budget = time.Second
	const part = budget / lagTurns
	now := time.Now()
	var l lag
	l.active.Store(8 * shedFrom)
	turn := func(took, during time.Duration) { // for so long, turns take that
		for end := now.Add(during); now.Before(end); now = now.Add(lagLook / 50) {
			l.saw(now.Add(-took).UnixNano(), now, budget)
		}
	}
	is := func(when string, read, write bool) {
		t.Helper()
		if got := l.refuses(now, false); got != read {
			t.Errorf("%s: a read is refused: %v", when, got)
		}
		if got := l.refuses(now, true); got != write {
			t.Errorf("%s: a write is refused: %v", when, got)
		}
	}
	turn(part/2, time.Second)
	is("turns are short", false, false)
	turn(3*part, budget/lagTries/2)
	is("long for a moment", false, false)
	turn(part/2, time.Second)
	turn(3*part/2, budget/lagTries+2*lagLook)
	is("half too long for a while", true, false)
	turn(20*part, time.Second)
	is("far too long", true, true)
	l.active.Store(shedFrom - 1)
	is("but few are under way", false, false)
	l.active.Store(8 * shedFrom)
	turn(part/2, 100*lagLook)
	is("short again", false, false)
	turn(20*part, time.Second)
	now = now.Add(2 * time.Second)
	is("nobody has waited for anything since", false, false)
}

// What is no turn of this process says nothing: an answer that never came, callers without any time left.
func TestLagOfOthers(t *testing.T) {
	now := time.Now()
	var l lag
	l.active.Store(8 * shedFrom)
	for range 100_000 { // half of them 50 ms, or less than nothing, of two seconds
		now = now.Add(200 * time.Microsecond)
		l.saw(now.Add(-time.Millisecond).UnixNano(), now, 2*time.Second)
		l.saw(now.Add(-time.Millisecond).UnixNano(), now, 50*time.Millisecond)
		l.saw(now.Add(-time.Millisecond).UnixNano(), now, -time.Millisecond)
		if l.refuses(now, false) {
			t.Fatal("turns of a millisecond, and yet an operation is refused")
		}
	}
	l.saw(0, now, time.Second)
	if mean := time.Duration(l.mean.Load()); mean > time.Second {
		t.Errorf("after an answer from nowhere a turn takes %v", mean)
	}

	// Nobody listens: the calls end, but no answer came.
	c := openTest(t, "tcp://127.0.0.1:1", WithDeadline(time.Second))
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() { _, _ = c.Get(context.Background(), newID()) })
	}
	wg.Wait()
	if mean := time.Duration(c.lag.mean.Load()); mean > time.Second {
		t.Errorf("turns take %v, says the client", mean)
	}
}

// A process that does not get round to its operations refuses more of them by one typed error, and sends nothing.
func TestBehindIsRefused(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	ctx := ctxOf(t)
	var mu sync.Mutex
	told := 0
	c := f.up(f.path(), WithHooks(Hooks{Operation: func(o Operation) {
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(o.Err, ErrOverloaded) {
			told++
		}
	}}))
	id := newID()
	must(t, c.Set(ctx, id, []byte("v")))
	c.lag.active.Add(10 * shedFrom)
	c.lag.limit.Store(shedFrom)
	c.lag.next.Store(time.Now().Add(time.Hour).UnixNano())
	monitors := f.monitored()
	ops := map[string]func() error{
		"get":    func() error { _, err := c.Get(ctx, id); return err },
		"set":    func() error { return c.Set(ctx, id, []byte("w")) },
		"touch":  func() error { return c.Touch(ctx, id) },
		"delete": func() error { return c.Delete(ctx, id) },
	}
	for name, op := range ops {
		err := op()
		var none *NoNodeError
		if !errors.Is(err, ErrOverloaded) || !errors.Is(err, ErrNoNode) || !errors.As(err, &none) || none.Op != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.checkSent(monitors, id, "an operation that is refused", nil, nil)
	if told != len(ops) {
		t.Errorf("the hook was told of %d refusals, not %d", told, len(ops))
	}
	c.lag.active.Add(-10 * shedFrom)
	if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	if n := c.lag.active.Load(); n != 0 {
		t.Errorf("%d operations are under way, says the client, but none is", n)
	}
}

// Where to let others go first takes too long, writes are put off for a moment, for others to add to. None is forgotten,
// none gets another's answer, and the count of what is under way comes back to none.
func TestPostponedWrites(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	c := f.up(f.path("copies=2"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rounds := 40
	if ringUnderRace {
		rounds = 10
	}
	postponed := func() (n int) {
		for _, nd := range c.view.Load().nodes {
			cn := nd.pipe.(*pipe).conn.Load()
			cn.mu.Lock()
			if cn.later != nil {
				n++
			}
			cn.mu.Unlock()
		}
		return n
	}
	var wg sync.WaitGroup
	for g := range 400 {
		wg.Go(func() {
			id := newID()
			for i := range rounds {
				c.turns.until.Store(time.Now().Add(time.Hour).UnixNano())
				want := fmt.Sprint(g, " ", i)
				if err := c.Set(ctx, id, []byte(want)); err != nil {
					t.Errorf("set: %v", err)
					return
				}
				if got, err := c.Get(ctx, id); err != nil || string(got) != want {
					t.Errorf("%q instead of %q, %v", got, want, err)
					return
				}
			}
			if err := c.Delete(ctx, id); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
	}
	wg.Wait()
	if postponed() == 0 {
		t.Error("no write was postponed")
	}
	// The last one under way goes at once, whatever was put off before.
	id := newID()
	must(t, c.Set(ctx, id, []byte("alone")))
	if got, err := c.Get(ctx, id); err != nil || string(got) != "alone" {
		t.Errorf("%q, %v", got, err)
	}
	if n := c.lag.active.Load(); n != 0 {
		t.Errorf("%d operations are under way, says the client, but none is", n)
	}
}
