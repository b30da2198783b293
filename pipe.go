package sessionring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what waits for one node. Beyond them operations end with ErrOverloaded instead of queueing.
const (
	maxPipeCalls = 32 << 10
	maxPipeBytes = 64 << 20
)

// call is one node's part of an operation: commands already encoded, and the replies to them.
type call struct {
	op      *op
	node    *node
	counted bool // its answer counts towards the answers that the operation wants
	late    bool // longer away than the operation's patience
	again   bool // sent a second time after its connection broke
	epoch   uint64
	conn    *conn
	sentAt  time.Time
	want    int // replies expected (arrays count one)
	got     int
	replies []reply
	err     error
	store   [6]reply
}

// op collects the ends of its calls, whenever they come.
type op struct {
	mu    sync.Mutex
	ended []*call
	wake  chan struct{}
}

func newOp() *op { return &op{wake: make(chan struct{}, 1)} }

// end is called once for each send of a call, by the connection's goroutine.
func (o *op) end(c *call) {
	o.mu.Lock()
	o.ended = append(o.ended, c)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns the calls that ended since the last take.
func (o *op) take(dst []*call) []*call {
	o.mu.Lock()
	dst = append(dst, o.ended...)
	o.ended = o.ended[:0]
	o.mu.Unlock()
	return dst
}

// transport carries an operation's calls to a node: a pipe, or an engine's own client.
type transport interface {
	// send queues a call's commands. The call ends through op.end, exactly once, whatever happens.
	send(c *call, buf []byte)
	// adopt makes a connection that a probe made the transport's own.
	adopt(d *dialed)
	// drop closes the connection, so that the next call makes a new one.
	drop(cause error)
	close()
}

// pipe carries the commands of all requests to one node over one connection: commands that arrive while a
// write is under way leave together in the next one. That is where the cost of a round trip goes away.
type pipe struct {
	dial func(ctx context.Context) (*dialed, error)
	// down is told that a connection could not be made, up that one was.
	down func(err error)
	up   func(d *dialed)
	wg   *sync.WaitGroup

	mu     sync.Mutex
	conn   *conn
	closed bool
}

// dialed is a connection past its handshake.
type dialed struct {
	nc      net.Conn
	release func() // closes nc and what was needed to make it
	facts   facts
}

func (p *pipe) send(c *call, buf []byte) {
	c.sentAt = time.Now()
	c.got, c.err = 0, nil
	c.replies = c.store[:0]
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.err = ErrClosed
		c.op.end(c)
		return
	}
	cn := p.conn
	if cn == nil || !cn.push(c, buf) {
		cn = newConn(p)
		p.conn = cn
		cn.push(c, buf)
		p.wg.Add(1)
		go cn.run()
	}
	p.mu.Unlock()
}

func (p *pipe) adopt(d *dialed) {
	cn := newConn(p)
	cn.dialed = d
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		d.release()
		return
	}
	old := p.conn
	p.conn = cn
	p.wg.Add(1)
	go cn.run()
	p.mu.Unlock()
	if old != nil {
		// It may lead to a server that the host's name has left, or that has become a replica.
		old.fail(brokenBy(errReplaced))
	}
}

func (p *pipe) drop(cause error) {
	p.mu.Lock()
	cn := p.conn
	p.conn = nil
	p.mu.Unlock()
	if cn != nil {
		cn.fail(cause)
	}
}

func (p *pipe) close() {
	p.mu.Lock()
	p.closed = true
	cn := p.conn
	p.conn = nil
	p.mu.Unlock()
	if cn != nil {
		cn.fail(ErrClosed)
	}
}

// conn is one shared connection: a queue of calls whose replies come in its order.
type conn struct {
	pipe   *pipe
	dialed *dialed
	ctx    context.Context // ends when the connection does
	cancel context.CancelFunc

	mu      sync.Mutex
	buf     []byte // encoded, not yet handed to the writer
	waiting []*call
	head    int // waiting[head] gets the next reply
	err     error

	heard atomic.Int64 // when bytes last came, Unix nanoseconds
	wake  chan struct{}
}

func newConn(p *pipe) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{pipe: p, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
}

// push queues a call; false where the connection has ended.
func (cn *conn) push(c *call, buf []byte) bool {
	cn.mu.Lock()
	if cn.err != nil {
		cn.mu.Unlock()
		return false
	}
	if len(cn.waiting)-cn.head >= maxPipeCalls || (len(cn.buf) > 0 && len(cn.buf)+len(buf) > maxPipeBytes) {
		cn.mu.Unlock()
		c.err = ErrOverloaded
		c.op.end(c)
		return true
	}
	c.conn = cn
	cn.buf = append(cn.buf, buf...)
	cn.waiting = append(cn.waiting, c)
	cn.mu.Unlock()
	select {
	case cn.wake <- struct{}{}:
	default:
	}
	return true
}

