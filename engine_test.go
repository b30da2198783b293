package sessionring

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// theWholeAPI goes through what a Client does, on any engine.
func theWholeAPI(t *testing.T, a, b *Client) {
	t.Helper()
	ctx := ctxOf(t)
	for i := range 40 { // ids of many slots
		id := newID()
		if i == 0 {
			id = "{x}" + id
		}
		if _, err := a.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Fatalf("before Set: %v", err)
		}
		if err := a.Touch(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Fatalf("Touch before Set: %v", err)
		}
		for _, v := range []string{"one", "", "OK", "two"} {
			must(t, a.Set(ctx, id, []byte(v)))
			if got, err := b.Get(ctx, id); err != nil || string(got) != v {
				t.Fatalf("%q, %v, want %q", got, err, v)
			}
		}
		must(t, b.Touch(ctx, id))
		it, err := b.Load(ctx, id, GetOptions{Touch: true})
		must(t, err)
		_, err = a.Store(ctx, id, []byte("three"), SetOptions{IfVersion: &it.Version, Lifetime: time.Hour})
		must(t, err)
		if _, err := b.Store(ctx, id, []byte("four"), SetOptions{IfVersion: &it.Version}); !errors.Is(err, ErrConflict) {
			t.Fatalf("an old version: %v", err)
		}
		l, err := a.Lock(ctx, id)
		must(t, err)
		short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		if _, err := b.Lock(short, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a second lock: %v", err)
		}
		cancel()
		_, err = a.Store(ctx, id, []byte("five"), SetOptions{Lock: l})
		must(t, err)
		must(t, l.Unlock(ctx))
		must(t, b.Delete(ctx, id))
		if _, err := a.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Fatalf("after Delete: %v", err)
		}
		if err := a.Set(ctx, id, []byte("again")); !errors.Is(err, ErrDestroyed) {
			t.Fatalf("Set after Delete: %v", err)
		}
	}
	must(t, a.Ping(ctx))
	if n := a.Nodes(); len(n) != 1 || n[0].State != StateUp {
		t.Errorf("Nodes: %+v", n)
	}
	if a.Ring() != nil {
		t.Error("there is a ring")
	}
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterFor(t, 3, 0, redistest.Options{Password: "pw"})
	path := cluster.SavePath("timeout=5", "read_timeout=5")
	a, b := openTest(t, path), openTest(t, path)
	theWholeAPI(t, a, b)
	ctx := ctxOf(t)

	// PHP's own key, spread over all members by the engine.
	for range 60 {
		id := newID()
		must(t, a.Set(ctx, id, []byte("v")))
		s, err := cluster.Owner(ctx, DefaultClusterPrefix+id)
		must(t, err)
		if v := do(t, s, "GET", DefaultClusterPrefix+id); v != "v" {
			t.Fatalf("the key's own node holds %v", v)
		}
	}
	for _, s := range cluster.Nodes {
		if n, err := s.DBSize(); err != nil || n < 10 {
			t.Errorf("a member holds %d keys, %v", n, err)
		}
	}

	// Its errors are the API's.
	wrong := openTest(t, strings.ReplaceAll(path, "auth=pw", "auth=other"), WithDeadline(3*time.Second))
	err := wrong.Set(ctx, newID(), []byte("v"))
	if !errors.Is(err, ErrAuth) || !strings.Contains(err.Error(), cluster.Nodes[0].Host()) || strings.Contains(err.Error(), "other") {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := wrong.Get(ctx, newID()); !errors.Is(err, ErrAuth) || errors.Is(err, ErrNotFound) {
		t.Errorf("wrong password: %v", err)
	}
	id := newID()
	s, err := cluster.Owner(ctx, DefaultClusterPrefix+id)
	must(t, err)
	do(t, s, "RPUSH", DefaultClusterPrefix+id, "x")
	if err := a.Set(ctx, id, []byte("v")); !errors.Is(err, ErrWrongType) {
		t.Errorf("WRONGTYPE: %v", err)
	}

	// Operations at once, a member away: its slots have no server, others go on.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { roundTrip(t, a) })
	}
	wg.Wait()
	must(t, cluster.Stop())
	short := openTest(t, path, WithDeadline(500*time.Millisecond))
	start := time.Now()
	for _, c := range []*Client{a, short} {
		if err := c.Set(ctx, newID(), []byte("v")); !errors.Is(err, ErrNoNode) {
			t.Errorf("all members gone: %v", err)
		}
	}
	if took := time.Since(start); took > patient {
		t.Errorf("took %v", took)
	}
}

