package sessionring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// The replies of a connection belong to the commands in their order. After a timeout, a cancelled request or a broken
// connection the next caller must not get the answer meant for the one before: that would be another user's session.
// Each session holds its own id, so one foreign answer is enough to see it.
func TestAnswersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	reads := int64(60_000)
	if testing.Short() || ringUnderRace {
		reads = 10_000
	}
	end := time.Now().Add(patient)                    // on a machine so slow that most time out: what it managed by then
	if s := os.Getenv("SESSIONRING_READS"); s != "" { // the million of the case, by hand
		reads, _ = strconv.ParseInt(s, 10, 64)
		end = time.Now().Add(time.Hour)
	}
	f := startFleet(t, 3)
	direct := f.up(f.path("copies=2"))
	ctx := ctxOf(t)
	var ids [400]string
	for i := range ids {
		ids[i] = newID()
		must(t, direct.Set(ctx, ids[i], []byte(ids[i])))
	}
	proxies := f.proxied()
	const readTimeout = 60 * time.Millisecond
	c := f.open(strings.ReplaceAll(f.path("copies=2"), unhurried, "timeout=0.06&read_timeout=0.06"), WithDeadline(4*readTimeout))

	stop := make(chan struct{})
	var weather sync.WaitGroup
	weather.Go(func() {
		for {
			// Around the patience and the timeouts of the client, with and without broken connections; one node at
			// a time, so that most reads are answered.
			p := proxies[rand.IntN(len(proxies))]
			switch rand.IntN(5) {
			case 0:
				p.Delay(2*readTimeout, readTimeout)
			case 1, 2:
				p.Delay(readTimeout/3, readTimeout/3, redistest.ToClient)
			case 3:
				p.CutAfter(redistest.ToClient, rand.Int64N(3000), 1)
			case 4:
				p.ResetConns()
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(80)) * time.Millisecond):
			}
			_ = p.Pass()
		}
	})
	var answered, foreign, missing, cancelled atomic.Int64
	failures := sync.Map{}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for answered.Load() < reads && time.Now().Before(end) {
				id := ids[rand.IntN(len(ids))]
				ctx, cancel := context.WithCancel(context.Background())
				if rand.IntN(3) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(80))*time.Millisecond, cancel)
				}
				var got []byte
				var err error
				if rand.IntN(20) == 0 {
					err = c.Set(ctx, id, []byte(id))
					got = []byte(id)
				} else {
					got, err = c.Get(ctx, id)
				}
				switch {
				case err == nil && string(got) == id:
					answered.Add(1)
				case err == nil:
					foreign.Add(1)
				case errors.Is(err, context.Canceled):
					cancelled.Add(1)
				case errors.Is(err, ErrNotFound) && !errors.Is(err, ErrOwnerAway):
					missing.Add(1)
				case errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoNode):
					time.Sleep(time.Millisecond) // nobody to ask: no busy loop
				default:
					failures.Store(err.Error(), true)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	close(stop)
	weather.Wait()
	t.Logf("%d answered, %d cancelled", answered.Load(), cancelled.Load())
	if n := foreign.Load(); n > 0 {
		t.Errorf("%d answers were another session's", n)
	}
	if n := missing.Load(); n > 0 {
		t.Errorf("%d sessions were said not to exist", n)
	}
	failures.Range(func(k, _ any) bool {
		t.Errorf("failed with %v", k)
		return true
	})
	if cancelled.Load() == 0 || answered.Load() < reads/50 { // a busy machine answers few in time
		t.Error("too little was tested")
	}
	for _, p := range proxies {
		must(t, p.Pass())
	}
	for _, id := range ids {
		eventually(t, func() error {
			got, err := c.Get(ctx, id)
			if err == nil && string(got) != id {
				t.Fatalf("afterwards: %q", got)
			}
			return err
		})
	}
}

// fakeServer answers the handshake like a Redis server, then by the function given, one call a command.
func fakeServer(t testing.TB, serve func(w *bufio.Writer, args []string) bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, nc)
			mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				r, w := respReader{br: bufio.NewReader(nc)}, bufio.NewWriter(nc)
				for {
					replies, err := r.readReply(nil)
					if err != nil {
						return
					}
					var args []string
					for _, x := range replies[1:] {
						args = append(args, string(x.b))
					}
					switch strings.ToUpper(args[0]) {
					case "HELLO":
						fmt.Fprintf(w, "-ERR unknown command\r\n")
					case "INFO":
						info := "run_id:0123456789\r\nredis_version:7.0.0\r\nrole:master\r\ncluster_enabled:0\r\nloading:0\r\n"
						fmt.Fprintf(w, "$%d\r\n%s\r\n", len(info), info)
					default:
						if !serve(w, args) {
							_ = w.Flush()
							return
						}
					}
					if err := w.Flush(); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, nc := range conns {
			nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// Whatever listens there is no Redis server, or one gone mad: an error, never a session.
func TestNoRedisServer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"HTTP": "HTTP/1.1 400 Bad Request\r\n\r\n", "too many replies": "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n", "a length without end": "$536870912\r\n",
		"RESP3": "%1\r\n+a\r\n+b\r\n", "nothing at all": "", "zeros": "\x00\x00\x00\x00\r\n", "another shape": "*2\r\n*2\r\n:1\r\n:2\r\n:3\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fakeServer(t, func(w *bufio.Writer, args []string) bool {
				if args[0] == "GET" && args[1] == markKey {
					fmt.Fprint(w, "$-1\r\n")
					return true
				}
				fmt.Fprint(w, answer)
				return true
			})
			c := openTest(t, "tcp://"+addr+"?distribution=phpredis", WithDeadline(300*time.Millisecond))
			for range 3 {
				if got, err := c.Get(ctxOf(t), newID()); err == nil {
					t.Errorf("Get gives %q", got)
				}
				if err := c.Touch(ctxOf(t), newID()); err == nil && name != "too many replies" {
					t.Error("Touch succeeds")
				}
			}
			must(t, c.Close())
		})
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	c := openTest(t, "tcp://"+silent.Addr().String()+"?read_timeout=0.1", WithDeadline(300*time.Millisecond))
	if _, err := c.Get(ctxOf(t), newID()); !errors.Is(err, ErrNoNode) || !errors.Is(err, ErrTimeout) {
		t.Errorf("accepted and silent: %v", err)
	}
}

