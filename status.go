package sessionring

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// NodeStatus is a node in this client's eyes.
type NodeStatus struct {
	Node     string // Node.ID
	Index    int    // in the save_path
	Weight   int
	Share    float64 // of the ids whose first owner it is
	State    State
	Since    time.Time // of the state
	LastErr  error     // why it was last not up; nil if never
	LastFail time.Time
	Version  string        // of the server
	Debt     int64         // sessions that wait to be copied to it, as far as hints tell
	Rejoin   Progress      // of the pass that brings it up to date, in whatever client; else of the last that was seen
	Whole    time.Duration // about how long until no session has fewer copies than it should for want of it; 0: none has, or it cannot be told
}

// Nodes returns the state of each node, in the order of the save_path. It asks nobody.
func (c *Client) Nodes() []NodeStatus {
	v := c.view.Load()
	shares := v.ring.Shares()
	var out []NodeStatus
	for i, n := range v.nodes {
		h := n.health
		s := NodeStatus{Node: n.id, Index: i, Weight: n.cfg.Weight, State: h.now(), Debt: h.debt()}
		if i < len(shares) {
			s.Share = shares[i]
		}
		h.mu.Lock()
		s.Since, s.LastErr, s.LastFail, s.Version, s.Rejoin = h.since, h.lastErr, h.lastFail, h.version, h.progress
		h.mu.Unlock()
		if s.State == StateReturning || s.Debt > 0 {
			s.Whole = s.Rejoin.Left()
		}
		out = append(out, s)
	}
	return out
}

// Ping asks every node for a sign of life and returns the first failure of each that gave none, joined.
func (c *Client) Ping(ctx context.Context) error {
	if c.closed.Load() {
		return ErrClosed
	}
	var all error
	for _, n := range c.view.Load().distinct {
		if err := c.ping(ctx, n); err != nil {
			var ne *NodeError
			if !errors.As(err, &ne) {
				err = n.err("ping", err)
			}
			all = errors.Join(all, err)
		}
	}
	return all
}

// ServerInfo is what a server says of itself.
type ServerInfo struct {
	Version, Role, Primary string
	UsedMemory, MaxMemory  int64
	EvictionPolicy         string
	EvictedKeys            int64
	Uptime                 time.Duration
	Keys                   int64 // in the database of the sessions
	Persistence            bool  // RDB or AOF
	ClusterMember          bool
	Latency                time.Duration // of one round trip
}

// ServerInfo asks the node at the index of the save_path about itself, with a connection of its own.
func (c *Client) ServerInfo(ctx context.Context, index int) (ServerInfo, error) {
	v := c.view.Load()
	var s ServerInfo
	if v.engine || index < 0 || index >= len(v.nodes) {
		return s, errors.New("sessionring: no such node")
	}
	n := v.nodes[index]
	ctx, cancel := context.WithTimeout(ctx, n.handshakeTime())
	defer cancel()
	nc, err := n.connect(ctx)
	if err != nil {
		return s, n.err("status", statusCause(err))
	}
	client := n.over(nc)
	defer func() { _ = client.Close() }()
	defer func() { _ = nc.Close() }() // first, so that nothing waits on it
	if _, err := client.Ping(ctx).Result(); err != nil {
		return s, n.err("status", statusCause(err))
	}
	begun := time.Now()
	if _, err := client.Ping(ctx).Result(); err != nil {
		return s, n.err("status", statusCause(err))
	}
	s.Latency = time.Since(begun)
	text, err := client.Info(ctx).Result()
	if err != nil {
		return s, n.err("status", statusCause(err))
	}
	num := func(v string) int64 { x, _ := strconv.ParseInt(v, 10, 64); return x }
	for line := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch k {
		case "redis_version":
			s.Version = v
		case "role":
			s.Role = v
		case "master_host":
			s.Primary = v
		case "master_port":
			s.Primary += ":" + v
		case "used_memory":
			s.UsedMemory = num(v)
		case "maxmemory":
			s.MaxMemory = num(v)
		case "maxmemory_policy":
			s.EvictionPolicy = v
		case "evicted_keys":
			s.EvictedKeys = num(v)
		case "uptime_in_seconds":
			s.Uptime = time.Duration(num(v)) * time.Second
		case "aof_enabled":
			s.Persistence = s.Persistence || v == "1"
		case "cluster_enabled":
			s.ClusterMember = v == "1"
		}
	}
	if save, err := client.ConfigGet(ctx, "save").Result(); err == nil && save["save"] != "" {
		s.Persistence = true
	}
	s.Keys, err = client.DBSize(ctx).Result()
	if err != nil {
		return s, n.err("status", statusCause(err))
	}
	return s, nil
}

func statusCause(err error) error {
	var re redis.Error
	if errors.As(err, &re) {
		return redisError{err}
	}
	return plainCause(err)
}

