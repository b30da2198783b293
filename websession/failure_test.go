package websession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

// careless ignores every error.
func careless(w http.ResponseWriter, r *http.Request) {
	n, _ := Value[int](Get(r), "visits")
	_ = Put(Get(r), "visits", n+1)
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", "7")
	w.Header().Set("Set-Cookie", "mine=1")
	w.WriteHeader(201)
	_, err := fmt.Fprintf(w, "Visit %d", n+1)
	w.Header().Set("X-Write", fmt.Sprint(err))
}

func TestAllNodesDown(t *testing.T) {
	nodes := redistest.Nodes(t, 2)
	routes := map[string]http.HandlerFunc{"/put": put, "/show": show, "/out": destroy, "/careless": careless,
		"/static": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "x") }}
	logged := &syncBuffer{}
	fail := siteOn(t, nodes, "", Options{Logger: slog.New(slog.NewTextHandler(logged, nil))}, wrapped(routes))
	empty := siteOn(t, nodes, "", Options{Unavailable: ReadOnlyEmpty}, wrapped(routes))
	locked := siteOn(t, nodes, "", Options{Lock: LockRequests}, wrapped(routes))
	b := fail.browser()
	b.get("/put?key=user&value=ann")
	id := b.id()
	at := func(st *site) *browser { c := st.browser(); c.setCookie("session", id); return c }
	for _, n := range nodes {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for _, st := range []*site{fail, locked} {
		for _, path := range []string{"/show?key=user", "/put?key=a&value=1", "/out", "/careless"} {
			resp, body, err := at(st).try(path)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Set-Cookie") != "" ||
				!strings.Contains(body, "try again") || strings.Contains(body, "127.0.0.1") {
				t.Errorf("%s: %d %v %q", path, resp.StatusCode, resp.Header, body)
			}
		}
	}
	// A page without a session goes on; a visitor sees pages, but cannot begin a session.
	if got := at(fail).get("/static"); got != "x" {
		t.Errorf("static page: %s", got)
	}
	if got := fail.browser().get("/show?key=user"); got != "-" {
		t.Errorf("a visitor: %s", got)
	}
	for _, st := range []*site{fail, empty} {
		if resp, _, err := st.browser().try("/put?key=a&value=1"); err != nil || resp.StatusCode != 503 || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("a visitor's first value: %d %v %v", resp.StatusCode, resp.Header, err)
		}
	}
	// The other policy: an empty session, read-only, the cookie untouched.
	resp, body, err := at(empty).try("/show?key=user")
	if err != nil || resp.StatusCode != 200 || body != "-" || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("read-only empty: %d %q %v %v", resp.StatusCode, body, resp.Header, err)
	}
	for _, path := range []string{"/put?key=a&value=1", "/out"} {
		resp, body, err = at(empty).try(path)
		if err != nil || resp.StatusCode != 500 || !strings.Contains(body, ErrReadOnly.Error()) || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("read-only empty, %s: %d %q %v %v", path, resp.StatusCode, body, resp.Header, err)
		}
	}
	s := &Session{m: empty.manager, ctx: context.Background(), ids: []string{id}}
	if err := Put(s, "a", 1); !errors.Is(err, ErrReadOnly) || !errors.Is(err, sessionring.ErrNoNode) {
		t.Errorf("the cause is not there: %v", err)
	}
	// Nobody was logged out.
	for _, n := range nodes {
		if err := n.Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	// (These nodes kept nothing on disk, so the session is put back as a persistent one would be.)
	c := open(t, nodes, "")
	settled(t, c)
	if err := c.Set(context.Background(), id, []byte(`{"user":"ann"}`)); err != nil {
		t.Fatal(err)
	}
	for _, st := range []*site{fail, empty, locked} {
		settled(t, st.client)
		if got := at(st).get("/show?key=user"); got != "ann" {
			t.Errorf("after the nodes came back: %s", got)
		}
	}
	if log := logged.String(); !strings.Contains(log, "op=load") || strings.Contains(log, id) {
		t.Errorf("the log tells nothing, or a whole id: %s", log)
	}
}

