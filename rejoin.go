package sessionring

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// How a node that was away becomes whole again.
//
// Writes that an owner missed leave a hint: the id, in a set named after the owner, on a node that took the
// write. A node's mark names the server process (run_id) that was brought up to date last. A node is trusted
// when its mark is its own process's and no hints wait for it. Where the mark is another's or missing, the
// node restarted with old data, restarted empty, was emptied, or is new: everything that it owns is compared
// and brought over from the other nodes. Either is done by one client, under a lease on the node itself;
// the others wait for the mark.

const (
	leaseTime   = 5 * time.Second
	leaseRenew  = leaseTime / 3
	scanCount   = "512"
	levellers   = 32 // sessions brought up to date at the same time
	hintBatch   = 256
	lookTimeout = 2 * time.Second
)

// others are the nodes of the view, and of those before it, that n's copies can come from.
func (v *view) others(n *node) []*node {
	var out []*node
	for ; v != nil; v = v.previous {
		for _, o := range v.distinct {
			if !o.is(n) && !slices.ContainsFunc(out, o.is) {
				out = append(out, o)
			}
		}
	}
	return out
}

// mark is the value of a node's mark key: its run_id, then the nodes that could not be asked at the time.
type mark struct {
	runID  string
	absent []string
}

func parseMark(s string) mark {
	lines := strings.Split(s, "\n")
	return mark{runID: lines[0], absent: lines[1:]}
}

func (m mark) String() string { return strings.Join(append([]string{m.runID}, m.absent...), "\n") }

// look is the regular look at a node that is up: is its mark still there, and does it hold hints for others?
func (c *Client) look(ctx context.Context, n *node) {
	v := c.view.Load()
	others := v.others(n)
	b := appendCommand(nil, "GET", n.markKey())
	for _, o := range others {
		b = appendCommand(b, "SCARD", n.hintKey(o))
	}
	r, err := c.ask(ctx, n, min(lookTimeout, c.suspicion()), 1+len(others), b)
	if err != nil || len(r) != 1+len(others) {
		if err != nil && ctx.Err() == nil && judge(err) == verdictFailed {
			n.health.failed(n.health.epoch.Load(), n.err("check", err))
		}
		return
	}
	c.hear(ctx, n, v)
	if !v.stamped {
		// PHP's layout has no marks: what was there is as good as ever.
	} else if m := parseMark(string(r[0].b)); r[0].null || !n.health.isProcess(m.runID) {
		n.health.doubted()
		n.health.wake()
		return
	} else if c.back(v, m) {
		n.health.wantsPass()
	}
	for i, o := range others {
		if count := r[1+i].n; o.health.owe(n.id, count) && o.health.now() != StateDown {
			if v.copies < 2 {
				o.health.doubted() // its own copy may be older than the stand-in
			}
			o.health.wake()
		}
	}
	if n.health.debt() > 0 || n.health.passWanted() {
		c.bringUpToDate(ctx, n)
	}
}

// hear leaves the fingerprint of this client's ring on a node and learns whose else is in use.
func (c *Client) hear(ctx context.Context, n *node, v *view) {
	if c.conf.observer {
		return // a tool's list is nobody's to wait for
	}
	r, err := c.run(ctx, n, ringsScript, "1", ringsKey+n.scope, fingerprint(v.ring), formatMillis(c.conf.ringSilence/1000))
	if err != nil || len(r) == 0 {
		return
	}
	var rings []string
	for _, x := range r[1:] {
		rings = append(rings, string(x.b))
	}
	n.health.hears(rings)
}

// back reports whether a node that was absent from the last pass can be asked now.
func (c *Client) back(v *view, m mark) bool {
	for _, id := range m.absent {
		for _, o := range v.distinct {
			if o.id == id && o.health.now() == StateUp {
				return true
			}
		}
	}
	return false
}

