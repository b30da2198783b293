package sessionring

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
)

// roundTrip sets, reads, touches and deletes one session.
func roundTrip(t testing.TB, c *Client) {
	t.Helper()
	ctx := ctxOf(t)
	id := newID()
	must(t, c.Set(ctx, id, []byte("v")))
	if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
		t.Fatalf("Get: %q, %v", got, err)
	}
	must(t, c.Touch(ctx, id))
	must(t, c.Delete(ctx, id))
	if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("after Delete: %v", err)
	}
}

func TestWaysToConnect(t *testing.T) {
	t.Parallel()
	plain := redistest.Node(t)
	secured := redistest.Node(t, redistest.Options{TLS: true, Password: "pass?#&/ word+"})
	mutual := redistest.Node(t, redistest.Options{TLS: true, TLSClientCert: true})
	users := redistest.Node(t, redistest.Options{Users: []redistest.User{
		{Name: "app", Password: "pw", Rules: "~PHPREDIS_SESSION:* ~sessionring:* &* +@all"},
		{Name: "default", Rules: "off"},
	}})
	certs := mutual.Certificates()
	withCert := fmt.Sprintf("tls://%s?stream[cafile]=%s&stream[local_cert]=%s&stream[local_pk]=%s&"+unhurried,
		mutual.TLSAddr(), certs.CAFile, certs.ClientCertFile, certs.ClientKeyFile)
	for name, path := range map[string]string{
		"tcp":                   plain.SavePath(),
		"bare host:port":        plain.Addr(),
		"unix socket":           plain.UnixSavePath(),
		"unix with database":    plain.UnixSavePath("database=3"),
		"redis URL":             "redis://" + plain.Addr() + "/4",
		"password":              secured.SavePath(),
		"unix with password":    secured.UnixSavePath(),
		"tls":                   secured.TLSSavePath("timeout=5", "read_timeout=5"),
		"tls with client cert":  withCert,
		"tls, file:// in paths": strings.ReplaceAll(withCert, "=/", "=file:///"),
		"rediss URL":            strings.Replace(withCert, "tls://", "rediss://", 1),
		"user, named":           "tcp://" + users.Addr() + "?auth[user]=app&auth[pass]=pw",
		"user, by place":        "tcp://" + users.Addr() + "?auth[]=app&auth[]=pw",
		"user in a URL":         "redis://app:pw@" + users.Addr(),
	} {
		t.Run(name, func(t *testing.T) {
			c := openTest(t, path)
			roundTrip(t, c)
			waitUp(t, c)
			must(t, c.Ping(ctxOf(t)))
			if info, err := c.ServerInfo(ctxOf(t), 0); err != nil || info.Version == "" || info.Role != "master" {
				t.Errorf("ServerInfo: %+v, %v", info, err)
			}
		})
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6 loopback")
	}
	l.Close()
	s := redistest.Node(t, redistest.Options{Host: "::1"})
	for _, path := range []string{
		fmt.Sprintf("tcp://[::1]:%d", s.Port()), fmt.Sprintf("tcp://[0:0:0:0:0:0:0:1]:%d", s.Port()), fmt.Sprintf("tcp://::1:%d", s.Port()),
	} {
		roundTrip(t, openTest(t, path))
	}
}

