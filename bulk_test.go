package sessionring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// Large sessions have a connection of their own, whole on every node and whatever the caller does with his bytes
// afterwards; small ones never use it.
func TestLargeSessionsHaveTheirConnection(t *testing.T) {
	t.Parallel()
	c := openTest(t, redistest.SavePath(redistest.Nodes(t, 2), "copies=2"))
	waitUp(t, c)
	ctx := ctxOf(t)
	used := func() (n int) {
		for _, node := range c.view.Load().nodes {
			if node.bulk.conn.Load() != nil {
				n++
			}
		}
		return n
	}
	id := newID()
	must(t, c.Set(ctx, id, []byte("small")))
	if n := used(); n != 0 {
		t.Fatalf("%d second connections for a small session", n)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 2*bulkSize/16)
	want := bytes.Clone(data)
	must(t, c.Set(ctx, id, data))
	clear(data)
	if n := used(); n != 2 {
		t.Errorf("%d second connections for a large session on two nodes", n)
	}
	if got, err := c.Get(ctx, id); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if !c.large.has(id) {
		t.Error("it is not remembered as large")
	}
	must(t, c.Set(ctx, id, []byte("small again")))
	if got, err := c.Get(ctx, id); err != nil || string(got) != "small again" || c.large.has(id) {
		t.Errorf("%q, %v, remembered as large: %v", got, err, c.large.has(id))
	}
}

// A queue is too long by the pace of the answers from it, and a queue without answers has no pace.
func TestPace(t *testing.T) {
	cn := &conn{}
	now := time.Now()
	answer := func(at time.Duration, depth int32) {
		cn.heard.Store(now.Add(at).UnixNano())
		cn.depth.Store(depth)
		cn.measure()
	}
	cn.depth.Store(10 * shedFrom)
	if cn.overloaded(now, now.Add(time.Millisecond)) {
		t.Error("refused before there was a pace")
	}
	for i := range 50 { // one a millisecond
		answer(time.Duration(i)*time.Millisecond, shedFrom)
	}
	if !cn.overloaded(now, now.Add(shedFrom/2*time.Millisecond)) || cn.overloaded(now, now.Add(2*shedFrom*time.Millisecond)) {
		t.Errorf("%d calls at a pace of %v", shedFrom, time.Duration(cn.pace.Load()))
	}
	answer(time.Second, 0)
	cn.depth.Store(shedFrom)
	if cn.overloaded(now, now.Add(time.Millisecond)) {
		t.Error("the pace of an earlier queue counts")
	}
}

// The name of a host moves, and one of the node's two connections is made anew: the other one must follow, or what is
// written on one is not found on the other.
func TestBothConnectionsFollowTheName(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789abcdef"), 2*bulkSize/16)
	for name, leave := range map[string]func(n *node){
		"first":  func(n *node) { n.pipe.drop(brokenBy(io.EOF)) },
		"second": func(n *node) { n.bulk.drop(brokenBy(io.EOF)) },
		"both":   func(n *node) { n.drop(brokenBy(io.EOF)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, 2)
			fresh := redistest.Node(t)
			ctx := ctxOf(t)
			c := f.up(f.path("copies=1"))
			n := c.view.Load().nodes[0]
			must(t, c.Set(ctx, idOn(c, 0), large)) // both connections are made
			if n.bulk.conn.Load() == nil {
				t.Fatal("there is no second connection: nothing is tested")
			}
			f.lead(0, fresh.Addr())
			leave(n)
			small, big := idOn(c, 0), idOn(c, 0)
			if name == "second" {
				must(t, c.Set(ctx, big, large)) // makes the second connection anew
				must(t, c.Set(ctx, small, []byte("s")))
			} else {
				must(t, c.Set(ctx, small, []byte("s")))
				must(t, c.Set(ctx, big, large))
			}
			for _, id := range []string{small, big} {
				if do(t, fresh, "EXISTS", n.key(id)) != int64(1) {
					t.Errorf("the new server does not hold what was written (large: %v)", id == big)
				}
				if do(t, f.servers[0], "EXISTS", n.key(id)) != int64(0) {
					t.Errorf("the old server was written to (large: %v)", id == big)
				}
			}
		})
	}
}

// A name that leads now to one server, now to another, each time it is dialled: the two connections must not close each
// other for ever.
func TestNameThatLeadsToTwoServers(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	twin := f.servers[2]
	f.servers, f.names = f.servers[:2], f.names[:2]
	var dials atomic.Int64
	c := f.up(f.path("copies=2"), WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == f.names[0] && dials.Add(1)%2 == 0 {
			var d net.Dialer
			return d.DialContext(ctx, network, twin.Addr())
		}
		return f.dial(ctx, network, address)
	}))
	ctx := ctxOf(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 2*bulkSize/16)
	begun, before := time.Now(), dials.Load()
	const rounds = 200
	for range rounds {
		must(t, c.Set(ctx, newID(), large))
		must(t, c.Set(ctx, newID(), []byte("s")))
	}
	// A few for each time that the second connection is tried again, not one for each operation.
	bound := 4 * int64(1+time.Since(begun)/bulkRetry)
	if n := dials.Load() - before; n > bound {
		t.Errorf("%d dials in %d rounds, at most %d are due", n, rounds, bound)
	} else {
		t.Logf("%d dials", n)
	}
}