// A node that takes nothing in any more does not fill this process's memory: what finds no room is refused at once.
func TestPipeIsBounded(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	release := make(chan struct{})
	addr := fakeServer(t, func(w *bufio.Writer, args []string) bool {
		if stuck.Load() {
			<-release
		}
		fmt.Fprint(w, "$-1\r\n")
		return true
	})
	t.Cleanup(func() { close(release) })
	c := openTest(t, "tcp://"+addr+"?distribution=phpredis&read_timeout=20", WithDeadline(20*time.Second))
	waitUp(t, c)
	stuck.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	data := make([]byte, 4<<20)
	var overloaded, others atomic.Int64
	var wg sync.WaitGroup
	for range 40 { // 160 MB, far more than the sockets and the pipe take
		wg.Go(func() {
			err := c.Set(ctx, newID(), data)
			if errors.Is(err, ErrOverloaded) {
				overloaded.Add(1)
			} else {
				others.Add(1)
			}
		})
	}
	eventually(t, func() error {
		if overloaded.Load() == 0 {
			return errors.New("160 MB wait for a node that takes nothing in")
		}
		return nil
	})
	cancel()
	wg.Wait()
}

// A large session on its way is no sign of a hung node, and a small one behind it waits instead of failing over.
func TestLargeSessionsOverSlowLink(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	proxies := f.proxied()
	var states stateLog
	c := f.up(f.path("copies=1"), WithDeadline(patient), WithHooks(Hooks{StateChange: states.add}))
	ctx := ctxOf(t)
	id, small := idOn(c, 0), idOn(c, 0)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	must(t, c.Set(ctx, id, data))
	must(t, c.Set(ctx, small, []byte("s")))
	before := len(states.all())
	proxies[0].Throttle(1 << 20) // four seconds for what follows, longer than the watcher's patience
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got, err := c.Get(ctx, id); err != nil || string(got) != string(data) {
				t.Errorf("the large one: %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Go(func() {
		if got, err := c.Get(ctx, small); err != nil || string(got) != "s" {
			t.Errorf("the small one: %q, %v", got, err)
		}
	})
	wg.Wait()
	for _, s := range states.all()[before:] {
		if s.To == StateDown {
			t.Errorf("%s is down: %v", s.Node, s.Cause)
		}
	}
}

// The server carried a command out, and the connection broke before its client heard of it. The client asks again on a
// new connection; what was done already must not count as somebody else's doing.
func TestRepliesThatAreLost(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	proxies := f.proxied()
	ctx := ctxOf(t)
	for _, params := range []string{"copies=1", "copies=2", "distribution=phpredis"} {
		t.Run(params, func(t *testing.T) {
			c := f.up(f.path(params), WithLockWait(patient/3))
			lose := func(id string) {
				proxies[c.Ring().Owner(id)].CutAfter(redistest.ToClient, 0, 1)
			}
			for i := range 10 {
				id := newID()
				lose(id)
				if err := c.Set(ctx, id, []byte("1")); err != nil {
					t.Fatalf("Set: %v", err)
				}
				lose(id)
				if got, err := c.Get(ctx, id); err != nil || string(got) != "1" {
					t.Fatalf("Get: %q, %v", got, err)
				}
				lose(id)
				if err := c.Touch(ctx, id); err != nil {
					t.Fatalf("Touch: %v", err)
				}
				it, err := c.Load(ctx, id, GetOptions{})
				must(t, err)
				lose(id)
				_, err = c.Store(ctx, id, []byte("2"), SetOptions{IfVersion: &it.Version})
				if params == "distribution=phpredis" && errors.Is(err, ErrConflict) {
					err = nil // by its data alone a write of one's own cannot be told from another's
				}
				if err != nil {
					t.Fatalf("Store by version: %v", err)
				}
				if got, err := c.Get(ctx, id); err != nil || string(got) != "2" {
					t.Fatalf("Get: %q, %v", got, err)
				}
				lose(id)
				l, err := c.Lock(ctx, id)
				if err != nil {
					t.Fatalf("Lock %d: %v", i, err)
				}
				lose(id)
				if _, err := c.Store(ctx, id, []byte("3"), SetOptions{Lock: l}); err != nil {
					t.Fatalf("Store under a lock: %v", err)
				}
				lose(id)
				if err := l.Unlock(ctx); err != nil && !errors.Is(err, ErrLockLost) {
					t.Fatalf("Unlock: %v", err)
				}
				if n := do(t, f.servers[c.Ring().Owner(id)], "EXISTS", lockKey(id)); n != int64(0) {
					t.Fatal("the lock is still there")
				}
				lose(id)
				if err := c.Delete(ctx, id); err != nil {
					t.Fatalf("Delete: %v", err)
				}
				if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
					t.Fatalf("after Delete: %v", err)
				}
				for _, p := range proxies {
					must(t, p.Pass())
				}
			}
			for _, n := range c.Nodes() {
				if n.State == StateDown {
					t.Errorf("%s is down: %v", n.Node, n.LastErr)
				}
			}
		})
	}
}
