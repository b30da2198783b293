package websession

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// site is a web application over real nodes.
type site struct {
	t       *testing.T
	nodes   []*redistest.Server
	client  *sessionring.Client
	manager *Manager
	events  *eventLog
	server  *httptest.Server
	log     *syncBuffer // of net/http
}

// eventLog keeps what Hooks told.
type eventLog struct {
	mu  sync.Mutex
	ops []Operation
}

func (l *eventLog) add(op Operation) { l.mu.Lock(); defer l.mu.Unlock(); l.ops = append(l.ops, op) }

// count counts operations, of any outcome where it is "".
func (l *eventLog) count(name string, o Outcome) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, op := range l.ops {
		if op.Name == name && (o == "" || op.Outcome == o) {
			n++
		}
	}
	return n
}

func (l *eventLog) last(name string) Operation {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.ops) - 1; i >= 0; i-- {
		if l.ops[i].Name == name {
			return l.ops[i]
		}
	}
	return Operation{}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// open opens a Client over the nodes.
func open(t *testing.T, nodes []*redistest.Server, params string, opts ...sessionring.Option) *sessionring.Client {
	t.Helper()
	var entries []string
	for _, n := range nodes {
		e := n.SavePath()
		if params != "" {
			sep := "?"
			if strings.Contains(e, "?") {
				sep = "&"
			}
			e += sep + params
		}
		entries = append(entries, e)
	}
	c, err := sessionring.Open(strings.Join(entries, ","), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// settled waits until the client trusts all nodes: then nothing goes on behind a test's back.
func settled(t *testing.T, c *sessionring.Client) {
	t.Helper()
	eventually(t, "all nodes up", func() bool {
		for _, n := range c.Nodes() {
			if n.State != sessionring.StateUp {
				return false
			}
		}
		return true
	})
}

// newSite starts nodes and a server; handler gets the manager to wrap what it likes.
func newSite(t *testing.T, nodes int, params string, opt Options, handler func(m *Manager) http.Handler) *site {
	t.Helper()
	return siteOn(t, redistest.Nodes(t, nodes), params, opt, handler)
}

func siteOn(t *testing.T, nodes []*redistest.Server, params string, opt Options, handler func(m *Manager) http.Handler) *site {
	t.Helper()
	st := &site{t: t, nodes: nodes, events: &eventLog{}, log: &syncBuffer{}}
	st.client = open(t, nodes, params)
	opt.Hooks.Operation = st.events.add
	settled(t, st.client)
	m, err := New(st.client, opt)
	if err != nil {
		t.Fatal(err)
	}
	st.manager = m
	st.server = httptest.NewUnstartedServer(handler(m))
	st.server.Config.ErrorLog = newLogger(st.log)
	st.server.Start()
	t.Cleanup(st.server.Close)
	return st
}

// wrapped is the usual handler of newSite.
func wrapped(routes map[string]http.HandlerFunc) func(*Manager) http.Handler {
	return func(m *Manager) http.Handler {
		mux := http.NewServeMux()
		for path, h := range routes {
			mux.HandleFunc(path, h)
		}
		return m.Wrap(mux)
	}
}

// browser is a client with a cookie jar.
type browser struct {
	t    *testing.T
	base string
	http *http.Client
}

func (st *site) browser() *browser { return newBrowser(st.t, st.server) }

func newBrowser(t *testing.T, srv *httptest.Server) *browser {
	jar, _ := cookiejar.New(nil)
	c := *srv.Client()
	c.Jar = jar
	c.Timeout = 30 * time.Second
	return &browser{t, srv.URL, &c}
}

// try makes a request and returns the response with its body read.
func (b *browser) try(path string) (*http.Response, string, error) {
	resp, err := b.http.Get(b.base + path)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// get makes a request that must succeed with 200 and returns the body.
func (b *browser) get(path string) string {
	b.t.Helper()
	resp, body, err := b.try(path)
	if err != nil {
		b.t.Fatalf("GET %s: %v", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("GET %s: status %d: %s", path, resp.StatusCode, body)
	}
	return body
}

// id returns the value of the browser's session cookie.
func (b *browser) id() string { return b.cookie("session") }

func (b *browser) cookie(name string) string {
	u, _ := url.Parse(b.base)
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// setCookie plants a cookie.
func (b *browser) setCookie(name, value string) {
	u, _ := url.Parse(b.base)
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// twin is another tab: the same cookies now, apart from then on.
func (b *browser) twin() *browser {
	jar, _ := cookiejar.New(nil)
	u, _ := url.Parse(b.base)
	jar.SetCookies(u, b.http.Jar.Cookies(u))
	c := *b.http
	c.Jar = jar
	return &browser{b.t, b.base, &c}
}

// counter is a handler that counts visits.
func counter(w http.ResponseWriter, r *http.Request) {
	s := Get(r)
	n, err := Value[int](s, "visits")
	if err == nil {
		err = Put(s, "visits", n+1)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, n+1)
}

// show answers with a value of the session.
func show(w http.ResponseWriter, r *http.Request) {
	v, found, err := Lookup[string](Get(r), r.FormValue("key"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if !found {
		v = "-"
	}
	fmt.Fprint(w, v)
}

// put sets a value.
func put(w http.ResponseWriter, r *http.Request) {
	if err := Put(Get(r), r.FormValue("key"), r.FormValue("value")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, "ok")
}

// keys counts what the nodes hold, sessions alone or all keys.
func (st *site) keys() (sessions, all int) {
	st.t.Helper()
	for _, n := range st.nodes {
		v, err := n.Do("KEYS", "*")
		if err != nil {
			st.t.Fatal(err)
		}
		for _, k := range v.([]any) {
			all++
			if strings.HasPrefix(fmt.Sprint(k), sessionring.DefaultPrefix) {
				sessions++
			}
		}
	}
	return sessions, all
}

// present reports on how many nodes a session is there.
func (st *site) present(id string) (n int) {
	st.t.Helper()
	copies, err := st.client.Explain(context.Background(), id)
	if err != nil {
		st.t.Fatal(err)
	}
	for _, c := range copies {
		if c.Present && !c.Dead {
			n++
		}
	}
	return n
}

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("did not happen: %s", what)
}

var getOptions sessionring.GetOptions
