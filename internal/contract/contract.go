// Package contract starts real servers for a store that is held against sessiontest, and hands out the parts of
// a sessiontest.Store that have nothing to do with the store: faults, keys of others, locks and listings of a
// Client. The adapters' tests use it, and the comparison with other stores.
package contract

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

// Prefix of the sessions' keys, a part of other prefixes that stand in the same database.
const Prefix = "app:"

// LockExpire is short, so that a test can await it.
const LockExpire = 2 * time.Second

// Nodes are the servers of a test.
type Nodes struct {
	Servers []*redistest.Server

	mu    sync.Mutex
	snaps map[int]*redistest.Snapshot // of what was killed
}

// Start starts n servers. They must be stopped.
func Start(ctx context.Context, n int) (*Nodes, error) {
	servers, err := redistest.StartNodes(ctx, n, options(n)...)
	if err != nil {
		return nil, err
	}
	return &Nodes{Servers: servers, snaps: map[int]*redistest.Snapshot{}}, nil
}

// ForTest starts n servers that end with the test.
func ForTest(t redistest.TB, n int) *Nodes {
	t.Helper()
	return &Nodes{Servers: redistest.Nodes(t, n, options(n)...), snaps: map[int]*redistest.Snapshot{}}
}

// options gives each server a host of its own, where the system has more than one, for the ring tells copies
// apart by host.
func options(n int) []redistest.Options {
	out := make([]redistest.Options, n)
	for i := range out {
		host := fmt.Sprintf("127.0.0.%d", i+1)
		if l, err := net.Listen("tcp", host+":0"); err == nil {
			l.Close()
			out[i].Host = host
		}
	}
	return out
}

// Stop stops the servers.
func (n *Nodes) Stop() error { return redistest.StopNodes(n.Servers) }

// SavePath names all servers, with the test's prefix.
func (n *Nodes) SavePath(params ...string) string {
	// Generous times: a busy machine is not what is tested, and building a ring under -race makes it busy.
	params = append([]string{"timeout=5", "read_timeout=5", "deadline=8", "prefix=" + Prefix, fmt.Sprintf("lock_expire=%d", LockExpire/time.Second)}, params...)
	entries := make([]string, len(n.Servers))
	for i, s := range n.Servers {
		entries[i] = s.SavePath(params...)
	}
	return strings.Join(entries, ", ")
}

// Open opens a Client that ends with the test, and waits until it has met all servers: before that a session
// that is not there is "not found, an owner is away".
func (n *Nodes) Open(t redistest.TB, params ...string) *sessionring.Client {
	t.Helper()
	c, err := sessionring.Open(n.SavePath(params...))
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := Healthy(ctx, c); err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// Faults break the servers. c may be nil: then a server counts as healthy when it answers.
func (n *Nodes) Faults(c *sessionring.Client) *sessiontest.Faults {
	f := &sessiontest.Faults{
		Nodes: len(n.Servers),
		Kill: func(ctx context.Context, i int) error {
			snap, err := n.Servers[i].SaveSnapshot(ctx)
			if err != nil {
				return err
			}
			n.mu.Lock()
			n.snaps[i] = snap
			n.mu.Unlock()
			return n.Servers[i].Kill()
		},
		Return: func(ctx context.Context, i int) error {
			n.mu.Lock()
			snap := n.snaps[i]
			delete(n.snaps, i)
			n.mu.Unlock()
			if snap == nil {
				return nil // it runs
			}
			return n.Servers[i].RestartWith(ctx, snap)
		},
		Hang: func(_ context.Context, i int) error { return n.Servers[i].Pause() },
		Wake: func(_ context.Context, i int) error { return n.Servers[i].Resume() },
	}
	if c != nil {
		f.Settled = func(ctx context.Context) error { return Healthy(ctx, c) }
	}
	return f
}

// Healthy returns once the Client takes all its nodes for up.
func Healthy(ctx context.Context, c *sessionring.Client) error {
	for {
		up := true
		for _, s := range c.Nodes() {
			up = up && s.State == sessionring.StateUp
		}
		if up {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %+v", ctx.Err(), c.Nodes())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Foreign reaches into the database of every server.
func (n *Nodes) Foreign(keys ...string) *sessiontest.Foreign {
	return &sessiontest.Foreign{
		Put: func(ctx context.Context, key, value string) error {
			var err error
			for _, s := range n.Servers {
				_, e := s.DoContext(ctx, "SET", key, value)
				err = errors.Join(err, e)
			}
			return err
		},
		Get: func(ctx context.Context, key string) (string, bool, error) {
			for _, s := range n.Servers {
				r, err := s.DoContext(ctx, "GET", key)
				if err != nil {
					return "", false, err
				}
				v, found := r.(string)
				if !found {
					return "", false, nil
				}
				if s == n.Servers[len(n.Servers)-1] {
					return v, true, nil
				}
			}
			return "", false, nil
		},
		// Without the prefix; with one that the prefix begins; with one that begins with the prefix; the
		// prefix itself.
		Keys: append([]string{"users:7", "ap", "app", "app2:session", Prefix + "admin:0123456789abcdef", Prefix}, keys...),
	}
}

// Lock takes locks, each with a Client of its own, so that its holder can die.
func (n *Nodes) Lock(ctx context.Context, id string) (*sessiontest.Lock, error) {
	c, err := sessionring.Open(n.SavePath(), sessionring.WithObserver())
	if err != nil {
		return nil, err
	}
	l, err := c.Lock(ctx, id)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &sessiontest.Lock{
		Unlock:  func(ctx context.Context) error { return errors.Join(l.Unlock(ctx), c.Close()) },
		Abandon: c.Close,
	}, nil
}

// List lists a Client's sessions.
func List(c *sessionring.Client) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		var ids []string
		for s, err := range c.Sessions(ctx) {
			if err != nil {
				return nil, err
			}
			ids = append(ids, s.ID)
		}
		slices.Sort(ids)
		return ids, nil
	}
}

// Complete fills in what every store over a Client offers by way of that Client.
func (n *Nodes) Complete(s *sessiontest.Store, c *sessionring.Client) *sessiontest.Store {
	s.Faults = n.Faults(c)
	s.Foreign = n.Foreign()
	s.Lock, s.LockExpire = n.Lock, LockExpire
	if s.List == nil {
		s.List = List(c)
	}
	s.Unavailable = func(err error) bool {
		return errors.Is(err, sessionring.ErrNoNode) || errors.Is(err, sessionring.ErrOwnerAway)
	}
	if s.Touch == nil {
		s.Touch = c.TouchFor
	}
	return s
}
