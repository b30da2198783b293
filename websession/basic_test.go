package websession

import (
	"fmt"
	"log"
	"net/http"
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
