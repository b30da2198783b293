package sessionring

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis Cluster and Sentinel: the engine distributes and fails over, and go-redis's clients follow it. To the
// rest of the Client the whole engine is one node that is always up.

// engine is the transport over a go-redis client of several servers.
type engine struct {
	client redis.UniversalClient
	reload func() // asks anew who serves what; nil: the client does by itself
	ctx    context.Context
	wg     *sync.WaitGroup
	wait   time.Duration
}

func (e *engine) adopt(d *dialed) { d.release() }

// overloaded: go-redis's pool bounds what is under way.
func (e *engine) overloaded(time.Time, time.Time) bool { return false }

func (e *engine) drop(error) {}
func (e *engine) close()     { _ = e.client.Close() }

// send runs the commands in a goroutine of its own, which ends with them or with the Client.
func (e *engine) send(c *call, buf []byte) *conn {
	c.sentAt = time.Now()
	c.replies, c.err = c.store[:0], nil
	if c.body != nil {
		buf = slices.Concat(buf[:c.bodyAt], c.body, buf[c.bodyAt:])
	}
	cmds, err := parseCommands(buf)
	if err != nil || e.ctx.Err() != nil {
		if c.err = err; err == nil {
			c.err = ErrClosed
		}
		c.op.end(c)
		return nil
	}
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		ctx, cancel := context.WithTimeout(e.ctx, e.wait)
		defer cancel()
		pipe := e.client.Pipeline()
		out := make([]*redis.Cmd, len(cmds))
		for i, args := range cmds {
			out[i] = pipe.Do(ctx, args...)
		}
		_, failed := pipe.Exec(ctx)
		for _, cmd := range out {
			if cmd.Err() != nil {
				failed = nil // each command has its own error
			}
		}
		for _, cmd := range out {
			err := c.take(cmd)
			if err == nil && failed != nil { // the handshake: go-redis tells the pipeline alone, its commands look fine
				err = failed
			}
			if err != nil {
				if c.err = engineCause(err); e.ctx.Err() != nil {
					c.err = ErrClosed
				}
				break
			}
		}
		if e.reload != nil && e.ctx.Err() == nil && c.failed() {
			e.reload() // go-redis does so once a minute only when a member is gone
		}
		c.op.end(c)
	}()
	return nil
}

// failed reports whether the call or one of its replies says that a server is not what it was.
func (c *call) failed() bool {
	bad := c.err != nil
	for _, r := range c.replies {
		bad = bad || judge(r.err) == verdictFailed
	}
	return bad
}

// take turns go-redis's result into replies.
func (c *call) take(cmd *redis.Cmd) error {
	v, err := cmd.Result()
	var re redis.Error
	switch {
	case err == nil:
		c.replies = appendValue(c.replies, v)
	case errors.Is(err, redis.Nil):
		c.replies = append(c.replies, reply{kind: '$', null: true})
	case errors.As(err, &re):
		c.replies = append(c.replies, reply{kind: '-', err: replyError(err.Error())})
	default:
		return err
	}
	return nil
}

// engineCause words an error of go-redis. What a Sentinel said comes as text only.
func engineCause(err error) error {
	for _, code := range []string{"WRONGPASS", "NOAUTH", "NOPERM"} {
		if strings.Contains(err.Error(), code+" ") {
			return fmt.Errorf("%w: %w", ErrAuth, err)
		}
	}
	return statusCause(err)
}

func appendValue(dst []reply, v any) []reply {
	switch v := v.(type) {
	case nil:
		return append(dst, reply{kind: '$', null: true})
	case int64:
		return append(dst, reply{kind: ':', n: v})
	case string:
		if v == "OK" {
			return append(dst, reply{kind: '+', b: []byte(v)})
		}
		return append(dst, reply{kind: '$', b: []byte(v)})
	case []any:
		dst = append(dst, reply{kind: '*', n: int64(len(v))})
		for _, x := range v {
			dst = appendValue(dst, x)
		}
		return dst
	case error:
		return append(dst, reply{kind: '-', err: replyError(v.Error())})
	}
	return append(dst, reply{kind: '-', err: errProtocol})
}

// newEngineView makes the view of a cluster or sentinel string: a ring of one.
func (c *Client) newEngineView(sp *SavePath) (*view, error) {
	first := sp.Nodes[0]
	cfg := first
	cfg.Weight = 1
	ring, err := NewRing(&SavePath{Nodes: []Node{cfg}, Settings: Settings{Distribution: sp.Settings.Distribution}})
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, n := range sp.Nodes {
		addrs = append(addrs, n.Address)
	}
	n := &node{cfg: cfg, wg: &c.wg}
	n.id = sp.Kind.String() + "://" + strings.Join(addrs, ",")
	if cfg.Prefix != DefaultPrefix {
		n.scope = "|" + cfg.Prefix + "|"
	}
	client, err := c.engineClient(sp, n, addrs)
	if err != nil {
		return nil, err
	}
	n.cluster = sp.Kind == KindCluster
	n.health = newHealth(n, c.stateChanged)
	n.health.pinned = true
	n.health.state.Store(int32(StateUp))
	e := &engine{client: client, ctx: c.ctx, wg: &c.wg, wait: c.conf.deadline}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		e.reload = func() { cluster.ReloadState(c.ctx) }
	}
	n.pipe = e
	return &view{
		path: sp, ring: ring, nodes: []*node{n}, distinct: []*node{n}, copies: 1,
		stamped: ring.Distribution() == Consistent, engine: true,
	}, nil
}

func (c *Client) engineClient(sp *SavePath, n *node, addrs []string) (redis.UniversalClient, error) {
	base, err := newNode(sp.Nodes[0], &c.conf, &c.wg)
	if err != nil {
		return nil, err
	}
	o := base.options(64)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return base.connectTo(ctx, network, address) // the engine names its members itself
	}
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if sp.Kind == KindCluster {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: addrs, Dialer: dial, Username: o.Username, Password: o.Password,
			Protocol: 2, DisableIdentity: true, MaxRedirects: 8, ContextTimeoutEnabled: true, DialerRetries: 1,
			DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
			PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout, MaintNotificationsConfig: quiet,
		}), nil
	}
	sent := &redis.FailoverOptions{
		MasterName: sp.MasterName, SentinelAddrs: addrs, Dialer: dial,
		Username: o.Username, Password: o.Password, DB: o.DB,
		Protocol: 2, DisableIdentity: true, MaxRetries: 3, ContextTimeoutEnabled: true, DialerRetries: 1,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
	}
	if !sp.SentinelAuth.Password.IsZero() {
		sent.SentinelPassword = sp.SentinelAuth.Password.Reveal()
		if sp.SentinelAuth.HasUser {
			sent.SentinelUsername = sp.SentinelAuth.Username
		}
	}
	return redis.NewFailoverClient(sent), nil
}

// parseCommands reads back what appendCommand wrote.
func parseCommands(b []byte) ([][]any, error) {
	var cmds [][]any
	length := func(kind byte) (int, error) {
		i := strings.IndexByte(string(b[:min(len(b), 32)]), '\n')
		if i < 3 || b[0] != kind {
			return 0, errProtocol
		}
		n, err := parseLen(b[1 : i-1])
		b = b[i+1:]
		return n, err
	}
	for len(b) > 0 {
		n, err := length('*')
		if err != nil {
			return nil, err
		}
		args := make([]any, n)
		for i := range args {
			m, err := length('$')
			if err != nil || m < 0 || len(b) < m+2 {
				return nil, errProtocol
			}
			args[i] = string(b[:m])
			b = b[m+2:]
		}
		cmds = append(cmds, args)
	}
	return cmds, nil
}
