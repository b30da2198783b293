package sessionring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// How a Client changes over to another node list.
//
// From the change on, every operation counts the owners of both lists: writes go to both, reads take the
// newest of both, so clients that change over minutes apart see each other's writes. Meanwhile all sessions
// are brought to their new owners. The old list is let go once that is done and no client that still works by
// it has been heard of for a while: every client leaves the fingerprint of its ring on every node, each
// second, dated by the node's own clock.

const (
	ringsKey      = "sessionring:rings" // fingerprints of the rings in use, by the time they were last heard of
	ringSilence   = 15 * time.Second    // after so long unheard, nobody works by a ring any more
	maxPrevious   = 3                   // lists that may be drained at the same time
	drainRetry    = time.Second
	drainInterval = 2 * time.Second
)

// ringsScript notes the caller's ring and answers all that were heard of lately.
//
//	KEYS rings    ARGV fingerprint, silence in seconds
var ringsScript = newScript(7, `local t=tonumber(redis.call('TIME')[1])
redis.call('ZADD',KEYS[1],t,ARGV[1])
redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf',t-tonumber(ARGV[2]))
redis.call('EXPIRE',KEYS[1],3600)
return redis.call('ZRANGE',KEYS[1],0,-1)`)

// fingerprint names a ring: equal for all clients that place and copy sessions alike.
func fingerprint(r *Ring) string {
	var parts []string
	for _, n := range r.Nodes() {
		parts = append(parts, n.ID()+" "+strconv.Itoa(n.Weight)+" "+n.Prefix)
	}
	if r.Distribution() == Consistent {
		slices.Sort(parts) // the order of entries does not matter
	}
	parts = append(parts, string(r.Distribution()), strconv.Itoa(r.Copies()))
	return fmt.Sprintf("%016x", xxhash.Sum64String(strings.Join(parts, "\n")))
}

// WithPrevious names the save_path that was in use before: its nodes are read and written too until all
// sessions have moved and no other client works by it any more. For a process that starts with a new node
// list, or with another distribution, while sessions still live where the old one put them.
func WithPrevious(savePath string) Option { return func(c *config) { c.previous = savePath } }

