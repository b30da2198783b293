package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sessionring/sessionring"
)

// seedPath is the save_path that this project began with.
const seedPath = "tcp://host1:6379?weight=1&database=2, tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2"

var inspectFields = []string{
	"kind", "index", "network", "address", "weight", "database", "timeout", "read_timeout", "prefix", "username",
	"has_password", "tls", "persistent", "persistent_id", "retry_interval",
}

func TestInspectContract(t *testing.T) {
	x := newTool(t)
	r := x.run("inspect", seedPath, "--json").exits(exitDone)
	want := []string{
		`{"kind":"nodes","index":0,"network":"tcp","address":"host1:6379","weight":1,"database":2,"timeout":1,"read_timeout":1,"prefix":"PHPREDIS_SESSION:","username":null,"has_password":false,"tls":false,"persistent":false,"persistent_id":null,"retry_interval":0}`,
		`{"kind":"nodes","index":1,"network":"tcp","address":"host2:6379","weight":2,"database":null,"timeout":2.5,"read_timeout":1,"prefix":"PHPREDIS_SESSION:","username":null,"has_password":false,"tls":false,"persistent":false,"persistent_id":null,"retry_interval":0}`,
		`{"kind":"nodes","index":2,"network":"tcp","address":"host3:6379","weight":2,"database":null,"timeout":1,"read_timeout":1,"prefix":"PHPREDIS_SESSION:","username":null,"has_password":false,"tls":false,"persistent":false,"persistent_id":null,"retry_interval":0}`,
	}
	if got := strings.TrimSuffix(r.out, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("inspect --json prints\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	for _, m := range r.lines() {
		hasFields(t, m, inspectFields...)
	}
	if r.err != "" {
		t.Errorf("standard error: %s", r.err)
	}
}

func TestInspectFields(t *testing.T) {
	x := newTool(t)
	m := x.run("inspect", "--json", "tls://app.example:6390?auth[user]=svc&auth[pass]=geheim&database=0&prefix=SHOP:&persistent=1&persistent_id=web&read_timeout=2.5&retry_interval=100&weight=7").
		exits(exitDone).hides("geheim").one()
	for name, want := range map[string]string{
		"network": `"tcp"`, "address": `"app.example:6390"`, "weight": "7", "database": "0", "read_timeout": "2.5",
		"prefix": `"SHOP:"`, "username": `"svc"`, "has_password": "true", "tls": "true", "persistent": "true",
		"persistent_id": `"web"`, "retry_interval": "0.1",
	} {
		isJSON(t, name, m[name], want)
	}
	m = x.run("inspect", "--json", "unix:///var/run/redis.sock?weight=2").exits(exitDone).one()
	isJSON(t, "network", m["network"], `"unix"`)
	isJSON(t, "address", m["address"], `"/var/run/redis.sock"`)
}

func TestInspectKinds(t *testing.T) {
	x := newTool(t)
	lines := x.run("inspect", "--json", "seed[]=10.0.0.1:7000&seed[]=10.0.0.2:7001&auth[]=svc&auth[]=geheim&timeout=2").exits(exitDone).hides("geheim").lines()
	if len(lines) != 2 {
		t.Fatalf("%d lines for two seeds", len(lines))
	}
	for i, m := range lines {
		hasFields(t, m, inspectFields...)
		isJSON(t, "kind", m["kind"], `"cluster"`)
		isJSON(t, "index", m["index"], strconv.Itoa(i))
		isJSON(t, "address", m["address"], `"10.0.0.`+strconv.Itoa(i+1)+":700"+strconv.Itoa(i)+`"`)
		isJSON(t, "username", m["username"], `"svc"`)
	}
	lines = x.run("inspect", "--json", "sentinel://s1:26379,s2/mymaster?auth=geheim").exits(exitDone).hides("geheim").lines()
	if len(lines) != 2 {
		t.Fatalf("%d lines for two Sentinels", len(lines))
	}
	isJSON(t, "kind", lines[1]["kind"], `"sentinel"`)
	isJSON(t, "address", lines[1]["address"], `"s2:26379"`)
	isJSON(t, "master_name", lines[1]["master_name"], `"mymaster"`)
	for _, path := range []string{"seed[]=h:7000", "sentinel://s1,s2/mymaster"} {
		if r := x.run("inspect", path).exits(exitDone); r.out == "" {
			t.Errorf("inspect %s prints nothing", path)
		}
	}
}

// Cases of shared reports, sections 1 and 2.
func TestInspectCases(t *testing.T) {
	x := newTool(t)
	address := func(m map[string]any) any { return m["address"] }

	// password-with-hash
	m := x.run("inspect", "--json", "tcp://10.0.0.1:6379?auth=p?q/r#s").exits(exitDone).hides("p?q", "q/r", "r#s").one()
	isJSON(t, "has_password", m["has_password"], "true")
	// password-plus-and-equals
	x.run("inspect", "--json", "tcp://10.0.0.1:6379?auth=abXY/9+z==").exits(exitDone).says("%2B").hides("abXY", "9+z", "9 z")
	if r := x.run("inspect", "--json", "tcp://10.0.0.1:6379?auth=abXY/9%2Bz%3D%3D").exits(exitDone); r.err != "" {
		t.Errorf("a password written properly is warned of: %s", r.err)
	}
	// decimal-comma-in-timeout
	x.run("inspect", "tcp://10.0.0.1:6379?timeout=0,25&prefix=SHOP:&auth=x&database=0").exits(exitUsage).says("at byte 0", "timeout", "above 0", "timeout=0.25")
	// socket-path-behind-tcp
	x.run("inspect", "tcp:///var/run/redis/redis.sock:6379").exits(exitUsage).says("unix:///var/run/redis/redis.sock")
	// host-port-query-without-scheme
	x.run("inspect", "127.0.0.1:6479?database=5").exits(exitUsage).says("tcp://127.0.0.1:6479?database=5")
	// cluster-parameter-in-plain-path
	failover := "tcp://10.0.0.1:6379?timeout=2&failover=distribute,tcp://10.0.0.2:6379?timeout=2&failover=distribute"
	x.run("inspect", failover).exits(exitUsage).says("failover", "Cluster", "wrong in 2 places", "entry 2")
	r := x.run("inspect", "--json", "--lenient", failover).exits(exitDone)
	if n := strings.Count(r.err, "warning:"); len(r.lines()) != 2 || n != 2 {
		t.Errorf("%d nodes and %d warnings, want 2 and 2: %s", len(r.lines()), n, r.err)
	}
	// ipv6-in-brackets
	lines := x.run("inspect", "--json", "tcp://[2001:db8::7]:6390?weight=2, tcp://[::1], tcp://::1:6391").exits(exitDone).lines()
	for i, want := range []string{`"[2001:db8::7]:6390"`, `"[::1]:6379"`, `"[::1]:6391"`} {
		isJSON(t, "address", address(lines[i]), want)
	}
	// tls-options-misplaced
	tls := "tls://10.0.0.1:6379?auth[user]=app&auth[pass]=geheim&stream[local_cert]=file:///etc/c.crt&stream[cafile=file]:///etc/ca.crt&stream[verify_peer_name]=0&verify_peer=0"
	x.run("inspect", tls).exits(exitUsage).says("stream[verify_peer]", "cafile").hides("geheim")
	// replicas-listed-as-nodes
	x.run("inspect", "--lenient", "tcp://10.0.0.11:6379?alias=master,tcp://10.0.0.12:6379?alias=slave").exits(exitDone).says("alias")
}

func TestInspectTellsEveryMistake(t *testing.T) {
	x := newTool(t)
	r := x.run("inspect", "--json", "tcp://a:1?wieght=3, tcp://b:99999, tcp://c:1?auth=geheim&weight=0").exits(exitUsage).
		says("wrong in 3 places", "entry 1, at byte 0", "did you mean weight?", "entry 2, at byte 20", "entry 3, at byte 35", "→").hides("geheim")
	if r.out != "" {
		t.Errorf("standard output: %s", r.out)
	}
	x.run("inspect", "--lenient", "tcp://a:1?wieght=3").exits(exitDone).says("warning:", "wieght")
}

func TestSavePathSources(t *testing.T) {
	x := newTool(t)
	file := filepath.Join(t.TempDir(), "save_path")
	if err := os.WriteFile(file, []byte("# shop\ntcp://a:1?auth=geheim,\n\ntcp://b:2\n; end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, set := range []func(){
		func() {},
		func() { x.env[savePathVariable] = "tcp://other:1" }, // the argument wins
	} {
		set()
		if lines := x.run("inspect", "--json", "@"+file).exits(exitDone).hides("geheim").lines(); len(lines) != 2 {
			t.Errorf("%d nodes of @FILE, want 2", len(lines))
		}
	}
	x.env[savePathVariable] = "@" + file
	if lines := x.run("inspect", "--json").exits(exitDone).lines(); len(lines) != 2 {
		t.Errorf("%d nodes of the variable, want 2", len(lines))
	}
	// With the variable set, what is no save_path is an id.
	m := x.run("locate", "--json", "r4t8w2y6u1i9o3p7a5").exits(exitDone).one()
	isJSON(t, "id", m["id"], `"r4t8w2y6u1i9o3p7a5"`)
	if lines := x.run("locate", "--json", "r4t8w2y6u1i9o3p7a5", "second").exits(exitDone).lines(); len(lines) != 2 {
		t.Errorf("%d lines for two ids", len(lines))
	}
	m = x.run("locate", "--json", "tcp://other:9", "second").exits(exitDone).one()
	isJSON(t, "address", m["address"], `"other:9"`)
	if err := os.WriteFile(file, []byte("# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.run("inspect").exits(exitUsage).says("holds no save_path")
}

func TestLocateContract(t *testing.T) {
	x := newTool(t)
	ids := []string{"r4t8w2y6u1i9o3p7a5", "q7e3u5m1k9", "-starts-with-a-dash", "0,1"}
	sp, err := sessionring.ParseSavePath(seedPath)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		t.Fatal(err)
	}
	byArgument := x.run(append([]string{"locate", "--json", seedPath, "--"}, ids...)...).exits(exitDone)
	byInput := x.stdin(strings.Join(ids, "\r\n")).run("locate", "--json", seedPath, "-").exits(exitDone)
	if byArgument.out != byInput.out {
		t.Errorf("by argument\n%s, by standard input\n%s", byArgument.out, byInput.out)
	}
	lines := byArgument.lines()
	if len(lines) != len(ids) {
		t.Fatalf("%d lines for %d ids", len(lines), len(ids))
	}
	for i, m := range lines {
		hasFields(t, m, "id", "key", "index", "address", "owners")
		owners := ring.Owners(ids[i])
		isJSON(t, "id", m["id"], strconv.Quote(ids[i]))
		isJSON(t, "key", m["key"], strconv.Quote("PHPREDIS_SESSION:"+ids[i]))
		isJSON(t, "index", m["index"], strconv.Itoa(owners[0]))
		isJSON(t, "address", m["address"], strconv.Quote(sp.Nodes[owners[0]].Address))
		want, _ := json.Marshal(owners)
		isJSON(t, "owners", m["owners"], string(want))
	}
	m := x.run("locate", "--json", "--copies", "3", seedPath, ids[0]).exits(exitDone).one()
	if n := len(m["owners"].([]any)); n != 3 {
		t.Errorf("%d owners with --copies 3", n)
	}
	m = x.run("locate", "--json", "--copies", "1", seedPath+"&prefix=P:", ids[0]).exits(exitDone).one()
	if n := len(m["owners"].([]any)); n != 1 {
		t.Errorf("%d owners with --copies 1", n)
	}
	if r := x.run("locate", seedPath, ids[0]).exits(exitDone); !strings.Contains(r.out, "tcp://host") {
		t.Errorf("locate prints %q", r.out)
	}
}

// Case order-of-the-list, for the phpredis distribution; PHP 8.2 with phpredis 5.3.7 was seen to do so.
func TestLocatePHPRedis(t *testing.T) {
	x := newTool(t)
	const id = "r4t8w2y6u1i9o3p7a5"
	for path, want := range map[string]string{
		"tcp://a:6379, tcp://b:6379, tcp://c:6379":                               "a",
		"tcp://c:6379, tcp://b:6379, tcp://a:6379":                               "c",
		"tcp://a:6379?weight=1, tcp://b:6379?weight=5, tcp://c:6379?weight=2":    "b",
		"tcp://a:6379?weight=2, tcp://b:6379?weight=10, tcp://c:6379?weight=4":   "c",
		"tcp://a:6379?distribution=phpredis&copies=1,tcp://b:6379, tcp://c:6379": "a",
	} {
		m := x.run("locate", "--json", "--distribution", "phpredis", path, id).exits(exitDone).one()
		isJSON(t, "address of "+path, m["address"], strconv.Quote(want+":6379"))
		isJSON(t, "owners", m["owners"], "["+m["index"].(json.Number).String()+"]")
	}
	m := x.run("locate", "--json", "tcp://a:6379?distribution=phpredis, tcp://b:6379, tcp://c:6379", id).exits(exitDone).one()
	isJSON(t, "address", m["address"], `"a:6379"`)
	x.run("locate", "--json", "--distribution", "phpredis", "--copies", "2", "tcp://a:6379, tcp://b:6379", id).exits(exitDone).says("PHP writes one")
	x.run("locate", "--distribution", "phpredis", "tcp://a:6379, tcp://b:6379", "ab").exits(exitUsage).says("bad session id")
}

func TestLocateGoesOnAfterABadID(t *testing.T) {
	r := newTool(t).stdin("first\nbad id\n\nlast").run("locate", "--json", seedPath, "-").exits(exitUsage).says("line 2", "bad session id")
	if lines := r.lines(); len(lines) != 2 {
		t.Errorf("%d lines, want those of the two good ids", len(lines))
	}
	newTool(t).stdin(strings.Repeat("x", 100_000)).run("locate", seedPath, "-").exits(exitUsage).says("line 1")
}

func TestLocateNeedsARing(t *testing.T) {
	newTool(t).run("locate", "seed[]=h:7000&seed[]=h:7001", "abcd").exits(exitUsage).says("cluster")
}

// Case panic-when-scaling-up.
func TestManyNodes(t *testing.T) {
	x := newTool(t)
	path := func(n int, weight func(i int) int) string {
		var entries []string
		for i := range n {
			entries = append(entries, "tcp://10.1."+strconv.Itoa(i/250)+"."+strconv.Itoa(i%250+1)+":6379?weight="+strconv.Itoa(weight(i)))
		}
		return strings.Join(entries, ",")
	}
	one := func(int) int { return 1 }
	for _, n := range []int{1, 2, 3, 7} {
		now := path(n, one)
		if lines := x.run("inspect", "--json", now).exits(exitDone).lines(); len(lines) != n {
			t.Errorf("%d lines for %d nodes", len(lines), n)
		}
		x.run("locate", "--json", now, "abcd").exits(exitDone).one()
		m := x.run("plan", "--json", now, path(n+1, one)).exits(exitDone).one()
		if moved, least := num(t, m, "moved"), num(t, m, "minimum"); moved > 1/float64(n+1)*1.1 || moved < least {
			t.Errorf("%d to %d nodes moves %v, at least %v", n, n+1, moved, least)
		}
	}
	extreme := path(2, func(i int) int { return 1 + 999*i })
	x.run("locate", "--json", extreme, "abcd").exits(exitDone)
	x.run("locate", path(64, one), "abcd").exits(exitDone)
	if lines := x.run("inspect", "--json", path(500, one)).exits(exitDone).lines(); len(lines) != 500 {
		t.Errorf("%d lines for 500 nodes", len(lines))
	}
	x.run("locate", "tcp://a:1?weight=2147483647, tcp://b:1", "abcd").exits(exitDone)
	x.run("locate", "--distribution", "phpredis", "tcp://a:1?weight=2147483647, tcp://b:1", "abcd").exits(exitUsage).says("overflows")
}

func TestPlanContract(t *testing.T) {
	x := newTool(t)
	m := x.run("plan", "--json", "tcp://a:1,tcp://b:1", "tcp://a:1,tcp://c:1?weight=2").exits(exitDone).one()
	hasFields(t, m, "moved", "minimum", "between_unchanged", "per_node", "samples")
	moved, least, between := num(t, m, "moved"), num(t, m, "minimum"), num(t, m, "between_unchanged")
	if least < 0.6 || moved < least || moved > 0.8 || between != 0 {
		t.Errorf("moved %v, minimum %v, between %v", moved, least, between)
	}
	nodes := m["per_node"].([]any)
	if len(nodes) != 3 {
		t.Fatalf("%d nodes, want 3", len(nodes))
	}
	in, out := 0.0, 0.0
	for _, n := range nodes {
		n := n.(map[string]any)
		hasFields(t, n, "node", "old_index", "new_index", "old_share", "new_share", "in", "out")
		in += num(t, n, "in")
		out += num(t, n, "out")
	}
	if in < moved-1e-9 || in > moved+1e-9 || out < moved-1e-9 || out > moved+1e-9 {
		t.Errorf("in %v, out %v, moved %v", in, out, moved)
	}
	isJSON(t, "added", nodes[1].(map[string]any)["old_index"], "null")
	isJSON(t, "removed", nodes[2].(map[string]any)["new_index"], "null")
	if r := x.run("plan", "tcp://a:1,tcp://b:1", "tcp://a:1,tcp://c:1"); !strings.Contains(r.out, "added") || !strings.Contains(r.out, "removed") {
		t.Errorf("plan prints\n%s", r.out)
	}
}

// Case order-of-the-list, for the consistent distribution.
func TestPlanOrderDoesNotMatter(t *testing.T) {
	x := newTool(t)
	one, other := "tcp://a:6379, tcp://b:6379, tcp://c:6379", "tcp://c:6379, tcp://b:6379, tcp://a:6379"
	isJSON(t, "moved", x.run("plan", "--json", one, other).exits(exitDone).one()["moved"], "0")
	x.env[savePathVariable] = one
	isJSON(t, "moved", x.run("plan", "--json", other).exits(exitDone).one()["moved"], "0")
	m := x.run("plan", "--json", "--distribution", "phpredis", "--samples", "5000", one, other).exits(exitDone).one()
	isJSON(t, "samples", m["samples"], "5000")
	if moved := num(t, m, "moved"); moved < 0.6 || moved > 0.73 {
		t.Errorf("turning the list round moves %v with phpredis, want two thirds", moved)
	}
}
