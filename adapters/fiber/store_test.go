package fiberstore

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
	"testing"
	"time"
	"unsafe"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/session"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

const cookieName = "session_id"

// site is a fiber application whose page a request brings along.
type site struct {
	t       testing.TB
	storage *Storage
	app     *fiber.App
	store   *session.Store
	pages   sync.Map // number in the request's header to *visit
	last    atomic.Int64
}

type visit struct {
	page func(fiber.Ctx, *session.Middleware) error
	err  error // the middleware's
}

func newSite(t testing.TB, storage *Storage) *site {
	s := &site{t: t, storage: storage, app: fiber.New()}
	of := func(c fiber.Ctx) *visit {
		v, ok := s.pages.Load(strings.Clone(c.Get("X-Page")))
		if !ok {
			t.Error("a request without a page")
			return &visit{page: func(fiber.Ctx, *session.Middleware) error { return nil }}
		}
		return v.(*visit)
	}
	handler, store := session.NewWithStore(session.Config{
		Storage: storage, IdleTimeout: time.Hour,
		ErrorHandler: func(c fiber.Ctx, err error) {
			of(c).err = err
			_ = c.Status(http.StatusServiceUnavailable).SendString("sessions are away")
		},
	})
	s.store = store
	s.app.Use(handler)
	s.app.Get("/", func(c fiber.Ctx) error { return of(c).page(c, session.FromContext(c)) })
	return s
}

// request asks for a page with an id in the cookie, none where it is empty. The error is the session middleware's.
func (s *site) request(ctx context.Context, id string, page func(fiber.Ctx, *session.Middleware) error) (*http.Response, error) {
	v := &visit{page: page}
	n := fmt.Sprint(s.last.Add(1))
	s.pages.Store(n, v)
	defer s.pages.Delete(n)
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Set("X-Page", n)
	if id != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: id})
	}
	res, err := s.app.Test(r, fiber.TestConfig{Timeout: 0})
	if err != nil {
		s.t.Error(err)
		return &http.Response{}, err
	}
	res.Body.Close()
	return res, v.err
}

func idOf(res *http.Response) string {
	for _, c := range res.Cookies() {
		if c.Name == cookieName && c.MaxAge >= 0 {
			return c.Value
		}
	}
	return ""
}

