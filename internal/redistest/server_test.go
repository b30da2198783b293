//go:build unix

package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, s *Server, args ...any) any {
	t.Helper()
	v, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
	return v
}

func wantGet(t *testing.T, s *Server, key string, want any) {
	t.Helper()
	if got := do(t, s, "GET", key); got != want {
		t.Fatalf("GET %s = %v, want %v", key, got, want)
	}
}

func TestKillEndsTheProcessAndKeepsThePort(t *testing.T) {
	ctx := testContext(t)
	s := Node(t)
	pid, addr := s.PID(), s.Addr()
	do(t, s, "SET", "k", "v")
	must(t, s.Kill())
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal 0 to the killed process: %v, want ESRCH", err)
	}
	if s.State() != Down || s.PID() != 0 {
		t.Errorf("state %s, pid %d", s.State(), s.PID())
	}
	if _, err := Dial(ctx, "tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling a killed server: %v, want refused", err)
	}
	if err := s.Pause(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Pause of a killed server: %v", err)
	}
	must(t, s.Kill())
	must(t, s.Restart(ctx))
	if s.Addr() != addr || s.PID() == pid {
		t.Errorf("restarted as %d at %s", s.PID(), s.Addr())
	}
	wantGet(t, s, "k", nil) // nothing had been saved
}

func TestPauseHangsUntilResume(t *testing.T) {
	s := Node(t)
	c, err := Dial(testContext(t), "tcp", s.Addr())
	must(t, err)
	defer c.Close()
	must(t, s.Pause())
	if s.State() != Paused {
		t.Fatalf("state %s", s.State())
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Do(short, "SET", "k", "late"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("paused server answered: %v", err)
	}
	// The kernel goes on accepting.
	c2, err := Dial(testContext(t), "tcp", s.Addr())
	must(t, err)
	c2.Close()
	c.Close()
	must(t, s.Resume())
	// What was in the socket is carried out though its client has gone.
	eventually(t, func() bool { return do(t, s, "GET", "k") == "late" })
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 40 s")
		}
	}
}

func TestRestarts(t *testing.T) {
	ctx := testContext(t)
	t.Run("proper restart keeps data", func(t *testing.T) {
		s := Node(t)
		do(t, s, "SET", "k", "v", "EX", "1000")
		must(t, s.Restart(ctx))
		wantGet(t, s, "k", "v")
		must(t, s.Shutdown(ctx, false))
		if s.State() != Down {
			t.Errorf("state %s after Shutdown", s.State())
		}
		if err := s.Shutdown(ctx, true); !errors.Is(err, ErrNotRunning) {
			t.Errorf("second Shutdown: %v", err)
		}
	})
	t.Run("append only keeps data through kill", func(t *testing.T) {
		s := Node(t, Options{AppendOnly: true})
		do(t, s, "SET", "k", "v")
		must(t, s.Kill())
		must(t, s.Restart(ctx))
		wantGet(t, s, "k", "v")
		must(t, s.RestartEmpty(ctx))
		wantGet(t, s, "k", nil)
	})
	t.Run("empty", func(t *testing.T) {
		s := Node(t)
		do(t, s, "SET", "k", "v")
		do(t, s, "SAVE")
		must(t, s.RestartEmpty(ctx))
		if n, err := s.DBSize(); n != 0 || err != nil {
			t.Errorf("DBSize %d, %v", n, err)
		}
	})
	t.Run("paused is killed", func(t *testing.T) {
		s := Node(t)
		must(t, s.Pause())
		must(t, s.Restart(ctx))
		if s.State() != Running {
			t.Errorf("state %s", s.State())
		}
	})
}

func TestSnapshotBringsOldDataBack(t *testing.T) {
	for name, o := range map[string]Options{"rdb": {}, "aof": {AppendOnly: true}} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			s := Node(t, o)
			do(t, s, "SET", "k", "old")
			snap, err := s.SaveSnapshot(ctx)
			must(t, err)
			do(t, s, "SET", "k", "new")
			do(t, s, "SET", "k2", "new")
			must(t, s.Restart(ctx))
			wantGet(t, s, "k", "new")
			must(t, s.RestartWith(ctx, snap))
			wantGet(t, s, "k", "old")
			wantGet(t, s, "k2", nil)
			// A snapshot can be used again, and on another server.
			other := Node(t, o)
			must(t, other.RestoreSnapshot(snap))
			if other.State() != Down {
				t.Fatalf("state %s after RestoreSnapshot", other.State())
			}
			must(t, other.Restart(ctx))
			wantGet(t, other, "k", "old")
		})
	}
}

