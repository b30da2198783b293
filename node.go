package sessionring

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Side keys. They stand on the same node as what they speak of. For the default prefix the id follows; for
// another prefix the whole key, so that two applications on one database never share a side key.
const (
	stampPrefix    = "sessionring:v:" // version or tombstone of an id
	stampKeyPrefix = "sessionring:k:" // the same, of a key under another prefix
	hintPrefix     = "sessionring:h:" // ids whose copy on the named node is missing or old
	markKey        = "sessionring:mark"
	leaseKey       = "sessionring:lease"
	progressKey    = "sessionring:rejoin" // how far the lease's holder is
)

// node is one Redis server (or, for cluster and sentinel strings, one engine) as an operation sees it.
type node struct {
	cfg     Node
	id      string
	scope   string // follows the side keys that are not of one id: which application's they are
	pipe    transport
	bulk    *pipe        // for large sessions; nil: pipe carries them too
	noBulk  atomic.Int64 // bulk is not to be tried before, Unix nanoseconds
	meeting sync.Mutex   // one new connection at a time tells whom it reached
	health  *health
	wg      *sync.WaitGroup
	dialer  func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config
	retired atomic.Bool        // no list names it any more
	cluster bool               // an engine whose keys have slots
	scripts atomic.Uint32      // bits of the scripts that the server has cached
	stop    context.CancelFunc // ends its watcher
}

// facts is what a node says of itself when a connection is made.
type facts struct {
	runID, version string
	replica        bool
	primary        string // of a replica
	cluster        bool
	mark           string    // value of the mark key
	time           time.Time // of the node's clock; zero: not told
	noInfo         bool      // INFO is not allowed to this user
}

// is reports whether both are one node, keys and all: after a change of password or timeouts two objects are, for as long
// as what was begun with the old one goes on.
func (n *node) is(o *node) bool {
	return n == o || n.id == o.id && n.cfg.Prefix == o.cfg.Prefix
}

func (n *node) key(id string) string { return n.cfg.Prefix + id }

func (n *node) stampKey(id string) string {
	if n.cluster {
		return stampKeyPrefix + n.slotTag(id)
	}
	if n.cfg.Prefix == DefaultPrefix {
		return stampPrefix + id
	}
	return stampKeyPrefix + n.cfg.Prefix + id
}

func (n *node) lockKey(id string) string {
	if n.cluster {
		return n.slotTag(id) + "_LOCK"
	}
	return n.cfg.Prefix + id + "_LOCK"
}

// slotTag is the key in the form whose Redis Cluster slot is the key's own: the hash tag is what is between
// the first { and the next } (Redis Cluster specification, "Hash tags").
func (n *node) slotTag(id string) string {
	key := n.key(id)
	if i := strings.IndexByte(key, '{'); i >= 0 && strings.IndexByte(key[i:], '}') > 1 {
		return key
	}
	return "{" + key + "}"
}

// send hands a call to the node outside any fan.
func (n *node) send(c *call, buf []byte) { sendBy(n.pipe, c, buf) }

func sendBy(way transport, c *call, buf []byte) {
	if cn := way.send(c, buf); cn != nil {
		cn.flush()
	}
}

// appendKey and appendStampKey append the keys of an id as arguments.
func (n *node) appendKey(b []byte, id string) []byte { return appendJoined(b, n.cfg.Prefix, id) }

func (n *node) appendStampKey(b []byte, id string) []byte {
	switch {
	case n.cluster:
		return appendArg(b, n.stampKey(id))
	case n.cfg.Prefix == DefaultPrefix:
		return appendJoined(b, stampPrefix, id)
	}
	return appendJoined(b, stampKeyPrefix, n.cfg.Prefix, id)
}

// hintKey is where ids wait for another node.
func (n *node) hintKey(other *node) string { return hintPrefix + n.scope + other.id }

// knows reports whether the node is known to have the script cached.
func (n *node) knows(s *script) bool { return n.scripts.Load()&s.bit != 0 }

func (n *node) learned(s *script) {
	if s != nil && !n.knows(s) {
		n.scripts.Or(s.bit)
	}
}

func (n *node) forgetScripts() { n.scripts.Store(0) }

func (n *node) markKey() string  { return markKey + n.scope }
func (n *node) leaseKey() string { return leaseKey + n.scope }

func (n *node) progressKey() string { return progressKey + n.scope }

func (n *node) err(op string, cause error) *NodeError {
	return &NodeError{Node: n.id, Op: op, Err: cause}
}

// failure is err as this node's, named once.
func (n *node) failure(op string, err error) *NodeError {
	var known *NodeError
	if errors.As(err, &known) {
		return known
	}
	return n.err(op, err)
}

func newNode(cfg Node, conf *config, wg *sync.WaitGroup) (*node, error) {
	n := &node{cfg: cfg, id: cfg.ID(), wg: wg, dialer: conf.dialer}
	if cfg.Prefix != DefaultPrefix {
		n.scope = "|" + cfg.Prefix + "|"
	}
	if n.dialer == nil {
		d := &net.Dialer{KeepAlive: 30 * time.Second}
		n.dialer = d.DialContext
	}
	if cfg.TLS {
		t, err := tlsConfig(cfg)
		if err != nil {
			return nil, &NodeError{n.id, "tls", err}
		}
		n.tls = t
	}
	return n, nil
}

