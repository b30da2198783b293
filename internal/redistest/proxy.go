package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Direction is one of the two ways through a Proxy.
type Direction int

const (
	// ToServer is from the client to the server.
	ToServer Direction = iota
	// ToClient is from the server to the client.
	ToClient
)

// Mode is what happens to the bytes of one direction.
type Mode int

const (
	// Forward passes bytes on.
	Forward Mode = iota
	// Hold keeps bytes, and the end of the stream, until the mode changes. It
	// is what a network does that drops packets for a while: TCP sends them
	// again. Held bytes reach the server even if their client has gone.
	Hold
	// Drop swallows bytes for good. A connection that has lost bytes stays
	// silent in that direction afterwards, since what would follow has no
	// beginning.
	Drop
)

// Link describes one direction. The zero value passes everything at once.
type Link struct {
	Mode Mode
	// Delay is added to every piece of data, plus or minus a random part of
	// Jitter; order is kept.
	Delay, Jitter time.Duration
	// BytesPerSecond limits each connection; 0 does not.
	BytesPerSecond int
	// Cut ends a connection once CutAfter bytes of it have passed since the
	// link was last changed, the first time that there are more: with a FIN,
	// or an RST if CutReset.
	Cut      bool
	CutAfter int64
	CutReset bool
	// CutTimes is how many connections are cut before the link stops doing so;
	// 0 means all.
	CutTimes int
}

// Accept is what happens to new connections.
type Accept int

const (
	// AcceptAll connects them to the server.
	AcceptAll Accept = iota
	// Refuse has no listener: connection refused.
	Refuse
	// ResetNew accepts and resets them at once.
	ResetNew
	// Ignore answers no SYN, so that connecting takes until the client gives
	// up. Linux only.
	Ignore
)

// Stats counts what passed a Proxy since it began.
type Stats struct {
	Accepted int64 // connections
	Open     int64 // of these still there
	ToServer int64 // bytes passed on
	ToClient int64 // bytes passed on
	Held     int64 // bytes that wait now, both ways
}

// ProxyOptions are optional.
type ProxyOptions struct {
	// Host is the loopback address to listen on, 127.0.0.1 when empty.
	Host string
}

// Proxy stands between clients and one server and misbehaves on demand. It
// passes everything until told otherwise; every change takes effect at once,
// on connections that exist too. A fault between one client and one server is a
// proxy that only that client uses. Its methods are safe for concurrent use.
type Proxy struct {
	network, target string
	port            *Port
	ctx             context.Context // ends with Close
	cancel          context.CancelFunc
	wg              sync.WaitGroup // sessions

	op       sync.Mutex // changes of the listener, Close
	listener *listener
	closed   bool

	mu       sync.Mutex // guards the fields below
	accept   Accept
	links    [2]Link
	epoch    [2]int // counts changes of links
	cutsLeft [2]int
	sessions map[*session]struct{}
	stats    Stats
}

// NewProxy listens on a port of its own and forwards to target, a host:port or
// the path of a unix socket. It must be closed.
func NewProxy(target string, opts ProxyOptions) (*Proxy, error) {
	p := &Proxy{network: "tcp", target: strings.TrimPrefix(target, "unix://"), sessions: make(map[*session]struct{})}
	if strings.HasPrefix(p.target, "/") {
		p.network = "unix"
	}
	var err error
	if p.port, err = ReservePort(opts.Host); err != nil {
		return nil, err
	}
	if p.listener, err = listen(p.port.Addr(), p.handle); err != nil {
		p.port.Release()
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.listener.serve()
	return p, nil
}

// Addr returns the host:port that clients connect to. It stays the same.
func (p *Proxy) Addr() string { return p.port.Addr() }

// SetLink sets what happens in one direction.
func (p *Proxy) SetLink(dir Direction, l Link) {
	p.change(dir, func(old *Link) { *old = l })
}

// Link returns what happens in one direction.
func (p *Proxy) Link(dir Direction) Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[dir]
}

func (p *Proxy) change(dir Direction, f func(*Link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.links[dir])
	p.epoch[dir]++
	p.cutsLeft[dir] = p.links[dir].CutTimes
	for s := range p.sessions {
		s.pipes[dir].wakeUp()
	}
}

// both is what no direction given means.
func both(dirs []Direction) []Direction {
	if len(dirs) == 0 {
		return []Direction{ToServer, ToClient}
	}
	return dirs
}

// Pass undoes every fault: new connections are accepted, bytes pass, held ones
// first.
func (p *Proxy) Pass() error {
	p.SetLink(ToServer, Link{})
	p.SetLink(ToClient, Link{})
	return p.SetAccept(AcceptAll)
}

// Cut closes all connections and refuses new ones, as a killed server does.
func (p *Proxy) Cut() error {
	err := p.SetAccept(Refuse)
	p.CloseConns()
	return err
}

// Reset resets all connections, and new ones as soon as they are accepted.
func (p *Proxy) Reset() error {
	err := p.SetAccept(ResetNew)
	p.ResetConns()
	return err
}

// Blackhole swallows bytes, both ways unless directions are given. Connections
// are still accepted and stay open and silent.
func (p *Proxy) Blackhole(dirs ...Direction) {
	for _, d := range both(dirs) {
		p.change(d, func(l *Link) { l.Mode = Drop })
	}
}

// Hold keeps bytes back, both ways unless directions are given, until Release
// or Pass.
func (p *Proxy) Hold(dirs ...Direction) {
	for _, d := range both(dirs) {
		p.change(d, func(l *Link) { l.Mode = Hold })
	}
}

