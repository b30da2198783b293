package sessionring

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The cases of the field that concern the save_path, with the names of the reports' collection.
func TestSavePathCasesFromTheField(t *testing.T) {
	t.Run("password-with-hash", func(t *testing.T) {
		sp := mustParse(t, "tcp://10.0.0.1:6379?auth=p?q/r#s")
		if got := authArgs(sp.Nodes[0].Auth); !slices.Equal(got, []string{"p?q/r#s"}) {
			t.Errorf("AUTH %q", got)
		}
	})
	t.Run("password-plus-and-equals", func(t *testing.T) {
		sp := mustParse(t, "tcp://10.0.0.1:6379?auth=abXY/9+z==")
		if got := authArgs(sp.Nodes[0].Auth); !slices.Equal(got, []string{"abXY/9 z=="}) {
			t.Errorf("AUTH %q", got)
		}
		mustWarn(t, sp, "+", "%2B", "blank")
		sp = mustParse(t, "tcp://10.0.0.1:6379?auth=abXY/9%2Bz%3D%3D")
		if got := authArgs(sp.Nodes[0].Auth); !slices.Equal(got, []string{"abXY/9+z=="}) || len(sp.Warnings) != 0 {
			t.Errorf("AUTH %q, %v", got, sp.Warnings)
		}
	})
	t.Run("decimal-comma-in-timeout", func(t *testing.T) {
		bad := mustRefuse(t, "tcp://10.0.0.1:6379?timeout=0,25&prefix=SHOP:&auth=x&database=0", "timeout", "above 0", "timeout=0.25", "offset 0,")
		if bad.Entries[0].Offset != 0 || bad.Entries[0].Index != 0 {
			t.Errorf("%+v", bad.Entries[0])
		}
		mustWarn(t, mustParse(t, "tcp://10.0.0.1:6379?timeout=2,5"), "timeout=2.5")
		// A list without schemes is none.
		if sp := mustParse(t, "tcp://10.0.0.1:6379?timeout=2,10.0.0.2:6379"); len(sp.Warnings) != 0 {
			t.Error(sp.Warnings)
		}
	})
	t.Run("socket-path-behind-tcp", func(t *testing.T) {
		for _, s := range []string{"tcp:///var/run/redis/redis.sock:6379", "tcp:///var/run/redis/redis.sock"} {
			bad := mustRefuse(t, s)
			if !strings.HasSuffix(bad.Entries[0].Remedy, " unix:///var/run/redis/redis.sock") {
				t.Errorf("%q: remedy %q", s, bad.Entries[0].Remedy)
			}
		}
	})
	t.Run("host-port-query-without-scheme", func(t *testing.T) {
		for _, s := range []string{"127.0.0.1:6479?database=5", "a_b:6479?database=5", "redis-1.example:6479?database=5"} {
			bad := mustRefuse(t, s, "needs a scheme")
			if !strings.HasSuffix(bad.Entries[0].Remedy, " tcp://"+s) {
				t.Errorf("%q: remedy %q", s, bad.Entries[0].Remedy)
			}
		}
	})
	t.Run("cluster-parameter-in-plain-path", func(t *testing.T) {
		s := "tcp://10.0.0.1:6379?timeout=2&failover=distribute,tcp://10.0.0.2:6379?timeout=2&failover=distribute"
		bad := mustRefuse(t, s, "failover", "Cluster", "copies=2")
		if len(bad.Entries) != 2 || bad.Entries[1].Offset != 50 {
			t.Errorf("%+v", bad.Entries)
		}
		sp := mustParse(t, s, Lenient())
		if len(sp.Nodes) != 2 || len(sp.Warnings) != 2 {
			t.Errorf("%v, %v", sp.Nodes, sp.Warnings)
		}
	})
	t.Run("ipv6-in-brackets", func(t *testing.T) {
		sp := mustParse(t, "tcp://[2001:db8::7]:6390?weight=2, tcp://[::1], tcp://::1:6391, tcp://[0:0:0:0:0:0:0:1]:6379")
		var got []string
		for _, n := range sp.Nodes {
			got = append(got, n.Address)
		}
		if want := []string{"[2001:db8::7]:6390", "[::1]:6379", "[::1]:6391", "[::1]:6379"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if a, b := sp.Nodes[1].ID(), sp.Nodes[3].ID(); a != b {
			t.Errorf("%s and %s are one node", a, b)
		}
		mustWarn(t, sp, "offset 35", "5.3.7")
		mustWarn(t, sp, "offset 64", "same database of the same server", "offset 35")
	})
	t.Run("acl-user-in-cluster-path", func(t *testing.T) {
		sp := mustParse(t, "seed[]=10.0.0.1:6379&seed[]=10.0.0.2:6379&auth[]=svc&auth[]=pw")
		if sp.Kind != KindCluster || len(sp.Nodes) != 2 {
			t.Fatalf("%v", sp)
		}
		for _, n := range sp.Nodes {
			if got := authArgs(n.Auth); !slices.Equal(got, []string{"svc", "pw"}) {
				t.Errorf("AUTH %q", got)
			}
		}
	})
	t.Run("tls-options-misplaced", func(t *testing.T) {
		s := "tls://10.0.0.1:6379?auth[user]=app&auth[pass]=pw&stream[local_cert]=file:///etc/c.crt" +
			"&stream[cafile=file]:///etc/ca.crt&stream[verify_peer_name]=0&verify_peer=0"
		bad := mustRefuse(t, s, "did you mean stream[verify_peer]?", "did you mean stream[cafile]?", "bracket")
		if len(bad.Entries) != 2 {
			t.Errorf("%+v", bad.Entries)
		}
		sp := mustParse(t, s, Lenient())
		want := StreamOptions{LocalCert: "/etc/c.crt", SkipVerifyName: true}
		if sp.Nodes[0].Stream != want || !sp.Nodes[0].TLS {
			t.Errorf("got %+v, want %+v", sp.Nodes[0].Stream, want)
		}
		mustWarn(t, sp, "verify_peer")
		mustWarn(t, sp, "stream[cafile]")
	})
	t.Run("replicas-listed-as-nodes", func(t *testing.T) {
		sp := mustParse(t, "tcp://10.0.0.11:6379?alias=master,tcp://10.0.0.12:6379?alias=slave")
		mustWarn(t, sp, "offset 0", "alias")
		mustWarn(t, sp, "offset 34", "alias", "replica")
	})
	t.Run("lifetime-over-31-bits", func(t *testing.T) {
		for s, want := range map[string]time.Duration{
			"144000000000": MaxLifetime, "2147483648": MaxLifetime, "99999999999999999999999": MaxLifetime,
			"2147483647": MaxLifetime, "0": DefaultLifetime, "-5": DefaultLifetime, "7200": 2 * time.Hour,
		} {
			sp := mustParse(t, "tcp://h?lifetime="+s)
			if sp.Settings.Lifetime != want {
				t.Errorf("lifetime=%s is %v, want %v", s, sp.Settings.Lifetime, want)
			}
			if warned := len(sp.Warnings) > 0; warned == (s == "7200" || s == "2147483647") {
				t.Errorf("lifetime=%s: warnings %v", s, sp.Warnings)
			}
		}
	})
}
