package sessionring

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// A fan is one operation's way through the nodes: it starts with those that should answer, all at once, goes
// on to the next in the order of preference where one fails or keeps it waiting, and ends when enough have
// answered. What is asked, and what answers mean, is the operation's business.
type fan struct {
	fanRun

	// Kept from one operation to the next: fans are pooled, since an operation needs one and little else.
	op    op
	timer *time.Timer
	buf   []byte // commands on their way to a connection, which copies them
	ended []*call

	groups2   [2]group
	tries4    [4]try
	calls4    [4]call
	copies4   [4]copyState
	flushing4 [4]*conn
	prefs     [2][8]int
}

// fanRun is what a fan knows of its operation.
type fanRun struct {
	c      *Client
	v      *view
	name   string
	id     string
	encode func(f *fan, t *try) (buf []byte, want int)

	groups     []group
	tries      []try
	flushing   []*conn // connections that wait for this fan to write to them
	used       int     // of calls4
	out        int     // calls that have not ended
	crowded    bool    // others use the same connections now
	began      time.Time
	until      time.Time     // the operation's deadline
	wait       time.Duration // patience with one node
	proof      time.Duration // silence that says something of the node, however little time this caller has
	verdict    time.Duration // silence after which it would be down, if its watcher had its way
	moved      bool          // something did not go as it should: for the Failover mark
	values     bool          // ask everybody for the value
	touch      time.Duration // extend the lifetime by so much; 0: not
	halt       bool          // go no further
	large      bool          // the session is, as far as is known
	lastResort bool          // owners that are down were asked after all
	decides    bool          // whoever was asked is waited for until the deadline
	lingers    bool          // late owners are waited for, unless they are silent for too long
	seen       stamp         // of a copy whose data were not to be had: what is older is no answer
	writes     bool          // a returning node that takes the write holds the newest: it counts

	owed []*node // owners that miss this write

	// of a write
	data      []byte
	body      []byte // of large data the one copy that all nodes are sent
	bodyAt    int    // where it belongs in what was just encoded; 0: it does not
	ttl       time.Duration
	version   Version // what the caller is told
	stampText string  // what is written beside each copy
	lock      *Lock
}

// group is one ring's claim on the operation: so many answers from the front of its list. There is a second
// one while sessions move from a previous ring.
type group struct {
	v    *view
	list []int // indexes into v.nodes, in order of preference
	full bool  // list holds every node
	next int   // list[:next] were considered
	want int   // answers wanted from nodes that count
}

// try is one node's part in the fan.
type try struct {
	node     *node
	view     *view
	call     *call
	state    tryState
	php      bool // holds the session in PHP's own layout
	mixed    bool // both layouts are in use
	counts   bool // a read of a returning node does not
	unsure   bool // a suspect, where other copies do as well
	judged   bool // its silence was noted
	lingered bool // waited for because no owner had answered
	hung     bool // it kept a read waiting that would have waited for it, and nothing at all came from it
	value    bool // asked for the value, not the stamp alone
	hints    []*node
	script   *script // sent to the node
	err      error
}

// plain: this node holds the session in PHP's own layout, nothing beside it.
func (t *try) plain() bool { return t.php && !t.mixed }

type tryState uint8

const (
	tryPending  tryState = iota
	tryLate              // still out, but longer than patience
	tryAnswered          // replies are there
	tryFailed            // not used, or gave an error that counts against it
)

var fans = sync.Pool{New: func() any {
	f := &fan{timer: time.NewTimer(time.Hour), buf: make([]byte, 0, 2048)}
	f.timer.Stop()
	f.op.wake = make(chan struct{}, 1)
	f.op.ended = f.op.store[:0]
	return f
}}

const maxPooledBuffer = 64 << 10 // a large session must not stay in memory for ever

// abandon leaves the writes that are still out to themselves. Should their connection break, the node misses them.
func (f *fan) abandon() {
	if f.out == 0 || !f.writes {
		return
	}
	for i := range f.tries {
		t := &f.tries[i]
		if t.call == nil || (t.state != tryLate && t.state != tryPending) {
			continue
		}
		t.call.orphan.Store(true)
		if cn := t.call.conn; cn != nil && cn.broken() { // at this very moment
			t.node.health.lost()
		}
	}
}

