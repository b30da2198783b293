package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// bench is a set of nodes for one scenario that is played step by step.
type bench struct {
	t     *testing.T
	nodes []*redistest.Server
}

func newBench(t *testing.T, n int) *bench {
	return &bench{t, redistest.Nodes(t, n, redistest.Options{AppendOnly: true})}
}

// route says by which address a client reaches a node: a proxy's, where there is one.
type route map[string]string

// open starts a client. Nodes keep their own names, whatever the way to them, so that all clients have one ring.
func (b *bench) open(via route, opts ...sessionring.Option) *sessionring.Client {
	b.t.Helper()
	d := &net.Dialer{}
	opts = append([]sessionring.Option{sessionring.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if other, ok := via[addr]; ok {
			addr = other
		}
		return d.DialContext(ctx, network, addr)
	})}, opts...)
	c, err := sessionring.Open(redistest.SavePath(b.nodes), opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	b.settled(c)
	return c
}

// settled waits until clients trust all nodes and no copy waits to be made.
func (b *bench) settled(clients ...*sessionring.Client) {
	b.t.Helper()
	b.until("all nodes are up and no session waits for a copy", func() error {
		for _, c := range clients {
			for _, n := range c.Nodes() {
				if n.State != sessionring.StateUp || n.Debt != 0 {
					return fmt.Errorf("%s is %s, %d sessions wait for it, last error %v", n.Node, n.State, n.Debt, n.LastErr)
				}
			}
		}
		return nil
	})
}

// state waits until a client thinks so of a node.
func (b *bench) state(c *sessionring.Client, node int, want sessionring.State) {
	b.t.Helper()
	b.until(fmt.Sprintf("node %d is %s", node, want), func() error {
		if got := c.Nodes()[node].State; got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

func (b *bench) until(what string, ok func() error) {
	b.t.Helper()
	waitUntil(b.t, what, 30*time.Second, ok)
}

func waitUntil(t *testing.T, what string, patience time.Duration, ok func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// idOn finds a session id whose order of preference begins with the nodes given.
func (b *bench) idOn(c *sessionring.Client, nodes ...int) string {
	b.t.Helper()
	for i := range 1 << 20 {
		id := fmt.Sprintf("%s-%d", "scenario", i)
		if slices.Equal(c.Ring().AppendOwners(nil, id, len(nodes)), nodes) {
			return id
		}
	}
	b.t.Fatal("no such id")
	return ""
}

func (b *bench) set(c *sessionring.Client, id, data string) {
	b.t.Helper()
	if err := c.Set(context.Background(), id, []byte(data)); err != nil {
		b.t.Fatalf("set %s: %v", data, err)
	}
}

func (b *bench) get(c *sessionring.Client, id string) string {
	b.t.Helper()
	data, err := c.Get(context.Background(), id)
	switch {
	case errors.Is(err, sessionring.ErrOwnerAway):
		return "(away)"
	case errors.Is(err, sessionring.ErrNotFound):
		return "(none)"
	case err != nil:
		b.t.Fatalf("get: %v", err)
	}
	return string(data)
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// raw reads a key on a node behind everybody's back; "" when there is none.
func (b *bench) raw(node int, args ...any) any {
	b.t.Helper()
	v, err := b.nodes[node].Do(args...)
	b.must(err)
	return v
}

func stampKey(id string) string { return "sessionring:v:" + id }
