package websession

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sessionring/sessionring"
)

// Session is the session of one request. Its methods are safe for use by several goroutines; they keep
// working after the handler returned, where Save stores what changed.
type Session struct {
	mu  sync.Mutex
	m   *Manager
	ctx context.Context // the request's, for loading

	// of the request
	ids     []string // what its cookies say
	secure  bool
	label   string
	noWrite bool // a read-only request: takes no lock

	// of the session
	loaded   bool
	err      error  // it could not be had: every use ends with this
	readOnly error  // why changes are refused
	gone     error  // it ended while the request ran
	id       string // in the store, "" while it is not there
	next     string // to be stored under this id instead, see Regenerate
	via      string // the old id that the request came by, when Regenerate has moved the session since
	version  sessionring.Version
	base     []byte // as it was loaded
	values   values
	meta     meta
	listed   string // the user whose index it is in
	dirty    bool
	written  bool
	touched  bool // its life was extended when it was loaded
	lock     *sessionring.Lock
	lockedID string

	// of the response
	cookie    cookieChange
	committed bool // its headers are out
	detached  bool // values only, of a merge
}

type cookieChange int

const (
	cookieKept cookieChange = iota
	cookieSent
	cookieExpired
)

// Names that start with this are the package's own.
const reserved = "_sessionring"

const (
	metaKey  = reserved
	flashKey = reserved + "_flash"
)

// meta is what the package keeps in a session, under metaKey, where it has something to keep.
type meta struct {
	Created int64  `json:"created,omitempty" php:"created,omitempty"` // ms since 1970
	User    string `json:"user,omitempty" php:"user,omitempty"`
	// Of the record that Regenerate leaves at the old id: where the session is, how long the record lived
	// when it was written, and how much of that is grace, both in ms.
	Moved string `json:"moved,omitempty" php:"moved,omitempty"`
	Life  int64  `json:"life,omitempty" php:"life,omitempty"`
	Grace int64  `json:"grace,omitempty" php:"grace,omitempty"`
}

type contextKey struct{ m *Manager } // nil: the innermost manager's

// requestContext is a request's context with its session in it, for its manager and as the innermost.
type requestContext struct {
	context.Context
	s *Session
}

func (c *requestContext) Value(key any) any {
	if k, ok := key.(contextKey); ok && (k.m == nil || k.m == c.s.m) {
		return c.s
	}
	return c.Context.Value(key)
}

// Get returns the session of a request that came through Manager.Wrap, of the innermost where several are
// wrapped around each other. It is never nil: without a manager every use of it ends with ErrNoSession.
func Get(r *http.Request) *Session { return From(r.Context()) }

// From is Get for a request's context.
func From(ctx context.Context) *Session {
	if s, ok := ctx.Value(contextKey{}).(*Session); ok {
		return s
	}
	return &Session{loaded: true, err: ErrNoSession}
}

// Get returns this manager's session of a request, where several managers are wrapped around each other.
func (m *Manager) Get(r *http.Request) *Session {
	if s, ok := r.Context().Value(contextKey{m}).(*Session); ok {
		return s
	}
	return &Session{loaded: true, err: ErrNoSession}
}

// use runs f with the session loaded.
func (s *Session) use(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	return f()
}

// change runs f, which reports whether it changed the values, if the session may be changed.
func (s *Session) change(f func() (bool, error)) error {
	return s.use(func() error {
		switch {
		case s.readOnly != nil:
			return s.readOnly
		case s.gone != nil:
			return s.gone
		}
		changed, err := f()
		s.dirty = s.dirty || changed
		return err
	})
}

// Value returns the value of a key; the zero T if there is none (Lookup tells the difference). Errors are
// ErrType where the value does not fit T, or why the session could not be had: then the response will be an
// error whatever the handler writes, so that it may just return.
func Value[T any](s *Session, key string) (T, error) {
	v, _, err := Lookup[T](s, key)
	return v, err
}

// Lookup returns the value of a key and whether there is one. The value is a copy: Put it to change it.
func Lookup[T any](s *Session, key string) (v T, found bool, err error) {
	err = s.use(func() error {
		var err error
		if found, err = s.values.get(key, &v); err != nil {
			var zero T
			v = zero
		}
		return err
	})
	return v, found, err
}

