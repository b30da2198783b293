package sessionring

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustParse(t testing.TB, s string, opts ...ParseOption) *SavePath {
	t.Helper()
	sp, err := ParseSavePath(s, opts...)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return sp
}

// mustRefuse checks that the error holds every word, and returns it.
func mustRefuse(t testing.TB, s string, words ...string) *SavePathError {
	t.Helper()
	sp, err := ParseSavePath(s)
	var bad *SavePathError
	if !errors.As(err, &bad) || !errors.Is(err, ErrSavePath) || sp != nil {
		t.Fatalf("%q: got %v, %v; want a *SavePathError", s, sp, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %q is not in the error:\n%v", s, word, err)
		}
	}
	return bad
}

// mustWarn checks that one warning holds every word.
func mustWarn(t testing.TB, sp *SavePath, words ...string) {
	t.Helper()
	for _, w := range sp.Warnings {
		missing := false
		for _, word := range words {
			missing = missing || !strings.Contains(w.String(), word)
		}
		if !missing {
			return
		}
	}
	t.Errorf("no warning has %q: %v", words, sp.Warnings)
}

func TestSavePathOfTheDocumentation(t *testing.T) {
	sp := mustParse(t, "tcp://host1:6379?weight=1&database=2, tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2")
	want := []Node{
		{Offset: 0, Address: "host1:6379", Weight: 1, Database: 2, Timeout: DefaultTimeout},
		{Offset: 38, Address: "host2:6379", Weight: 2, Database: -1, Timeout: 2500 * time.Millisecond},
		{Offset: 77, Address: "host3:6379", Weight: 2, Database: -1, Timeout: DefaultTimeout},
	}
	for i := range want {
		want[i].Index, want[i].Network = i, "tcp"
		want[i].ReadTimeout, want[i].Prefix = DefaultReadTimeout, DefaultPrefix
	}
	if !reflect.DeepEqual(sp.Nodes, want) || sp.Kind != KindNodes || len(sp.Warnings) != 0 || sp.Settings != (Settings{}) {
		t.Errorf("got  %#v\nwant %#v\nwarnings %v", sp.Nodes, want, sp.Warnings)
	}
}