// Whether an operation is begun at all is decided by the connection that it would use, at each of its owners.
func TestRefusedByTheConnectionInUse(t *testing.T) {
	now := time.Now()
	var nodes []*node
	pipes := map[string][]*pipe{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		first, second := &pipe{}, &pipe{}
		n := &node{id: id, pipe: first, bulk: second}
		n.health = newHealth(n, nil)
		nodes = append(nodes, n)
		pipes["first"] = append(pipes["first"], first)
		pipes["second"] = append(pipes["second"], second)
	}
	long := &conn{}
	long.depth.Store(shedFrom)
	long.pace.Store(int64(time.Second))
	for _, busy := range []string{"first", "second"} {
		for _, c := range []struct {
			name  string
			large bool
			php   bool // PHP's own layout
			lists [][]int
			fine  int // the node whose connections are idle; -1: none
			want  int // nodes named
		}{
			{"small", false, false, [][]int{{0, 1}}, -1, map[string]int{"first": 2}[busy]},
			{"large", true, false, [][]int{{0, 1}}, -1, map[string]int{"second": 2}[busy]},
			{"large in PHP's layout", true, true, [][]int{{0}}, -1, map[string]int{"first": 1}[busy]},
			{"by two lists", busy == "second", false, [][]int{{0, 1}, {1, 2}}, -1, 3},
			{"by the same list twice", busy == "second", false, [][]int{{0, 1}, {0, 1}}, -1, 2},
			{"one is fine", busy == "second", false, [][]int{{0, 1}}, 1, 0},
			{"the last of many is fine", busy == "second", false, [][]int{{0, 1, 2}, {3, 4, 5}}, 5, 0},
		} {
			t.Run(busy+"/"+c.name, func(t *testing.T) {
				for i, p := range pipes[busy] {
					if p.conn.Store(long); i == c.fine {
						p.conn.Store(nil)
					}
				}
				defer func() {
					for _, p := range pipes[busy] {
						p.conn.Store(nil)
					}
				}()
				f := &fan{}
				f.c = &Client{conf: config{hooks: &Hooks{}}}
				f.name, f.large, f.began, f.until = "get", c.large, now.Add(-time.Minute), now.Add(time.Second)
				for _, list := range c.lists {
					v := &view{nodes: nodes, copies: len(list), stamped: !c.php}
					f.groups = append(f.groups, group{v: v, list: list})
				}
				f.v = f.groups[0].v
				err := f.overloaded()
				if (err != nil) != (c.want > 0) {
					t.Fatalf("%v", err)
				}
				if err == nil {
					return
				}
				var e *NoNodeError
				if !errors.As(err, &e) || !errors.Is(err, ErrOverloaded) || len(e.Nodes) != c.want || e.Elapsed < time.Minute {
					t.Errorf("%d of %d nodes are named: %v", len(e.Nodes), c.want, err)
				}
			})
		}
	}
}

// counted counts what goes over a connection.
type counted struct {
	net.Conn
	bytes atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// A large session that is brought up to date goes by the second connection too, there and back.
func TestLargeSessionsAreMendedBesideSmallOnes(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	c := f.up(f.path("copies=2"), WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := f.dial(ctx, network, address)
		return &counted{Conn: nc}, err
	}))
	ctx := ctxOf(t)
	id := newID()
	data := bytes.Repeat([]byte("0123456789abcdef"), 64*bulkSize/16)
	must(t, c.Set(ctx, id, data))
	var firsts []*counted
	nodes := c.view.Load().nodes
	for _, n := range nodes {
		cn := n.pipe.(*pipe).conn.Load()
		cn.mu.Lock()
		firsts = append(firsts, cn.dialed.nc.(*counted))
		cn.mu.Unlock()
	}
	owner := c.Ring().Owners(id)[0]
	do(t, f.servers[owner], "DEL", nodes[owner].key(id), nodes[owner].stampKey(id))
	out, err := c.level(ctx, id, "test")
	if err != nil || !out.whole || out.copied != 1 {
		t.Fatalf("%+v, %v", out.whole, err)
	}
	if do(t, f.servers[owner], "GET", nodes[owner].key(id)) != string(data) {
		t.Error("it was not brought back as it was")
	}
	for i, first := range firsts {
		if n := first.bytes.Load(); n >= int64(len(data)) {
			t.Errorf("%d bytes went over the first connection of node %d", n, i)
		}
	}
}