// Reconfigure changes over to another save_path while operations go on; they are not interrupted, and those
// under way end by the list they began with. Sessions are brought to their new owners in the background
// (Draining tells how far that is). Nobody is logged out: until then both lists are in use. Options given to
// Open still win over the string. With an error nothing has changed.
//
// A list that only changes passwords, timeouts or the order of entries moves nothing. Redis Cluster and
// Sentinel strings cannot be changed into others, or lists into them: open another Client.
func (c *Client) Reconfigure(ctx context.Context, savePath string) error {
	sp, err := c.conf.parse(savePath)
	if err != nil {
		return err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	old := c.view.Load()
	if sp.Kind != KindNodes || old.engine {
		return fmt.Errorf("%w: a node list cannot be changed into a Redis Cluster or Sentinel string, or back; open another Client", ErrSavePath)
	}
	for depth := 0; ; depth++ {
		n := 0
		for p := old.previous; p != nil; p = p.previous {
			n++
		}
		if n < maxPrevious {
			break
		}
		// Too many lists at once would make every operation ask half the fleet.
		if _, err := c.drainOnce(ctx, old, &tally{}); err != nil {
			return fmt.Errorf("sessionring: %d node lists are being drained already: %w", n, err)
		}
		old = c.forgetOldest(old)
	}
	next, err := c.newView(sp, old.byID())
	if err != nil {
		return err
	}
	next.follow(old)
	c.view.Store(next)
	for _, n := range next.distinct {
		if n.stop == nil {
			c.watchOver(n)
		}
	}
	c.retire(old, next)
	if next.previous != nil {
		c.startDraining()
	}
	c.conf.logger.Info("node list changed", "nodes", len(next.distinct), "draining", next.previous != nil)
	return nil
}

// byID are the nodes of a view and of those before it.
func (v *view) byID() map[string]*node {
	out := map[string]*node{}
	for ; v != nil; v = v.previous {
		for _, n := range v.distinct {
			if out[n.id] == nil {
				out[n.id] = n
			}
		}
	}
	return out
}

// follow keeps old as the list before, unless both place every session alike.
func (v *view) follow(old *view) {
	v.previous = old
	if fingerprint(old.ring) == fingerprint(v.ring) {
		v.previous = old.previous
	}
	v.previous = v.previous.rebound(v.byIDOwn())
	v.setMixed()
}

func (v *view) byIDOwn() map[string]*node {
	out := map[string]*node{}
	for _, n := range v.distinct {
		out[n.id] = n
	}
	return out
}

// rebound is a chain of older lists whose nodes are, where they have the same id, the ones given: a node has
// one connection and one state, even where its password changed.
func (v *view) rebound(nodes map[string]*node) *view {
	if v == nil {
		return nil
	}
	w := *v
	w.nodes = slices.Clone(v.nodes)
	w.distinct = slices.Clone(v.distinct)
	for _, list := range [][]*node{w.nodes, w.distinct} {
		for i, n := range list {
			if same := nodes[n.id]; same != nil && same.cfg.Prefix == n.cfg.Prefix {
				list[i] = same
			}
		}
	}
	w.previous = v.previous.rebound(nodes)
	return &w
}

func (v *view) setMixed() {
	plain := false
	for w := v; w != nil; w = w.previous {
		plain = plain || !w.stamped
	}
	v.mixed = plain && v.previous != nil
}

// retire closes the nodes that no list names any more, once what is under way on them has ended.
func (c *Client) retire(old, next *view) {
	kept := map[*node]bool{}
	for v := next; v != nil; v = v.previous {
		for _, n := range v.distinct {
			kept[n] = true
		}
	}
	for v := old; v != nil; v = v.previous {
		for _, n := range v.distinct {
			if kept[n] || n.retired.Swap(true) {
				continue
			}
			c.wg.Add(1)
			go func() {
				defer c.wg.Done()
				_ = c.pause(context.Background(), 2*c.conf.deadline)
				n.close()
			}()
		}
	}
}

// forgetOldest lets the oldest list of a drained chain go; c.changing is held.
func (c *Client) forgetOldest(v *view) *view {
	next := v.without(1)
	c.view.Store(next)
	c.retire(v, next)
	return next
}

// without is the view less the last n lists of its chain.
func (v *view) without(n int) *view {
	depth := 0
	for p := v.previous; p != nil; p = p.previous {
		depth++
	}
	w := *v
	if depth <= n {
		w.previous = nil
	} else {
		w.previous = v.previous.without(n)
	}
	w.setMixed()
	return &w
}

// startDraining has the background worker bring sessions to their owners; there is one at most.
func (c *Client) startDraining() {
	if c.conf.observer || c.draining.Swap(true) {
		return
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		for c.drainUntilDone() {
			// A change came in just as the last one was done.
		}
	}()
}

// drainUntilDone works until there is no list before; true when one was added at the last moment.
func (c *Client) drainUntilDone() bool {
	ctx := c.ctx
	tidied := 0
	for {
		v := c.view.Load()
		if v.previous == nil && c.untidy.Load() {
			// No hints speak of what was written by the list that was let go.
			if tidied++; c.tidy(ctx, v) {
				c.untidy.Store(false)
			} else if c.pause(ctx, min(time.Minute, time.Duration(tidied)*drainInterval)) != nil {
				return false
			}
			continue
		}
		if v.previous == nil {
			c.draining.Store(false)
			return c.view.Load().previous != nil && !c.draining.Swap(true)
		}
		t := &tally{}
		clean, err := c.drainOnce(ctx, v, t)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			c.conf.logger.Warn("draining the previous node list was interrupted", "err", err)
		}
		if err == nil && clean && c.alone(v) {
			c.letGo(v)
			tidied = 0
			continue
		}
		if c.pause(ctx, drainInterval) != nil {
			return false
		}
	}
}

// alone reports whether no client was heard of lately that works by another ring than this one's, on any node.
func (c *Client) alone(v *view) bool {
	mine := fingerprint(v.ring)
	for _, n := range v.byID() {
		for _, fp := range n.health.ringsHeard() {
			if fp != mine {
				return false
			}
		}
	}
	return time.Since(v.since) > 2*c.conf.deadline
}

// letGo ends the use of the lists before, and removes what is left of sessions on nodes that do not own them.
func (c *Client) letGo(v *view) {
	c.changing.Lock()
	if c.view.Load() != v || c.closed.Load() {
		c.changing.Unlock()
		return
	}
	next := *v
	next.previous = nil
	next.setMixed()
	c.view.Store(&next)
	c.retire(v, &next)
	c.changing.Unlock()
	c.conf.logger.Info("previous node list drained", "nodes", len(next.distinct))
	c.untidy.Store(true)
}

