//go:build unix

package redistest

import (
	"strings"
	"testing"
)

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := StartClusterFor(t, 3, 1)
	if len(c.Nodes) != 6 {
		t.Fatalf("%d nodes", len(c.Nodes))
	}
	if got := c.SavePath("timeout=2"); !strings.HasPrefix(got, "seed[]="+c.Nodes[0].Addr()+"&seed[]=") || !strings.HasSuffix(got, "&timeout=2") {
		t.Errorf("SavePath %s", got)
	}
	owner, err := c.Owner(ctx, "k")
	must(t, err)
	do(t, owner, "SET", "k", "v")
	for _, s := range c.Nodes {
		if s == owner {
			continue
		}
		if _, err := s.Do("GET", "k"); err == nil || !strings.HasPrefix(err.Error(), "MOVED ") {
			t.Errorf("another node says %v, want MOVED", err)
		}
	}
	if n := do(t, owner, "WAIT", 1, 10_000); n != int64(1) {
		t.Fatalf("%v replicas have the key", n)
	}
	must(t, owner.Kill())
	var next *Server
	eventually(t, func() bool {
		next, err = c.Owner(ctx, "k")
		return err == nil && next != owner
	})
	must(t, c.WaitOK(ctx))
	wantGet(t, next, "k", "v")
	must(t, owner.Restart(ctx))
	must(t, c.WaitOK(ctx))
	must(t, c.Stop())
}

func TestClusterWithPassword(t *testing.T) {
	t.Parallel()
	c := StartClusterFor(t, 1, 1, Options{Password: "secret"})
	do(t, c.Nodes[0], "SET", "k", "v")
	if n := do(t, c.Nodes[0], "WAIT", 1, 10_000); n != int64(1) {
		t.Errorf("%v replicas have the key", n)
	}
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	data := Options{Password: "data secret"}
	primary := Node(t, data)
	data.ReplicaOf = primary
	replicas := Nodes(t, 2, data)
	g := StartSentinelFor(t, primary, replicas, 3, 2, SentinelOptions{Password: "sentinel secret"})

	c, err := Dial(ctx, "tcp", g.Addrs()[0])
	must(t, err)
	defer c.Close()
	if _, err := c.Do(ctx, "PING"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("sentinel without its password: %v", err)
	}
	if p, err := g.Primary(ctx); p != primary {
		t.Fatalf("primary %v, %v", p, err)
	}
	do(t, primary, "SET", "k", "v")
	if n := do(t, primary, "WAIT", 2, 10_000); n != int64(2) {
		t.Fatalf("%v replicas have the key", n)
	}
	must(t, primary.Kill())
	next, err := g.WaitFailover(ctx, primary)
	must(t, err)
	wantGet(t, next, "k", "v")

	// The old primary comes back as a replica of the new one.
	do(t, next, "SET", "k", "newer")
	must(t, primary.Restart(ctx))
	eventually(t, func() bool {
		v, err := primary.Do("GET", "k")
		return err == nil && v == "newer"
	})
}