// payload is what the middleware would store.
func payload(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(map[any]any{"data": data}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (s *site) contract() *sessiontest.Store {
	data := func(m interface{ Get(any) any }) []byte {
		b, _ := m.Get("data").([]byte)
		return b
	}
	return &sessiontest.Store{
		Name:     "fiber",
		Shortest: 200 * time.Millisecond,
		Get: func(ctx context.Context, id string) ([]byte, bool, error) {
			sess, err := s.store.GetByID(ctx, id)
			if errors.Is(err, session.ErrSessionIDNotFoundInStore) {
				return nil, false, nil
			}
			if err != nil {
				return nil, false, err
			}
			defer sess.Release()
			return data(sess), true, nil
		},
		Set: func(ctx context.Context, id string, b []byte, ttl time.Duration) error {
			return s.storage.SetWithContext(ctx, id, payload(s.t, b), ttl)
		},
		Delete: func(ctx context.Context, id string) error { return s.store.Delete(ctx, id) },
		Update: func(ctx context.Context, id string, change func([]byte) []byte) error {
			_, err := s.request(ctx, id, func(_ fiber.Ctx, m *session.Middleware) error {
				m.Set("data", change(data(m)))
				return nil
			})
			return err
		},
		Visit: func(ctx context.Context, id string, during func()) error {
			_, err := s.request(ctx, id, func(_ fiber.Ctx, m *session.Middleware) error {
				data(m)
				during()
				return nil
			})
			return err
		},
		Arrive: func(ctx context.Context, id string, b []byte) (string, error) {
			res, err := s.request(ctx, id, func(_ fiber.Ctx, m *session.Middleware) error {
				m.Set("data", b)
				return nil
			})
			return idOf(res), err
		},
		Regenerate: func(ctx context.Context, id string) (string, error) {
			var inner error
			res, err := s.request(ctx, id, func(_ fiber.Ctx, m *session.Middleware) error {
				inner = m.Regenerate()
				return nil
			})
			return idOf(res), errors.Join(inner, err)
		},
		Clear: s.store.Reset,
	}
}

func TestContract(t *testing.T) {
	nodes := contract.ForTest(t, 3)
	client := nodes.Open(t, "copies=2")
	sessiontest.Run(t, nodes.Complete(newSite(t, New(client, Options{RefuseConflicts: true})).contract(), client))
}

// What fiber's storages are tested for, in the words of its interface.
func TestInterface(t *testing.T) {
	nodes := contract.ForTest(t, 2)
	client := nodes.Open(t)
	s := New(client)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(key, want string) {
		t.Helper()
		got, err := s.Get(key)
		if err != nil || string(got) != want || (want == "" && got != nil) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	must(s.Set("john", []byte("doe"), 0))
	expect("john", "doe")
	must(s.Set("john", []byte("roe"), time.Minute))
	expect("john", "roe")
	must(s.Set("john", nil, time.Minute))
	must(s.Set("", []byte("x"), time.Minute))
	expect("john", "roe")
	expect("nobody", "")
	expect("", "")
	must(s.Set("brief", []byte("x"), 100*time.Millisecond))
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := s.Get("brief")
		must(err)
		if got == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("it does not end")
		}
	}
	must(s.Delete("john"))
	expect("john", "")
	must(s.Delete("john"))
	must(s.Delete("nobody"))
	must(s.Delete(""))
	if err := s.Set("john", []byte("back"), time.Minute); !errors.Is(err, sessionring.ErrDestroyed) {
		t.Errorf("storing under a deleted id: %v", err)
	}
	for _, key := range []string{strings.Repeat("x", 64<<10), "\x00\xff", "a b"} {
		expect(key, "")
		must(s.Delete(key))
		if err := s.Set(key, []byte("x"), time.Minute); !errors.Is(err, sessionring.ErrID) {
			t.Errorf("storing under %d odd bytes: %v", len(key), err)
		}
	}
	must(s.Set("a", []byte("1"), time.Minute))
	must(s.Set("b", []byte("2"), time.Minute))
	must(s.Reset())
	expect("a", "")
	expect("b", "")
	must(s.Close())
	must(s.Set("c", []byte("still there"), time.Minute))
}

// PHP stores empty sessions, which gob cannot decode: a new session, not a 500.
func TestEmptyValueIsAbsent(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	if err := client.Set(t.Context(), "phpsession1", nil); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, New(client))
	res, err := s.request(t.Context(), "phpsession1", func(_ fiber.Ctx, m *session.Middleware) error {
		m.Set("n", 1)
		return nil
	})
	if err != nil || res.StatusCode != 200 || idOf(res) == "" || idOf(res) == "phpsession1" {
		t.Errorf("%v, %d, %q", err, res.StatusCode, idOf(res))
	}
}

