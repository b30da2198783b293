package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

const clusterSlots = 16384 // Redis Cluster specification

// Cluster is a Redis Cluster of real servers.
type Cluster struct {
	// Nodes are all members: those that began as primaries, then replicas.
	Nodes []*Server
}

// StartCluster builds a cluster and returns once every node sees all others,
// all slots are served and the replicas follow. The options serve for every
// node. A primary that is lost is replaced after some five seconds. The
// cluster must be stopped.
func StartCluster(ctx context.Context, primaries, replicasPer int, opts ...Options) (*Cluster, error) {
	if primaries < 1 || replicasPer < 0 {
		return nil, errors.New("redistest: a cluster needs a primary")
	}
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	o.cluster = true
	nodes, err := StartNodes(ctx, primaries*(1+replicasPer), o)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Nodes: nodes}
	if err := c.form(ctx, primaries); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) form(ctx context.Context, primaries int) error {
	for i, s := range c.Nodes {
		if _, err := s.DoContext(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1); err != nil {
			return fmt.Errorf("redistest: cluster: %w", err)
		}
		if i < primaries {
			first, end := clusterSlots*i/primaries, clusterSlots*(i+1)/primaries
			if err := addSlots(ctx, s, first, end); err != nil {
				return fmt.Errorf("redistest: cluster: %w", err)
			}
		}
		// Everybody meets everybody, as gossip would take seconds.
		for _, other := range c.Nodes[:i] {
			if _, err := s.DoContext(ctx, "CLUSTER", "MEET", other.Host(), other.Port()); err != nil {
				return fmt.Errorf("redistest: cluster: %w", err)
			}
		}
	}
	if err := c.wait(ctx, "meet", func(v *view) bool { return len(v.members) == len(c.Nodes) }); err != nil {
		return err
	}
	for i, s := range c.Nodes[primaries:] {
		id, err := c.Nodes[i%primaries].DoContext(ctx, "CLUSTER", "MYID")
		if err == nil {
			_, err = s.DoContext(ctx, "CLUSTER", "REPLICATE", id)
		}
		if err != nil {
			return fmt.Errorf("redistest: cluster: %w", err)
		}
	}
	return c.wait(ctx, "agree", func(v *view) bool {
		replicas := 0
		for _, m := range v.members {
			if m.primary != "" {
				replicas++
			}
		}
		return v.ok && v.linked && replicas == len(c.Nodes)-primaries
	})
}

func addSlots(ctx context.Context, s *Server, first, end int) error {
	_, err := s.DoContext(ctx, "CLUSTER", "ADDSLOTSRANGE", first, end-1)
	if reply, ok := errors.AsType[ReplyError](err); !ok || !strings.Contains(string(reply), "nknown sub") {
		return err
	}
	args := []any{"CLUSTER", "ADDSLOTS"} // before version 7
	for slot := first; slot < end; slot++ {
		args = append(args, slot)
	}
	_, err = s.DoContext(ctx, args...)
	return err
}

// WaitOK returns once every running node sees the cluster in order, all slots
// served.
func (c *Cluster) WaitOK(ctx context.Context) error {
	return c.wait(ctx, "be in order", func(v *view) bool { return v.ok && v.linked })
}

func (c *Cluster) wait(ctx context.Context, what string, good func(*view) bool) error {
	for {
		bad := ""
		for _, s := range c.Nodes {
			if s.State() != Running {
				continue
			}
			v, err := look(ctx, s)
			if err != nil {
				bad = fmt.Sprintf("%s: %v", s.Addr(), err)
			} else if !good(v) {
				bad = fmt.Sprintf("%s: ok %v, linked %v, %d members", s.Addr(), v.ok, v.linked, len(v.members))
			}
			if bad != "" {
				break
			}
		}
		if bad == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redistest: cluster does not %s: %w (%s)", what, ctx.Err(), bad)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// view is the cluster as one node sees it.
type view struct {
	ok      bool // cluster_state
	linked  bool // with its own primary, if it is a replica
	members []member
}

type member struct {
	id, addr string
	primary  string // id of the primary that a replica follows
	failed   bool
	slots    [][2]int
}

func look(ctx context.Context, s *Server) (*view, error) {
	text := func(args ...any) (string, error) {
		reply, err := s.DoContext(ctx, args...)
		t, _ := reply.(string)
		return t, err
	}
	info, err1 := text("CLUSTER", "INFO")
	nodes, err2 := text("CLUSTER", "NODES")
	repl, err3 := text("INFO", "replication")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	v := &view{ok: parseInfo(info)["cluster_state"] == "ok"}
	r := parseInfo(repl)
	v.linked = r["role"] == "master" || r["master_link_status"] == "up"
	for line := range strings.Lines(nodes) {
		if m, ok := parseMember(line); ok {
			v.members = append(v.members, m)
		}
	}
	return v, nil
}

// parseMember reads a line of CLUSTER NODES, of a node that is past its
// handshake:
//
//	id ip:port@busport[,hostname] flags primary ping pong epoch link slot…
func parseMember(line string) (member, bool) {
	f := strings.Fields(line)
	if len(f) < 8 || strings.Contains(f[2], "handshake") || strings.Contains(f[2], "noaddr") {
		return member{}, false
	}
	addr, _, _ := strings.Cut(f[1], "@")
	m := member{id: f[0], addr: addr, failed: strings.Contains(f[2], "fail")}
	if f[3] != "-" {
		m.primary = f[3]
	}
	for _, word := range f[8:] {
		first, last, ranged := strings.Cut(word, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil { // else a slot that is being moved
			m.slots = append(m.slots, [2]int{a, b})
		}
	}
	return m, true
}

// Owner returns the node that serves a key now, as the other running nodes see
// it.
func (c *Cluster) Owner(ctx context.Context, key string) (*Server, error) {
	for _, s := range c.Nodes {
		if s.State() != Running {
			continue
		}
		slot, err := s.DoContext(ctx, "CLUSTER", "KEYSLOT", key)
		if err != nil {
			return nil, err
		}
		v, err := look(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, m := range v.members {
			for _, r := range m.slots {
				if n, _ := slot.(int64); m.primary == "" && int(n) >= r[0] && int(n) <= r[1] {
					return c.at(m.addr)
				}
			}
		}
		return nil, fmt.Errorf("redistest: slot %v has no owner", slot)
	}
	return nil, ErrNotRunning
}

func (c *Cluster) at(addr string) (*Server, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		// CLUSTER NODES writes IPv6 without brackets.
		port = addr[strings.LastIndexByte(addr, ':')+1:]
	}
	for _, s := range c.Nodes {
		if strconv.Itoa(s.Port()) == port {
			return s, nil
		}
	}
	return nil, fmt.Errorf("redistest: no node at %s", addr)
}

// SavePath returns the cluster as PHP's rediscluster handler takes it, with
// every node as a seed.
func (c *Cluster) SavePath(params ...string) string {
	var all []string
	for _, s := range c.Nodes {
		all = append(all, "seed[]="+s.Addr())
	}
	return strings.TrimPrefix(c.Nodes[0].entry("", append(all, params...)), "?")
}

// Stop stops all nodes. It may be called more than once.
func (c *Cluster) Stop() error { return StopNodes(c.Nodes) }