// tidy removes copies that their owners surpass from nodes that do not own them; true when all were looked at
// and none is left.
func (c *Client) tidy(ctx context.Context, v *view) bool {
	clean := true
	if !v.stamped {
		return clean
	}
	for _, n := range v.distinct {
		if n.health.now() == StateDown {
			clean = false
			continue
		}
		err := c.scanStamps(ctx, n, func(ids []string) error {
			others := ids[:0]
			for _, id := range ids {
				if !v.owns(n, id) {
					others = append(others, id)
				}
			}
			err := c.levelAll(ctx, others, &tally{}, func(id string) error {
				_, err := c.level(ctx, id, "move", n)
				return err
			})
			if errors.Is(err, errIncomplete) {
				clean = false
				return nil // the rest of the scan all the same
			}
			return err
		})
		clean = clean && err == nil
	}
	return clean
}

// drainOnce brings every session of the lists before to its owners. clean: everybody could be asked and
// nothing is left.
func (c *Client) drainOnce(ctx context.Context, v *view, t *tally) (clean bool, err error) {
	clean = true
	began := time.Now()
	c.drained.report(func(p *Progress) { *p = Progress{Since: began} })
	done := map[*node]bool{}
	for p := v.previous; p != nil; p = p.previous {
		for _, src := range p.distinct {
			if done[src] {
				continue
			}
			done[src] = true
			if src.health.now() == StateDown {
				clean = false // its copies have twins, or wait until it is back
				continue
			}
			if e := c.drainNode(ctx, v, p, src, t); e != nil {
				clean, err = false, e
				if ctx.Err() != nil {
					return false, ctx.Err()
				}
			}
		}
	}
	c.drained.report(func(p *Progress) {
		*p = Progress{Since: began, Scanned: t.scanned.Load(), Copied: t.copied.Load(), Failed: t.failed.Load(), Done: clean}
	})
	return clean, err
}

func (c *Client) drainNode(ctx context.Context, v, from *view, src *node, t *tally) error {
	work := func(ids []string) error {
		t.scanned.Add(int64(len(ids)))
		left, err := c.unmoved(ctx, v, src, ids, false)
		if err != nil {
			return err
		}
		err = c.levelAll(ctx, left, t, func(id string) error {
			out, err := c.level(ctx, id, "move", src)
			t.copied.Add(int64(out.copied))
			if t.each != nil {
				t.each(out)
			}
			return err
		})
		c.drained.report(func(p *Progress) {
			p.Scanned, p.Copied, p.Failed = t.scanned.Load(), t.copied.Load(), t.failed.Load()
		})
		return err
	}
	if err := c.scanStamps(ctx, src, work); err != nil {
		return err
	}
	if from.stamped {
		return nil
	}
	return c.scanValues(ctx, src, work)
}

// unmoved leaves out ids whose owners all hold the stamp that src holds: two bulk reads instead of a survey
// of each. With ttl, copies that end sooner than src's are not in place either. Where PHP's layout is in play
// the data have to be looked at.
func (c *Client) unmoved(ctx context.Context, v *view, src *node, ids []string, ttl bool) ([]string, error) {
	if v.mixed || !v.stamped {
		return ids, nil
	}
	behind := map[string]bool{}
	byOwner := map[*node][]string{}
	for _, id := range ids {
		for _, o := range v.owners(id) {
			if !o.is(src) {
				byOwner[o] = append(byOwner[o], id)
			}
		}
	}
	for o, list := range byOwner {
		if o.health.now() == StateDown {
			for _, id := range list {
				behind[id] = true
			}
			continue
		}
		differ, err := c.differing(ctx, o, src, list, ttl)
		if err != nil {
			return nil, err
		}
		for _, id := range differ {
			behind[id] = true
		}
	}
	out := ids[:0]
	for _, id := range ids {
		if behind[id] {
			out = append(out, id)
		}
	}
	return out, nil
}

// scanValues goes over the ids that have a value on a node, stamped or not.
func (c *Client) scanValues(ctx context.Context, n *node, batch func(ids []string) error) error {
	prefix := n.cfg.Prefix
	return c.scan(ctx, n, globEscape(prefix)+"*", func(keys []string) error {
		ids := make([]string, 0, len(keys))
		for _, k := range keys {
			if id := k[len(prefix):]; isSessionKey(k, id) {
				ids = append(ids, id)
			}
		}
		return batch(ids)
	})
}

// isSessionKey tells a session's key from locks, side keys, and keys of a prefix that begins with this one:
// ids never hold a colon.
func isSessionKey(key, id string) bool {
	return !strings.HasSuffix(id, "_LOCK") && !strings.HasPrefix(key, "sessionring:") &&
		!strings.Contains(id, ":") && CheckID(id) == nil
}

// Draining reports whether a previous node list is still in use, and how far its sessions have moved.
func (c *Client) Draining() (bool, Progress) {
	c.drained.mu.Lock()
	defer c.drained.mu.Unlock()
	return c.view.Load().previous != nil, c.drained.p
}