// Put sets the value of a key. It is encoded at once: what happens to v afterwards changes nothing. Errors
// are ErrType and ErrKey for what the codec cannot write, ErrTooLarge, ErrReadOnly, ErrGone, or why the
// session could not be had.
func Put[T any](s *Session, key string, v T) error {
	return s.change(func() (bool, error) {
		if err := checkKey(key); err != nil {
			return false, err
		}
		return s.values.put(key, v)
	})
}

// Pop returns the value of a key and removes it: for what is to be seen once, by the next request that looks.
func Pop[T any](s *Session, key string) (v T, found bool, err error) {
	err = s.change(func() (bool, error) {
		var err error
		if found, err = s.values.get(key, &v); err != nil || !found {
			var zero T
			v = zero
			return false, err
		}
		return s.values.delete(key), nil
	})
	return v, found, err
}

func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case strings.HasPrefix(key, reserved):
		return fmt.Errorf("%w: %q: names that start with %s are the package's own", ErrKey, key, reserved)
	}
	return nil
}

// Has reports whether there is a value of a key.
func (s *Session) Has(key string) (found bool, err error) {
	err = s.use(func() error { found = s.values.has(key); return nil })
	return found, err
}

// Keys returns the names of the values, in the order of their first Put (PHP's codecs: the payload's order).
func (s *Session) Keys() (keys []string, err error) {
	err = s.use(func() error {
		for _, k := range s.values.keys() {
			if !strings.HasPrefix(k, reserved) {
				keys = append(keys, k)
			}
		}
		return nil
	})
	return keys, err
}

// Delete removes a value. There being none is no error.
func (s *Session) Delete(key string) error {
	return s.change(func() (bool, error) {
		if err := checkKey(key); err != nil {
			return false, err
		}
		return s.values.delete(key), nil
	})
}

// Clear removes all values and flash messages. The session stays, with its id and user; see Destroy.
func (s *Session) Clear() error {
	return s.change(func() (changed bool, err error) {
		for _, k := range s.values.keys() {
			if k != metaKey && s.values.delete(k) {
				changed = true
			}
		}
		return changed, nil
	})
}

// Bytes returns the whole session in the codec's form, as it would be stored now.
func (s *Session) Bytes() (data []byte, err error) {
	err = s.use(func() error {
		data, err = s.encode()
		return err
	})
	return data, err
}

// SetBytes replaces all values by those of data, in the codec's form: *DataError where it is not. The
// session keeps its user and time of creation.
func (s *Session) SetBytes(data []byte) error {
	return s.change(func() (bool, error) {
		v, err := s.m.opt.Codec.decode(bytes.Clone(data)) // the values are parts of it
		if err != nil {
			return false, err
		}
		v.delete(metaKey)
		if err := v.take(metaKey, s.values); err != nil {
			return false, err
		}
		s.values = v
		return true, nil
	})
}

// ID returns the session's id, "" where there is no session: none of that id is in the store yet while New.
// It is the user's key to the session: show and log Handle instead.
func (s *Session) ID() (id string) {
	_ = s.use(func() error {
		if id = s.next; id != "" {
			return nil
		}
		if id = s.id; id == "" && s.readOnly == nil && !s.committed {
			s.next = s.m.opt.ID.newID()
			id = s.next
		}
		return nil
	})
	return id
}

// Handle names the session without giving its id away: a digest, safe to show and log. Manager.SessionsOf
// names sessions so.
func (s *Session) Handle() string {
	id := s.ID()
	if id == "" {
		return ""
	}
	return handle(id)
}