// bringUpToDate makes a node whole, or finds that it is, or waits for the client that does. True when done.
func (c *Client) bringUpToDate(ctx context.Context, n *node) bool {
	h := n.health
	epoch := h.epoch.Load()
	v := c.view.Load()
	if !v.stamped {
		h.passDone(true, h.missing()) // what was missed without a hint is past finding
	}
	_, full, err := c.needsFull(ctx, n, v)
	if err != nil {
		if ctx.Err() == nil && judge(err) == verdictFailed {
			h.failed(epoch, n.err("check", err))
		}
		return false
	}
	hinted := c.hintsFor(ctx, n, v, lookTimeout)
	if !full && hinted == 0 {
		h.caughtUp(epoch)
		return true
	}
	if c.conf.observer {
		c.followRejoin(ctx, n)
		return false
	}
	token := rand.Text()
	got, err := c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "SET", n.leaseKey(), token, "NX", "PX", formatMillis(leaseTime)))
	if err != nil || len(got) != 1 || got[0].null {
		c.followRejoin(ctx, n)
		return false // another client is at it, or the node is gone again
	}
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	t := &tally{}
	begun := time.Now()
	renewing.Go(func() { c.keepLease(ctx, cancel, n, token, func() { c.tellRejoin(ctx, n, t, begun) }) })
	defer func() {
		cancel()
		renewing.Wait()
		_, _ = c.ask(c.ctx, n, lookTimeout, 1, appendCommand(nil, "DEL", n.progressKey()))
		_, _ = c.run(c.ctx, n, releaseScript, "1", n.leaseKey(), token) // else it expires
	}()
	// Whoever held the lease before may have done it all while this client waited.
	m, full, err := c.needsFull(ctx, n, v)
	if err != nil {
		return false
	}
	if !full && c.hintsFor(ctx, n, v, lookTimeout) == 0 {
		h.caughtUp(epoch)
		return true
	}
	h.report(func(p *Progress) { *p = Progress{Since: begun, Own: true} })
	c.tellRejoin(ctx, n, t, begun)
	done := c.pass(ctx, n, v, m, full, t)
	c.report(n, t)
	h.report(func(p *Progress) { p.Done = done })
	if done {
		c.conf.logger.Info("node is up to date", "node", n.id, "scanned", t.scanned.Load(), "copied", t.copied.Load())
		h.caughtUp(epoch)
	}
	return done
}

// needsFull reads the node's mark. In PHP's own layout there is none, and nothing to compare: only stand-in
// copies have to be handed back.
func (c *Client) needsFull(ctx context.Context, n *node, v *view) (mark, bool, error) {
	if !v.stamped {
		return mark{}, false, nil
	}
	r, err := c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "GET", n.markKey()))
	if err != nil {
		return mark{}, false, err
	}
	if r[0].null {
		return mark{}, true, nil
	}
	m := parseMark(string(r[0].b))
	return m, !n.health.isProcess(m.runID) || c.back(v, m) || n.health.missing() > 0, nil
}

// hintsFor counts what waits for n on the other nodes, as far as they answer in time.
func (c *Client) hintsFor(ctx context.Context, n *node, v *view, wait time.Duration) int64 {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	o := newOp()
	out := 0
	for _, src := range v.others(n) {
		if src.health.now() == StateDown {
			continue
		}
		src.send(&call{op: o, node: src, want: 1}, appendCommand(nil, "SCARD", src.hintKey(n)))
		out++
	}
	total := int64(0)
	for out > 0 {
		select {
		case <-o.wake:
		case <-ctx.Done():
			return total
		}
		for _, k := range o.take(nil) {
			if judge(k.err) == verdictRetry && !k.again {
				k.again = true
				k.node.send(k, appendCommand(nil, "SCARD", k.node.hintKey(n)))
				continue
			}
			out--
			if k.err == nil && len(k.replies) == 1 && k.replies[0].err == nil {
				n.health.owe(k.node.id, k.replies[0].n)
				total += k.replies[0].n
			}
		}
	}
	return total
}

// keepLease renews the lease until ctx ends, and ends the pass when the lease is lost.
func (c *Client) keepLease(ctx context.Context, cancel context.CancelFunc, n *node, token string, renewed func()) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, err := c.run(ctx, n, renewScript, "1", n.leaseKey(), token, formatMillis(leaseTime))
		switch {
		case err == nil && len(r) == 1 && r[0].n == 1:
			last = time.Now()
			renewed()
		case err == nil, time.Since(last) > leaseTime:
			cancel()
			return
		}
	}
}

