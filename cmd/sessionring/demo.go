package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sessionring/sessionring"
)

const (
	demoMaxNodes  = 16
	demoEvents    = 40                     // kept
	demoLookEvery = 500 * time.Millisecond // at each node's keys and latency
	demoLookTime  = time.Second
	demoReviveFor = 30 * time.Second // a restart may take so long
	demoMeetFor   = 5 * time.Second  // for the first connections
)

type demoCmd struct {
	Nodes        int    `default:"3" placeholder:"N" help:"How many nodes to start, 1 to 16 (default ${default})."`
	Addr         string `default:":8080" placeholder:"[HOST]:PORT" help:"Where the page is served (default ${default}). Without a host that is the loopback address, since whoever sees the page can kill nodes; port 0 takes any free one."`
	Embedded     bool   `help:"Use nodes within this process even where redis-server is installed."`
	Copies       int    `placeholder:"N" help:"On how many nodes each session is kept (default 2)."`
	Distribution string `placeholder:"consistent|phpredis" enum:"consistent,phpredis," default:"" help:"How ids are placed."`
}

// Help is printed by --help.
func (demoCmd) Help() string {
	return `Starts a few nodes and serves a page with a counter that lives in sessions spread over them. The page shows the ring, where your session lives and what the client thinks of each node, and has buttons to kill, hang and revive the nodes. Kill the node that holds your session and visit again: the counter goes on.

The nodes are real redis-server (or valkey-server) processes where one is installed, and a look-alike within this process elsewhere, which cannot hang; the page says which. Everything ends with Ctrl-C.

Examples:

    sessionring demo
    sessionring demo --nodes 5 --addr :8081
    sessionring demo --copies 1`
}

