package gorillastore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

const name = "session-name"

var key = []byte("0123456789abcdef0123456789abcdef")

// cookie is what the server gave out with an id.
func cookie(t testing.TB, s *Store, id string) string {
	value, err := securecookie.EncodeMulti(name, id, s.Codecs...)
	if err != nil {
		t.Fatal(err)
	}
	return name + "=" + value
}

func request(ctx context.Context, cookies ...string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	if len(cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	return r
}

func contractOf(t testing.TB, s *Store) *sessiontest.Store {
	bytesOf := func(session *sessions.Session) []byte {
		b, _ := session.Values["data"].([]byte)
		return b
	}
	change := func(c context.Context, id string, f func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error) error {
		r := request(c, cookie(t, s, id))
		session, _ := s.Get(r, name) // as the handlers do that look at no error: Save has the last word
		return f(httptest.NewRecorder(), r, session)
	}
	return &sessiontest.Store{
		Name: "gorilla",
		Get: func(c context.Context, id string) ([]byte, bool, error) {
			session, err := s.Get(request(c, cookie(t, s, id)), name)
			if err != nil || session.IsNew {
				return nil, false, err
			}
			return bytesOf(session), true, nil
		},
		Set: func(c context.Context, id string, data []byte, ttl time.Duration) error {
			session := sessions.NewSession(s, name)
			session.ID = id
			session.Values["data"] = data
			session.Options.MaxAge = int(ttl / time.Second)
			return s.Save(request(c), httptest.NewRecorder(), session)
		},
		Delete: func(c context.Context, id string) error {
			session := sessions.NewSession(s, name)
			session.ID = id
			session.Options.MaxAge = -1
			return s.Save(request(c), httptest.NewRecorder(), session)
		},
		Update: func(c context.Context, id string, f func([]byte) []byte) error {
			return change(c, id, func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
				session.Values["data"] = f(bytesOf(session))
				return session.Save(r, w)
			})
		},
		Visit: func(c context.Context, id string, during func()) error {
			return change(c, id, func(http.ResponseWriter, *http.Request, *sessions.Session) error {
				during()
				return nil
			})
		},
		Arrive: func(c context.Context, id string, data []byte) (used string, err error) {
			err = change(c, id, func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
				session.Values["data"] = data
				err := sessions.Save(r, w)
				used = session.ID
				var several sessions.MultiError
				if errors.As(err, &several) {
					return session.Save(r, w) // the same, with the error itself
				}
				return err
			})
			return used, err
		},
		Regenerate: func(c context.Context, id string) (next string, err error) {
			err = change(c, id, func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
				err := s.Regenerate(r, w, session)
				next = session.ID
				return err
			})
			return next, err
		},
	}
}

func TestContract(t *testing.T) {
	nodes := contract.ForTest(t, 3)
	client := nodes.Open(t, "copies=2")
	store := New(client, key)
	store.RefuseConflicts = true
	sessiontest.Run(t, nodes.Complete(contractOf(t, store), client))
}

// jar keeps what the responses set, as a browser does.
type jar struct {
	t *testing.T
	h http.Handler
	m map[string]string
}

func (j *jar) get(path string) *http.Response {
	r := request(j.t.Context())
	r.URL.Path = path
	for k, v := range j.m {
		r.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	w := httptest.NewRecorder()
	j.h.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			delete(j.m, c.Name)
		} else {
			j.m[c.Name] = c.Value
		}
	}
	return res
}

// Flashes, as gorilla's own test of a store has them, and what a custom type needs.
type flashMessage struct {
	Type    int
	Message string
}

func init() { gob.Register(flashMessage{}) }