// pass brings everything over, then hands out the mark.
func (c *Client) pass(ctx context.Context, n *node, v *view, m mark, full bool, t *tally) bool {
	if full {
		next, missing := mark{runID: n.health.process()}, n.health.missing()
		away := 0
		for _, o := range v.others(n) {
			if o.health.now() == StateDown {
				away++
			}
		}
		if v.copies > 1 && away >= v.copies {
			return false // both copies of a session may be on nodes that cannot be asked: not to be trusted yet
		}
		t.total.Store(c.countStamps(ctx, append(v.others(n), n)))
		for _, src := range append(v.others(n), n) {
			if src.health.now() == StateDown {
				next.absent = append(next.absent, src.id)
				continue
			}
			if err := c.compare(ctx, v, n, src, t); err != nil {
				c.conf.logger.Warn("bringing a node up to date was interrupted", "node", n.id, "from", src.id, "err", err)
				return false
			}
		}
		if !c.drainHints(ctx, n, v, t) {
			return false
		}
		_, err := c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "SET", n.markKey(), next.String()))
		n.health.passDone(err == nil, missing)
		return err == nil && ctx.Err() == nil
	}
	return c.drainHints(ctx, n, v, t)
}

// drainHints works off the ids that wait for n on every node that can be asked.
func (c *Client) drainHints(ctx context.Context, n *node, v *view, t *tally) bool {
	for _, src := range v.others(n) {
		if src.health.now() == StateDown {
			continue
		}
		if err := c.drainFrom(ctx, n, src, t); err != nil {
			return false
		}
	}
	return ctx.Err() == nil
}

func (c *Client) drainFrom(ctx context.Context, n, src *node, t *tally) error {
	key := src.hintKey(n)
	if r, err := c.ask(ctx, src, lookTimeout, 1, appendCommand(nil, "SCARD", key)); err == nil && len(r) == 1 {
		t.total.Add(r[0].n)
	}
	for cursor := "0"; ; {
		r, err := c.ask(ctx, src, lookTimeout, 1, appendCommand(nil, "SSCAN", key, cursor, "COUNT", "256"))
		if err != nil {
			return err
		}
		if len(r) < 3 {
			return errProtocol
		}
		cursor = string(r[1].b)
		var ids []string
		for _, x := range r[3:] {
			ids = append(ids, string(x.b))
		}
		if err := c.levelAll(ctx, ids, t, func(id string) error { return c.settleHint(ctx, n, src, id, t) }); err != nil {
			return err
		}
		t.seen.Add(int64(len(ids)))
		c.report(n, t)
		if cursor == "0" {
			break
		}
	}
	n.health.owe(src.id, 0)
	return nil
}

// settleHint brings one hinted session to n and takes the hint back; where another owner is still away, the
// stand-in copy stays and waits for that one.
func (c *Client) settleHint(ctx context.Context, n, src *node, id string, t *tally) error {
	out, err := c.level(ctx, id, "hint", src, n)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.copied.Add(int64(out.copied))
	at, asked := out.at(n)
	if asked && at.owner && !at.ok && out.newest.version != "" {
		if err == nil {
			err = n.err("repair", ErrTimeout)
		}
		return err
	}
	if err != nil && out.whole {
		return err // every owner has it, but the stand-in copy could not be removed: the hint must stay
	}
	if !out.whole {
		var b []byte
		want := 0
		for _, h := range out.held {
			if h.owner && !h.ok && !h.node.is(n) && !h.node.is(src) {
				b = c.appendHint(b, src, h.node, id)
				want += hintReplies
			}
		}
		if want > 0 {
			if _, err := c.ask(ctx, src, lookTimeout, want, b); err != nil {
				return err
			}
		}
	}
	// A write that came to src since the survey left a hint of its own, under the same name.
	stood := ""
	if at, asked := out.at(src); asked && !at.gone {
		stood = at.raw
	}
	_, err = c.run(ctx, src, hintDoneScript, "2", src.hintKey(n), src.stampKey(id), id, stood)
	return err
}

