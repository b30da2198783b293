package phpweb

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
	"github.com/sessionring/sessionring/websession"
)

// site is the application: what ends in .php is PHP's, the rest Go's.
type site struct {
	t       *testing.T
	nodes   []*redistest.Server
	client  *sessionring.Client
	manager *websession.Manager
	php     *phptest.Server
	url     string
	slow    http.HandlerFunc // what /slow does, set by a test before it is asked
}

// form is how both halves keep their sessions.
type form struct {
	handler phpsession.Handler
	ini     map[string]string // PHP's settings beyond those of php.ini
	locking bool
	workers int // of PHP
}

// settings reads one of the files that the documentation shows.
func settings(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	ini := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok {
			t.Fatalf("%s: %q is no setting", name, line)
		}
		ini[key] = strings.Trim(value, `"`)
	}
	return ini
}

func open(t *testing.T, nodes []*redistest.Server, f form) *site {
	t.Helper()
	phptest.Require(t)
	s := &site{t: t, nodes: nodes}
	path := redistest.SavePath(nodes)
	ini := settings(t, "php.ini")
	ini["session.save_path"] = path
	ini["session.serialize_handler"] = string(f.handler)
	locking := websession.LockNever
	if f.locking {
		maps.Copy(ini, settings(t, "locking.ini"))
		locking = websession.LockRequests
	}
	maps.Copy(ini, f.ini)
	pages, err := filepath.Abs("pages")
	if err != nil {
		t.Fatal(err)
	}
	s.php = phptest.Serve(t, phptest.App{
		Code:    `require getenv('PAGES') . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);`,
		INI:     ini,
		Env:     []string{"PAGES=" + pages},
		Workers: f.workers,
	})
	if s.client, err = Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.client.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.manager, err = Sessions(s.client, f.handler, locking); err != nil {
		t.Fatal(err)
	}
	php, err := url.Parse(s.php.URL)
	if err != nil {
		t.Fatal(err)
	}
	pagesOf := Pages()
	pagesOf.HandleFunc("/look", func(w http.ResponseWriter, r *http.Request) {
		if n, found, err := websession.Lookup[int](websession.Get(r), "visits"); err != nil || !found {
			fmt.Fprint(w, "none")
		} else {
			fmt.Fprint(w, n)
		}
	})
	pagesOf.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { s.slow(w, r) })
	proxy := httputil.NewSingleHostReverseProxy(php)
	wrapped := s.manager.Wrap(pagesOf)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".php") {
			proxy.ServeHTTP(w, r)
			return
		}
		wrapped.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// noProblems fails the test for what PHP complained of.
func (s *site) noProblems() {
	s.t.Helper()
	if p := s.php.Problems(); len(p) > 0 {
		s.t.Errorf("PHP complains:\n%s", strings.Join(p, "\n"))
	}
}

// browser keeps its cookies.
type browser struct {
	*site
	http *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &browser{s, &http.Client{Jar: jar, Timeout: time.Minute}}
}

// try opens a page; one with a form, as "/login user=ada", is sent that.
func (b *browser) try(page string) (body string, cookies []*http.Cookie, err error) {
	method := http.MethodGet
	page, fields, post := strings.Cut(page, " ")
	if post {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+page, strings.NewReader(fields))
	if err != nil {
		return "", nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := b.http.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", page, res.StatusCode, text)
	}
	return string(text), res.Cookies(), err
}

func (b *browser) get(page string) string {
	b.t.Helper()
	body, _, err := b.try(page)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.php.Log())
	}
	return body
}

func (b *browser) want(page, body string) {
	b.t.Helper()
	if got := b.get(page); got != body {
		b.t.Fatalf("%s says %q; want %q\n%s", page, got, body, b.php.Log())
	}
}

// id is what the browser's PHPSESSID holds, "" for none.
func (b *browser) id() string {
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.http.Jar.Cookies(u) {
		if c.Name == "PHPSESSID" {
			return c.Value
		}
	}
	return ""
}

func (b *browser) setID(id string) {
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.http.Jar.SetCookies(u, []*http.Cookie{{Name: "PHPSESSID", Value: id, Path: "/"}})
}

// home is the node that PHP keeps a session on.
func (s *site) home(id string) *redistest.Server {
	s.t.Helper()
	return s.nodes[s.client.Ring().Owner(id)]
}

// stored is a session's payload on its node.
func (s *site) stored(id string) string {
	s.t.Helper()
	v, err := s.home(id).Do("GET", sessionring.DefaultPrefix+id)
	if err != nil {
		s.t.Fatal(err)
	}
	text, ok := v.(string)
	if !ok {
		s.t.Fatalf("no session on its node: %v", v)
	}
	return text
}

// exists reports whether there is a session on its node.
func (s *site) exists(id string) bool { return s.has(sessionring.DefaultPrefix+id, id) }

// locked reports whether the session's lock is taken.
func (s *site) locked(id string) bool {
	return s.has(sessionring.DefaultPrefix+id+"_LOCK", id)
}

func (s *site) has(key, id string) bool {
	s.t.Helper()
	v, err := s.home(id).Do("EXISTS", key)
	if err != nil {
		s.t.Fatal(err)
	}
	return v == int64(1)
}

// sessionKeys are all keys on all nodes but those in which the client's processes agree on the nodes themselves
// (docs/architecture.md). Whatever belongs to a single session is among them.
func (s *site) sessionKeys() (all []string) {
	s.t.Helper()
	for _, n := range s.nodes {
		v, err := n.Do("KEYS", "*")
		if err != nil {
			s.t.Fatal(err)
		}
		for _, k := range v.([]any) {
			switch k {
			case "sessionring:mark", "sessionring:lease", "sessionring:rings":
			default:
				all = append(all, k.(string))
			}
		}
	}
	return all
}
