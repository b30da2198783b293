package websession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sessionring/sessionring"
)

// maxTries bounds how often a save starts anew because another request was quicker; each time one of them
// got through.
const maxTries = 64

// save stores what changed. s.mu is held. The session that ended meanwhile is ErrGone.
func (s *Session) save(ctx context.Context) error {
	if !s.loaded || s.err != nil || !s.dirty && s.next == "" {
		return nil //nolint:nilerr // a session that could not be had was reported when it was loaded
	}
	if s.gone != nil {
		return s.gone
	}
	if s.id == "" && len(s.values.keys()) == 0 {
		s.dirty = false
		return nil // nothing that would need a session
	}
	ctx = context.WithoutCancel(ctx) // whoever hangs up has still done what the handler did
	start := time.Now()
	op := Operation{Name: "save", Late: s.committed}
	if s.next != "" && s.id != "" {
		op.Name = "regenerate"
	}
	merged, err := s.store(ctx)
	switch {
	case errors.Is(err, errUnchanged):
		s.dirty = false
		return nil
	case err == nil:
		s.dirty = false
		if merged {
			op.Outcome = OutcomeMerged
		}
	case errors.Is(err, ErrGone):
		s.gone, s.dirty, op.Outcome = err, false, OutcomeGone
		if s.cookie == cookieSent {
			s.cookie = cookieKept // the client is not told the id of a dead session
		}
	case errors.Is(err, ErrCommitted), errors.Is(err, ErrTooLarge):
		op.Outcome = OutcomeRefused
	}
	op.Err, op.Duration = err, time.Since(start)
	s.m.report(op, s.id)
	return err
}

var errUnchanged = errors.New("nothing changed after all")

// store is save without the accounting.
func (s *Session) store(ctx context.Context) (merged bool, err error) {
	if s.id == "" && s.committed {
		return false, ErrCommitted
	}
	if s.m.opt.AbsoluteTimeout > 0 && s.meta.Created == 0 {
		s.meta.Created = time.Now().UnixMilli()
		if err := s.writeMeta(); err != nil {
			return false, err
		}
	}
	data, err := s.encode()
	if err != nil {
		return false, err
	}
	if s.id != "" && s.next == "" && bytes.Equal(data, s.base) {
		return false, errUnchanged
	}
	if s.lock == nil && s.m.opt.Lock == LockRequests && s.id != "" {
		// A late save: the lock went with the first byte, and whoever has it now counts on it.
		if s.lock, err = s.m.acquire(ctx, s.id); err != nil {
			return false, err
		}
		s.lockedID = s.id
		defer s.unlock(ctx)
	}
	s.warn(ctx)
	user, id := s.meta.User, s.id
	if s.next != "" || id == "" {
		if s.next == "" {
			s.next = s.m.opt.ID.newID()
		}
		id = s.next
	}
	enlisted := user != "" && (user != s.listed || id != s.id)
	var epoch string
	if enlisted {
		// First, so that no session of the user is ever missing in the index.
		if epoch, err = s.m.enlist(ctx, user, s.entry(id)); err != nil {
			return false, err
		}
	}
	before, oldUser := s.id, s.listed
	switch {
	case s.id == "":
		err = s.create(ctx, data)
	case s.next != "":
		merged, err = s.move(ctx, data)
	default:
		merged, err = s.update(ctx, data)
	}
	if err != nil {
		return merged, err
	}
	s.written = true
	if enlisted || s.id != id {
		if err := s.m.confirm(ctx, user, s.entry(s.id), epoch); err != nil {
			if errors.Is(err, ErrGone) {
				_ = s.m.client.Delete(ctx, s.id)
			}
			return merged, err
		}
	}
	if oldUser != "" && (oldUser != s.meta.User || before != s.id) {
		s.m.delist(ctx, oldUser, before)
	}
	s.listed = s.meta.User
	return merged, nil
}

// options of a write of this session under an id, which must still have the version.
func (s *Session) options(id string, version sessionring.Version) sessionring.SetOptions {
	o := sessionring.SetOptions{Lifetime: max(s.lifetime(), time.Millisecond), IfVersion: &version}
	if s.lock != nil && s.lockedID == id {
		o.Lock = s.lock
	}
	return o
}