// With one copy and its owner away nobody can say whether there is a session: the id is neither adopted nor
// thrown away.
func TestOwnerAway(t *testing.T) {
	nodes := redistest.Nodes(t, 2)
	routes := map[string]http.HandlerFunc{"/put": put, "/show": show}
	st := siteOn(t, nodes, "copies=1", Options{}, wrapped(routes))
	empty := siteOn(t, nodes, "copies=1", Options{Unavailable: ReadOnlyEmpty}, wrapped(routes))
	b := st.browser()
	b.get("/put?key=user&value=ann")
	id := b.id()
	owner := nodes[st.client.Ring().Owner(id)]
	if err := owner.Pause(); err != nil {
		t.Fatal(err)
	}
	defer owner.Resume()
	for _, path := range []string{"/show?key=user", "/put?key=a&value=1"} {
		resp, _, err := b.try(path)
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v %v", path, resp, err)
		}
	}
	c := empty.browser()
	c.setCookie("session", id)
	if got := c.get("/show?key=user"); got != "-" || c.id() != id {
		t.Errorf("read-only empty: %s", got)
	}
	if err := owner.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session is back", func() bool { _, body, err := b.try("/show?key=user"); return err == nil && body == "ann" })
	if n := st.present(id); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// The store fails when the session is to be saved: before the first byte the response is the error; after it
// the failure is told, and the session is what it was.
func TestStoreFailsAtSave(t *testing.T) {
	for _, afterFirstByte := range []bool{false, true} {
		g := newGate()
		nodes := redistest.Nodes(t, 1, redistest.Options{AppendOnly: true})
		st := siteOn(t, nodes, "", Options{}, wrapped(map[string]http.HandlerFunc{"/put": put, "/show": show,
			"/slow": func(w http.ResponseWriter, r *http.Request) {
				s := Get(r)
				_ = Put(s, "early", "1")
				if afterFirstByte {
					fmt.Fprint(w, "begun, ")
					_ = http.NewResponseController(w).Flush()
				}
				g.pass()
				_ = Put(s, "late", "1")
				_ = s.Regenerate(r.Context())
				w.Header().Set("X-Mine", "1")
				if _, err := fmt.Fprint(w, "done"); !afterFirstByte && !errors.Is(err, sessionring.ErrNoNode) {
					t.Errorf("the handler's write ended with %v", err)
				}
			}}))
		b := st.browser()
		b.get("/put?key=a&value=1")
		id := b.id()
		var resp *http.Response
		body := g.around(func() {
			if err := nodes[0].Kill(); err != nil {
				t.Fatal(err)
			}
		}, func() string {
			r, body, err := b.try("/slow")
			if err != nil {
				t.Error(err)
			}
			resp = r
			return body
		})
		eventually(t, "the failure is told", func() bool {
			return st.events.count("save", OutcomeError)+st.events.count("regenerate", OutcomeError) == 1
		})
		if resp.Header.Get("Set-Cookie") != "" || b.id() != id {
			t.Error("the cookie changed")
		}
		late := "-"
		switch {
		case !afterFirstByte && (resp.StatusCode != 503 || resp.Header.Get("X-Mine") != "" || strings.Contains(body, "done")):
			t.Errorf("status %d, %v, %q", resp.StatusCode, resp.Header, body)
		case afterFirstByte && (resp.StatusCode != 200 || body != "begun, done"):
			t.Errorf("status %d, %q", resp.StatusCode, body)
		}
		if err := nodes[0].Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
		settled(t, st.client)
		early := map[bool]string{false: "-", true: "1"}[afterFirstByte]
		for key, want := range map[string]string{"a": "1", "early": early, "late": late} {
			if got := b.get("/show?key=" + key); got != want {
				t.Errorf("after=%v: %s is %s, want %s", afterFirstByte, key, got, want)
			}
		}
	}
}

