package scsstore

import (
	"bytes"
	"context"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/sessionring/sessionring"
)

// Requests wraps a handler that a manager's LoadAndSave has wrapped already. The store then knows which of its
// calls belong to one request, and
//   - with locking=1 in the save_path (or sessionring.WithLocking) takes the session's lock when it is loaded and
//     gives it up when the handler returns, so that requests of one session run one after another;
//   - with Options.RefuseConflicts refuses to undo what another request changed meanwhile;
//   - extends the life of a session that did not change instead of writing it back, which the manager does at
//     each request where it has an IdleTimeout.
//
// Sessions that the handler loads by hand, with a context that is not the request's, are not known to it.
func (s *Store) Requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := &request{seen: map[string]*seen{}}
		defer state.end(r.Context())
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, state)))
	})
}

type requestKey struct{}

// request is what the store knows of one.
type request struct {
	mu   sync.Mutex
	seen map[string]*seen
}

// seen is a session as this request last read or wrote it.
type seen struct {
	version sessionring.Version
	data    []byte
	lock    *sessionring.Lock
}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

func (r *request) find(ctx context.Context, s *Store, token string) ([]byte, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it, found, err := s.load(ctx, token)
	if err != nil || !found {
		return nil, false, err
	}
	was := r.seen[token]
	now := &seen{version: it.Version, data: bytes.Clone(it.Data)}
	if was != nil {
		now.lock = was.lock
	} else if s.client.Locking() {
		// Only now, so that nobody makes keys under tokens of his own; and then once more, for what the last
		// holder wrote.
		if now.lock, err = s.client.Lock(ctx, token); err != nil {
			return nil, false, err
		}
		r.seen[token] = now
		if it, found, err = s.load(ctx, token); err != nil || !found {
			return nil, false, err
		}
		now.version, now.data = it.Version, bytes.Clone(it.Data)
	}
	r.seen[token] = now
	return it.Data, true, nil
}

func (r *request) commit(ctx context.Context, s *Store, token string, data []byte, ttl time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.seen[token]
	opt := sessionring.SetOptions{Lifetime: ttl}
	if was != nil {
		if s.same(was.data, data) {
			return s.touch(ctx, token, ttl)
		}
		opt.Lock = was.lock
		if s.opt.RefuseConflicts {
			opt.IfVersion = &was.version
		}
	} else {
		was = &seen{}
	}
	version, err := s.client.Store(ctx, token, data, opt)
	if err == nil {
		r.seen[token] = &seen{version: version, data: bytes.Clone(data), lock: was.lock}
	}
	return err
}

// touch extends the life of a session that did not change. If it has ended meanwhile it stays so: the page that
// only looked at it is none the worse, and its cookie leads nowhere.
func (s *Store) touch(ctx context.Context, token string, ttl time.Duration) error {
	err := s.client.TouchFor(ctx, token, ttl)
	if absent(err) {
		return nil
	}
	return err
}

// same compares what two payloads hold, for gob writes a map in any order.
func (s *Store) same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	deadlineA, valuesA, errA := s.opt.Codec.Decode(a)
	deadlineB, valuesB, errB := s.opt.Codec.Decode(b)
	return errA == nil && errB == nil && deadlineA.Equal(deadlineB) && reflect.DeepEqual(valuesA, valuesB)
}

// end gives up the locks, if need be after the client has gone.
func (r *request) end(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.seen {
		if x.lock != nil {
			// What was written under it was checked when it was written; if it cannot be released it ends by itself.
			_ = x.lock.Unlock(context.WithoutCancel(ctx))
		}
	}
	r.seen = nil
}
