package sessionring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

func TestOpenRefusesWrongSavePath(t *testing.T) {
	for _, s := range []string{
		"", " , ", "tcp://", "tcp://h:99999", "tcp://h?weight=0", "tcp://h?timeout=0,25", "tcp://h?nonsense=1",
		"tcp:///var/run/redis.sock:6379", "127.0.0.1:6379?database=5", "tcp://h?auth=s3cret&weight=-1",
		"tcp://a?copies=2, tcp://b?copies=3", "tcp://h?distribution=modulo", "tls://h?stream[cafile]=/does/not/exist",
	} {
		c, err := Open(s)
		if err == nil {
			c.Close()
			t.Errorf("Open(%q) succeeds", s)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Open(%q) shows the password: %v", s, err)
		}
		var sp *SavePathError
		if strings.HasPrefix(s, "tls") { // the string is right, the file is missing
			if !strings.Contains(err.Error(), "cafile") {
				t.Errorf("Open(%q): %v", s, err)
			}
		} else if !errors.Is(err, ErrSavePath) || !errors.As(err, &sp) || len(sp.Entries) == 0 {
			t.Errorf("Open(%q): %T %v", s, err, err)
		}
	}
}

func TestBadIDs(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	ctx := ctxOf(t)
	c, php := f.open(f.path()), f.open(f.path("distribution=phpredis"))
	long := strings.Repeat("a", MaxIDLength)
	bad := []string{"", long + "a", "a\x00b", "a\nb", "a b", "a\x7f", "a'b", `a"b`, `a\b`, "<a", "\x1b[31m", "a\tb"}
	for _, id := range bad {
		for name, op := range operations(c, id) {
			err := op(ctx)
			if !errors.Is(err, ErrID) {
				t.Errorf("%s of %q: %v", name, id, err)
			} else if len(id) > 2 && strings.Contains(err.Error(), id) {
				t.Errorf("%s: the error holds the id: %v", name, err)
			}
		}
	}
	for _, id := range []string{"ab", "a"} { // phpredis reads four bytes whatever the length
		if _, err := php.Get(ctx, id); !errors.Is(err, ErrID) {
			t.Errorf("phpredis, %q: %v", id, err)
		}
		if err := c.Set(ctx, id, nil); err != nil {
			t.Errorf("consistent, %q: %v", id, err)
		}
	}
	for _, id := range []string{long, "a", "-,-,", "ü€", "\xff\xfe", "a*b?[c]", "{x}"} {
		must(t, c.Set(ctx, id, []byte(id)))
		if got, err := c.Get(ctx, id); err != nil || string(got) != id {
			t.Errorf("id %q: %q, %v", id, got, err)
		}
	}
}

// operations are all that a client does with one id.
func operations(c *Client, id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Get":    func(ctx context.Context) error { _, err := c.Get(ctx, id); return err },
		"Set":    func(ctx context.Context) error { return c.Set(ctx, id, []byte("v")) },
		"Touch":  func(ctx context.Context) error { return c.Touch(ctx, id) },
		"Delete": func(ctx context.Context) error { return c.Delete(ctx, id) },
		"Lock": func(ctx context.Context) error {
			l, err := c.Lock(ctx, id)
			if err == nil {
				err = l.Unlock(ctx)
			}
			return err
		},
		"Store if new": func(ctx context.Context) error {
			_, err := c.Store(ctx, id, []byte("v"), SetOptions{IfVersion: new(Version)})
			return err
		},
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	ctx := ctxOf(t)
	c := f.open(f.path())
	id := newID()
	must(t, c.Set(ctx, id, []byte("small")))
	huge := make([]byte, MaxDataLength+1)
	if err := c.Set(ctx, id, huge); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Set of %d bytes: %v", len(huge), err)
	}
	if got, err := c.Get(ctx, id); err != nil || string(got) != "small" {
		t.Errorf("afterwards %q, %v", got, err)
	}
	if s := c.Nodes()[0].State; s != StateUp && s != StateReturning {
		t.Errorf("the node is %s", s)
	}
}

