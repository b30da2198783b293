package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/alicebob/miniredis/v2"

	"github.com/sessionring/sessionring/internal/redistest"
)

// ownNode is a node that the demo started itself and can break and mend. Its methods are safe for concurrent use.
type ownNode interface {
	Addr() string
	// Condition is what the process does: running, killed or hung.
	Condition() string
	Kill() error
	// Hang makes the node accept connections and answer nothing.
	Hang() error
	// Revive ends whatever was done to the node; empty without its data. What runs already is left alone,
	// unless it shall be emptied.
	Revive(ctx context.Context, empty bool) error
	Stop() error
}

// errCannotHang: an embedded node shares this process, which cannot stand still for it alone.
var errCannotHang = errors.New("an embedded node cannot hang; install redis-server to see that")

// ownNodes starts n nodes: real servers where a program for them is installed, embedded ones else.
func ownNodes(ctx context.Context, n int) (nodes []ownNode, embedded bool, err error) {
	// Append-only, so that a node revived with its data comes back with what it had when it was killed.
	servers, err := redistest.StartNodes(ctx, n, redistest.Options{AppendOnly: true})
	if err == nil {
		for _, s := range servers {
			nodes = append(nodes, &serverNode{server: s})
		}
		return nodes, false, nil
	}
	if !errors.Is(err, redistest.ErrNoServer) {
		return nil, false, err
	}
	nodes, err = embeddedNodes(n)
	return nodes, true, err
}

func embeddedNodes(n int) ([]ownNode, error) {
	var nodes []ownNode
	for range n {
		e := &embeddedNode{server: miniredis.NewMiniRedis(), running: true}
		e.server.ClockTTL(true) // else no key ever expires
		if err := e.server.StartAddr("127.0.0.1:0"); err != nil {
			return nil, errors.Join(err, stopNodes(nodes))
		}
		e.addr = e.server.Addr() // which cannot be asked once it is closed
		nodes = append(nodes, e)
	}
	return nodes, nil
}

func stopNodes(nodes []ownNode) error {
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.Stop())
	}
	return errors.Join(errs...)
}

// ownSavePath is the save_path of nodes, weighted in turn as in phpredis's own example: 1, 2, 2, 1, …
func ownSavePath(nodes []ownNode) string {
	var entries []string
	for i, n := range nodes {
		weight := 2
		if i%3 == 0 {
			weight = 1
		}
		entries = append(entries, fmt.Sprintf("tcp://%s?weight=%d", n.Addr(), weight))
	}
	return strings.Join(entries, ", ")
}

// serverNode is a redis-server process. One change follows another, so that a node is hung or revived whole.
type serverNode struct {
	server *redistest.Server
	mu     sync.Mutex
}

func (n *serverNode) Addr() string { return n.server.Addr() }

func (n *serverNode) Condition() string {
	switch n.server.State() {
	case redistest.Running:
		return conditionRunning
	case redistest.Paused:
		return conditionHung
	}
	return conditionKilled
}

func (n *serverNode) Kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server.Kill()
}

func (n *serverNode) Hang() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch n.server.State() {
	case redistest.Paused:
		return nil
	case redistest.Running:
		return n.server.Pause()
	}
	return errors.New("it is not running; revive it first")
}

func (n *serverNode) Revive(ctx context.Context, empty bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch state := n.server.State(); {
	case empty:
		return n.server.RestartEmpty(ctx)
	case state == redistest.Paused:
		return n.server.Resume()
	case state == redistest.Running:
		return nil
	}
	return n.server.Restart(ctx)
}

func (n *serverNode) Stop() error { return n.server.Stop() }

// embeddedNode is a Redis look-alike within this process.
type embeddedNode struct {
	server  *miniredis.Miniredis
	addr    string
	mu      sync.Mutex
	running bool
	stopped bool
}

func (n *embeddedNode) Addr() string { return n.addr }

func (n *embeddedNode) Condition() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running {
		return conditionRunning
	}
	return conditionKilled
}

func (n *embeddedNode) Kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running {
		n.server.Close()
		n.running = false
	}
	return nil
}

func (n *embeddedNode) Hang() error { return errCannotHang }

func (n *embeddedNode) Revive(_ context.Context, empty bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return errors.New("it was stopped for good")
	}
	if empty {
		n.server.FlushAll()
	}
	if n.running {
		return nil
	}
	if err := n.server.Restart(); err != nil {
		return err
	}
	n.running = true
	return nil
}

func (n *embeddedNode) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running {
		n.server.Close()
		n.running = false
	}
	n.stopped = true
	return nil
}

// What a node's process does.
const (
	conditionRunning = "running"
	conditionKilled  = "killed"
	conditionHung    = "hung"
)
