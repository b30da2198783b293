package websession_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/websession"
)

// TestExamples runs the handlers of the examples on real nodes.
func TestExamples(t *testing.T) {
	nodes := redistest.Nodes(t, 2)
	client, err := sessionring.Open(nodes[0].SavePath() + "," + nodes[1].SavePath())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sessions, err := websession.New(client, websession.Options{Merge: addUp})
	if err != nil {
		t.Fatal(err)
	}
	a := account{sessions}
	mux := http.NewServeMux()
	for path, h := range map[string]http.HandlerFunc{"/{$}": visits, "POST /cart": addToCart, "GET /cart": showCart, "/cart.json": cartAsJSON, "/login": login,
		"/logout": logout, "/devices": a.devices, "/password": a.changePassword, "/chat": chat} {
		mux.HandleFunc(path, h)
	}
	srv := httptest.NewServer(sessions.Wrap(mux))
	defer srv.Close()
	browser := func() func(method, path string) string {
		jar, _ := cookiejar.New(nil)
		c := &http.Client{Jar: jar}
		return func(method, path string) string {
			t.Helper()
			req, _ := http.NewRequest(method, srv.URL+path, nil)
			req.SetBasicAuth("ann", "secret")
			req.Header.Set("User-Agent", "Phone")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body)))
		}
	}
	one, two := browser(), browser()
	for _, step := range []struct {
		who                func(method, path string) string
		method, path, want string
	}{
		{one, "GET", "/", "200 visit 1"},
		{one, "GET", "/", "200 visit 2"},
		{two, "GET", "/", "200 visit 1"},
		{one, "POST", "/cart?item=book", "200 [{success Added to your cart.}] true [book]"},
		{one, "GET", "/cart", "200 [] true [book]"},
		{one, "GET", "/cart.json", "200 1"},
		{one, "GET", "/login", "200 hello ann"},
		{two, "GET", "/login", "200 hello ann"},
		{one, "GET", "/password", "200 1 other sessions ended"},
		{two, "GET", "/", "200 visit 1"},
		{one, "GET", "/", "200 visit 3"},
		{one, "GET", "/logout", "200 bye"},
		{one, "GET", "/", "200 visit 1"},
	} {
		if got := step.who(step.method, step.path); got != step.want {
			t.Fatalf("%s %s: %s, want %s", step.method, step.path, got, step.want)
		}
	}
	one("GET", "/login")
	if got := one("GET", "/devices"); !strings.HasPrefix(got, "200 true Phone 20") || strings.Contains(got, "\n") {
		t.Errorf("devices: %s", got)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /chat HTTP/1.1\r\nHost: x\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 || len(resp.Cookies()) != 1 {
		t.Fatalf("chat: %v %v", resp, err)
	}
	if line, _ := in.ReadString('\n'); line != "<nil>\n" {
		t.Errorf("chat: saved with %s", line)
	}
}

// Every piece of Go in docs/embed.md stands, as it is, in example_test.go, which is compiled and run.
func TestDocsAreTheExamples(t *testing.T) {
	doc, err := os.ReadFile("../docs/embed.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string {
		var lines []string
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	code := flat(string(src))
	blocks := 0
	for _, part := range strings.Split(string(doc), "```go\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks++
		if !strings.Contains(code, flat(block)) {
			t.Errorf("not in example_test.go:\n%s", block)
		}
	}
	if blocks < 8 {
		t.Errorf("%d pieces of Go in docs/embed.md; was the mark changed?", blocks)
	}
}
