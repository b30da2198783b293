package websession

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sessionring/sessionring"
)

// errMissing: there is surely no session of the id.
var errMissing = errors.New("no such session")

// maxHops is how many ids behind each other are followed, each regenerated while the last one's grace ran.
const maxHops = 4

// found is a live session.
type found struct {
	id     string
	via    string // the id that was asked for, where that led to another
	item   sessionring.Item
	values values
	meta   meta
	lock   *sessionring.Lock // on id
}

// load has the session ready, once a request. s.mu is held.
func (s *Session) load() error {
	if s.loaded {
		return s.err
	}
	s.loaded = true
	s.values = s.m.opt.Codec.empty()
	if s.noWrite {
		s.readOnly = ErrReadOnly
	}
	if len(s.ids) == 0 {
		return nil // a visitor: nothing is asked of the store
	}
	start := time.Now()
	var trouble error
	for _, id := range s.ids {
		early := s.touchEarly(id)
		f, err := s.m.find(s.ctx, id, s.m.opt.Lock == LockRequests && !s.noWrite, early)
		if errors.Is(err, sessionring.ErrLockHeld) && s.m.opt.Locked == LockedReadOnly {
			locked := &readOnlyError{err}
			if f, err = s.m.find(s.ctx, id, false, early); err == nil {
				s.readOnly = locked
			}
		}
		switch {
		case err == nil:
			s.adopt(f)
			s.touched = early
			s.m.report(Operation{Name: "load", Duration: time.Since(start)}, f.id)
			return nil
		case errors.Is(err, errMissing):
		case errors.Is(err, ErrBadData) && s.m.opt.BadData == BadDataFresh:
			s.m.report(Operation{Name: "load", Err: err, Duration: time.Since(start)}, id)
		case trouble == nil:
			trouble = err
		}
	}
	if trouble == nil {
		// Strict mode: nobody made these ids here, or what they named is over. They are not adopted.
		s.m.report(Operation{Name: "load", Outcome: OutcomeMiss, Duration: time.Since(start)}, s.ids[0])
		return nil
	}
	s.m.report(Operation{Name: "load", Err: trouble, Duration: time.Since(start)}, s.ids[0])
	unavailable := !errors.Is(trouble, ErrBadData) && !errors.Is(trouble, sessionring.ErrLockHeld)
	if unavailable && s.m.opt.Unavailable == ReadOnlyEmpty {
		s.readOnly = &readOnlyError{trouble}
		return nil
	}
	s.err = trouble
	return s.err
}

// adopt takes over what was found.
func (s *Session) adopt(f found) {
	s.id, s.via = f.id, f.via
	s.version, s.base = f.item.Version, f.item.Data
	s.values, s.meta = f.values, f.meta
	s.lock, s.lockedID = f.lock, f.id
	s.listed = f.meta.User
	if s.m.opt.AbsoluteTimeout > 0 && s.meta.Created == 0 && s.readOnly == nil {
		s.meta.Created = time.Now().UnixMilli()
		s.dirty = s.writeMeta() == nil
	}
}

// find reads the session behind an id, takes its lock and extends its life if asked to. The error is errMissing, a
// *DataError, or why the store could not tell.
func (m *Manager) find(ctx context.Context, id string, lock, touch bool) (f found, err error) {
	asked := id
	var held *sessionring.Lock
	defer func() {
		if err != nil && held != nil {
			m.unlock(ctx, held)
		}
	}()
	for range 2 * maxHops {
		item, err := m.client.Load(ctx, id, sessionring.GetOptions{Touch: touch, Lifetime: m.opt.IdleTimeout})
		switch {
		case err == nil:
		case errors.Is(err, sessionring.ErrNotFound) && !errors.Is(err, sessionring.ErrOwnerAway):
			return f, errMissing
		case errors.Is(err, sessionring.ErrID):
			return f, errMissing // too short for distribution=phpredis
		case errors.Is(err, sessionring.ErrWrongType):
			return f, &DataError{m.opt.Codec.String(), err}
		default:
			return f, err
		}
		v, err := m.opt.Codec.decode(item.Data)
		if err != nil {
			return f, err
		}
		meta := metaOf(v)
		switch {
		case meta.Moved != "":
			if held != nil {
				m.unlock(ctx, held)
				held = nil
			}
			if err := m.inGrace(ctx, id, meta); err != nil {
				return f, err
			}
			id = meta.Moved
		case m.expired(meta):
			_ = m.client.Delete(ctx, id) // if it fails, the next request does it
			return f, errMissing
		case lock && held == nil:
			// Only now, so that nobody makes keys under ids of his own; and then once more, for what the last
			// holder wrote.
			if held, err = m.acquire(ctx, id); err != nil {
				return f, err
			}
		default:
			f = found{id: id, item: item, values: v, meta: meta, lock: held}
			if id != asked {
				f.via = asked
			}
			return f, nil
		}
	}
	return f, errMissing
}

func (m *Manager) expired(meta meta) bool {
	return m.opt.AbsoluteTimeout > 0 && meta.Created > 0 &&
		time.Since(time.UnixMilli(meta.Created)) >= m.opt.AbsoluteTimeout
}

// acquire takes a session's lock.
func (m *Manager) acquire(ctx context.Context, id string) (*sessionring.Lock, error) {
	start := time.Now()
	l, err := m.client.Lock(ctx, id)
	m.report(Operation{Name: "lock", Err: err, Duration: time.Since(start)}, id)
	if err != nil {
		return nil, fmt.Errorf("websession: waiting for the session's lock: %w", err)
	}
	return l, nil
}

func (m *Manager) unlock(ctx context.Context, l *sessionring.Lock) {
	// What was written under it was checked when it was written; if it cannot be released it ends by itself.
	_ = l.Unlock(context.WithoutCancel(ctx))
}

// unlock gives up the session's lock.
func (s *Session) unlock(ctx context.Context) {
	if s.lock != nil {
		s.m.unlock(ctx, s.lock)
		s.lock = nil
	}
}
