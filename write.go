package sessionring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// SetOptions says how to write; the zero value is Set.
type SetOptions struct {
	// Lifetime of this session from now; zero: the configured one.
	Lifetime time.Duration
	// IfVersion makes the write happen only if the session still has this version (from Load), else
	// ConflictError. A pointer to "" demands that there is no session yet.
	IfVersion *Version
	// Lock makes the write happen only while this lock is held, else ErrLockLost.
	Lock *Lock
}

// Set stores the session's bytes with the configured lifetime. The last writer wins, except that nothing is
// written to a session that was deleted (ErrDestroyed). ErrNoNode when no node took it within the deadline;
// ErrOutOfMemory, ErrTooLarge, ErrID as they say.
func (c *Client) Set(ctx context.Context, id string, data []byte) error {
	_, err := c.Store(ctx, id, data, SetOptions{})
	return err
}

// Store is Set with options. It returns the version written.
func (c *Client) Store(ctx context.Context, id string, data []byte, opt SetOptions) (Version, error) {
	if err := c.check(ctx, id); err != nil {
		return "", err
	}
	if len(data) > MaxDataLength {
		return "", fmt.Errorf("%w: %d bytes, Redis takes at most %d", ErrTooLarge, len(data), MaxDataLength)
	}
	if err := c.hasNoTime("set", true); err != nil {
		return "", err
	}
	ttl := c.lifetimeOr(opt.Lifetime)
	if opt.IfVersion != nil {
		return c.storeIf(ctx, id, data, ttl, opt)
	}
	f := c.newFan(ctx, "set", id, encodeWrite)
	defer func() { f.release() }()
	f.prepareWrite(data, ttl, c.clock.nextStamp(), opt)
	for {
		refused, err := c.writeOnce(ctx, f)
		if err == nil && refused.version != "" {
			// Somebody wrote with a greater version: this write is the later one, so it takes a greater still.
			c.clock.saw(refused.version)
			text := c.clock.nextStamp()
			var overtaken bool
			overtaken, err = c.raise(ctx, f, Version(text[:versionLen]))
			if err == nil && !overtaken {
				if time.Now().Before(f.until) {
					next := c.newFan(ctx, "set", id, encodeWrite)
					next.continues(f)
					next.prepareWrite(data, ttl, text, opt)
					f.release()
					f = next
					continue
				}
				err = f.noNode()
			}
		}
		return f.version, c.ended(f, err)
	}
}

// prepareWrite makes f a write with a stamp that the clock gave.
func (f *fan) prepareWrite(data []byte, ttl time.Duration, text string, opt SetOptions) {
	f.writes = true
	f.large = len(data) >= bulkSize
	f.c.large.saw(f.id, len(data))
	f.data, f.ttl, f.version, f.lock = data, ttl, Version(text[:versionLen]), opt.Lock
	f.wait += time.Duration(len(data)) * 50 // large sessions at 20 MB/s
	f.proof += time.Duration(len(data)) * 50
	if !f.v.stamped {
		f.version = plainVersion(data)
	}
	f.stampText = text
	if f.v.mixed {
		f.stampText += string(plainVersion(data))
	}
}

// encodeWrite stores value and stamp on one node, under the guard; where PHP's own layout is kept, the owner
// gets what PHP would have sent.
func encodeWrite(f *fan, t *try) ([]byte, int) {
	b, n := f.buf[:0], t.node
	plain := t.plain()
	switch {
	case f.lock != nil:
		b = f.appendFenced(b, t, "*")
	case plain && f.ttl%time.Second == 0:
		b = n.appendKey(appendArg(appendHeader(b, 4), "SETEX"), f.id)
		b = f.appendData(appendIntArg(b, millis(f.ttl/1000)))
	case plain:
		b = n.appendKey(appendArg(appendHeader(b, 4), "PSETEX"), f.id)
		b = f.appendData(appendIntArg(b, millis(f.ttl)))
	default:
		b = appendArg(f.appendGuarded(b, writeScript, t, 3), f.stampText)
		b = f.appendData(appendIntArg(b, millis(f.ttl)))
	}
	return f.appendHints(b, t, 1)
}

