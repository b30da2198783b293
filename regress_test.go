package sessionring

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// An answer that came is no late one, although nobody was woken for it: beside an owner that hangs one stand-in is
// asked, not two, and nothing waits for the owner that took the write.
func TestAnswerBesideHungOwner(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 4)
	proxies := f.proxied()
	c := f.up(f.path("copies=2"))
	id := idOn(c, 0, 1)
	order := c.Ring().Preference(nil, id)
	proxies[1].Hold()
	must(t, c.Set(ctxOf(t), id, []byte("v")))
	proxies[1].Release()
	nodes := c.view.Load().nodes
	key := nodes[0].key(id)
	if do(t, f.servers[order[2]], "EXISTS", key) != int64(1) {
		t.Fatal("the owner did not hang: nothing was tested")
	}
	if do(t, f.servers[order[3]], "EXISTS", key) != int64(0) {
		t.Error("a second stand-in was written to")
	}
	for i, s := range f.servers {
		if do(t, s, "SISMEMBER", nodes[i].hintKey(nodes[0]), id) == int64(1) {
			t.Errorf("node %d names the owner that took the write", i)
		}
	}
}

// With one copy, a stand-in's copy without a hint is never found again: it would come back when its owner is away.
func TestStandInBesideReturnedOwnerIsNamed(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 4)
	other := f.servers[3]
	f.servers, f.names = f.servers[:3], f.names[:3]
	proxies := f.proxied()
	c := f.up(f.path("copies=1"))
	id := idOn(c, 0)
	// The owner is another process when this write reaches it.
	f.lead(0, other.Addr())
	proxies[0].CloseConns()
	must(t, c.Set(ctxOf(t), id, []byte("v")))
	nodes := c.view.Load().nodes
	if do(t, other, "EXISTS", nodes[0].key(id)) != int64(1) {
		t.Fatal("the owner does not hold it")
	}
	for i, s := range f.servers[1:] {
		n := nodes[i+1]
		if do(t, s, "EXISTS", n.key(id)) == int64(1) && do(t, s, "SISMEMBER", n.hintKey(nodes[0]), id) == int64(0) {
			t.Errorf("node %d holds a copy and no hint beside it", i+1)
		}
	}
}

// A connection that a probe made is written to by its own goroutine until that finds nothing to write; what a
// request leaves to it just then must not be lost. Under the race detector one round is enough to see it.
func TestFirstCommandOfAdoptedConnection(t *testing.T) {
	t.Parallel()
	for range 300 {
		near, far := net.Pipe() // no socket: all commands are left to the connection's goroutine
		go func() {
			r := bufio.NewReader(far)
			for {
				if _, err := r.ReadString('G'); err != nil { // of PING
					return
				}
				_, _ = io.WriteString(far, "+PONG\r\n")
			}
		}()
		var wg sync.WaitGroup
		p := &pipe{wg: &wg, up: func(*conn) {}, down: func(error) {}}
		p.adopt(&dialed{nc: near, release: func() { near.Close() }})
		cn := p.conn.Load()
		for writing := true; writing; {
			cn.mu.Lock()
			writing = cn.writing
			cn.mu.Unlock()
		}
		o := newOp()
		if cn := p.send(&call{op: o, want: 1}, appendCommand(nil, "PING")); cn != nil {
			cn.flush()
		}
		select {
		case <-o.wake:
		case <-time.After(patient):
			t.Fatal("the command was lost")
		}
		p.close()
		far.Close()
		wg.Wait()
	}
}