// Run serves the page until ctx ends.
func (c *demoCmd) Run(ctx context.Context, a *app) (err error) {
	if c.Nodes < 1 || c.Nodes > demoMaxNodes {
		return usagef("--nodes must be 1 to %d", demoMaxNodes)
	}
	if c.Copies < 0 {
		return usagef("--copies must be 1 or more")
	}
	listener, err := listenDemo(ctx, c.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // Serve has closed it already, if it came to that
	d, err := startDemo(ctx, a, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	url := "http://" + listener.Addr().String() + "/"
	if a.JSON {
		err = a.emit(map[string]any{"url": url, "nodes": len(d.nodes), "embedded": d.embedded, "save_path": d.path})
	} else {
		a.printf("%s\nOpen %s and press a button. Ctrl-C ends everything.\n", d.describe(), url)
	}
	if err != nil {
		return err
	}
	return d.serve(ctx, listener)
}

func listenDemo(ctx context.Context, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, usagef("--addr %s: write HOST:PORT, or :PORT for the loopback address", addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("cannot serve the page: %w; --addr :0 takes any free port", err)
	}
	return l, nil
}

// demo is a Client, the nodes under it, and what the page tells of both.
type demo struct {
	client   *sessionring.Client
	nodes    []ownNode
	embedded bool
	path     string

	stop context.CancelFunc
	wg   sync.WaitGroup
	ctx  context.Context // of what outlives a request: a restart goes on when the browser is closed

	mu     sync.Mutex
	events []demoEvent // newest first
	looks  []demoLook  // by node
}

// demoEvent is something that happened, for the page.
type demoEvent struct {
	At    time.Time
	Node  int
	Kind  string // the new state, "press" (of a button) or "error"
	Text  string
	Cause string
}

// demoLook is what a node said of itself last.
type demoLook struct {
	known   bool
	keys    int64
	latency time.Duration
}

func startDemo(ctx context.Context, a *app, c *demoCmd) (*demo, error) {
	d := &demo{looks: make([]demoLook, c.Nodes)}
	var err error
	if c.Embedded {
		d.embedded = true
		d.nodes, err = embeddedNodes(c.Nodes)
	} else {
		d.nodes, d.embedded, err = ownNodes(ctx, c.Nodes)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start the nodes: %w", err)
	}
	d.path = ownSavePath(d.nodes)
	opts := []sessionring.Option{sessionring.WithHooks(sessionring.Hooks{StateChange: d.stateChanged})}
	if c.Copies > 0 {
		opts = append(opts, sessionring.WithCopies(c.Copies))
	}
	if c.Distribution != "" {
		opts = append(opts, sessionring.WithDistribution(sessionring.Distribution(c.Distribution)))
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.client, err = a.open(d.path, opts...)
	if err != nil {
		d.stop()
		return nil, errors.Join(err, stopNodes(d.nodes))
	}
	for i := range d.nodes {
		d.wg.Go(func() { d.watch(d.ctx, i) })
	}
	d.waitUp(ctx)
	return d, nil
}

// waitUp waits until the client has met every node. A page served before could not tell a session that ended
// from one that is on a node not met yet.
func (d *demo) waitUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, demoMeetFor)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		met := 0
		for _, n := range d.client.Nodes() {
			if n.State == sessionring.StateUp {
				met++
			}
		}
		if met == len(d.nodes) {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// close stops everything that the demo started, and waits for it.
func (d *demo) close() error {
	d.stop()
	d.wg.Wait()
	return errors.Join(d.client.Close(), stopNodes(d.nodes))
}

// describe says which nodes these are.
func (d *demo) describe() string {
	what := "real Redis servers, processes of their own"
	if d.embedded {
		what = "embedded in this process: a Redis look-alike (miniredis), which cannot hang; with redis-server installed the nodes are real"
	}
	return fmt.Sprintf("%s, %s.\nsave_path: %s", count(len(d.nodes), "node"), what, d.path)
}

// serve serves the page until ctx ends, then lets requests under way finish.
func (d *demo) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: demoReviveFor + 10*time.Second, IdleTimeout: time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = server.Close()
	}
	<-failed
	return err
}

// stateChanged is the Client's hook. The event may come before the Client is stored in d: it asks nobody.
func (d *demo) stateChanged(s sessionring.StateChange) {
	e := demoEvent{At: time.Now(), Node: -1, Kind: s.To.String()}
	for i, n := range d.nodes {
		if strings.HasSuffix(s.Node, "//"+n.Addr()) {
			e.Node = i
		}
	}
	e.Text = fmt.Sprintf("%s → %s", s.From, s.To)
	e.Cause = wordCause(s.Cause)
	d.note(e)
}

// wordCause is what is wrong with a node, without its name: that stands beside it.
func wordCause(err error) string {
	if err == nil {
		return ""
	}
	if ne, ok := errors.AsType[*sessionring.NodeError](err); ok {
		return ne.Op + ": " + plain(ne.Err)
	}
	return plain(err)
}

func (d *demo) note(e demoEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append([]demoEvent{e}, d.events[:min(len(d.events), demoEvents-1)]...)
}

// watch asks a node now and then for its keys and its latency.
func (d *demo) watch(ctx context.Context, i int) {
	tick := time.NewTicker(demoLookEvery)
	defer tick.Stop()
	for {
		var look demoLook
		if d.nodes[i].Condition() == conditionRunning {
			look = d.look(ctx, i)
		}
		d.mu.Lock()
		d.looks[i] = look
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *demo) look(ctx context.Context, i int) demoLook {
	ctx, cancel := context.WithTimeout(ctx, demoLookTime)
	defer cancel()
	info, err := d.client.ServerInfo(ctx, i)
	if err != nil {
		return demoLook{}
	}
	return demoLook{known: true, keys: info.Keys, latency: info.Latency}
}

// act does what a button says to a node. Its errors are worded for the page.
func (d *demo) act(node int, action string) error {
	ctx, cancel := context.WithTimeout(d.ctx, demoReviveFor)
	defer cancel()
	n := d.nodes[node]
	var err error
	var did string
	switch action {
	case "kill":
		did, err = "killed (kill -9)", n.Kill()
		if d.embedded {
			did = "closed"
		}
	case "hang":
		did, err = "hung (SIGSTOP)", n.Hang()
	case "revive":
		did, err = "revived with its data", n.Revive(ctx, false)
	case "revive-empty":
		did, err = "revived empty", n.Revive(ctx, true)
	}
	e := demoEvent{At: time.Now(), Node: node, Kind: "press", Text: did}
	if err != nil {
		e.Kind, e.Text, e.Cause = "error", action+" did not work", err.Error()
	}
	d.note(e)
	return err
}
