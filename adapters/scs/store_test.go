package scsstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

// site is a web application with sessions by scs on the store.
type site struct {
	manager *scs.SessionManager
	store   *Store
	handler http.Handler
}

type failed struct{ err error }

func newSite(store *Store) *site {
	s := &site{manager: scs.New(), store: store}
	s.manager.Store = store
	s.manager.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		if f, ok := r.Context().Value(failed{}).(*failed); ok {
			f.err = err
		}
		http.Error(w, "store", http.StatusInternalServerError)
	}
	s.handler = store.Requests(s.manager.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Context().Value(pageKey{}).(http.HandlerFunc)(w, r)
	})))
	return s
}

type pageKey struct{}

// request asks for a page with a token in the cookie, none where it is empty, and returns the response and the
// token that the client has then.
func (s *site) request(ctx context.Context, token string, page http.HandlerFunc) (*http.Response, string, error) {
	f := &failed{}
	ctx = context.WithValue(context.WithValue(ctx, failed{}, f), pageKey{}, page)
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	if token != "" {
		r.Header.Set("Cookie", s.manager.Cookie.Name+"="+token)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		if c.Name == s.manager.Cookie.Name {
			token = c.Value
		}
	}
	return res, token, f.err
}

// payload is what the manager would store.
func (s *site) payload(t testing.TB, data []byte, ttl time.Duration) []byte {
	b, err := s.manager.Codec.Encode(time.Now().Add(ttl), map[string]any{"data": data})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) contract(t testing.TB) *sessiontest.Store {
	ctx := func(ctx context.Context, token string) (context.Context, error) { return s.manager.Load(ctx, token) }
	return &sessiontest.Store{
		Name: "scs",
		Get: func(c context.Context, id string) ([]byte, bool, error) {
			c, err := ctx(c, id)
			if err != nil || s.manager.Token(c) == "" {
				return nil, false, err
			}
			return s.manager.GetBytes(c, "data"), true, nil
		},
		Set: func(c context.Context, id string, data []byte, ttl time.Duration) error {
			return s.store.CommitCtx(c, id, s.payload(t, data, ttl), time.Now().Add(ttl))
		},
		Delete: func(c context.Context, id string) error {
			c, err := ctx(c, id)
			if err != nil {
				return err
			}
			return s.manager.Destroy(c)
		},
		Shortest: 200 * time.Millisecond,
		Update: func(c context.Context, id string, change func([]byte) []byte) error {
			_, _, err := s.request(c, id, func(_ http.ResponseWriter, r *http.Request) {
				s.manager.Put(r.Context(), "data", change(s.manager.GetBytes(r.Context(), "data")))
			})
			return err
		},
		Visit: func(c context.Context, id string, during func()) error {
			_, _, err := s.request(c, id, func(_ http.ResponseWriter, r *http.Request) {
				s.manager.GetBytes(r.Context(), "data")
				during()
			})
			return err
		},
		Arrive: func(c context.Context, id string, data []byte) (string, error) {
			_, token, err := s.request(c, id, func(_ http.ResponseWriter, r *http.Request) {
				s.manager.Put(r.Context(), "data", data)
			})
			return token, err
		},
		List: func(c context.Context) ([]string, error) {
			all, err := s.store.AllCtx(c)
			return slices.Collect(maps.Keys(all)), err
		},
		Clear: func(c context.Context) error { return s.manager.Iterate(c, s.manager.Destroy) },
		Regenerate: func(c context.Context, id string) (string, error) {
			var renewed error
			_, token, err := s.request(c, id, func(_ http.ResponseWriter, r *http.Request) {
				renewed = s.manager.RenewToken(r.Context())
			})
			return token, errors.Join(renewed, err)
		},
	}
}

func TestContract(t *testing.T) {
	nodes := contract.ForTest(t, 3)
	for _, mode := range []struct {
		name, params string
		opt          Options
		idle         time.Duration
	}{
		{"locking", "locking=1", Options{}, 0},
		{"refusing conflicts, idle timeout", "", Options{RefuseConflicts: true}, time.Hour},
	} {
		t.Run(mode.name, func(t *testing.T) {
			client := nodes.Open(t, "copies=2", mode.params)
			s := newSite(NewWithOptions(client, mode.opt))
			s.manager.IdleTimeout = mode.idle
			sessiontest.Run(t, nodes.Complete(s.contract(t), client))
		})
	}
}