func TestSnapshotLeavesTheDiskAlone(t *testing.T) {
	ctx := testContext(t)
	s := Node(t)
	do(t, s, "SET", "k", "first")
	_, err := s.SaveSnapshot(ctx)
	must(t, err)
	must(t, s.Kill())
	must(t, s.Restart(ctx))
	wantGet(t, s, "k", nil) // never saved

	do(t, s, "SET", "k", "saved")
	do(t, s, "SAVE")
	do(t, s, "SET", "k", "not saved")
	snap, err := s.SaveSnapshot(ctx)
	must(t, err)
	must(t, s.Kill())
	must(t, s.Restart(ctx))
	wantGet(t, s, "k", "saved")
	must(t, s.RestartWith(ctx, snap))
	wantGet(t, s, "k", "not saved")
}

func TestStopIsFinalAndLeavesNothing(t *testing.T) {
	ctx := testContext(t)
	var log strings.Builder
	s := Node(t, Options{Log: &log})
	must(t, s.Pause())
	must(t, s.Stop())
	must(t, s.Stop())
	if s.State() != Stopped {
		t.Errorf("state %s", s.State())
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("directory is still there: %v", err)
	}
	for name, err := range map[string]error{
		"Restart": s.Restart(ctx), "RestartEmpty": s.RestartEmpty(ctx), "Kill": s.Kill(),
	} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s after Stop: %v", name, err)
		}
	}
	if !strings.Contains(log.String(), "Ready to accept connections") {
		t.Errorf("log not copied: %q", log.String())
	}
}

func TestAddresses(t *testing.T) {
	for host, prefix := range map[string]string{"": "127.0.0.1:", "127.0.0.2": "127.0.0.2:", "::1": "[::1]:"} {
		t.Run(prefix, func(t *testing.T) {
			if l, err := net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
				t.Skipf("this machine has no %s", host)
			} else {
				l.Close()
			}
			s := Node(t, Options{Host: host})
			if !strings.HasPrefix(s.Addr(), prefix) {
				t.Errorf("address %s", s.Addr())
			}
			c, err := Dial(testContext(t), "tcp", s.Addr())
			must(t, err)
			defer c.Close()
			if v, err := c.Do(testContext(t), "PING"); v != "PONG" {
				t.Errorf("PING = %v, %v", v, err)
			}
		})
	}
	if _, err := Start(t.Context(), Options{Host: "192.0.2.1"}); err == nil || errors.Is(err, ErrNoServer) {
		t.Errorf("a host that is not loopback: %v", err)
	}
}

func TestPasswordAndUsers(t *testing.T) {
	ctx := testContext(t)
	s := Node(t, Options{
		Password: `p "w\ d`,
		Users:    []User{{"default", "", "off"}, {"app", "s3cret", "~sess:* +@all"}},
	})
	do(t, s, "SET", "other", "v")
	c, err := Dial(ctx, "tcp", s.Addr())
	must(t, err)
	defer c.Close()
	var reply ReplyError
	if _, err := c.Do(ctx, "GET", "other"); !errors.As(err, &reply) || reply.Code() != "NOAUTH" {
		t.Errorf("without login: %v", err)
	}
	_, err = c.Do(ctx, "AUTH", "app", "s3cret")
	must(t, err)
	if _, err := c.Do(ctx, "GET", "other"); !errors.As(err, &reply) || reply.Code() != "NOPERM" {
		t.Errorf("outside the user's keys: %v", err)
	}

	p := Node(t, Options{Password: `p "w\ d`})
	if got, want := p.SavePath("weight=2"), "tcp://"+p.Addr()+"?auth=p+%22w%5C+d&weight=2"; got != want {
		t.Errorf("SavePath %s, want %s", got, want)
	}
	do(t, p, "PING")
	replica := Node(t, Options{ReplicaOf: p})
	do(t, p, "SET", "k", "v")
	eventually(t, func() bool { return do(t, replica, "GET", "k") == "v" })
}

