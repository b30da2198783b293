package websession

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/phpsession"
)

func TestCookieAttributes(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": put}))
	for name, tc := range map[string]struct {
		opt  Options
		want string // behind the value
	}{
		"default":     {Options{}, "; Path=/; HttpOnly; SameSite=Lax"},
		"php":         {Options{Codec: PHP("")}, "; Path=/; HttpOnly; SameSite=Lax"},
		"host":        {Options{Cookie: Cookie{Name: "__Host-sid"}}, "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"secure":      {Options{Cookie: Cookie{Name: "__Secure-sid", Domain: "example.com"}}, "; Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax"},
		"strict":      {Options{Cookie: Cookie{SameSite: http.SameSiteStrictMode, Path: "/app"}}, "; Path=/app; HttpOnly; SameSite=Strict"},
		"none":        {Options{Cookie: Cookie{SameSite: http.SameSiteNoneMode, Partitioned: true}}, "; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		"unspecified": {Options{Cookie: Cookie{SameSite: http.SameSiteDefaultMode, ScriptsMayRead: true, Secure: SecureAlways}}, "; Path=/; Secure"},
		"persistent":  {Options{Cookie: Cookie{Persistent: true}, IdleTimeout: time.Hour}, "; Path=/; Expires=(…); Max-Age=3600; HttpOnly; SameSite=Lax"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := New(st.client, tc.opt)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			m.Wrap(http.HandlerFunc(put)).ServeHTTP(w, httptest.NewRequest("GET", "/?key=a&value=1", nil))
			got := w.Header().Get("Set-Cookie")
			_, rest, _ := strings.Cut(got, ";")
			rest = regexp.MustCompile(`Expires=[^;]+`).ReplaceAllString(";"+rest, "Expires=(…)")
			if rest != tc.want {
				t.Errorf("%s\n got %s\nwant %s", got, rest, tc.want)
			}
			wantName := m.opt.Cookie.Name
			if name == "php" && wantName != "PHPSESSID" {
				t.Errorf("name %s", wantName)
			}
			if !strings.HasPrefix(got, wantName+"=") {
				t.Errorf("%s does not start with %s", got, wantName)
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	client, err := sessionring.Open("tcp://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for want, opt := range map[string]Options{
		"allows no Domain":          {Cookie: Cookie{Name: "__host-x", Domain: "example.com"}},
		"allows no Path but /":      {Cookie: Cookie{Name: "__Host-x", Path: "/a"}},
		"prefix __Host- needs":      {Cookie: Cookie{Name: "__Host-x", Secure: SecureNever}},
		"prefix __Secure- needs":    {Cookie: Cookie{Name: "__Secure-x", Secure: SecureNever}},
		"SameSite=None needs":       {Cookie: Cookie{SameSite: http.SameSiteNoneMode, Secure: SecureNever}},
		"Partitioned needs":         {Cookie: Cookie{Partitioned: true, Secure: SecureNever}},
		"invalid Cookie.Name":       {Cookie: Cookie{Name: "a b"}},
		"invalid Cookie.Domain":     {Cookie: Cookie{Domain: "a b"}},
		"invalid byte":              {Cookie: Cookie{Path: "/;x"}},
		"unknown value":             {Cookie: Cookie{Secure: 7}},
		"must not be negative":      {IdleTimeout: -1},
		"under a millisecond":       {IdleTimeout: time.Microsecond},
		"must be below IdleTimeout": {IdleTimeout: time.Minute, TouchInterval: time.Minute},
		"RegenerateGrace":           {RegenerateGrace: 2 * time.Hour},
		"PHP knows 4, 5 and 6":      {ID: IDFormat{40, 8}},
		"PHP allows 22 to 256":      {ID: IDFormat{8, 6}},
		"can be guessed":            {ID: IDFormat{22, 4}},
		"serialize handler":         {Codec: PHP("wddx")},
	} {
		if _, err := New(client, opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("a nil Client was accepted")
	}
}

func TestIDs(t *testing.T) {
	for name, tc := range map[string]struct {
		f    IDFormat
		php  bool
		want string
	}{
		"default":   {IDFormat{}, false, `^[A-Za-z0-9_-]{43}$`},
		"php":       {IDFormat{}, true, `^[0-9a-v]{52}$`},
		"php.ini":   {IDFormat{32, 4}, true, `^[0-9a-f]{32}$`},
		"php 5 bit": {IDFormat{26, 5}, false, `^[0-9a-v]{26}$`},
		"php 6 bit": {IDFormat{22, 6}, true, `^[0-9a-zA-Z,-]{22}$`},
	} {
		f, err := tc.f.complete(tc.php)
		if err != nil {
			t.Fatal(name, err)
		}
		seen := map[string]bool{}
		chars := map[rune]bool{}
		for range 2000 {
			id := f.newID()
			if !regexp.MustCompile(tc.want).MatchString(id) || sessionring.CheckID(id) != nil {
				t.Fatalf("%s: id %q", name, id)
			}
			seen[id] = true
			for _, c := range id {
				chars[c] = true
			}
		}
		bits := f.BitsPerChar
		if bits == 0 {
			bits = 6
		}
		if len(seen) != 2000 || len(chars) != 1<<bits {
			t.Errorf("%s: %d different ids, %d characters in use", name, len(seen), len(chars))
		}
	}
}

// Case made-up-id-is-adopted, and every other id that the server did not make.
func TestMadeUpIDIsNotAdopted(t *testing.T) {
	st := newSite(t, 2, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": counter, "/show": show}))
	other := open(t, st.nodes, "prefix=OTHER:")
	if err := other.Set(context.Background(), "idofanotherprefix123", []byte(`{"visits":41}`)); err != nil {
		t.Fatal(err)
	}
	victim := st.browser()
	victim.get("/")
	for name, id := range map[string]string{
		"chosen":         "attackerchosen123",
		"other prefix":   "idofanotherprefix123",
		"climbs":         "../PHPREDIS_SESSION:x",
		"key of another": "PHPREDIS_SESSION:" + victim.id(),
		"cut":            victim.id()[:42],
		"longer":         victim.id() + "x",
		"64 KB":          strings.Repeat("a", 64<<10),
		"257":            strings.Repeat("a", 257),
		"256":            strings.Repeat("a", 256),
		"binary":         "\x00\x01\xff\xfe",
		"utf8":           "Zoë",
		"blank":          "a b",
		"line":           "a\r\nSet-Cookie: x=y",
		"quotes":         `"x"`,
		"stamp":          "sessionring:v:" + victim.id(),
		"lock":           victim.id() + "_LOCK",
		"index":          indexID("ann"),
		"empty":          "",
		"short":          "a",
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := st.keys()
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/show?key=visits", nil)
			r.Header["Cookie"] = []string{"session=" + id}
			st.server.Config.Handler.ServeHTTP(w, r)
			if w.Code != 200 || w.Body.String() != "-" || w.Header().Get("Set-Cookie") != "" {
				t.Fatalf("a read: %d %q %v", w.Code, w.Body, w.Header())
			}
			if now, _ := st.keys(); now != before {
				t.Fatal("a read with a made-up id stored something")
			}
			w = httptest.NewRecorder()
			r = httptest.NewRequest("GET", "/", nil)
			r.Header["Cookie"] = []string{"session=" + id}
			st.server.Config.Handler.ServeHTTP(w, r)
			cookies := w.Result().Cookies()
			if w.Code != 200 || w.Body.String() != "1" || len(cookies) != 1 || cookies[0].Value == id || len(cookies[0].Value) != 43 {
				t.Fatalf("a write: %d %q %v", w.Code, w.Body, w.Header())
			}
			if sessionring.CheckID(id) == nil {
				if _, err := st.client.Get(context.Background(), id); err == nil {
					t.Fatal("something is stored under the client's id")
				}
			}
		})
	}
	if got := victim.get("/"); got != "2" {
		t.Errorf("the victim's session: %s", got)
	}
}

// Case two-cookies-of-one-name.
func TestTwoCookiesOfOneName(t *testing.T) {
	st := newSite(t, 1, "", Options{}, wrapped(map[string]http.HandlerFunc{"/": counter, "/out": func(w http.ResponseWriter, r *http.Request) {
		if err := Get(r).Destroy(r.Context()); err != nil {
			t.Error(err)
		}
	}}))
	a, b := st.browser(), st.browser()
	a.get("/")
	b.get("/")
	b.get("/")
	do := func(path string, ids ...string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		for _, id := range ids {
			r.AddCookie(&http.Cookie{Name: "session", Value: id})
		}
		st.server.Config.Handler.ServeHTTP(w, r)
		return w
	}
	if w := do("/", "deaddeaddeaddead", a.id()); w.Body.String() != "2" || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("dead, live: %q %v", w.Body, w.Header())
	}
	if w := do("/", a.id(), "deaddeaddeaddead"); w.Body.String() != "3" {
		t.Errorf("live, dead: %q", w.Body)
	}
	if w := do("/", "dead1dead1", "dead2dead2"); w.Body.String() != "1" || len(w.Result().Cookies()) != 1 {
		t.Errorf("dead, dead: %q %v", w.Body, w.Header())
	}
	mons := monitors(t, st.nodes)
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("dead%ddead", i))
	}
	do("/", append(many, a.id())...)
	asked := map[string]bool{}
	for _, c := range commands(t, mons) {
		for _, arg := range c.Args {
			if strings.HasPrefix(arg, "PHPREDIS_SESSION:dead") {
				asked[arg] = true
			}
		}
	}
	if len(asked) != maxCandidates {
		t.Errorf("%d of 500 cookies were asked for, want %d", len(asked), maxCandidates)
	}
	// Logging out ends whatever would log this browser in again.
	if w := do("/out", a.id(), b.id()); w.Code != 200 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d %v", w.Code, w.Header())
	}
	if st.present(a.id())+st.present(b.id()) != 0 {
		t.Error("a session of the logged out browser lives on")
	}
}

func TestPersistentCookieMovesOn(t *testing.T) {
	st := newSite(t, 1, "", Options{Cookie: Cookie{Persistent: true}, IdleTimeout: time.Hour, TouchInterval: -1},
		wrapped(map[string]http.HandlerFunc{"/put": put, "/": show}))
	b := st.browser()
	b.get("/put?key=a&value=1")
	resp, _, err := b.try("/?key=a")
	if err != nil || len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge != 3600 || resp.Cookies()[0].Value != b.id() {
		t.Errorf("a touch did not renew the cookie: %v %v", resp.Header, err)
	}
}

func TestVaryIsNotDoubled(t *testing.T) {
	for have, want := range map[string]string{"": "Cookie", "Accept, cookie": "Accept, cookie", "*": "*", "Accept": "Accept|Cookie"} {
		h := http.Header{}
		if have != "" {
			h.Set("Vary", have)
		}
		varyByCookie(h)
		if got := strings.Join(h["Vary"], "|"); got != want {
			t.Errorf("Vary %q became %q", have, got)
		}
	}
}

// PHP's own ids may hold a comma, which PHP writes as %2C into the cookie.
func TestPHPCookieIsURLEncoded(t *testing.T) {
	st := newSite(t, 1, "", Options{Codec: PHP(phpsession.PHP)}, wrapped(map[string]http.HandlerFunc{"/": counter}))
	if err := st.client.Set(context.Background(), "abc,def-ghi0123456789AB", []byte("visits|i:4;")); err != nil {
		t.Fatal(err)
	}
	b := st.browser()
	b.setCookie("PHPSESSID", "abc%2Cdef-ghi0123456789AB")
	if got := b.get("/"); got != "5" {
		t.Errorf("visits %s", got)
	}
	c := st.manager.makeCookie(false, "a,b")
	if c.Value != "a%2Cb" {
		t.Errorf("cookie value %s", c.Value)
	}
}