// A server with a smaller limit than Redis's own ends the connection on what is larger. That is an error of the
// write, which must not take the node down for everybody else.
func TestServerRefusesLargeValue(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1, redistest.Options{Config: []string{"proto-max-bulk-len 1mb"}})
	ctx := ctxOf(t)
	c := f.up(f.path())
	id := newID()
	must(t, c.Set(ctx, id, []byte("small")))
	if err := c.Set(ctx, id, make([]byte, 2<<20)); err == nil {
		t.Error("Set of 2 MB succeeds")
	} else if errors.Is(err, ErrNotFound) {
		t.Errorf("Set of 2 MB: %v", err)
	}
	eventually(t, func() error {
		got, err := c.Get(ctx, id)
		if err != nil || string(got) != "small" {
			return fmt.Errorf("afterwards %q, %w", got, err)
		}
		return nil
	})
}

func TestWrongTypeIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	for _, dist := range []string{"distribution=consistent", "distribution=phpredis", "copies=1"} {
		t.Run(dist, func(t *testing.T) {
			c := f.up(f.path(dist))
			for name := range operations(c, "x") {
				if name == "Lock" || name == "Touch" || (dist == "distribution=phpredis" && (name == "Set" || name == "Delete")) {
					continue // a lock has a key of its own; SETEX and DEL are what PHP sends
				}
				id := newID()
				key := DefaultPrefix + id
				owners := c.Ring().Owners(id)
				for _, i := range owners {
					do(t, f.servers[i], "RPUSH", key, "somebody", "else's")
				}
				err := operations(c, id)[name](ctx)
				var ne *NodeError
				if !errors.Is(err, ErrWrongType) || !errors.As(err, &ne) || !strings.HasPrefix(ne.Node, "tcp://host") {
					t.Errorf("%s: %v", name, err)
				}
				for _, i := range owners {
					if n := do(t, f.servers[i], "LLEN", key); n != int64(2) {
						t.Errorf("%s: the list on node %d has %v elements", name, i, n)
					}
					if ms := pttl(t, f.servers[i], key); ms != -1 {
						t.Errorf("%s: the list on node %d ends in %d ms", name, i, ms)
					}
				}
			}
			for _, n := range c.Nodes() {
				if n.State != StateUp {
					t.Errorf("%s is %s: %v", n.Node, n.State, n.LastErr)
				}
			}
		})
	}
}