// Case memory-full-noeviction, as a user sees it: a login that cannot be stored does not look fine.
func TestMemoryFull(t *testing.T) {
	nodes := redistest.Nodes(t, 1)
	st := siteOn(t, nodes, "", Options{}, wrapped(map[string]http.HandlerFunc{"/put": put, "/show": show, "/out": destroy}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	if _, err := nodes[0].Do("CONFIG", "SET", "maxmemory", "1"); err != nil {
		t.Fatal(err)
	}
	resp, _, err := b.try("/put?key=a&value=2")
	if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a write: %v %v", resp, err)
	}
	if op := st.events.last("save"); !errors.Is(op.Err, sessionring.ErrOutOfMemory) {
		t.Errorf("save ended with %v", op.Err)
	}
	if got := b.get("/show?key=a"); got != "1" {
		t.Errorf("a read: %s", got)
	}
	id := b.id()
	b.get("/out")
	if b.id() != "" || st.present(id) != 0 {
		t.Error("logging out did not work")
	}
}

// Payloads of another codec, truncated, hostile.
func TestBadPayloads(t *testing.T) {
	deep := "a|" + strings.Repeat(`a:1:{i:0;`, 50_000)
	payloads := map[string]string{
		"json":           `{"a":"1"}`,
		"php":            `a|s:1:"1";`,
		"php_serialize":  `a:1:{s:1:"a";s:1:"1";}`,
		"igbinary":       "\x00\x00\x00\x02\x14\x01\x11\x01a\x06\x07",
		"truncated json": `{"a":"1`,
		"trailing json":  `{"a":"1"}x`,
		"json array":     `[1,2]`,
		"json null":      `null`,
		"deep json":      strings.Repeat(`{"a":`, 50_000),
		"truncated php":  `a|s:5:"1`,
		"deep php":       deep,
		"huge length":    `a|s:99999999999:"x";`,
		"huge array":     `a|a:2000000000:{i:0;`,
		"binary":         "\x00\xff\xfe\x01\x02",
		"gob length":     "\xf8\x7f\xff\xff\xff\xff\xff\xff\xff",
	}
	nodes := redistest.Nodes(t, 1)
	ctx := context.Background()
	var gob []byte
	{
		v := Gob().empty()
		_, _ = v.put("a", "1")
		gob, _ = v.encode()
		payloads["gob"] = string(gob)
		payloads["truncated gob"] = string(gob[:len(gob)-3])
		payloads["trailing gob"] = string(gob) + "x"
	}
	fits := map[string]bool{"json json": true, "php php": true, "php_serialize php_serialize": true, "igbinary igbinary": true, "gob gob": true}
	for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.PHPBinary), PHP(phpsession.PHPSerialize), PHP(phpsession.Igbinary)} {
		routes := wrapped(map[string]http.HandlerFunc{"/show": show, "/put": put, "/bytes": func(w http.ResponseWriter, r *http.Request) {
			data, err := Get(r).Bytes()
			fmt.Fprint(w, string(data), err)
		}})
		cookie := Cookie{Name: "session"}
		fail := siteOn(t, nodes, "", Options{Codec: codec, Cookie: cookie}, routes)
		fresh := siteOn(t, nodes, "", Options{Codec: codec, Cookie: cookie, BadData: BadDataFresh}, routes)
		for name, payload := range payloads {
			if fits[codec.String()+" "+name] {
				continue
			}
			id := "payload" + fmt.Sprint(len(name)) + "abcdef"
			// Set by its own client, so that every codec meets the same bytes.
			if err := fail.client.Set(ctx, id, []byte(payload)); err != nil {
				t.Fatal(err)
			}
			b := fail.browser()
			b.setCookie("session", id)
			for _, path := range []string{"/show?key=a", "/put?key=a&value=2"} {
				resp, body, err := b.try(path)
				if err != nil || resp.StatusCode != 500 || resp.Header.Get("Set-Cookie") != "" || strings.Contains(body, "1\"") {
					t.Errorf("%s read as %s, %s: %v %q %v", name, codec, path, resp, body, err)
				}
			}
			if op := fail.events.last("load"); !errors.Is(op.Err, ErrBadData) {
				t.Errorf("%s read as %s: %v", name, codec, op.Err)
			} else {
				var de *DataError
				if !errors.As(op.Err, &de) || de.Codec != codec.String() || len(de.Error()) > 500 {
					t.Errorf("%s read as %s: %.600v", name, codec, op.Err)
				}
			}
			c := fresh.browser()
			c.setCookie("session", id)
			if got := c.get("/show?key=a"); got != "-" || c.id() != id {
				t.Errorf("%s read as %s, fresh: %s", name, codec, got)
			}
			c.get("/put?key=a&value=2")
			if got := c.get("/show?key=a"); got != "2" || c.id() == id {
				t.Errorf("%s read as %s, fresh: %s", name, codec, got)
			}
			if data, err := fail.client.Get(ctx, id); err != nil || string(data) != payload {
				t.Errorf("%s read as %s: the stored bytes changed", name, codec)
			}
		}
	}
}