// A peer that cannot be verified is refused before a password is sent to it.
func TestTLSVerifies(t *testing.T) {
	t.Parallel()
	s := redistest.Node(t, redistest.Options{TLS: true})
	mutual := redistest.Node(t, redistest.Options{TLS: true, TLSClientCert: true})
	other, err := redistest.NewCertificates(t.TempDir(), "sessions.example")
	must(t, err)
	ca := s.Certificates().CAFile
	at := "tls://" + s.TLSAddr()
	noCert := "tls://" + mutual.TLSAddr() + "?stream[cafile]=" + mutual.Certificates().CAFile
	capath := t.TempDir()
	pem, err := os.ReadFile(ca)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(capath, "0a1b2c3d.0"), pem, 0o600))
	must(t, os.WriteFile(filepath.Join(capath, "README"), []byte("no certificate"), 0o600))

	for name, tc := range map[string]struct {
		path string
		ok   bool
	}{
		"own authority":                {at + "?stream[cafile]=" + ca, true},
		"directory of authorities":     {at + "?stream[capath]=" + capath, true},
		"system's authorities":         {at, false},
		"another authority":            {at + "?stream[cafile]=" + other.CAFile, false},
		"another name":                 {at + "?stream[cafile]=" + ca + "&stream[peer_name]=other.example", false},
		"name not looked at":           {at + "?stream[cafile]=" + ca + "&stream[peer_name]=other.example&stream[verify_peer_name]=0", true},
		"name not looked at, stranger": {at + "?stream[cafile]=" + other.CAFile + "&stream[verify_peer_name]=0", false},
		"nothing looked at":            {at + "?stream[verify_peer]=0", true},
		"self-signed, but it is not":   {at + "?stream[cafile]=" + other.CAFile + "&stream[allow_self_signed]=1", false},
		"no client certificate":        {noCert, false},
		"TLS to a plain port":          {"tls://" + s.Addr() + "?stream[cafile]=" + ca, false},
		"plain to a TLS port":          {"tcp://" + s.TLSAddr(), false},
	} {
		t.Run(name, func(t *testing.T) {
			c := openTest(t, tc.path)
			if tc.ok {
				roundTrip(t, c)
				return
			}
			ctx := ctxOf(t)
			eventually(t, func() error { // on a busy machine a handshake may take longer than the first operation has
				err := c.Set(ctx, newID(), []byte("v"))
				if !errors.Is(err, ErrNoNode) {
					t.Fatalf("Set: %v", err)
				}
				if strings.HasPrefix(tc.path, "tls") && tc.path != noCert && !strings.Contains(err.Error(), "TLS") {
					return fmt.Errorf("the error says nothing of TLS: %w", err)
				}
				return nil
			})
		})
	}

	// A certificate that signs itself is nobody's, and taken only where the entry says so.
	self := selfSigned(t)
	for params, ok := range map[string]bool{
		"": false, "?stream[allow_self_signed]=1": true, "?stream[verify_peer]=0": true,
		"?stream[allow_self_signed]=1&stream[peer_name]=other.example":                            false,
		"?stream[allow_self_signed]=1&stream[peer_name]=other.example&stream[verify_peer_name]=0": true,
		"?stream[verify_peer_name]=0&stream[peer_name]=other.example&stream[allow_self_signed]=0": false,
	} {
		c := openTest(t, "tls://"+self+params)
		err := c.Set(ctxOf(t), newID(), nil)
		failedTLS := err != nil && strings.Contains(err.Error(), "TLS")
		if failedTLS == ok {
			t.Errorf("self-signed with %q: %v", params, err)
		}
	}
}

// selfSigned listens with a certificate that signed itself, and speaks no Redis behind it.
func selfSigned(t testing.TB) string {
	cert := selfSignedCert(t, "127.0.0.1")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.(*tls.Conn).Handshake()
			nc.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestDatabasesAndPrefixes(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	f.names[0] += "?database=5&prefix=APP:"
	f.names[1] += "?database=2&prefix="
	f.at["host1:6379"], f.at["host2:6379"] = f.servers[0].Addr(), f.servers[1].Addr()
	path := "tcp://" + f.names[0] + "&" + unhurried + ", tcp://" + f.names[1] + "&" + unhurried
	for _, opt := range []Option{WithCopies(2), WithDistribution(PHPRedis)} {
		c := f.open(path, opt)
		waitUp(t, c)
		for range 20 {
			id := newID()
			must(t, c.Set(ctx, id, []byte("v")))
			for _, i := range c.Ring().Owners(id) {
				conn, err := f.servers[i].Connect(ctx)
				must(t, err)
				_, err = conn.Do(ctx, "SELECT", []int{5, 2}[i])
				must(t, err)
				if v, err := conn.Do(ctx, "GET", []string{"APP:", ""}[i]+id); err != nil || v != "v" {
					t.Fatalf("node %d: %v, %v", i, v, err)
				}
				conn.Close()
			}
			roundTrip(t, c)
		}
		for i, s := range f.servers {
			if n, err := s.DBSize(); err != nil || n != 0 {
				t.Errorf("node %d: %d keys in database 0, %v", i, n, err)
			}
		}
	}
}

// Two applications share a database, and one's prefix begins with the other's. Neither sees or ends the other's.
func TestPrefixesKeepApart(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	open := func(prefix string) *Client {
		return f.up("tcp://host1:6379?prefix=" + prefix + "&" + unhurried + ", tcp://host2:6379?prefix=" + prefix + "&" + unhurried)
	}
	short, long, plain := open("A:"), open("A:B:"), f.up(f.path())
	id := newID()
	for i, c := range []*Client{short, long, plain} {
		must(t, c.Set(ctx, id, []byte{byte('0' + i)}))
	}
	must(t, long.Delete(ctx, id))
	if _, err := long.Get(ctx, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	for i, c := range []*Client{short, nil, plain} {
		if c == nil {
			continue
		}
		if got, err := c.Get(ctx, id); err != nil || string(got) != string(rune('0'+i)) {
			t.Errorf("client %d: %q, %v", i, got, err)
		}
		n := 0
		for s, err := range c.Sessions(ctx) {
			if must(t, err); s.ID != id {
				t.Errorf("client %d lists %q", i, s.ID)
			}
			n++
		}
		if n != 1 {
			t.Errorf("client %d lists %d sessions", i, n)
		}
	}
}

// An ACL that allows no INFO still serves sessions.
func TestUserWithoutInfo(t *testing.T) {
	t.Parallel()
	users := redistest.Options{Users: []redistest.User{
		{Name: "app", Password: "pw", Rules: "~* &* +@all -info"}, {Name: "default", Rules: "off"},
	}}
	f := startFleet(t, 2, users)
	c := f.open("tcp://host1:6379?auth[user]=app&auth[pass]=pw, tcp://host2:6379?auth[user]=app&auth[pass]=pw")
	roundTrip(t, c)
	waitUp(t, c)
	ctx := ctxOf(t)
	id := newID()
	must(t, c.Set(ctx, id, []byte("1")))
	must(t, f.servers[c.Ring().Owner(id)].Kill())
	must(t, c.Set(ctx, id, []byte("2")))
	if got, err := c.Get(ctx, id); err != nil || string(got) != "2" {
		t.Errorf("with a node away: %q, %v", got, err)
	}
}

// Passwords and ids stay out of whatever is printed.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	s := redistest.Node(t, redistest.Options{Password: "s3cretword"})
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c, err := Open(s.SavePath(), WithLogger(logger))
	must(t, err)
	ctx := ctxOf(t)
	id := newID()
	must(t, c.Set(ctx, id, []byte("payload")))
	waitUp(t, c)
	must(t, s.Kill())
	_, err1 := c.Get(ctx, id)
	err2 := c.Set(ctx, id, []byte("payload"))
	err3 := c.Delete(ctx, id)
	waitState(t, c, StateDown)
	status, err := json.Marshal(c.Nodes())
	must(t, err)
	sp, err := json.Marshal(c.SavePath())
	must(t, err)
	shown := fmt.Sprintf("%v %v %v %s %s %v %+v %#v", err1, err2, err3, status, sp, c.SavePath(), c.Nodes(), c.SavePath())
	must(t, c.Close())
	shown += log.String()
	for _, secret := range []string{"s3cretword", id, "payload"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown in:\n%s", secret, shown)
		}
	}
	if !strings.Contains(log.String(), s.Addr()) {
		t.Errorf("the log does not say which node fell: %s", log.String())
	}
}