func TestUnknownHost(t *testing.T) {
	t.Parallel()
	noSuch := func(ctx context.Context, network, address string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: "sessions.example", IsNotFound: true}}
	}
	c := openTest(t, "tcp://sessions.example:6379?auth=s3cret", WithDialer(noSuch))
	for name, op := range operations(c, newID()) {
		err := op(ctxOf(t))
		var no *NoNodeError
		var dns *net.DNSError
		if !errors.Is(err, ErrNoNode) || !errors.As(err, &no) || !errors.As(err, &dns) {
			t.Fatalf("%s: %v", name, err)
		}
		if msg := err.Error(); !strings.Contains(msg, "sessions.example") || !strings.Contains(msg, "host name not found") || strings.Contains(msg, "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing is there: every operation says so in time, names every node, and none of them claims success.
func TestNoNode(t *testing.T) {
	t.Parallel()
	for _, accept := range []redistest.Accept{redistest.Refuse, redistest.ResetNew, redistest.Ignore} {
		for _, params := range []string{"copies=1", "copies=2", "distribution=phpredis"} {
			f := startFleet(t, 2)
			for _, p := range f.proxied() {
				must(t, p.SetAccept(accept))
			}
			c := f.open(strings.ReplaceAll(f.path(params), unhurried, "timeout=0.5&read_timeout=0.5"), WithDeadline(400*time.Millisecond))
			for range 2 { // before and after the breakers are open
				for name, op := range operations(c, newID()) {
					start := time.Now()
					err := op(ctxOf(t))
					var no *NoNodeError
					if !errors.Is(err, ErrNoNode) || !errors.As(err, &no) {
						t.Errorf("%s, accept %d, %s: %v", name, accept, params, err)
						continue
					}
					for _, host := range f.names {
						if name == "Store if new" {
							continue // asks the one node that decides
						}
						if !strings.Contains(err.Error(), host) {
							t.Errorf("%s, accept %d, %s names no %s: %v", name, accept, params, host, err)
						}
					}
					if took := time.Since(start); took > patient/2 {
						t.Errorf("%s took %v", name, took)
					}
				}
			}
			waitState(t, c, StateDown)
			if _, err := c.Get(ctxOf(t), newID()); !errors.Is(err, ErrNoNode) {
				t.Errorf("with open breakers: %v", err)
			}
			if err := c.Ping(ctxOf(t)); err == nil {
				t.Error("Ping is content")
			}
		}
	}
}

func TestOpenBeforeRedis(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	for _, s := range f.servers {
		must(t, s.Kill())
	}
	ctx := ctxOf(t)
	for _, params := range []string{"copies=1", "copies=2", "distribution=phpredis"} {
		c := f.open(f.path(params))
		if _, err := c.Get(ctx, newID()); !errors.Is(err, ErrNoNode) {
			t.Fatalf("Get: %v", err)
		}
		for _, s := range f.servers {
			must(t, s.Restart(ctx))
		}
		waitUp(t, c)
		id := newID()
		must(t, c.Set(ctx, id, []byte("v")))
		if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
			t.Fatalf("Get: %q, %v", got, err)
		}
		for _, s := range f.servers {
			must(t, s.Kill())
		}
	}
}

// What only a person can mend: told at once, by name, and not taken for an outage of the network.
func TestPermanentErrors(t *testing.T) {
	t.Parallel()
	redistest.FindOrSkip(t)
	primary := redistest.Node(t)
	for _, tc := range []struct {
		name  string
		node  redistest.Options
		param string
		want  error
		say   string
	}{
		{"wrong password", redistest.Options{Password: "right"}, "auth=wrong", ErrAuth, "WRONGPASS"},
		{"no password", redistest.Options{Password: "right"}, "", ErrAuth, "NOAUTH"},
		{"wrong user", redistest.Options{Users: []redistest.User{{Name: "app", Password: "pw", Rules: "~* &* +@all"}, {Name: "default", Rules: "off"}}}, "auth[user]=other&auth[pass]=pw", ErrAuth, "WRONGPASS"},
		{"database", redistest.Options{Databases: 8}, "database=8", ErrDatabase, "DB index"},
		{"replica", redistest.Options{ReplicaOf: primary}, "", ErrReplica, "primary"},
		{"cluster member", redistest.Options{Config: []string{"cluster-enabled yes"}}, "", ErrClusterNode, "seed[]="},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := redistest.Node(t, tc.node)
			f := fleetOf(t, s)
			var states stateLog
			param := tc.param
			if param == "" {
				param = "weight=1"
			}
			c := f.open(f.path(param), WithHooks(Hooks{StateChange: states.add}), WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			ctx := ctxOf(t)
			for name, op := range operations(c, newID()) {
				err := op(ctx)
				if !errors.Is(err, tc.want) || !errors.Is(err, ErrNoNode) {
					t.Errorf("%s: %v", name, err)
					continue
				}
				msg := err.Error()
				if !strings.Contains(msg, f.names[0]) || !strings.Contains(msg, tc.say) {
					t.Errorf("%s says %q", name, msg)
				}
				if strings.Contains(msg, "right") || strings.Contains(msg, "auth=") || strings.Contains(msg, "pw") {
					t.Errorf("%s shows the password: %q", name, msg)
				}
			}
			waitState(t, c, StateDown)
			if err := c.Nodes()[0].LastErr; !errors.Is(err, tc.want) {
				t.Errorf("status says %v", err)
			}
			if tc.want != ErrClusterNode {
				if n, err := s.DBSize(); err != nil || n != 0 {
					t.Errorf("%d keys in database 0, %v", n, err)
				}
			}
			// It is not up and down by turns.
			for _, s := range states.all() {
				if s.To == StateUp {
					t.Errorf("went from %s to up", s.From)
				}
			}
		})
	}
}

