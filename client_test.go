package sessionring

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sessionring/sessionring/internal/redistest"
)

// TestMain makes sure that no test of this package left a goroutine behind: every Client was closed, so none may.
func TestMain(m *testing.M) {
	flag.Parse()
	if _, err := redistest.FindBinary(""); err != nil && os.Getenv("SESSIONRING_REQUIRE") != "1" {
		// An example cannot skip itself as a test does.
		skip := "^Example($|Client|SetOptions|WithDistribution)"
		if s := flag.Lookup("test.skip").Value.String(); s != "" {
			skip = s + "|" + skip
		}
		_ = flag.Set("test.skip", skip)
	}
	if lanes := flag.Lookup("test.parallel"); lanes.Value.String() == lanes.DefValue {
		_ = flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0)))) // they wait more than they compute
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "after all tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestSessionLife(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	for _, tc := range []struct {
		params string
		copies int
	}{
		{"copies=1", 1}, {"copies=2", 2}, {"copies=3", 3}, {"distribution=phpredis", 1}, {"", 2},
	} {
		t.Run(tc.params, func(t *testing.T) {
			ctx := ctxOf(t)
			c := f.up(f.path(tc.params, "lifetime=600"))
			id := newID()
			if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrOwnerAway) {
				t.Fatalf("before Set: %v", err)
			}
			if err := c.Touch(ctx, id); !errors.Is(err, ErrNotFound) {
				t.Fatalf("Touch before Set: %v", err)
			}
			for _, data := range [][]byte{[]byte("n|i:1;"), {}, {0, '\r', '\n', 0xff, '$'}, bytes.Repeat([]byte("x"), 3<<20)} {
				must(t, c.Set(ctx, id, data))
				got, err := c.Get(ctx, id)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("Set %d bytes, Get %d bytes, %v", len(data), len(got), err)
				}
			}
			must(t, c.Set(ctx, id, []byte("n|i:2;")))
			must(t, c.Touch(ctx, id))

			// The value is the session's bytes, on the owners and nowhere else.
			owners := c.Ring().Owners(id)
			if len(owners) != tc.copies {
				t.Fatalf("%d owners, not %d", len(owners), tc.copies)
			}
			for i, s := range f.servers {
				v := do(t, s, "GET", DefaultPrefix+id)
				isOwner := false
				for _, o := range owners {
					isOwner = isOwner || o == i
				}
				if want := any("n|i:2;"); isOwner && v != want || !isOwner && v != nil {
					t.Errorf("node %d (owner: %v) holds %v", i, isOwner, v)
				}
				if isOwner {
					about(t, "the value", pttl(t, s, DefaultPrefix+id), 600*time.Second)
					if tc.params != "distribution=phpredis" {
						about(t, "the stamp", pttl(t, s, stampPrefix+id), 600*time.Second)
					} else if n := do(t, s, "EXISTS", stampPrefix+id); n != int64(0) {
						t.Error("PHP's layout got a stamp")
					}
				}
			}

			must(t, c.Delete(ctx, id))
			if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
				t.Fatalf("after Delete: %v", err)
			}
			if err := c.Touch(ctx, id); !errors.Is(err, ErrNotFound) {
				t.Fatalf("Touch after Delete: %v", err)
			}
			must(t, c.Delete(ctx, id))
			must(t, c.Delete(ctx, newID()))
		})
	}
}