// Reset must not reach beyond its prefix by commands either.
func TestResetSendsNoFlush(t *testing.T) {
	nodes := contract.ForTest(t, 1)
	client := nodes.Open(t)
	s := New(client)
	for i := range 30 {
		if err := s.Set(fmt.Sprint("session", i), []byte("x"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	monitor, err := nodes.Servers[0].Monitor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	scanned := false
	commands, err := monitor.Commands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		switch name := c.Name(); name {
		case "FLUSHDB", "FLUSHALL", "KEYS":
			t.Errorf("%s is sent", name)
		case "SCAN":
			scanned = true
		}
	}
	if !scanned {
		t.Error("no SCAN is seen")
	}
}

// Nothing can be asked: the middleware's error handler, no session under the client's id, no cookie changed.
func TestStoreAway(t *testing.T) {
	client, err := sessionring.Open("tcp://" + redistest.DeadAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s := newSite(t, New(client))
	res, err := s.request(t.Context(), "somebody", func(fiber.Ctx, *session.Middleware) error {
		t.Error("the page runs without its session")
		return nil
	})
	if res.StatusCode != 503 || !errors.Is(err, sessionring.ErrNoNode) || len(res.Cookies()) > 0 {
		t.Errorf("%d, %v, cookies %v", res.StatusCode, err, res.Cookies())
	}
	if err := s.storage.Reset(); err == nil {
		t.Error("a reset that reached nobody succeeds")
	}
}

func TestVisitorsWithoutDataCostNothing(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	s := newSite(t, New(client))
	for range 20 {
		if _, err := s.request(t.Context(), "", func(_ fiber.Ctx, m *session.Middleware) error {
			m.Get("user")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range client.Sessions(t.Context()) {
		t.Errorf("%+v, %v", info, err)
	}
}

// The middleware stores at every request; what did not change is not written, and what ended stays so.
func TestUnchangedIsTouched(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	s := newSite(t, New(client))
	res, err := s.request(t.Context(), "", func(_ fiber.Ctx, m *session.Middleware) error {
		for _, k := range []string{"a", "b", "c", "d", "e", "f"} { // gob writes them in any order
			m.Set(k, k)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	id := idOf(res)
	before, err := client.Load(t.Context(), id, sessionring.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	look := func(during func()) {
		t.Helper()
		res, err := s.request(t.Context(), id, func(_ fiber.Ctx, m *session.Middleware) error {
			m.Get("a")
			during()
			return nil
		})
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%d, %v", res.StatusCode, err)
		}
	}
	for range 5 {
		look(func() {})
	}
	after, err := client.Load(t.Context(), id, sessionring.GetOptions{})
	if err != nil || after.Version != before.Version {
		t.Errorf("%v, written anew: %t", err, after.Version != before.Version)
	}
	look(func() {
		if err := client.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
	})
	if _, err := client.Get(t.Context(), id); !errors.Is(err, sessionring.ErrNotFound) {
		t.Errorf("after the logout: %v", err)
	}
}

// One request, many goroutines.
func TestOneRequestManyGoroutines(t *testing.T) {
	client := contract.ForTest(t, 1).Open(t)
	s := newSite(t, New(client))
	res, err := s.request(t.Context(), "", func(_ fiber.Ctx, m *session.Middleware) error {
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				m.Get("n")
				m.Set("n", i)
			})
		}
		wg.Wait()
		m.Set("n", 99)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.request(t.Context(), idOf(res), func(_ fiber.Ctx, m *session.Middleware) error {
		if n := m.Get("n"); n != 99 {
			t.Errorf("n is %v", n)
		}
		return nil
	})
}

// fiber's keys lie in a buffer that the next request fills. What the storage does later (hints for a server that is
// away, repairs) must not go by them: one visitor's data would land in another's session.
func TestKeysInReusedBuffers(t *testing.T) {
	nodes := contract.ForTest(t, 3)
	client := nodes.Open(t, "copies=2")
	faults := nodes.Faults(client)
	s := New(client)
	if err := faults.Kill(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	const n = 60
	buf := make([]byte, 16)
	key := unsafe.String(&buf[0], len(buf))
	for i := range n {
		copy(buf, fmt.Sprintf("visitor%09d", i))
		if err := s.Set(key, []byte(fmt.Sprint("data of ", i)), time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(key); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := s.Delete(key); err != nil {
				t.Fatal(err)
			}
		}
		copy(buf, "somebody-else-xx")
	}
	if err := faults.Return(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := contract.Healthy(ctx, client); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		got, err := s.Get(fmt.Sprintf("visitor%09d", i))
		want := fmt.Sprint("data of ", i)
		if i%3 == 0 {
			want = ""
		}
		if err != nil || string(got) != want {
			t.Errorf("visitor %d: %q, %v", i, got, err)
		}
	}
	for info, err := range client.Sessions(t.Context()) {
		if err != nil || !strings.HasPrefix(info.ID, "visitor") {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

// A fiber.Ctx is a context by its methods and belongs to another request afterwards: it goes nowhere.
func TestContextIsNotKept(t *testing.T) {
	app := fiber.New()
	var got context.Context
	type valueKey struct{}
	app.Get("/", func(c fiber.Ctx) error {
		c.SetContext(context.WithValue(c.Context(), valueKey{}, "mine"))
		got = own(c)
		return nil
	})
	res, err := app.Test(httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if _, ok := got.(fiber.Ctx); ok || got.Value(valueKey{}) != "mine" {
		t.Errorf("%T", got)
	}
	if own(nil) == nil { //nolint:staticcheck // fiber hands one in where it has none
		t.Error("nil stays nil")
	}
}