func handle(id string) string {
	sum := sha256.Sum256([]byte("sessionring handle\x00" + id))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// masked is a session in logs.
func masked(id string) string {
	if id == "" {
		return "new"
	}
	return handle(id)[:8]
}

// New reports whether the session is not in the store yet. It is true too where it could not be had.
func (s *Session) New() bool {
	fresh := true
	_ = s.use(func() error { fresh = s.id == ""; return nil })
	return fresh
}

// User returns the user named by SetUser, "" for none.
func (s *Session) User() (user string, err error) {
	err = s.use(func() error { user = s.meta.User; return nil })
	return user, err
}

// SetUser says whose session this is, by a name or number that stays the same: it is then found by
// Manager.SessionsOf and ended by Manager.DestroyAll. Call it, and Regenerate, at login; "" takes the session
// out again. Another user than before starts AbsoluteTimeout anew.
func (s *Session) SetUser(user string) error {
	return s.change(func() (bool, error) {
		switch {
		case s.detached:
			return false, ErrDetached
		case user == s.meta.User:
			return false, nil
		case !utf8.ValidString(user) || len(user) > 1024:
			return false, fmt.Errorf("%w: a user's name is UTF-8 of at most 1,024 bytes", ErrType)
		}
		s.meta.User = user
		s.meta.Created = time.Now().UnixMilli()
		return true, s.writeMeta()
	})
}

// writeMeta puts the package's own values in their place.
func (s *Session) writeMeta() error {
	if s.meta == (meta{}) {
		s.values.delete(metaKey)
		return nil
	}
	_, err := s.values.put(metaKey, s.meta)
	return err
}

// readMeta is its counterpart. What is not of the form (any PHP script may write there) counts as nothing.
func (s *Session) readMeta() error {
	s.meta = metaOf(s.values)
	return nil
}

func metaOf(v values) meta {
	if !v.has(metaKey) {
		return meta{}
	}
	var m meta
	if _, err := v.get(metaKey, &m); err != nil {
		return meta{}
	}
	return m
}

// encode returns the session as it is to be stored.
func (s *Session) encode() ([]byte, error) {
	data, err := s.values.encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrType, err)
	}
	if len(data) > s.m.opt.MaxBytes {
		return nil, &SizeError{len(data), s.m.opt.MaxBytes}
	}
	return data, nil
}

// Destroy ends the session at once and for good: no request that still runs with it brings it back. The
// response takes the cookie away, unless the handler goes on to put values: these are a new session with a new
// id. An error means that the session may still be there: the response then is an error too.
func (s *Session) Destroy(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	switch {
	case s.detached:
		return ErrDetached
	case s.readOnly != nil:
		return s.readOnly
	}
	ctx = context.WithoutCancel(ctx) // a browser that hangs up still logs out
	start := time.Now()
	err := s.destroyAll(ctx)
	s.m.report(Operation{Name: "destroy", Err: err, Duration: time.Since(start)}, s.id)
	if err != nil {
		s.err = err
		return err
	}
	s.unlock(ctx)
	if len(s.ids) > 0 || s.cookie == cookieSent {
		s.cookie = cookieExpired
	}
	s.startNew()
	return nil
}

// destroyAll deletes the session, the old id that led to it, and every other live session that the request's
// cookies name: the next request would be logged in by one of those.
func (s *Session) destroyAll(ctx context.Context) error {
	var errs []error
	dead := map[string]bool{"": true}
	for _, id := range []string{s.id, s.via} {
		if !dead[id] {
			dead[id] = true
			errs = append(errs, s.m.client.Delete(ctx, id))
		}
	}
	for _, id := range s.ids {
		if dead[id] {
			continue
		}
		f, err := s.m.find(ctx, id, false, false)
		if err == nil {
			errs = append(errs, s.m.client.Delete(ctx, f.id))
		} else if !errors.Is(err, errMissing) && !errors.Is(err, ErrBadData) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if s.listed != "" {
		s.m.delist(ctx, s.listed, s.id)
	}
	return nil
}

// startNew makes the session a new and empty one.
func (s *Session) startNew() {
	s.ids = nil
	s.id, s.next, s.via, s.version, s.base = "", "", "", "", nil
	s.values, s.meta, s.listed = s.m.opt.Codec.empty(), meta{}, ""
	s.dirty, s.written, s.touched, s.gone = false, false, false, nil
}

// Save stores what changed, now. Before the first byte of the response there is no need to: it happens by
// itself. After it, as in a WebSocket, this is the way; there a session that is not stored yet cannot be any
// more (ErrCommitted). What another request changed meanwhile is merged, as always.
func (s *Session) Save(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return ErrDetached
	}
	if s.err != nil {
		return s.err
	}
	return s.save(ctx)
}
