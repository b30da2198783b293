package websession

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever sends the first byte, the session is saved and its cookie set before.
func TestSavedBeforeTheFirstByte(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	set := func(r *http.Request) { _ = Put(Get(r), "a", "1") }
	routes := map[string]http.HandlerFunc{
		"/nothing": func(w http.ResponseWriter, r *http.Request) { set(r) },
		"/write":   func(w http.ResponseWriter, r *http.Request) { set(r); fmt.Fprint(w, "x") },
		"/header":  func(w http.ResponseWriter, r *http.Request) { set(r); w.WriteHeader(201) },
		"/string":  func(w http.ResponseWriter, r *http.Request) { set(r); io.WriteString(w, "x") },
		"/flush":   func(w http.ResponseWriter, r *http.Request) { set(r); w.(http.Flusher).Flush() },
		"/controller": func(w http.ResponseWriter, r *http.Request) {
			set(r)
			rc := http.NewResponseController(w)
			if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error("SetWriteDeadline:", err)
			}
			if err := rc.Flush(); err != nil {
				t.Error("Flush:", err)
			}
		},
		"/file":     func(w http.ResponseWriter, r *http.Request) { set(r); http.ServeFile(w, r, file) },
		"/redirect": func(w http.ResponseWriter, r *http.Request) { set(r); http.Redirect(w, r, "/x", http.StatusFound) },
		"/early": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			set(r) // still in time
			fmt.Fprint(w, "x")
		},
		"/readfrom": func(w http.ResponseWriter, r *http.Request) {
			set(r)
			if _, ok := w.(io.ReaderFrom); !ok && r.ProtoMajor == 1 {
				t.Error("the ResponseWriter lost ReadFrom")
			}
			io.Copy(w, strings.NewReader(strings.Repeat("y", 50_000)))
		},
	}
	for _, h2 := range []bool{false, true} {
		st := newSite(t, 2, "", Options{}, wrapped(routes))
		srv := st.server
		if h2 {
			srv = httptest.NewUnstartedServer(st.server.Config.Handler)
			srv.EnableHTTP2 = true
			srv.StartTLS()
			t.Cleanup(srv.Close)
		}
		for path := range routes {
			t.Run(fmt.Sprintf("h2=%v%s", h2, path), func(t *testing.T) {
				b := newBrowser(t, srv)
				b.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				informed := 0
				req, _ := http.NewRequest("GET", b.base+path, nil)
				req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(code int, h textproto.MIMEHeader) error { informed++; return nil },
				}))
				resp, err := b.http.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if h2 && resp.ProtoMajor != 2 {
					t.Fatal("not HTTP/2")
				}
				if path == "/early" && informed != 1 {
					t.Errorf("%d informational responses, want 1", informed)
				}
				id := b.id()
				if id == "" {
					t.Fatalf("no cookie in %v", resp.Header)
				}
				if h2 != strings.Contains(resp.Header.Get("Set-Cookie"), "Secure") {
					t.Errorf("Secure on TLS only: %s", resp.Header.Get("Set-Cookie"))
				}
				if got := resp.Header.Get("Vary"); got != "Cookie" {
					t.Errorf("Vary: %q", got)
				}
				if got := resp.Header.Get("Cache-Control"); got != `no-cache="Set-Cookie"` {
					t.Errorf("Cache-Control: %q", got)
				}
				if data, err := st.client.Get(context.Background(), id); err != nil || string(data) != `{"a":"1"}` {
					t.Errorf("stored: %s, %v", data, err)
				}
			})
		}
		if log := st.log.String(); log != "" {
			t.Errorf("server's error log: %s", log)
		}
	}
}