// appendData appends the session's bytes. Large ones are not copied for each node: a call carries them as they are.
// They are copied once, since the caller may use its own again while a node is still being written to.
func (f *fan) appendData(b []byte) []byte {
	if len(f.data) < bulkSize {
		return appendArg(b, f.data)
	}
	if f.body == nil {
		f.body = bytes.Clone(f.data)
	}
	b = strconv.AppendInt(append(b, '$'), int64(len(f.body)), 10)
	b = append(b, '\r', '\n')
	f.bodyAt = len(b)
	return append(b, '\r', '\n')
}

// appendFenced writes under an expected version ("*": any) and, where there is one, a lock.
func (f *fan) appendFenced(b []byte, t *try, expected string) []byte {
	n, locked := t.node, 0
	if f.lock != nil {
		locked = 1
	}
	if t.plain() {
		b = appendEval(b, plainSwapScript, t, 1+(1+locked)+(3+locked))
		b = n.appendKey(appendIntArg(b, int64(1+locked)), f.id)
		if f.lock != nil {
			b = appendArg(b, n.lockKey(f.id))
		}
		b = appendArg(f.appendData(appendIntArg(b, millis(f.ttl))), expected)
		if f.lock != nil {
			b = appendArg(b, f.lock.token)
		}
		return b
	}
	stranger := 0
	if f.lock != nil && !f.lock.holds(n) {
		stranger = 1
	}
	b = appendEval(b, writeScript, t, 1+(2+locked)+(4+locked+stranger))
	b = n.appendStampKey(n.appendKey(appendIntArg(b, int64(2+locked)), f.id), f.id)
	if f.lock != nil {
		b = appendArg(b, n.lockKey(f.id))
	}
	b = appendIntArg(appendArg(b, f.stampText), millis(f.ttl))
	b = appendArg(f.appendData(b), expected)
	if f.lock != nil {
		b = appendArg(b, f.lock.token)
	}
	if stranger > 0 {
		b = appendArg(b, "?")
	}
	return b
}

// appendScript calls a script by its name, or with its text where the node may not know it yet. Arguments
// are strings or bytes.
func appendScript(b []byte, s *script, t *try, args ...any) []byte {
	b = appendEval(b, s, t, len(args))
	for _, a := range args {
		switch a := a.(type) {
		case string:
			b = appendArg(b, a)
		case []byte:
			b = appendArg(b, a)
		}
	}
	return b
}

// appendEval begins the call of a script with so many arguments, keys and their number among them.
func appendEval(b []byte, s *script, t *try, args int) []byte {
	t.script = s
	b = appendHeader(b, 2+args)
	if t.node.knows(s) {
		return appendArg(appendArg(b, "EVALSHA"), s.sha)
	}
	return appendArg(appendArg(b, "EVAL"), s.text)
}

// appendHints leaves word for owners that miss this write, or may miss it, on the node that stands in for them:
// its copy is found, and removed, by the hint beside it. Every stand-in names all owners that have not answered.
// Where no further node exists an owner carries the hint.
func (f *fan) appendHints(b []byte, t *try, n int) ([]byte, int) {
	switch {
	case !f.isOwner(t.node):
		f.eachOwner(func(owner *node) {
			if o := f.try(owner); o == nil || o.state != tryAnswered {
				t.hints = append(t.hints, owner)
			}
		})
	case len(f.v.distinct) <= f.v.copies:
		for _, owner := range f.owed {
			if owner != t.node {
				t.hints = append(t.hints, owner)
			}
		}
	}
	for _, owner := range t.hints {
		b = f.c.appendHint(b, t.node, owner, f.id)
		n += hintReplies
	}
	return b, n
}

const hintReplies = 2

func (c *Client) appendHint(b []byte, at, owner *node, id string) []byte {
	key := at.hintKey(owner)
	b = appendCommand(b, "SADD", key, id)
	// Nothing lives longer than its session; a node that never returns must not keep its list for ever.
	return appendCommand(b, "PEXPIRE", key, formatMillis(2*max(c.conf.lifetime, 24*time.Hour)))
}

