//go:build unix

package redistest

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// through connects to a server by way of a proxy.
func through(t *testing.T, p *Proxy) *Conn {
	t.Helper()
	c, err := Dial(testContext(t), "tcp", p.Addr())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func wantPong(t *testing.T, c *Conn) {
	t.Helper()
	if v, err := c.Do(testContext(t), "PING"); v != "PONG" || err != nil {
		t.Fatalf("PING = %v, %v", v, err)
	}
}

// wantSilence checks that a command gets no answer. The wait is short: on a
// slow machine the test can only miss a fault, not report a wrong one.
func wantSilence(t *testing.T, c *Conn, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if v, err := c.Do(ctx, args...); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("answered %v, %v", v, err)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func TestProxyPassesAndCounts(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	big := strings.Repeat("x", 3<<20) // more than any queue
	if v, err := c.Do(testContext(t), "SET", "k", big); v != "OK" {
		t.Fatal(err)
	}
	if v, err := c.Do(testContext(t), "GET", "k"); v != big {
		t.Fatalf("%d bytes came back, %v", len(v.(string)), err)
	}
	st := p.Stats()
	if st.Accepted != 1 || st.Open != 1 || st.ToServer < 3<<20 || st.ToClient < 3<<20 || st.Held != 0 {
		t.Errorf("counted %+v", st)
	}
	c.Close()
	eventually(t, func() bool { return p.Stats().Open == 0 })

	u, err := NewProxy("unix://"+s.UnixSocket(), ProxyOptions{})
	must(t, err)
	defer u.Close()
	wantPong(t, through(t, u))
}

func TestProxyCutAndReset(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	wantPong(t, c)
	must(t, p.Cut())
	if _, err := c.Do(testContext(t), "PING"); err == nil {
		t.Error("cut connection answers")
	}
	if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling a cut proxy: %v", err)
	}
	must(t, p.Pass())
	c = through(t, p)
	wantPong(t, c)
	must(t, p.Reset())
	if _, err := c.Receive(testContext(t)); !isReset(err) {
		t.Errorf("existing connection: %v, want reset", err)
	}
	// The reset may come before connect(2) returns.
	nc, err := net.Dial("tcp", p.Addr())
	if err == nil {
		_, err = nc.Read(make([]byte, 1))
		nc.Close()
	}
	if !isReset(err) {
		t.Errorf("new connection: %v, want reset", err)
	}
	must(t, p.Pass())
	wantPong(t, through(t, p))
}

func TestProxyServerDown(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	wantPong(t, c)
	must(t, s.Kill())
	if _, err := c.Receive(testContext(t)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("connection to a killed server: %v", err)
	}
	// The reset may come before connect(2) returns.
	if c, err := Dial(testContext(t), "tcp", p.Addr()); err == nil {
		if _, err := c.Do(testContext(t), "PING"); err == nil {
			t.Error("a dead server answers")
		}
		c.Close()
	}
	must(t, s.Restart(testContext(t)))
	wantPong(t, through(t, p))
}

func TestProxyBlackhole(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)

	up := through(t, p)
	wantPong(t, up)
	p.Blackhole(ToServer)
	wantSilence(t, up, "SET", "up", "1")

	must(t, p.Pass())
	down := through(t, p)
	wantPong(t, down)
	p.Blackhole(ToClient)
	wantSilence(t, down, "SET", "down", "1")

	p.Blackhole()
	fresh := through(t, p) // still accepted
	wantSilence(t, fresh, "SET", "fresh", "1")

	must(t, p.Pass())
	wantSilence(t, up, "SET", "up", "2") // its stream has a hole
	wantPong(t, through(t, p))
	wantGet(t, s, "up", nil)
	wantGet(t, s, "down", "1") // carried out, only the reply was lost
	wantGet(t, s, "fresh", nil)
}

func TestProxyHoldAndRelease(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	wantPong(t, c)
	p.Hold(ToServer)
	wantSilence(t, c, "SET", "k", "held")
	if p.Stats().Held == 0 {
		t.Error("nothing is held")
	}
	wantGet(t, s, "k", nil)
	p.Release()
	if v, err := c.Receive(testContext(t)); v != "OK" {
		t.Fatalf("reply after release: %v, %v", v, err)
	}
	wantGet(t, s, "k", "held")
}

