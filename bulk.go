package sessionring

import (
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Large sessions go over a connection of their own. What is written tells its size; what is read tells it when it is
// there, so ids are remembered whose session was large. Repairs and rejoins, which know of no sizes, compare copies there.

const (
	largeSlots = 1024             // ids remembered; those that share a slot forget each other
	bulkRetry  = 10 * time.Second // without a second connection, where one could not be made
)

// largeIDs remembers, by their hashes, ids whose session was large when it was last seen.
type largeIDs struct {
	any   atomic.Bool
	slots [largeSlots]atomic.Uint64
}

func (l *largeIDs) has(id string) bool {
	if !l.any.Load() {
		return false
	}
	h := xxhash.Sum64String(id)
	return l.slots[h%largeSlots].Load() == h
}

// saw notes how large a session is.
func (l *largeIDs) saw(id string, size int) {
	if size < bulkSize && !l.any.Load() {
		return
	}
	h := xxhash.Sum64String(id)
	slot := &l.slots[h%largeSlots]
	if size >= bulkSize {
		slot.Store(h)
		l.any.Store(true)
	} else {
		slot.CompareAndSwap(h, 0)
	}
}

// lane is the way for commands to a node, and for the answers that are expected.
func (n *node) lane(large bool) transport {
	if large && n.bulk != nil && time.Now().UnixNano() >= n.noBulk.Load() {
		return n.bulk
	}
	return n.pipe
}

// newBulk makes the node's second pipe. It is dialled when it is needed. Where that fails the node is none the worse:
// its first connection carries everything for a while.
func (c *Client) newBulk(n *node) *pipe {
	return &pipe{
		dial:  n.dial,
		wg:    &c.wg,
		up:    func(cn *conn) { c.meet(n, cn.dialed.facts, cn) },
		down:  func(error) { n.pauseBulk() },
		lost:  n.health.lost,
		turns: &c.turns,
		spare: true,
	}
}

// meet notes whom a new connection of the node reached. While a host's name moves, a node's two connections may lead to
// different servers, and what is written on one would not be found on the other. So the one made before is closed and
// follows when it is needed. Where the name leads now here, now there, they would close each other for ever: then the
// second is left alone for a while.
func (c *Client) meet(n *node, f facts, cn *conn) {
	n.meeting.Lock()
	defer n.meeting.Unlock()
	if cn.broken() {
		return // the other connection met somebody else meanwhile
	}
	c.meetUnder(n, f)
}

// meetProbed is meet for a connection that a probe made, which takes the place of both.
func (c *Client) meetProbed(n *node, d *dialed) {
	n.meeting.Lock()
	defer n.meeting.Unlock()
	c.meetUnder(n, d.facts)
	n.pipe.adopt(d)
	if n.bulk != nil {
		n.bulk.drop(brokenBy(errReplaced))
	}
}

// meetUnder is meet with n.meeting held.
func (c *Client) meetUnder(n *node, f facts) {
	// First, so that nothing is asked of the process left behind in the name of the new one.
	if p, ok := n.pipe.(*pipe); ok {
		p.dropUnlike(f.runID)
	}
	if n.bulk != nil && n.bulk.dropUnlike(f.runID) {
		n.pauseBulk()
	}
	c.met(n, f)
}

// pauseBulk has the first connection carry everything for a while.
func (n *node) pauseBulk() { n.noBulk.Store(time.Now().Add(bulkRetry).UnixNano()) }

// drop closes both connections.
func (n *node) drop(cause error) {
	n.pipe.drop(cause)
	if n.bulk != nil {
		n.bulk.drop(cause)
	}
}

// dropSilentBulk closes the second connection where it alone is stuck: the node lives.
func (n *node) dropSilentBulk(silence time.Duration) {
	if n.bulk == nil {
		return
	}
	if cn := n.bulk.conn.Load(); cn != nil && time.Since(cn.waitingSince()) >= silence {
		n.pauseBulk() // its calls go by the first, whatever is wrong with this one
		n.bulk.drop(brokenBy(ErrTimeout))
	}
}
