package websession

import (
	"bytes"
	"fmt"
	"log"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

func newLogger(b *syncBuffer) *log.Logger { return log.New(b, "", 0) }

func TestCounterWithEachCodec(t *testing.T) {
	nodes := redistest.Nodes(t, 2)
	codecs := []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.PHPBinary), PHP(phpsession.PHPSerialize), PHP(phpsession.Igbinary)}
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			type cart struct {
				Items []string       `json:"items" php:"items"`
				Count map[string]int `json:"count" php:"count"`
			}
			st := siteOn(t, nodes, "", Options{Codec: codec}, wrapped(map[string]http.HandlerFunc{
				"/": counter,
				"/cart": func(w http.ResponseWriter, r *http.Request) {
					c, err := Value[cart](Get(r), "cart")
					c.Items = append(c.Items, "book")
					if c.Count == nil {
						c.Count = map[string]int{}
					}
					c.Count["book"]++
					if err == nil {
						err = Put(Get(r), "cart", c)
					}
					fmt.Fprint(w, c.Items, c.Count, err)
				},
				"/wrong": func(w http.ResponseWriter, r *http.Request) {
					_, err := Value[[]int](Get(r), "visits")
					fmt.Fprint(w, err)
				},
			}))
			a, b := st.browser(), st.browser()
			for i := 1; i <= 3; i++ {
				if got := a.get("/"); got != fmt.Sprint(i) {
					t.Fatalf("visit %d shows %s", i, got)
				}
			}
			if got := b.get("/"); got != "1" {
				t.Fatalf("another browser starts at %s", got)
			}
			a.get("/cart")
			if got := a.get("/cart"); got != "[book book] map[book:2] <nil>" {
				t.Fatalf("cart: %s", got)
			}
			if got := a.get("/"); got != "4" {
				t.Fatalf("counter beside the cart: %s", got)
			}
			if got := a.get("/wrong"); !strings.Contains(got, ErrType.Error()) {
				t.Fatalf("an int read as a list: %s", got)
			}
		})
	}
}

