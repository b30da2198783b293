package sessionring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one shared connection: a queue of calls whose replies come in its order.
//
// Who writes: the first who comes to an idle queue, on its own goroutine and without ever waiting on the node, so
// that a lone request needs no other goroutine to be sent. Whoever comes while somebody writes, or is about to,
// only leaves its commands, and they go with the next write. What a full socket does not take is left to the
// connection's own goroutine, as is everything on connections that cannot be written to without waiting (TLS).
type conn struct {
	pipe   *pipe
	dialed *dialed
	ctx    context.Context // ends when the connection does
	cancel context.CancelFunc

	mu      sync.Mutex
	parts   [][]byte // go before buf: commands with large sessions between them
	buf     []byte   // encoded, not yet being written
	queued  int      // bytes in parts and buf
	spare   []byte   // an empty buffer for what comes next
	writing bool     // somebody writes what is in buf, or will
	yielded bool     // who writes lets others go first
	turn    uint64   // counts who writes
	later   *time.Timer
	due     uint64  // the turn that later is for
	socket  *socket // for writing without waiting; nil: not possible. Set before writing is first false
	waiting []*call
	head    int   // waiting[head] gets the next reply
	reading *call // its reply is being read
	err     error

	rest  net.Buffers  // what the socket did not take: goes before all else. Of whoever is writing
	heard atomic.Int64 // when bytes last came, Unix nanoseconds
	depth atomic.Int32 // calls that wait
	pace  atomic.Int64 // nanoseconds from one answer to the next, while many wait; else 0

	paceSince int64 // of the reader: since when it counts
	paceCount int64 // answers since then
	wake      chan struct{}
}

const (
	flushRounds = 2       // writes that one request does for others, before the connection's goroutine takes over
	maxSpare    = 1 << 20 // a large session must not hold its buffer for ever
	writePiece  = 256 << 10
	fullBatch   = 32 << 10 // bytes that nobody waits any longer for others to add to
	paceOver    = 20 * time.Millisecond

	postponeFrom = 64                     // calls under way, from which on a write may wait
	postponed    = 300 * time.Microsecond // for others to add to it
)

// newConn is written to by its own goroutine until it is dialled.
func newConn(p *pipe) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{pipe: p, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), writing: true}
}

// push queues a call; ok is false where the connection has ended. Where mine is true, nobody is writing and the
// caller must flush.
func (cn *conn) push(c *call, buf []byte) (ok, mine bool) {
	cn.mu.Lock()
	if cn.err != nil {
		cn.mu.Unlock()
		return false, false
	}
	c.ahead = len(cn.waiting) - cn.head
	size := len(buf) + len(c.body)
	if c.ahead >= maxPipeCalls || (cn.queued > 0 && cn.queued+size > maxPipeBytes) {
		cn.mu.Unlock()
		c.err = ErrOverloaded
		c.op.end(c)
		return true, false
	}
	c.conn = cn
	cn.queued += size
	if c.body != nil {
		cn.parts = append(cn.parts, append(cn.buf, buf[:c.bodyAt]...), c.body)
		cn.buf, cn.spare, buf = cn.spare, nil, buf[c.bodyAt:]
	}
	cn.buf = append(cn.buf, buf...)
	cn.waiting = append(cn.waiting, c)
	cn.depth.Store(int32(c.ahead + 1))
	mine = !cn.writing || cn.yielded && cn.queued >= fullBatch // it has waited long enough
	if mine {
		cn.turn++
		cn.writing, cn.yielded = true, false
	}
	cn.mu.Unlock()
	return true, mine
}

// yield lets others go first, for as long as one run through those who are ready takes. Whoever fills the batch
// meanwhile writes it.
func (cn *conn) yield() (turn uint64) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.queued < fullBatch {
		cn.yielded = true
	}
	return cn.turn
}

// resume ends a yield; false where somebody else wrote.
func (cn *conn) resume(turn uint64) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.turn != turn {
		return false
	}
	cn.yielded = false
	return true
}

