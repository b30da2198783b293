package echostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"github.com/labstack/echo-contrib/v5/session"
	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"

	"github.com/sessionring/sessionring"
	gorillastore "github.com/sessionring/sessionring/adapters/gorilla"
	scsstore "github.com/sessionring/sessionring/adapters/scs"
	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

const name = "shop"

var key = []byte("0123456789abcdef0123456789abcdef")

type pageKey struct{}

type page func(*echo.Context, *sessions.Session, error) error

// site is an echo application whose page a request brings along.
type site struct {
	store *gorillastore.Store
	e     *echo.Echo
}

func newSite(store *gorillastore.Store, more ...echo.MiddlewareFunc) *site {
	s := &site{store, echo.New()}
	s.e.Use(session.Middleware(store))
	s.e.Use(more...)
	s.e.GET("/", func(c *echo.Context) error {
		session, err := session.Get(name, c)
		return c.Request().Context().Value(pageKey{}).(page)(c, session, err)
	})
	return s
}

// request asks for a page with the cookie that the server gave out with the id.
func (s *site) request(ctx context.Context, id string, p page) *http.Response {
	r := httptest.NewRequestWithContext(context.WithValue(ctx, pageKey{}, p), "GET", "/", nil)
	if id != "" {
		value, err := securecookie.EncodeMulti(name, id, s.store.Codecs...)
		if err != nil {
			panic(err)
		}
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	s.e.ServeHTTP(w, r)
	return w.Result()
}

func (s *site) contract() *sessiontest.Store {
	data := func(session *sessions.Session) []byte {
		b, _ := session.Values["data"].([]byte)
		return b
	}
	bare := func(c context.Context, id string, maxAge int, b []byte) error {
		session := sessions.NewSession(s.store, name)
		session.ID, session.Options.MaxAge, session.Values["data"] = id, maxAge, b
		return session.Save(httptest.NewRequestWithContext(c, "GET", "/", nil), httptest.NewRecorder())
	}
	save := func(c context.Context, id string, change func(c *echo.Context, session *sessions.Session) error) (used string, err error) {
		s.request(c, id, func(c *echo.Context, session *sessions.Session, _ error) error {
			err = change(c, session)
			used = session.ID
			return err
		})
		return used, err
	}
	return &sessiontest.Store{
		Name: "echo",
		Get: func(c context.Context, id string) (b []byte, found bool, err error) {
			s.request(c, id, func(_ *echo.Context, session *sessions.Session, e error) error {
				b, found, err = data(session), !session.IsNew, e
				return nil
			})
			return b, found, err
		},
		Set: func(c context.Context, id string, b []byte, ttl time.Duration) error {
			return bare(c, id, int(ttl/time.Second), b)
		},
		Delete: func(c context.Context, id string) error { return bare(c, id, -1, nil) },
		Update: func(c context.Context, id string, change func([]byte) []byte) error {
			_, err := save(c, id, func(c *echo.Context, session *sessions.Session) error {
				session.Values["data"] = change(data(session))
				return session.Save(c.Request(), c.Response())
			})
			return err
		},
		Visit: func(c context.Context, id string, during func()) error {
			_, err := save(c, id, func(*echo.Context, *sessions.Session) error { during(); return nil })
			return err
		},
		Arrive: func(c context.Context, id string, b []byte) (string, error) {
			return save(c, id, func(c *echo.Context, session *sessions.Session) error {
				session.Values["data"] = b
				return session.Save(c.Request(), c.Response())
			})
		},
		Regenerate: func(c context.Context, id string) (string, error) {
			return save(c, id, func(c *echo.Context, _ *sessions.Session) error { return Regenerate(name, c) })
		},
	}
}

func TestContract(t *testing.T) {
	nodes := contract.ForTest(t, 3)
	client := nodes.Open(t, "copies=2")
	store := New(client, key)
	store.RefuseConflicts = true
	sessiontest.Run(t, nodes.Complete(newSite(store).contract(), client))
}

// Nothing can be asked: 503 with Require, and without it an error and a session that cannot be saved.
func TestStoreAway(t *testing.T) {
	client, err := sessionring.Open("tcp://" + redistest.DeadAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s := newSite(New(client, key))
	res := s.request(t.Context(), "SOMEBODY", func(c *echo.Context, session *sessions.Session, err error) error {
		if session == nil || !errors.Is(err, gorillastore.ErrUnavailable) {
			t.Errorf("%v, %v", session, err)
		}
		return session.Save(c.Request(), c.Response())
	})
	if res.StatusCode != 500 || len(res.Cookies()) > 0 {
		t.Errorf("%s, cookies %v", res.Status, res.Cookies())
	}
	s = newSite(s.store, Require(name))
	res = s.request(t.Context(), "SOMEBODY", func(*echo.Context, *sessions.Session, error) error {
		t.Error("the page runs without its session")
		return nil
	})
	if res.StatusCode != 503 || len(res.Cookies()) > 0 {
		t.Errorf("%s, cookies %v", res.Status, res.Cookies())
	}
	res = s.request(t.Context(), "", func(c *echo.Context, _ *sessions.Session, _ error) error { return c.NoContent(204) })
	if res.StatusCode != 204 {
		t.Errorf("a visitor without a session: %s", res.Status)
	}
}

// counts visits a counter three times with a cookie jar, and returns what each said.
func counts(t *testing.T, h http.Handler) (pages []string) {
	t.Helper()
	jar := map[string]string{}
	for range 3 {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		for k, v := range jar {
			r.AddCookie(&http.Cookie{Name: k, Value: v})
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			jar[c.Name] = c.Value
		}
		pages = append(pages, w.Body.String())
	}
	return pages
}

// Echo hands on a response object of its own: the cookie must go out all the same, whoever writes the response.
func TestOneSessionAVisitor(t *testing.T) {
	for _, who := range []string{"the handler", "the error handler", "the error handler after a panic"} {
		t.Run("written by "+who, func(t *testing.T) {
			client := contract.ForTest(t, 1).Open(t)
			e := echo.New()
			e.Use(middleware.Recover(), session.Middleware(New(client, key)))
			e.HTTPErrorHandler = func(c *echo.Context, err error) {
				var text *pageError
				if !errors.As(err, &text) {
					t.Errorf("%v", err)
				}
				_ = c.String(http.StatusTeapot, fmt.Sprint(text))
			}
			e.GET("/", func(c *echo.Context) error {
				s, err := session.Get(name, c)
				if err != nil {
					return err
				}
				n, _ := s.Values["n"].(int)
				s.Values["n"] = n + 1
				if err := s.Save(c.Request(), c.Response()); err != nil {
					return err
				}
				switch who {
				case "the handler":
					return c.String(http.StatusOK, fmt.Sprint(n+1))
				case "the error handler":
					return &pageError{n + 1}
				default:
					panic(&pageError{n + 1})
				}
			})
			if got := fmt.Sprint(counts(t, e)); got != "[1 2 3]" {
				t.Error(got)
			}
			if n := sessionsIn(t, client); n != 1 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

type pageError struct{ n int }

func (e *pageError) Error() string { return fmt.Sprint(e.n) }

// The same by a net/http middleware, scs's, in echo's wrapper.
func TestWrappedMiddleware(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	manager := scs.New()
	store := scsstore.New(client)
	manager.Store = store
	e := echo.New()
	e.Use(echo.WrapMiddleware(store.Requests), echo.WrapMiddleware(manager.LoadAndSave))
	e.GET("/", func(c *echo.Context) error {
		n := manager.GetInt(c.Request().Context(), "n") + 1
		manager.Put(c.Request().Context(), "n", n)
		return c.String(http.StatusOK, fmt.Sprint(n))
	})
	if got := fmt.Sprint(counts(t, e)); got != "[1 2 3]" {
		t.Error(got)
	}
	if n := sessionsIn(t, client); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func sessionsIn(t *testing.T, client *sessionring.Client) (n int) {
	t.Helper()
	for _, err := range client.Sessions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestRegenerateNeedsThisStore(t *testing.T) {
	e := echo.New()
	e.Use(session.Middleware(sessions.NewCookieStore(key)))
	var err error
	e.GET("/", func(c *echo.Context) error { err = Regenerate(name, c); return nil })
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	if err == nil {
		t.Error("a session of another store is taken")
	}
}
