package websession

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessionring/sessionring"
)

// touches remembers which sessions this process has extended lately, in two generations: what fell out of the
// older one was longer ago than the interval. Beyond maxTouches sessions an interval some are extended sooner.
type touches struct {
	interval time.Duration
	seed     maphash.Seed

	reads atomic.Int32 // of the last sessions that were due, how many more were only read than written

	mu       sync.Mutex
	began    time.Time // of the younger generation
	now, old map[uint64]time.Time
}

const maxTouches = 1 << 17

func newTouches(interval time.Duration) *touches {
	return &touches{interval: interval, seed: maphash.MakeSeed(), now: map[uint64]time.Time{}}
}

// due reports whether it is time for name, and with done notes that it is done now.
func (t *touches) due(name string, done bool) bool {
	if t.interval < 0 {
		return true
	}
	key := maphash.String(t.seed, name)
	at := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.Sub(t.began) >= t.interval || len(t.now) >= maxTouches {
		t.old, t.now, t.began = t.now, make(map[uint64]time.Time, len(t.now)), at
	}
	last, ok := t.now[key]
	if !ok {
		last, ok = t.old[key]
	}
	if ok && at.Sub(last) < t.interval {
		return false
	}
	if done {
		t.now[key] = at
	}
	return true
}

// learn remembers whether a session that was due was only read.
func (t *touches) learn(read bool) {
	switch n := t.reads.Load(); {
	case read && n < 8:
		t.reads.Add(1)
	case !read && n > -8:
		t.reads.Add(-1)
	}
}

// touchEarly says whether to extend a session's life as it is loaded, which saves a round trip: where it is due, and
// will hardly be written, which does the same. Not where the session itself says how long it may live; and not where
// that could change how long the record lives that Regenerate leaves (see inGrace): a touch that shortens nothing does
// not, as long as the record lives longer than a session.
func (s *Session) touchEarly(id string) bool {
	m := s.m
	if !s.noWrite && m.touches.reads.Load() <= 0 || m.opt.AbsoluteTimeout > 0 || m.opt.IdleTimeout >= maxRecordLife {
		return false
	}
	ring := m.client.Ring()
	return ring != nil && ring.Distribution() == sessionring.Consistent && m.touches.due(id, false)
}

// forget makes name due: it could not be done.
func (t *touches) forget(name string) {
	key := maphash.String(t.seed, name)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, key)
	delete(t.old, key)
}

// keepAlive extends the life of a session that was used, where that is due. It never fails a request.
func (s *Session) keepAlive(ctx context.Context) {
	life := s.lifetime()
	if s.id == "" || s.gone != nil || life <= 0 || !s.m.touches.due(s.id, true) {
		return
	}
	s.m.touches.learn(!s.written)
	touched := s.written || s.touched
	if !touched || s.listed != "" {
		ctx = context.WithoutCancel(ctx)
	}
	if s.touched && !s.written {
		s.m.report(Operation{Name: "touch"}, s.id) // no time of its own
	}
	if !touched {
		start := time.Now()
		err := s.m.client.TouchFor(ctx, s.id, life)
		op := Operation{Name: "touch", Err: err, Duration: time.Since(start)}
		if errors.Is(err, sessionring.ErrNotFound) && !errors.Is(err, sessionring.ErrOwnerAway) {
			op.Outcome, op.Err = OutcomeMiss, nil // it ran out meanwhile
		}
		s.m.report(op, s.id)
		if op.Outcome != "" || err != nil {
			s.m.touches.forget(s.id)
			return
		}
	}
	if s.m.opt.Cookie.Persistent && s.via == "" && s.cookie == cookieKept {
		s.cookie = cookieSent // its Max-Age moves on as well
	}
	if s.listed != "" {
		if err := s.m.relist(ctx, s.listed, s.entry(s.id)); err != nil {
			s.m.opt.Logger.LogAttrs(ctx, slog.LevelWarn, "session could not be kept in its user's index",
				slog.String("sid", masked(s.id)), slog.String("err", err.Error()))
		}
	}
}

// lifetime is how long the session may live from now.
func (s *Session) lifetime() time.Duration {
	life := s.m.opt.IdleTimeout
	if a := s.m.opt.AbsoluteTimeout; a > 0 && s.meta.Created > 0 {
		life = min(life, a-time.Since(time.UnixMilli(s.meta.Created)))
	}
	return life
}
