package sessionring

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Progress is how far a rejoin or a migration is.
type Progress struct {
	Since   time.Time // zero: none was under way
	Seen    int64     // ids gone over, wherever they belong
	Total   int64     // ids to go over, about
	Scanned int64     // of those seen, the node's own
	Copied  int64     // copies written
	Failed  int64     // sessions that could not be brought up to date yet
	Own     bool      // this client does it; else another one told
	Done    bool
}

// Left is about how long it will go on, at the pace so far; zero where it is done or cannot be told.
func (p Progress) Left() time.Duration {
	if p.Done || p.Seen <= 0 || p.Since.IsZero() {
		return 0
	}
	return time.Duration(float64(time.Since(p.Since)) / float64(p.Seen) * float64(max(p.Total-p.Seen, 0)))
}

// tally counts a pass as it goes.
type tally struct {
	scanned, copied, failed atomic.Int64
	seen, total             atomic.Int64
	each                    func(outcome) // told of every session that was brought up to date; may be nil
}

// tellRejoin leaves on the node how far its rejoin is, for clients that wait for it and for tools.
func (c *Client) tellRejoin(ctx context.Context, n *node, t *tally, begun time.Time) {
	text := fmt.Sprint(time.Since(begun).Milliseconds(), " ", t.seen.Load(), " ", t.total.Load(), " ", t.scanned.Load(), " ",
		t.copied.Load(), " ", t.failed.Load())
	_, _ = c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "SET", n.progressKey(), text, "PX", formatMillis(leaseTime)))
}

// followRejoin reads what tellRejoin left.
func (c *Client) followRejoin(ctx context.Context, n *node) {
	r, err := c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "GET", n.progressKey()))
	if err != nil || len(r) != 1 || r[0].null {
		return
	}
	var p Progress
	var ms int64
	if _, err := fmt.Sscan(string(r[0].b), &ms, &p.Seen, &p.Total, &p.Scanned, &p.Copied, &p.Failed); err != nil {
		return
	}
	p.Since = time.Now().Add(-time.Duration(ms) * time.Millisecond)
	n.health.report(func(known *Progress) { *known = p })
}

// countStamps is about how many stamps stand on nodes: half of their keys, since the others are the values.
func (c *Client) countStamps(ctx context.Context, nodes []*node) (total int64) {
	for _, n := range nodes {
		if n.health.now() == StateDown {
			continue
		}
		if r, err := c.ask(ctx, n, lookTimeout, 1, appendCommand(nil, "DBSIZE")); err == nil && len(r) == 1 {
			total += r[0].n / 2
		}
	}
	return total
}

func (c *Client) report(n *node, t *tally) {
	n.health.report(func(p *Progress) {
		p.Seen, p.Total = t.seen.Load(), t.total.Load()
		p.Scanned, p.Copied, p.Failed = t.scanned.Load(), t.copied.Load(), t.failed.Load()
	})
}