func TestSetAfterDeleteIsRefused(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	a, b := f.up(f.path()), f.up(f.path())
	id := newID()
	must(t, a.Set(ctx, id, []byte("one")))
	it, err := a.Load(ctx, id, GetOptions{})
	must(t, err)
	must(t, b.Delete(ctx, id))
	// A request that read the session before it was destroyed ends after that.
	if err := a.Set(ctx, id, []byte("two")); !errors.Is(err, ErrDestroyed) {
		t.Errorf("Set: %v", err)
	}
	if _, err := a.Store(ctx, id, []byte("two"), SetOptions{IfVersion: &it.Version}); !errors.Is(err, ErrDestroyed) {
		t.Errorf("Store of a version: %v", err)
	}
	if _, err := a.Store(ctx, id, []byte("two"), SetOptions{IfVersion: new(Version)}); !errors.Is(err, ErrDestroyed) {
		t.Errorf("Store of a new session: %v", err)
	}
	for i, s := range f.servers {
		if v := do(t, s, "GET", DefaultPrefix+id); v != nil {
			t.Errorf("node %d holds %v", i, v)
		}
	}
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	const most = (1<<31 - 1) * time.Second
	for _, tc := range []struct {
		name, param string
		opts        []Option
		want        time.Duration
	}{
		{"default", "", nil, 1440 * time.Second},
		{"path", "lifetime=77", nil, 77 * time.Second},
		{"option wins", "lifetime=77", []Option{WithLifetime(99 * time.Second)}, 99 * time.Second},
		{"over 31 bits", "lifetime=2147483648", nil, most},
		{"over time.Duration", "lifetime=144000000000", nil, most},
		{"option over 31 bits", "", []Option{WithLifetime(1<<63 - 1)}, most},
		{"option zero", "", []Option{WithLifetime(0)}, 1440 * time.Second},
		{"option negative", "", []Option{WithLifetime(-5 * time.Second)}, 1440 * time.Second},
	} {
		for _, dist := range []string{"distribution=consistent", "distribution=phpredis"} {
			t.Run(tc.name+" "+dist, func(t *testing.T) {
				params := []string{dist}
				if tc.param != "" {
					params = append(params, tc.param)
				}
				c := f.open(f.path(params...), tc.opts...)
				id := newID()
				must(t, c.Set(ctx, id, []byte("v")))
				s := f.servers[c.Ring().Owner(id)]
				about(t, "after Set", pttl(t, s, DefaultPrefix+id), tc.want)
				do(t, s, "PEXPIRE", DefaultPrefix+id, 5000000)
				must(t, c.Touch(ctx, id))
				about(t, "after Touch", pttl(t, s, DefaultPrefix+id), tc.want)
				if c.Lifetime() != tc.want {
					t.Errorf("Lifetime() is %v", c.Lifetime())
				}
			})
		}
	}
	for _, bad := range []string{"lifetime=0", "lifetime=-5"} {
		c, err := Open(f.path(bad), withSharedRings, WithDialer(f.dial))
		if err == nil {
			if c.Lifetime() != DefaultLifetime || len(c.SavePath().Warnings) == 0 {
				t.Errorf("%s: lifetime %v, warnings %v", bad, c.Lifetime(), c.SavePath().Warnings)
			}
			c.Close()
		} else if !errors.Is(err, ErrSavePath) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestLifetimeOfOneCall(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	for _, dist := range []string{"distribution=consistent", "distribution=phpredis"} {
		c := f.up(f.path(dist))
		id := newID()
		key := DefaultPrefix + id
		s := f.servers[c.Ring().Owner(id)]
		_, err := c.Store(ctx, id, []byte("v"), SetOptions{Lifetime: 90 * time.Minute})
		must(t, err)
		about(t, "Store", pttl(t, s, key), 90*time.Minute)
		_, err = c.Store(ctx, id, []byte("v"), SetOptions{Lifetime: 90*time.Minute + 500*time.Millisecond})
		must(t, err)
		if ms := pttl(t, s, key); ms <= (90*time.Minute - time.Minute).Milliseconds() {
			t.Errorf("a lifetime with milliseconds: %d ms", ms)
		}
		must(t, c.TouchFor(ctx, id, 70*time.Minute))
		about(t, "TouchFor", pttl(t, s, key), 70*time.Minute)
		_, err = c.Load(ctx, id, GetOptions{Touch: true, Lifetime: 80 * time.Minute})
		must(t, err)
		about(t, "Load with Touch", pttl(t, s, key), 80*time.Minute)
		_, err = c.Load(ctx, id, GetOptions{})
		must(t, err)
		about(t, "Load leaves it alone", pttl(t, s, key), 80*time.Minute)
		_, err = c.Load(ctx, id, GetOptions{Touch: true, Lifetime: 10 * time.Minute})
		must(t, err)
		if dist == "distribution=phpredis" {
			about(t, "Load with Touch, as PHP does", pttl(t, s, key), 10*time.Minute)
		} else {
			about(t, "Load with Touch shortens nothing", pttl(t, s, key), 80*time.Minute)
		}
		must(t, c.Touch(ctx, id))
		about(t, "Touch", pttl(t, s, key), DefaultLifetime)

		// An end in less than a second, and no end at all by a rounding down to nothing.
		short := newID()
		_, err = c.Store(ctx, short, []byte("v"), SetOptions{Lifetime: 50 * time.Microsecond})
		must(t, err)
		eventually(t, func() error {
			if _, err := c.Get(ctx, short); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("it lives on: %v", err)
			}
			return nil
		})
	}
}

func TestExpiredSessionIsGone(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	c := f.up(f.path())
	id := newID()
	_, err := c.Store(ctx, id, []byte("v"), SetOptions{Lifetime: 20 * time.Millisecond})
	must(t, err)
	eventually(t, func() error {
		if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("it lives on: %v", err)
		}
		return nil
	})
	if err := c.Touch(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("Touch: %v", err)
	}
	for i, s := range f.servers {
		if n := do(t, s, "EXISTS", DefaultPrefix+id, stampPrefix+id); n != int64(0) {
			t.Errorf("Touch of an expired session made keys on node %d", i)
		}
	}
	must(t, c.Set(ctx, id, []byte("new"))) // expired is not destroyed
}

