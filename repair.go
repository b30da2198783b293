package sessionring

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	menders     = 4
	mendBacklog = 4096
)

// mender has sessions brought up to date whose copies were seen to differ. It is bounded: what finds no
// place is found again at the next read.
type mender struct {
	mu      sync.Mutex
	waiting map[string]struct{} // so that a busy session is mended once
	queue   chan string
	again   chan func() // hints to be sent once more
}

func newMender() *mender {
	return &mender{waiting: map[string]struct{}{}, queue: make(chan string, mendBacklog), again: make(chan func(), mendBacklog)}
}

func (m *mender) add(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.waiting[id]; ok {
		return
	}
	select {
	case m.queue <- id:
		m.waiting[id] = struct{}{}
	default:
	}
}

func (m *mender) took(id string) {
	m.mu.Lock()
	delete(m.waiting, id)
	m.mu.Unlock()
}

func (c *Client) startMending() {
	for range menders {
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			for {
				select {
				case <-c.ctx.Done():
					return
				case send := <-c.mend.again:
					send()
				case id := <-c.mend.queue:
					c.mend.took(id)
					_, _ = c.level(c.ctx, id, "read") // what fails is seen again at the next read
				}
			}
		}()
	}
}

// held is what one node holds of a session, with the time it has left.
type held struct {
	node  *node
	owner bool // among the first copies of the current ring
	php   bool // in PHP's own layout
	plain bool // and no stamp beside it
	err   error
	stamp stamp
	raw   string // the stamp as it stands there
	data  []byte
	has   bool
	ttl   time.Duration // 0: none set
	ok    bool          // is up to date now
	gone  bool          // was removed: a stand-in that all owners surpass
}

// outcome is what level reached.
type outcome struct {
	newest stamp
	held   []held
	whole  bool // every owner is up to date
	copied int
}

// owns reports whether n, by whatever name, is an owner: a host may have two while it is being renamed.
func (o *outcome) owns(n *node) bool {
	process := n.health.process()
	return slices.ContainsFunc(o.held, func(h held) bool {
		return h.owner && h.node.cfg.Database == n.cfg.Database && h.node.cfg.Prefix == n.cfg.Prefix &&
			process != "" && h.node.health.process() == process
	})
}

// at returns what the node held, and whether it was asked.
func (o *outcome) at(n *node) (held, bool) {
	for _, h := range o.held {
		if h.node.is(n) {
			return h, true
		}
	}
	return held{}, false
}

// level brings the copies of one session up to date on its owners: the newest of what the owners and the
// other nodes given hold, with the time it has left; a tombstone beats all. Copies outside the owners that
// all owners surpass are removed. Every write is guarded, so whatever happens meanwhile wins.
func (c *Client) level(ctx context.Context, id, reason string, others ...*node) (outcome, error) {
	v := c.view.Load()
	out := outcome{held: c.holders(v, id, others)}
	if err := c.survey(ctx, id, out.held); err != nil {
		return out, err
	}
	var best *held
	var ttl time.Duration
	for i := range out.held {
		h := &out.held[i]
		if h.err != nil || (!h.has && !h.stamp.dead) {
			continue
		}
		if best == nil || h.stamp.newer(best.stamp) {
			best = h
		}
	}
	if best == nil {
		out.whole = true
		for _, h := range out.held {
			out.whole = out.whole && (h.err == nil || !h.owner)
		}
		return out, nil
	}
	if v.mixed && (best.stamp.foreign || best.stamp.version == zeroVersion) {
		if err := c.adopt(ctx, id, best); err != nil {
			return out, err
		}
	}
	out.newest = best.stamp
	for _, h := range out.held {
		if h.err == nil && h.stamp == best.stamp {
			ttl = max(ttl, h.ttl)
		}
	}
	if ttl <= 0 {
		ttl = c.conf.lifetime
	}
	out.whole = true
	var firstErr error
	for i := range out.held {
		h := &out.held[i]
		if !h.owner {
			continue
		}
		if h.err == nil {
			var wrote bool
			if wrote, h.err = c.bringTo(ctx, id, h, best, ttl); wrote {
				out.copied++
			}
		}
		if h.ok = h.err == nil; !h.ok {
			out.whole = false
			firstErr = errors.Join(firstErr, h.err)
		}
	}
	if out.copied > 0 && c.conf.hooks.Repair != nil {
		c.conf.hooks.Repair(Repair{Reason: reason, Copies: out.copied})
	}
	if !out.whole {
		return out, firstErr
	}
	for i := range out.held {
		h := &out.held[i]
		if h.owner || h.err != nil || h.raw == "" || v.owns(h.node, id) || out.owns(h.node) {
			continue
		}
		r, err := c.run(ctx, h.node, forgetScript, "2", h.node.key(id), h.node.stampKey(id), h.raw)
		if err != nil {
			return out, err
		}
		h.gone = len(r) == 1 && r[0].n == 1
	}
	return out, nil
}