// release gives the fan back. Nothing of it may be used any more; what a node may still write to is left alone.
func (f *fan) release() {
	f.c.lag.active.Add(-1)
	if f.out > 0 {
		return
	}
	for i := range f.calls4[:f.used] {
		k := &f.calls4[i]
		clear(k.replies)
		k.replies, k.conn, k.node, k.err, k.body = nil, nil, nil, nil, nil
	}
	clear(f.tries4[:min(len(f.tries), len(f.tries4))])
	clear(f.copies4[:])
	clear(f.ended[:cap(f.ended)])
	f.groups2 = [2]group{}
	if cap(f.buf) > maxPooledBuffer {
		f.buf = make([]byte, 0, 2048)
	}
	f.fanRun = fanRun{}
	fans.Put(f)
}

// newFan prepares an operation on id.
func (c *Client) newFan(ctx context.Context, name, id string, encode func(*fan, *try) ([]byte, int)) *fan {
	f := fans.Get().(*fan)
	c.lag.active.Add(1)
	select {
	case <-f.op.wake: // of an end that was taken without it
	default:
	}
	f.c, f.v, f.name, f.id, f.encode, f.began = c, c.view.Load(), name, id, encode, time.Now()
	f.large = c.large.has(id)
	f.flushing = f.flushing4[:0]
	f.until = f.began.Add(c.conf.deadline)
	if d, ok := ctx.Deadline(); ok && d.Before(f.until) {
		f.until = d
	}
	f.tries = f.tries4[:0]
	f.groups = f.groups2[:0]
	for i, v := 0, f.v; v != nil; i, v = i+1, v.previous {
		g := group{v: v, want: v.copies}
		var room []int
		if i < len(f.prefs) {
			room = f.prefs[i][:0]
		}
		n := v.copies + 2
		g.list = v.ring.AppendOwners(room, id, n)
		g.full = len(g.list) < n || len(g.list) >= len(v.nodes)
		f.groups = append(f.groups, g)
	}
	f.wait = c.patience(f.until.Sub(f.began), len(f.v.nodes), f.v.copies)
	f.proof = c.silence(f.v)
	f.verdict = f.proof + c.suspicion()
	return f
}

// continues makes f another run of the same operation: it ends when that one would have.
func (f *fan) continues(before *fan) {
	f.began, f.until, f.moved, f.seen = before.began, before.until, f.moved || before.moved, before.seen
}

// resendForgotten sends scripts again, with their text, to nodes that lost their script cache (restart, SCRIPT
// FLUSH). True when there were any.
func (f *fan) resendForgotten() bool {
	any := false
	for i := range f.tries {
		t := &f.tries[i]
		if t.state != tryAnswered || t.script == nil || len(t.call.replies) == 0 {
			continue
		}
		if !isNoScript(t.call.replies[0].err) {
			t.node.learned(t.script)
			continue
		}
		t.node.forgetScripts()
		t.call = nil
		f.send(i)
		any = true
	}
	return any
}

// at returns the node at the position of a group's list, nil past its end. The full order is only worked out
// where the first few do not do.
func (f *fan) at(g *group, pos int) *node {
	if pos >= len(g.list) && !g.full {
		g.list = g.v.ring.Preference(make([]int, 0, len(g.v.nodes)), f.id)
		g.full = true
	}
	if pos >= len(g.list) {
		return nil
	}
	return g.v.nodes[g.list[pos]]
}

func (f *fan) try(n *node) *try {
	for i := range f.tries {
		if f.tries[i].node == n {
			return &f.tries[i]
		}
	}
	return nil
}

// start considers the group's next node.
func (f *fan) start(g *group) bool {
	n := f.at(g, g.next)
	if n == nil {
		return false
	}
	owner := g.next < g.v.copies
	g.next++
	if f.try(n) != nil {
		return true
	}
	s := n.health.now()
	t := try{node: n, view: g.v, php: f.holdsPHP(n), mixed: f.v.mixed, counts: f.writes || s == StateUp || s == StateSuspect,
		unsure: s == StateSuspect && g.v.copies > 1 && !f.decides}
	if s == StateDown {
		f.flush() // a hook that takes its time may hold the state
		t.state, t.err = tryFailed, n.health.cause()
		f.moved = f.moved || owner
		if owner {
			f.owes(n)
		}
		f.tries = append(f.tries, t)
		return true
	}
	f.tries = append(f.tries, t)
	f.send(len(f.tries) - 1)
	return true
}

