package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessionring/sessionring"
)

// App is an application server: one Client, and workers that serve requests with it.
type App interface {
	// Start lets workers go on until Stop.
	Start(Load) error
	// Stop ends the workers and hands over all operations since the last Stop, those of Do included.
	Stop() ([]Op, error)
	// Do carries out one operation on each session, one after the other.
	Do(Job) error
	// View is what the client thinks of the nodes now.
	View() (View, error)
	// Reconfigure changes over to another save_path.
	Reconfigure(path string) error
	Close() error
}

// AppConfig describes an application server.
type AppConfig struct {
	Index    int // among the application servers, from 0
	SavePath string
	Copies   int
	Deadline time.Duration
	Lifetime time.Duration
	Skew     time.Duration     // of its wall clock
	Via      map[string]string // by which address it reaches a node, where that is not the node's own
	// RejoinRate is how many sessions a second are copied to a node that returns; 0: the default.
	RejoinRate int
}

// Load is what the workers of an application do. All applications of a run are given the same.
type Load struct {
	Space    string
	Sessions int           // that live through the whole run
	Workers  int           // of this application
	Pause    time.Duration // mean time between a worker's requests
	Seed     uint64
	Epoch    int64 // when the run began, by now()
}

// Short-lived sessions come and go during a run, and some are destroyed while others still use them.
const (
	shortBase   = int64(1_000_000)
	shortEvery  = 50 * time.Millisecond
	shortWindow = 40 // that are in use at a time
	coldBase    = int64(2_000_000)
)

// newestShort is the youngest of the short-lived sessions that are in use.
func (l Load) newestShort(at int64) int64 {
	return shortBase + max(at-l.Epoch, 0)/int64(shortEvery)
}

// Job is an operation on each of some sessions.
type Job struct {
	Space    string
	Kind     Kind
	Sessions []int64
}

// Event is a change of a node's state as a client saw it.
type Event struct {
	App      int
	At       int64
	Node     string
	From, To string
	Cause    string
}

// NodeView is what a client thinks of a node.
type NodeView struct {
	Node, State string
	Debt        int64
	LastErr     string
}

// Pass is one time that a client brought a node up to date by comparing all it should hold.
type Pass struct {
	App            int
	Node           string
	Begun, LastRun int64 // LastRun is when it was last seen under way
	Scanned        int64
	Done           bool
}

// View is a client's view of its nodes, and what happened in it since it began.
type View struct {
	Draining bool // sessions are still being moved from a node list that was in use before
	Nodes    []NodeView
	Events   []Event
	Passes   []Pass
	Repairs  map[string]int // copies written, by reason
	Errors   map[string]int // of operations, by text
}

// localApp is an application server within this process.
type localApp struct {
	conf   AppConfig
	client *sessionring.Client
	seqs   atomic.Uint64 // writes so far: their order is the value's low part

	cancel context.CancelFunc // of the workers
	wg     sync.WaitGroup
	stop   context.CancelFunc // of the watcher
	watch  sync.WaitGroup

	mu      sync.Mutex
	ops     []Op
	events  []Event
	passes  []Pass
	repairs map[string]int
	errs    map[string]int
}

// OpenApp starts an application server in this process.
func OpenApp(conf AppConfig) (App, error) {
	a := &localApp{conf: conf, repairs: map[string]int{}, errs: map[string]int{}}
	dialer := &net.Dialer{}
	opts := []sessionring.Option{
		sessionring.WithCopies(conf.Copies),
		sessionring.WithHooks(sessionring.Hooks{StateChange: a.stateChanged, Repair: a.repaired}),
		sessionring.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if other, ok := conf.Via[addr]; ok {
				addr = other
			}
			return dialer.DialContext(ctx, network, addr)
		}),
	}
	if conf.Deadline > 0 {
		opts = append(opts, sessionring.WithDeadline(conf.Deadline))
	}
	if conf.Lifetime > 0 {
		opts = append(opts, sessionring.WithLifetime(conf.Lifetime))
	}
	if conf.RejoinRate > 0 {
		opts = append(opts, sessionring.WithRejoinRate(conf.RejoinRate))
	}
	if conf.Skew != 0 {
		opts = append(opts, sessionring.WithClock(func() time.Time { return time.Now().Add(conf.Skew) }))
	}
	var err error
	if a.client, err = sessionring.Open(conf.SavePath, opts...); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.watch.Go(func() { a.watchPasses(ctx) })
	return a, nil
}

func (a *localApp) stateChanged(s sessionring.StateChange) {
	e := Event{App: a.conf.Index, At: now(), Node: s.Node, From: s.From.String(), To: s.To.String()}
	if s.Cause != nil {
		e.Cause = s.Cause.Error()
	}
	a.mu.Lock()
	a.events = append(a.events, e)
	a.mu.Unlock()
}