// adopt gives data that somebody wrote who knows no stamps a version of their own.
func (c *Client) adopt(ctx context.Context, id string, h *held) error {
	c.clock.saw(h.stamp.version)
	digest := string(plainVersion(h.data))
	next := stamp{version: c.clock.next()}
	text := next.String() + digest
	r, err := c.run(ctx, h.node, adoptScript, "2", h.node.key(id), h.node.stampKey(id), h.raw, digest, text)
	switch {
	case err != nil:
		return err
	case len(r) != 1 || r[0].n != 1:
		return h.node.err("repair", errMoved)
	}
	h.stamp, h.raw = next, text
	return nil
}

// errMoved: the session changed while it was being brought up to date; whoever changed it did the rest.
var errMoved = errors.New("session changed meanwhile")

// owns reports whether n is an owner of id in this view or in one that is being drained.
func (v *view) owns(n *node, id string) bool {
	for ; v != nil; v = v.previous {
		for _, o := range v.owners(id) {
			if o.is(n) {
				return true
			}
		}
	}
	return false
}

// owners are the nodes that should hold a session.
func (v *view) owners(id string) []*node {
	var buf [8]int
	out := make([]*node, 0, v.copies)
	for _, i := range v.ring.AppendOwners(buf[:0], id, v.copies) {
		out = append(out, v.nodes[i])
	}
	return out
}

// holders lists whom to ask: owners, those of the ring before, and the others given.
func (c *Client) holders(v *view, id string, others []*node) []held {
	var out []held
	add := func(h held) {
		for i := range out {
			if out[i].node.is(h.node) {
				out[i].php = out[i].php || h.php
				return
			}
		}
		out = append(out, h)
	}
	for i, n := range v.owners(id) {
		php := !v.stamped && i == 0
		add(held{node: n, owner: true, php: php, plain: php && !v.mixed})
	}
	for p := v.previous; p != nil; p = p.previous {
		for i, n := range p.owners(id) {
			php := !p.stamped && i == 0
			add(held{node: n, php: php, plain: php && !v.mixed})
		}
	}
	for _, n := range others {
		add(held{node: n})
	}
	return out
}