// writeOnce runs a prepared write. refused is the stamp that stood in the way, if any.
func (c *Client) writeOnce(ctx context.Context, f *fan) (refused stamp, err error) {
	if err := f.run(ctx); err != nil {
		return refused, err
	}
	if f.resendForgotten() {
		return c.writeOnce(ctx, f)
	}
	took, dead := 0, false
	var plainErr error
	for i := range f.tries {
		t := &f.tries[i]
		if t.state != tryAnswered {
			continue
		}
		switch r := t.call.replies[0]; {
		case r.err != nil:
			plainErr = t.node.err(f.name, r.err)
		case r.kind == '$' && string(r.b) == "L":
			return refused, ErrLockLost
		case r.kind == '$' && string(r.b) == "C":
			return refused, errPlainConflict
		case r.kind == '$':
			st, ok := parseStamp(r.b)
			switch {
			case !ok:
				plainErr = t.node.err(f.name, errProtocol)
			case st.dead:
				dead = true
			case st.newer(refused):
				refused = st
			}
		default:
			took++
		}
	}
	c.leaveHints(f)
	switch {
	case dead:
		if took > 0 {
			c.mend.add(f.id) // whoever took the write missed the tombstone
		}
		return stamp{}, ErrDestroyed
	case refused.version != "":
		return refused, nil
	case took == 0 && plainErr != nil:
		return refused, plainErr
	case took == 0:
		return refused, f.unserved()
	}
	return refused, nil
}

// unserved is the error of a write that nobody took: a full node's own word, else ErrNoNode.
func (f *fan) unserved() error {
	for i := range f.tries {
		if t := &f.tries[i]; t.err != nil && errors.Is(t.err, ErrOutOfMemory) {
			return t.err
		}
	}
	return f.noNode()
}

// raise gives a write that some nodes stored and others refused its greater version where it was stored. There
// it may have been read and written upon since: then it is overtaken, and must not come again on top.
func (c *Client) raise(ctx context.Context, f *fan, version Version) (overtaken bool, err error) {
	text := stamp{version: version}.String()
	if f.v.mixed {
		text += string(plainVersion(f.data))
	}
	for i := range f.tries {
		t := &f.tries[i]
		if t.state != tryAnswered || len(t.call.replies) == 0 || t.call.replies[0].kind != ':' {
			continue
		}
		expected := f.stampText[:versionLen]
		for range 3 {
			r, err := c.run(ctx, t.node, writeScript, "2", t.node.key(f.id), t.node.stampKey(f.id), text,
				formatMillis(f.ttl), f.data, expected)
			if err != nil || len(r) != 1 || r[0].kind != '$' {
				break // stored, or away since: the next run treats it as that
			}
			st, ok := parseStamp(r[0].b)
			switch {
			case ok && st.dead:
				return false, ErrDestroyed
			case !ok || r[0].b[versionLen] != stampMoved:
				return true, nil
			}
			// A repair brought what another node had all along. That overtakes nobody.
			expected = string(st.version)
		}
	}
	return false, ctx.Err()
}

// leaveHints sees to it that each owner that missed the write is named on a node that took it.
func (c *Client) leaveHints(f *fan) {
	for i := range f.tries { // a suspect that was not waited for may never get it
		if t := &f.tries[i]; t.state == tryPending {
			f.missed(t)
		}
	}
	if !f.moved {
		return
	}
	var carrier *try
	for i := range f.tries {
		if t := &f.tries[i]; t.state == tryAnswered && (carrier == nil || f.isOwner(carrier.node)) {
			carrier = t
		}
	}
	if carrier == nil {
		return
	}
	if f.v.copies < 2 {
		// Its owner came back while this write, begun before, went elsewhere: what it holds is older now.
		for _, owner := range f.owed {
			owner.health.doubted()
			owner.health.wake()
		}
	}
	var b []byte
	var named []*node
	for _, owner := range f.owed {
		if t := f.try(owner); (t != nil && t.state == tryAnswered) || f.hinted(owner) || owner == carrier.node {
			continue // late, but it came; or named already
		}
		b = c.appendHint(b, carrier.node, owner, f.id)
		named = append(named, owner)
	}
	if len(named) > 0 {
		c.leaveWord(carrier.node, named, b, len(named)*hintReplies)
	}
}

