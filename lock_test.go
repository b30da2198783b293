package sessionring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func lockKey(id string) string { return DefaultPrefix + id + "_LOCK" }

// isHeld makes sure that c does not get the lock now.
func isHeld(t testing.TB, c *Client, id string) {
	t.Helper()
	short, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	if _, err := c.Lock(short, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
}

func TestLockOnTheWire(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for params, owners := range map[string]int{"copies=2": 2, "copies=1": 1, "distribution=phpredis": 1} {
		t.Run(params, func(t *testing.T) {
			c := f.up(f.path(params, "lock_expire=40"))
			id := newID()
			l, err := c.Lock(ctx, id)
			must(t, err)
			// phpredis's key on every owner and nowhere else; the value names host and process, and this holder alone.
			held := 0
			for i, s := range f.servers {
				v, _ := do(t, s, "GET", lockKey(id)).(string)
				if v == "" {
					continue
				}
				held++
				host, _ := os.Hostname()
				if !strings.HasPrefix(v, host+"|"+strconv.Itoa(os.Getpid())+"|") || len(v) < len(host)+20 {
					t.Errorf("node %d: the lock's value is %q", i, v)
				}
				about(t, "the lock", pttl(t, s, lockKey(id)), 40*time.Second)
			}
			if held != owners || held != len(c.Ring().Owners(id)) {
				t.Errorf("the lock is on %d nodes, not %d", held, owners)
			}
			must(t, l.Unlock(ctx))
			for i, s := range f.servers {
				if n := do(t, s, "EXISTS", lockKey(id)); n != int64(0) {
					t.Errorf("node %d: the lock is still there", i)
				}
			}
			must(t, l.Unlock(ctx)) // twice does nothing
			l2, err := c.Lock(ctx, id)
			must(t, err)
			defer l2.Unlock(ctx)
			if err := l.Unlock(ctx); err != nil {
				t.Error(err)
			}
			if n := do(t, f.servers[c.Ring().Owner(id)], "EXISTS", lockKey(id)); n != int64(1) {
				t.Error("a late Unlock released somebody else's lock")
			}
		})
	}
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	a, b := f.up(f.path(), WithLockWait(patient)), f.up(f.path(), WithLockWait(patient))
	brief := f.up(f.path(), WithLockWait(50*time.Millisecond))
	id := newID()
	l, err := a.Lock(ctx, id)
	must(t, err)
	if _, err := brief.Lock(ctx, id); !errors.Is(err, ErrLockHeld) {
		t.Errorf("lock_wait is over: %v", err)
	}
	for name, c := range map[string]*Client{"same client": a, "another client": b} {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if _, err := c.Lock(short, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, its context's deadline: %v", name, err)
		}
		cancel()
		gone, cancel := context.WithCancel(ctx)
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := c.Lock(gone, id); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, its context cancelled: %v", name, err)
		}
	}
	other, err := brief.Lock(ctx, newID()) // of another session
	must(t, err)
	must(t, other.Unlock(ctx))
	must(t, l.Unlock(ctx))
	for _, c := range []*Client{b, a} {
		l, err := c.Lock(ctx, id)
		must(t, err)
		must(t, l.Unlock(ctx))
	}
}

// The lock outlives its expiry while it is held, however long that is, and Unlock works then.
func TestLockIsRenewed(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	c := f.up(f.path(), WithLockExpire(3*time.Second))
	id := newID()
	l, err := c.Lock(ctx, id)
	must(t, err)
	value := do(t, f.servers[0], "GET", lockKey(id))
	end := time.Now().Add(4 * time.Second)
	for time.Now().Before(end) {
		select {
		case <-l.Lost():
			t.Fatal("the lock was lost")
		case <-time.After(50 * time.Millisecond):
		}
	}
	if v := do(t, f.servers[0], "GET", lockKey(id)); v != value {
		t.Errorf("the lock's value was %v and is %v", value, v)
	}
	_, err = c.Store(ctx, id, []byte("v"), SetOptions{Lock: l})
	must(t, err)
	must(t, l.Unlock(ctx))
}

