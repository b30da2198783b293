package sessionring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// MigrateOptions says how to migrate; the zero value moves everything at the configured rate.
type MigrateOptions struct {
	// DryRun counts what would be moved and writes nothing.
	DryRun bool
	// Progress is called a few times a second from another goroutine; may be nil.
	Progress func(MigrateResult)
}

// MigrateResult is what a migration did, or would do.
type MigrateResult struct {
	Scanned int64 // sessions looked at, each once
	Moved   int64 // of them, those of which an owner lacked the newest copy
	Skipped int64 // were in place
	Failed  int64 // could not be moved: run it again
	Elapsed time.Duration
	Leaving []LeavingNode // nodes that the new list does not name
}

// LeavingNode says whether a node that leaves may be switched off.
type LeavingNode struct {
	Node      string
	Remaining int64 // sessions whose new owners do not all have what it has
	Err       error // it could not be asked: unknown
}

// Safe reports whether nothing lives on the node alone.
func (l LeavingNode) Safe() bool { return l.Err == nil && l.Remaining == 0 }

// Migrate brings every session from the previous node list (WithPrevious, or the one before Reconfigure) to
// its owners, once, and then checks that none lives only on a node that leaves. Interrupted, it is simply run
// again: what is in place is passed over. Sessions keep their time to live; what expired or was destroyed
// meanwhile stays so. The error says that something failed or could not be asked; the result holds what was
// done until then.
func (c *Client) Migrate(ctx context.Context, opt MigrateOptions) (MigrateResult, error) {
	if c.closed.Load() {
		return MigrateResult{}, ErrClosed
	}
	v := c.view.Load()
	if v.previous == nil {
		return MigrateResult{}, errors.New("sessionring: there is no previous node list to migrate from (WithPrevious)")
	}
	m := &migration{c: c, v: v, dry: opt.DryRun, began: time.Now(), counted: newSeen()}
	if err := c.awaitNodes(ctx, v); err != nil {
		return m.result(), err
	}
	stop := make(chan struct{})
	if opt.Progress != nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					opt.Progress(m.result())
				case <-stop:
					return
				}
			}
		}()
		defer func() {
			close(stop)
			<-done
		}()
	}
	err := m.move(ctx)
	res := m.result()
	if ctx.Err() == nil {
		res.Leaving = m.leaving(ctx)
		res.Elapsed = time.Since(m.began)
	}
	return res, err
}

// awaitNodes waits until every node has been met or found down, a moment at most.
func (c *Client) awaitNodes(ctx context.Context, v *view) error {
	var down error
	for _, n := range v.byID() {
		if err := c.ping(ctx, n); err != nil {
			var ne *NodeError
			if !errors.As(err, &ne) {
				ne = n.err("migrate", err)
			}
			down = errors.Join(down, ne)
		}
	}
	return down
}

type migration struct {
	c                      *Client
	v                      *view
	dry                    bool
	began                  time.Time
	scanned, moved, failed atomic.Int64
	counted                seen // a session has copies on several nodes
}

func (m *migration) result() MigrateResult {
	r := MigrateResult{Scanned: m.scanned.Load(), Moved: m.moved.Load(), Failed: m.failed.Load(), Elapsed: time.Since(m.began)}
	r.Skipped = max(0, r.Scanned-r.Moved-r.Failed)
	return r
}

func (m *migration) move(ctx context.Context) error {
	var all error
	done := map[*node]bool{}
	for p := m.v.previous; p != nil; p = p.previous {
		for _, src := range p.distinct {
			if done[src] {
				continue
			}
			done[src] = true
			scan := m.c.scanStamps
			if !p.stamped {
				scan = m.c.scanValues
			}
			seen := newSeen()
			err := scan(ctx, src, func(ids []string) error { return m.batch(ctx, src, seen.fresh(ids)) })
			if ctx.Err() != nil {
				return ctx.Err()
			}
			all = errors.Join(all, err)
		}
	}
	return all
}

// batch moves the sessions of one batch of a scan of src.
func (m *migration) batch(ctx context.Context, src *node, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	first := map[string]bool{}
	for _, id := range m.counted.fresh(slices.Clone(ids)) {
		first[id] = true
	}
	m.scanned.Add(int64(len(first)))
	if m.dry {
		ids = slices.DeleteFunc(ids, func(id string) bool { return !first[id] })
	}
	left, err := m.c.unmoved(ctx, m.v, src, ids, true)
	if err != nil {
		return err
	}
	err = m.c.levelAll(ctx, left, &tally{}, func(id string) error {
		var behind bool
		var err error
		if m.dry {
			behind, err = m.c.behind(ctx, m.v, id, src)
		} else {
			var out outcome
			out, err = m.c.level(ctx, id, "migrate", src)
			behind = out.copied > 0
		}
		switch {
		case errors.Is(err, errMoved):
			return nil // changed while it was looked at: its writer writes to both lists
		case err != nil:
			m.failed.Add(1)
			return err
		case behind:
			m.moved.Add(1)
		}
		return nil
	})
	return err
}

// behind reports whether an owner lacks the newest copy.
func (c *Client) behind(ctx context.Context, v *view, id string, src *node) (bool, error) {
	held := c.holders(v, id, []*node{src})
	if err := c.survey(ctx, id, held); err != nil {
		return false, err
	}
	var best stamp
	for _, h := range held {
		if h.err == nil && (h.has || h.stamp.dead) && (best.version == "" || h.stamp.newer(best)) {
			best = h.stamp
		}
	}
	for _, h := range held {
		if h.owner && h.err != nil {
			return false, h.err
		}
		if h.owner && best.version != "" && best.newer(h.stamp) {
			return true, nil
		}
	}
	return false, nil
}

// leaving checks the nodes that the new list does not name.
func (m *migration) leaving(ctx context.Context) []LeavingNode {
	stays := map[string]bool{}
	for _, n := range m.v.distinct {
		stays[n.id] = true
	}
	var out []LeavingNode
	checked := map[*node]bool{}
	for p := m.v.previous; p != nil; p = p.previous {
		for _, n := range p.distinct {
			if stays[n.id] || checked[n] {
				continue
			}
			checked[n] = true
			l := LeavingNode{Node: n.id}
			var left atomic.Int64
			scan := m.c.scanStamps
			if !p.stamped {
				scan = m.c.scanValues
			}
			seen := newSeen()
			l.Err = scan(ctx, n, func(ids []string) error {
				ids, err := m.c.unmoved(ctx, m.v, n, seen.fresh(ids), false)
				if err != nil {
					return err
				}
				return m.c.levelAll(ctx, ids, &tally{}, func(id string) error {
					behind, err := m.c.behind(ctx, m.v, id, n)
					if behind {
						left.Add(1)
					}
					return err
				})
			})
			l.Remaining = left.Load()
			if l.Err != nil {
				l.Err = fmt.Errorf("what lives there alone is not known: %w", l.Err)
			}
			out = append(out, l)
		}
	}
	return out
}