type stateLog struct {
	mu  sync.Mutex
	log []StateChange
}

func (l *stateLog) add(s StateChange) {
	l.mu.Lock()
	l.log = append(l.log, s)
	l.mu.Unlock()
}

func (l *stateLog) all() []StateChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]StateChange(nil), l.log...)
}

// A primary and its replica are both in the list: writes land on the primary, and count there alone.
func TestReplicaListedAsNode(t *testing.T) {
	t.Parallel()
	primary := redistest.Node(t)
	replica := redistest.Node(t, redistest.Options{ReplicaOf: primary})
	f := fleetOf(t, primary, replica)
	ctx := ctxOf(t)
	for _, params := range []string{"copies=1", "copies=2", "distribution=phpredis"} {
		c := f.open(f.path(params))
		waitState(t, c, StateUp, 0)
		for range 20 {
			id := newID()
			must(t, c.Set(ctx, id, []byte("v")))
			if v := do(t, primary, "GET", DefaultPrefix+id); v != "v" {
				t.Fatalf("%s: the primary holds %v", params, v)
			}
			if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
				t.Fatalf("%s: %q, %v", params, got, err)
			}
			must(t, c.Delete(ctx, id))
		}
		if n := c.Nodes()[1]; n.State != StateDown || !errors.Is(n.LastErr, ErrReplica) || !strings.Contains(n.LastErr.Error(), primary.Addr()) {
			t.Errorf("%s: the replica is %s, %v", params, n.State, n.LastErr)
		}
	}
}

// A primary that becomes a replica while it is in use answers READONLY from then on.
func TestPrimaryBecomesReplica(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	ctx := ctxOf(t)
	c := f.up(f.path())
	id := idOn(c, 0, 1)
	must(t, c.Set(ctx, id, []byte("1")))
	do(t, f.servers[0], "REPLICAOF", f.servers[2].Host(), f.servers[2].Port())
	for i := range 10 {
		v := fmt.Sprint(i)
		must(t, c.Set(ctx, id, []byte(v)))
		if got, err := c.Get(ctx, id); err != nil || string(got) != v {
			t.Fatalf("%q, %v, want %q", got, err, v)
		}
	}
	waitState(t, c, StateDown, 0)
	if err := c.Nodes()[0].LastErr; !errors.Is(err, ErrReplica) {
		t.Errorf("status says %v", err)
	}
}

func TestMaxClients(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2, redistest.Options{Config: []string{"maxclients 4"}}, redistest.Options{})
	ctx := ctxOf(t)
	var taken []*redistest.Conn
	for range 8 {
		conn, err := redistest.Dial(ctx, "tcp", f.servers[0].Addr())
		must(t, err)
		defer conn.Close()
		taken = append(taken, conn)
	}
	c := f.open(f.path())
	id := newID()
	must(t, c.Set(ctx, id, []byte("v")))
	if got, err := c.Get(ctx, id); err != nil || string(got) != "v" {
		t.Fatalf("%q, %v", got, err)
	}
	waitState(t, c, StateDown, 0)
	if err := c.Nodes()[0].LastErr; err == nil || !strings.Contains(err.Error(), f.names[0]) {
		t.Errorf("status says %v", err) // the server's own words are often lost with the connection
	}
	for _, conn := range taken {
		conn.Close()
	}
	waitUp(t, c)
}