// survey asks all holders at once. It fails only with the context. The sessions may be large, so that it goes by the
// second connection, but to nodes in PHP's own layout, where the order of commands counts.
func (c *Client) survey(ctx context.Context, id string, holders []held) error {
	wait := c.conf.deadline
	o := newOp()
	calls := make([]*call, len(holders))
	left := 0
	for i := range holders {
		h := &holders[i]
		if h.node.health.now() == StateDown {
			h.err = h.node.err("repair", h.node.health.cause())
			continue
		}
		calls[i] = &call{op: o, node: h.node, want: 3}
		left++
		h.ask(id, calls[i])
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	ended := map[*call]bool{}
	for left > 0 {
		select {
		case <-o.wake:
			for _, k := range o.take(nil) {
				if i := slices.Index(calls, k); judge(k.err) == verdictRetry && !k.again {
					k.again = true
					holders[i].ask(id, k)
					continue
				}
				ended[k] = true
				left--
			}
		case <-timer.C:
			left = 0
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i, k := range calls {
		h := &holders[i]
		switch {
		case k == nil:
		case !ended[k]:
			h.node.dropSilentBulk(c.silence(c.view.Load()) + c.suspicion())
			h.err = h.node.err("repair", ErrTimeout)
		case k.err != nil:
			h.err = h.node.err("repair", k.err)
		default:
			h.read(k.replies)
		}
	}
	return nil
}

// ask sends the questions of a survey.
func (h *held) ask(id string, k *call) {
	key, side := h.node.key(id), h.node.stampKey(id)
	b := appendCommand(nil, "MGET", key, side)
	b = appendCommand(b, "PTTL", key)
	b = appendCommand(b, "PTTL", side)
	sendBy(h.node.lane(!h.php), k, b)
}

func (h *held) read(r []reply) {
	for _, x := range r {
		if x.err != nil {
			h.err = h.node.err("repair", x.err)
			return
		}
	}
	if len(r) != 5 {
		h.err = h.node.err("repair", errProtocol)
		return
	}
	h.data, h.has = r[1].b, !r[1].null
	ms := max(r[3].n, r[4].n)
	if st, ok := parseStamp(r[2].b); ok && !r[2].null && !h.plain {
		h.stamp, h.raw = st, string(r[2].b)
		if d := digestOf(r[2].b); d != "" && !st.dead {
			h.stamp.foreign = h.has && d != string(plainVersion(h.data))
			h.stamp.dead = !h.has && h.php // destroyed in PHP's layout: DEL leaves our stamp
		}
		if h.stamp.dead {
			h.data, h.has = nil, false
			ms = r[4].n
		}
	} else if h.has {
		h.stamp = stamp{version: zeroVersion}
	}
	if ms > 0 {
		h.ttl = time.Duration(ms) * time.Millisecond
	}
}

// ttlSlack is how much sooner than the newest a copy of the same version may end before it is prolonged.
const ttlSlack = 2 * time.Second

// bringTo makes one copy as good as the best.
func (c *Client) bringTo(ctx context.Context, id string, h, best *held, ttl time.Duration) (wrote bool, err error) {
	n, key, side := h.node, h.node.key(id), h.node.stampKey(id)
	switch {
	case h == best:
		return false, nil
	case h.plain && best.stamp.dead:
		_, err = c.ask(ctx, n, c.conf.deadline, 1, appendCommand(nil, "DEL", key))
		return true, wrapNode(n, err)
	case h.plain:
		b := appendHeader(nil, 5)
		b = appendArg(appendArg(appendArg(appendArg(appendArg(b, "SET"), key), best.data), "PX"), formatMillis(ttl))
		_, err = c.ask(ctx, n, c.conf.deadline, 1, b)
		return true, wrapNode(n, err)
	case h.stamp.newer(best.stamp):
		return false, nil
	case h.stamp == best.stamp && best.stamp.dead:
		return false, nil
	case h.stamp == best.stamp && h.has:
		if best.stamp.version == zeroVersion || h.ttl <= 0 || h.ttl >= ttl-ttlSlack {
			return false, nil
		}
		b := appendCommand(nil, "PEXPIRE", key, formatMillis(ttl))
		b = appendCommand(b, "PEXPIRE", side, formatMillis(ttl))
		_, err = c.ask(ctx, n, c.conf.deadline, 2, b)
		return true, wrapNode(n, err)
	case best.stamp.dead:
		_, err = c.run(ctx, n, deleteScript, "2", key, side, best.stamp.String(), formatMillis(ttl))
		return true, err
	}
	text := best.stamp.String()
	if best.raw != "" {
		text = best.raw
	}
	r, err := c.run(ctx, n, writeScript, "2", key, side, brought(text), formatMillis(ttl), best.data)
	return err == nil && len(r) == 1 && r[0].kind == ':', err
}

func wrapNode(n *node, err error) error {
	if err == nil {
		return nil
	}
	return n.err("repair", err)
}

// run runs a script on one node.
func (c *Client) run(ctx context.Context, n *node, s *script, args ...any) ([]reply, error) {
	for range 2 {
		t := try{node: n}
		b := appendScript(nil, s, &t, args...)
		r, _, err := c.askBy(ctx, n, len(b) >= bulkSize, c.conf.deadline, 1, b) // scripts need no order: they are guarded
		if isNoScript(err) {
			n.forgetScripts()
			continue
		}
		if err == nil {
			n.learned(s)
		}
		return r, wrapNode(n, err)
	}
	return nil, n.err("repair", errors.New("the node forgets its scripts"))
}