// A lock that expired, or that somebody took over, is told as lost, and nothing is written under it.
func TestLostLockWritesNothing(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for _, params := range []string{"copies=2", "distribution=phpredis"} {
		for _, how := range []string{"expired", "taken over"} {
			t.Run(params+" "+how, func(t *testing.T) {
				c := f.up(f.path(params), WithLockExpire(1500*time.Millisecond))
				id := newID()
				must(t, c.Set(ctx, id, []byte("before")))
				l, err := c.Lock(ctx, id)
				must(t, err)
				_, err = c.Store(ctx, id, []byte("mine"), SetOptions{Lock: l})
				must(t, err)
				for _, o := range c.Ring().Owners(id) {
					if how == "expired" {
						do(t, f.servers[o], "DEL", lockKey(id))
					} else {
						do(t, f.servers[o], "SET", lockKey(id), "other|1")
					}
				}
				if _, err := c.Store(ctx, id, []byte("late"), SetOptions{Lock: l}); !errors.Is(err, ErrLockLost) {
					t.Errorf("Store: %v", err)
				}
				it, err := c.Load(ctx, id, GetOptions{})
				must(t, err)
				if string(it.Data) != "mine" {
					t.Errorf("the session holds %q", it.Data)
				}
				if _, err := c.Store(ctx, id, []byte("late"), SetOptions{Lock: l, IfVersion: &it.Version}); !errors.Is(err, ErrLockLost) {
					t.Errorf("Store by version: %v", err)
				}
				select {
				case <-l.Lost():
				case <-time.After(patient):
					t.Error("Lost says nothing")
				}
				if err := l.Unlock(ctx); !errors.Is(err, ErrLockLost) {
					t.Errorf("Unlock: %v", err)
				}
				if how == "taken over" {
					if v := do(t, f.servers[c.Ring().Owner(id)], "GET", lockKey(id)); v != "other|1" {
						t.Errorf("the other's lock is now %v", v)
					}
				}
			})
		}
	}
}