// holdsPHP reports whether a node holds the session in PHP's own layout, by any list in use.
func (f *fan) holdsPHP(n *node) bool {
	for i := range f.groups {
		if g := &f.groups[i]; !g.v.stamped && len(g.list) > 0 && g.v.nodes[g.list[0]] == n {
			return true
		}
	}
	return false
}

// send encodes a try's commands and hands them to its node.
func (f *fan) send(i int) {
	t := &f.tries[i]
	t.hints, t.judged, t.hung = t.hints[:0], false, false
	buf, want := f.encode(f, t)
	f.buf = buf[:0]
	k := f.newCall()
	k.body, k.bodyAt = nil, 0
	if f.bodyAt > 0 {
		k.body, k.bodyAt, f.bodyAt = f.body, f.bodyAt, 0
	}
	k.op, k.node, k.want, k.again, k.epoch = &f.op, t.node, want, t.call != nil, t.node.health.epoch.Load()
	t.call, t.state = k, tryPending
	f.out++
	cn := f.lane(t.node).send(k, buf)
	f.crowded = f.crowded || k.ahead > 0
	if cn != nil {
		f.flushing = append(f.flushing, cn)
	}
}

// lane is the way to a node. PHP's own commands have no guard: only their order on one connection keeps a late one from
// undoing the next.
func (f *fan) lane(n *node) transport { return n.lane(f.large && !f.holdsPHP(n)) }

// newCall is one that no node will write to any more.
func (f *fan) newCall() *call {
	if f.used == len(f.calls4) {
		return &call{}
	}
	f.used++
	k := &f.calls4[f.used-1]
	k.conn, k.ahead = nil, 0
	k.orphan.Store(false)
	return k
}

// run drives the fan until enough have answered, or nobody else can. It returns nil, the caller's own context
// error, or that a node is overloaded; what the answers mean is read from f.tries.
func (f *fan) run(ctx context.Context) error {
	if len(f.tries) == 0 {
		if err := f.overloaded(); err != nil {
			return err
		}
	}
	defer f.timer.Stop()
	for {
		done := f.advance()
		f.flush()
		if done {
			return nil
		}
		if !f.op.await(f.enough()) {
			f.collect()
			continue
		}
		f.timer.Reset(f.nextLook())
		select {
		case <-f.op.wake:
			if f.crowded {
				f.c.lag.saw(f.op.answered.Load(), time.Now(), f.until.Sub(f.began))
			}
			f.collect()
		case <-f.timer.C:
			f.collect() // an answer that nobody was woken for is there, not late
			if !f.giveUpOn(time.Now()) {
				f.flush()
				return nil // the deadline
			}
		case <-ctx.Done():
			f.collect() // an answer that is there counts
			done := f.advance()
			f.flush()
			if done {
				return nil
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				f.giveUpOn(f.until)
				return nil
			}
			return ctx.Err()
		}
	}
}

// enough is how many more answers are worth waking up for: all that are waited for, as long as none brings trouble.
func (f *fan) enough() int {
	n := 0
	for i := range f.tries {
		switch t := &f.tries[i]; {
		case t.state == tryPending && (t.unsure || t.lingered), t.state == tryLate:
			return 1
		case t.state == tryPending:
			n++
		}
	}
	return n
}

// advance starts what is wanted and reports whether the fan is done.
func (f *fan) advance() bool {
	done := true
	for i := range f.groups {
		if !f.advanceGroup(&f.groups[i]) {
			done = false
		}
	}
	return done
}

func (f *fan) advanceGroup(g *group) bool {
	for {
		counted, answered, pending, unsure, late, alive := 0, 0, 0, 0, 0, 0
		waiting := false // for a returning node
		for _, ix := range g.list[:g.next] {
			t := f.try(g.v.nodes[ix])
			if t.state != tryFailed {
				alive++
			}
			switch {
			case t.state == tryAnswered:
				answered++
				if t.counts {
					counted++
				}
			case t.state == tryPending && t.unsure:
				unsure++ // somebody else is asked beside it at once
			case t.state == tryPending && t.counts:
				pending++
			case t.state == tryPending:
				waiting = true
			case t.state == tryLate:
				late++
			}
		}
		// After a cold start every node may be returning; a few of them do then.
		if counted+pending < g.want && alive < g.want+2 && !f.halt && f.start(g) {
			continue
		}
		switch {
		case pending > 0 || waiting:
			return false
		case counted >= g.want:
			return true
		case unsure > 0:
			return false
		case answered > 0:
			return true
		default:
			return late == 0
		}
	}
}