// The session is in the store when the first byte arrives, while the handler still runs.
func TestStreaming(t *testing.T) {
	goOn := make(chan bool)
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		_ = Put(s, "a", "early")
		fmt.Fprintln(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_ = Put(s, "a", "late") // after the first byte: saved at the end, as the client knows the id
		fmt.Fprintln(w, "last")
	}, "/new": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "first")
		_ = http.NewResponseController(w).Flush()
		_ = Put(Get(r), "a", "too late")
		if err := Get(r).Regenerate(r.Context()); err != ErrCommitted {
			t.Errorf("Regenerate after the first byte: %v", err)
		}
	}}))
	b := st.browser()
	resp, err := b.http.Get(b.base + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, _ := body.ReadString('\n'); line != "first\n" {
		t.Fatalf("got %q", line)
	}
	stored := func() string { data, _ := st.client.Get(context.Background(), b.id()); return string(data) }
	if got := stored(); got != `{"a":"early"}` {
		t.Fatalf("while the handler runs: %s", got)
	}
	close(goOn)
	io.Copy(io.Discard, body)
	eventually(t, "late change saved", func() bool { return stored() == `{"a":"late"}` })
	if op := st.events.last("save"); !op.Late {
		t.Error("the late save is not marked late")
	}

	c := st.browser()
	c.get("/new")
	eventually(t, "the lost change is told", func() bool { return st.events.count("save", OutcomeRefused) == 1 })
	if sessions, _ := st.keys(); c.id() != "" || sessions != 1 {
		t.Errorf("a session that no client can know: cookie %q, %d sessions", c.id(), sessions)
	}
}

// Case websocket-hijack.
func TestWebsocketHijack(t *testing.T) {
	const handshake = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n"
	echo := func(s *Session, conn net.Conn, rw *bufio.ReadWriter) {
		defer conn.Close()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_ = Put(s, "said", strings.TrimSpace(line))
			fmt.Fprintln(rw, s.Save(context.Background()) == nil)
			_ = rw.Flush()
		}
	}
	byHand := func(write func(w http.ResponseWriter, conn net.Conn, rw *bufio.ReadWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			_ = Put(s, "user", "ann")
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			write(w, conn, rw)
			w.WriteHeader(500) // nothing, and nothing in the log
			if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
				t.Errorf("write after Hijack: %v", err)
			}
			echo(s, conn, rw)
		}
	}
	st := newSite(t, 2, "", Options{}, wrapped(map[string]http.HandlerFunc{
		// As most do: a head written to the buffer, whole.
		"/buffer": byHand(func(_ http.ResponseWriter, _ net.Conn, rw *bufio.ReadWriter) {
			rw.WriteString(handshake + "\r\n")
			rw.Flush()
		}),
		// To the connection, in pieces.
		"/pieces": byHand(func(_ http.ResponseWriter, conn net.Conn, _ *bufio.ReadWriter) {
			for _, c := range handshake + "\r\n" {
				conn.Write([]byte(string(c)))
			}
		}),
		// As gorilla/websocket does when it is given w.Header().
		"/own": byHand(func(w http.ResponseWriter, conn net.Conn, _ *bufio.ReadWriter) {
			head := handshake
			for _, c := range w.Header()["Set-Cookie"] {
				head += "Set-Cookie: " + c + "\r\n"
			}
			io.WriteString(conn, head+"\r\n")
		}),
		// As coder/websocket does.
		"/status": func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			_ = Put(s, "user", "ann")
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			echo(s, conn, rw)
		},
	}))
	for _, path := range []string{"/buffer", "/pieces", "/own", "/status"} {
		t.Run(path, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(st.server.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", path)
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			cookies := resp.Cookies()
			if resp.StatusCode != 101 || len(cookies) != 1 || cookies[0].Name != "session" {
				t.Fatalf("status %d, cookies %v", resp.StatusCode, resp.Header["Set-Cookie"])
			}
			id := cookies[0].Value
			ctx := context.Background()
			if data, err := st.client.Get(ctx, id); err != nil || string(data) != `{"user":"ann"}` {
				t.Fatalf("stored at the upgrade: %s, %v", data, err)
			}
			fmt.Fprintln(conn, "hello")
			if line, _ := in.ReadString('\n'); line != "true\n" {
				t.Fatalf("explicit save: %q", line)
			}
			if data, err := st.client.Get(ctx, id); err != nil || string(data) != `{"user":"ann","said":"hello"}` {
				t.Fatalf("stored by Save: %s, %v", data, err)
			}
		})
	}
	if log := st.log.String(); log != "" {
		t.Errorf("server's error log: %s", log)
	}
}