// options sets go-redis up for a node that may hang: no retries of its own, every wait bounded, no extra
// round trips at the handshake.
func (n *node) options(pool int) *redis.Options {
	cfg := n.cfg
	o := &redis.Options{
		Network: cfg.Network, Addr: cfg.Address,
		Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, PipelinePoolSize: -1,
		DialTimeout: cfg.Timeout, ReadTimeout: cfg.ReadTimeout, WriteTimeout: cfg.ReadTimeout,
		PoolSize: pool, PoolTimeout: cfg.Timeout, ReadBufferSize: 8 << 10, WriteBufferSize: 8 << 10,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(ctx context.Context, _, _ string) (net.Conn, error) { return n.connect(ctx) },
	}
	if o.ReadTimeout < 0 {
		o.ReadTimeout, o.WriteTimeout = -1, -1
	}
	if cfg.Database > 0 {
		o.DB = cfg.Database
	}
	if !cfg.Auth.Password.IsZero() {
		o.Password = cfg.Auth.Password.Reveal()
		if cfg.Auth.HasUser {
			o.Username = cfg.Auth.Username
		}
	}
	return o
}

// dial makes one connection: go-redis does the handshake on what was dialled here, then leaves it to the pipe.
// A client of its own for each try, since a pool remembers failed dials and answers with them; dialled here,
// since go-redis prints a line to standard error for each dial that fails.
func (n *node) dial(ctx context.Context) (*dialed, error) {
	ctx, cancel := context.WithTimeout(ctx, n.handshakeTime())
	defer cancel()
	nc, err := n.connect(ctx)
	if err != nil {
		return nil, n.err("connect", plainCause(err))
	}
	client := n.over(nc)
	conn := client.Conn()
	release := func() {
		_ = nc.Close() // first, so that nothing waits on it
		_ = conn.Close()
		_ = client.Close()
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // a read sees the context's deadline, not its end
	f, err := n.ask(ctx, conn)
	stop()
	if err != nil {
		release()
		return nil, n.err("connect", plainCause(err))
	}
	if err := f.unfit(); err != nil {
		release()
		return nil, n.err("connect", err)
	}
	_ = nc.SetDeadline(time.Time{}) // go-redis set one for the handshake
	return &dialed{nc: nc, release: release, facts: f}, nil
}

// over is a go-redis client on a connection that was made here.
func (n *node) over(nc net.Conn) *redis.Client {
	o := n.options(1)
	o.Dialer = func(context.Context, string, string) (net.Conn, error) { return nc, nil }
	return redis.NewClient(o)
}

// connect dials and, where the entry says so, speaks TLS. The host name is resolved anew each time.
func (n *node) connect(ctx context.Context) (net.Conn, error) {
	return n.connectTo(ctx, n.cfg.Network, n.cfg.Address)
}

func (n *node) connectTo(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	nc, err := n.dialer(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if n.tls == nil {
		return nc, nil
	}
	tc := tls.Client(nc, n.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return tc, nil
}

func (n *node) handshakeTime() time.Duration {
	if n.cfg.ReadTimeout < 0 {
		return n.cfg.Timeout + DefaultReadTimeout
	}
	return n.cfg.Timeout + n.cfg.ReadTimeout
}

// ask reads the node's facts; it is the first command on a connection, so it makes the handshake.
func (n *node) ask(ctx context.Context, conn redis.Cmdable) (facts, error) {
	var f facts
	pipe := conn.Pipeline()
	info := pipe.Info(ctx)
	mark := pipe.Get(ctx, n.markKey())
	now := pipe.Time(ctx)
	_, err := pipe.Exec(ctx)
	text, infoErr := info.Result()
	if infoErr == nil && err != nil && !errors.Is(err, mark.Err()) {
		infoErr = err // the handshake failed (AUTH, SELECT): go-redis tells the pipeline alone, its commands look fine
	}
	if infoErr != nil {
		var re redis.Error
		if !errors.As(infoErr, &re) {
			return f, infoErr
		}
		if !errors.Is(sentinelOf(infoErr.Error()), ErrAuth) || !strings.HasPrefix(infoErr.Error(), "NOPERM") {
			return f, redisError{infoErr}
		}
		f.noInfo = true // an ACL without INFO: usable, but a restart cannot be told from a broken connection
	}
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch k {
		case "run_id":
			f.runID = v
		case "redis_version":
			f.version = v
		case "role":
			f.replica = v == "slave" || v == "replica"
		case "master_host":
			f.primary = v + f.primary
		case "master_port":
			f.primary += ":" + v
		case "cluster_enabled":
			f.cluster = v == "1"
		case "loading":
			if v == "1" {
				return f, redisError{errors.New("LOADING the node is loading its data")}
			}
		}
	}
	if m, err := mark.Result(); err == nil {
		f.mark = m
	}
	if t, err := now.Result(); err == nil {
		f.time = t
	}
	return f, nil
}

// unfit says why a node that answers still cannot hold sessions.
func (f facts) unfit() error {
	if f.cluster {
		return fmt.Errorf("%w: write seed[]=host:port&seed[]=host:port instead of a list of tcp:// entries", ErrClusterNode)
	}
	if f.replica {
		return fmt.Errorf("%w of %s: list the primary, or use sentinel://", ErrReplica, f.primary)
	}
	return nil
}

func formatMillis(d time.Duration) string {
	return strconv.FormatInt(millis(d), 10)
}

// millis is a lifetime as Redis takes it: at least 1.
func millis(d time.Duration) int64 { return max(1, d.Milliseconds()) }
