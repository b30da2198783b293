package faults

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// Scenarios that once went wrong, or that a reading of the code made suspect. Each plays one interleaving.

// A client that was idle while the owner was away must not believe the owner that came back under its old name.
func TestIdleClientMeetsRestartedNode(t *testing.T) {
	t.Parallel()
	for _, back := range []string{"with old data", "empty"} {
		t.Run(back, func(t *testing.T) {
			b := newBench(t, 3)
			busy := b.open(nil, sessionring.WithCopies(1))
			idle := b.open(nil, sessionring.WithCopies(1))
			id := b.idOn(busy, 0)
			b.set(busy, id, "old")
			if got := b.get(idle, id); got != "old" {
				t.Fatalf("before the fault: %q", got)
			}
			b.settled(idle)
			b.must(b.nodes[0].Kill())
			b.set(busy, id, "new")
			if back == "empty" {
				b.must(b.nodes[0].RestartEmpty(context.Background()))
			} else {
				b.must(b.nodes[0].Restart(context.Background()))
			}
			if got := b.get(idle, id); got != "new" {
				t.Errorf("the idle client reads %q, acknowledged was \"new\"", got)
			}
		})
	}
}

// A write that an owner misses while another client is just bringing that owner up to date must not lose its hint.
func TestHintWrittenWhileItIsSettled(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	slow := redistest.ProxyTo(t, b.nodes[0])
	cut := redistest.ProxyTo(t, b.nodes[0])
	b.open(route{b.nodes[0].Addr(): slow.Addr()}) // brings node 0 up to date, slowly
	writer := b.open(route{b.nodes[0].Addr(): cut.Addr()})
	id := b.idOn(writer, 0, 1, 2)
	b.set(writer, id, "v0")
	b.must(cut.Cut())
	b.state(writer, 0, sessionring.StateDown)
	const step = 200 * time.Millisecond
	slow.Delay(step, 0, redistest.ToServer)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	begun := make(chan struct{}, 2)
	for _, n := range b.nodes[1:] { // either may hold the hint
		m, err := n.Monitor(ctx)
		b.must(err)
		go func() {
			if m.Wait(ctx, func(c redistest.Command) bool { return c.Name() == "SSCAN" }) == nil {
				begun <- struct{}{}
			}
		}()
	}
	b.set(writer, id, "hinted")
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatal("nobody worked off the hint")
	}
	// Now all nodes are asked what they hold, which takes a step; the copy takes another one; then the hint goes.
	time.Sleep(step + step/2)
	b.set(writer, id, "written meanwhile")
	waitUntil(t, "node 0 holds the last write", 15*time.Second, func() error {
		if got := b.raw(0, "GET", "PHPREDIS_SESSION:"+id); got != "written meanwhile" {
			return fmt.Errorf("it holds %q, acknowledged was \"written meanwhile\"", got)
		}
		return nil
	})
}

// A touch by a request that still runs must not shorten the life of the tombstone.
func TestTouchKeepsTombstone(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	c := b.open(nil)
	id := b.idOn(c, 0, 1)
	ctx := context.Background()
	_, err := c.Store(ctx, id, []byte("alive"), sessionring.SetOptions{Lifetime: time.Hour})
	b.must(err)
	b.must(b.nodes[0].Kill())
	b.must(c.Delete(ctx, id))
	if err := c.TouchFor(ctx, id, time.Second); !errors.Is(err, sessionring.ErrNotFound) {
		t.Errorf("touch of a destroyed session: %v", err)
	}
	if _, err := c.Load(ctx, id, sessionring.GetOptions{Touch: true, Lifetime: time.Second}); !errors.Is(err, sessionring.ErrNotFound) {
		t.Errorf("read of a destroyed session: %v", err)
	}
	time.Sleep(1500 * time.Millisecond)
	b.must(b.nodes[0].Restart(ctx)) // with the session, which has nearly an hour to live
	b.settled(c)
	if got := b.get(c, id); got != "(none)" {
		t.Errorf("the destroyed session is back: %q", got)
	}
}

// A write that reached one owner, was read and written upon, must not come again on top when the other owner
// hears of it late.
func TestLateHalfOfWriteDoesNotReturn(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	link := redistest.ProxyTo(t, b.nodes[1])
	const patient = 20 * time.Second // so that the held half is waited for
	first := b.open(route{b.nodes[1].Addr(): link.Addr()}, sessionring.WithDeadline(patient))
	second := b.open(nil)
	id := b.idOn(first, 0, 1)
	b.set(first, id, "w0")
	link.Hold(redistest.ToServer)
	done := make(chan error, 1)
	go func() { done <- first.Set(context.Background(), id, []byte("w1")) }()
	b.until("node 0 has the first half of the write", func() error {
		if got := b.raw(0, "GET", "PHPREDIS_SESSION:"+id); got != "w1" {
			return errors.New("not yet")
		}
		return nil
	})
	if got := b.get(second, id); got != "w1" {
		t.Fatalf("read %q", got)
	}
	b.set(second, id, "w2, after w1 was read")
	link.Release()
	b.must(<-done)
	if got := b.get(second, id); got != "w2, after w1 was read" {
		t.Errorf("read %q: an acknowledged write is lost to the one that it was based on", got)
	}
}