// Case visitors-without-session-data.
func TestVisitorsWithoutSessionData(t *testing.T) {
	st := newSite(t, 2, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": show, "/put": put}))
	mons := monitors(t, st.nodes)
	h := st.server.Config.Handler
	for range 10_000 {
		w := newRecorder()
		r, _ := http.NewRequest("GET", "/?key=user", nil)
		h.ServeHTTP(w, r)
		if w.Code != 200 || w.Body.String() != "-" || w.Header().Get("Set-Cookie") != "" {
			t.Fatalf("a visitor got %d %q %v", w.Code, w.Body, w.Header())
		}
	}
	for _, c := range commands(t, mons) {
		for _, a := range c.Args { // the client's own looking after the nodes names no session
			if strings.HasPrefix(a, "PHPREDIS_SESSION:") || strings.HasPrefix(a, "sessionring:v:") && c.Name() != "SCAN" {
				t.Fatalf("a visitor without a cookie caused %q", c.Args)
			}
		}
	}
	if sessions, _ := st.keys(); sessions != 0 {
		t.Fatalf("%d sessions were stored", sessions)
	}
	b := st.browser()
	b.get("/put?key=a&value=1")
	if b.id() == "" {
		t.Fatal("the first value brought no cookie")
	}
	if sessions, _ := st.keys(); sessions != 2 {
		t.Fatalf("%d copies of the session, want 2", sessions)
	}
}

// A read never rewrites data: it extends the session's life, and that once an interval.
func TestTouchOncePerInterval(t *testing.T) {
	st := newSite(t, 2, "", Options{IdleTimeout: time.Hour, TouchInterval: time.Minute}, wrapped(map[string]http.HandlerFunc{"/": show, "/put": put}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	id := b.id()
	for _, n := range st.nodes {
		if _, err := n.Do("PEXPIRE", "PHPREDIS_SESSION:"+id, 50_000); err != nil {
			t.Fatal(err)
		}
	}
	b.get("/?key=a") // the write counts as a touch: nothing to do
	if got := ttl(t, st, id); got > 50*time.Second {
		t.Fatalf("touched at once: %v", got)
	}
	other, err := New(st.client, st.manager.opt) // another process, which knows nothing of it
	if err != nil {
		t.Fatal(err)
	}
	mons := monitors(t, st.nodes)
	srv := serve(t, other.Wrap(http.HandlerFunc(show)))
	c := newBrowser(t, srv)
	c.setCookie("session", id)
	for range 5 {
		if got := c.get("/?key=a"); got != "1" {
			t.Fatalf("read %q", got)
		}
	}
	if got := ttl(t, st, id); got < 59*time.Minute {
		t.Fatalf("not touched: %v", got)
	}
	touched, wrote := carriedOut(t, mons, id)
	if len(wrote) > 0 {
		t.Errorf("reads wrote: %q", wrote)
	}
	if touched != 2 { // once a node
		t.Fatalf("life extended %d times by five reads on two nodes, want 2", touched)
	}
}

func TestUnchangedValueIsNotWritten(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/put": put, "/back": func(w http.ResponseWriter, r *http.Request) {
		s := Get(r)
		_ = Put(s, "a", "other")
		_ = Put(s, "a", "1")
	}}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	n := st.events.count("save", "")
	b.get("/put?key=a&value=1")
	b.get("/back")
	if got := st.events.count("save", ""); got != n {
		t.Fatalf("%d saves of values that did not change", got-n)
	}
	b.get("/put?key=a&value=2")
	if got := st.events.count("save", ""); got != n+1 {
		t.Fatal("a changed value was not saved")
	}
}

// Where sessions are mostly read, a life is extended as the session is loaded: one command to each node, not two.
func TestTouchAsItIsLoaded(t *testing.T) {
	for name, tc := range map[string]struct {
		params string
		opt    Options
		early  bool
	}{
		"":                 {"", Options{TouchInterval: -1}, true},
		"AbsoluteTimeout":  {"", Options{TouchInterval: -1, AbsoluteTimeout: time.Hour}, false},
		"a month":          {"", Options{TouchInterval: -1, IdleTimeout: 30 * 24 * time.Hour}, false},
		"in PHP's layout":  {layouts["phpredis"], Options{TouchInterval: -1}, false},
		"once an interval": {"", Options{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			st := newSite(t, 2, tc.params, tc.opt, wrapped(map[string]http.HandlerFunc{"/": show, "/put": put}))
			b := st.browser()
			b.get("/put?key=a&value=1")
			id, key := b.id(), "PHPREDIS_SESSION:"+b.id()
			if tc.opt.TouchInterval == 0 {
				st.manager.touches.forget(id)
			}
			st.manager.touches.reads.Store(1)
			life := ttl(t, st, id)
			for _, n := range st.nodes {
				if _, err := n.Do("PEXPIRE", key, 50_000); err != nil {
					t.Fatal(err)
				}
			}
			mons := monitors(t, st.nodes)
			const reads = 5
			for range reads {
				if got := b.get("/?key=a"); got != "1" {
					t.Fatalf("read %q", got)
				}
			}
			if got := ttl(t, st, id); got < life-time.Minute {
				t.Errorf("it lives for %v more, before it was %v", got, life)
			}
			loads, scripts := 0, 0
			for _, c := range commands(t, mons) {
				switch {
				case strings.HasPrefix(c.Name(), "EVAL") && slices.Contains(c.Args, key): // the text, where a node does not know it yet
					scripts++
				case c.Name() == "MGET" && slices.Contains(c.Args, key):
					loads++
				}
			}
			touches := reads
			if tc.opt.TouchInterval == 0 {
				touches = 1
			}
			switch {
			case tc.early && (scripts != touches*len(st.nodes) || loads != reads-touches):
				t.Errorf("%d reads, of which %d extend the life, sent %d scripts and %d commands that only load", reads, touches, scripts, loads)
			case !tc.early && loads == 0 && tc.params == "":
				t.Error("nothing was loaded without extending the life")
			}
			b.get("/put?key=a&value=2")
			if n := st.manager.touches.reads.Load(); tc.opt.TouchInterval < 0 && n != reads {
				t.Errorf("after five reads and a write the balance is %d", n)
			}
		})
	}
}

// The grace of an id that Regenerate gave up is as long as it was, though its requests extend lives as they load.
func TestTouchLeavesGraceAlone(t *testing.T) {
	for _, idle := range []time.Duration{time.Hour, maxRecordLife / 2, maxRecordLife, 2 * maxRecordLife} {
		t.Run(idle.String(), func(t *testing.T) { touchLeavesGraceAlone(t, idle) })
	}
}

func touchLeavesGraceAlone(t *testing.T, idle time.Duration) {
	st := newSite(t, 2, "", Options{IdleTimeout: idle, TouchInterval: -1, RegenerateGrace: time.Minute}, wrapped(loginRoutes))
	b := st.browser()
	b.get("/put?key=cart&value=book")
	old, late := b.id(), b.twin()
	b.get("/login")
	left := ttl(t, st, old)
	for range 3 {
		st.manager.touches.reads.Store(8)
		if got := late.get("/show?key=user"); got != "ann" {
			t.Fatalf("by the old id the user is %q", got)
		}
	}
	if got := ttl(t, st, old); got > left || got < left-time.Minute {
		t.Errorf("the record lived for %v more, now for %v", left, got)
	}
	// Nearly at the end of its life, long after the grace. Several times: it once took the same millisecond twice.
	for range 10 {
		b.get("/login")
		for _, n := range st.nodes {
			for _, key := range []string{"PHPREDIS_SESSION:", "sessionring:v:"} {
				if v, err := n.Do("PEXPIRE", key+old, 60_000); err != nil || v != int64(1) {
					t.Fatal(v, err)
				}
			}
		}
		st.manager.touches.reads.Store(8)
		if got := late.get("/show?key=user"); got == "ann" {
			t.Fatal("after the grace the old id still leads to the session")
		}
		old, late = b.id(), b.twin()
	}
}

// What SetBytes was given is the caller's to use again.
func TestSetBytesKeepsNothing(t *testing.T) {
	for _, codec := range []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.Igbinary)} {
		source, s := &Session{m: &Manager{opt: Options{Codec: codec, MaxBytes: 1000}}, loaded: true, values: codec.empty()}, &Session{m: &Manager{opt: Options{Codec: codec, MaxBytes: 1000}}, loaded: true, values: codec.empty()}
		if err := Put(source, "user", "ann"); err != nil {
			t.Fatal(err)
		}
		data, err := source.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetBytes(data); err != nil {
			t.Fatal(err)
		}
		copy(data, bytes.Repeat([]byte("x"), len(data)))
		if got, err := Value[string](s, "user"); err != nil || got != "ann" {
			t.Errorf("%s: %q, %v", codec, got, err)
		}
	}
}