// compare brings over from src what n should hold and does not.
func (c *Client) compare(ctx context.Context, v *view, n, src *node, t *tally) error {
	return c.scanStamps(ctx, src, func(ids []string) error {
		mine := ids[:0]
		var strays []string // copies that came back with n, which is no owner of theirs (any more)
		for _, id := range ids {
			if v.owns(n, id) {
				mine = append(mine, id)
			} else if n.is(src) {
				strays = append(strays, id)
			}
		}
		t.seen.Add(int64(len(ids)))
		t.scanned.Add(int64(len(mine)))
		if err := c.levelAll(ctx, strays, t, func(id string) error {
			_, err := c.level(ctx, id, "rejoin", n)
			if ctx.Err() == nil {
				err = nil // where an owner is away the copy may be the only one: it stays
			}
			return err
		}); err != nil {
			return err
		}
		behind, err := c.differing(ctx, n, src, mine, false)
		if err != nil {
			return err
		}
		c.report(n, t)
		return c.levelAll(ctx, behind, t, func(id string) error {
			out, err := c.level(ctx, id, "rejoin", src)
			t.copied.Add(int64(out.copied))
			if at, asked := out.at(n); asked && at.ok {
				return nil // another owner's trouble is not this pass's
			}
			return err
		})
	})
}

// differing returns the ids whose stamps on two nodes differ, with ttl also those whose copy on n ends sooner.
// When both are one node, those whose other owners must be asked: all.
func (c *Client) differing(ctx context.Context, n, src *node, ids []string, ttl bool) ([]string, error) {
	if n.is(src) || len(ids) == 0 {
		return ids, nil
	}
	var got [2][]reply
	for i, at := range []*node{n, src} {
		b, want := appendHeader(nil, 1+len(ids)), 1
		b = appendArg(b, "MGET")
		for _, id := range ids {
			b = appendArg(b, at.stampKey(id))
		}
		if ttl {
			for _, id := range ids {
				b = appendCommand(b, "PTTL", at.stampKey(id))
			}
			want += len(ids)
		}
		r, err := c.ask(ctx, at, lookTimeout, want, b)
		if err != nil {
			return nil, err
		}
		if len(r) != want+len(ids) {
			return nil, errProtocol
		}
		got[i] = r[1:]
	}
	out := make([]string, 0, len(ids))
	for i, id := range ids {
		sooner := ttl && got[0][len(ids)+i].n < got[1][len(ids)+i].n-ttlSlack.Milliseconds()
		if sooner || !sameStamp(got[0][i].b, got[1][i].b) {
			out = append(out, id)
		}
	}
	return out, nil
}

// levelAll works on ids with bounded concurrency and at the configured rate. It returns the first error that
// says the pass cannot go on: the context's.
func (c *Client) levelAll(ctx context.Context, ids []string, t *tally, each func(id string) error) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, levellers)
	var failed atomic.Int64
	for _, id := range ids {
		if err := c.limit.Wait(ctx); err != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if each(id) != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if n := failed.Load(); n > 0 {
		t.failed.Add(n)
		return errIncomplete
	}
	return nil
}

var errIncomplete = errors.New("some sessions could not be copied yet")

// scanStamps goes over the ids that have a stamp on a node, a batch at a time, by SCAN: never KEYS.
func (c *Client) scanStamps(ctx context.Context, n *node, batch func(ids []string) error) error {
	prefix := n.stampKey("")
	return c.scan(ctx, n, globEscape(prefix)+"*", func(keys []string) error {
		ids := make([]string, 0, len(keys))
		for _, k := range keys {
			ids = append(ids, k[len(prefix):])
		}
		return batch(ids)
	})
}

func (c *Client) scan(ctx context.Context, n *node, match string, batch func(keys []string) error) error {
	for cursor := "0"; ; {
		r, err := c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "SCAN", cursor, "MATCH", match, "COUNT", scanCount))
		if err != nil {
			return n.failure("scan", err)
		}
		if len(r) < 3 {
			return n.err("scan", errProtocol)
		}
		cursor = string(r[1].b)
		if keys := r[3:]; len(keys) > 0 {
			list := make([]string, len(keys))
			for i, k := range keys {
				list[i] = string(k.b)
			}
			if err := batch(list); err != nil {
				return err
			}
		}
		if cursor == "0" {
			return nil
		}
	}
}

// seen leaves out what SCAN repeats. It keeps hashes: 8 bytes an id, some 400 MB for ten million.
type seen map[uint64]struct{}

func newSeen() seen { return seen{} }

func (s seen) fresh(ids []string) []string {
	out := ids[:0]
	for _, id := range ids {
		h := xxhash.Sum64String(id)
		if _, ok := s[h]; ok {
			continue
		}
		s[h] = struct{}{}
		out = append(out, id)
	}
	return out
}

// globEscape makes s match itself in a SCAN pattern.
func globEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`*?[]^\-`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
