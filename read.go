package sessionring

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// GetOptions says how to read; the zero value is Get.
type GetOptions struct {
	// Touch extends the lifetime in the same round trip. It shortens none, except in PHP's own layout
	// (distribution=phpredis), where it is the EXPIRE that PHP sends.
	Touch bool
	// Lifetime is used by Touch instead of the configured one; zero: the configured one.
	Lifetime time.Duration
}

const readTries = 3 // runs of one read, where the newest copy is not to be had

// Get returns the session's bytes. ErrNotFound when there is none; it comes with ErrOwnerAway where a node
// that should hold the session could not be asked. ErrNoNode when no node answered within the deadline.
func (c *Client) Get(ctx context.Context, id string) ([]byte, error) {
	it, err := c.Load(ctx, id, GetOptions{})
	return it.Data, err
}

// Load reads a session with its version. Errors are those of Get.
func (c *Client) Load(ctx context.Context, id string, opt GetOptions) (Item, error) {
	if err := c.check(ctx, id); err != nil {
		return Item{}, err
	}
	if err := c.hasNoTime("get", false); err != nil {
		return Item{}, err
	}
	return c.load(ctx, id, opt)
}

// load is Load of an id that was checked.
func (c *Client) load(ctx context.Context, id string, opt GetOptions) (Item, error) {
	ttl := time.Duration(0)
	if opt.Touch {
		ttl = c.lifetimeOr(opt.Lifetime)
	}
	f := c.newFan(ctx, "get", id, encodeRead)
	defer func() { f.release() }()
	f.touch = ttl
	it, again, err := c.readOnce(ctx, f)
	for tries := 1; again && tries < readTries && time.Now().Before(f.until); tries++ {
		next := c.newFan(ctx, "get", id, encodeRead)
		next.continues(f)
		next.decides = tries == readTries-1 // who has the newest may be slow, and nobody else have it
		next.touch = ttl
		f.release()
		f = next
		it, again, err = c.readOnce(ctx, f)
	}
	if err == nil {
		c.clock.saw(it.Version)
		c.large.saw(id, len(it.Data))
		if len(it.Data) <= smallBulks {
			it.Data = bytes.Clone(it.Data) // it stands in the call, which others use next
		}
	}
	return it, c.ended(f, err)
}

func (c *Client) lifetimeOr(d time.Duration) time.Duration {
	if d <= 0 {
		return c.conf.lifetime
	}
	return min(d, MaxLifetime)
}

// encodeRead asks one node: the first for value and stamp, others for the stamp alone, unless nobody else is
// asked for the value or will still answer.
func encodeRead(f *fan, t *try) ([]byte, int) {
	t.value = true
	if t.call == nil && !f.values {
		for i := range f.tries {
			o := &f.tries[i]
			if o != t && o.value && o.counts && (o.state == tryPending || o.state == tryAnswered) {
				t.value = false
				break
			}
		}
	}
	t.value = t.value || t.php // PHP may have written since: the data tell
	b, n := f.buf[:0], t.node
	switch {
	case t.plain() && f.touch > 0:
		return appendExpire(n.appendKey(appendArg(appendHeader(b, 2), "GET"), f.id), n.key(f.id), f.touch), 2
	case t.plain():
		return n.appendKey(appendArg(appendHeader(b, 2), "GET"), f.id), 1
	case f.touch > 0 && t.value:
		return appendArg(f.appendTouch(b, t, 2), "v"), 1
	case f.touch > 0:
		return appendArg(f.appendTouch(b, t, 2), "s"), 1
	case t.value:
		return n.appendStampKey(n.appendKey(appendArg(appendHeader(b, 3), "MGET"), f.id), f.id), 1
	default:
		return n.appendStampKey(appendArg(appendHeader(b, 2), "GET"), f.id), 1
	}
}

// appendTouch calls the touch script with its first argument; the caller appends the others.
func (f *fan) appendTouch(b []byte, t *try, args int) []byte {
	return appendIntArg(f.appendGuarded(b, touchScript, t, args), millis(f.touch))
}

// appendGuarded calls a script on value and stamp; its arguments are for the caller to append.
func (f *fan) appendGuarded(b []byte, s *script, t *try, args int) []byte {
	b = appendArg(appendEval(b, s, t, 3+args), "2")
	return t.node.appendStampKey(t.node.appendKey(b, f.id), f.id)
}

// appendExpire extends a key's life; whole seconds by EXPIRE, as PHP does.
func appendExpire(b []byte, key string, ttl time.Duration) []byte {
	if ttl%time.Second == 0 {
		return appendCommand(b, "EXPIRE", key, formatMillis(ttl/1000))
	}
	return appendCommand(b, "PEXPIRE", key, formatMillis(ttl))
}

// copyState is what one node holds of a session.
type copyState struct {
	t     *try
	stamp stamp // zero version: none
	data  []byte
	has   bool // data were read
	lost  bool // stamped, but the value is gone: evicted
}