// hinted reports whether a node that took the write names the owner.
func (f *fan) hinted(owner *node) bool {
	for i := range f.tries {
		if t := &f.tries[i]; t.state == tryAnswered && slices.Contains(t.hints, owner) {
			return true
		}
	}
	return false
}

func isNoScript(err error) bool {
	if err == nil {
		return false
	}
	var re replyError
	return errors.As(err, &re) && len(re) >= 8 && re[:8] == "NOSCRIPT"
}

// storeIf is compare-and-set: decided by the first node of the preference list that answers, then written to
// the others as any write. While clients disagree on which node that is, two of them can both win; the later
// version stays.
func (c *Client) storeIf(ctx context.Context, id string, data []byte, ttl time.Duration, opt SetOptions) (Version, error) {
	if len(*opt.IfVersion) == versionLen {
		c.clock.saw(*opt.IfVersion)
	}
	text := c.clock.nextStamp()
	version := Version(text[:versionLen])
	expected := string(*opt.IfVersion)
	f := c.newFan(ctx, "set", id, nil)
	defer f.release()
	f.prepareWrite(data, ttl, text, opt)
	f.encode = func(f *fan, t *try) ([]byte, int) {
		return f.appendHints(f.appendFenced(f.buf[:0], t, expected), t, 1)
	}
	f.decides = true
	for i := range f.groups {
		f.groups[i].want = 1
	}
	if len(f.groups) > 1 {
		f.groups = f.groups[:1]
	}
	refused, err := c.writeOnce(ctx, f)
	if errors.Is(err, errPlainConflict) || (err == nil && refused.version != "") {
		newer, loadErr := c.load(ctx, id, GetOptions{})
		if loadErr != nil && !errors.Is(loadErr, ErrNotFound) {
			return "", c.ended(f, loadErr)
		}
		return "", c.ended(f, &ConflictError{Newer: newer})
	}
	if err != nil || (f.v.copies < 2 && f.v.previous == nil) {
		return f.version, c.ended(f, err)
	}
	// The decision fell. The rest is an ordinary write of the same version.
	_ = c.ended(f, nil)
	rest := c.newFan(ctx, "set", id, encodeWrite)
	defer rest.release() // before f, whose calls it looks at
	rest.continues(f)
	for _, t := range f.tries { // who decided has it
		if t.state == tryAnswered {
			rest.tries = append(rest.tries, t)
		}
	}
	rest.prepareWrite(data, ttl, text, opt)
	refused, err = c.writeOnce(ctx, rest)
	if err == nil && refused.version != "" {
		return version, c.ended(rest, nil) // overwritten already by somebody who saw it
	}
	return version, c.ended(rest, err)
}

// Touch extends the session's life by the configured lifetime; data and version stay. ErrNotFound when there
// is none.
func (c *Client) Touch(ctx context.Context, id string) error { return c.TouchFor(ctx, id, 0) }

// TouchFor is Touch with a lifetime of its own; zero: the configured one.
func (c *Client) TouchFor(ctx context.Context, id string, lifetime time.Duration) error {
	if err := c.check(ctx, id); err != nil {
		return err
	}
	if err := c.hasNoTime("touch", true); err != nil {
		return err
	}
	f := c.newFan(ctx, "touch", id, encodeTouch)
	defer f.release()
	f.touch = c.lifetimeOr(lifetime)
	return c.ended(f, c.touchOnce(ctx, f))
}

func encodeTouch(f *fan, t *try) ([]byte, int) {
	b := f.buf[:0]
	if t.plain() {
		b = appendExpire(b, t.node.key(f.id), f.touch)
	} else {
		b = f.appendTouch(b, t, 1)
	}
	return f.appendHints(b, t, 1)
}

