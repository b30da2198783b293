package websession

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"

	"github.com/felixge/httpsnoop"
	"github.com/sessionring/sessionring"
)

// Manager keeps the sessions of an application in a Client. It is safe for concurrent use, holds nothing that
// needs closing, and leaves the Client to its owner.
type Manager struct {
	client  *sessionring.Client
	opt     Options
	touches *touches
}

// New returns a Manager. It asks nothing of Redis; errors are of the options alone.
func New(client *sessionring.Client, opt Options) (*Manager, error) {
	opt, err := opt.complete(client)
	if err != nil {
		return nil, err
	}
	return &Manager{client: client, opt: opt, touches: newTouches(opt.TouchInterval)}, nil
}

// Wrap gives the requests of next a session, see Get. Wrapped twice by one Manager, a request has one session.
func (m *Manager) Wrap(next http.Handler) http.Handler { return m.wrap(next, false) }

// ReadOnly is Wrap for handlers that change nothing: they take no lock, and Put and its like end with
// ErrReadOnly. Inside of Wrap it gives the lock back; so that the lock is not waited for in the first place, wrap
// such handlers with ReadOnly alone, or tell them by Options.ReadOnly.
func (m *Manager) ReadOnly(next http.Handler) http.Handler { return m.wrap(next, true) }

func (m *Manager) wrap(next http.Handler, readOnly bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.opt.Skip != nil && m.opt.Skip(r) {
			next.ServeHTTP(w, r)
			return
		}
		if s, ok := r.Context().Value(contextKey{m}).(*Session); ok {
			if readOnly {
				s.freeze()
			}
			next.ServeHTTP(w, r)
			return
		}
		m.serve(w, r, next, readOnly || m.opt.ReadOnly != nil && m.opt.ReadOnly(r))
	})
}

// serve runs one request.
func (m *Manager) serve(w http.ResponseWriter, r *http.Request, next http.Handler, readOnly bool) {
	// One piece of memory for what a request needs: it shows in the rate.
	q := &struct {
		session  Session
		exchange exchange
		ctx      requestContext
	}{
		session: Session{
			m: m, ctx: r.Context(), ids: m.candidates(r), secure: r.TLS != nil, label: cutLabel(m.opt.Label(r)), noWrite: readOnly,
		},
		exchange: exchange{w: w, r: r},
	}
	s, x := &q.session, &q.exchange
	x.s = s
	q.ctx = requestContext{r.Context(), s}
	if h := w.Header(); len(h) > 0 {
		x.before = h.Clone()
	}
	if m.opt.Lock == LockRequests && !readOnly {
		// Before the handler runs: it never sees an empty session because it did not get the lock.
		if s.use(func() error { return nil }) != nil {
			x.commit()
			return
		}
	}
	finished := false
	defer func() {
		if !finished {
			s.abandon() // the handler panicked; what it changed since the last save is dropped
		}
	}()
	next.ServeHTTP(x.wrap(), r.WithContext(&q.ctx))
	finished = true
	x.end()
}

// freeze makes the rest of the request read-only.
func (s *Session) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noWrite = true
	if s.readOnly == nil {
		s.readOnly = ErrReadOnly
	}
	if !s.dirty && s.next == "" {
		s.unlock(s.ctx)
	}
}

// abandon drops what changed.
func (s *Session) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty, s.next = false, ""
	s.unlock(s.ctx)
}

// exchange is a request's response: what has to happen before its first byte.
type exchange struct {
	s      *Session
	w      http.ResponseWriter
	r      *http.Request
	before http.Header // before the handler

	once     sync.Once
	mu       sync.Mutex
	replaced error // the response is an error of the session, and not the handler's
	hijacked bool
}

// commit saves the session and sets its cookie, once, before the first byte.
func (x *exchange) commit() { x.once.Do(x.commitOnce) }