// A node that loads its data from disk answers everything with LOADING: it is away, and comes back by itself.
func TestLoading(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2, redistest.Options{AppendOnly: true, Config: []string{"key-load-delay 500", "loading-process-events-interval-bytes 1024"}}, redistest.Options{})
	ctx := ctxOf(t)
	c := f.up(f.path())
	id := newID()
	must(t, c.Set(ctx, id, []byte("v")))
	do(t, f.servers[0], "EVAL", "for i=1,800 do redis.call('SET','filler:'..i,string.rep('x',100)) end", 0)
	do(t, f.servers[0], "BGREWRITEAOF")
	eventually(t, func() error {
		info, err := f.servers[0].Info("persistence")
		if err == nil && info["aof_rewrite_in_progress"] != "0" {
			err = errors.New("still rewriting")
		}
		return err
	})
	must(t, f.servers[0].Kill())
	back := make(chan error, 1)
	go func() { back <- f.servers[0].Restart(ctx) }()
	for n := 0; ; n++ {
		v := fmt.Sprint(n)
		must(t, c.Set(ctx, id, []byte(v)))
		if got, err := c.Get(ctx, id); err != nil || string(got) != v {
			t.Fatalf("%q, %v, want %q", got, err, v)
		}
		select {
		case err := <-back:
			must(t, err)
		default:
			time.Sleep(time.Millisecond)
			continue
		}
		break
	}
	waitUp(t, c)
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	for _, params := range []string{"copies=1", "distribution=phpredis"} {
		t.Run(params, func(t *testing.T) {
			f := startFleet(t, 2)
			ctx := ctxOf(t)
			c := f.up(f.path(params))
			id := idOn(c, 0)
			must(t, c.Set(ctx, id, []byte("before")))
			do(t, f.servers[0], "CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
			var ne *NodeError
			for range 10 {
				if err := c.Set(ctx, id, []byte("after")); !errors.Is(err, ErrOutOfMemory) || !errors.As(err, &ne) || !strings.Contains(ne.Node, f.names[0]) {
					t.Fatalf("Set: %v", err)
				}
			}
			// The old session is what both nodes would serve: no stand-in copy beside it.
			if got, err := c.Get(ctx, id); err != nil || string(got) != "before" {
				t.Errorf("Get: %q, %v", got, err)
			}
			must(t, c.Touch(ctx, id))
			if s := c.Nodes()[0]; s.State != StateUp {
				t.Errorf("the node is %s: %v", s.State, s.LastErr)
			}
			must(t, c.Delete(ctx, id))
			if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
				t.Errorf("after Delete: %v", err)
			}
			do(t, f.servers[0], "CONFIG", "SET", "maxmemory", "0")
			must(t, c.Set(ctx, idOn(c, 0), []byte("again")))
		})
	}
	t.Run("copies=2", func(t *testing.T) {
		f := startFleet(t, 2)
		ctx := ctxOf(t)
		c := f.up(f.path())
		ids := []string{idOn(c, 0, 1), idOn(c, 1, 0)}
		for _, id := range ids {
			must(t, c.Set(ctx, id, []byte("before")))
		}
		do(t, f.servers[0], "CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
		for _, id := range ids {
			for i := range 5 {
				v := fmt.Sprint(i)
				must(t, c.Set(ctx, id, []byte(v)))
				if got, err := c.Get(ctx, id); err != nil || string(got) != v {
					t.Fatalf("Get: %q, %v, want %q", got, err, v)
				}
				must(t, c.Touch(ctx, id))
			}
		}
		if s := c.Nodes()[0]; s.State != StateUp && s.State != StateReturning {
			t.Errorf("the node is %s: %v", s.State, s.LastErr)
		}
		must(t, c.Delete(ctx, ids[0]))
		do(t, f.servers[0], "CONFIG", "SET", "maxmemory", "0")
		// The copy that is missing is made good by itself.
		eventually(t, func() error {
			if v := do(t, f.servers[0], "GET", DefaultPrefix+ids[1]); v != "4" {
				return fmt.Errorf("the node that was full holds %v", v)
			}
			if v := do(t, f.servers[0], "EXISTS", DefaultPrefix+ids[0]); v != int64(0) {
				return errors.New("the destroyed session is on the node that was full")
			}
			return nil
		})
		if _, err := c.Get(ctx, ids[0]); !errors.Is(err, ErrNotFound) {
			t.Errorf("destroyed: %v", err)
		}
	})
}