func TestTLS(t *testing.T) {
	for _, clientCert := range []bool{false, true} {
		s := Node(t, Options{TLS: true, TLSClientCert: clientCert})
		config, err := s.Certificates().ClientConfig()
		must(t, err)
		ping := func(config *tls.Config) error {
			nc, err := tls.Dial("tcp", s.TLSAddr(), config)
			if err != nil {
				return err
			}
			defer nc.Close()
			_, err = NewConn(nc).Do(testContext(t), "PING")
			return err
		}
		must(t, ping(config))
		config.Certificates = nil
		if err := ping(config); (err != nil) != clientCert {
			t.Errorf("without a client certificate, asked for %v: %v", clientCert, err)
		}
		config.RootCAs = nil
		if err := ping(config); err == nil {
			t.Error("the system's authorities know the test's")
		}
	}
}

func TestSettings(t *testing.T) {
	ctx := testContext(t)
	s := Node(t, Options{
		Databases: 3, MaxMemory: 8 << 20, MaxMemoryPolicy: "volatile-lru",
		IdleTimeout: time.Second, Config: []string{"lua-time-limit 123"},
	})
	for name, want := range map[string]string{
		"databases": "3", "maxmemory": "8388608", "maxmemory-policy": "volatile-lru",
		"timeout": "1", "lua-time-limit": "123", "appendonly": "no",
	} {
		v := do(t, s, "CONFIG", "GET", name).([]any)
		if len(v) != 2 || v[1] != want {
			t.Errorf("%s is %v, want %s", name, v, want)
		}
	}
	info, err := s.Info("server")
	must(t, err)
	if info["tcp_port"] == "" || len(info["run_id"]) != 40 {
		t.Errorf("INFO server: %v", info)
	}
	do(t, s, "SET", "k", "v")
	must(t, s.FlushAll())
	if n, err := s.DBSize(); n != 0 || err != nil {
		t.Errorf("DBSize after FlushAll: %d, %v", n, err)
	}
	c, err := s.Connect(ctx)
	must(t, err)
	defer c.Close()
	if v, err := c.Do(ctx, "EVAL", "return {1, 'a', {false}, redis.error_reply('OOPS x')}", 0); err == nil {
		list := v.([]any)
		if list[0] != int64(1) || list[1] != "a" || list[2].([]any)[0] != nil || list[3] != ReplyError("OOPS x") {
			t.Errorf("nested reply %#v", v)
		}
	} else {
		t.Error(err)
	}
}

func TestStartErrors(t *testing.T) {
	if _, err := Start(t.Context(), Options{Binary: "no-such-server"}); !errors.Is(err, ErrNoServer) {
		t.Errorf("missing program: %v", err)
	}
	FindOrSkip(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	_, err := Start(t.Context(), Options{Config: []string{"no-such-directive 1"}})
	var se *StartError
	if !errors.As(err, &se) || !strings.Contains(se.Log, "no-such-directive") {
		t.Errorf("bad configuration: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled start: %v", err)
	}
	if left, err := os.ReadDir(tmp); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMonitor(t *testing.T) {
	ctx := testContext(t)
	s := Node(t)
	m, err := s.Monitor(ctx)
	must(t, err)
	c, err := Dial(ctx, "tcp", s.Addr())
	must(t, err)
	defer c.Close()
	binary := "a \"q\" \x00\xff\r\n]"
	for _, args := range [][]any{{"SELECT", 1}, {"set", "k", binary}, {"EVAL", "return redis.call('get', KEYS[1])", 1, "k"}} {
		_, err := c.Do(ctx, args...)
		must(t, err)
	}
	got, err := m.Commands(ctx)
	must(t, err)
	if len(got) != 4 {
		t.Fatalf("recorded %d commands: %v", len(got), got)
	}
	set := got[1]
	if set.Name() != "SET" || set.DB != 1 || set.Args[2] != binary || set.Source != c.NetConn().LocalAddr().String() {
		t.Errorf("SET recorded as %+v", set)
	}
	if got[3].Source != "lua" || time.Since(got[3].Time).Abs() > time.Hour {
		t.Errorf("call of the script recorded as %+v", got[3])
	}
	do(t, s, "PING")
	if n := len(m.Stop()); n < 4 {
		t.Errorf("%d commands after Stop", n)
	}
	if err := m.Wait(ctx, func(Command) bool { return false }); err == nil {
		t.Error("Wait on a stopped monitor")
	}
}