func (x *exchange) commitOnce() {
	s := x.s
	s.mu.Lock()
	err := s.err
	if err == nil && s.loaded {
		if err = s.save(x.r.Context()); errors.Is(err, ErrGone) {
			err = nil // the handler's response is right; hooks and log know
		}
	}
	if err == nil && s.loaded {
		s.keepAlive(x.r.Context())
	}
	s.committed = true
	s.unlock(x.r.Context())
	var cookie *http.Cookie
	switch {
	case err != nil:
		s.err, s.dirty = err, false
	case s.cookie == cookieSent:
		cookie = s.m.makeCookie(s.secure, s.id)
	case s.cookie == cookieExpired:
		cookie = s.m.makeCookie(s.secure, "")
	}
	used := s.loaded
	s.mu.Unlock()
	if err != nil {
		x.replace(err)
		return
	}
	if used {
		varyByCookie(x.w.Header())
	}
	if cookie != nil {
		s.m.sendCookie(x.w.Header(), cookie)
	}
}

// replace answers with the error instead of what the handler is about to write.
func (x *exchange) replace(err error) {
	x.mu.Lock()
	x.replaced = err
	x.mu.Unlock()
	h := x.w.Header()
	clear(h)
	maps.Copy(h, x.before)
	if f := x.s.m.opt.ErrorHandler; f != nil {
		f(x.w, x.r, err)
		return
	}
	plainError(x.w, err, x.s.m.opt.RetryAfter)
}

// end is after the handler.
func (x *exchange) end() {
	x.commit()
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty && s.loaded && s.err == nil {
		_ = s.save(x.r.Context()) // changed after the first byte; an error is reported, nobody can be told
		s.dirty = false
	}
}

// blocked commits, and says why the handler may not write.
func (x *exchange) blocked() error {
	x.commit()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.hijacked {
		return http.ErrHijacked
	}
	return x.replaced
}

// wrap returns the ResponseWriter for the handler: with the very interfaces of the one from outside.
func (x *exchange) wrap() http.ResponseWriter {
	return httpsnoop.Wrap(reach(x.w), httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				if code >= 100 && code < 200 && code != http.StatusSwitchingProtocols {
					next(code) // informational: the response is still to come
					return
				}
				if x.blocked() == nil {
					next(code)
				}
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				if err := x.blocked(); err != nil {
					return 0, err
				}
				return next(b)
			}
		},
		WriteString: func(next httpsnoop.WriteStringFunc) httpsnoop.WriteStringFunc {
			return func(s string) (int, error) {
				if err := x.blocked(); err != nil {
					return 0, err
				}
				return next(s)
			}
		},
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) {
				if err := x.blocked(); err != nil {
					return 0, err
				}
				return next(src)
			}
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				if x.blocked() == nil {
					next()
				}
			}
		},
		FlushError: func(next httpsnoop.FlushErrorFunc) httpsnoop.FlushErrorFunc {
			return func() error {
				if err := x.blocked(); err != nil {
					return err
				}
				return next()
			}
		},
		Hijack: func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				first := false
				x.once.Do(func() { first = true; x.commitOnce() })
				if err := x.blocked(); err != nil {
					return nil, nil, err
				}
				conn, rw, err := next()
				if err != nil {
					return nil, nil, err
				}
				x.mu.Lock()
				x.hijacked = true
				x.mu.Unlock()
				if first {
					conn, rw = carryCookies(conn, rw, x.newCookies(), x.s.m.opt.Cookie.Name)
				}
				return conn, rw, nil
			}
		},
	})
}

// newCookies returns the session's Set-Cookie lines among the headers.
func (x *exchange) newCookies() []string {
	var lines []string
	for _, line := range x.w.Header().Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == x.s.m.opt.Cookie.Name {
			lines = append(lines, line)
		}
	}
	return lines
}

// report tells hooks and log of something that was done for the session of an id.
func (m *Manager) report(op Operation, id string) {
	if op.Outcome == "" {
		op.Outcome = OutcomeOK
		if op.Err != nil {
			op.Outcome = OutcomeError
		}
	}
	if op.Err != nil {
		level, msg := slog.LevelWarn, "session: "+op.Name+" failed"
		if op.Outcome == OutcomeGone {
			level, msg = slog.LevelInfo, "session ended while a request ran; its changes are dropped"
		}
		m.opt.Logger.LogAttrs(context.Background(), level, msg, slog.String("op", op.Name), slog.String("outcome", string(op.Outcome)),
			slog.String("sid", masked(id)), slog.Bool("late", op.Late), slog.Int64("elapsed_ms", op.Duration.Milliseconds()),
			slog.String("err", op.Err.Error()))
	}
	if m.opt.Hooks.Operation != nil {
		m.opt.Hooks.Operation(op)
	}
}