func (a *localApp) repaired(r sessionring.Repair) {
	a.mu.Lock()
	a.repairs[r.Reason] += r.Copies
	a.mu.Unlock()
}

// watchPasses notes which nodes this client brings up to date, and when.
func (a *localApp) watchPasses(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	open := map[string]int{} // index of the node's last pass
	since := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at := now()
		nodes := a.client.Nodes() // not under mu: hooks run under the client's own locks
		a.mu.Lock()
		for _, n := range nodes {
			p := n.Rejoin
			if !p.Own || p.Since.IsZero() || p.Scanned == 0 {
				continue
			}
			i, known := open[n.Node]
			if !known || !since[n.Node].Equal(p.Since) {
				since[n.Node] = p.Since
				i = len(a.passes)
				open[n.Node] = i
				a.passes = append(a.passes, Pass{App: a.conf.Index, Node: n.Node, Begun: at - int64(time.Since(p.Since))})
			}
			if q := &a.passes[i]; q.Scanned != p.Scanned || q.Done != p.Done {
				q.Scanned, q.Done = p.Scanned, p.Done
				if !p.Done { // that it is done is seen after it is
					q.LastRun = at
				}
			}
		}
		a.mu.Unlock()
	}
}

func (a *localApp) View() (View, error) {
	var v View
	v.Draining, _ = a.client.Draining()
	for _, n := range a.client.Nodes() {
		x := NodeView{Node: n.Node, State: n.State.String(), Debt: n.Debt}
		if n.LastErr != nil {
			x.LastErr = n.LastErr.Error()
		}
		v.Nodes = append(v.Nodes, x)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	v.Events = append(v.Events, a.events...)
	v.Passes = append(v.Passes, a.passes...)
	v.Repairs, v.Errors = map[string]int{}, map[string]int{}
	for k, n := range a.repairs {
		v.Repairs[k] = n
	}
	for k, n := range a.errs {
		v.Errors[k] = n
	}
	return v, nil
}

func (a *localApp) Reconfigure(path string) error {
	return a.client.Reconfigure(context.Background(), path)
}

func (a *localApp) Close() error {
	a.halt()
	a.stop()
	a.watch.Wait()
	return a.client.Close()
}

func (a *localApp) halt() {
	if a.cancel != nil {
		a.cancel()
		a.cancel = nil
	}
	a.wg.Wait()
}

// Stop lets requests under way end by themselves: their outcome counts.
func (a *localApp) Stop() ([]Op, error) {
	a.halt()
	a.mu.Lock()
	defer a.mu.Unlock()
	ops := a.ops
	a.ops = nil
	return ops, nil
}

func (a *localApp) Do(j Job) error {
	for _, s := range j.Sessions {
		o := a.do(j.Space, s, j.Kind)
		a.mu.Lock()
		a.ops = append(a.ops, o)
		a.mu.Unlock()
	}
	return nil
}

// do carries out one operation. It is never cut short: an application waits for its answer.
func (a *localApp) do(space string, session int64, kind Kind) Op {
	ctx, id := context.Background(), sessionID(space, session)
	o := Op{Session: session, Client: int32(a.conf.Index), Kind: kind}
	var data []byte
	var err error
	if kind == Set {
		o.Value = uint64(a.conf.Index+1)<<40 | a.seqs.Add(1)
		data = payload(space, session, o.Value)
	}
	o.Call = now()
	switch kind {
	case Get:
		data, err = a.client.Get(ctx, id)
	case Set:
		err = a.client.Set(ctx, id, data)
	case Touch:
		err = a.client.Touch(ctx, id)
	case Delete:
		err = a.client.Delete(ctx, id)
	}
	o.Return = now()
	switch {
	case err == nil:
		if kind == Get {
			var ok bool
			o.Value, ok = readPayload(space, session, data)
			o.Foreign = !ok
		}
	case errors.Is(err, sessionring.ErrOwnerAway):
		o.Outcome = Away
	case errors.Is(err, sessionring.ErrNotFound):
		o.Outcome = Absent
	case errors.Is(err, sessionring.ErrDestroyed):
		o.Outcome = Destroyed
	default:
		o.Outcome = Unknown
		text := fmt.Sprintf("%s: %v", kind, err)
		if errors.Is(err, sessionring.ErrNoNode) {
			text = noNodeText + kind.String()
		}
		a.mu.Lock()
		a.errs[text]++
		a.mu.Unlock()
	}
	return o
}

// noNodeText begins the counted text of an error that matches ErrNoNode.
const noNodeText = "no node answered: "
