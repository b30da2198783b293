package php

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
)

// locking are PHP's settings under which it waits for a lock as long as it takes.
var locking = []string{
	"redis.session.locking_enabled", "1", "redis.session.lock_retries", "-1", "redis.session.lock_wait_time", "5000",
	"redis.session.lock_expire", "20",
}

// Fifty requests at once, half of them PHP's, read a counter, wait 20 ms and add one. Each sees another value and none
// is lost: PHP and Go exclude each other.
func TestCounterByBoth(t *testing.T) {
	phptest.Require(t)
	node := redistest.Node(t)
	php := serve(t, node.SavePath(), 8, locking...)
	c := open(t, node.SavePath(), sessionring.WithLockWait(patient))
	id := newID()
	const requests = 50
	saw := make(chan int, requests)
	var wg sync.WaitGroup
	for r := range requests {
		if r%2 == 0 {
			wg.Go(func() {
				body, status := ask(t, php, "add", id, "wait", "20000")
				if n, err := strconv.Atoi(body); err != nil || status != 200 {
					t.Errorf("php: %d %s", status, body)
				} else {
					saw <- n
				}
			})
			continue
		}
		wg.Go(func() {
			n, err := add(c, id)
			if err != nil {
				t.Error(err)
				return
			}
			saw <- n
		})
	}
	wg.Wait()
	close(saw)
	seen := map[int]bool{}
	for n := range saw {
		if seen[n] {
			t.Errorf("two requests saw %d", n)
		}
		seen[n] = true
	}
	if data, err := c.Get(ctxOf(t), id); err != nil || string(data) != "n|i:50;" {
		t.Errorf("the session is %q, %v", data, err)
	}
}

// add is what the PHP app does under a lock.
func add(c *sessionring.Client, id string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patient)
	defer cancel()
	l, err := c.Lock(ctx, id)
	if err != nil {
		return 0, err
	}
	data, err := c.Get(ctx, id)
	if err != nil && !errors.Is(err, sessionring.ErrNotFound) {
		return 0, err
	}
	n := 0
	if s := strings.TrimSuffix(strings.TrimPrefix(string(data), "n|i:"), ";"); s != "" {
		if n, err = strconv.Atoi(s); err != nil {
			return 0, err
		}
	}
	time.Sleep(20 * time.Millisecond)
	if _, err := c.Store(ctx, id, []byte("n|i:"+strconv.Itoa(n+1)+";"), sessionring.SetOptions{Lock: l}); err != nil {
		return 0, err
	}
	return n, l.Unlock(ctx)
}

// While Go holds the lock, PHP 5.3.7 and 6 alike change nothing; afterwards they do.
func TestPHPRespectsTheLock(t *testing.T) {
	phptest.Require(t)
	node := redistest.Node(t)
	php := serve(t, node.SavePath(), 1, "redis.session.locking_enabled", "1", "redis.session.lock_retries", "3")
	c := open(t, node.SavePath())
	ctx := ctxOf(t)
	id := newID()
	must(t, c.Set(ctx, id, []byte("n|i:1;")))
	l, err := c.Lock(ctx, id)
	must(t, err)
	_, _ = ask(t, php, "add", id) // 5.3.7 runs the page and throws its changes away, 6 does not start the session
	if data, err := c.Get(ctx, id); err != nil || string(data) != "n|i:1;" {
		t.Errorf("PHP wrote under somebody else's lock: %q, %v", data, err)
	}
	_, err = c.Store(ctx, id, []byte("n|i:2;"), sessionring.SetOptions{Lock: l})
	must(t, err)
	must(t, l.Unlock(ctx))
	if body := page(t, php, "add", id); body != "2" {
		t.Errorf("PHP saw %q", body)
	}
	if data, err := c.Get(ctx, id); err != nil || string(data) != "n|i:3;" {
		t.Errorf("the session is %q, %v", data, err)
	}
}

// On two nodes or more phpredis releases the lock on the node that its key's first letters lead to, which is seldom
// the session's: the lock stays until it expires. Go waits for that, and no longer.
func TestLockThatPHPLeaks(t *testing.T) {
	phptest.Require(t)
	nodes := redistest.Nodes(t, 2)
	path := redistest.SavePath(nodes)
	php := serve(t, path, 1, "redis.session.locking_enabled", "1", "redis.session.lock_expire", "2")
	c := open(t, path, sessionring.WithLockWait(patient))
	ctx := ctxOf(t)
	leaked := 0
	for range 40 {
		id := newID()
		page(t, php, "add", id)
		e := entry{nodes[c.Ring().Owner(id)], 0}
		if e.do(t, "EXISTS", sessionring.DefaultPrefix+id+"_LOCK") == int64(0) {
			continue
		}
		leaked++
		if leaked > 1 {
			continue // one is enough to wait for
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		if _, err := c.Lock(short, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while PHP's lock stands there: %v", err)
		}
		cancel()
		l, err := c.Lock(ctx, id)
		must(t, err)
		must(t, l.Unlock(ctx))
		if e.do(t, "EXISTS", sessionring.DefaultPrefix+id+"_LOCK") != int64(0) {
			t.Error("Go's own lock was not released")
		}
	}
	if leaked == 0 {
		t.Error("PHP leaked no lock: this version of phpredis mends it, and docs/save-path.md should say so")
	}
}
