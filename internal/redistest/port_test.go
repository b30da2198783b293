package redistest

import (
	"net"
	"runtime"
	"strings"
	"testing"
)

func TestReservedPort(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		r, err := reservePort(host, true)
		if err != nil {
			if host == "127.0.0.1" {
				t.Fatal(err)
			}
			t.Logf("skipping %s: %v", host, err)
			continue
		}
		// Its owner can listen there, again and again.
		for range 2 {
			l, err := net.Listen("tcp", r.Addr())
			must(t, err)
			must(t, l.Close())
		}
		if runtime.GOOS == "linux" {
			if _, err := holdPort(net.ParseIP(host), r.port); err == nil {
				t.Error("reserved twice")
			}
			if _, err := holdPort(net.ParseIP(host), r.port+busOffset); err == nil {
				t.Error("bus port reserved twice")
			}
		}
		r.Release()
		h, err := holdPort(net.ParseIP(host), r.port)
		must(t, err)
		h.close()
	}
	if _, err := reservePort("example.com", false); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("reserving on a name: %v", err)
	}
}

func TestDeadAddr(t *testing.T) {
	addr := DeadAddr(t)
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Fatal("somebody answers")
		}
	}
}