// Release ends Hold: what was kept is passed on, in order, whether or not the
// client is still there.
func (p *Proxy) Release() {
	for _, d := range []Direction{ToServer, ToClient} {
		p.change(d, func(l *Link) {
			if l.Mode == Hold {
				l.Mode = Forward
			}
		})
	}
}

// Partition drops all packets between the clients and the server: bytes are
// held both ways and new connections come to nothing. Pass heals it, after
// which connections that are still open go on as TCP would.
func (p *Proxy) Partition() error {
	p.Hold()
	return p.SetAccept(Ignore)
}

// Delay slows each direction, or those given, by d plus or minus jitter.
func (p *Proxy) Delay(d, jitter time.Duration, dirs ...Direction) {
	for _, dir := range both(dirs) {
		p.change(dir, func(l *Link) { l.Delay, l.Jitter = d, jitter })
	}
}

// Throttle limits each connection's bytes per second each way, or in the
// directions given. 0 ends it.
func (p *Proxy) Throttle(bytesPerSecond int, dirs ...Direction) {
	for _, dir := range both(dirs) {
		p.change(dir, func(l *Link) { l.BytesPerSecond = bytesPerSecond })
	}
}

// CutAfter closes each of the next times connections, all when 0, once n more
// bytes of it have gone in the direction: in the middle of a reply, say, or
// with n 0 after the server has carried out a command and before its client
// hears of it.
func (p *Proxy) CutAfter(dir Direction, n int64, times int) {
	p.change(dir, func(l *Link) { l.Cut, l.CutAfter, l.CutTimes = true, n, times })
}

// CloseConns closes all connections, held bytes with them.
func (p *Proxy) CloseConns() { p.abortAll(false, false) }

// ResetConns resets all connections, held bytes lost with them.
func (p *Proxy) ResetConns() { p.abortAll(true, false) }

// abortAll ends all sessions. Of those in the hands of a Held only the client
// loses its connection, unless seized ones are meant too.
func (p *Proxy) abortAll(reset, seized bool) {
	p.mu.Lock()
	all := make([]*session, 0, len(p.sessions))
	for s := range p.sessions {
		all = append(all, s)
	}
	p.mu.Unlock()
	for _, s := range all {
		if !seized && s.pipes[ToServer].isSeized() {
			closeConn(s.client, reset)
			continue
		}
		s.abort(reset)
		<-s.done
	}
}

// SetAccept sets what happens to new connections.
func (p *Proxy) SetAccept(a Accept) error {
	p.op.Lock()
	defer p.op.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	p.mu.Lock()
	before := p.accept
	p.accept = a
	p.mu.Unlock()
	if before == a {
		return nil
	}
	listening := func(a Accept) bool { return a == AcceptAll || a == ResetNew }
	if listening(before) && listening(a) {
		return nil
	}
	p.listener.close()
	p.listener = nil
	var err error
	switch {
	case listening(a):
		if p.listener, err = listen(p.port.Addr(), p.handle); err == nil {
			p.listener.serve()
		}
	case a == Ignore:
		p.listener, err = listenDeaf(p.port.Addr())
	}
	if err != nil {
		// The truth is that nobody listens; a later call may mend it.
		p.mu.Lock()
		p.accept = Refuse
		p.mu.Unlock()
		return fmt.Errorf("redistest: proxy at %s: %w", p.Addr(), err)
	}
	return nil
}

// handle takes one accepted connection. The listener's goroutine calls it.
func (p *Proxy) handle(client net.Conn) {
	p.mu.Lock()
	p.stats.Accepted++
	reset := p.accept == ResetNew
	if reset || p.ctx.Err() != nil {
		p.mu.Unlock()
		closeConn(client, reset)
		return
	}
	s := newSession(p, client)
	p.sessions[s] = struct{}{}
	p.wg.Add(1)
	p.mu.Unlock()
	go func() {
		defer p.wg.Done()
		s.run()
	}()
}

func (p *Proxy) forget(s *session) {
	p.mu.Lock()
	delete(p.sessions, s)
	p.mu.Unlock()
	close(s.done)
}

// Stats returns the counts so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.stats
	st.Open = int64(len(p.sessions))
	for s := range p.sessions {
		for _, pp := range s.pipes {
			st.Held += pp.waiting()
		}
	}
	return st
}

// Close ends the proxy and all its connections, and waits for its goroutines.
// It may be called more than once.
func (p *Proxy) Close() error {
	p.op.Lock()
	defer p.op.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.listener.close()
	p.abortAll(false, true)
	p.wg.Wait()
	p.port.Release()
	return nil
}

// Held are the connections that TakeHeld took out of the proxy's rule.
type Held struct {
	pipes []*pipe
	once  sync.Once
}

// TakeHeld sets apart the connections that hold bytes on the way to the
// server. They go on holding, whatever the proxy does from now on and whatever
// becomes of their clients, until Release or Close: so a server can be given,
// after everybody has moved on, what a client wrote long ago.
func (p *Proxy) TakeHeld() *Held {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &Held{}
	for s := range p.sessions {
		if pp := s.pipes[ToServer]; pp.seize() {
			h.pipes = append(h.pipes, pp)
		}
	}
	return h
}

// Bytes counts what is held.
func (h *Held) Bytes() int64 {
	var n int64
	for _, pp := range h.pipes {
		n += pp.waiting()
	}
	return n
}

// Release passes the held bytes on and puts the connections back under the
// proxy's rule.
func (h *Held) Release() {
	h.once.Do(func() {
		for _, pp := range h.pipes {
			pp.free()
		}
	})
}

// closeConn closes with a FIN, or with an RST.
func closeConn(c net.Conn, reset bool) {
	if tc, ok := c.(*net.TCPConn); ok && reset {
		tc.SetLinger(0)
	}
	c.Close()
}