// What every store of scs is tested for, in the words of its interface.
func TestInterface(t *testing.T) {
	client := contract.ForTest(t, 2).Open(t)
	store := New(client)
	if b, found, err := store.Find("missing_session_token"); b != nil || found || err != nil {
		t.Errorf("missing: %q, %t, %v", b, found, err)
	}
	if err := store.Delete("missing_session_token"); err != nil {
		t.Errorf("deleting what is missing: %v", err)
	}
	if all, err := store.All(); err != nil || all == nil || len(all) != 0 {
		t.Errorf("all of none: %v, %v", all, err)
	}
	if err := store.Commit("session_token", []byte("encoded_data"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := store.Commit("session_token", []byte("new_encoded_data"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if b, found, err := store.Find("session_token"); string(b) != "new_encoded_data" || !found || err != nil {
		t.Errorf("%q, %t, %v", b, found, err)
	}
	if err := store.Commit("short", []byte("x"), time.Now().Add(150*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session ends", func() bool {
		_, found, err := store.Find("short")
		return !found && err == nil
	})
	if err := store.Commit("session_2", []byte("two"), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	all, err := store.All()
	if err != nil || len(all) != 2 || string(all["session_token"]) != "new_encoded_data" || string(all["session_2"]) != "two" {
		t.Errorf("all: %q, %v", all, err)
	}
	if err := store.Delete("session_token"); err != nil {
		t.Fatal(err)
	}
	if b, found, err := store.Find("session_token"); b != nil || found || err != nil {
		t.Errorf("deleted: %q, %t, %v", b, found, err)
	}
	if err := store.Commit("session_2", []byte("late"), time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := store.Find("session_2"); found || err != nil {
		t.Errorf("committed with an expiry that is over: %t, %v", found, err)
	}
	for _, token := range []string{"", strings.Repeat("x", 64<<10), "\x00\xff", "a b", "../../etc"} {
		if b, found, err := store.Find(token); b != nil || found || err != nil {
			t.Errorf("token of %d bytes: %q, %t, %v", len(token), b, found, err)
		}
		if err := store.Delete(token); err != nil {
			t.Errorf("deleting a token of %d bytes: %v", len(token), err)
		}
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// What the manager does with a store: other tokens at login, remember me, hashed tokens, iteration.
func TestManager(t *testing.T) {
	nodes := contract.ForTest(t, 2)
	client := nodes.Open(t)
	s := newSite(New(client))
	s.manager.HashTokenInStore = true
	put := func(key string, value any) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) { s.manager.Put(r.Context(), key, value) }
	}
	_, token, err := s.request(t.Context(), "", put("user", "zoë"))
	if err != nil || token == "" {
		t.Fatalf("%q, %v", token, err)
	}
	if _, err := client.Get(t.Context(), token); !errors.Is(err, sessionring.ErrNotFound) {
		t.Errorf("the token itself is in the store: %v", err)
	}
	_, other, err := s.request(t.Context(), token, func(_ http.ResponseWriter, r *http.Request) {
		if got := s.manager.GetString(r.Context(), "user"); got != "zoë" {
			t.Errorf("user %q", got)
		}
		if err := s.manager.RenewToken(r.Context()); err != nil {
			t.Error(err)
		}
	})
	if err != nil || other == token {
		t.Fatalf("%v, renewed: %t", err, other != token)
	}
	seen := 0
	if err := s.manager.Iterate(t.Context(), func(ctx context.Context) error {
		seen++
		return s.manager.Destroy(ctx)
	}); err != nil || seen != 1 {
		t.Errorf("%d sessions, %v", seen, err)
	}
}

// Nothing can be asked: an error, no panic, and the cookie stays as it is.
func TestStoreAway(t *testing.T) {
	addr := redistest.DeadAddr(t)
	client, err := sessionring.Open("tcp://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s := newSite(New(client))
	res, _, err := s.request(t.Context(), "0123456789abcdef0123456789abcdef0123456789a", func(http.ResponseWriter, *http.Request) {
		t.Error("the page ran without its session")
	})
	if res.StatusCode != 500 || !errors.Is(err, sessionring.ErrNoNode) || len(res.Cookies()) > 0 {
		t.Errorf("%d, %v, cookies %v", res.StatusCode, err, res.Cookies())
	}
	res, _, err = s.request(t.Context(), "", func(_ http.ResponseWriter, r *http.Request) {
		s.manager.Put(r.Context(), "basket", 1)
	})
	if res.StatusCode != 500 || !errors.Is(err, sessionring.ErrNoNode) || len(res.Cookies()) > 0 {
		t.Errorf("a visitor: %d, %v, cookies %v", res.StatusCode, err, res.Cookies())
	}
	if all, err := New(client).All(); err == nil {
		t.Errorf("all: %v", all)
	}
}

func TestVisitorsWithoutDataCostNothing(t *testing.T) {
	nodes := contract.ForTest(t, 2)
	client := nodes.Open(t)
	s := newSite(New(client))
	s.manager.IdleTimeout = time.Hour
	for range 20 {
		res, _, err := s.request(t.Context(), "", func(_ http.ResponseWriter, r *http.Request) {
			s.manager.GetString(r.Context(), "user")
		})
		if err != nil || len(res.Cookies()) > 0 {
			t.Fatalf("%v, cookies %v", err, res.Cookies())
		}
	}
	if keys := sessions(t, client); keys > 0 {
		t.Errorf("%d sessions", keys)
	}
}

func sessions(t *testing.T, client *sessionring.Client) (n int) {
	t.Helper()
	for _, err := range client.Sessions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// One request, many goroutines.
func TestOneRequestManyGoroutines(t *testing.T) {
	client := contract.ForTest(t, 2).Open(t, "locking=1")
	s := newSite(New(client))
	_, token, err := s.request(t.Context(), "", func(_ http.ResponseWriter, r *http.Request) { s.manager.Put(r.Context(), "n", 0) })
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.request(t.Context(), token, func(_ http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				s.manager.Get(r.Context(), "n")
				s.manager.Put(r.Context(), "n", i)
				if _, _, err := s.manager.Commit(r.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s.manager.Put(r.Context(), "n", 99)
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, _ = s.request(t.Context(), token, func(_ http.ResponseWriter, r *http.Request) {
		if n := s.manager.GetInt(r.Context(), "n"); n != 99 {
			t.Errorf("n is %d", n)
		}
	})
}

// With an idle timeout the manager writes every session back. A request that changed nothing must not.
func TestUnchangedIsTouched(t *testing.T) {
	nodes := contract.ForTest(t, 1)
	client := nodes.Open(t)
	s := newSite(New(client))
	s.manager.IdleTimeout = time.Hour
	_, token, err := s.request(t.Context(), "", func(_ http.ResponseWriter, r *http.Request) {
		for _, k := range []string{"a", "b", "c", "d", "e", "f"} { // gob writes them in any order
			s.manager.Put(r.Context(), k, strings.Repeat(k, 5))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := client.Load(t.Context(), token, sessionring.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, _, err := s.request(t.Context(), token, func(_ http.ResponseWriter, r *http.Request) { s.manager.Keys(r.Context()) }); err != nil {
			t.Fatal(err)
		}
	}
	after, err := client.Load(t.Context(), token, sessionring.GetOptions{})
	if err != nil || after.Version != before.Version || !bytes.Equal(after.Data, before.Data) {
		t.Errorf("%v, written anew: %t", err, after.Version != before.Version)
	}
	// It ended meanwhile: the page is shown all the same, and the session stays away.
	res, _, err := s.request(t.Context(), token, func(http.ResponseWriter, *http.Request) {
		if err := client.Delete(t.Context(), token); err != nil {
			t.Error(err)
		}
	})
	if res.StatusCode != 200 || err != nil || sessions(t, client) != 0 {
		t.Errorf("%d, %v, %d sessions", res.StatusCode, err, sessions(t, client))
	}
}

// A key of somebody else under the prefix is no session, and is left alone.
func TestForeignKey(t *testing.T) {
	nodes := contract.ForTest(t, 1)
	client := nodes.Open(t)
	if _, err := nodes.Servers[0].Do("LPUSH", contract.Prefix+"list", "1"); err != nil {
		t.Fatal(err)
	}
	if b, found, err := New(client).Find("list"); b != nil || found || err != nil {
		t.Errorf("%q, %t, %v", b, found, err)
	}
	if n, err := nodes.Servers[0].Do("LLEN", contract.Prefix+"list"); n != int64(1) || err != nil {
		t.Errorf("%v, %v", n, err)
	}
}

// Sessions that goredisstore or redisstore wrote go on: key and payload are the same.
func TestTakesOverFromRedisStore(t *testing.T) {
	nodes := contract.ForTest(t, 1)
	s := newSite(New(nodes.Open(t, "prefix=scs:session:")))
	token := "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE"
	if _, err := nodes.Servers[0].Do("SET", "scs:session:"+token, s.payload(t, []byte("basket"), time.Hour), "EX", "600"); err != nil {
		t.Fatal(err)
	}
	_, after, err := s.request(t.Context(), token, func(_ http.ResponseWriter, r *http.Request) {
		if got := s.manager.GetBytes(r.Context(), "data"); string(got) != "basket" {
			t.Errorf("%q", got)
		}
		s.manager.Put(r.Context(), "more", 1)
	})
	if err != nil || after != token {
		t.Errorf("%v, another token: %t", err, after != token)
	}
}
