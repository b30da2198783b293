package redistest

import (
	"context"
	"errors"
	"os"
	"time"
)

// TB is the part of testing.TB that the helpers need. It stands here so that
// programs which start servers do not carry the testing package.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// requireEnv set to 1, as in continuous integration, makes a missing server a
// failure instead of a skipped test.
const requireEnv = "SESSIONRING_REQUIRE"

// deploymentTimeout is generous: only agreement between processes is awaited.
const deploymentTimeout = 60 * time.Second

// Nodes starts n servers that end with the test. The i-th server takes the
// i-th options; the last given serve for the rest. The test is skipped where
// no server program is installed, unless $SESSIONRING_REQUIRE is 1.
func Nodes(t TB, n int, opts ...Options) []*Server {
	t.Helper()
	servers, err := StartNodes(context.Background(), n, opts...)
	if err != nil {
		skipOrFail(t, err)
	}
	for _, s := range servers {
		cleanUp(t, s)
	}
	return servers
}

// FindOrSkip skips the test, as Nodes does, where no server is installed.
func FindOrSkip(t TB) {
	t.Helper()
	if _, err := FindBinary(""); err != nil {
		skipOrFail(t, err)
	}
}

// Node starts one server that ends with the test, like Nodes.
func Node(t TB, opts ...Options) *Server {
	t.Helper()
	return Nodes(t, 1, opts...)[0]
}

// ProxyTo starts a proxy in front of a server. It ends with the test.
func ProxyTo(t TB, s *Server) *Proxy {
	t.Helper()
	p, err := NewProxy(s.Addr(), ProxyOptions{Host: s.Host()})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// DeadAddr returns an address that refuses connections for as long as the test
// runs.
func DeadAddr(t TB) string {
	t.Helper()
	p, err := ReservePort("")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(p.Release)
	return p.Addr()
}

func cleanUp(t TB, s *Server) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("server at %s is %s, the end of its log:\n%s", s.Addr(), s.State(), s.LogTail(8))
		}
		if err := s.Stop(); err != nil {
			t.Logf("stopping the server at %s: %v", s.Addr(), err)
		}
	})
}

func skipOrFail(t TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNoServer) && os.Getenv(requireEnv) != "1" {
		t.Skipf("needs a real server: %v", err)
	}
	t.Fatalf("%v", err)
}

// StartClusterFor starts a cluster that ends with the test.
func StartClusterFor(t TB, primaries, replicasPer int, opts ...Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deploymentTimeout)
	defer cancel()
	c, err := StartCluster(ctx, primaries, replicasPer, opts...)
	if err != nil {
		skipOrFail(t, err)
	}
	for _, s := range c.Nodes {
		cleanUp(t, s)
	}
	return c
}

// StartSentinelFor starts Sentinels that end with the test.
func StartSentinelFor(t TB, primary *Server, replicas []*Server, n, quorum int, opts SentinelOptions) *Sentinel {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deploymentTimeout)
	defer cancel()
	g, err := StartSentinel(ctx, primary, replicas, n, quorum, opts)
	if err != nil {
		skipOrFail(t, err)
	}
	for _, s := range g.Sentinels {
		cleanUp(t, s)
	}
	return g
}