func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for _, dist := range []string{"distribution=consistent", "distribution=phpredis", "copies=1"} {
		t.Run(dist, func(t *testing.T) {
			a, b := f.up(f.path(dist)), f.up(f.path(dist))
			id := newID()
			v1, err := a.Store(ctx, id, []byte("one"), SetOptions{IfVersion: new(Version)})
			must(t, err)
			var conflict *ConflictError
			if _, err := b.Store(ctx, id, []byte("mine"), SetOptions{IfVersion: new(Version)}); !errors.Is(err, ErrConflict) {
				t.Fatalf("a second new session of one id: %v", err)
			} else if !errors.As(err, &conflict) || string(conflict.Newer.Data) != "one" || conflict.Newer.Version != v1 {
				t.Fatalf("conflict holds %+v", conflict)
			}
			it, err := b.Load(ctx, id, GetOptions{})
			must(t, err)
			if it.Version != v1 {
				t.Fatalf("Load gives version %q, Store gave %q", it.Version, v1)
			}
			v2, err := b.Store(ctx, id, []byte("two"), SetOptions{IfVersion: &it.Version})
			must(t, err)
			if _, err := a.Store(ctx, id, []byte("late"), SetOptions{IfVersion: &v1}); !errors.Is(err, ErrConflict) {
				t.Fatalf("with an old version: %v", err)
			}
			got, err := a.Load(ctx, id, GetOptions{})
			must(t, err)
			if string(got.Data) != "two" || got.Version != v2 {
				t.Fatalf("got %q version %q, want two %q", got.Data, got.Version, v2)
			}
		})
	}
}

// Every increment is a Load and a Store under the version that was read. The sum is exact or the guard is none.
func TestCompareAndSetCounts(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for _, dist := range []string{"distribution=consistent", "distribution=phpredis"} {
		t.Run(dist, func(t *testing.T) {
			clients := []*Client{f.up(f.path(dist)), f.up(f.path(dist))}
			id := newID()
			must(t, clients[0].Set(ctx, id, []byte("0")))
			const workers = 100
			var wg sync.WaitGroup
			var conflicts atomic.Int64
			for w := range workers {
				wg.Go(func() {
					c := clients[w%2]
					it, err := c.Load(ctx, id, GetOptions{})
					for {
						if err != nil {
							t.Errorf("worker %d: %v", w, err)
							return
						}
						n, _ := strconv.Atoi(string(it.Data))
						_, err = c.Store(ctx, id, []byte(strconv.Itoa(n+1)), SetOptions{IfVersion: &it.Version})
						var conflict *ConflictError
						if !errors.As(err, &conflict) {
							if err != nil {
								t.Errorf("worker %d: %v", w, err)
							}
							return
						}
						conflicts.Add(1)
						it, err = conflict.Newer, nil
					}
				})
			}
			wg.Wait()
			got, err := clients[1].Get(ctx, id)
			if err != nil || string(got) != strconv.Itoa(workers) {
				t.Errorf("%d increments give %q, %v", workers, got, err)
			}
			t.Logf("%d conflicts", conflicts.Load())
		})
	}
}