// In PHP's layout nothing but the order of commands tells which write is the later one.
func TestPlainWritesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	proxies := f.proxied()
	c := f.up(f.path("distribution=phpredis"))
	id := newID()
	must(t, c.Set(ctxOf(t), id, bytes.Repeat([]byte("w"), 1<<20))) // all connections are made
	proxies[0].Throttle(512<<10, redistest.ToServer)
	short, cancel := context.WithTimeout(ctxOf(t), 500*time.Millisecond)
	defer cancel()
	_ = c.Set(short, id, bytes.Repeat([]byte("v"), 1<<20)) // given up on, half-way to the node
	must(t, c.Set(ctxOf(t), id, []byte("later")))
	for _, p := range proxies {
		must(t, p.Pass())
	}
	for range 50 {
		got, err := c.Get(ctxOf(t), id)
		if err != nil || string(got) != "later" {
			t.Fatalf("went back to %d older bytes: %v", len(got), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// What stands on a stand-in from long ago is no answer while the owners are merely slow: they are waited for.
func TestLeftoverIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, copies := range []int{1, 2} {
		t.Run(strconv.Itoa(copies), func(t *testing.T) {
			f := startFleet(t, 3)
			proxies := f.proxied()
			var downs atomic.Int64
			c := f.up(f.path("copies="+strconv.Itoa(copies)), WithHooks(Hooks{StateChange: func(s StateChange) {
				if s.To == StateDown {
					downs.Add(1)
				}
			}}))
			id := idOn(c, 0, 1)
			nodes := c.view.Load().nodes
			old := c.clock.nextStamp()
			must(t, c.Set(ctxOf(t), id, []byte("new")))
			order := c.Ring().Preference(nil, id)
			owners, leftover := order[:copies], order[copies]
			eventually(t, func() error {
				do(t, f.servers[leftover], "SET", nodes[leftover].key(id), "old")
				do(t, f.servers[leftover], "SET", nodes[leftover].stampKey(id), old)
				waitUp(t, c)
				before := downs.Load()
				for _, owner := range owners {
					proxies[owner].Hold(redistest.ToClient)
				}
				// Slower than an operation's patience, quicker than what makes a node go down.
				wait := c.patience(c.conf.deadline, 3, copies)
				time.AfterFunc(wait+wait/4, func() {
					for _, owner := range owners {
						proxies[owner].Release()
					}
				})
				begun := time.Now()
				got, err := c.Get(ctxOf(t), id)
				took := time.Since(begun)
				time.Sleep(wait / 2) // let the release come first, if it has not
				if downs.Load() > before || took > 2*wait {
					return fmt.Errorf("a machine too busy for this: %v, and %d owners were found down", took, downs.Load()-before)
				}
				if err != nil || string(got) != "new" {
					t.Fatalf("%q, %v", got, err)
				}
				return nil
			})
		})
	}
}

// cutOn breaks the connection when what is about to be written says so.
type cutOn struct {
	net.Conn
	cut func(b []byte) bool
}

func (c cutOn) Write(b []byte) (int, error) {
	if c.cut(b) {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Write(b)
}

// A node has a newer stamp, and when it is asked for the value it is gone. Nobody else has that version: what others
// hold is older, and no answer.
func TestOlderThanAStampThatWasSeen(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	var gone atomic.Bool
	var key atomic.Pointer[string]
	c := f.up(f.path("copies=2"), WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != f.names[1] {
			return f.dial(ctx, network, address)
		}
		if gone.Load() {
			return nil, syscall.ECONNREFUSED
		}
		nc, err := f.dial(ctx, network, address)
		return cutOn{nc, func(b []byte) bool {
			k := key.Load()
			if k != nil && bytes.Contains(b, []byte("MGET")) && bytes.Contains(b, []byte(*k)) {
				gone.Store(true)
			}
			return gone.Load()
		}}, err
	}))
	id := idOn(c, 0, 1)
	ctx := ctxOf(t)
	must(t, c.Set(ctx, id, []byte("old")))
	n := c.view.Load().nodes[1]
	stampText := c.clock.nextStamp()
	do(t, f.servers[1], "SET", n.stampKey(id), stampText)
	do(t, f.servers[1], "SET", n.key(id), "new")
	value := n.key(id)
	key.Store(&value)
	got, err := c.Get(ctx, id)
	if !gone.Load() {
		t.Fatalf("the node was not asked for the value: nothing was tested (%q, %v)", got, err)
	}
	if !errors.Is(err, ErrNoNode) || errors.Is(err, ErrNotFound) {
		t.Errorf("%q, %v", got, err)
	}
	key.Store(nil)
	gone.Store(false)
	waitUp(t, c)
	if got, err := c.Get(ctx, id); err != nil || string(got) != "new" {
		t.Errorf("when it is back: %q, %v", got, err)
	}
}

// The same, but the node is only slow, and so under suspicion: it is waited for.
func TestSlowNodeWithTheNewest(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	p := redistest.ProxyTo(t, f.servers[1])
	var key atomic.Pointer[string]
	var held atomic.Bool
	var downs atomic.Int64
	c := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: func(s StateChange) {
		if s.To == StateDown {
			downs.Add(1)
		}
	}}), WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != f.names[1] {
			return f.dial(ctx, network, address)
		}
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", p.Addr())
		return cutOn{nc, func(b []byte) bool {
			if k := key.Load(); k != nil && bytes.Contains(b, []byte("MGET")) && bytes.Contains(b, []byte(*k)) && !held.Swap(true) {
				p.Hold(redistest.ToClient)
			}
			return false
		}}, err
	}))
	id := idOn(c, 0, 1)
	ctx := ctxOf(t)
	n := c.view.Load().nodes[1]
	value := n.key(id)
	wait := c.patience(c.conf.deadline, 3, 2)
	eventually(t, func() error {
		waitUp(t, c)
		do(t, f.servers[1], "DEL", value, n.stampKey(id))
		must(t, c.Set(ctx, id, []byte("old")))
		do(t, f.servers[1], "SET", n.stampKey(id), c.clock.nextStamp())
		do(t, f.servers[1], "SET", value, "new")
		before := downs.Load()
		held.Store(false)
		key.Store(&value)
		time.AfterFunc(wait+wait/2, p.Release)
		got, err := c.Get(ctx, id)
		key.Store(nil)
		time.Sleep(wait) // let the release come first, if it has not
		switch {
		case !held.Load():
			return fmt.Errorf("it was not asked for the value: %q, %v", got, err)
		case err == nil && string(got) != "new":
			t.Fatalf("older: %q", got)
		case downs.Load() > before:
			return fmt.Errorf("a machine too busy for this: %v", err)
		case err != nil:
			t.Fatal(err)
		}
		return nil
	})
}

