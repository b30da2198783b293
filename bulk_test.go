package sessionring

import (
	"bytes"
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
