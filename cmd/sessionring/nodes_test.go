package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

var statusFields = []string{
	"kind", "index", "node", "address", "up", "state", "error", "latency_ms", "version", "role", "primary", "cluster_member",
	"uptime", "used_memory", "max_memory", "eviction_policy", "evicted_keys", "persistence", "keys", "sessions", "first_owner",
	"misplaced", "weight", "weight_share", "share", "session_share", "debt", "whole_seconds", "rejoin", "warnings",
}

func TestStatusContract(t *testing.T) {
	servers := redistest.Nodes(t, 3)
	x := newTool(t)
	x.env[savePathVariable] = servers[0].SavePath("weight=1") + "," + servers[1].SavePath("weight=2") + "," + servers[2].SavePath("weight=1")
	warm(t, x.env[savePathVariable])
	sessions := map[string]string{}
	for i := range 200 {
		sessions[fmt.Sprintf("session%d", i)] = "data"
	}
	fill(t, x.env[savePathVariable], sessions)
	lines := x.run("status", "--json").exits(exitDone).lines()
	if len(lines) != 3 {
		t.Fatalf("%d lines for 3 nodes", len(lines))
	}
	sum := map[string]float64{}
	for i, m := range lines {
		hasFields(t, m, statusFields...)
		for name, want := range map[string]string{
			"kind": `"nodes"`, "index": strconv.Itoa(i), "address": strconv.Quote(servers[i].Addr()),
			"node": strconv.Quote("tcp://" + servers[i].Addr()), "up": "true", "state": `"up"`, "error": "null",
			"role": `"master"`, "primary": "null", "cluster_member": "false", "max_memory": "0", "eviction_policy": `"noeviction"`,
			"evicted_keys": "0", "misplaced": "0", "weight": []string{"1", "2", "1"}[i], "weight_share": []string{"0.25", "0.5", "0.25"}[i],
			"debt": "0", "whole_seconds": "0", "rejoin": "null", "warnings": "[]",
		} {
			isJSON(t, name, m[name], want)
		}
		for _, name := range []string{"latency_ms", "used_memory", "keys", "sessions", "first_owner"} {
			if num(t, m, name) <= 0 {
				t.Errorf("%s is %v", name, m[name])
			}
		}
		for _, name := range []string{"share", "session_share", "sessions", "first_owner"} {
			sum[name] += num(t, m, name)
		}
		if d := num(t, m, "share") - num(t, m, "weight_share"); d < -0.03 || d > 0.03 {
			t.Errorf("share %v against weight %v", m["share"], m["weight_share"])
		}
	}
	for name, want := range map[string]float64{"share": 1, "session_share": 1, "sessions": 400, "first_owner": 200} {
		if d := sum[name] - want; d < -0.001 || d > 0.001 {
			t.Errorf("%s is %v in all, want %v", name, sum[name], want)
		}
	}
	quick := x.run("status", "--json", "--quick").exits(exitDone).lines()
	isJSON(t, "sessions", quick[0]["sessions"], "null")
	r := x.run("status").exits(exitDone)
	for _, s := range servers {
		if !strings.Contains(r.out, s.Addr()) {
			t.Errorf("status lacks %s:\n%s", s.Addr(), r.out)
		}
	}
}