// missed notes that an owner did not take part.
func (f *fan) missed(t *try) {
	f.moved = true
	if f.isOwner(t.node) {
		f.owes(t.node)
	}
}

// owes notes an owner that misses this operation.
func (f *fan) owes(n *node) {
	if !slices.Contains(f.owed, n) {
		f.owed = append(f.owed, n)
	}
}

func (f *fan) isOwner(n *node) bool {
	found := false
	f.eachOwner(func(o *node) { found = found || o == n })
	return found
}

// eachOwner goes over the nodes that should hold the session, by every list in use.
func (f *fan) eachOwner(each func(*node)) {
	for i := range f.groups {
		g := &f.groups[i]
		for j := 0; j < g.v.copies && j < len(g.list); j++ {
			each(g.v.nodes[g.list[j]])
		}
	}
}

// collect takes in the calls that ended.
func (f *fan) collect() {
	f.ended = f.op.take(f.ended[:0])
	f.out -= len(f.ended)
	for _, k := range f.ended {
		i := f.indexOf(k)
		if i < 0 {
			continue // replaced by a second send
		}
		f.settle(i)
	}
}

func (f *fan) indexOf(k *call) int {
	for i := range f.tries {
		if f.tries[i].call == k {
			return i
		}
	}
	return -1
}

func (f *fan) settle(i int) {
	t := &f.tries[i]
	err := t.call.err
	full := false
	if err == nil {
		for _, r := range t.call.replies {
			if r.err == nil {
				continue
			}
			if v := judge(r.err); v == verdictFailed || v == verdictFull {
				err, full = r.err, v == verdictFull
				break
			}
		}
	}
	switch {
	case err == nil:
		t.state = tryAnswered
		if t.call.epoch != t.node.health.epoch.Load() {
			// It was met anew while the call was on its way: another process may have answered.
			s := t.node.health.now()
			t.counts = f.writes || s == StateUp || s == StateSuspect
		}
		t.node.health.succeeded(t.call.epoch)
		if t.lingered && t.counts {
			f.lingeredEnough()
		}
		t.lingered = false
		return
	case judge(err) == verdictRetry && !t.call.again && time.Now().Before(f.until):
		f.send(i) // commands are written so that running twice is harmless
		f.flush() // whoever hears of other failures next may take his time
		return
	}
	t.state = tryFailed
	t.err = t.node.failure(f.name, err)
	f.missed(t)
	// One copy: a stand-in beside an owner that still serves the old one would go back in time.
	f.halt = f.halt || (full && f.v.copies < 2)
	if !full && !errors.Is(err, ErrOverloaded) && !errors.Is(err, ErrClosed) {
		t.node.health.failed(t.call.epoch, t.err)
	}
	f.c.failure(t.node, f.name, t.err)
}

// noNode is the error of an operation that nobody answered.
func (f *fan) noNode() error {
	e := &NoNodeError{Op: f.name, Elapsed: time.Since(f.began)}
	for i := range f.tries {
		t := &f.tries[i]
		if t.state == tryAnswered {
			continue
		}
		if errors.Is(t.err, ErrClosed) {
			return ErrClosed
		}
		cause := t.err
		if cause == nil {
			cause = ErrTimeout
		}
		ne := t.node.failure(f.name, cause)
		e.Nodes = append(e.Nodes, ne)
	}
	for _, n := range f.v.distinct {
		if f.try(n) == nil {
			e.Nodes = append(e.Nodes, n.err(f.name, errNotAsked))
		}
	}
	return e
}

// errNotAsked: the deadline came before this node's turn.
var errNotAsked = errors.New("was not asked: the time was up")

// away names the owners that did not answer where that leaves a miss uncertain, else nil. With several copies
// the word of one owner that counts is enough: whatever was acknowledged while it could be reached stands there.
func (f *fan) away() []string {
	var out []string
	for i := range f.tries {
		t := &f.tries[i]
		switch {
		case !f.isOwner(t.node):
		case t.state != tryAnswered:
			out = append(out, t.node.id)
		case t.counts && f.v.copies > 1:
			return nil
		}
	}
	return out
}

// doubtful counts the owners whose "no" is not enough: they did not answer, or may have missed writes.
func (f *fan) doubtful() int {
	n := 0
	for i := range f.tries {
		if t := &f.tries[i]; (t.state != tryAnswered || !t.counts) && f.isOwner(t.node) {
			n++
		}
	}
	return n
}