// create stores a session that is not in the store yet.
func (s *Session) create(ctx context.Context, data []byte) error {
	id := s.next
	s.next = "" // another try takes another id: this one may have come through
	v, err := s.m.client.Store(ctx, id, data, s.options(id, ""))
	if err != nil {
		return ended(err)
	}
	s.id, s.version, s.base = id, v, data
	s.cookie = cookieSent
	return nil
}

// update stores a session that was loaded, on top of what others made of it meanwhile.
func (s *Session) update(ctx context.Context, data []byte) (merged bool, err error) {
	for range maxTries {
		v, err := s.m.client.Store(ctx, s.id, data, s.options(s.id, s.version))
		if err == nil {
			s.version, s.base = v, data
			return merged, nil
		}
		var conflict *sessionring.ConflictError
		if !errors.As(err, &conflict) {
			return merged, ended(err)
		}
		if data, err = s.rebase(ctx, conflict.Newer); err != nil {
			return merged, err
		}
		merged = true
	}
	return merged, fmt.Errorf("websession: %d others were quicker: %w", maxTries, sessionring.ErrConflict)
}

// ended makes ErrGone of what the store says of a destroyed session.
func ended(err error) error {
	if errors.Is(err, sessionring.ErrDestroyed) {
		return &goneError{err}
	}
	return err
}

// rebase puts this request's changes on top of the newer session and returns the outcome. Where Regenerate of
// another request has moved the session, it goes after it: s.id then is another.
func (s *Session) rebase(ctx context.Context, newer sessionring.Item) ([]byte, error) {
	if newer.Version == "" {
		return nil, &goneError{}
	}
	codec := s.m.opt.Codec
	v, err := codec.decode(newer.Data)
	if err != nil {
		return nil, err
	}
	if metaOf(v).Moved != "" {
		f, err := s.m.find(ctx, s.id, false, false)
		if errors.Is(err, errMissing) {
			return nil, &goneError{}
		} else if err != nil {
			return nil, err
		}
		if f.id != s.id {
			if s.via == "" {
				s.via = s.id
			}
			s.id = f.id
		}
		newer, v = f.item, f.values
	}
	base, err := codec.decode(s.base)
	if err != nil {
		return nil, err
	}
	theirs := s.aside(v)
	if err := s.m.opt.Merge(s.aside(base), s.aside(s.values), theirs); err != nil {
		return nil, fmt.Errorf("websession: merging: %w", err)
	}
	theirs.mu.Lock() // for good: the values are the session's own now
	v = theirs.values
	if err := mergeReserved(base, s.values, v); err != nil {
		return nil, err
	}
	s.values, s.version, s.base = v, newer.Version, newer.Data
	_ = s.readMeta()
	time.Sleep(rand.N(2 * time.Millisecond)) // so that the same two do not meet again
	return s.encode()
}

// aside is a Session of values alone.
func (s *Session) aside(v values) *Session {
	return &Session{m: s.m, loaded: true, detached: true, committed: true, values: v, meta: metaOf(v)}
}

// MergeKeys is the default of Options.Merge: it puts into theirs the values that mine changed, added or
// removed since base. Of one key that both changed, mine wins.
func MergeKeys(base, mine, theirs *Session) error {
	theirs.mu.Lock()
	defer theirs.mu.Unlock()
	for _, key := range append(base.values.keys(), mine.values.keys()...) {
		if strings.HasPrefix(key, reserved) || mine.values.same(key, base.values) {
			continue
		}
		if err := takeOrDelete(theirs.values, key, mine.values); err != nil {
			return err
		}
	}
	return nil
}

func takeOrDelete(into values, key string, from values) error {
	if !from.has(key) {
		into.delete(key)
		return nil
	}
	return into.take(key, from)
}

// mergeReserved does the same for the package's own values, whatever Options.Merge does.
func mergeReserved(base, mine, theirs values) error {
	if !mine.same(metaKey, base) {
		if err := takeOrDelete(theirs, metaKey, mine); err != nil {
			return err
		}
	}
	return mergeFlashes(base, mine, theirs)
}
