package websession

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sessionring/sessionring"
)

const (
	maxGrace = time.Hour
	// A record at the old id outlives every request that could still write there, and every touch by PHP,
	// which would make it look younger.
	maxRecordLife = 24 * time.Hour
)

// Regenerate gives the session a new id when it is saved: call it whenever somebody logs in, or gains rights,
// so that an id that others may know is worth nothing afterwards. Values stay.
//
// Requests that are under way with the old id, and those that come by it within Options.RegenerateGrace, read
// and write the same session, wherever it is now: the session cannot fork. They are not told the new id, so
// that who stole the old one loses it with the grace; only when such a request calls Regenerate itself, as
// the second click on a login button does, it joins the first and gets the new id.
//
// ErrCommitted when the response has begun.
func (s *Session) Regenerate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.change(func() (bool, error) {
		switch {
		case s.detached:
			return false, ErrDetached
		case s.committed:
			return false, ErrCommitted
		case s.via != "":
			s.cookie, s.via = cookieSent, ""
			return false, nil
		case s.next == "":
			s.next = s.m.opt.ID.newID()
		}
		return s.id != "", nil
	})
}

// record is what stands at the old id.
func (m *Manager) record(to string) (data []byte, life time.Duration, err error) {
	grace := max(m.opt.RegenerateGrace, 0)
	life = min(2*m.opt.IdleTimeout, maxRecordLife) + grace
	v := m.opt.Codec.empty()
	if _, err := v.put(metaKey, meta{Moved: to, Life: life.Milliseconds(), Grace: grace.Milliseconds()}); err != nil {
		return nil, 0, err
	}
	data, err = v.encode()
	return data, life, err
}

// inGrace says whether the record at id still leads to the session, by what is left of its life on the nodes:
// no clocks are compared. The error is errMissing when the grace is over.
func (m *Manager) inGrace(ctx context.Context, id string, rec meta) error {
	if sessionring.CheckID(rec.Moved) != nil {
		return &DataError{m.opt.Codec.String(), errors.New("it has moved to what is no id")}
	}
	copies, err := m.client.Explain(ctx, id)
	if err != nil {
		return err
	}
	left, present := time.Duration(-1), false
	for _, c := range copies {
		if c.Err == nil && c.Present && !c.Dead {
			left, present = max(left, c.TTL), true
		} else if c.Err != nil {
			err = errors.Join(err, c.Err)
		}
	}
	if !present && err != nil {
		return err // nobody could say
	}
	life, grace := time.Duration(rec.Life)*time.Millisecond, time.Duration(rec.Grace)*time.Millisecond
	if left > life-grace && left <= life && grace > 0 {
		return nil
	}
	_ = m.client.Delete(ctx, id) // if it fails, the next request does it
	return errMissing
}

// move stores the session under its next id and leaves a record at the old one, in this order: whatever fails,
// the session is there under one of them.
func (s *Session) move(ctx context.Context, data []byte) (merged bool, err error) {
	from, to := s.id, s.next
	s.next = s.m.opt.ID.newID() // for another try, in case this one half came through
	rec, life, err := s.m.record(to)
	if err != nil {
		return false, err
	}
	version, err := s.m.client.Store(ctx, to, data, s.options(to, ""))
	if err != nil {
		return false, ended(err)
	}
	drop := func() { _ = s.m.client.Delete(ctx, to) }
	for range maxTries {
		o := s.options(from, s.version)
		o.Lifetime = life
		_, err := s.m.client.Store(ctx, from, rec, o)
		var conflict *sessionring.ConflictError
		switch {
		case err == nil:
			s.id, s.next, s.via, s.version, s.base, s.cookie = to, "", "", version, data, cookieSent
			if s.m.opt.RegenerateGrace < 0 {
				_ = s.m.client.Delete(ctx, from) // the record alone keeps others out, too
			}
			return merged, nil
		case errors.As(err, &conflict):
		case errors.Is(err, sessionring.ErrDestroyed), errors.Is(err, sessionring.ErrLockLost):
			drop()
			return merged, ended(err)
		default:
			return merged, err // it may have come through: then the session is at its new id
		}
		if data, err = s.rebase(ctx, conflict.Newer); err != nil {
			drop()
			return merged, err
		}
		merged = true
		if s.id != from {
			// Another request has regenerated it: join that.
			drop()
			s.next, s.via, s.cookie = "", "", cookieSent
			_, err := s.update(ctx, data)
			return merged, err
		}
		if version, err = s.m.client.Store(ctx, to, data, s.options(to, version)); err != nil {
			return merged, ended(err)
		}
	}
	drop()
	return merged, fmt.Errorf("websession: %d others were quicker: %w", maxTries, sessionring.ErrConflict)
}