// Both owners are late, and are waited for since a stand-in alone answered. One of them answers: the other may hang on.
func TestOneOwnerOfTwoLateIsEnough(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	proxies := f.proxied()
	var downs atomic.Int64
	c := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: func(s StateChange) {
		if s.To == StateDown {
			downs.Add(1)
		}
	}}))
	id := idOn(c, 0, 1)
	nodes := c.view.Load().nodes
	old := c.clock.nextStamp()
	must(t, c.Set(ctxOf(t), id, []byte("new")))
	wait := c.patience(c.conf.deadline, 3, 2)
	for late := range 2 {
		eventually(t, func() error {
			do(t, f.servers[2], "SET", nodes[2].key(id), "old")
			do(t, f.servers[2], "SET", nodes[2].stampKey(id), old)
			waitUp(t, c)
			before := downs.Load()
			proxies[0].Hold(redistest.ToClient)
			proxies[1].Hold(redistest.ToClient)
			defer proxies[1-late].Release()
			time.AfterFunc(wait+wait/4, proxies[late].Release)
			begun := time.Now()
			got, err := c.Get(ctxOf(t), id)
			// What hangs is given up on after three times that wait.
			if took := time.Since(begun); took > 2*wait || downs.Load() > before {
				return fmt.Errorf("the other owner was waited for, or the machine is too busy for this: %v, %q, %v", took, got, err)
			}
			if err != nil || string(got) != "new" {
				t.Fatalf("%q, %v", got, err)
			}
			return nil
		})
	}
}

// A pass that began before Reconfigure gave a node another timeout or password goes on with the node as it was. What it
// works on is an owner's copy all the same, and not a stray that all owners surpass: the session once was gone from both.
func TestPassOfANodeThatWasReplaced(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	c := f.up(f.path("copies=2"))
	id := newID()
	must(t, c.Set(ctx, id, []byte("here")))
	before := c.view.Load()
	must(t, c.Reconfigure(ctx, strings.ReplaceAll(f.path("copies=2"), "timeout=5", "timeout=6")))
	waitUp(t, c)
	after := c.view.Load()
	for i, old := range before.nodes {
		if after.nodes[i] == old {
			t.Fatal("the node was not replaced: this test sees nothing")
		}
		out, err := c.level(ctx, id, "rejoin", old)
		must(t, err)
		if at, asked := out.at(old); !asked || !at.owner || !at.ok {
			t.Errorf("node %d: asked %v, %+v", i, asked, at)
		}
		if !after.owns(old, id) {
			t.Errorf("node %d is no owner any more", i)
		}
	}
	for i, s := range f.servers {
		if v := do(t, s, "GET", DefaultPrefix+id); v != "here" {
			t.Errorf("node %d holds %v", i, v)
		}
	}
	// The other way about: a node's hints name the owner that missed them, not its twin.
	must(t, f.servers[1].Kill())
	waitState(t, c, StateDown, 1)
	must(t, c.Set(ctx, id, []byte("newer")))
	tally := &tally{}
	must(t, c.settleHint(ctx, before.nodes[0], after.nodes[0], id, tally))
	if v := do(t, f.servers[0], "GET", DefaultPrefix+id); v != "newer" {
		t.Errorf("node 0 holds %v", v)
	}
}

// A host that is called by another name has not become another: its copies are no strays.
func TestPassOfANodeByItsOtherName(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	named := func(host string) string {
		var entries []string
		for _, s := range f.servers {
			entries = append(entries, "tcp://"+strings.Replace(s.Addr(), "127.0.0.1", host, 1)+"?copies=2&"+unhurried)
		}
		return strings.Join(entries, ", ")
	}
	old, c := openTest(t, named("127.0.0.1")), openTest(t, named("localhost"))
	waitUp(t, old)
	waitUp(t, c)
	id := newID()
	must(t, c.Set(ctx, id, []byte("here")))
	for _, n := range old.view.Load().nodes {
		_, err := c.level(ctx, id, "move", n)
		must(t, err)
	}
	for i, s := range f.servers {
		if v := do(t, s, "GET", DefaultPrefix+id); v != "here" {
			t.Errorf("node %d holds %v", i, v)
		}
	}
}
