package main

import (
	"context"
	"net/http"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/securecookie"

	"github.com/sessionring/sessionring/sessiontest"
)

// ginSite is an application with gin-contrib/sessions.
type ginSite struct {
	sessions sessions.Store
	router   *gin.Engine
	gorilla  *gorillaSite // the store below, for what needs no gin
}

type ginPage struct{}

func newGin(store sessions.Store, codecs []securecookie.Codec) *ginSite {
	g := &ginSite{sessions: store, router: gin.New(), gorilla: &gorillaSite{sessions: store, codecs: codecs}}
	g.router.Use(sessions.Sessions(cookieName, store))
	g.router.GET("/", func(c *gin.Context) {
		c.Request.Context().Value(ginPage{}).(func(*gin.Context, sessions.Session))(c, sessions.Default(c))
	})
	return g
}

func (g *ginSite) request(ctx context.Context, id string, page func(*gin.Context, sessions.Session)) error {
	r, err := http.NewRequestWithContext(context.WithValue(ctx, ginPage{}, page), http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	r.AddCookie(&http.Cookie{Name: cookieName, Value: g.gorilla.cookies.value(id)})
	respond(g.router, r)
	return nil
}

func ginData(s sessions.Session) []byte {
	b, _ := s.Get("data").([]byte)
	return b
}

// store drives whole requests through gin, and reads by the store below: gin itself only logs that a load failed.
func (g *ginSite) store() *sessiontest.Store {
	s := g.gorilla.store()
	s.Update = func(ctx context.Context, id string, change func([]byte) []byte) (err error) {
		requested := g.request(ctx, id, func(_ *gin.Context, session sessions.Session) {
			session.Set("data", change(ginData(session)))
			err = session.Save()
		})
		if requested != nil {
			return requested
		}
		return err
	}
	s.Visit = func(ctx context.Context, id string, during func()) (err error) {
		requested := g.request(ctx, id, func(_ *gin.Context, session sessions.Session) {
			ginData(session)
			during()
			err = session.Save()
		})
		if requested != nil {
			return requested
		}
		return err
	}
	s.Arrive = func(ctx context.Context, id string, data []byte) (used string, err error) {
		requested := g.request(ctx, id, func(_ *gin.Context, session sessions.Session) {
			session.Set("data", data)
			err = session.Save()
			used = session.ID()
		})
		if requested != nil {
			return "", requested
		}
		if err == nil {
			g.gorilla.cookies.issued.Store(used, true)
		}
		return used, err
	}
	return s
}

// regenerate is for a store that can.
func (g *ginSite) regenerate(f func(*gin.Context, sessions.Session) error) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (next string, err error) {
		requested := g.request(ctx, id, func(c *gin.Context, session sessions.Session) {
			err = f(c, session)
			next = session.ID()
		})
		if requested != nil {
			return "", requested
		}
		return next, err
	}
}