// postpone leaves what has gathered for a moment, for others to add to, where much is under way and to let others go
// first takes too long: the more a process has to do, the more a write of one's own for each command costs. False: it
// is to be written now.
func (cn *conn) postpone() bool {
	if cn.depth.Load() < postponeFrom {
		return false
	}
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.queued >= fullBatch || cn.err != nil {
		return false
	}
	cn.yielded, cn.due = true, cn.turn
	if cn.later == nil {
		cn.later = time.AfterFunc(postponed, cn.flushLate)
	} else {
		cn.later.Reset(postponed)
	}
	return true
}

// flushLate writes what was postponed, unless somebody did.
func (cn *conn) flushLate() {
	cn.mu.Lock()
	mine := cn.yielded && cn.turn == cn.due
	if mine {
		cn.yielded = false
	}
	cn.mu.Unlock()
	if mine {
		cn.flush()
	}
}

// overloaded reports whether a call that joined the queue now would hardly be answered by then.
func (cn *conn) overloaded(now, until time.Time) bool {
	depth := int64(cn.depth.Load())
	return depth >= shedFrom && time.Duration(depth*cn.pace.Load()) > until.Sub(now)
}

// flush writes what has gathered, as far as the socket takes it at once.
func (cn *conn) flush() {
	if cn.socket == nil {
		cn.wake <- struct{}{} // there is one writer, so there is room
		return
	}
	var out []byte
	for range flushRounds {
		var parts net.Buffers
		if parts, out = cn.next(out); out == nil {
			return
		}
		if parts != nil {
			cn.rest = append(parts, out)
			break
		}
		n, err := cn.socket.write(out)
		if err != nil {
			cn.fail(brokenBy(err))
			return
		}
		if n < len(out) {
			cn.rest = net.Buffers{out[n:]}
			break
		}
	}
	if cn.rest == nil {
		parts, last := cn.next(out)
		if last == nil {
			return
		}
		cn.rest = append(parts, last)
	}
	cn.wake <- struct{}{}
}

// next takes what is to be written and gives back the buffer that was. Both are nil, and nobody writes, where there
// is nothing.
func (cn *conn) next(done []byte) (parts net.Buffers, out []byte) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cap(done) > 0 && cap(done) <= maxSpare {
		cn.spare = done[:0]
	}
	if len(cn.buf) == 0 || cn.err != nil {
		cn.writing = false
		return nil, nil
	}
	parts, out = cn.parts, cn.buf
	cn.parts, cn.buf, cn.spare, cn.queued = nil, cn.spare, nil, 0
	return parts, out
}

func (cn *conn) broken() bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.err != nil
}

// unlike reports whether the connection is known to lead to another server process than that. What has not told its
// process, or is still being made, is not.
func (cn *conn) unlike(runID string) bool {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.err != nil || cn.dialed == nil || runID == "" {
		return false
	}
	mine := cn.dialed.facts.runID
	return mine != "" && mine != runID
}

// silentSince reports whether nothing at all has come back since t: a hung node, not a slow command.
func (cn *conn) silentSince(t time.Time) bool {
	return cn.heard.Load() < t.UnixNano()
}

// waitingSince is when the oldest unanswered call was sent, or bytes last came; the present where none waits.
func (cn *conn) waitingSince() time.Time {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	oldest := cn.reading
	if oldest == nil {
		if cn.head >= len(cn.waiting) {
			return time.Now()
		}
		oldest = cn.waiting[cn.head]
	}
	since := oldest.sentAt
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

// fail ends the connection and every call on it, once. The call whose reply is being read ends with the read.
func (cn *conn) fail(err error) {
	cn.mu.Lock()
	if cn.err != nil {
		cn.mu.Unlock()
		return
	}
	cn.err = err
	calls := cn.waiting[cn.head:]
	lost := cn.reading != nil && cn.reading.orphan.Load()
	for _, c := range calls {
		lost = lost || c.orphan.Load()
	}
	cn.waiting, cn.head, cn.parts, cn.buf = nil, 0, nil, nil
	if cn.later != nil {
		cn.later.Stop()
	}
	d := cn.dialed
	cn.mu.Unlock()
	cn.cancel()
	if lost && !errors.Is(err, ErrClosed) {
		cn.pipe.lost()
	}
	if d != nil {
		d.release()
	}
	for _, c := range calls {
		c.err = err
		c.op.end(c)
	}
}

// run makes the connection and is its writer of last resort; reading has a goroutine of its own. Both end with
// the connection.
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
			if cn.pipe.spare {
				err = brokenBy(err)
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
		cn.pipe.up(cn)
	}
	cn.socket = newSocket(d.nc)
	read := make(chan struct{})
	go func() {
		defer close(read)
		cn.readLoop()
	}()
	cn.writeLoop(d.nc)
	<-read
}