// A process that dies with a lock holds nobody up for longer than the lock's expiry.
func TestLockOfDeadProcess(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	id := newID()
	c := f.up(f.path("copies=1"), WithLockWait(patient))
	addr := f.servers[c.Ring().Owner(id)].Addr()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcessHoldsLock$")
	cmd.Env = append(os.Environ(), "SESSIONRING_TEST_LOCK=tcp://"+addr+" "+id)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buf := make([]byte, 64)
	n, _ := out.Read(buf)
	if !strings.Contains(string(buf[:n]), "locked") {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the helper said %q", buf[:n])
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	if _, err := c.Lock(short, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it lives: %v", err)
	}
	cancel()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	l, err := c.Lock(ctx, id)
	must(t, err)
	must(t, l.Unlock(ctx))
}

// TestHelperProcessHoldsLock is no test: it is the process that TestLockOfDeadProcess kills.
func TestHelperProcessHoldsLock(t *testing.T) {
	path, id, ok := strings.Cut(os.Getenv("SESSIONRING_TEST_LOCK"), " ")
	if !ok {
		t.Skip("no test: TestLockOfDeadProcess starts it as a process of its own")
	}
	c, err := Open(path, WithLockExpire(700*time.Millisecond))
	must(t, err)
	_, err = c.Lock(context.Background(), id)
	must(t, err)
	fmt.Println("locked")
	time.Sleep(time.Minute)
}

// Fifty requests at once read a counter, wait, and add one. With the lock none is lost.
func TestLockedCounter(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for _, params := range []string{"copies=2", "distribution=phpredis"} {
		t.Run(params, func(t *testing.T) {
			clients := []*Client{f.up(f.path(params), WithLockWait(patient)), f.up(f.path(params), WithLockWait(patient))}
			id := newID()
			const requests = 50
			var mu sync.Mutex
			saw := map[int]bool{}
			var inside atomic.Int64
			var wg sync.WaitGroup
			for r := range requests {
				wg.Go(func() {
					c := clients[r%2]
					l, err := c.Lock(ctx, id)
					if err != nil {
						t.Error(err)
						return
					}
					if inside.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					n := 0
					if got, err := c.Get(ctx, id); err == nil {
						n, _ = strconv.Atoi(string(got))
					} else if !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
					time.Sleep(2 * time.Millisecond)
					if _, err := c.Store(ctx, id, []byte(strconv.Itoa(n+1)), SetOptions{Lock: l}); err != nil {
						t.Error(err)
					}
					mu.Lock()
					if saw[n] {
						t.Errorf("two requests saw %d", n)
					}
					saw[n] = true
					mu.Unlock()
					inside.Add(-1)
					if err := l.Unlock(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got, err := clients[0].Get(ctx, id); err != nil || string(got) != strconv.Itoa(requests) {
				t.Errorf("the counter is %q, %v", got, err)
			}
		})
	}
}

// A hundred requests of one process that wait for one lock ask Redis no more often than one does.
func TestManyWaitersAskLittle(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	ctx := ctxOf(t)
	holder, c := f.up(f.path()), f.up(f.path(), WithLockWait(patient))
	id := newID()
	l, err := holder.Lock(ctx, id)
	must(t, err)
	m := f.monitored()[0]
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			l, err := c.Lock(ctx, id)
			if err != nil {
				t.Error(err)
				return
			}
			if err := l.Unlock(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	start := time.Now()
	time.Sleep(time.Second)
	asked := len(sent(t, m, id))
	took := time.Since(start)
	// One waiter that asks every 20 ms on average is 50 a second. A hundred of them would be 5,000.
	if limit := int(took.Seconds()*200) + 1; asked > limit || asked == 0 {
		t.Errorf("100 waiters sent %d commands in %v", asked, took)
	}
	t.Logf("100 waiters: %d commands in %v", asked, took)
	must(t, l.Unlock(ctx))
	wg.Wait()
}

// With an owner down the lock is taken on those that live, and on a stand-in where none does.
func TestLockWithNodesAway(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2"), WithLockWait(patient)), f.up(f.path("copies=2"), WithLockWait(patient))
	id := idOn(a, 0, 1)
	for _, down := range []int{0, 1} {
		must(t, f.servers[down].Kill())
		l, err := a.Lock(ctx, id)
		if err != nil {
			t.Fatalf("node %d down: %v", down, err)
		}
		isHeld(t, b, id)
		_, err = a.Store(ctx, id, []byte("v"), SetOptions{Lock: l})
		must(t, err)
		must(t, l.Unlock(ctx))
		l, err = b.Lock(ctx, id)
		must(t, err)
		must(t, l.Unlock(ctx))
	}
	must(t, f.servers[2].Kill())
	if _, err := a.Lock(ctx, id); !errors.Is(err, ErrNoNode) {
		t.Errorf("all nodes down: %v", err)
	}
}

// The node that the lock is on dies while it is held; the session stays writable for its holder, and for nobody else.
func TestLockSurvivesOwner(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	a, b := f.up(f.path("copies=2")), f.up(f.path("copies=2"), WithLockWait(patient))
	id := idOn(a, 0, 1)
	l, err := a.Lock(ctx, id)
	must(t, err)
	must(t, f.servers[0].Kill())
	isHeld(t, b, id)
	_, err = a.Store(ctx, id, []byte("v"), SetOptions{Lock: l})
	must(t, err)
	if got, err := b.Get(ctx, id); err != nil || string(got) != "v" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, l.Unlock(ctx))
	l, err = b.Lock(ctx, id)
	must(t, err)
	must(t, l.Unlock(ctx))
}