// copyOf reads a try's replies. known is a version that it may well hold.
func copyOf(t *try, known Version) (copyState, error) {
	s := copyState{t: t}
	r := t.call.replies
	if len(r) == 0 {
		return s, errProtocol
	}
	if r[0].err != nil {
		return s, t.node.err("get", r[0].err)
	}
	var st reply
	switch {
	case r[0].kind == '*' && len(r) >= 3:
		s.data, s.has = r[1].b, t.value && !r[1].null
		st = r[2]
	case t.value:
		s.data, s.has = r[0].b, !r[0].null
		st = reply{null: true}
	default:
		st = r[0]
	}
	if parsed, ok := parseStampAs(st.b, known); ok && !st.null {
		s.stamp = parsed
		if d := digestOf(st.b); t.value && d != "" && !parsed.dead {
			switch {
			case s.has:
				s.stamp.foreign = d != string(plainVersion(s.data))
			case t.php:
				s.stamp.dead = true // destroyed in PHP's layout: DEL leaves our stamp
			}
		}
	} else if s.has {
		s.stamp = stamp{version: zeroVersion} // written by somebody who knows no stamps
	}
	if s.stamp.dead {
		s.data, s.has = nil, false
	} else if t.value && !s.has && s.stamp.version != "" {
		s.lost = true
		s.stamp = stamp{}
	}
	return s, nil
}

// readOnce runs a prepared read. again asks for another run: the newest copy vanished while it was fetched.
func (c *Client) readOnce(ctx context.Context, f *fan) (it Item, again bool, err error) {
	widened := false
	for {
		if err := f.run(ctx); err != nil {
			return it, false, err
		}
		if f.resendForgotten() {
			continue
		}
		if f.askDowned() {
			continue
		}
		copies, err := f.copies()
		if err != nil {
			return it, false, err
		}
		if len(copies) == 0 {
			return it, false, f.noNode()
		}
		best := newest(copies)
		if !best.stamp.dead && f.lateOwners() {
			// Stand-ins alone answered, and what they hold may be left over from long ago: an owner that is merely slow
			// is waited for, as long as there is time.
			if f.linger() {
				continue
			}
			return it, false, f.noNode()
		}
		if !best.stamp.dead && f.seen.newer(best.stamp) {
			return it, true, f.noNode()
		}
		switch {
		case best.stamp.dead:
			c.mendIfBehind(f, copies, best)
			return it, false, ErrNotFound
		case best.has:
			c.mendIfBehind(f, copies, best)
			v := best.stamp.version
			if best.t.plain() {
				v = plainVersion(best.data)
			}
			return Item{Data: best.data, Version: v}, false, nil
		case best.stamp.version != "":
			// A node has a newer stamp than the one that was asked for the value.
			answered, err := c.fetch(ctx, f, best.t)
			switch {
			case err != nil:
				return it, false, err
			case !answered:
				// The node went away in between. If that write was acknowledged, another node has it and another run
				// finds it. What else is here is older, and nobody's answer, now or in that run.
				f.seen = best.stamp
				return it, true, f.noNode()
			}
			continue
		}
		// A miss. It is believed at once only if everybody who should know was asked and nothing looks lost; another
		// owner that is merely slow is waited for.
		if f.waitForLate() {
			continue
		}
		doubtful := f.doubtful()
		if !widened && (doubtful > 0 || anyLost(copies)) && f.widen(doubtful+1) {
			widened = true
			continue
		}
		if away := f.away(); len(away) > 0 {
			return it, false, &missingError{away}
		}
		it, err = c.confirmMiss(ctx, f)
		return it, false, err
	}
}

// askDowned asks owners that are down after all, once, where the only answers are those of returning nodes:
// what such a node holds counts only beside another copy, and the node that was given up may have it. Nobody
// else is asked twice, so a node that is down still costs nothing otherwise.
func (f *fan) askDowned() bool {
	if f.lastResort {
		return false
	}
	returning := false
	for i := range f.tries {
		if t := &f.tries[i]; t.state == tryAnswered {
			if t.counts {
				return false
			}
			returning = true
		}
	}
	asked := false
	for i := range f.tries {
		t := &f.tries[i]
		if returning && t.state == tryFailed && t.call == nil && f.isOwner(t.node) {
			f.lastResort, f.values = true, true
			f.send(i)
			asked = true
		}
	}
	return asked
}

// lateOwners reports whether owners are late that may well answer yet, and none that counts answered.
func (f *fan) lateOwners() bool {
	late, now := false, time.Now()
	for i := range f.tries {
		switch t := &f.tries[i]; {
		case t.state == tryAnswered && t.counts && f.isOwner(t.node):
			return false
		case (t.state == tryLate || t.state == tryPending && t.unsure) && !t.hung && f.isOwner(t.node):
			late = late || f.silence(t, now) < f.verdict
		}
	}
	return late
}