func TestFlashes(t *testing.T) {
	store := New(contract.ForTest(t, 2).Open(t), key)
	step := 0
	j := &jar{t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, name)
		if err != nil {
			t.Error(err)
		}
		switch step++; step {
		case 1:
			if len(session.Flashes()) > 0 || !session.IsNew {
				t.Error("a new session has flashes or is not new")
			}
			session.AddFlash("foo")
			session.AddFlash("bar")
			session.AddFlash("baz", "custom_key")
			session.AddFlash(&flashMessage{42, "foo"}, "typed")
		case 2:
			if f := session.Flashes(); len(f) != 2 || f[0] != "foo" || f[1] != "bar" {
				t.Errorf("%v", f)
			}
			if f := session.Flashes("custom_key"); len(f) != 1 || f[0] != "baz" {
				t.Errorf("%v", f)
			}
			if f := session.Flashes("typed"); len(f) != 1 || f[0] != (flashMessage{42, "foo"}) {
				t.Errorf("%v", f)
			}
		default:
			if len(session.Values) > 0 || session.IsNew {
				t.Errorf("%v", session.Values)
			}
		}
		if err := sessions.Save(r, w); err != nil {
			t.Error(err)
		}
	}), map[string]string{}}
	for range 3 {
		j.get("/")
	}
	if step != 3 {
		t.Errorf("%d steps", step)
	}
}

func TestOptions(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t, "lifetime=100")
	store := New(client, key)
	save := func(change func(*sessions.Session)) (*sessions.Session, *http.Cookie) {
		t.Helper()
		r, w := request(t.Context()), httptest.NewRecorder()
		session, err := store.Get(r, name)
		if err != nil {
			t.Fatal(err)
		}
		session.Values["n"] = 1
		change(session)
		if err := session.Save(r, w); err != nil {
			t.Fatal(err)
		}
		return session, w.Result().Cookies()[0]
	}
	ttl := func(s *sessions.Session) time.Duration {
		t.Helper()
		copies, err := client.Explain(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		return copies[0].TTL.Round(time.Second)
	}
	s, c := save(func(*sessions.Session) {})
	if c.MaxAge != DefaultMaxAge || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || ttl(s) < 29*24*time.Hour {
		t.Errorf("%v, lives %v", c, ttl(s))
	}
	s, c = save(func(s *sessions.Session) { s.Options.MaxAge = 0 })
	if c.MaxAge != 0 || !c.Expires.IsZero() || ttl(s) > 100*time.Second || ttl(s) < 90*time.Second {
		t.Errorf("until the browser ends: %v, lives %v", c, ttl(s))
	}
	s, c = save(func(s *sessions.Session) { s.Options.MaxAge = 7 })
	if c.MaxAge != 7 || ttl(s) > 7*time.Second {
		t.Errorf("%v, lives %v", c, ttl(s))
	}
	s, _ = save(func(s *sessions.Session) { s.Options.MaxAge = int(^uint(0) >> 1) })
	if ttl(s) < 1<<30*time.Second {
		t.Errorf("as long as can be: %v", ttl(s))
	}
	if _, c = save(func(s *sessions.Session) { s.Options.MaxAge = -1 }); c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("deleted: %v", c)
	}
	store.MaxAge(3600)
	if s := store.empty(name); s.Options.MaxAge != 3600 {
		t.Errorf("%+v", s.Options)
	}
}

// The keys rotate: cookies of the older pair still count, and the next one is of the newer.
func TestKeyRotation(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	before, after := New(client, key), New(client, []byte(strings.Repeat("n", 32)), []byte(strings.Repeat("e", 16)), key, nil)
	c := contractOf(t, before)
	if err := c.Set(t.Context(), "ID1", []byte("data"), time.Hour); err != nil {
		t.Fatal(err)
	}
	session, err := after.Get(request(t.Context(), cookie(t, before, "ID1")), name)
	if err != nil || session.IsNew {
		t.Fatalf("%v, new: %t", err, session.IsNew)
	}
	if session, err = before.Get(request(t.Context(), cookie(t, after, "ID1")), name); err == nil || session == nil || !session.IsNew {
		t.Errorf("a key that this store does not have: %v, %+v", err, session)
	}
}

