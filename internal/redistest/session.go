package redistest

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	// queueLimit is what a pipe takes in before it stops reading, about what
	// the kernel's own buffers hold; holdLimit while it holds bytes.
	queueLimit = 256 << 10
	holdLimit  = 64 << 20
	// slice is the time between two pieces of a throttled connection.
	slice = 20 * time.Millisecond
)

// session is one client's connection through a Proxy.
type session struct {
	p      *Proxy
	client net.Conn
	pipes  [2]*pipe
	done   chan struct{}

	ctx    context.Context // ends when the session is aborted
	cancel context.CancelFunc

	mu     sync.Mutex
	server net.Conn
	reset  bool
}

func newSession(p *Proxy, client net.Conn) *session {
	s := &session{p: p, client: client, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	for _, dir := range []Direction{ToServer, ToClient} {
		s.pipes[dir] = &pipe{s: s, dir: dir, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	}
	return s
}

// run carries the connection until both ways have ended.
func (s *session) run() {
	defer s.p.forget(s)
	var d net.Dialer
	server, err := d.DialContext(s.ctx, s.p.network, s.p.target)
	if err != nil {
		s.abort(true)
		return
	}
	s.mu.Lock()
	s.server = server
	aborted, reset := s.ctx.Err() != nil, s.reset
	s.mu.Unlock()
	if aborted {
		closeConn(server, reset)
		return
	}

	var wg sync.WaitGroup
	wg.Go(func() { s.pipes[ToServer].read(s.client) })
	wg.Go(func() { s.pipes[ToClient].read(server) })
	wg.Go(func() { s.pipes[ToServer].write(server) })
	wg.Go(func() { s.pipes[ToClient].write(s.client) })
	wg.Wait()
	s.abort(false)
}

// abort ends the session from any goroutine.
func (s *session) abort(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.reset = reset
	}
	s.cancel()
	closeConn(s.client, s.reset)
	if s.server != nil {
		closeConn(s.server, s.reset)
	}
}

// pipe carries one direction of a session: a goroutine reads into a queue, a
// second one writes what the proxy's Link lets through.
type pipe struct {
	s    *session
	dir  Direction
	wake chan struct{} // something changed for the writer
	room chan struct{} // the queue has become shorter

	mu     sync.Mutex // guards the fields below
	queue  []chunk
	size   int64
	eof    bool // the source has ended
	seized bool // held by a Held

	// Of the writer alone.
	epoch  int   // of the link that passed counts for
	passed int64 // bytes since the link was set
	lost   bool  // bytes were swallowed
	broken bool  // the destination takes no more
}

type chunk struct {
	data []byte
	at   time.Time
	luck float64 // from -1 to 1, its part of the jitter
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (pp *pipe) wakeUp() {
	notify(pp.wake)
	notify(pp.room) // the limit may have grown
}

func (pp *pipe) waiting() int64 {
	pp.mu.Lock()
	defer pp.mu.Unlock()
	return pp.size
}

// seize makes a pipe that holds bytes go on holding them.
func (pp *pipe) seize() bool {
	pp.mu.Lock()
	defer pp.mu.Unlock()
	if pp.size == 0 || pp.seized {
		return false
	}
	pp.seized = true
	return true
}

func (pp *pipe) isSeized() bool {
	pp.mu.Lock()
	defer pp.mu.Unlock()
	return pp.seized
}

func (pp *pipe) free() {
	pp.mu.Lock()
	pp.seized = false
	pp.mu.Unlock()
	pp.wakeUp()
}

// read fills the queue until the source ends.
func (pp *pipe) read(src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		pp.mu.Lock()
		if n > 0 {
			data := append([]byte(nil), buf[:n]...)
			pp.queue = append(pp.queue, chunk{data, time.Now(), rand.Float64()*2 - 1})
			pp.size += int64(n)
		}
		if err != nil {
			pp.eof = true
		}
		pp.mu.Unlock()
		notify(pp.wake)
		if err != nil {
			return
		}
		for pp.full() {
			select {
			case <-pp.room:
			case <-pp.s.ctx.Done():
				return
			}
		}
	}
}

func (pp *pipe) full() bool {
	link, _ := pp.link()
	limit := int64(queueLimit)
	if link.Mode == Hold {
		limit = holdLimit
	}
	return pp.waiting() > limit
}

// link returns what applies to this pipe now.
func (pp *pipe) link() (Link, int) {
	pp.mu.Lock()
	seized := pp.seized
	pp.mu.Unlock()
	p := pp.s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	link, epoch := p.links[pp.dir], p.epoch[pp.dir]
	if seized {
		link = Link{Mode: Hold}
	}
	return link, epoch
}

// takeCut claims one of the link's cuts for this session.
func (pp *pipe) takeCut(epoch int) bool {
	p := pp.s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	link := &p.links[pp.dir]
	if p.epoch[pp.dir] != epoch || !link.Cut {
		return false
	}
	if link.CutTimes > 0 {
		if p.cutsLeft[pp.dir]--; p.cutsLeft[pp.dir] == 0 {
			link.Cut = false
		}
	}
	return true
}

// write empties the queue into dst until both ends of the pipe are done.
func (pp *pipe) write(dst net.Conn) {
	for {
		link, epoch := pp.link()
		if epoch != pp.epoch {
			pp.epoch, pp.passed = epoch, 0
		}
		pp.mu.Lock()
		var head chunk
		if len(pp.queue) > 0 {
			head = pp.queue[0]
		}
		eof := pp.eof
		pp.mu.Unlock()

		var pause <-chan time.Time
		switch {
		case head.data == nil && eof && link.Mode == Forward:
			pp.finish(dst)
			return
		case head.data == nil || link.Mode == Hold:
			// Nothing to do until something changes.
		case link.Mode == Drop || pp.lost || pp.broken:
			pp.lost = true
			pp.take(len(head.data))
			continue
		default:
			delay := link.Delay + time.Duration(head.luck*float64(link.Jitter))
			if wait := time.Until(head.at.Add(delay)); wait > 0 {
				pause = time.After(wait)
				break
			}
			n, wait := pp.portion(link, head.data)
			if link.Cut && pp.passed+int64(n) > link.CutAfter {
				if n = int(link.CutAfter - pp.passed); n > 0 {
					pp.send(dst, head.data[:n])
				}
				if pp.takeCut(epoch) {
					pp.s.abort(link.CutReset)
					return
				}
				continue
			}
			pp.send(dst, head.data[:n])
			if wait == 0 {
				continue
			}
			select { // keeps the pace even if the link changes meanwhile
			case <-time.After(wait):
			case <-pp.s.ctx.Done():
				return
			}
			continue
		}
		select {
		case <-pp.wake:
		case <-pause:
		case <-pp.s.ctx.Done():
			return
		}
	}
}

// portion is how much of data may pass now and how long to wait after it.
func (pp *pipe) portion(link Link, data []byte) (n int, wait time.Duration) {
	if link.BytesPerSecond <= 0 {
		return len(data), 0
	}
	n = min(len(data), max(1, int(float64(link.BytesPerSecond)*slice.Seconds())))
	return n, time.Duration(float64(n) / float64(link.BytesPerSecond) * float64(time.Second))
}

// send writes the first bytes of the queue and takes them off it. The error of
// a destination that has gone is no end: the source may still want to be read.
func (pp *pipe) send(dst net.Conn, data []byte) {
	if _, err := dst.Write(data); err != nil {
		pp.broken = true
	}
	pp.passed += int64(len(data))
	p := pp.s.p
	p.mu.Lock()
	if pp.dir == ToServer {
		p.stats.ToServer += int64(len(data))
	} else {
		p.stats.ToClient += int64(len(data))
	}
	p.mu.Unlock()
	pp.take(len(data))
}

func (pp *pipe) take(n int) {
	pp.mu.Lock()
	pp.size -= int64(n)
	if head := &pp.queue[0]; n < len(head.data) {
		head.data = head.data[n:]
	} else {
		pp.queue = pp.queue[1:]
	}
	pp.mu.Unlock()
	notify(pp.room)
}

// finish passes the end of the source on. A server that has gone takes the
// client's connection with it; a client that has gone only ends the server's
// input, so that the server still carries out what it was sent.
func (pp *pipe) finish(dst net.Conn) {
	if half, ok := dst.(interface{ CloseWrite() error }); ok && pp.dir == ToServer {
		half.CloseWrite()
		return
	}
	dst.Close()
}