func TestProxyAppliesHeldBytesAfterTheirClientHasGone(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	wantPong(t, c)
	p.Hold(ToServer)
	must(t, c.Send(testContext(t), "INCR", "n"))
	must(t, c.Send(testContext(t), "INCR", "n"))
	wantSilence(t, c, "SET", "k", "old")
	c.Close()

	held := p.TakeHeld()
	must(t, p.Pass())
	other := through(t, p)
	if v, err := other.Do(testContext(t), "SET", "k", "new"); v != "OK" {
		t.Fatalf("another client: %v, %v", v, err)
	}
	p.CloseConns()
	if held.Bytes() == 0 {
		t.Fatal("nothing held any more")
	}
	wantGet(t, s, "k", "new")
	// Slowly, so that replies find no client while commands are on their way.
	p.Throttle(500, ToServer)
	held.Release()
	held.Release()
	eventually(t, func() bool { return do(t, s, "GET", "k") == "old" })
	eventually(t, func() bool { return p.Stats().Open == 0 })
}

func TestProxyIgnoresConnections(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	wantPong(t, c)
	must(t, p.Partition())
	for range 3 {
		_, err := net.DialTimeout("tcp", p.Addr(), 100*time.Millisecond)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Fatalf("dialling into a partition: %v, want a time-out", err)
		}
	}
	wantSilence(t, c, "SET", "k", "v")
	must(t, p.Pass())
	if v, err := c.Receive(testContext(t)); v != "OK" {
		t.Errorf("a connection that outlived the partition: %v, %v", v, err)
	}
	wantPong(t, through(t, p))
	if n := p.Stats().Accepted; n != 2 {
		t.Errorf("counted %d connections, want 2", n)
	}
}

func TestProxyDelayAndThrottle(t *testing.T) {
	s := Node(t)
	p := ProxyTo(t, s)
	c := through(t, p)
	wantPong(t, c)
	took := func() time.Duration {
		start := time.Now()
		wantPong(t, c)
		return time.Since(start)
	}
	p.Delay(60*time.Millisecond, 10*time.Millisecond)
	if d := took(); d < 100*time.Millisecond {
		t.Errorf("two ways of 50 ms and more took %v", d)
	}
	// Latency, not rate: what is sent together arrives together.
	start := time.Now()
	for range 20 {
		must(t, c.Send(testContext(t), "PING"))
	}
	for range 20 {
		_, err := c.Receive(testContext(t))
		must(t, err)
	}
	if d := time.Since(start); d > 1500*time.Millisecond {
		t.Errorf("20 pipelined commands took %v", d)
	}
	p.Delay(0, 0)

	do(t, s, "SET", "k", strings.Repeat("x", 20_000))
	p.Throttle(100_000, ToClient)
	start = time.Now()
	if _, err := c.Do(testContext(t), "GET", "k"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 150*time.Millisecond {
		t.Errorf("20 kB at 100 kB/s took %v", d)
	}
}

func TestProxyCutAfter(t *testing.T) {
	ctx := testContext(t)
	s := Node(t)
	p := ProxyTo(t, s)
	do(t, s, "SET", "k", "0123456789")

	// In the middle of a reply.
	p.CutAfter(ToClient, 8, 1)
	nc, err := net.Dial("tcp", p.Addr())
	must(t, err)
	defer nc.Close()
	must(t, NewConn(nc).Send(ctx, "GET", "k"))
	got, _ := io.ReadAll(nc)
	if string(got) != "$10\r\n012" {
		t.Errorf("before the cut came %q", got)
	}
	// Only once.
	if v, err := through(t, p).Do(ctx, "GET", "k"); v != "0123456789" {
		t.Errorf("after the one cut: %v, %v", v, err)
	}

	// After the command is carried out, before its client knows.
	c := through(t, p)
	wantPong(t, c)
	p.CutAfter(ToClient, 0, 0)
	for i := range 2 {
		if _, err := c.Do(ctx, "INCR", "n"); !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("lost reply: %v", err)
		}
		if i == 0 {
			c = through(t, p)
		}
	}
	wantGet(t, s, "n", "2")

	p.SetLink(ToClient, Link{Cut: true, CutReset: true})
	if _, err := through(t, p).Do(ctx, "PING"); !isReset(err) {
		t.Errorf("cut with a reset: %v", err)
	}
	must(t, p.Pass())
	wantPong(t, through(t, p))
}

func TestProxyCloseWaits(t *testing.T) {
	s := Node(t)
	before := runtime.NumGoroutine()
	p := ProxyTo(t, s)
	var conns []*Conn
	for range 10 {
		c := through(t, p)
		wantPong(t, c)
		conns = append(conns, c)
	}
	p.Hold(ToClient)
	for _, c := range conns[:5] {
		must(t, c.Send(testContext(t), "PING"))
	}
	must(t, s.Pause())
	p.Hold(ToServer)
	for _, c := range conns[5:] {
		must(t, c.Send(testContext(t), "PING"))
	}
	must(t, p.Partition())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, p.Close())
	if err := p.SetAccept(AcceptAll); !errors.Is(err, net.ErrClosed) {
		t.Errorf("change after Close: %v", err)
	}
	// Goroutines of the runtime's timers and of the server may come and go.
	if after := runtime.NumGoroutine(); after > before+2 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}
