package main

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/sessionring/sessionring/sessiontest"
)

// scsSite is an application with scs's manager, sessions that end when they are not used for an hour.
type scsSite struct {
	manager *scs.SessionManager
	handler http.Handler
}

type (
	scsPage    struct{}
	scsFailure struct{}
)

// newSCS puts a store under a manager, and a wrapper, if there is one, around its middleware.
func newSCS(store scs.Store, wrap func(http.Handler) http.Handler) *scsSite {
	s := &scsSite{manager: scs.New()}
	s.manager.Store = store
	s.manager.IdleTimeout = time.Hour
	s.manager.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		*r.Context().Value(scsFailure{}).(*error) = err
		w.WriteHeader(http.StatusInternalServerError)
	}
	s.handler = s.manager.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.Context().Value(scsPage{}).(func(context.Context))(r.Context())
	}))
	if wrap != nil {
		s.handler = wrap(s.handler)
	}
	return s
}

// request asks for a page with a token in the cookie and returns the token that the client has then.
func (s *scsSite) request(ctx context.Context, token string, page func(context.Context)) (string, error) {
	var failure error
	ctx = context.WithValue(context.WithValue(ctx, scsFailure{}, &failure), scsPage{}, page)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return "", err
	}
	r.AddCookie(&http.Cookie{Name: s.manager.Cookie.Name, Value: token})
	for _, c := range respond(s.handler, r).Cookies() {
		token = c.Value
	}
	return token, failure
}

func (s *scsSite) store() *sessiontest.Store {
	m := s.manager
	store := &sessiontest.Store{
		Get: func(ctx context.Context, id string) ([]byte, bool, error) {
			ctx, err := m.Load(ctx, id)
			if err != nil || m.Token(ctx) == "" {
				return nil, false, err
			}
			return m.GetBytes(ctx, "data"), true, nil
		},
		Set: func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
			expiry := time.Now().Add(ttl)
			b, err := m.Codec.Encode(expiry, map[string]any{"data": data})
			if err != nil {
				return err
			}
			if cs, ok := m.Store.(scs.CtxStore); ok {
				return cs.CommitCtx(ctx, id, b, expiry)
			}
			return m.Store.Commit(id, b, expiry)
		},
		Delete: func(ctx context.Context, id string) error {
			ctx, err := m.Load(ctx, id)
			if err != nil {
				return err
			}
			return m.Destroy(ctx)
		},
		Update: func(ctx context.Context, id string, change func([]byte) []byte) error {
			_, err := s.request(ctx, id, func(ctx context.Context) { m.Put(ctx, "data", change(m.GetBytes(ctx, "data"))) })
			return err
		},
		Visit: func(ctx context.Context, id string, during func()) error {
			_, err := s.request(ctx, id, func(ctx context.Context) {
				m.GetBytes(ctx, "data")
				during()
			})
			return err
		},
		Arrive: func(ctx context.Context, id string, data []byte) (string, error) {
			return s.request(ctx, id, func(ctx context.Context) { m.Put(ctx, "data", data) })
		},
		Regenerate: func(ctx context.Context, id string) (string, error) {
			var renewed error
			next, err := s.request(ctx, id, func(ctx context.Context) { renewed = m.RenewToken(ctx) })
			return next, errors.Join(renewed, err)
		},
		Clear: func(ctx context.Context) error { return m.Iterate(ctx, m.Destroy) },
	}
	store.List = func(ctx context.Context) ([]string, error) {
		var all map[string][]byte
		var err error
		switch is := m.Store.(type) {
		case scs.IterableCtxStore:
			all, err = is.AllCtx(ctx)
		case scs.IterableStore:
			all, err = is.All()
		default:
			err = errors.New("the store cannot iterate")
		}
		return slices.Collect(maps.Keys(all)), err
	}
	return store
}
