package faults

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

const (
	// deadline of an operation. More than the default, since it is shared out to nodes, and where many tests share few
	// processors a node that was not given its turn must not pass for one that hangs.
	deadline = 4 * time.Second
	// margin is what a busy machine may add to a deadline: operations are only bounded, never timed.
	margin   = 5 * time.Second
	lifetime = 1440 * time.Second
)

// recovery bounds how long everything may take to be whole again. A broken core is not waited for as long.
var recovery = envDuration("SESSIONRING_RECOVERY", 60*time.Second)

// tracing has the nodes date what they keep on disk, so that a session's story can be told.
var tracing = os.Getenv("SESSIONRING_TRACE") == "1"

// shape is what a site consists of.
type shape struct {
	nodes, clients, copies int
	// apart: each client is a process of its own, with a clock of its own and its own way to every node.
	apart bool
	// spare: one more node runs that no client knows of at first.
	spare bool
	// rejoinRate bounds how fast nodes are brought up to date; 0: the default.
	rejoinRate int
}

func (s shape) String() string {
	out := fmt.Sprintf("nodes=%d,clients=%d", s.nodes, s.clients)
	if s.apart {
		out += ",processes"
	}
	if s.spare {
		out += ",lists"
	}
	if s.rejoinRate > 0 {
		out += ",slow"
	}
	return out
}

// skews are the errors of the clocks of application servers that are processes of their own.
var skews = []time.Duration{0, 365 * 24 * time.Hour, -365 * 24 * time.Hour, 7 * time.Minute, -7 * time.Minute}

// site is nodes and application servers, on which one fault after the other is tried.
type site struct {
	shape
	servers []*redistest.Server
	proxies [][]*redistest.Proxy // by client and node, where clients have their own ways
	apps    []App
	ring    *sessionring.Ring
	runs    int
}

func newSite(t *testing.T, sh shape) *site {
	t.Helper()
	n := sh.nodes
	if sh.spare {
		n++
	}
	opts := redistest.Options{AppendOnly: true}
	if tracing {
		opts.Config = []string{"aof-timestamp-enabled yes", "auto-aof-rewrite-percentage 0"}
	}
	s := &site{shape: sh, servers: redistest.Nodes(t, n, opts)}
	path := redistest.SavePath(s.servers[:sh.nodes])
	s.ring = ringOf(t, path, sh.copies)
	for i := range sh.clients {
		conf := AppConfig{Index: i, SavePath: path, Copies: sh.copies, Deadline: deadline, Lifetime: lifetime, RejoinRate: sh.rejoinRate}
		open := OpenApp
		if sh.apart {
			open = OpenProcess
			conf.Skew = skews[i%len(skews)]
			conf.Via = map[string]string{}
			var ways []*redistest.Proxy
			for _, n := range s.servers {
				p := redistest.ProxyTo(t, n)
				ways = append(ways, p)
				conf.Via[n.Addr()] = p.Addr()
			}
			s.proxies = append(s.proxies, ways)
		}
		app, err := open(conf)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := app.Close(); err != nil {
				t.Errorf("closing an application server: %v", err)
			}
		})
		s.apps = append(s.apps, app)
	}
	s.settle(t)
	return s
}

func ringOf(t *testing.T, path string, copies int) *sessionring.Ring {
	t.Helper()
	sp, err := sessionring.ParseSavePath(path)
	if err != nil {
		t.Fatal(err)
	}
	sp.Settings.Copies = copies
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// owners are the servers that should hold a session, the first owner first.
func (s *site) owners(id string) []int {
	var out []int
	nodes := s.ring.Nodes()
	for _, o := range s.ring.Owners(id) {
		out = append(out, slices.IndexFunc(s.servers, func(n *redistest.Server) bool { return n.Addr() == nodes[o].Address }))
	}
	return out
}

// settle waits until every client trusts every node and no session waits for a copy.
func (s *site) settle(t *testing.T) {
	t.Helper()
	waitUntil(t, "all nodes are up and no session waits for a copy", recovery, func() error {
		for i, a := range s.apps {
			v, err := a.View()
			if err != nil {
				return err
			}
			for _, n := range v.Nodes {
				if n.State != "up" || n.Debt != 0 {
					return fmt.Errorf("client %d: %s is %s, %d sessions wait for it, last error %s", i, n.Node, n.State, n.Debt, n.LastErr)
				}
			}
		}
		return nil
	})
}

func env(name string) string { return os.Getenv(name) }

func envDuration(name string, def time.Duration) time.Duration {
	if d, err := time.ParseDuration(env(name)); err == nil {
		return d
	}
	return def
}
