package ginstore

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/tester"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/securecookie"
	gorilla "github.com/gorilla/sessions"

	"github.com/sessionring/sessionring"
	gorillastore "github.com/sessionring/sessionring/adapters/gorilla"
	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

const name = "mysession"

var key = []byte("0123456789abcdef0123456789abcdef")

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DefaultWriter = io.Discard
	slog.SetDefault(slog.New(slog.DiscardHandler)) // where gin's sessions put the error of a load
	os.Exit(m.Run())
}

// gin's own tests of a store.
func TestTester(t *testing.T) {
	client := contract.ForTest(t, 2).Open(t)
	open := func(*testing.T) sessions.Store { return New(client, key) }
	for what, run := range map[string]func(*testing.T, func(*testing.T) sessions.Store){
		"GetSet":     func(t *testing.T, f func(*testing.T) sessions.Store) { tester.GetSet(t, f) },
		"DeleteKey":  func(t *testing.T, f func(*testing.T) sessions.Store) { tester.DeleteKey(t, f) },
		"Flashes":    func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Flashes(t, f) },
		"Clear":      func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Clear(t, f) },
		"Options":    func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Options(t, f) },
		"Many":       func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Many(t, f) },
		"ManyStores": func(t *testing.T, f func(*testing.T) sessions.Store) { tester.ManyStores(t, f) },
	} {
		t.Run(what, func(t *testing.T) { run(t, open) })
	}
}

type pageKey struct{}

// site is a gin application whose page a request brings along.
type site struct {
	store  *Store
	router *gin.Engine
}

func newSite(store *Store, more ...gin.HandlerFunc) *site {
	s := &site{store, gin.New()}
	s.router.Use(sessions.Sessions(name, store))
	s.router.Use(more...)
	s.router.GET("/", func(c *gin.Context) {
		c.Request.Context().Value(pageKey{}).(func(*gin.Context, sessions.Session))(c, sessions.Default(c))
	})
	return s
}