// The servers of an application disagree on the time by two years. The last write wins all the same, and no
// lifetime is shared by way of a clock.
func TestClocksYearsApart(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	shift := func(d time.Duration) Option {
		return WithClock(func() time.Time { return time.Now().Add(d) })
	}
	const year = 365 * 24 * time.Hour
	clients := []*Client{f.up(f.path(), shift(year)), f.up(f.path(), shift(-year)), f.up(f.path())}
	for round := range 3 {
		for order := range 6 {
			id := newID()
			seq := []int{order % 3, (order + 1 + order/3) % 3, (order + 2 - order/3) % 3}
			for i, w := range seq {
				value := fmt.Sprintf("%d %d %d", round, order, i)
				must(t, clients[w].Set(ctx, id, []byte(value)))
				for r, c := range clients {
					if got, err := c.Get(ctx, id); err != nil || string(got) != value {
						t.Fatalf("written by %d, read by %d: %q, %v, want %q", w, r, got, err, value)
					}
				}
				about(t, "the value", pttl(t, f.servers[clients[0].Ring().Owner(id)], DefaultPrefix+id), DefaultLifetime)
			}
			// The slowest clock destroys what the fastest wrote.
			must(t, clients[0].Set(ctx, id, []byte("last")))
			must(t, clients[1].Delete(ctx, id))
			for r, c := range clients {
				if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
					t.Fatalf("destroyed, read by %d: %v", r, err)
				}
				if err := c.Set(ctx, id, []byte("again")); !errors.Is(err, ErrDestroyed) {
					t.Fatalf("destroyed, written by %d: %v", r, err)
				}
			}
		}
	}
}

// A clock that jumps back, as NTP makes it do, does not make a later write an earlier one.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	var back atomic.Int64
	c := f.up(f.path(), WithClock(func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }))
	id := newID()
	for i := range 20 {
		back.Add(int64(time.Hour))
		v := strconv.Itoa(i)
		must(t, c.Set(ctx, id, []byte(v)))
		if got, err := c.Get(ctx, id); err != nil || string(got) != v {
			t.Fatalf("got %q, %v, want %q", got, err, v)
		}
	}
}

// A client that has only just been opened knows as well as any other that a session does not exist.
func TestFirstMissAfterOpen(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	f.up(f.path()) // the nodes are no strangers
	for range 10 {
		c := f.open(f.path())
		if _, err := c.Get(ctx, newID()); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrOwnerAway) {
			t.Fatal(err)
		}
		if err := c.Touch(ctx, newID()); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrOwnerAway) {
			t.Fatal(err)
		}
		must(t, c.Close())
	}
}

// What somebody stored without a stamp, PHP before a change of the distribution for example, is a session.
func TestValueWithoutStamp(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	c := f.up(f.path())
	for _, at := range []int{0, 1} { // on the first owner, on the second
		id := newID()
		s := f.servers[c.Ring().Owners(id)[at]]
		do(t, s, "SETEX", DefaultPrefix+id, 500, "php|i:1;")
		got, err := c.Get(ctx, id)
		if err != nil || string(got) != "php|i:1;" {
			t.Fatalf("owner %d: %q, %v", at, got, err)
		}
		must(t, c.Touch(ctx, id))
		it, err := c.Load(ctx, id, GetOptions{})
		must(t, err)
		if _, err = c.Store(ctx, id, []byte("go|i:2;"), SetOptions{IfVersion: &it.Version}); err != nil {
			t.Fatalf("owner %d: Store by its version: %v", at, err)
		}
		if got, err = c.Get(ctx, id); err != nil || string(got) != "go|i:2;" {
			t.Fatalf("owner %d: %q, %v", at, got, err)
		}
		must(t, c.Delete(ctx, id))
		if _, err = c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Fatalf("owner %d: %v", at, err)
		}
	}
}

