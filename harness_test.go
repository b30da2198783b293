package sessionring

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// patient bounds what a test waits for. It is no measure of speed: what it waits for either comes or never does.
const patient = 30 * time.Second

// fleet is a few real servers under names that stay the same in every test, so that one ring table serves all tests:
// building one takes seconds under the race detector.
type fleet struct {
	t       testing.TB
	servers []*redistest.Server
	names   []string // host:port in save_paths

	mu sync.Mutex
	at map[string]string // where a name leads now
}

func startFleet(t testing.TB, n int, opts ...redistest.Options) *fleet {
	t.Helper()
	return fleetOf(t, redistest.Nodes(t, n, opts...)...)
}

func fleetOf(t testing.TB, servers ...*redistest.Server) *fleet {
	f := &fleet{t: t, servers: servers, at: map[string]string{}}
	for i, s := range servers {
		f.names = append(f.names, fmt.Sprintf("host%d:6379", i+1))
		f.at[f.names[i]] = s.Addr()
	}
	return f
}

// dial is the network of the fleet: an option of every client of it.
func (f *fleet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	f.mu.Lock()
	to, ok := f.at[address]
	f.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no such host in this test: %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

// straight dials the servers themselves, past whatever proxies stand before them.
func (f *fleet) straight(ctx context.Context, network, address string) (net.Conn, error) {
	i := slices.Index(f.names, address)
	if i < 0 {
		return nil, fmt.Errorf("no such host in this test: %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, f.servers[i].Addr())
}

// lead makes a name lead elsewhere from the next dial on.
func (f *fleet) lead(i int, address string) {
	f.mu.Lock()
	f.at[f.names[i]] = address
	f.mu.Unlock()
}

// proxied puts a proxy before each server.
func (f *fleet) proxied() []*redistest.Proxy {
	var out []*redistest.Proxy
	for i, s := range f.servers {
		p := redistest.ProxyTo(f.t, s)
		f.lead(i, p.Addr())
		out = append(out, p)
	}
	return out
}

// path is the fleet's save_path, with parameters on the first entry.
func (f *fleet) path(params ...string) string {
	var entries []string
	for i, name := range f.names {
		e := "tcp://" + name + "?" + unhurried
		if i == 0 && len(params) > 0 {
			e += "&" + strings.Join(params, "&")
		}
		entries = append(entries, e)
	}
	return strings.Join(entries, ", ")
}

// unhurried are timeouts for tests that are not about them, on a machine that has other things to do.
const (
	unhurried       = "timeout=5&read_timeout=5"
	unhurriedBudget = 10 * time.Second
)

// open opens a client of the fleet that is closed with the test.
func (f *fleet) open(savePath string, opts ...Option) *Client {
	f.t.Helper()
	return openTest(f.t, savePath, append([]Option{WithDialer(f.dial)}, opts...)...)
}

// openTest is Open with shared tables and more time than usual.
func openTest(t testing.TB, savePath string, opts ...Option) *Client {
	t.Helper()
	c, err := Open(savePath, append([]Option{withSharedRings, WithDeadline(unhurriedBudget)}, opts...)...)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// up opens a client and waits until all nodes are up in its eyes.
func (f *fleet) up(savePath string, opts ...Option) *Client {
	f.t.Helper()
	c := f.open(savePath, opts...)
	waitUp(f.t, c)
	return c
}

func waitUp(t testing.TB, c *Client) {
	t.Helper()
	waitState(t, c, StateUp)
}

// waitState waits until the nodes given, or all, are in a state.
func waitState(t testing.TB, c *Client, want State, indexes ...int) {
	t.Helper()
	eventually(t, func() error {
		nodes := c.Nodes()
		if indexes == nil {
			for i := range nodes {
				indexes = append(indexes, i)
			}
		}
		for _, i := range indexes {
			if n := nodes[i]; n.State != want {
				return fmt.Errorf("%s is %s (%v), not %s", n.Node, n.State, n.LastErr, want)
			}
		}
		return nil
	})
}

// eventually polls until check is content.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	end := time.Now().Add(patient)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still after %v: %v", patient, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var sharedRings struct {
	sync.Mutex
	m map[string]*Ring
}

// withSharedRings has rings of the same nodes and weights share their table.
func withSharedRings(c *config) {
	c.newRing = func(sp *SavePath) (*Ring, error) {
		var key strings.Builder
		for _, n := range sp.Nodes {
			fmt.Fprintf(&key, "%s %d %q\n", n.ID(), n.Weight, n.Prefix)
		}
		fmt.Fprintf(&key, "%s %d", sp.Settings.Distribution, sp.Settings.Copies)
		sharedRings.Lock()
		defer sharedRings.Unlock()
		if r := sharedRings.m[key.String()]; r != nil {
			return r, nil
		}
		var table *Ring
		for _, r := range sharedRings.m {
			if r.table != nil && samePlaces(r.nodes, sp.Nodes) {
				table = r
			}
		}
		r, err := ringOver(sp, table)
		if err != nil {
			return nil, err
		}
		if sharedRings.m == nil {
			sharedRings.m = map[string]*Ring{}
		}
		sharedRings.m[key.String()] = r
		return r, nil
	}
}

// samePlaces reports whether two lists make the same table.
func samePlaces(a, b []Node) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID() != b[i].ID() || a[i].Weight != b[i].Weight {
			return false
		}
	}
	return true
}

// ringOver is NewRing with the table of another ring where there is one.
func ringOver(sp *SavePath, over *Ring) (*Ring, error) {
	if over == nil || sp.Settings.Distribution == PHPRedis {
		return NewRing(sp)
	}
	r := &Ring{nodes: sp.Nodes, distribution: Consistent, copies: sp.Settings.Copies, field: over.field, table: over.table}
	r.scratch.New = func() any { return new(scratch) }
	if r.copies == 0 {
		r.copies = DefaultCopies
	}
	r.copies = min(r.copies, len(r.field.contenders))
	return r, nil
}

// newID makes an id as PHP does: 26 characters of 5 bits.
func newID() string { return strings.ToLower(rand.Text()) }

// idOn makes an id whose first owners are the nodes given, in that order.
func idOn(c *Client, owners ...int) string {
	for {
		id := newID()
		got := c.Ring().AppendOwners(nil, id, len(owners))
		ok := true
		for i := range owners {
			ok = ok && got[i] == owners[i]
		}
		if ok {
			return id
		}
	}
}

// ctxOf ends with the test.
func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patient)
	t.Cleanup(cancel)
	return ctx
}

