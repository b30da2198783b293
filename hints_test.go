package sessionring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
)

// A hint that goes by itself is lost with its connection. It is sent again; where the node that was to hold it is gone,
// the owner that missed the write is compared with it when both are back.
func TestHintLostWithItsConnection(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]bool{"connection breaks": true, "node is gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, 2)
			slow := redistest.ProxyTo(t, f.servers[0])
			f.lead(0, slow.Addr())
			var armed, cut, gone atomic.Bool
			var states stateLog
			c := f.up(f.path("copies=2"), WithHooks(Hooks{StateChange: states.add}), WithDialer(
				func(ctx context.Context, network, address string) (net.Conn, error) {
					if address != f.names[1] {
						return f.dial(ctx, network, address)
					}
					if gone.Load() {
						return nil, syscall.ECONNREFUSED
					}
					nc, err := f.dial(ctx, network, address)
					return cutOn{nc, func(b []byte) bool {
						if !armed.Load() || !bytes.Contains(b, []byte("SADD")) || cut.Swap(true) {
							return gone.Load()
						}
						gone.Store(!stays)
						return true
					}}, err
				}))
			ctx := ctxOf(t)
			nodes := c.view.Load().nodes
			id := idOn(c, 0, 1)
			must(t, c.Set(ctx, id, []byte("old")))
			armed.Store(true)
			slow.Hold(redistest.ToServer)
			must(t, c.Set(ctx, id, []byte("new")))
			eventually(t, func() error {
				switch {
				case !cut.Load():
					return errors.New("no hint was sent")
				case stays && do(t, f.servers[1], "SISMEMBER", nodes[1].hintKey(nodes[0]), id) != int64(1):
					return errors.New("the hint was not sent again")
				case !stays && nodes[0].health.missing() == 0:
					return errors.New("nobody knows what the owner missed")
				}
				return nil
			})
			if got := do(t, f.servers[0], "GET", nodes[0].key(id)); got != "old" {
				t.Fatalf("the owner holds %v: nothing was tested", got)
			}
			slow.ResetConns() // what was held is lost
			slow.Release()
			armed.Store(false)
			gone.Store(false)
			waitUp(t, c)
			eventually(t, func() error { // and nobody reads it
				if got := do(t, f.servers[0], "GET", nodes[0].key(id)); got != "new" {
					return fmt.Errorf("the owner holds %v", got)
				}
				if n := nodes[0].health.missing(); n > 0 {
					return fmt.Errorf("%d writes are thought to be missing", n)
				}
				return nil
			})
		})
	}
}