// linger goes on waiting for those, until they answer, nothing comes from them any more, or the deadline; false where
// there is nobody to wait for.
func (f *fan) linger() (again bool) {
	if !time.Now().Before(f.until) {
		return false
	}
	for i := range f.tries {
		switch t := &f.tries[i]; {
		case t.hung || !f.isOwner(t.node):
		case t.state == tryPending && t.unsure:
			t.unsure, t.lingered, again = false, true, true // now it gets the patience that others get
		case t.state == tryLate:
			t.state, t.judged, t.lingered, f.lingers, again = tryPending, true, true, true, true
		}
	}
	return again
}

// lingeredEnough ends that waiting: an owner answered, and one is enough.
func (f *fan) lingeredEnough() {
	for i := range f.tries {
		if t := &f.tries[i]; t.lingered && t.state == tryPending {
			if t.lingered = false; t.judged {
				t.state = tryLate
			} else {
				t.unsure = true
			}
		}
	}
}

// waitForLate goes on waiting for owners that kept the operation waiting beyond its patience, once: until they
// answer, are found to be down, or the deadline.
func (f *fan) waitForLate() bool {
	if f.decides {
		return false
	}
	for i := range f.tries {
		if t := &f.tries[i]; t.state == tryLate && f.isOwner(t.node) {
			t.state, t.judged, f.decides = tryPending, true, true
		}
	}
	return f.decides
}

// copies reads what every node that answered holds.
func (f *fan) copies() ([]copyState, error) {
	out := f.copies4[:0]
	var firstErr error
	var known Version
	for i := range f.tries {
		if f.tries[i].state != tryAnswered {
			continue
		}
		s, err := copyOf(&f.tries[i], known)
		known = s.stamp.version
		if err != nil {
			firstErr = errors.Join(firstErr, err)
			continue
		}
		out = append(out, s)
	}
	if len(out) == 0 && firstErr != nil {
		return nil, firstErr
	}
	return out, nil
}

// newest picks the copy to believe: tombstones first, then the greatest version, then one whose data are here.
func newest(copies []copyState) copyState {
	best := copies[0]
	for _, s := range copies[1:] {
		if s.stamp.newer(best.stamp) || (s.stamp == best.stamp && s.has && !best.has) {
			best = s
		}
	}
	return best
}

func anyLost(copies []copyState) bool {
	for _, s := range copies {
		if s.lost {
			return true
		}
	}
	return false
}

// widen asks more nodes, for value and stamp, and those again that gave their stamp alone.
func (f *fan) widen(more int) bool {
	f.values = true
	asked := false
	for i := range f.tries {
		if t := &f.tries[i]; t.state == tryAnswered && !t.value {
			t.call = nil
			f.send(i)
			asked = true
		}
	}
	for i := range f.groups {
		g := &f.groups[i]
		for range more {
			if !f.start(g) {
				break
			}
			asked = true
		}
	}
	return asked
}

// fetch asks a node that gave its stamp alone for the value too. The error is run's.
func (c *Client) fetch(ctx context.Context, f *fan, t *try) (answered bool, err error) {
	for i := range f.tries {
		if &f.tries[i] == t || f.tries[i].node == t.node {
			f.values = true
			f.tries[i].call = nil
			f.tries[i].unsure = false // it alone has the newest: it is waited for
			f.send(i)
			err := f.run(ctx)
			return f.tries[i].state == tryAnswered, err
		}
	}
	return false, nil
}

// confirmMiss asks the owners once more by GET, which tells an absent key from one that holds no string
// (MGET gives nil for both) and finds a value that somebody stored without a stamp.
func (c *Client) confirmMiss(ctx context.Context, f *fan) (Item, error) {
	if !f.v.stamped {
		return Item{}, ErrNotFound // that was a GET
	}
	for i := range f.tries {
		t := &f.tries[i]
		if t.state != tryAnswered || !f.isOwner(t.node) {
			continue
		}
		r, err := c.ask(ctx, t.node, f.wait, 1, appendCommand(nil, "GET", t.node.key(f.id)))
		switch {
		case errors.Is(err, ErrWrongType):
			return Item{}, t.node.err("get", err)
		case err == nil && len(r) == 1 && !r[0].null && !t.value:
			c.mend.add(f.id)
			return Item{Data: r[0].b, Version: zeroVersion}, nil
		}
	}
	return Item{}, ErrNotFound
}

// mendIfBehind has copies repaired that are older than the best, behind the user's back.
func (c *Client) mendIfBehind(f *fan, copies []copyState, best copyState) {
	if c.conf.observer {
		return
	}
	if !best.t.view.stamped && len(f.groups) == 1 {
		return // one copy; stand-ins are handed back by the rejoin
	}
	for _, s := range copies {
		if s.stamp != best.stamp && f.isOwner(s.t.node) {
			c.mend.add(f.id)
			return
		}
	}
	if !f.isOwner(best.t.node) {
		c.mend.add(f.id)
	}
}
