// Package fiberstore keeps the sessions of fiber's session middleware (github.com/gofiber/fiber/v3/middleware/session)
// on the nodes of a sessionring Client: with copies, failover, and the certainty that a destroyed session stays
// destroyed.
//
//	app.Use(session.New(session.Config{Storage: fiberstore.New(client)}))
//
// It is a store of sessions, not of anything: a key that was deleted is never stored again (sessionring.ErrDestroyed),
// which is what session ids need and what fiber's cache does not. Session and csrf never use a key twice.
package fiberstore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"

	"github.com/sessionring/sessionring"
)

// Storage is a fiber.Storage over a Client. It is safe for concurrent use.
//
// fiber's middleware stores every session at the end of every request. The storage knows which of its calls
// belong to one request, so it does better: a session that did not change has its life extended and is not
// written, one that another request changed meanwhile included, and a new one that holds nothing is not stored.
//
// Errors are those of the Client and reach the middleware's ErrorHandler. A session that could not be asked for is
// an error, never an absent session.
type Storage struct {
	client *sessionring.Client
	opt    Options
}

// Options are optional; the zero value is useful.
type Options struct {
	// RefuseConflicts has a request that changed a session end with sessionring.ErrConflict where another
	// request changed it since this one loaded it, instead of undoing that change.
	RefuseConflicts bool
}

var _ fiber.Storage = (*Storage)(nil)

// New returns a Storage over the Client, which stays the caller's to close.
func New(client *sessionring.Client, opt ...Options) *Storage {
	s := &Storage{client: client}
	if len(opt) > 0 {
		s.opt = opt[0]
	}
	return s
}

// Get is GetWithContext without a context.
func (s *Storage) Get(key string) ([]byte, error) {
	return s.GetWithContext(context.Background(), key)
}

// GetWithContext returns the session's data; nil, nil when it is absent, empty, or the key is no session id at all.
func (s *Storage) GetWithContext(ctx context.Context, key string) ([]byte, error) {
	key = strings.Clone(key) // it lies in the request's buffer, and what is repaired later goes by it
	it, err := s.client.Load(own(ctx), key, sessionring.GetOptions{})
	switch {
	case absent(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if r := requestOf(ctx); r != nil {
		r.saw(key, it.Version, it.Data)
	}
	if len(it.Data) == 0 {
		return nil, nil // which gob could not decode; PHP stores empty sessions
	}
	return it.Data, nil
}

// absent: there is surely no session.
func absent(err error) bool {
	return errors.Is(err, sessionring.ErrNotFound) && !errors.Is(err, sessionring.ErrOwnerAway) ||
		errors.Is(err, sessionring.ErrID) || // such an id was never given out
		errors.Is(err, sessionring.ErrWrongType) // a key of somebody else
}

// Set is SetWithContext without a context.
func (s *Storage) Set(key string, val []byte, exp time.Duration) error {
	return s.SetWithContext(context.Background(), key, val, exp)
}

// SetWithContext stores a session for so long; 0: for as long as can be, 68 years. An empty key or value is ignored.
func (s *Storage) SetWithContext(ctx context.Context, key string, val []byte, exp time.Duration) error {
	switch {
	case key == "" || len(val) == 0:
		return nil
	case exp < 0:
		return s.DeleteWithContext(ctx, key)
	case exp == 0:
		exp = sessionring.MaxLifetime
	}
	key = strings.Clone(key)
	opt := sessionring.SetOptions{Lifetime: max(exp, time.Millisecond)} // the shortest that Redis knows
	r := requestOf(ctx)
	if r == nil {
		_, err := s.client.Store(own(ctx), key, val, opt)
		return err
	}
	switch was := r.last(key); {
	case was == nil && holdsNothing(val):
		return nil
	case was == nil:
	case same(was.data, val):
		return s.touch(own(ctx), key, opt.Lifetime)
	case s.opt.RefuseConflicts:
		opt.IfVersion = &was.version
	}
	version, err := s.client.Store(own(ctx), key, val, opt)
	if err == nil {
		r.saw(key, version, val)
	}
	return err
}

// touch extends the life of a session that did not change. If it has ended meanwhile it stays so: the page that
// only looked at it is none the worse, and its cookie leads nowhere.
func (s *Storage) touch(ctx context.Context, key string, ttl time.Duration) error {
	if err := s.client.TouchFor(ctx, key, ttl); !absent(err) {
		return err
	}
	return nil
}

// Delete is DeleteWithContext without a context.
func (s *Storage) Delete(key string) error { return s.DeleteWithContext(context.Background(), key) }

// DeleteWithContext destroys a session: no request that still works with it brings it back. An absent one is no
// error.
func (s *Storage) DeleteWithContext(ctx context.Context, key string) error {
	if sessionring.CheckID(key) != nil {
		return nil //nolint:nilerr // what can be no id names no session
	}
	if err := s.client.Delete(own(ctx), strings.Clone(key)); !errors.Is(err, sessionring.ErrID) {
		return err
	}
	return nil
}

// Reset is ResetWithContext without a context.
func (s *Storage) Reset() error { return s.ResetWithContext(context.Background()) }

// ResetWithContext destroys all sessions under the save_path's prefix, found by SCAN, and touches no other key of
// the database: neither FLUSHDB nor KEYS is sent. Ids with a colon are left alone, since they belong to a longer
// prefix that begins with this one. Each session leaves a mark of its end, about 100 bytes, for as long as it
// would have lived.
func (s *Storage) ResetWithContext(ctx context.Context) error {
	ctx = own(ctx)
	var failed error
	for info, err := range s.client.Sessions(ctx) {
		if err == nil && !strings.Contains(info.ID, ":") {
			err = s.client.Delete(ctx, info.ID)
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			return failed
		}
	}
	return failed
}

// Close does nothing: the Client is its owner's to close.
func (s *Storage) Close() error { return nil }

// own returns a context that outlives the request: a fiber.Ctx is one by its methods, but belongs to another
// request as soon as this one is over.
func own(ctx context.Context) context.Context {
	switch c := ctx.(type) {
	case fiber.Ctx:
		return c.Context()
	case *fasthttp.RequestCtx, nil:
		return context.Background()
	}
	return ctx
}

type requestKey struct{}

// request is what the storage knows of one.
type request struct {
	mu   sync.Mutex
	seen map[string]*seen
}

// seen is a session as this request last read or wrote it.
type seen struct {
	version sessionring.Version
	data    []byte
}

// requestOf returns nil where the context is not a request's.
func requestOf(ctx context.Context) *request {
	c, ok := ctx.(fiber.Ctx)
	if !ok {
		return nil
	}
	r, ok := c.Locals(requestKey{}).(*request)
	if !ok {
		r = &request{seen: map[string]*seen{}}
		c.Locals(requestKey{}, r)
	}
	return r
}

func (r *request) saw(key string, version sessionring.Version, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[key] = &seen{version, bytes.Clone(data)}
}

func (r *request) last(key string) *seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[key]
}

// holdsNothing tells what the middleware makes of a session without data.
func holdsNothing(val []byte) bool {
	var m map[any]any
	return gob.NewDecoder(bytes.NewReader(val)).Decode(&m) == nil && len(m) == 0
}

// same compares what two payloads hold, for gob writes a map in any order.
func same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y map[any]any
	return gob.NewDecoder(bytes.NewReader(a)).Decode(&x) == nil &&
		gob.NewDecoder(bytes.NewReader(b)).Decode(&y) == nil && reflect.DeepEqual(x, y)
}