func TestCloseEndsOperations(t *testing.T) {
	f := startFleet(t, 2)
	proxies := f.proxied()
	before := goleak.IgnoreCurrent()
	c, err := Open(f.path("copies=2"), withSharedRings, WithDialer(f.dial), WithDeadline(patient), WithLockWait(patient))
	must(t, err)
	waitUp(t, c)
	ctx := ctxOf(t)
	held := newID()
	lock, err := c.Lock(ctx, held)
	must(t, err)
	for _, p := range proxies {
		p.Hold()
	}
	// Half of the operations hang on a node when Close comes, one waits for a lock, the others begin later.
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			id := newID()
			for {
				var err error
				switch i % 5 {
				case 0:
					_, err = c.Get(ctx, id)
				case 1:
					err = c.Set(ctx, id, []byte("v"))
				case 2:
					err = c.Touch(ctx, id)
				case 3:
					err = c.Delete(ctx, id)
				case 4:
					_, err = c.Lock(ctx, held)
				}
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDestroyed) && !errors.Is(err, ErrNoNode) {
					t.Errorf("operation %d ended with %v", i%5, err)
					return
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	var closes sync.WaitGroup
	for range 3 {
		closes.Go(func() {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	closes.Wait()
	wg.Wait()
	must(t, c.Close())
	_ = lock.Unlock(ctx) // must neither hang nor panic
	for name, op := range map[string]func() error{
		"Get":    func() error { _, err := c.Get(ctx, newID()); return err },
		"Set":    func() error { return c.Set(ctx, newID(), nil) },
		"Touch":  func() error { return c.Touch(ctx, newID()) },
		"Delete": func() error { return c.Delete(ctx, newID()) },
		"Lock":   func() error { _, err := c.Lock(ctx, newID()); return err },
		"Ping":   func() error { return c.Ping(ctx) },
	} {
		if err := op(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	for _, p := range proxies {
		p.Close()
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func TestCloseWithNodesAway(t *testing.T) {
	for _, accept := range []redistest.Accept{redistest.Refuse, redistest.ResetNew, redistest.Ignore} {
		f := startFleet(t, 2)
		for _, p := range f.proxied() {
			must(t, p.SetAccept(accept))
		}
		before := goleak.IgnoreCurrent()
		c, err := Open(f.path(), withSharedRings, WithDialer(f.dial), WithDeadline(300*time.Millisecond))
		must(t, err)
		if _, err := c.Get(ctxOf(t), newID()); !errors.Is(err, ErrNoNode) {
			t.Errorf("Get: %v", err)
		}
		must(t, c.Close())
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	proxies := f.proxied()
	c := f.up(f.path("copies=2"), WithDeadline(patient))
	id := newID()
	must(t, c.Set(ctxOf(t), id, []byte("v")))
	ops := map[string]func(context.Context) error{
		"Get":    func(ctx context.Context) error { _, err := c.Get(ctx, id); return err },
		"Set":    func(ctx context.Context) error { return c.Set(ctx, id, []byte("w")) },
		"Touch":  func(ctx context.Context) error { return c.Touch(ctx, id) },
		"Delete": func(ctx context.Context) error { return c.Delete(ctx, newID()) },
		"Lock":   func(ctx context.Context) error { _, err := c.Lock(ctx, newID()); return err },
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for name, op := range ops {
		if err := op(over); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	hung := func(name string, op func(context.Context) error, ctx context.Context, want ...error) {
		waitUp(t, c)
		for _, p := range proxies {
			p.Hold()
		}
		start := time.Now()
		err := op(ctx)
		ok := false
		for _, w := range want {
			ok = ok || errors.Is(err, w)
		}
		if !ok {
			t.Errorf("%s ended with %v, not %v", name, err, want)
		}
		if took := time.Since(start); took > patient/2 {
			t.Errorf("%s took %v after its context had ended", name, took)
		}
		for _, p := range proxies {
			must(t, p.Pass())
		}
	}
	for name, op := range ops {
		ctx, cancel := context.WithCancel(context.Background())
		timer := time.AfterFunc(20*time.Millisecond, cancel)
		hung(name+", cancelled on the way", op, ctx, context.Canceled)
		timer.Stop()
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
		hung(name+", with a deadline", op, ctx, ErrNoNode, context.DeadlineExceeded)
		cancel()
	}
	waitUp(t, c)
	if got, err := c.Get(ctxOf(t), id); err != nil || string(got) != "v" && string(got) != "w" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}