func (cn *conn) writeLoop(nc net.Conn) {
	for {
		out := cn.rest
		if cn.rest = nil; out == nil {
			if cn.socket == nil {
				runtime.Gosched() // those who are about to send do, and it goes in one
			}
			if parts, last := cn.next(nil); last != nil {
				out = append(parts, last)
			}
		}
		for out != nil {
			last := out[len(out)-1]
			if err := cn.write(nc, out); err != nil {
				cn.fail(brokenBy(err))
				return
			}
			parts, next := cn.next(last)
			if out = nil; next != nil {
				out = append(parts, next)
			}
		}
		select {
		case <-cn.wake:
		case <-cn.ctx.Done():
			return
		}
	}
}

// write writes everything, however long the node takes. That a large session goes on being taken is a sign of life;
// the first piece is none, since it may just lie in the socket.
func (cn *conn) write(nc net.Conn, out net.Buffers) error {
	first := true
	for _, b := range out {
		for len(b) > 0 {
			n, err := nc.Write(b[:min(len(b), writePiece)])
			if err != nil {
				return err
			}
			b = b[n:]
			if n == writePiece {
				if !first {
					cn.heard.Store(time.Now().UnixNano())
				}
				first = false
			}
		}
	}
	return nil
}

// measure is told of each answer. What is not under load has no pace, and neither has a node that does not answer.
func (cn *conn) measure() {
	switch now := cn.heard.Load(); {
	case cn.depth.Load() < shedFrom/2:
		if cn.paceSince != 0 {
			cn.paceSince = 0
			cn.pace.Store(0)
		}
	case cn.paceSince == 0:
		cn.paceSince, cn.paceCount = now, 0
	default:
		cn.paceCount++
		if took := now - cn.paceSince; took >= paceOver.Nanoseconds() {
			cn.pace.Store(took / cn.paceCount)
			cn.paceSince, cn.paceCount = now, 0
		}
	}
}

func (cn *conn) readLoop() {
	r := respReader{br: bufio.NewReaderSize(listener{cn}, 16<<10)}
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
		cn.waiting[cn.head] = nil
		cn.head++
		if cn.head == len(cn.waiting) {
			cn.waiting, cn.head = cn.waiting[:0], 0
		} else if cn.head >= 1024 && cn.head*2 > len(cn.waiting) {
			n := copy(cn.waiting, cn.waiting[cn.head:])
			clear(cn.waiting[n:])
			cn.waiting, cn.head = cn.waiting[:n], 0
		}
		cn.reading = c
		cn.depth.Store(int32(len(cn.waiting) - cn.head))
		cn.mu.Unlock()

		// The call is this goroutine's alone until it ends.
		var err error
		r.small = c.small[:0]
		for got := 0; got < c.want && err == nil; got++ {
			c.replies, err = r.readReply(c.replies)
		}
		if err != nil {
			cn.fail(brokenBy(err))
		}
		cn.mu.Lock()
		cn.reading = nil
		if err != nil {
			c.err = cn.err // why it was closed, where it was
		}
		cn.mu.Unlock()
		cn.measure()
		c.op.end(c)
		if err != nil {
			return
		}
		if r.br.Buffered() == 0 && !cn.pipe.turns.long() {
			// Whoever was woken goes first: looking for what is not there yet costs as much as its next command.
			cn.pipe.turns.yield()
		}
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