func (cn *conn) broken() bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.err != nil
}

// silentSince reports whether nothing at all has come back since t: a hung node, not a slow command.
func (cn *conn) silentSince(t time.Time) bool {
	return cn.heard.Load() < t.UnixNano()
}

// waitingSince is when the oldest unanswered call was sent, or bytes last came; the present where none waits.
func (cn *conn) waitingSince() time.Time {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.head >= len(cn.waiting) {
		return time.Now()
	}
	since := cn.waiting[cn.head].sentAt
	if heard := time.Unix(0, cn.heard.Load()); heard.After(since) {
		since = heard
	}
	return since
}

// listener notes when bytes arrive: a large session on its way is no sign of a hung node.
type listener struct{ *conn }

func (l listener) Read(b []byte) (int, error) {
	n, err := l.dialed.nc.Read(b)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// fail ends the connection and every call on it, once.
func (cn *conn) fail(err error) {
	cn.mu.Lock()
	if cn.err != nil {
		cn.mu.Unlock()
		return
	}
	cn.err = err
	calls := cn.waiting[cn.head:]
	cn.waiting, cn.head, cn.buf = nil, 0, nil
	d := cn.dialed
	cn.mu.Unlock()
	cn.cancel()
	if d != nil {
		d.release()
	}
	for _, c := range calls {
		c.err = err
		c.op.end(c)
	}
}

// run makes the connection and writes to it; reading has a goroutine of its own. Both end with the connection.
func (cn *conn) run() {
	defer cn.pipe.wg.Done()
	defer cn.cancel()
	cn.mu.Lock()
	d := cn.dialed
	cn.mu.Unlock()
	if d == nil {
		var err error
		if d, err = cn.pipe.dial(cn.ctx); err != nil {
			if cn.ctx.Err() == nil {
				cn.pipe.down(err)
			}
			cn.fail(err)
			return
		}
		cn.mu.Lock()
		if cn.err != nil { // closed meanwhile
			cn.mu.Unlock()
			d.release()
			return
		}
		cn.dialed = d
		cn.mu.Unlock()
		cn.pipe.up(d)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		cn.readLoop()
	}()
	cn.writeLoop(d.nc)
	<-read
}

func (cn *conn) writeLoop(nc net.Conn) {
	var out []byte
	for {
		select {
		case <-cn.wake:
		case <-cn.ctx.Done():
			return
		}
		cn.mu.Lock()
		if cn.err != nil {
			cn.mu.Unlock()
			return
		}
		out, cn.buf = cn.buf, out[:0]
		cn.mu.Unlock()
		if len(out) == 0 {
			continue
		}
		if _, err := nc.Write(out); err != nil {
			cn.fail(brokenBy(err))
			return
		}
		if cap(out) > 1<<20 {
			out = nil // a large session must not hold its buffer for ever
		}
	}
}

func (cn *conn) readLoop() {
	r := respReader{bufio.NewReaderSize(listener{cn}, 16<<10)}
	for {
		if _, err := r.br.Peek(1); err != nil {
			cn.fail(brokenBy(err))
			return
		}
		cn.mu.Lock()
		if cn.err != nil {
			cn.mu.Unlock()
			return
		}
		if cn.head == len(cn.waiting) {
			cn.mu.Unlock()
			cn.fail(fmt.Errorf("%w: a reply to no command", errProtocol))
			return
		}
		c := cn.waiting[cn.head]
		cn.mu.Unlock()

		// The call is this goroutine's alone until it ends or the connection fails.
		replies, err := r.readReply(c.replies)
		cn.mu.Lock()
		if cn.err != nil { // failed meanwhile: the call has ended
			cn.mu.Unlock()
			return
		}
		if err != nil {
			cn.mu.Unlock()
			cn.fail(brokenBy(err))
			return
		}
		c.replies = replies
		c.got++
		if c.got < c.want {
			cn.mu.Unlock()
			continue
		}
		cn.waiting[cn.head] = nil
		cn.head++
		if cn.head == len(cn.waiting) {
			cn.waiting, cn.head = cn.waiting[:0], 0
		} else if cn.head >= 1024 && cn.head*2 > len(cn.waiting) {
			n := copy(cn.waiting, cn.waiting[cn.head:])
			clear(cn.waiting[n:])
			cn.waiting, cn.head = cn.waiting[:n], 0
		}
		cn.mu.Unlock()
		c.op.end(c)
	}
}

// errReplaced ends a connection whose node was found again by another one.
var errReplaced = errors.New("a newer connection took its place")

// brokenBy marks the error of a connection that worked as one that a fresh connection may mend.
func brokenBy(err error) error {
	if errors.Is(err, errProtocol) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errConnBroken, io.EOF)
	}
	return fmt.Errorf("%w: %w", errConnBroken, err)
}