func TestSavePathNamesEveryBadEntry(t *testing.T) {
	s := "tcp://a?weight=0, tcp://good, http://b, tcp://c:99999?timeout=1, tcp://d?weigth=2&prefx=x"
	bad := mustRefuse(t, s, "did you mean weight?", "did you mean prefix?")
	type place struct{ index, offset int }
	var got []place
	for _, e := range bad.Entries {
		got = append(got, place{e.Index, e.Offset})
		if e.Entry == "" || e.Problem == "" || e.Remedy == "" {
			t.Errorf("an empty field in %+v", e)
		}
		if !strings.HasPrefix(s[e.Offset:], e.Entry[:6]) {
			t.Errorf("offset %d is not where %q stands", e.Offset, e.Entry)
		}
		if !strings.Contains(bad.Error(), e.Entry) || !strings.Contains(bad.Error(), e.Remedy) {
			t.Errorf("%q is not in the text", e)
		}
	}
	if want := []place{{0, 0}, {2, 30}, {3, 40}, {4, 65}, {4, 65}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSavePathRefusals(t *testing.T) {
	for _, c := range []struct{ s, word string }{
		{"TCP://h", "write tcp://"},
		{"UNIX:///run/r.sock", "write unix:///run/r.sock"},
		{"unix://run/r.sock", "write unix:///run/r.sock"},
		{"unix:r.sock", "write unix:///"},
		{"unix:tcp://127.0.0.1", "slash"},
		{"/run/r.sock:80", "write unix:///run/r.sock:80"},
		{"http://h", "scheme http"},
		{"tcp:127.0.0.1:6379", "write tcp://127.0.0.1:6379"},
		{"tcp://::1", "write tcp://[::1]"},
		{"tcp://2001:db8::7", "write tcp://[2001:db8::7]"},
		{"2001:db8::7", "write tcp://[2001:db8::7]"},
		{"host=127.0.0.1:6379", "write tcp://127.0.0.1:6379"},
		{"localhost/3", "write tcp://localhost?database=3"},
		{"tcp://h_\u00e4:1", "no host name"},
		{"tcp://a..b", "no host name"},
		{"tcp://a;tcp://b", "comma"},
		{"tcp://256.1.1.1", "no IPv4 address"},
		{"tcp://-h", "no host name"},
		{"tcp://" + strings.Repeat("a", 64), "no host name"},
		{"unix:///" + strings.Repeat("a", 107), "108 bytes"},
		{"unix:///a://b", "://"},
		{"/", "no socket"},
		{"tcp:", "neither host nor path"},
		{"tcp://h\x00", "NUL"},
		{"redis://h/abc", "number of a database"},
		{"redis://h/1?database=2", "different databases"},
		{"redis://u@h", "no password"},
		{"redis://u:a%2@h", "%25"},
		{"redis://u:p@h?auth=p", "twice"},
		{"tcp://h?distribution=consistant", "did you mean distribution=consistent?"},
		{"tcp://h?copies=0", "copies=0"},
		{"tcp://h?copies=two", "copies=two"},
		{"tcp://h?copies[]=2", "array"},
		{"tcp://h?lifetime=1h", "lifetime=1h"},
		{"tcp://h?locking=perhaps", "locking=1"},
		{"tcp://h?lock_retries=-2", "lock_retries=-2"},
		{"tcp://h?lock_wait=0", "lock_wait=0"},
		{"tcp://h?deadline=1s", "deadline=1s"},
		{"tcp://h?deadline=inf", "deadline=inf"},
		{"tcp://a?copies=2, tcp://b?copies=3", "copies=3 disagrees with copies=2 of the entry at offset 0, tcp://a?copies=2"},
		{"tcp://a?locking=1, tcp://b?locking=off", "disagrees"},
		{"tcp://h?db=2", "did you mean database?"},
		{"tcp://h?password=2", "did you mean auth?"},
		{"tcp://h?Weight=2", "did you mean weight?"},
		{"tcp://h?wieght=2", "did you mean weight?"},
		{"tcp://h?weight=2&amp;database=3", "&amp;"},
		{"tcp://h?seed[]=a:1", "seed"},
		{"tcp://h?sentinel_auth=a", "sentinel"},
		{"tls://h?stream[cafle]=a", "did you mean stream[cafile]?"},
		{"tls://h?stream[]=a", "no option"},
		{"tls://h?stream[peer_fingerprint]=a", "not supported"},
		{"tls://h?stream[allow_self_signed]=false", "write 0"},
		{"tcp://h?=2", "no name"},
		{"tcp://h?" + strings.Repeat("a=1&", 1001), "1000 parameters"},
		{"tcp://a, sentinel://b/m", "stands alone"},
	} {
		mustRefuse(t, c.s, c.word)
	}
}

func TestSavePathSurprises(t *testing.T) {
	for _, c := range []struct {
		s    string
		word string
	}{
		{"tcp://h?weight=1.99", "read as 1"},
		{"tcp://h?read_timeout=inf", "default"},
		{"tcp://h/3", "path behind the host is ignored"},
		{"tcp://h?weight=2;database=3", "weight=2;database=3 is read as 2; only & parts"},
		{"tcp://u:p@h", "ignored"},
		{"tcp://h:08", "port is read as 8"},
		{"tcp://h:8x", "port is read as 8"},
		{"tcp://127.1", "127.0.0.1"},
		{"tcp://0x7f000001", "127.0.0.1"},
		{"tcp://0177.0.0.1", "127.0.0.1"},
		{"tcp://h#x", "dropped"},
		{"tcp:h", "dropped"},
		{"tcp:/run/r.sock", "socket"},
		{"tcp://[h]:1", "brackets"},
		{"tcp://h?timeout=1e999", "cut"},
		{"tcp://h?timeout=1e-9", "under a millisecond"},
		{"tcp://h?auth[user]=u", "no AUTH"},
		{"tcp://h?auth[]=1&auth[]=2&auth[]=3", "no AUTH"},
		{"tcp://h?auth[][]=1", "Array"},
		{"tcp://h?auth=", "empty"},
		{"tcp://h?prefix=a+b", "blank"},
		{"tcp://h?persistent=on", "false"},
		{"tcp://h?stream=x", "brackets"},
		{"tcp://h?stream[verify_peer]=0", "not used"},
		{"tls://h?stream[verify_peer]=0", "verify_peer=0"},
		{"tls://h?stream[verify_peer]=false", "is on"},
		{"tls://h?stream[ciphers]=x", "not read"},
		{"h?stream[cafile]=/x", "TLS"},
		{"tlsv1.3://h", "tls://"},
		{"redis://h", "phpredis"},
		{"tcp://h?distribution=phpredis&copies=2", "copies is read as 1"},
		{"tcp://h?copies=2, tcp://h2?distribution=phpredis", "copies is read as 1"},
		{"tcp://h, tcp://H:6379/", "same server"},
		{"unix:///a%20b", "stands for itself"},
	} {
		mustWarn(t, mustParse(t, c.s), c.word)
	}
	for _, s := range []string{
		"tcp://h", "tcp://h:6379?weight=2&timeout=.5&read_timeout=1e1&database=3&persistent=1&persistent_id=x&retry_interval=100",
		"unix:///run/r.sock?auth=p%2Cq", "/run/r.sock", "h:6379", "tls://h?auth[user]=u&auth[pass]=p", "h, h2 h3\th4",
		"tcp://h?persistent=0&weight=1", "tcp://h?distribution=phpredis&copies=1", "seed[]=h:7000", "sentinel://h/m",
	} {
		if sp := mustParse(t, s); len(sp.Warnings) != 0 {
			t.Errorf("%q: %v", s, sp.Warnings)
		}
	}
}

func TestSavePathRedisURL(t *testing.T) {
	n := mustParse(t, "rediss://us%65r:p%40ss%2Bw%20rd+@redis.example/3?weight=2").Nodes[0]
	if n.Address != "redis.example:6379" || !n.TLS || n.Database != 3 || n.Weight != 2 {
		t.Errorf("%+v", n)
	}
	if got := authArgs(n.Auth); !slices.Equal(got, []string{"user", "p@ss+w rd+"}) {
		t.Errorf("AUTH %q", got)
	}
	if got := authArgs(mustParse(t, "redis://:pw@h").Nodes[0].Auth); !slices.Equal(got, []string{"pw"}) {
		t.Errorf("AUTH %q", got)
	}
	if n := mustParse(t, "redis://h/2?database=2").Nodes[0]; n.Database != 2 || !n.Auth.Password.IsZero() {
		t.Errorf("%+v", n)
	}
}

func TestSavePathSettings(t *testing.T) {
	sp := mustParse(t, "tcp://a?distribution=phpredis&copies=1&lifetime=60, tcp://b?copies=1&locking=on&lock_expire=30&lock_wait=0.5&lock_retries=-1&deadline=1.5")
	on, retries := true, -1
	want := Settings{
		Distribution: PHPRedis, Copies: 1, Lifetime: time.Minute, Locking: &on, LockExpire: 30 * time.Second,
		LockWait: 500 * time.Millisecond, LockRetries: &retries, Deadline: 1500 * time.Millisecond,
	}
	if !reflect.DeepEqual(sp.Settings, want) {
		t.Errorf("got %+v, want %+v", sp.Settings, want)
	}
	if sp := mustParse(t, "tcp://a?distribution=phpredis&copies=3"); sp.Settings.Copies != 3 {
		t.Errorf("copies are %d, and stay as given", sp.Settings.Copies)
	}
}

func TestSavePathCluster(t *testing.T) {
	s := "seed[]=h1:7000&seed[]=[::1]:7001&seed[]=::1:7002&seed[]=h1:7000&seed[]=noport" +
		"&timeout=2&read_timeout=1.5&persistent=1&auth=pw&failover=none&lifetime=60&deadline=1"
	sp := mustParse(t, s)
	if sp.Kind != KindCluster || sp.Settings.Lifetime != time.Minute || sp.Settings.Deadline != time.Second {
		t.Errorf("%+v", sp)
	}
	var got []string
	for i, n := range sp.Nodes {
		got = append(got, n.Address)
		if n.Prefix != DefaultClusterPrefix || n.Timeout != 2*time.Second || n.ReadTimeout != 1500*time.Millisecond ||
			!n.Persistent || n.TLS || n.Index != i || !strings.HasPrefix(s[n.Offset:], "seed[]=") {
			t.Errorf("%+v", n)
		}
	}
	if want := []string{"h1:7000", "[::1]:7001", "[::1]:7002"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	mustWarn(t, sp, "skipped")

	sp = mustParse(t, "prefix=X&seed[a]=h:1&stream[cafile]=/ca.pem&failover=error")
	if n := sp.Nodes[0]; !n.TLS || n.Prefix != "X" || n.Stream.CAFile != "/ca.pem" {
		t.Errorf("stream[…] without a scheme means TLS: %+v", n)
	}
	mustWarn(t, sp, "failover")
	if n := mustParse(t, "seed[]=tls://h:1").Nodes[0]; !n.TLS || n.Address != "h:1" {
		t.Errorf("%+v", n)
	}

	for s, word := range map[string]string{
		"seed=h:1":                           "seed[]=host:port",
		"seed[]=noport":                      "host:port",
		"seed[]=h:1,seed[]=h:2":              "host",
		"seed[]=h:x":                         "port",
		"seed[]=h:1&read_timeout=-1":         "negative",
		"seed[]=h:1&timeout=-1":              "above 0",
		"seed[]=h:1&database=3":              "database",
		"seed[]=h:1&weight=3":                "weight",
		"seed[]=h:1&copies=3":                "copies",
		"seed[]=h:1&tiemout=3":               "did you mean timeout?",
		"seed[]=tls://h:1&seed[]=tcp://h2:1": "TLS",
		"seed[]=unix:///x:1":                 "tcp://",
	} {
		mustRefuse(t, s, word)
	}
	// A list of hosts with such a parameter is no cluster.
	if sp := mustParse(t, "tcp://h?weight=2&seed[]=x:1", Lenient()); sp.Kind != KindNodes || len(sp.Nodes) != 1 {
		t.Errorf("%v", sp)
	}
}

func TestSavePathSentinel(t *testing.T) {
	s := " sentinel://s1:26380, S2 ,[::1]:5,s1:26380/my%2Fmaster?auth[]=app&auth[]=data-pw&sentinel_auth=watch-pw&database=2&prefix=X:&timeout=2&lifetime=60"
	sp := mustParse(t, s)
	var got []string
	for i, n := range sp.Nodes {
		got = append(got, n.Address)
		if n.Index != i || n.Database != 2 || n.Prefix != "X:" || n.TLS || n.Timeout != 2*time.Second {
			t.Errorf("%+v", n)
		}
		if auth := authArgs(n.Auth); !slices.Equal(auth, []string{"app", "data-pw"}) {
			t.Errorf("AUTH of the data nodes: %q", auth)
		}
		if !strings.HasPrefix(s[n.Offset:], []string{"s1", "S2", "["}[i]) {
			t.Errorf("offset %d", n.Offset)
		}
	}
	if want := []string{"s1:26380", "S2:26379", "[::1]:5"}; !slices.Equal(got, want) || sp.MasterName != "my/master" {
		t.Errorf("got %q of %q, want %q", got, sp.MasterName, want)
	}
	if auth := authArgs(sp.SentinelAuth); !slices.Equal(auth, []string{"watch-pw"}) {
		t.Errorf("AUTH of the Sentinels: %q", auth)
	}
	sp = mustParse(t, "sentinel+tls://s1/m?sentinel_auth[user]=u&sentinel_auth[pass]=p&stream[cafile]=/ca.pem")
	if auth := authArgs(sp.SentinelAuth); !slices.Equal(auth, []string{"u", "p"}) || !sp.Nodes[0].TLS || sp.Nodes[0].Stream.CAFile != "/ca.pem" {
		t.Errorf("%+v", sp)
	}
	for s, word := range map[string]string{
		"sentinel://s1":                         "name of the monitored primary is missing",
		"sentinel://s1/":                        "name of the monitored primary is missing",
		"sentinel:///m":                         "no Sentinel",
		"sentinel://s1:0/m":                     "port",
		"sentinel://s1/m/3":                     "database=",
		"sentinel://u:p@s1/m":                   "sentinel_auth=",
		"sentinel://s1/m?auth=a,b":              "%2C",
		"sentinel://s1/m?weight=2":              "weight",
		"sentinel://s1/m?copies=2":              "copies",
		"sentinel://s1/m?sentinal_auth=x":       "did you mean sentinel_auth?",
		"sentinel://a b/m":                      "no host name",
		"sentinel://s1:x,s2/m?timeout=0":        "timeout",
		"sentinel://s1/m, sentinel://s2/m2?a=b": "",
	} {
		mustRefuse(t, s, word)
	}
}

func TestSavePathLimits(t *testing.T) {
	mustRefuse(t, strings.Repeat("h,", MaxSavePathLength/2)+"h", "1000001 bytes")
	mustRefuse(t, strings.Repeat("h,", MaxSavePathEntries+1), "4097 entries")
	sp := mustParse(t, strings.Repeat("tcp://h ", MaxSavePathEntries))
	if len(sp.Nodes) != MaxSavePathEntries {
		t.Errorf("%d nodes", len(sp.Nodes))
	}
	// A megabyte of nonsense ends, and in a text that fits on a screen or two.
	for _, s := range []string{
		"tcp://h?" + strings.Repeat("a&", 490000), "tcp://h?a" + strings.Repeat("[a]", 300000) + "=1", strings.Repeat(":", 1e6), strings.Repeat("tcp://", 1e5),
		"seed[]=" + strings.Repeat("&seed[]=", 1e5), "sentinel://" + strings.Repeat("a,", 4e5), "tcp://h?auth" + strings.Repeat("&x=[", 2e5),
		"tcp://" + strings.Repeat("@", 9e5), strings.Repeat("%", 1e6), "tcp://h?auth=" + strings.Repeat("+", 9e5), "tcp://h?" + strings.Repeat("=", 9e5),
	} {
		sp, err := ParseSavePath(s)
		if err != nil && len(err.Error()) > 10000 {
			t.Errorf("%.20s…: an error of %d bytes", s, len(err.Error()))
		}
		if sp != nil && len(sp.Warnings) > 100 {
			t.Errorf("%.20s…: %d warnings", s, len(sp.Warnings))
		}
	}
}

func TestNodeID(t *testing.T) {
	for s, want := range map[string]string{
		"tcp://Redis.Example:6379":          "tcp://redis.example:6379",
		"tls://redis.example?auth=x":        "tcp://redis.example:6379",
		"tcp://h?database=0":                "tcp://h:6379",
		"tcp://h?database=7&weight=3":       "tcp://h:6379?database=7",
		"tcp://[0:0::0:1]:7":                "tcp://[::1]:7",
		"tcp://[FE80::1%Eth0]:7":            "tcp://[fe80::1%Eth0]:7",
		"unix:///Run/r.sock":                "unix:///Run/r.sock",
		"/Run///r.sock":                     "unix:///Run/r.sock",
		"/run/r.sock?database=2&prefix=abc": "unix:///run/r.sock?database=2",
	} {
		if got := mustParse(t, s).Nodes[0].ID(); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
	for s, want := range map[string]string{
		"tcp://Redis.Example:6379": "redis.example", "tcp://[::1]:7": "::1", "unix:///run/r.sock?database=2": "/run/r.sock", "tcp://127.1": "127.0.0.1",
	} {
		if got := mustParse(t, s).Nodes[0].Host(); got != want {
			t.Errorf("%q: host %s, want %s", s, got, want)
		}
	}
}

func BenchmarkParseSavePath(b *testing.B) {
	ten := strings.Repeat("tcp://redis.example:6379?weight=2&timeout=2.5&auth[user]=app&auth[pass]=secret, ", 10)
	for _, c := range []struct{ name, s string }{{"3", "tcp://host1:6379?weight=1&database=2, tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2"}, {"10", ten}, {"1000", strings.Repeat(ten, 100)}} {
		b.Run("nodes="+c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.s)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseSavePath(c.s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