func TestStatusOfDeadAndHungNodes(t *testing.T) {
	servers, x := nodes(t, 3)
	warm(t, x.env[savePathVariable])
	if err := servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := servers[1].Pause(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	r := x.run("status", "--json").exits(exitFailed).says("2 of 3 nodes down", servers[0].Addr(), servers[1].Addr())
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	lines := r.lines()
	if len(lines) != 3 {
		t.Fatalf("%d lines for 3 nodes", len(lines))
	}
	for i, want := range []string{"false", "false", "true"} {
		hasFields(t, lines[i], statusFields...)
		isJSON(t, "up", lines[i]["up"], want)
	}
	isJSON(t, "state", lines[0]["state"], `"down"`)
	isJSON(t, "version", lines[0]["version"], "null")
	isJSON(t, "sessions", lines[0]["sessions"], "null")
	isJSON(t, "session_share of a live node", lines[2]["session_share"], "null") // of how many, nobody knows
	if e := lines[0]["error"].(string); !strings.Contains(e, "refused") {
		t.Errorf("error of the killed node: %s", e)
	}
	if e := lines[1]["error"].(string); !strings.Contains(e, "time") {
		t.Errorf("error of the hung node: %s", e)
	}
	r = x.run("doctor", "--json").exits(exitFailed)
	serious := 0
	for _, m := range r.lines() {
		hasFields(t, m, fieldsOfFinding(m)...)
		if m["level"] == levelError {
			serious++
		}
	}
	if serious != 2 {
		t.Errorf("doctor finds %d serious problems, want 2:\n%s", serious, r.out)
	}
}

// fieldsOfFinding: only findings about a node name one.
func fieldsOfFinding(m map[string]any) []string {
	f := []string{"index", "level", "problem", "remedy"}
	if m["index"] != nil {
		f = append(f, "node")
	}
	return f
}

// Case evicted-first-copy: the warning.
func TestStatusWarnsOfEviction(t *testing.T) {
	_, x := nodes(t, 2, redistest.Options{MaxMemory: 4 << 20, MaxMemoryPolicy: "allkeys-lru"}, redistest.Options{MaxMemory: 64 << 20, MaxMemoryPolicy: "volatile-ttl"})
	lines := x.run("status", "--json").exits(exitDone).says("warning: #0", "allkeys-lru", "noeviction", "warning: #1", "volatile-ttl").lines()
	isJSON(t, "eviction_policy", lines[0]["eviction_policy"], `"allkeys-lru"`)
	isJSON(t, "max_memory", lines[0]["max_memory"], "4194304")
	warnings := lines[0]["warnings"].([]any)
	if len(warnings) == 0 {
		t.Fatal("no warning in the JSON")
	}
	w := warnings[0].(map[string]any)
	hasFields(t, w, "index", "node", "level", "problem", "remedy")
	isJSON(t, "level", w["level"], `"warning"`)
}

func TestStatusShowsEvictedKeys(t *testing.T) {
	servers, x := nodes(t, 1, redistest.Options{MaxMemory: 3 << 20, MaxMemoryPolicy: "allkeys-lru"})
	big := strings.Repeat("x", 100_000)
	for i := range 60 {
		do(t, servers[0], "SET", "other:"+strconv.Itoa(i), big)
	}
	m := x.run("status", "--json").exits(exitDone).says("thrown out").one()
	if num(t, m, "evicted_keys") == 0 {
		t.Error("evicted_keys is 0")
	}
}

// Case replicas-listed-as-nodes.
func TestStatusOfReplica(t *testing.T) {
	primary := redistest.Node(t)
	replica := redistest.Node(t, redistest.Options{ReplicaOf: primary})
	poll(t, "the replica follows", func() bool {
		info, err := replica.Info("replication")
		return err == nil && info["master_link_status"] == "up"
	})
	x := newTool(t)
	x.env[savePathVariable] = redistest.SavePath([]*redistest.Server{primary, replica})
	r := x.run("status", "--json", "--quick").says("read-only replica", primary.Addr())
	m := r.lines()[1]
	isJSON(t, "role", m["role"], `"slave"`)
	isJSON(t, "primary", m["primary"], strconv.Quote(primary.Addr()))
	x.run("doctor").exits(exitFailed).says("serious")
	for i := range 8 { // of any share: the primary takes them
		id := "session" + strconv.Itoa(i)
		x.stdin("data").run("set", id).exits(exitDone)
		if v := do(t, primary, "GET", "PHPREDIS_SESSION:"+id); v != "data" {
			t.Errorf("the primary holds %v of %s", v, id)
		}
	}
}

// Case plain-path-to-a-cluster-node.
func TestPlainPathToClusterNodes(t *testing.T) {
	cluster := redistest.StartClusterFor(t, 3, 0)
	x := newTool(t)
	x.env[savePathVariable] = redistest.SavePath(cluster.Nodes[:2])
	r := x.run("status", "--json", "--quick").says("member of a Redis Cluster", "seed[]="+cluster.Nodes[0].Addr()+"&seed[]="+cluster.Nodes[1].Addr())
	for _, m := range r.lines() {
		isJSON(t, "cluster_member", m["cluster_member"], "true")
		if n := len(m["warnings"].([]any)); n != 1 {
			t.Errorf("%d warnings, want one: %v", n, m["warnings"])
		}
	}
	for _, args := range [][]string{{"get", "r4t8w2y6u1i9o3p7a5"}, {"set", "r4t8w2y6u1i9o3p7a5"}} {
		x.stdin("data").run(args...).exits(exitFailed).says("Redis Cluster", "seed[]=")
	}
	// In the right form it works.
	x.env[savePathVariable] = cluster.SavePath()
	m := x.stdin("data").run("set", "--json", "r4t8w2y6u1i9o3p7a5").exits(exitDone).one()
	isJSON(t, "index", m["index"], "0")
	m = x.run("get", "--json", "r4t8w2y6u1i9o3p7a5").exits(exitDone).one()
	isJSON(t, "value", m["value"], `"data"`)
	m = x.run("status", "--json").exits(exitDone).one()
	hasFields(t, m, statusFields...)
	isJSON(t, "kind", m["kind"], `"cluster"`)
	isJSON(t, "up", m["up"], "true")
	x.run("status").exits(exitDone)
	x.run("ls").exits(exitFailed).says("cannot be listed")
	x.run("rm", "r4t8w2y6u1i9o3p7a5").exits(exitDone)
	x.run("get", "r4t8w2y6u1i9o3p7a5").exits(exitFailed).says("not found")
}

func TestSentinel(t *testing.T) {
	primary := redistest.Node(t, redistest.Options{Password: "geheim"})
	group := redistest.StartSentinelFor(t, primary, nil, 3, 2, redistest.SentinelOptions{})
	x := newTool(t)
	x.env[savePathVariable] = "sentinel://" + strings.Join(group.Addrs(), ",") + "/mymaster?auth=geheim"
	x.stdin("data").run("set", "session1").exits(exitDone)
	if v := do(t, primary, "GET", "PHPREDIS_SESSION:session1"); v != "data" {
		t.Errorf("the primary holds %v", v)
	}
	isJSON(t, "value", x.run("get", "--json", "session1").exits(exitDone).hides("geheim").one()["value"], `"data"`)
	m := x.run("status", "--json").exits(exitDone).hides("geheim").one()
	isJSON(t, "kind", m["kind"], `"sentinel"`)
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	x.run("status", "--json").exits(exitFailed).hides("geheim")
}

// Cases database-out-of-range, password-plus-and-equals and acl-user: what a server refuses names node and remedy.
func TestRefusals(t *testing.T) {
	small := redistest.Node(t, redistest.Options{Databases: 8})
	locked := redistest.Node(t, redistest.Options{Password: "abXY/9+z=="})
	x := newTool(t)
	for _, c := range []struct {
		server *redistest.Server
		query  string
		says   []string
	}{
		{small, "database=8", []string{"DB index", "databases count from 0"}},
		{locked, "auth=falsch", []string{"auth"}},
		{locked, "timeout=1", []string{"auth"}},
	} {
		x.env[savePathVariable] = "tcp://" + c.server.Addr() + "?" + c.query
		for _, args := range [][]string{{"get", "abcd"}, {"set", "abcd"}, {"status", "--json"}} {
			says := append([]string{c.server.Addr()}, c.says...)
			r := x.stdin("data").run(args...).exits(exitFailed).says(says...).hides("falsch", "abXY")
			if args[0] == "status" {
				isJSON(t, "up", r.one()["up"], "false")
			}
		}
		if n, err := c.server.DBSize(); err != nil || n != 0 {
			t.Errorf("%d keys in database 0 (%v)", n, err)
		}
	}
	x.env[savePathVariable] = "tcp://" + locked.Addr() + "?auth=abXY/9%2Bz%3D%3D"
	x.stdin("data").run("set", "abcd").exits(exitDone)
}

func TestTLSAndUnix(t *testing.T) {
	server := redistest.Node(t, redistest.Options{TLS: true})
	x := newTool(t)
	for i, path := range []string{server.TLSSavePath(), server.UnixSavePath()} {
		x.env[savePathVariable] = path
		id := "session" + strconv.Itoa(i)
		m := x.stdin("data").run("set", "--json", id).exits(exitDone).one()
		want := x.run("inspect", "--json").exits(exitDone).one()["address"]
		isJSON(t, "address", m["address"], string(mustJSON(t, want)))
		isJSON(t, "value", x.run("get", "--json", id).exits(exitDone).one()["value"], `"data"`)
		isJSON(t, "up", x.run("status", "--json").exits(exitDone).one()["up"], "true")
	}
	x.env[savePathVariable] = "tls://" + server.TLSAddr()
	x.run("status").exits(exitFailed).says("certificate", "cafile")
}

func TestDoctor(t *testing.T) {
	_, x := nodes(t, 2, redistest.Options{AppendOnly: true, Host: "127.0.0.1"}, redistest.Options{AppendOnly: true, Host: "127.0.0.2"})
	r := x.run("doctor").exits(exitDone)
	if !strings.Contains(r.out, "2 nodes asked, nothing to mend") {
		t.Errorf("doctor of a sound ring prints\n%s", r.out)
	}
	if r := x.run("doctor", "--json").exits(exitDone); r.out != "" {
		t.Errorf("findings: %s", r.out)
	}
	single := x.env[savePathVariable][:strings.Index(x.env[savePathVariable], ",")]
	m := x.run("doctor", "--json", single).exits(exitDone).one()
	hasFields(t, m, "index", "level", "problem", "remedy")
	isJSON(t, "index", m["index"], "null")
	isJSON(t, "level", m["level"], `"warning"`)
}

// Whoever looks changes nothing: with a save_path that names one node of three, the tool must not declare that
// node complete, nor take copies away.
func TestLookingChangesNothing(t *testing.T) {
	servers, x := nodes(t, 3)
	all := x.env[savePathVariable]
	warm(t, all)
	sessions := map[string]string{}
	for i := range 50 {
		sessions["session"+strconv.Itoa(i)] = "data"
	}
	fill(t, all, sessions)
	if err := servers[0].RestartEmpty(context.Background()); err != nil {
		t.Fatal(err)
	}
	keys := func(s *redistest.Server) map[string]bool {
		m := map[string]bool{}
		for _, k := range do(t, s, "KEYS", "*").([]any) {
			m[k.(string)] = true
		}
		return m
	}
	var before []map[string]bool
	for _, s := range servers {
		before = append(before, keys(s))
	}
	for _, path := range []string{servers[0].SavePath(), all, all + "&copies=1", all + "?distribution=phpredis"} {
		path = strings.Replace(path, "&copies", "?copies", 1)
		x.run("status", "--json", path)
		x.run("ls", "--json", path)
		x.run("explain", "--json", path, "session1")
		x.run("get", "--json", path, "session1")
		x.run("doctor", path)
	}
	for i, s := range servers {
		after := keys(s)
		for k := range after {
			if !before[i][k] {
				t.Errorf("#%d has a new key: %s", i, k)
			}
		}
		for k := range before[i] {
			if !after[k] {
				t.Errorf("#%d has lost a key: %s", i, k)
			}
		}
	}
}