// The name of a host gets another address. New connections go there, no key moves, nothing is restarted.
func TestAddressBehindNameChanges(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(t *testing.T, old, fresh *redistest.Server){
		"stopped": func(t *testing.T, old, _ *redistest.Server) { must(t, old.Kill()) },
		"hung":    func(t *testing.T, old, _ *redistest.Server) { must(t, old.Pause()) },
		"replica": func(t *testing.T, old, fresh *redistest.Server) {
			do(t, old, "REPLICAOF", fresh.Host(), fresh.Port())
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFleet(t, 2)
			fresh := redistest.Node(t, redistest.Options{Host: "127.0.0.2"})
			ctx := ctxOf(t)
			c := f.up(f.path("copies=2"))
			var ids []string
			for range 50 {
				id := newID()
				ids = append(ids, id)
				must(t, c.Set(ctx, id, []byte(id)))
			}
			before := make([]int, len(ids))
			for i, id := range ids {
				before[i] = c.Ring().Owner(id)
			}
			f.lead(0, fresh.Addr())
			leave(t, f.servers[0], fresh)
			for i, id := range ids {
				got, err := c.Get(ctx, id)
				if err != nil || string(got) != id {
					t.Fatalf("while the name changes: %q, %v", got, err)
				}
				must(t, c.Set(ctx, id, []byte("new "+id)))
				if c.Ring().Owner(id) != before[i] {
					t.Fatal("a key moved")
				}
			}
			waitUp(t, c)
			eventually(t, func() error {
				for _, id := range ids {
					if v := do(t, fresh, "GET", DefaultPrefix+id); v != "new "+id {
						return fmt.Errorf("the new address holds %v", v)
					}
				}
				return nil
			})
		})
	}
}

func TestDialerGetsTheDeadline(t *testing.T) {
	t.Parallel()
	// A dialer that ends with its context only, as one does whose packets are dropped.
	c := openTest(t, "tcp://host1:6379?timeout=0.1", WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	if err := c.Set(ctxOf(t), newID(), nil); !errors.Is(err, ErrNoNode) || !errors.Is(err, ErrTimeout) {
		t.Errorf("Set: %v", err)
	}
	waitState(t, c, StateDown)
}
