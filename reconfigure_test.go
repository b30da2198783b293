package sessionring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// shortSilence lets a previous node list go sooner than an operator's client would.
func shortSilence(c *config) { c.ringSilence = 3 * time.Second }

func waitDrained(t *testing.T, clients ...*Client) {
	t.Helper()
	for until := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		busy := false
		for _, c := range clients {
			d, _ := c.Draining()
			busy = busy || d
		}
		if !busy {
			return
		}
		if time.Now().After(until) {
			for _, c := range clients {
				d, p := c.Draining()
				t.Logf("draining %v: %+v", d, p)
			}
			t.Fatal("the previous node list is still in use")
		}
	}
}

// Two clients change over at different moments, and meanwhile see each other's writes: between rings, from
// PHP's layout and back to it.
func TestClientsChangeOverOneAfterAnother(t *testing.T) {
	t.Parallel() // it waits for most of its time
	for _, copies := range []int{1, 2} {
		for _, change := range []struct{ name, from, to string }{
			{"ring to ring", "consistent", "consistent"},
			{"php to ring", "phpredis", "consistent"},
			{"ring to php", "consistent", "phpredis"},
			{"php to php", "phpredis", "phpredis"},
		} {
			t.Run(fmt.Sprintf("%s, copies=%d", change.name, copies), func(t *testing.T) {
				t.Parallel()
				nodes := redistest.Nodes(t, 4)
				ctx := context.Background()
				before := redistest.SavePath(nodes[:3], unhurried, "distribution="+change.from)
				after := redistest.SavePath(nodes[2:], unhurried, "distribution="+change.to)
				x := openTest(t, before, WithCopies(copies), shortSilence)
				y := openTest(t, before, WithCopies(copies), shortSilence)
				ids := make([]string, 120)
				for i := range ids {
					ids[i] = fmt.Sprintf("%04dsess%024d", i*7919%10000, i)
				}
				write := func(c *Client, data string) {
					t.Helper()
					for _, id := range ids[1:] {
						if err := c.Set(ctx, id, []byte(data)); err != nil {
							t.Fatal(err)
						}
					}
				}
				read := func(c *Client, want string) {
					t.Helper()
					for i, id := range ids[1:] {
						if data, err := c.Get(ctx, id); err != nil || string(data) != want {
							copies, _ := c.Explain(ctx, id)
							t.Fatalf("session %d: %q, %v, want %q\n%+v", i+1, data, err, want, copies)
						}
					}
				}
				write(x, "v0")
				if err := x.Set(ctx, ids[0], []byte("v0")); err != nil {
					t.Fatal(err)
				}
				if err := x.Delete(ctx, ids[0]); err != nil {
					t.Fatal(err)
				}
				if err := x.Reconfigure(ctx, after); err != nil {
					t.Fatal(err)
				}
				read(x, "v0")
				write(y, "v1")
				read(x, "v1")
				write(x, "v2")
				read(y, "v2")
				write(y, "v3")
				if err := y.Delete(ctx, ids[len(ids)-1]); err != nil {
					t.Fatal(err)
				}
				if _, err := x.Get(ctx, ids[len(ids)-1]); !errors.Is(err, ErrNotFound) {
					t.Errorf("destroyed by a client that has not changed over: %v", err)
				}
				ids = ids[:len(ids)-1]
				if err := y.Reconfigure(ctx, after); err != nil {
					t.Fatal(err)
				}
				read(y, "v3")
				read(x, "v3")
				waitDrained(t, x, y)
				read(x, "v3")
				read(y, "v3")
				if _, err := x.Get(ctx, ids[0]); !errors.Is(err, ErrNotFound) {
					t.Errorf("destroyed before the change: %v", err)
				}
			})
		}
	}
}

// What moves nothing: another order, timeout or password.
func TestReconfigureWithoutMove(t *testing.T) {
	t.Parallel()
	nodes := redistest.Nodes(t, 2)
	c := openTest(t, redistest.SavePath(nodes, unhurried))
	ctx := context.Background()
	if err := c.Set(ctx, "abcdefgh", []byte("here")); err != nil {
		t.Fatal(err)
	}
	if err := c.Reconfigure(ctx, redistest.SavePath([]*redistest.Server{nodes[1], nodes[0]}, "timeout=7", "auth=x")); err != nil {
		t.Fatal(err)
	}
	if busy, _ := c.Draining(); busy {
		t.Error("another order and timeout drain nothing")
	}
	if err := c.Reconfigure(ctx, redistest.SavePath(nodes, "timeout=7")); err != nil {
		t.Fatal(err)
	}
	if data, err := c.Get(ctx, "abcdefgh"); err != nil || string(data) != "here" {
		t.Errorf("%q, %v", data, err)
	}
	for _, wrong := range []string{"tcp://", "seed[]=127.0.0.1:1", "sentinel://127.0.0.1:1/m"} {
		if err := c.Reconfigure(ctx, wrong); !errors.Is(err, ErrSavePath) {
			t.Errorf("Reconfigure(%q): %v", wrong, err)
		}
	}
	if data, err := c.Get(ctx, "abcdefgh"); err != nil || string(data) != "here" {
		copies, _ := c.Explain(ctx, "abcdefgh")
		t.Errorf("after refused changes: %q, %v\n%+v\n%+v", data, err, copies, c.Nodes())
	}
}

// Node lists of 1 to 8 nodes in a loop, a node flapping, many workers: no failed operation, nothing lost.
func TestReconfigureUnderLoad(t *testing.T) {
	t.Parallel()
	nodes := redistest.Nodes(t, 8)
	c := openTest(t, redistest.SavePath(nodes[:3], unhurried), WithDeadline(20*time.Second), shortSilence)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var ops atomic.Int64
	const workers = 40
	for w := range workers {
		wg.Go(func() {
			id := fmt.Sprintf("%02dworker%020d", w, w)
			for n := 0; ctx.Err() == nil; n++ {
				want := fmt.Sprintf("%s %d", id, n)
				if err := c.Set(context.Background(), id, []byte(want)); err != nil {
					t.Errorf("worker %d, write %d: %v", w, n, err)
					return
				}
				if data, err := c.Get(context.Background(), id); err != nil || string(data) != want {
					copies, _ := c.Explain(context.Background(), id)
					t.Errorf("worker %d, read %d: %q, %v\n%+v", w, n, data, err, copies)
					return
				}
				ops.Add(2)
			}
		})
	}
	// The flapping node is never the only one of a list.
	flap := nodes[7]
	for round, list := range [][]*redistest.Server{nodes[:1], nodes[:8], nodes[2:4], nodes[3:8], nodes[:3]} {
		if err := c.Reconfigure(context.Background(), redistest.SavePath(list, unhurried)); err != nil {
			t.Fatal(err)
		}
		if round%3 == 1 {
			if err := flap.Kill(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond)
			if err := flap.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(300 * time.Millisecond)
	}
	stop()
	wg.Wait()
	t.Logf("%d operations", ops.Load())
	waitDrained(t, c)
}