// Cookies that lead nowhere: never nil, never somebody's session, and what is saved then is a new session.
func TestBadCookies(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	store := New(client, key)
	if err := client.Set(t.Context(), "BROKEN", []byte("no gob")); err != nil {
		t.Fatal(err)
	}
	for what, x := range map[string]struct {
		cookie string
		err    bool
	}{
		"nonsense":         {name + "=abc", true},
		"64 KB":            {name + "=" + strings.Repeat("x", 64<<10), true},
		"plain id":         {name + "=ATTACKERCHOSEN123", true},
		"another name's":   {name + "=" + strings.TrimPrefix(strings.Replace(cookie(t, store, "ID"), name, "", 1), "=") + "x", true},
		"unknown id":       {cookie(t, store, "ATTACKERCHOSEN123"), false},
		"id of odd bytes":  {cookie(t, store, "\x00\xff id"), false},
		"empty id":         {cookie(t, store, ""), false},
		"data of no codec": {cookie(t, store, "BROKEN"), true},
	} {
		t.Run(what, func(t *testing.T) {
			r, w := request(t.Context(), x.cookie), httptest.NewRecorder()
			session, err := store.Get(r, name)
			if session == nil || !session.IsNew || session.ID != "" || len(session.Values) > 0 || (err != nil) != x.err {
				t.Fatalf("%+v, %v", session, err)
			}
			session.Values["user"] = 1
			if err := session.Save(r, w); err != nil {
				t.Fatal(err)
			}
			if len(session.ID) != 52 || len(w.Result().Cookies()) != 1 {
				t.Errorf("%d bytes of id, cookies %v", len(session.ID), w.Result().Cookies())
			}
		})
	}
	if data, err := client.Get(t.Context(), "BROKEN"); err != nil || string(data) != "no gob" {
		t.Errorf("what could not be read is %q now, %v", data, err)
	}
}

