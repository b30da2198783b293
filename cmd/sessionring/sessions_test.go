package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// nodes starts servers and returns a tool whose save_path they are.
func nodes(t *testing.T, n int, opts ...redistest.Options) ([]*redistest.Server, *tool) {
	t.Helper()
	servers := redistest.Nodes(t, n, opts...)
	x := newTool(t)
	x.env[savePathVariable] = redistest.SavePath(servers)
	return servers, x
}

// warm has a Client as an application would have it make sure of the nodes.
func warm(t *testing.T, savePath string) {
	t.Helper()
	c, err := sessionring.Open(savePath)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	poll(t, "nodes are up", func() bool {
		for _, n := range c.Nodes() {
			if n.State != sessionring.StateUp {
				return false
			}
		}
		return true
	})
}

// fill writes sessions as an application would.
func fill(t *testing.T, savePath string, sessions map[string]string) {
	t.Helper()
	c, err := sessionring.Open(savePath, sessionring.WithLifetime(10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for id, data := range sessions {
		if err := c.Set(context.Background(), id, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
}

// ownedBy returns an id whose first owner is the node.
func ownedBy(t *testing.T, savePath string, index int) string {
	t.Helper()
	sp, err := sessionring.ParseSavePath(savePath)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if id := fmt.Sprintf("missing%d", i); ring.Owner(id) == index {
			return id
		}
	}
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func do(t *testing.T, s *redistest.Server, args ...any) any {
	t.Helper()
	v, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return v
}

func TestSessionContract(t *testing.T) {
	servers, x := nodes(t, 3)
	const id, payload = "r4t8w2y6u1i9o3p7a5", `visits|i:7;user|s:5:"admin";`

	m := x.stdin(payload).run("set", "--json", "--ttl", "500", id).exits(exitDone).one()
	hasFields(t, m, "id", "index", "address", "ttl", "bytes", "version", "copies")
	isJSON(t, "id", m["id"], strconv.Quote(id))
	isJSON(t, "ttl", m["ttl"], "500")
	isJSON(t, "bytes", m["bytes"], strconv.Itoa(len(payload)))
	if n := len(m["copies"].([]any)); n < 2 {
		t.Errorf("%d copies", n)
	}

	m = x.run("get", "--json", id).exits(exitDone).one()
	hasFields(t, m, "id", "index", "address", "ttl", "bytes", "value", "version", "handler", "session")
	isJSON(t, "id", m["id"], strconv.Quote(id))
	isJSON(t, "value", m["value"], string(mustJSON(t, payload)))
	isJSON(t, "bytes", m["bytes"], strconv.Itoa(len(payload)))
	isJSON(t, "handler", m["handler"], `"php"`)
	isJSON(t, "session", m["session"], `{"array":[[{"string":"visits"},{"int":"7"}],[{"string":"user"},{"string":"admin"}]]}`)
	if ttl := num(t, m, "ttl"); ttl > 500 || ttl < 400 {
		t.Errorf("ttl %v, want 500 or a little less", ttl)
	}
	// The node it names holds it, under the plain key and with the plain bytes.
	index := int(num(t, m, "index"))
	isJSON(t, "address", m["address"], strconv.Quote(servers[index].Addr()))
	if v := do(t, servers[index], "GET", "PHPREDIS_SESSION:"+id); v != payload {
		t.Errorf("the node holds %q", v)
	}
	located := x.run("locate", "--json", id).exits(exitDone).one()
	isJSON(t, "index by locate", located["index"], strconv.Itoa(index))

	if r := x.run("get", "--raw", id).exits(exitDone); r.out != payload {
		t.Errorf("get --raw writes %q", r.out)
	}
	r := x.run("get", id).exits(exitDone)
	for _, s := range []string{"visits: 7", `user: "admin"`, "handler", "php"} {
		if !strings.Contains(r.out, s) {
			t.Errorf("get lacks %q:\n%s", s, r.out)
		}
	}

	m = x.run("rm", "--json", id).exits(exitDone).one()
	hasFields(t, m, "id", "deleted", "existed")
	isJSON(t, "existed", m["existed"], "true")
	x.run("get", id).exits(exitFailed).says("session not found")
	isJSON(t, "existed the second time", x.run("rm", "--json", id).exits(exitDone).one()["existed"], "false")
	x.stdin("x").run("set", id).exits(exitFailed).says("session was destroyed")
	for _, s := range servers {
		if v := do(t, s, "EXISTS", "PHPREDIS_SESSION:"+id); v != int64(0) {
			t.Errorf("%s still holds it", s.Addr())
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := encodeJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGetValues(t *testing.T) {
	_, x := nodes(t, 2)
	binary := "\xff\xfe\x00" + "\x1b[31m"
	for id, data := range map[string]string{
		"text": "hello\nworld", "empty": "", "quotes": `<a href="x">&amp;</a>`, "unicode": "Zoë €", "nul": "a\x00b", "binary": binary,
	} {
		x.stdin(data).run("set", id).exits(exitDone)
		if r := x.run("get", "--raw", id).exits(exitDone); r.out != data {
			t.Errorf("%s: get --raw writes %q, want %q", id, r.out, data)
		}
		m := x.run("get", "--json", id).exits(exitDone).one()
		want := string(mustJSON(t, data))
		if id == "binary" {
			want = `{"base64":"` + base64.StdEncoding.EncodeToString([]byte(binary)) + `"}`
		}
		isJSON(t, id, m["value"], want)
		if _, is := m["handler"]; is {
			t.Errorf("%s: taken for a PHP payload: %v", id, m["handler"])
		}
		x.run("get", id).exits(exitDone) // the harness finds raw escape sequences
	}
	x.stdin("line\n").run("set", "feed").exits(exitDone).says("warning:", "line feed")
}

// Cases private-properties-with-nul and read-with-the-wrong-serializer: get shows what the bytes look like.
func TestGetPHP(t *testing.T) {
	_, x := nodes(t, 2)
	for handler, b64 := range map[string]string{
		"php":      "dXxPOjQ6IlVzZXIiOjM6e3M6NDoibmFtZSI7czo0OiJab8OrIjtzOjc6IgAqAHJvbGUiO3M6NToiYWRtaW4iO3M6ODoiAFVzZXIAcHciO3M6MjoiAHgiO30=",
		"igbinary": "AAAAAhQBEQF1FwRVc2VyFAMRBG5hbWURBFpvw6sRBwAqAHJvbGURBWFkbWluEQgAVXNlcgBwdxECAHg=",
	} {
		data, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			t.Fatal(err)
		}
		id := "payload-" + handler
		x.stdin(string(data)).run("set", id).exits(exitDone)
		m := x.run("get", "--json", id).exits(exitDone).one()
		isJSON(t, "handler", m["handler"], strconv.Quote(handler))
		isJSON(t, "session", m["session"], `{"array":[[{"string":"u"},{"id":1,"object":"User","properties":[["name","public",{"string":"Zoë"}],["role","protected",{"string":"admin"}],["pw","private:User",{"bytes_base64":"AHg="}]]}]]}`)
		r := x.run("get", id).exits(exitDone)
		for _, s := range []string{"class User", `name: "Zoë"`, `role (protected): "admin"`, `pw (private): "\x00x"`} {
			if !strings.Contains(r.out, s) {
				t.Errorf("%s: get lacks %q:\n%s", handler, s, r.out)
			}
		}
	}
}

func TestSetIfVersion(t *testing.T) {
	_, x := nodes(t, 2)
	first := x.stdin("a").run("set", "--json", "--if-version=", "session1").exits(exitDone).one()["version"].(string)
	x.stdin("b").run("set", "--if-version=", "session1").exits(exitFailed).says("changed by another")
	x.stdin("b").run("set", "--if-version", first, "session1").exits(exitDone)
	x.stdin("c").run("set", "--if-version", first, "session1").exits(exitFailed).says("changed by another")
	if r := x.run("get", "--raw", "session1").exits(exitDone); r.out != "b" {
		t.Errorf("it holds %q", r.out)
	}
}

func TestSetLifetimes(t *testing.T) {
	_, x := nodes(t, 1)
	for arg, want := range map[string]string{"--ttl=90m": "5400", "--ttl=7": "7", "--ttl=2147483647": "2147483647", "--json": "1440"} {
		m := x.stdin("x").run("set", "--json", arg, "session1").exits(exitDone).one()
		isJSON(t, "ttl with "+arg, m["ttl"], want)
	}
	x.env[savePathVariable] += "?lifetime=120"
	isJSON(t, "ttl", x.stdin("x").run("set", "--json", "session1").exits(exitDone).one()["ttl"], "120")
}

func TestPHPRedisLayout(t *testing.T) {
	servers, x := nodes(t, 2)
	x.env[savePathVariable] = redistest.SavePath(servers, "distribution=phpredis")
	const id = "r4t8w2y6u1i9o3p7a5"
	x.stdin("a|i:1;").run("set", id).exits(exitDone)
	m := x.run("get", "--json", id).exits(exitDone).one()
	isJSON(t, "index", m["index"], string(mustJSON(t, x.run("locate", "--json", id).exits(exitDone).one()["index"])))
	isJSON(t, "session", m["session"], `{"array":[[{"string":"a"},{"int":"1"}]]}`)
	if ttl := num(t, m, "ttl"); ttl < 1400 || ttl > 1440 {
		t.Errorf("ttl %v", ttl)
	}
	total := 0
	for _, s := range servers {
		n, err := s.DBSize()
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 1 {
		t.Errorf("%d keys on all nodes, PHP would have written 1", total)
	}
}

func TestGetManyAndMissing(t *testing.T) {
	_, x := nodes(t, 2)
	x.stdin("one").run("set", "first").exits(exitDone)
	x.stdin("two").run("set", "-second").exits(nothing)
	x.stdin("two").run("set", "--", "-second").exits(exitDone)
	r := x.stdin("first\nmissing\n-second\n").run("get", "--json", "-").exits(exitFailed).says("line 2", "session not found")
	if lines := r.lines(); len(lines) != 2 {
		t.Errorf("%d lines, want two", len(lines))
	}
	r = x.stdin("first\nmissing\n-second\n").run("rm", "-").exits(exitDone)
	if !strings.Contains(r.out, "removed 2 sessions") || !strings.Contains(r.out, "not there: 1") {
		t.Errorf("rm prints %q", r.out)
	}
}

const nothing = exitUsage // an id that begins with a dash is taken for a flag

// Case success-without-any-node.
func TestNoNode(t *testing.T) {
	servers := redistest.Nodes(t, 2)
	proxies := []*redistest.Proxy{redistest.ProxyTo(t, servers[0]), redistest.ProxyTo(t, servers[1])}
	x := newTool(t)
	x.env[savePathVariable] = "tcp://" + proxies[0].Addr() + ",tcp://" + proxies[1].Addr()
	for name, breakThem := range map[string]func(p *redistest.Proxy) error{
		"refused":    (*redistest.Proxy).Cut,
		"blackholed": func(p *redistest.Proxy) error { p.Blackhole(); return nil },
	} {
		for _, p := range proxies {
			if err := breakThem(p); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"get", "abcd"}, {"set", "abcd"}, {"rm", "abcd"}, {"get", "--json", "abcd"}, {"explain", "abcd"}} {
			begun := time.Now()
			r := x.stdin("data").run(args...).exits(exitFailed).says("no node answered", proxies[0].Addr(), proxies[1].Addr())
			// Twice the deadline of 2 s for commands that ask twice, and as much again for a busy machine.
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("%s: %v took %v", name, args, took)
			}
			if args[0] != "explain" && r.out != "" {
				t.Errorf("%s: %v prints %q", name, args, r.out)
			}
		}
		x.run("status").exits(exitFailed).says("2 of 2 nodes down")
		x.run("ls").exits(exitFailed)
		for _, p := range proxies {
			if err := p.Pass(); err != nil {
				t.Fatal(err)
			}
		}
	}
	x.stdin("data").run("set", "abcd").exits(exitDone)
}

func TestOneNodeDown(t *testing.T) {
	servers, x := nodes(t, 3)
	warm(t, x.env[savePathVariable])
	data := map[string]string{}
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprintf("session%d", i))
		data[ids[i]] = "data"
	}
	fill(t, x.env[savePathVariable], data)
	if err := servers[1].Kill(); err != nil {
		t.Fatal(err)
	}
	lines := x.stdin(strings.Join(ids, "\n")).run("get", "--json", "-").exits(exitDone).lines()
	if len(lines) != len(ids) {
		t.Errorf("%d of %d sessions are there", len(lines), len(ids))
	}
	for _, m := range lines {
		isJSON(t, "value", m["value"], `"data"`)
	}
	x.run("get", ownedBy(t, x.env[savePathVariable], 1)).exits(exitFailed).says("not found on the nodes that answered", servers[1].Addr())
	r := x.run("ls", "--json", "--ids").exits(exitFailed).says(servers[1].Addr())
	if n := len(r.lines()); n != 20 {
		t.Errorf("%d sessions listed, want 20 from the copies", n)
	}
	lines = x.run("explain", "--json", "session1").exits(exitDone).lines()
	unknown := 0
	for _, m := range lines {
		if m["state"] == "unknown" {
			unknown++
			isJSON(t, "index", m["index"], "1")
		}
	}
	if len(lines) != 3 || unknown != 1 {
		t.Errorf("%d lines, %d unknown", len(lines), unknown)
	}
}

func TestLs(t *testing.T) {
	servers, x := nodes(t, 3)
	want, data := map[string]bool{}, map[string]string{}
	for i := range 30 {
		id := fmt.Sprintf("session%02d-aaaaaaaaaaaaaaaaaaaa", i)
		want[id] = true
		data[id] = strings.Repeat("x", i)
	}
	fill(t, x.env[savePathVariable], data)
	for _, s := range servers { // what is no session of this save_path
		do(t, s, "SET", "PHPREDIS_SESSION:session00-aaaaaaaaaaaaaaaaaaaa_LOCK", "token", "PX", 60000)
		do(t, s, "SET", "PHPREDIS_SESSION:SHOP:abcdef", "x")
		do(t, s, "SET", "other:key", "x")
		do(t, s, "HSET", "PHPREDIS_SESSION:hash", "a", "b")
	}
	lines := x.run("ls", "--json", "--ids").exits(exitDone).lines()
	for _, m := range lines {
		hasFields(t, m, "id", "index", "address", "ttl", "bytes")
		id := m["id"].(string)
		if !want[id] {
			t.Errorf("%s is listed twice, or is none", id)
		}
		delete(want, id)
		isJSON(t, "address", m["address"], strconv.Quote(servers[int(num(t, m, "index"))].Addr()))
		isJSON(t, "bytes", m["bytes"], strconv.Itoa(len(data[id])))
		if ttl := num(t, m, "ttl"); ttl < 400 || ttl > 600 {
			t.Errorf("ttl %v", ttl)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
	masked := x.run("ls", "--json").exits(exitDone).hides("-aaaa")
	if n := len(masked.lines()); n != 30 {
		t.Errorf("%d lines masked", n)
	}
	x.run("ls").exits(exitDone).hides("-aaaa").says("30 sessions")
	if n := len(x.run("ls", "--json", "--limit", "7").exits(exitDone).lines()); n != 7 {
		t.Errorf("%d lines with --limit 7", n)
	}
	held := 0
	for i := range servers {
		held += len(x.run("ls", "--json", "--node", strconv.Itoa(i)).exits(exitDone).lines())
	}
	if held < 60 {
		t.Errorf("the nodes hold %d copies of 30 sessions", held)
	}
	x.run("ls", "--node", "3").exits(exitUsage)
}

// Case listing-blocks-the-server: only SCAN with a COUNT, also where ACL forbids KEYS.
func TestListingUsesScanOnly(t *testing.T) {
	server := redistest.Node(t, redistest.Options{Users: []redistest.User{{Name: "app", Password: "pw", Rules: "~* &* +@all -keys"}}})
	x := newTool(t)
	x.env[savePathVariable] = "tcp://" + server.Addr() + "?auth[user]=app&auth[pass]=pw"
	for i := range 1500 {
		do(t, server, "SET", fmt.Sprintf("PHPREDIS_SESSION:session%d", i), "x", "EX", 1000)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	monitor, err := server.Monitor(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(x.run("ls", "--json").exits(exitDone).lines()); n != 1500 {
		t.Errorf("%d sessions listed, want 1500", n)
	}
	isJSON(t, "sessions", x.run("status", "--json").exits(exitDone).one()["sessions"], "1500")
	commands, err := monitor.Commands(ctx)
	if err != nil {
		t.Fatal(err)
	}
	scans := 0
	for _, c := range commands {
		switch c.Name() {
		case "SCAN":
			scans++
			if !strings.Contains(strings.ToUpper(strings.Join(c.Args, " ")), " COUNT ") {
				t.Errorf("SCAN without COUNT: %v", c.Args)
			}
		case "KEYS", "FLUSHALL", "FLUSHDB":
			t.Errorf("sent %v", c.Args)
		}
	}
	if scans < 4 {
		t.Errorf("%d SCANs for two listings of 1500 keys in batches", scans)
	}
}

func TestExplain(t *testing.T) {
	servers, x := nodes(t, 3)
	warm(t, x.env[savePathVariable])
	const id = "r4t8w2y6u1i9o3p7a5"
	x.stdin("data").run("set", id).exits(exitDone)
	lines := x.run("explain", "--json", id).exits(exitDone).hides(id).lines()
	if len(lines) != 3 {
		t.Fatalf("%d lines for 3 nodes", len(lines))
	}
	owners := x.run("locate", "--json", id).exits(exitDone).one()["owners"].([]any)
	for i, m := range lines {
		hasFields(t, m, "id", "index", "address", "owner", "state", "newest", "version", "age", "ttl", "bytes")
		isJSON(t, "owner", m["owner"], strconv.FormatBool(i < 2))
		if i < 2 {
			isJSON(t, "index", m["index"], string(mustJSON(t, owners[i])))
			isJSON(t, "state", m["state"], `"present"`)
			isJSON(t, "newest", m["newest"], "true")
			isJSON(t, "bytes", m["bytes"], "4")
			if age := num(t, m, "age"); age < 0 || age > 60 {
				t.Errorf("age %v", age)
			}
		}
	}
	// Eviction takes one copy away: explain shows it, get serves the other, nothing is changed by looking.
	first := servers[int(num(t, lines[0], "index"))]
	do(t, first, "DEL", "PHPREDIS_SESSION:"+id)
	after := x.run("explain", "--json", id).exits(exitDone).lines()
	isJSON(t, "state", after[0]["state"], `"absent"`)
	isJSON(t, "state", after[1]["state"], `"present"`)
	isJSON(t, "index", x.run("get", "--json", id).exits(exitDone).one()["index"], string(mustJSON(t, lines[1]["index"])))
	if v := do(t, first, "EXISTS", "PHPREDIS_SESSION:"+id); v != int64(0) {
		t.Error("get wrote a copy")
	}
	x.run("rm", id).exits(exitDone)
	isJSON(t, "state", x.run("explain", "--json", id).exits(exitDone).lines()[0]["state"], `"destroyed"`)
	r := x.run("explain", id).exits(exitDone).hides(id)
	if !strings.Contains(r.out, "destroyed") {
		t.Errorf("explain prints\n%s", r.out)
	}
}
