package php

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
)

// patient bounds what a test waits for; it is no measure of speed.
const patient = 30 * time.Second

// app is what PHP does with a session, told by the query: id, and op (set, add, get, destroy, regenerate).
const app = `
parse_str(parse_url($_SERVER["REQUEST_URI"], PHP_URL_QUERY), $q);
header("Content-Type: text/plain");
session_id($q["id"]);
if (!session_start()) { http_response_code(503); exit("session_start failed"); }
switch ($q["op"]) {
case "set":
	$_SESSION["n"] = (int) $q["n"];
	$_SESSION["user"] = ["name" => "Zoë|;{}", "roles" => ["admin", "staff"], "ratio" => 0.1];
	break;
case "add":
	$saw = $_SESSION["n"] ?? 0;
	usleep((int) ($q["wait"] ?? 0));
	$_SESSION["n"] = $saw + 1;
	if (!session_write_close()) { http_response_code(503); exit("session_write_close failed"); }
	exit("$saw");
case "destroy":
	session_destroy();
	exit("gone");
case "regenerate":
	session_regenerate_id(true);
	exit(session_id());
}
$out = ($_SESSION["n"] ?? "none") . " " . ($_SESSION["user"]["name"] ?? "none") . " " . json_encode($_SESSION["user"]["ratio"] ?? null);
if (!session_write_close()) { http_response_code(503); exit("session_write_close failed"); }
echo $out;`

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patient)
	t.Cleanup(cancel)
	return ctx
}

// serve runs the app on a save_path.
func serve(t testing.TB, savePath string, workers int, ini ...string) *phptest.Server {
	settings := append([]string{"session.serialize_handler", "php", "session.use_cookies", "0", "session.cache_limiter", ""}, ini...)
	return phptest.Serve(t, phptest.App{Code: app, INI: phptest.SessionINI(savePath, settings...), Workers: workers})
}

// page asks the app, and fails the test if it does not answer as it should.
func page(t testing.TB, s *phptest.Server, op, id string, more ...string) string {
	t.Helper()
	body, status := ask(t, s, op, id, more...)
	if status != 200 {
		t.Fatalf("php, %s: %d %s\n%s", op, status, body, s.Log())
	}
	return body
}

func query(op, id string, more ...string) string {
	q := url.Values{"op": {op}, "id": {id}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/?" + q.Encode()
}

// names maps host names of a save_path to servers, for Go's side; PHP is given the addresses.
type names map[string]*redistest.Server

func (n names) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s := n[address]
	if s == nil {
		return nil, fmt.Errorf("no such host in this test: %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, s.Addr())
}

// forPHP writes the addresses into a save_path.
func (n names) forPHP(savePath string) string {
	for name, s := range n {
		host := strings.TrimSuffix(name, ":6379")
		savePath = strings.ReplaceAll(savePath, name, s.Addr())
		savePath = strings.ReplaceAll(savePath, "tcp://"+host+"?", "tcp://"+s.Addr()+"?")
		savePath = strings.ReplaceAll(savePath, "tcp://"+host+",", "tcp://"+s.Addr()+",")
	}
	return savePath
}

func open(t testing.TB, savePath string, opts ...sessionring.Option) *sessionring.Client {
	t.Helper()
	c, err := sessionring.Open(savePath, append([]sessionring.Option{sessionring.WithDistribution(sessionring.PHPRedis)}, opts...)...)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// entry is a node of a save_path with the database that its sessions are in.
type entry struct {
	server   *redistest.Server
	database int
}

// do asks one database of one server.
func (e entry) do(t testing.TB, args ...any) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	conn, err := e.server.Connect(ctx)
	must(t, err)
	defer conn.Close()
	_, err = conn.Do(ctx, "SELECT", e.database)
	must(t, err)
	v, err := conn.Do(ctx, args...)
	must(t, err)
	return v
}

// placed returns the index of the one entry that holds the key, and makes sure that no other database of any server
// holds anything of the kind.
func placed(t testing.TB, entries []entry, key string) int {
	t.Helper()
	found := -1
	for i, e := range entries {
		for db := range 3 {
			if (entry{e.server, db}).do(t, "EXISTS", key) == int64(0) {
				continue
			}
			if db != e.database || found >= 0 {
				t.Fatalf("the key is in database %d of entry %d (found before: %d)", db, i, found)
			}
			found = i
		}
	}
	if found < 0 {
		t.Fatal("the key is nowhere")
	}
	return found
}

// newID makes an id as PHP does.
func newID() string { return strings.ToLower(rand.Text()) }

func eventually(t testing.TB, check func() error) {
	t.Helper()
	end := time.Now().Add(patient)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still after %v: %v", patient, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ask asks the app and returns what it said.
func ask(t testing.TB, s *phptest.Server, op, id string, more ...string) (body string, status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+query(op, id, more...), nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("php, %s: %v", op, err)
		return "", 0
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("php, %s: %v", op, err)
	}
	return string(b), resp.StatusCode
}