// A key that holds no string is left alone.
func TestWrongType(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/show": show}))
	if _, err := st.nodes[0].Do("RPUSH", "PHPREDIS_SESSION:alistoftheirs", "x"); err != nil {
		t.Fatal(err)
	}
	b := st.browser()
	b.setCookie("session", "alistoftheirs")
	if resp, _, err := b.try("/show?key=a"); err != nil || resp.StatusCode != 500 {
		t.Errorf("%v %v", resp, err)
	}
	if n, err := st.nodes[0].Do("LLEN", "PHPREDIS_SESSION:alistoftheirs"); err != nil || n != int64(1) {
		t.Errorf("the list holds %v, %v", n, err)
	}
}

func TestSizeLimit(t *testing.T) {
	for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP)} {
		var saved error
		st := newSite(t, 1, "", Options{Codec: codec, MaxBytes: 2000, Cookie: Cookie{Name: "session"}}, wrapped(map[string]http.HandlerFunc{
			"/put": put, "/show": show,
			"/big": func(w http.ResponseWriter, r *http.Request) {
				_ = Put(Get(r), "b", strings.Repeat("x", 3000))
				fmt.Fprint(w, "fine")
			},
			"/save": func(w http.ResponseWriter, r *http.Request) {
				_ = Put(Get(r), "b", strings.Repeat("x", 3000))
				saved = Get(r).Save(r.Context())
				_ = Get(r).Delete("b") // mends it
			},
		}))
		b := st.browser()
		b.get("/put?key=a&value=1")
		resp, body, err := b.try("/big")
		if err != nil || resp.StatusCode != 500 || strings.Contains(body, "fine") {
			t.Errorf("%s: %v %q %v", codec, resp, body, err)
		}
		op := st.events.last("save")
		var size *SizeError
		if !errors.As(op.Err, &size) || size.Limit != 2000 || size.Size < 3000 || !errors.Is(op.Err, ErrTooLarge) || op.Outcome != OutcomeRefused {
			t.Errorf("%s: save ended %q with %v", codec, op.Outcome, op.Err)
		}
		b.get("/save")
		if !errors.Is(saved, ErrTooLarge) {
			t.Errorf("%s: Save ended with %v", codec, saved)
		}
		if got := b.get("/show?key=a") + b.get("/show?key=b"); got != "1-" {
			t.Errorf("%s: stored %s", codec, got)
		}
	}
}

func TestErrorHandler(t *testing.T) {
	nodes := redistest.Nodes(t, 1)
	var got error
	st := siteOn(t, nodes, "", Options{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
		got = err
		w.Header().Set("X-Request", r.URL.Path)
		w.WriteHeader(Status(err))
		io.WriteString(w, "come back later")
	}}, wrapped(map[string]http.HandlerFunc{"/careless": careless, "/put": put}))
	b := st.browser()
	b.get("/put?key=visits&value=1")
	if err := nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	resp, body, err := b.try("/careless")
	if err != nil || resp.StatusCode != 503 || body != "come back later" || resp.Header.Get("X-Request") != "/careless" || len(resp.Header["Set-Cookie"]) != 0 {
		t.Errorf("%v %q %v", resp, body, err)
	}
	if !errors.Is(got, sessionring.ErrNoNode) {
		t.Errorf("the handler got %v", got)
	}
}