func (c *Client) touchOnce(ctx context.Context, f *fan) error {
	widened := false
	for {
		if err := f.run(ctx); err != nil {
			return err
		}
		if f.resendForgotten() {
			continue
		}
		answered, found, dead, uneven := 0, 0, false, false
		var seen stamp
		for i := range f.tries {
			t := &f.tries[i]
			if t.state != tryAnswered {
				continue
			}
			r := t.call.replies
			for _, x := range r {
				if x.err != nil {
					return t.node.err("touch", x.err)
				}
			}
			has := r[0].n > 0
			var st stamp
			if r[0].kind == '*' {
				if len(r) < 4 {
					return t.node.err("touch", errProtocol)
				}
				st, _ = parseStamp(r[2].b)
				has = r[3].n > 0
			}
			dead = dead || st.dead
			uneven = uneven || (answered > 0 && st != seen) || (found > 0) != (answered > 0 && has)
			seen = st
			answered++
			if has {
				found++
			}
		}
		switch {
		case answered == 0:
			return f.noNode()
		case dead:
			if found > 0 {
				c.mend.add(f.id)
			}
			return ErrNotFound
		case found > 0:
			if f.v.stamped && (found < answered || uneven) {
				c.mend.add(f.id)
			}
			c.leaveHints(f)
			return nil
		}
		if doubtful := f.doubtful(); !widened && doubtful > 0 && f.widen(doubtful+1) {
			widened = true
			continue
		}
		if away := f.away(); len(away) > 0 {
			return &missingError{away}
		}
		return ErrNotFound
	}
}

// Delete destroys the session: every later Set of this id ends with ErrDestroyed, and no copy that was away
// brings it back. Deleting what is not there is no error.
func (c *Client) Delete(ctx context.Context, id string) error {
	if err := c.check(ctx, id); err != nil {
		return err
	}
	if err := c.hasNoTime("delete", true); err != nil {
		return err
	}
	f := c.newFan(ctx, "delete", id, encodeDelete)
	defer f.release()
	f.writes = true
	f.ttl = c.conf.lifetime
	f.stampText = stamp{version: c.clock.next(), dead: true}.String()
	return c.ended(f, c.deleteOnce(ctx, f))
}

func encodeDelete(f *fan, t *try) ([]byte, int) {
	b := f.buf[:0]
	if t.plain() {
		b = appendCommand(b, "DEL", t.node.key(f.id))
	} else {
		b = appendIntArg(appendArg(f.appendGuarded(b, deleteScript, t, 2), f.stampText), millis(f.ttl))
	}
	return f.appendHints(b, t, 1)
}

func (c *Client) deleteOnce(ctx context.Context, f *fan) error {
	for {
		if err := f.run(ctx); err != nil {
			return err
		}
		if f.resendForgotten() {
			continue
		}
		took := 0
		var longest int64
		var plainErr error
		for i := range f.tries {
			t := &f.tries[i]
			if t.state != tryAnswered {
				continue
			}
			switch r := t.call.replies; {
			case r[0].err != nil:
				plainErr = t.node.err("delete", r[0].err)
			default:
				took++
				if r[0].kind == '*' && len(r) >= 3 {
					longest = max(longest, r[2].n)
				}
			}
		}
		switch {
		case took == 0 && plainErr != nil:
			return plainErr
		case took == 0:
			return f.unserved()
		}
		// A copy that lived longer than this client's lifetime may exist where the tombstone's time was not
		// known; every tombstone gets the longest time seen.
		if ttl := time.Duration(longest) * time.Millisecond; ttl > f.ttl+time.Second {
			for i := range f.tries {
				if t := &f.tries[i]; t.state == tryAnswered && len(t.call.replies) >= 3 && t.call.replies[2].n < longest {
					t.node.send(&call{op: newOp(), node: t.node, want: 1},
						appendCommand(nil, "PEXPIRE", t.node.stampKey(f.id), formatMillis(ttl)))
				}
			}
		}
		c.leaveHints(f)
		return nil
	}
}
