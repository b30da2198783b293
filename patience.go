package sessionring

import "time"

// How long an operation waits for a node before it asks the next beside it, and what that says of the node.

const queuePatience = 4 // times the patience with a node, where its answers to others come

// patience is how long a node may keep an operation waiting before the next is asked beside it. With several
// copies the next one costs little; with one copy it may miss what only the first holds, so more is given.
func (c *Client) patience(budget time.Duration, nodes, copies int) time.Duration {
	switch {
	case nodes < 2:
		return budget
	case copies < 2:
		return budget / 4
	default:
		return budget / 14
	}
}

// nextLook is the time until somebody's patience or the deadline ends.
func (f *fan) nextLook() time.Duration {
	now := time.Now()
	next := f.until
	for i := range f.tries {
		t := &f.tries[i]
		switch {
		case t.state == tryPending && t.judged && f.lingers && !f.decides:
			if at := now.Add(max(f.verdict-f.silence(t, now), time.Millisecond)); at.Before(next) {
				next = at
			}
		case t.state == tryPending && !t.judged:
			if at := f.waits(t, now).Add(f.wait); at.Before(next) {
				next = at
			}
		}
	}
	return max(next.Sub(now), 0)
}

// silence is how long nothing at all has come on a try's connection, standstills of this process left out.
func (f *fan) silence(t *try, now time.Time) time.Duration {
	cn := t.call.conn
	if cn == nil {
		return 0
	}
	return now.Sub(f.c.pulse.since(cn.waitingSince(), now))
}

// waits is since when a try is kept waiting: not while this process stood still, and for a while not while answers to
// others come on its connection. Asking further nodes then would only make a queue longer.
func (f *fan) waits(t *try, now time.Time) time.Time {
	since := f.c.pulse.since(t.call.sentAt, now)
	if cn := t.call.conn; cn != nil {
		latest := t.call.sentAt.Add(min(queuePatience*f.wait, f.until.Sub(f.began)/2))
		if heard := time.Unix(0, cn.heard.Load()); heard.After(since) && since.Before(latest) {
			since = heard
			if since.After(latest) {
				since = latest
			}
		}
	}
	return since
}

// giveUpOn marks as late whoever has been out too long; false when the whole operation has.
func (f *fan) giveUpOn(now time.Time) bool {
	over := !now.Before(f.until)
	for i := range f.tries {
		t := &f.tries[i]
		if t.state != tryPending || (!over && now.Sub(f.waits(t, now)) < f.wait) {
			continue
		}
		silence := f.silence(t, now)
		if f.lingers && !f.decides && !over && t.judged {
			if silence < f.verdict {
				continue
			}
			t.hung = true
		}
		if f.decides && !over {
			if t.judged {
				continue
			}
			t.judged = true
		} else {
			t.state = tryLate
			f.missed(t)
		}
		t.err = t.node.err(f.name, ErrTimeout)
		// Nothing at all came back for long enough: the node hangs, and so does whoever else is on this
		// connection. A caller in a hurry proves nothing by itself, but many of them do.
		if silence >= f.proof {
			t.node.health.silent(t.call.epoch, t.err)
			f.c.failure(t.node, f.name, t.err)
		}
	}
	return !over
}