// A client that hangs up: what the handler did is saved all the same.
func TestClientHangsUp(t *testing.T) {
	g := newGate()
	st := newSite(t, 2, "", Options{}, wrapped(map[string]http.HandlerFunc{"/put": put, "/show": show, "/slow": slowly(g, func(s *Session) error {
		<-s.ctx.Done()
		return Put(s, "a", "2")
	})}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", b.base+"/slow", nil)
	done := make(chan error)
	go func() { _, err := b.http.Do(req); done <- err }()
	g.wait()
	cancel()
	<-done
	g.open()
	eventually(t, "saved", func() bool { return b.get("/show?key=a") == "2" })
}

func TestBadKeys(t *testing.T) {
	for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.PHPBinary)} {
		bad := []string{"", "_sessionring", "_sessionring_flash", "_sessionring2"}
		switch codec.String() {
		case "json":
			bad = append(bad, "\xff")
		case "php":
			bad = append(bad, "a|b", "7")
		case "php_binary":
			bad = append(bad, strings.Repeat("k", 128), "7")
		}
		st := newSite(t, 1, "", Options{Codec: codec}, wrapped(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			s := Get(r)
			for _, key := range bad {
				if err := Put(s, key, 1); !errors.Is(err, ErrKey) {
					t.Errorf("%s: key %q: %v", codec, key, err)
				}
			}
			if err := Put(s, "f", func() {}); !errors.Is(err, ErrType) {
				t.Errorf("%s: a func: %v", codec, err)
			}
			if err := s.EditPHP(func(*phpsession.Session) error { return nil }); codec.php == errors.Is(err, ErrCodec) {
				t.Errorf("%s: EditPHP: %v", codec, err)
			}
		}}))
		b := st.browser()
		b.get("/")
		if sessions, _ := st.keys(); sessions != 0 {
			t.Errorf("%s: refused values made a session", codec)
		}
	}
}

func TestBytes(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		if err := errors.Join(s.SetUser("ann"), Put(s, "a", 1), s.SetBytes([]byte(`{"b":[1, 2],"c":"x"}`))); err != nil {
			t.Error(err)
		}
		if err := s.SetBytes([]byte(`{`)); !errors.Is(err, ErrBadData) {
			t.Errorf("bytes that are no session: %v", err)
		}
		list, err := Value[[]int](s, "b")
		user, _ := s.User()
		has, _ := s.Has("a")
		keys, _ := s.Keys()
		fmt.Fprint(w, list, err, user, has, keys)
	}}))
	b := st.browser()
	if got := b.get("/"); got != "[1 2] <nil>annfalse [b c]" {
		t.Errorf("got %s", got)
	}
	data, err := st.client.Get(context.Background(), b.id())
	if err != nil || !bytes.HasPrefix(data, []byte(`{"b":[1, 2],"c":"x","_sessionring":{"created":`)) {
		t.Errorf("stored %s %v", data, err)
	}
}

// A node dies under load, and another one hangs: no request fails and every browser's counter goes on.
func TestNodeDiesNobodyNotices(t *testing.T) {
	for _, fault := range []string{"kill", "hang"} {
		st := newSite(t, 3, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": counter, "/login": login}))
		var browsers []*browser
		for range 8 {
			browsers = append(browsers, st.browser())
		}
		visits := func(from, to int) *sync.WaitGroup {
			var wg sync.WaitGroup
			for _, b := range browsers {
				wg.Go(func() {
					for i := from; i <= to; i++ {
						if got := b.get("/"); got != fmt.Sprint(i) {
							t.Errorf("%s: visit %d shows %s", fault, i, got)
							return
						}
					}
					b.get("/login")
				})
			}
			return &wg
		}
		visits(1, 10).Wait()
		under := visits(11, 60)
		var err error
		if fault == "kill" {
			err = st.nodes[1].Kill()
		} else {
			err = st.nodes[1].Pause()
		}
		under.Wait()
		if err = errors.Join(err, st.nodes[1].Resume()); err != nil && fault == "hang" {
			t.Error(err)
		}
		visits(61, 65).Wait()
	}
}