// do asks a server directly, past the client.
func do(t testing.TB, s *redistest.Server, args ...any) any {
	t.Helper()
	v, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
	return v
}

// pttl is what a key has left, in milliseconds: -1 no end, -2 no key.
func pttl(t testing.TB, s *redistest.Server, key string) int64 {
	t.Helper()
	return do(t, s, "PTTL", key).(int64)
}

// about checks a remaining lifetime, with a minute for a slow machine.
func about(t testing.TB, what string, gotMillis int64, want time.Duration) {
	t.Helper()
	if got := time.Duration(gotMillis) * time.Millisecond; got > want || got < want-time.Minute {
		t.Errorf("%s lives for %v, not %v", what, got, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// monitored records what every server of the fleet carries out.
func (f *fleet) monitored() []*redistest.Monitor {
	f.t.Helper()
	var out []*redistest.Monitor
	for _, s := range f.servers {
		m, err := s.Monitor(ctxOf(f.t))
		must(f.t, err)
		out = append(out, m)
	}
	return out
}

// sent returns the commands that clients sent to a server about an id, what scripts called left out.
func sent(t testing.TB, m *redistest.Monitor, id string) []string {
	t.Helper()
	cmds, err := m.Commands(ctxOf(t))
	must(t, err)
	var out []string
	for _, c := range cmds {
		if c.Source == "lua" || !strings.Contains(strings.Join(c.Args, " "), id) {
			continue
		}
		out = append(out, c.Name())
	}
	return out
}