// Without a new cookie the connection is handed on as it is.
func TestHijackKeepsTheConnection(t *testing.T) {
	var plain bool
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/put": put, "/": func(w http.ResponseWriter, r *http.Request) {
		_, _ = Value[string](Get(r), "a")
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, plain = conn.(*net.TCPConn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		conn.Close()
	}}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	b.get("/")
	if !plain {
		t.Error("the connection was wrapped for nothing")
	}
}

// A panic before the first byte drops what the handler changed; the panic goes on as it was.
func TestPanic(t *testing.T) {
	st := newSite(t, 1, "", Options{Lock: LockRequests}, wrapped(map[string]http.HandlerFunc{
		"/": counter,
		"/before": func(w http.ResponseWriter, r *http.Request) {
			_ = Put(Get(r), "visits", 100)
			panic("on purpose, before")
		},
		"/after": func(w http.ResponseWriter, r *http.Request) {
			_ = Put(Get(r), "visits", 200)
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	}))
	b := st.browser()
	b.get("/")
	if _, _, err := b.try("/before"); err == nil {
		t.Error("the panic was swallowed")
	}
	if got := b.get("/"); got != "2" { // and the lock is free
		t.Errorf("after a panic before the first byte: %s", got)
	}
	if _, _, err := b.try("/after"); err == nil {
		t.Error("the panic was swallowed")
	}
	if got := b.get("/"); got != "201" {
		t.Errorf("after a panic behind the first byte: %s", got)
	}
	if log := st.log.String(); !strings.Contains(log, "on purpose, before") || !strings.Contains(log, "response_test.go") {
		t.Errorf("the panic's own message and stack are not in the log: %s", log)
	}
	// A recovering handler inside is an ordinary response.
	h := st.manager.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				http.Error(w, "sorry", 500)
			}
		}()
		_ = Put(Get(r), "a", "1")
		panic("caught")
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || w.Header().Get("Set-Cookie") == "" {
		t.Errorf("recovered inside: %d %v", w.Code, w.Header())
	}
}

// onlyUnwrap is a ResponseWriter of another middleware that hides everything but Unwrap.
type onlyUnwrap struct{ inner http.ResponseWriter }

func (o *onlyUnwrap) Header() http.Header         { return o.inner.Header() }
func (o *onlyUnwrap) Write(b []byte) (int, error) { return o.inner.Write(b) }
func (o *onlyUnwrap) WriteHeader(code int)        { o.inner.WriteHeader(code) }
func (o *onlyUnwrap) Unwrap() http.ResponseWriter { return o.inner }

func TestBehindAnotherMiddleware(t *testing.T) {
	st := newSite(t, 1, "", Options{}, func(m *Manager) http.Handler {
		inner := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = Put(Get(r), "a", "1")
			if r.URL.Path == "/hijack" {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(&onlyUnwrap{w}, r) })
	})
	for _, path := range []string{"/flush", "/hijack"} {
		b := st.browser()
		b.get(path)
		if b.id() == "" {
			t.Errorf("%s: the controller went past the middleware: no cookie", path)
		}
	}
}

