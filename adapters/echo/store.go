// Package echostore keeps the sessions of echo's session middleware (github.com/labstack/echo-contrib/v5/session)
// on the nodes of a sessionring Client.
//
//	e.Use(session.Middleware(echostore.New(client, []byte(secret))))
//
// The middleware takes any store of gorilla/sessions, and this one is that of adapters/gorilla, which works with
// echo v4's (echo-contrib v0) just as well. This package adds what an echo application would write beside it:
// [Require] and [Regenerate].
package echostore

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo-contrib/v5/session"
	"github.com/labstack/echo/v5"

	"github.com/sessionring/sessionring"
	gorillastore "github.com/sessionring/sessionring/adapters/gorilla"
)

// New returns a store over the Client, which stays the caller's to close. Keys come in pairs, one that signs the
// cookie and one that encrypts it, or nil; see gorillastore.New.
func New(client *sessionring.Client, keyPairs ...[]byte) *gorillastore.Store {
	return gorillastore.New(client, keyPairs...)
}

// Require answers 503 before the handler where the session of the name could not be asked for. It stands behind
// session.Middleware. A session that is not there, or a cookie that does not verify, is no reason.
func Require(name string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			if _, err := session.Get(name, c); errors.Is(err, gorillastore.ErrUnavailable) {
				return echo.NewHTTPError(http.StatusServiceUnavailable, "sessions are unavailable").Wrap(err)
			}
			return next(c)
		}
	}
}

// Regenerate gives the session of the name another id, as a login should, and saves it; see
// gorillastore.Store.Regenerate.
func Regenerate(name string, c *echo.Context) error {
	s, err := session.Get(name, c)
	if s == nil {
		return err
	}
	store, ok := s.Store().(*gorillastore.Store)
	if !ok {
		return fmt.Errorf("echostore: the session is one of %T", s.Store())
	}
	return store.Regenerate(c.Request(), c.Response(), s)
}