// Of several cookies of one name the one that leads to a live session counts.
func TestTwoCookiesOfOneName(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	store := New(client, key)
	c := contractOf(t, store)
	for _, id := range []string{"LIVE", "SIXTH"} {
		if err := c.Set(t.Context(), id, []byte(id), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	session, err := store.Get(request(t.Context(), name+"=bad", cookie(t, store, "DEAD"), cookie(t, store, "LIVE")), name)
	if err != nil || session.ID != "LIVE" {
		t.Errorf("%q, %v", session.ID, err)
	}
	many := []string{}
	for range 5 {
		many = append(many, cookie(t, store, "DEAD"))
	}
	session, err = store.Get(request(t.Context(), append(many, cookie(t, store, "SIXTH"))...), name)
	if err != nil || !session.IsNew {
		t.Errorf("%q, %v: more than a handful is asked for", session.ID, err)
	}
}

// Nothing can be asked: never nil, and the session that may be there is not written over.
func TestStoreAway(t *testing.T) {
	client, err := sessionring.Open("tcp://" + redistest.DeadAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store := New(client, key)
	r, w := request(t.Context(), cookie(t, store, "SOMEBODY")), httptest.NewRecorder()
	session, err := store.Get(r, name)
	if session == nil || !errors.Is(err, sessionring.ErrNoNode) || !errors.Is(err, ErrUnavailable) {
		t.Fatalf("%v, %v", session, err)
	}
	session.Values["basket"] = 1
	for what, f := range map[string]func() error{
		"saving":       func() error { return session.Save(r, w) },
		"regenerating": func() error { return store.Regenerate(r, w, session) },
		"deleting":     func() error { session.Options.MaxAge = -1; return session.Save(r, w) },
	} {
		if err := f(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, sessionring.ErrNoNode) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if session.ID != "" || len(w.Result().Cookies()) > 0 {
		t.Errorf("id %q, cookies %v", session.ID, w.Result().Cookies())
	}
	again, err := store.Get(r, name)
	if again != session || !errors.Is(err, sessionring.ErrNoNode) {
		t.Errorf("the second Get: %v", err)
	}
}

// One copy, and its server is away: the session is neither taken for gone, nor the visitor given another id.
func TestOwnerAway(t *testing.T) {
	nodes := contract.ForTest(t, 2)
	client := nodes.Open(t, "copies=1")
	store := New(client, key)
	c := nodes.Complete(contractOf(t, store), client)
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = newID()
		if err := c.Set(t.Context(), ids[i], []byte("basket"), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Faults.Kill(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	away := 0
	for _, id := range ids {
		r, w := request(t.Context(), cookie(t, store, id)), httptest.NewRecorder()
		session, err := store.Get(r, name)
		if err == nil && session.ID == id {
			continue // the other server has it
		}
		away++
		if !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v", err)
		}
		session.Values["data"] = []byte("another basket")
		if err := session.Save(r, w); !errors.Is(err, ErrUnavailable) || len(w.Result().Cookies()) > 0 {
			t.Errorf("saved over it: %v, cookies %v", err, w.Result().Cookies())
		}
	}
	if away == 0 || away == len(ids) {
		t.Errorf("%d of %d sessions are away with one of two servers", away, len(ids))
	}
	if err := c.Faults.Return(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Faults.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if data, found, err := c.Get(t.Context(), id); string(data) != "basket" || !found || err != nil {
			t.Errorf("%q, %t, %v", data, found, err)
		}
	}
}

// A request that saves after the logout, and one that logs in after it.
func TestAfterLogout(t *testing.T) {
	client := contract.ForTest(t, 2).Open(t)
	store := New(client, key)
	c := contractOf(t, store)
	if err := c.Set(t.Context(), "ID1", []byte("x"), time.Hour); err != nil {
		t.Fatal(err)
	}
	slow, w := request(t.Context(), cookie(t, store, "ID1")), httptest.NewRecorder()
	late, err := store.Get(slow, name)
	if err != nil {
		t.Fatal(err)
	}
	r := request(t.Context(), cookie(t, store, "ID1"))
	session, _ := store.Get(r, name)
	session.Options.MaxAge = -1
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	if err := late.Save(slow, w); !errors.Is(err, sessionring.ErrDestroyed) || len(w.Result().Cookies()) > 0 {
		t.Errorf("%v, cookies %v", err, w.Result().Cookies())
	}
	if err := store.Regenerate(slow, w, late); !errors.Is(err, sessionring.ErrDestroyed) || len(w.Result().Cookies()) > 0 || late.ID != "ID1" {
		t.Errorf("regenerating: %v, cookies %v, id %q", err, w.Result().Cookies(), late.ID)
	}
	for info, err := range client.Sessions(t.Context()) {
		t.Errorf("a session lives: %+v, %v", info, err)
	}
	session.Options.MaxAge = 60
	session.Values["user"] = "again"
	if err := session.Save(r, httptest.NewRecorder()); err != nil || session.ID == "" || session.ID == "ID1" {
		t.Errorf("logging in with the same request: %v, %q", err, session.ID)
	}
}

// Sessions of another Redis store for gorilla go on: cookie, key and payload are the same.
func TestTakesOverFromRediStore(t *testing.T) {
	nodes := contract.ForTest(t, 1)
	client := nodes.Open(t, "prefix=session_")
	store := New(client, key)
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(map[any]any{"user": "zoë", 7: 3.5}); err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("ABCD234567", 5) + "AA"
	if _, err := nodes.Servers[0].Do("SETEX", "session_"+id, "600", b.Bytes()); err != nil {
		t.Fatal(err)
	}
	r := request(t.Context(), cookie(t, store, id))
	session, err := store.Get(r, name)
	if err != nil || session.Values["user"] != "zoë" || session.Values[7] != 3.5 {
		t.Fatalf("%v, %v", session.Values, err)
	}
	session.Values["user"] = "ann"
	if err := session.Save(r, httptest.NewRecorder()); err != nil || session.ID != id {
		t.Errorf("%v", err)
	}
}

func TestJSON(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	store := New(client, key)
	store.Serializer = JSON{}
	r := request(t.Context())
	session, _ := store.Get(r, name)
	session.Values["user"] = map[string]any{"name": "zoë", "n": 1.5}
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	if data, _ := client.Get(t.Context(), session.ID); string(data) != `{"user":{"n":1.5,"name":"zoë"}}` {
		t.Errorf("%s", data)
	}
	read, err := store.Get(request(t.Context(), cookie(t, store, session.ID)), name)
	if err != nil || read.Values["user"].(map[string]any)["name"] != "zoë" {
		t.Errorf("%v, %v", read.Values, err)
	}
	session.Values[7] = 1
	if err := session.Save(r, httptest.NewRecorder()); err == nil {
		t.Error("a key that JSON does not have is taken")
	}
}

// What the store remembers of a session goes with the session, and requests do not share it.
func TestOriginsAreForgotten(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	store := New(client, key)
	if err := contractOf(t, store).Set(t.Context(), "ID1", []byte("x"), time.Hour); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				r := request(t.Context(), cookie(t, store, "ID1"))
				if session, err := store.Get(r, name); err != nil || session.Save(r, httptest.NewRecorder()) != nil {
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
	for until := time.Now().Add(20 * time.Second); ; {
		runtime.GC()
		store.known.mu.Lock()
		left := len(store.known.m)
		store.known.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d are remembered", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