func TestReplyErrors(t *testing.T) {
	for _, tc := range []struct {
		msg  string
		want error
		kind verdict
	}{
		{"WRONGTYPE Operation against a key holding the wrong kind of value", ErrWrongType, verdictFine},
		{"OOM command not allowed when used memory > 'maxmemory'.", ErrOutOfMemory, verdictFull},
		{"ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.", ErrOutOfMemory, verdictFull},
		{"ERR Error running script (call to f_1): @user_script: 3: -READONLY You can't write against a read only replica.", ErrReplica, verdictFailed},
		{"NOAUTH Authentication required.", ErrAuth, verdictFailed},
		{"WRONGPASS invalid username-password pair or user is disabled.", ErrAuth, verdictFailed},
		{"ERR invalid password", ErrAuth, verdictFailed}, // Redis 5
		{"ERR Client sent AUTH, but no password is set", ErrAuth, verdictFailed},
		{"NOPERM this user has no permissions to run the 'get' command", ErrAuth, verdictFailed},
		{"READONLY You can't write against a read only replica.", ErrReplica, verdictFailed},
		{"ERR DB index is out of range", ErrDatabase, verdictFailed},
		{"ERR invalid DB index", ErrDatabase, verdictFailed},
		{"MOVED 3999 127.0.0.1:6381", ErrClusterNode, verdictFailed},
		{"LOADING Redis is loading the dataset in memory", nil, verdictFailed},
		{"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", nil, verdictFailed},
		{"BUSY Redis is busy running a script.", nil, verdictFailed},
		{"CLUSTERDOWN The cluster is down", nil, verdictFailed},
		{"ERR max number of clients reached", nil, verdictFailed},
		{"ERR value is not an integer or out of range", nil, verdictFine},
		{"NOSCRIPT No matching script. Please use EVAL.", nil, verdictFine},
		{"", nil, verdictFine},
	} {
		err := &NodeError{"tcp://h:6379", "get", replyError(tc.msg)}
		for _, s := range []error{ErrWrongType, ErrOutOfMemory, ErrAuth, ErrReplica, ErrDatabase, ErrClusterNode} {
			if errors.Is(err, s) != (s == tc.want) {
				t.Errorf("%q is %v: %v", tc.msg, s, !(s == tc.want))
			}
		}
		if got := judge(err); got != tc.kind {
			t.Errorf("%q: verdict %d, want %d", tc.msg, got, tc.kind)
		}
		if got := judge(redisError{errors.New(tc.msg)}); got != tc.kind {
			t.Errorf("%q by go-redis: verdict %d, want %d", tc.msg, got, tc.kind)
		}
	}
	for _, tc := range []struct {
		err  error
		want verdict
	}{
		{nil, verdictFine}, {brokenBy(io.EOF), verdictRetry}, {brokenBy(syscall.ECONNRESET), verdictRetry},
		{brokenBy(errProtocol), verdictFailed}, {ErrTimeout, verdictFailed}, {syscall.ECONNREFUSED, verdictFailed},
	} {
		if got := judge(tc.err); got != tc.want {
			t.Errorf("%v: verdict %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestErrorsMatch(t *testing.T) {
	no := &NoNodeError{Op: "get", Elapsed: 1500 * time.Millisecond}
	for i := range 12 {
		no.Nodes = append(no.Nodes, &NodeError{fmt.Sprintf("tcp://h%d:6379", i), "get", ErrTimeout})
	}
	no.Nodes[3].Err = replyError("WRONGPASS no")
	err := fmt.Errorf("load: %w", no)
	if !errors.Is(err, ErrNoNode) || !errors.Is(err, ErrAuth) || !errors.Is(err, ErrTimeout) || errors.Is(err, ErrDatabase) {
		t.Error(err)
	}
	if msg := err.Error(); !strings.Contains(msg, "after 1.5s") || !strings.Contains(msg, "h7") || !strings.Contains(msg, "and 4 more") || strings.Contains(msg, "h8:") {
		t.Error(msg)
	}
	miss := error(&missingError{[]string{"tcp://h:6379"}})
	if !errors.Is(miss, ErrNotFound) || !errors.Is(miss, ErrOwnerAway) || !strings.Contains(miss.Error(), "tcp://h:6379") {
		t.Error(miss)
	}
	if err := error(&ConflictError{}); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
}
