package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/sessionring/sessionring/sessiontest"
)

const cookieName = "shop"

// cookies makes what a client can send. The server's signature is on the ids that it gave out, and on no others.
type cookies struct {
	codecs []securecookie.Codec // none: cookies are not signed
	issued sync.Map
}

func (c *cookies) value(id string) string {
	if _, ok := c.issued.Load(id); !ok || len(c.codecs) == 0 {
		return id
	}
	value, err := securecookie.EncodeMulti(cookieName, id, c.codecs...)
	if err != nil {
		return id
	}
	return value
}

// gorillaSite is an application on a store of gorilla/sessions.
type gorillaSite struct {
	sessions sessions.Store
	codecs   []securecookie.Codec
	cookies  cookies
}

// request loads the session of a request that comes with the id, and hands it to the page. What the load says is
// handed on too.
func (g *gorillaSite) request(ctx context.Context, id string, page func(w http.ResponseWriter, r *http.Request, s *sessions.Session, err error) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	r.AddCookie(&http.Cookie{Name: cookieName, Value: g.cookies.value(id)})
	respond(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, e := g.sessions.Get(r, cookieName)
		err = page(w, r, s, e)
	}), r)
	return err
}

// bare saves a session that no request has loaded.
func (g *gorillaSite) bare(ctx context.Context, id string, maxAge int, data []byte) error {
	g.cookies.issued.Store(id, true)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	s := sessions.NewSession(g.sessions, cookieName)
	s.ID, s.Options.MaxAge, s.Values["data"] = id, maxAge, data
	respond(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { err = g.sessions.Save(r, w, s) }), r)
	return err
}

func dataOf(s *sessions.Session) []byte {
	b, _ := s.Values["data"].([]byte)
	return b
}

func (g *gorillaSite) store() *sessiontest.Store {
	g.cookies.codecs = g.codecs
	return &sessiontest.Store{
		Get: func(ctx context.Context, id string) (data []byte, found bool, err error) {
			g.cookies.issued.Store(id, true)
			err = g.request(ctx, id, func(_ http.ResponseWriter, _ *http.Request, s *sessions.Session, err error) error {
				if s == nil {
					return errors.Join(err, errors.New("the session is nil"))
				}
				data, found = dataOf(s), !s.IsNew
				return err
			})
			return data, found && err == nil, err
		},
		Set: func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
			return g.bare(ctx, id, int(ttl/time.Second), data)
		},
		Delete: func(ctx context.Context, id string) error { return g.bare(ctx, id, -1, nil) },
		Update: func(ctx context.Context, id string, change func([]byte) []byte) error {
			return g.request(ctx, id, func(w http.ResponseWriter, r *http.Request, s *sessions.Session, err error) error {
				if err != nil {
					return err
				}
				s.Values["data"] = change(dataOf(s))
				return s.Save(r, w)
			})
		},
		Visit: func(ctx context.Context, id string, during func()) error {
			return g.request(ctx, id, func(_ http.ResponseWriter, _ *http.Request, _ *sessions.Session, err error) error {
				during()
				return err
			})
		},
		Arrive: func(ctx context.Context, id string, data []byte) (used string, err error) {
			err = g.request(ctx, id, func(w http.ResponseWriter, r *http.Request, s *sessions.Session, _ error) error {
				s.Values["data"] = data // a cookie that does not verify is an error, and a session to go on with
				err := s.Save(r, w)
				used = s.ID
				return err
			})
			if err == nil {
				g.cookies.issued.Store(used, true)
			}
			return used, err
		},
	}
}

// regenerate is for a store that can.
func (g *gorillaSite) regenerate(f func(*http.Request, http.ResponseWriter, *sessions.Session) error) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (next string, err error) {
		err = g.request(ctx, id, func(w http.ResponseWriter, r *http.Request, s *sessions.Session, err error) error {
			if err != nil {
				return err
			}
			err = f(r, w, s)
			next = s.ID
			return err
		})
		return next, err
	}
}