// request asks for a page with the cookie that the server gave out with the id.
func (s *site) request(ctx context.Context, id string, page func(*gin.Context, sessions.Session)) *http.Response {
	r := httptest.NewRequestWithContext(context.WithValue(ctx, pageKey{}, page), "GET", "/", nil)
	if id != "" {
		value, err := securecookie.EncodeMulti(name, id, s.store.Codecs...)
		if err != nil {
			panic(err)
		}
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	s.router.ServeHTTP(w, r)
	return w.Result()
}

// id is the one behind the cookie of a response.
func (s *site) id(res *http.Response) (id string) {
	for _, c := range res.Cookies() {
		if securecookie.DecodeMulti(name, c.Value, &id, s.store.Codecs...) == nil {
			return id
		}
	}
	return ""
}

func (s *site) contract() *sessiontest.Store {
	data := func(session sessions.Session) []byte {
		b, _ := session.Get("data").([]byte)
		return b
	}
	bare := func(c context.Context, id string, maxAge int, change func(*gorilla.Session)) error {
		session := gorilla.NewSession(s.store, name)
		session.ID, session.Options.MaxAge = id, maxAge
		change(session)
		return session.Save(httptest.NewRequestWithContext(c, "GET", "/", nil), httptest.NewRecorder())
	}
	return &sessiontest.Store{
		Name: "gin",
		Get: func(c context.Context, id string) (b []byte, found bool, err error) {
			s.request(c, id, func(c *gin.Context, session sessions.Session) {
				b = data(session)
				found = session.ID() != ""
				if _, e := s.store.Get(c.Request, name); e != nil { // what gin logs
					err = e
				}
			})
			return b, found, err
		},
		Set: func(c context.Context, id string, b []byte, ttl time.Duration) error {
			return bare(c, id, int(ttl/time.Second), func(g *gorilla.Session) { g.Values["data"] = b })
		},
		Delete: func(c context.Context, id string) error { return bare(c, id, -1, func(*gorilla.Session) {}) },
		Update: func(c context.Context, id string, change func([]byte) []byte) (err error) {
			s.request(c, id, func(_ *gin.Context, session sessions.Session) {
				session.Set("data", change(data(session)))
				err = session.Save()
			})
			return err
		},
		Visit: func(c context.Context, id string, during func()) (err error) {
			s.request(c, id, func(_ *gin.Context, session sessions.Session) {
				data(session)
				during()
				err = session.Save() // writes nothing where nothing was set
			})
			return err
		},
		Arrive: func(c context.Context, id string, b []byte) (used string, err error) {
			s.request(c, id, func(_ *gin.Context, session sessions.Session) {
				session.Set("data", b)
				err = session.Save()
				used = session.ID()
			})
			return used, err
		},
		Regenerate: func(c context.Context, id string) (next string, err error) {
			res := s.request(c, id, func(c *gin.Context, session sessions.Session) { err = s.store.Regenerate(c, session) })
			return s.id(res), err
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

// Nothing can be asked: no panic, no nil, and the blank session that gin goes on with is not saved over anything.
func TestStoreAway(t *testing.T) {
	client, err := sessionring.Open("tcp://" + redistest.DeadAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s := newSite(New(client, key))
	ran := false
	res := s.request(t.Context(), "SOMEBODY", func(_ *gin.Context, session sessions.Session) {
		ran = true
		if v := session.Get("user"); v != nil || session.ID() != "" {
			t.Errorf("user %v, id %q", v, session.ID())
		}
		session.Set("user", 1)
		session.AddFlash("hello")
		if err := session.Save(); !errors.Is(err, gorillastore.ErrUnavailable) || !errors.Is(err, sessionring.ErrNoNode) {
			t.Errorf("saving: %v", err)
		}
		session.Clear()
		session.Options(sessions.Options{MaxAge: -1})
		if err := session.Save(); !errors.Is(err, sessionring.ErrNoNode) {
			t.Errorf("logging out: %v", err)
		}
	})
	if !ran || len(res.Cookies()) > 0 {
		t.Errorf("ran: %t, cookies %v", ran, res.Cookies())
	}

	s = newSite(s.store, s.store.Require(name))
	res = s.request(t.Context(), "SOMEBODY", func(*gin.Context, sessions.Session) { t.Error("the page runs without its session") })
	if res.StatusCode != http.StatusServiceUnavailable || len(res.Cookies()) > 0 {
		t.Errorf("%s, cookies %v", res.Status, res.Cookies())
	}
	res = s.request(t.Context(), "", func(c *gin.Context, _ sessions.Session) { c.String(http.StatusOK, "a visitor") })
	if res.StatusCode != http.StatusOK {
		t.Errorf("a visitor without a session: %s", res.Status)
	}
}

// A cookie that does not verify: a new session, and no panic.
func TestForgedCookie(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	s := newSite(New(client, key), New(client, key).Require(name))
	for _, value := range []string{"attackerchosen123", strings.Repeat("x", 64<<10)} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), pageKey{}, func(c *gin.Context, session sessions.Session) {
			session.Set("user", 1)
			if err := session.Save(); err != nil {
				t.Error(err)
			}
		}), "GET", "/", nil)
		r.Header.Set("Cookie", name+"="+value)
		w := httptest.NewRecorder()
		s.router.ServeHTTP(w, r)
		if id := s.id(w.Result()); len(id) != 52 {
			t.Errorf("id %q", id)
		}
	}
}

func TestOptions(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t, "lifetime=100")
	store := New(client, key)
	store.Options(sessions.Options{Path: "/shop", MaxAge: 60, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	s := newSite(store)
	save := func(_ *gin.Context, session sessions.Session) {
		session.Set("n", 1)
		if err := session.Save(); err != nil {
			t.Error(err)
		}
	}
	res := s.request(t.Context(), "", save)
	c := res.Cookies()[0]
	if c.Path != "/shop" || c.MaxAge != 60 || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode {
		t.Errorf("%v", c)
	}
	copies, err := client.Explain(t.Context(), s.id(res))
	if err != nil || copies[0].TTL > time.Minute || copies[0].TTL < 50*time.Second {
		t.Errorf("%+v, %v", copies, err)
	}
	if err := store.Regenerate(nil, notGin{}); err == nil {
		t.Error("somebody else's session is taken")
	}
}

type notGin struct{ sessions.Session }
