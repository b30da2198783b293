package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/session"

	"github.com/sessionring/sessionring/sessiontest"
)

// fiberSite is an application with fiber's session middleware.
type fiberSite struct {
	storage  fiber.Storage
	app      *fiber.App
	sessions *session.Store
	pages    sync.Map // number in the request's header to *fiberVisit
	last     atomic.Int64
}

type fiberVisit struct {
	page func(*session.Middleware)
	err  error // the middleware's
}

func newFiber(storage fiber.Storage) *fiberSite {
	f := &fiberSite{storage: storage, app: fiber.New()}
	of := func(c fiber.Ctx) *fiberVisit {
		v, ok := f.pages.Load(strings.Clone(c.Get("X-Page")))
		if !ok {
			return &fiberVisit{page: func(*session.Middleware) {}}
		}
		return v.(*fiberVisit)
	}
	handler, store := session.NewWithStore(session.Config{
		Storage: storage, IdleTimeout: time.Hour,
		ErrorHandler: func(c fiber.Ctx, err error) { of(c).err = err },
	})
	f.sessions = store
	f.app.Use(handler)
	f.app.Get("/", func(c fiber.Ctx) error {
		of(c).page(session.FromContext(c))
		return nil
	})
	return f
}

// request asks for a page with an id in the cookie and returns the id that the client has then.
func (f *fiberSite) request(ctx context.Context, id string, page func(*session.Middleware)) (string, error) {
	v := &fiberVisit{page: page}
	n := fmt.Sprint(f.last.Add(1))
	f.pages.Store(n, v)
	defer f.pages.Delete(n)
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.Header.Set("X-Page", n)
	r.AddCookie(&http.Cookie{Name: "session_id", Value: id})
	res, err := f.app.Test(r, fiber.TestConfig{Timeout: 0})
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	for _, c := range res.Cookies() {
		id = c.Value
	}
	return id, v.err
}

func (f *fiberSite) store() *sessiontest.Store {
	data := func(m interface{ Get(any) any }) []byte {
		b, _ := m.Get("data").([]byte)
		return b
	}
	return &sessiontest.Store{
		Get: func(ctx context.Context, id string) ([]byte, bool, error) {
			s, err := f.sessions.GetByID(ctx, id)
			switch {
			case errors.Is(err, session.ErrSessionIDNotFoundInStore):
				return nil, false, nil
			case err != nil:
				return nil, false, err
			}
			defer s.Release()
			return data(s), true, nil
		},
		Set: func(ctx context.Context, id string, b []byte, ttl time.Duration) error {
			var buf bytes.Buffer
			if err := gob.NewEncoder(&buf).Encode(map[any]any{"data": b}); err != nil {
				return err
			}
			return f.storage.SetWithContext(ctx, id, buf.Bytes(), ttl)
		},
		Delete: func(ctx context.Context, id string) error { return f.sessions.Delete(ctx, id) },
		Update: func(ctx context.Context, id string, change func([]byte) []byte) error {
			_, err := f.request(ctx, id, func(m *session.Middleware) { m.Set("data", change(data(m))) })
			return err
		},
		Visit: func(ctx context.Context, id string, during func()) error {
			_, err := f.request(ctx, id, func(m *session.Middleware) {
				data(m)
				during()
			})
			return err
		},
		Arrive: func(ctx context.Context, id string, b []byte) (string, error) {
			return f.request(ctx, id, func(m *session.Middleware) { m.Set("data", b) })
		},
		Regenerate: func(ctx context.Context, id string) (string, error) {
			var inner error
			next, err := f.request(ctx, id, func(m *session.Middleware) { inner = m.Regenerate() })
			return next, errors.Join(inner, err)
		},
		Clear: f.sessions.Reset,
	}
}