// CopyInfo is one node's copy of a session.
type CopyInfo struct {
	Node    string
	Index   int // in the save_path
	Owner   bool
	Err     error // the node could not be asked
	Present bool
	Dead    bool // a tombstone: the session was destroyed
	Version Version
	TTL     time.Duration
	Bytes   int
}

// Explain asks every node what it holds of a session, owners first in the order of preference.
func (c *Client) Explain(ctx context.Context, id string) ([]CopyInfo, error) {
	if err := c.check(ctx, id); err != nil {
		return nil, err
	}
	v := c.view.Load()
	var order []*node
	index := map[*node]int{}
	for _, i := range v.ring.Preference(nil, id) {
		order = append(order, v.nodes[i])
		index[v.nodes[i]] = i
	}
	held := c.holders(v, id, order)
	if err := c.survey(ctx, id, held); err != nil {
		return nil, err
	}
	var out []CopyInfo
	for _, h := range held {
		out = append(out, CopyInfo{
			Node: h.node.id, Index: index[h.node], Owner: h.owner, Err: h.err, Present: h.has, Dead: h.stamp.dead,
			Version: h.stamp.version, TTL: h.ttl, Bytes: len(h.data),
		})
	}
	return out, nil
}

// SessionInfo is a session in a listing.
type SessionInfo struct {
	ID    string
	Node  string // where it was found
	Index int
	Bytes int64
	TTL   time.Duration
}

// Sessions lists the sessions of this save_path's prefixes on all nodes that can be asked, each once, by SCAN
// (never KEYS), a bounded batch at a time. Locks, stamps and other side keys are left out. An error of a node
// comes as the second value, and the listing goes on with the next node.
func (c *Client) Sessions(ctx context.Context) iter.Seq2[SessionInfo, error] {
	return func(yield func(SessionInfo, error) bool) {
		v := c.view.Load()
		c.list(ctx, v, v.distinct, yield)
	}
}

// SessionsOn lists what the node at the index of the save_path holds, copies of other nodes' sessions included,
// in the way of Sessions.
func (c *Client) SessionsOn(ctx context.Context, index int) iter.Seq2[SessionInfo, error] {
	return func(yield func(SessionInfo, error) bool) {
		v := c.view.Load()
		if index < 0 || index >= len(v.nodes) {
			yield(SessionInfo{}, errors.New("sessionring: no such node"))
			return
		}
		c.list(ctx, v, v.nodes[index:index+1], yield)
	}
}

// list yields the sessions of some nodes, each once.
func (c *Client) list(ctx context.Context, v *view, nodes []*node, yield func(SessionInfo, error) bool) {
	seen := map[uint64]struct{}{} // hashes: SCAN repeats keys, and copies stand on several nodes
	for _, n := range nodes {
		if v.engine {
			yield(SessionInfo{}, errors.New("sessionring: sessions of a cluster or sentinel string cannot be listed"))
			return
		}
		stopped := errors.New("stopped")
		err := c.scan(ctx, n, globEscape(n.cfg.Prefix)+"*", func(keys []string) error {
			infos, err := c.describe(ctx, n, keys, seen)
			if err != nil {
				return err
			}
			for _, s := range infos {
				s.Index = v.indexOf(n)
				if !yield(s, nil) {
					return stopped
				}
			}
			return nil
		})
		switch {
		case errors.Is(err, stopped):
			return
		case err != nil && !yield(SessionInfo{Node: n.id}, err):
			return
		case ctx.Err() != nil:
			return
		}
	}
}

func (v *view) indexOf(n *node) int {
	for i, o := range v.nodes {
		if o == n {
			return i
		}
	}
	return -1
}

// describe turns keys of a scan into sessions that were not listed yet.
func (c *Client) describe(ctx context.Context, n *node, keys []string, seen seen) ([]SessionInfo, error) {
	var ids []string
	for _, k := range keys {
		id := k[len(n.cfg.Prefix):]
		if !isSessionKey(k, id) || id[0] == '~' { // websession keeps its records of users under ~
			continue
		}
		ids = append(ids, id)
	}
	if ids = seen.fresh(ids); len(ids) == 0 {
		return nil, nil
	}
	var b []byte
	for _, id := range ids {
		b = appendCommand(b, "STRLEN", n.key(id))
		b = appendCommand(b, "PTTL", n.key(id))
	}
	r, err := c.ask(ctx, n, lookTimeout, 2*len(ids), b)
	if err != nil && len(r) != 2*len(ids) {
		return nil, n.failure("list", err)
	}
	var out []SessionInfo
	for i, id := range ids {
		size, ttl := r[2*i], r[2*i+1]
		if size.err != nil || ttl.err != nil || ttl.n == -2 {
			continue // not a string, or gone meanwhile
		}
		out = append(out, SessionInfo{ID: id, Node: n.id, Bytes: size.n, TTL: time.Duration(max(ttl.n, 0)) * time.Millisecond})
	}
	return out, nil
}
