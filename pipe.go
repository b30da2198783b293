package sessionring

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what waits for one node. Beyond them operations end with ErrOverloaded instead of queueing.
const (
	maxPipeCalls = 32 << 10
	maxPipeBytes = 64 << 20

	// From so many waiting calls on a node, an operation that would end too late by the pace of the last ones is refused before
	// it begins: what nobody waits for any more must not be in the way of what somebody does.
	shedFrom = 256
)

// call is one node's part of an operation: commands already encoded, and the replies to them.
type call struct {
	op      *op
	node    *node
	again   bool // sent a second time after its connection broke
	epoch   uint64
	conn    *conn
	ahead   int // calls that waited on the connection when this one joined them
	sentAt  time.Time
	want    int    // replies expected (arrays count one)
	body    []byte // a large session, which is not copied: it belongs at bodyAt of the commands
	bodyAt  int
	replies []reply
	err     error
	orphan  atomic.Bool // a write that nobody waits for any more, and that others took
	store   [6]reply
	small   [smallBulks]byte // where short replies stand: stamps above all
}

// smallBulks is how many bytes of short replies a call has room for in itself.
const smallBulks = 64

// troubled reports whether a call brought anything but plain answers.
func (c *call) troubled() bool {
	if c.err != nil {
		return true
	}
	for i := range c.replies {
		if c.replies[i].err != nil {
			return true
		}
	}
	return false
}

// op collects the ends of its calls, whenever they come.
type op struct {
	mu     sync.Mutex
	enough int // ends that are worth waking somebody for, unless there is trouble
	ended  []*call
	store  [4]*call
	wake   chan struct{}
	then   func(c *call) // told of ends at once, where nobody waits for them. It must not wait

	answered atomic.Int64 // when the last of them came, Unix nanoseconds
}

func newOp() *op {
	o := &op{wake: make(chan struct{}, 1)}
	o.ended = o.store[:0]
	return o
}

// end is called once for each send of a call, by the connection's goroutine. The call is its operation's again.
func (o *op) end(c *call) {
	if o.then != nil {
		o.then(c)
		return
	}
	trouble := c.troubled()
	if c.err == nil && c.conn != nil {
		o.answered.Store(c.conn.heard.Load())
	} else {
		o.answered.Store(time.Now().UnixNano())
	}
	o.mu.Lock()
	o.ended = append(o.ended, c)
	wake := trouble || len(o.ended) >= o.enough
	o.mu.Unlock()
	if !wake {
		return
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns the calls that ended since the last take.
func (o *op) take(dst []*call) []*call {
	o.mu.Lock()
	dst = append(dst, o.ended...)
	clear(o.ended)
	o.ended = o.ended[:0]
	o.mu.Unlock()
	return dst
}

// await says how many ends are worth waking for; false where they are there already.
func (o *op) await(enough int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.enough = enough
	if len(o.ended) == 0 {
		return true
	}
	if len(o.ended) >= enough {
		return false
	}
	for _, c := range o.ended {
		if c.troubled() {
			return false
		}
	}
	return true
}

// transport carries an operation's calls to a node: a pipe, or an engine's own client.
type transport interface {
	// send queues a call's commands; buf is copied. The call ends through op.end, exactly once, whatever happens.
	// Where it returns a connection, it is for the caller to flush it, soon: nobody else will.
	send(c *call, buf []byte) *conn
	// overloaded reports whether what is sent now would hardly be answered by then.
	overloaded(now, until time.Time) bool
	// adopt makes a connection that a probe made the transport's own.
	adopt(d *dialed)
	// drop closes the connection, so that the next call makes a new one.
	drop(cause error)
	close()
}

// bulkSize is from where on a session is large: it has a connection of its own, so that small ones do not queue up
// behind it, and is not copied on its way there.
const bulkSize = 32 << 10

// pipe carries the commands of all requests to one node over one connection: commands that arrive while a
// write is under way leave together in the next one. That is where the cost of a round trip goes away.
type pipe struct {
	dial func(ctx context.Context) (*dialed, error)
	// down is told that a connection could not be made, up that one was, before anything is sent on it.
	down func(err error)
	up   func(cn *conn)
	// lost is told that a connection ended with writes on it that nobody will send again.
	lost  func()
	wg    *sync.WaitGroup
	turns *turns // nil: nobody lets others go first
	// spare: where it cannot be dialled, its calls may take another way.
	spare bool

	conn atomic.Pointer[conn] // changes under mu

	mu     sync.Mutex
	closed bool
}

// dialed is a connection past its handshake.
type dialed struct {
	nc      net.Conn
	release func() // closes nc and what was needed to make it
	facts   facts
}

func (p *pipe) send(c *call, buf []byte) *conn {
	c.sentAt = time.Now()
	c.err = nil
	c.replies = c.store[:0]
	if cn := p.conn.Load(); cn != nil {
		if ok, mine := cn.push(c, buf); mine {
			return cn
		} else if ok {
			return nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.err = ErrClosed
		c.op.end(c)
		return nil
	}
	if cn := p.conn.Load(); cn != nil {
		if ok, mine := cn.push(c, buf); mine {
			return cn
		} else if ok {
			return nil
		}
	}
	cn := newConn(p)
	cn.push(c, buf)
	p.start(cn)
	return nil
}

// start makes cn the pipe's connection; p.mu is held.
func (p *pipe) start(cn *conn) {
	p.conn.Store(cn)
	p.wg.Add(1)
	go cn.run()
}

// overloaded reports whether what is sent now would hardly be answered by then.
func (p *pipe) overloaded(now, until time.Time) bool {
	cn := p.conn.Load()
	return cn != nil && cn.overloaded(now, until)
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
	old := p.conn.Load()
	p.start(cn)
	p.mu.Unlock()
	if old != nil {
		// It may lead to a server that the host's name has left, or that has become a replica.
		old.fail(brokenBy(errReplaced))
	}
}

// dropUnlike closes the connection where it is known to lead to another server process than that. True where it did.
func (p *pipe) dropUnlike(runID string) bool {
	cn := p.conn.Load()
	if cn == nil || !cn.unlike(runID) {
		return false
	}
	p.mu.Lock()
	p.conn.CompareAndSwap(cn, nil)
	p.mu.Unlock()
	cn.fail(brokenBy(errReplaced))
	return true
}

func (p *pipe) drop(cause error) {
	p.mu.Lock()
	cn := p.conn.Swap(nil)
	p.mu.Unlock()
	if cn != nil {
		cn.fail(cause)
	}
}

func (p *pipe) close() {
	p.mu.Lock()
	p.closed = true
	cn := p.conn.Swap(nil)
	p.mu.Unlock()
	if cn != nil {
		cn.fail(ErrClosed)
	}
}