func TestRedisClusterFailsOver(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterFor(t, 3, 1)
	c := openTest(t, cluster.SavePath("timeout=5", "read_timeout=5"))
	ctx := ctxOf(t)
	id := newID()
	must(t, c.Set(ctx, id, []byte("1")))
	s, err := cluster.Owner(ctx, DefaultClusterPrefix+id)
	must(t, err)
	// The write is on the replica before its primary is lost.
	eventually(t, func() error {
		for _, n := range cluster.Nodes {
			if info, err := n.Info("replication"); err == nil && info["role"] == "slave" && info["master_link_status"] != "up" {
				return errors.New("a replica has no link")
			}
		}
		return nil
	})
	do(t, s, "WAIT", 1, 5000)
	must(t, s.Kill())
	eventually(t, func() error {
		got, err := c.Get(ctx, id)
		if err != nil {
			return err
		}
		if string(got) != "1" {
			t.Fatalf("%q after the failover", got)
		}
		return c.Set(ctx, id, []byte("1"))
	})
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	pw := redistest.Options{Password: "data-pw"}
	primary := redistest.Node(t, pw)
	replica := redistest.Node(t, redistest.Options{Password: "data-pw", ReplicaOf: primary})
	g := redistest.StartSentinelFor(t, primary, []*redistest.Server{replica}, 3, 2, redistest.SentinelOptions{Password: "sentinel-pw"})
	path := fmt.Sprintf("sentinel://%s/%s?auth=data-pw&sentinel_auth=sentinel-pw&"+unhurried, strings.Join(g.Addrs(), ","), g.Name)
	a, b := openTest(t, path), openTest(t, path)
	theWholeAPI(t, a, b)
	ctx := ctxOf(t)
	id := newID()
	must(t, a.Set(ctx, id, []byte("v")))
	if v := do(t, primary, "GET", DefaultPrefix+id); v != "v" {
		t.Errorf("the primary holds %v", v)
	}

	// Each password is for its own kind of server; what a Sentinel refuses is told as the Sentinel's.
	for name, bad := range map[string]string{
		"data password":        strings.Replace(path, "auth=data-pw", "auth=other", 1),
		"sentinel password":    strings.Replace(path, "sentinel_auth=sentinel-pw", "sentinel_auth=other", 1),
		"no sentinel password": strings.Replace(path, "&sentinel_auth=sentinel-pw", "", 1),
	} {
		c := openTest(t, bad, WithDeadline(3*time.Second))
		_, err := c.Get(ctx, newID())
		if errors.Is(err, ErrNotFound) || !errors.Is(err, ErrNoNode) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !errors.Is(err, ErrAuth) {
			t.Errorf("%s: the error does not say authentication: %v", name, err)
		}
		if strings.Contains(err.Error(), "-pw") || strings.Contains(err.Error(), "other") {
			t.Errorf("%s: the error shows a password: %v", name, err)
		}
	}

	do(t, primary, "WAIT", 1, 5000)
	must(t, primary.Kill())
	eventually(t, func() error {
		got, err := a.Get(ctx, id)
		if err == nil && string(got) != "v" {
			t.Fatalf("%q after the failover", got)
		}
		return err
	})
	eventually(t, func() error { return a.Set(ctx, id, []byte("w")) })
	eventually(t, func() error { // each client finds the new primary by itself
		got, err := b.Get(ctx, id)
		if err == nil && string(got) != "w" {
			t.Fatalf("%q after the failover", got)
		}
		return err
	})
}

func TestEnginesUnreachable(t *testing.T) {
	t.Parallel()
	dead := redistest.DeadAddr(t)
	for _, path := range []string{"seed[]=" + dead, "sentinel://" + dead + "/mymaster"} {
		c := openTest(t, path, WithDeadline(time.Second))
		for name, op := range operations(c, newID()) {
			if err := op(ctxOf(t)); !errors.Is(err, ErrNoNode) || !strings.Contains(err.Error(), dead) {
				t.Errorf("%s, %s: %v", path, name, err)
			}
		}
		must(t, c.Close())
		if _, err := c.Get(ctxOf(t), newID()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}