// The same, while a repair that looked at the owners at different times brings to one of them what it has already.
func TestLateHalfOfWriteAfterRepair(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	held, slow := redistest.ProxyTo(t, b.nodes[1]), redistest.ProxyTo(t, b.nodes[1])
	const patient = time.Minute // so that the held half is waited for
	first := b.open(route{b.nodes[1].Addr(): held.Addr()}, sessionring.WithDeadline(patient))
	second := b.open(nil)
	repairs := make(chan struct{}, 8)
	mender := b.open(route{b.nodes[1].Addr(): slow.Addr()}, sessionring.WithDeadline(patient),
		sessionring.WithHooks(sessionring.Hooks{Repair: func(sessionring.Repair) { repairs <- struct{}{} }}))
	id := b.idOn(first, 0, 1)
	b.set(first, id, "w0")
	held.Hold(redistest.ToServer)
	done := make(chan error, 1)
	go func() { done <- first.Set(context.Background(), id, []byte("w1")) }()
	b.until("node 0 has the first half of the write", func() error {
		if got := b.raw(0, "GET", "PHPREDIS_SESSION:"+id); got != "w1" {
			return errors.New("not yet")
		}
		return nil
	})
	slow.Delay(400*time.Millisecond, 0, redistest.ToServer)
	if got := b.get(mender, id); got != "w1" {
		t.Fatalf("read %q", got)
	}
	// The mender now asks node 0 at once, and node 1 when its question gets there. In between:
	time.Sleep(100 * time.Millisecond)
	if got := b.get(second, id); got != "w1" {
		t.Fatalf("read %q", got)
	}
	b.set(second, id, "w2, after w1 was read")
	select {
	case <-repairs:
	case <-time.After(2 * time.Second): // it need not write anything
	}
	held.Release()
	b.must(<-done)
	if got := b.get(second, id); got != "w2, after w1 was read" {
		t.Errorf("read %q: an acknowledged write is lost to the one that it was based on", got)
	}
}

// A lock command left in a hung node's socket must not keep the session locked after Unlock.
func TestLateLockCommandIsReleased(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	c := b.open(nil, sessionring.WithLockExpire(time.Minute), sessionring.WithLockWait(10*time.Second))
	id := b.idOn(c, 0, 1)
	ctx := context.Background()
	b.must(b.nodes[0].Pause())
	l, err := c.Lock(ctx, id)
	b.must(err)
	b.must(l.Unlock(ctx))
	b.must(b.nodes[0].Resume())
	b.set(c, id, "served")
	b.settled(c)
	l, err = c.Lock(ctx, id)
	if err != nil {
		t.Fatalf("nobody holds the lock: %v (node 0 holds %v)", err, b.raw(0, "PTTL", "PHPREDIS_SESSION:"+id+"_LOCK"))
	}
	b.must(l.Unlock(ctx))
}

// One copy, application servers whose clocks disagree: what was written while the owner was away is newer than
// what the owner comes back with.
func TestOldDataOfFastClock(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	ahead := b.open(nil, sessionring.WithCopies(1), sessionring.WithClock(func() time.Time { return time.Now().AddDate(1, 0, 0) }))
	behind := b.open(nil, sessionring.WithCopies(1))
	id, other := b.idOn(ahead, 0), b.idOn(ahead, 1)
	b.set(ahead, other, "anything")
	b.get(behind, other) // the clocks have met
	time.Sleep(300 * time.Millisecond)
	b.set(ahead, id, "old")
	b.must(b.nodes[0].Kill())
	b.set(behind, id, "new")
	b.must(b.nodes[0].Restart(context.Background()))
	b.settled(ahead, behind)
	if got := b.get(behind, id); got != "new" {
		t.Errorf("read %q after the owner returned", got)
	}
}

// A node may come back with copies of sessions that it does not own any more. They must not stay: when both owners
// are away one day, such an old copy would be read.
func TestNodeReturnsWithCopiesOfOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	c := b.open(nil)
	id := b.idOn(c, 0, 1)
	ctx := context.Background()
	b.must(b.nodes[0].Kill())
	b.set(c, id, "stands in")
	snap, err := b.nodes[2].SaveSnapshot(ctx) // with the copy and its hint
	b.must(err)
	b.must(b.nodes[0].Restart(ctx))
	gone := func() error {
		if got := b.raw(2, "EXISTS", stampKey(id)); got != int64(0) {
			return errors.New("it is there")
		}
		return nil
	}
	b.until("the stand-in copy is gone", gone)
	b.settled(c)
	b.set(c, id, "newer")
	b.must(b.nodes[2].RestartWith(ctx, snap))
	for i := range 3 { // without the hints, as after a change of the node list
		b.raw(2, "DEL", "sessionring:h:tcp://"+b.nodes[i].Addr())
	}
	b.until("the copy that came back is gone", gone)
	if got := b.get(c, id); got != "newer" {
		t.Errorf("read %q", got)
	}
}