// What the ResponseWriter cannot do, the handler's cannot either.
func TestAbilitiesAreKept(t *testing.T) {
	type abilities struct{ flush, hijack bool }
	of := func(w http.ResponseWriter) abilities { return abilities{flushes(w), hijacks(w)} }
	recorder := httptest.NewRecorder()
	type hijackable struct {
		http.ResponseWriter
		http.Hijacker
	}
	type plain struct{ http.ResponseWriter }
	for name, tc := range map[string]struct {
		w    http.ResponseWriter
		want abilities
	}{
		"flush":         {recorder, abilities{true, false}},
		"flush inside":  {&onlyUnwrap{recorder}, abilities{true, false}},
		"hijack":        {hijackable{plain{recorder}, nil}, abilities{false, true}},
		"hijack inside": {&onlyUnwrap{hijackable{plain{recorder}, nil}}, abilities{false, true}},
		"neither":       {plain{recorder}, abilities{}},
		"hidden":        {&onlyUnwrap{plain{recorder}}, abilities{}},
	} {
		x := &exchange{s: &Session{}, w: tc.w, r: httptest.NewRequest("GET", "/", nil)}
		if got := of(x.wrap()); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// One Manager around another of its own: one session. Two Managers: two.
func TestNested(t *testing.T) {
	st := newSite(t, 1, "", Options{}, func(m *Manager) http.Handler {
		other, err := New(m.client, Options{Cookie: Cookie{Name: "admin"}})
		if err != nil {
			t.Fatal(err)
		}
		return m.Wrap(m.Wrap(other.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if m.Get(r) == other.Get(r) || Get(r) != other.Get(r) {
				t.Error("sessions of two managers are mixed up")
			}
			_ = Put(m.Get(r), "who", "user")
			_ = Put(other.Get(r), "who", "admin")
		}))))
	})
	b := st.browser()
	b.get("/")
	if b.cookie("session") == "" || b.cookie("admin") == "" || b.cookie("session") == b.cookie("admin") {
		t.Errorf("cookies %q and %q", b.cookie("session"), b.cookie("admin"))
	}
	data, _ := st.client.Get(context.Background(), b.cookie("admin"))
	if string(data) != `{"who":"admin"}` {
		t.Errorf("admin's session holds %s", data)
	}
}

func TestWithoutMiddleware(t *testing.T) {
	s := Get(httptest.NewRequest("GET", "/", nil))
	ctx := context.Background()
	_, errValue := Value[int](s, "a")
	_, _, errPop := Pop[int](s, "a")
	_, errKeys := s.Keys()
	_, errBytes := s.Bytes()
	_, errFlash := s.Flashes()
	_, errOthers := s.DestroyOthers(ctx)
	for i, err := range []error{errValue, errPop, errKeys, errBytes, errFlash, errOthers, Put(s, "a", 1), s.Delete("a"), s.Clear(),
		s.Regenerate(ctx), s.Destroy(ctx), s.Save(ctx), s.SetUser("x"), s.AddFlash("a", "b"), s.SetBytes(nil)} {
		if err != ErrNoSession {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if s.ID() != "" || s.Handle() != "" || !s.New() {
		t.Error("a session from nowhere has an id")
	}
}

func TestSkipAndReadOnlyOptions(t *testing.T) {
	st := newSite(t, 1, "", Options{
		Lock:     LockRequests,
		Skip:     func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/static/") },
		ReadOnly: func(r *http.Request) bool { return r.Method == "HEAD" || r.URL.Path == "/look" },
	}, wrapped(map[string]http.HandlerFunc{"/put": put, "/look": show, "/static/": func(w http.ResponseWriter, r *http.Request) {
		_, err := Value[int](Get(r), "a")
		fmt.Fprint(w, err)
	}}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	n := st.events.count("lock", "")
	if got := b.get("/static/x"); got != ErrNoSession.Error() {
		t.Errorf("skipped: %s", got)
	}
	if got := b.get("/look?key=a"); got != "1" {
		t.Errorf("read only: %s", got)
	}
	if got := st.events.count("lock", ""); got != n {
		t.Errorf("%d locks for requests that need none", got-n)
	}
	b.get("/put?key=a&value=2")
	if got := st.events.count("lock", ""); got != n+1 {
		t.Errorf("%d locks for one change", got-n)
	}
}
