package sessionring

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Client is the session store over the nodes of a save_path. It is safe for use by many goroutines.
type Client struct {
	conf  config
	clock *clock
	view  atomic.Pointer[view]
	limit *rate.Limiter // copies a second that are moved in the background
	mend  *mender
	lag   lag
	pulse pulse
	locks lockQueues
	large largeIDs
	turns turns

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	closed atomic.Bool

	changing sync.Mutex  // one Reconfigure at a time
	draining atomic.Bool // a worker moves sessions from previous lists
	untidy   atomic.Bool // copies may stand where the list that was let go wanted them
	drained  drainState
}

// view is one node list at work: immutable, swapped whole.
type view struct {
	path     *SavePath
	ring     *Ring
	nodes    []*node // by the ring's index; entries that name one node share it
	distinct []*node
	copies   int
	stamped  bool  // distribution consistent: a stamp stands beside each copy
	engine   bool  // Redis Cluster or Sentinel: one node that stands for all
	mixed    bool  // sessions move from or to PHP's own layout: stamps carry digests
	previous *view // where sessions may still be, until drained
	since    time.Time
}

// drainState is how far the sessions of previous lists have moved.
type drainState struct {
	mu sync.Mutex
	p  Progress
}

func (d *drainState) report(change func(*Progress)) {
	d.mu.Lock()
	change(&d.p)
	d.mu.Unlock()
}

// Item is a session as it was read.
type Item struct {
	Data    []byte
	Version Version // for SetOptions.IfVersion
}

// Open parses savePath and returns a Client for it. It connects to nothing yet, so it succeeds with every
// node down: a web server must start without Redis. Errors are of the string or the options alone
// (ErrSavePath, *SavePathError).
func Open(savePath string, opts ...Option) (*Client, error) {
	conf := config{}
	for _, o := range opts {
		o(&conf)
	}
	sp, err := conf.parse(savePath)
	if err != nil {
		return nil, err
	}
	conf.fill(sp)
	c := &Client{conf: conf, clock: newClock(conf.now)}
	c.limit = rate.NewLimiter(rate.Limit(conf.rejoinRate), max(1, conf.rejoinRate/10))
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mend = newMender()
	v, err := c.newView(sp, nil)
	if err != nil {
		c.cancel()
		return nil, err
	}
	if conf.previous != "" {
		if err := c.openPrevious(v); err != nil {
			c.cancel()
			return nil, err
		}
	}
	c.view.Store(v)
	if !v.engine {
		for _, n := range v.byID() {
			c.watchOver(n)
		}
	}
	c.pulse.beat(time.Now())
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.pulse.run(c.ctx)
	}()
	c.startMending()
	if v.previous != nil {
		c.startDraining()
	}
	return c, nil
}

// openPrevious puts the list of WithPrevious behind v.
func (c *Client) openPrevious(v *view) error {
	sp, err := ParseSavePath(c.conf.previous, Lenient())
	if err != nil {
		return fmt.Errorf("previous: %w", err)
	}
	if v.engine || sp.Kind != KindNodes {
		return fmt.Errorf("previous: %w: sessions move between node lists only", ErrSavePath)
	}
	old, err := c.newView(sp, v.byID())
	if err != nil {
		return fmt.Errorf("previous: %w", err)
	}
	v.follow(old)
	return nil
}

// parse reads a save_path with what the options change in it.
func (conf *config) parse(savePath string) (*SavePath, error) {
	var popts []ParseOption
	if conf.lenient {
		popts = append(popts, Lenient())
	}
	sp, err := ParseSavePath(savePath, popts...)
	if err != nil {
		return nil, err
	}
	if conf.distribution != "" {
		sp.Settings.Distribution = conf.distribution
	}
	if conf.copies > 0 {
		sp.Settings.Copies = conf.copies
	}
	return sp, nil
}

// fill takes from the save_path what no option set, and defaults for the rest.
func (conf *config) fill(sp *SavePath) {
	s := sp.Settings
	pick := func(own *time.Duration, path, def time.Duration) {
		if *own <= 0 {
			*own = path
		}
		if *own <= 0 {
			*own = def
		}
	}
	pick(&conf.lifetime, s.Lifetime, DefaultLifetime)
	conf.lifetime = min(conf.lifetime, MaxLifetime)
	pick(&conf.deadline, s.Deadline, DefaultDeadline)
	pick(&conf.lockExpire, s.LockExpire, DefaultLockExpire)
	pick(&conf.lockWait, s.LockWait, DefaultLockWait)
	if conf.locking == nil {
		conf.locking = s.Locking
	}
	if conf.logger == nil {
		conf.logger = slog.New(slog.DiscardHandler)
	}
	if conf.hooks == nil {
		conf.hooks = &Hooks{}
	}
	if conf.newRing == nil {
		conf.newRing = NewRing
	}
	if conf.ringSilence <= 0 {
		conf.ringSilence = ringSilence
	}
	if conf.rejoinRate <= 0 {
		conf.rejoinRate = 20_000
	}
}

// newView builds ring and nodes; nodes of reuse that serve the same and are set up the same are kept.
func (c *Client) newView(sp *SavePath, reuse map[string]*node) (*view, error) {
	if sp.Kind != KindNodes {
		return c.newEngineView(sp)
	}
	ring, err := c.conf.newRing(sp)
	if err != nil {
		return nil, err
	}
	v := &view{path: sp, ring: ring, copies: ring.Copies(), stamped: ring.Distribution() == Consistent, since: time.Now()}
	byID := map[string]*node{}
	for _, cfg := range sp.Nodes {
		id := cfg.ID()
		n := byID[id]
		if n == nil {
			if old := reuse[id]; old != nil && old.sameSetup(cfg) {
				n = old
			} else if n, err = newNode(cfg, &c.conf, &c.wg); err != nil {
				return nil, err
			} else {
				c.equip(n)
			}
			byID[id] = n
			v.distinct = append(v.distinct, n)
		}
		v.nodes = append(v.nodes, n)
	}
	return v, nil
}

// equip gives a node its health and its pipe.
func (c *Client) equip(n *node) {
	n.health = newHealth(n, c.stateChanged)
	n.pipe = &pipe{
		dial:  n.dial,
		wg:    &c.wg,
		up:    func(cn *conn) { c.meet(n, cn.dialed.facts, cn) },
		down:  n.health.unreachable,
		lost:  n.health.lost,
		turns: &c.turns,
	}
	n.bulk = c.newBulk(n)
}

// met notes what a node said of itself when a connection was made.
func (c *Client) met(n *node, f facts) {
	if !f.time.IsZero() {
		c.clock.nodeTime(f.time)
	}
	n.health.met(f)
}

// watchOver starts the node's watcher, which ends with the node or the Client.
func (c *Client) watchOver(n *node) {
	ctx, cancel := context.WithCancel(c.ctx)
	n.stop = cancel
	c.wg.Add(1)
	go c.watch(ctx, n)
}

func (c *Client) stateChanged(s StateChange) {
	level := slog.LevelInfo
	if s.To == StateDown {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("node", s.Node), slog.String("from", s.From.String()), slog.String("to", s.To.String())}
	if s.Cause != nil {
		attrs = append(attrs, slog.String("err", s.Cause.Error()))
		if permanent(s.Cause) {
			level = slog.LevelError // nobody but a person can mend it
		}
	}
	c.conf.logger.LogAttrs(context.Background(), level, "node is "+s.To.String(), attrs...)
	if c.conf.hooks.StateChange != nil {
		c.conf.hooks.StateChange(s)
	}
}

func (c *Client) failure(n *node, op string, err error) {
	if c.conf.hooks.Failure != nil {
		c.conf.hooks.Failure(Failure{Node: n.id, Op: op, Err: err})
	}
}

// ended reports an operation to the hook and passes its error on.
func (c *Client) ended(f *fan, err error) error {
	f.abandon()
	if c.conf.hooks.Operation != nil {
		c.conf.hooks.Operation(Operation{Name: f.name, Err: err, Duration: time.Since(f.began), Failover: f.moved})
	}
	return err
}

// check refuses what cannot be an operation before anything is sent.
func (c *Client) check(ctx context.Context, id string) error {
	if c.closed.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckID(id); err != nil {
		return err
	}
	return c.view.Load().ring.Check(id)
}

// CheckID reports whether id can be a session id: 1 to MaxIDLength bytes, none of them a control byte or one
// that PHP drops from a session id (blank, < > ' " \). The error matches ErrID and does not hold the id.
func CheckID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: it is empty", ErrID)
	}
	if len(id) > MaxIDLength {
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrID, len(id), MaxIDLength)
	}
	for i := range len(id) {
		if ch := id[i]; ch <= ' ' || ch == 0x7f || strings.IndexByte(`<>'"\`, ch) >= 0 {
			return fmt.Errorf("%w: byte %d is 0x%02x, which no session id holds", ErrID, i, ch)
		}
	}
	return nil
}

// Lifetime returns how long a session lives after its last Set or Touch.
func (c *Client) Lifetime() time.Duration { return c.conf.lifetime }

// Locking reports whether the save_path or an option asks for a lock around each request (locking=1).
func (c *Client) Locking() bool { return c.conf.locking != nil && *c.conf.locking }

// SavePath returns the save_path in use, as it was parsed.
func (c *Client) SavePath() *SavePath { return c.view.Load().path }

// Ring returns the ring in use; nil for cluster and sentinel strings.
func (c *Client) Ring() *Ring {
	if v := c.view.Load(); !v.engine {
		return v.ring
	}
	return nil
}

// Close ends every operation under way with ErrClosed, stops all goroutines and waits for them. It may be
// called twice.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		c.wg.Wait()
		return nil
	}
	c.cancel()
	c.changing.Lock()
	defer c.changing.Unlock()
	for v := c.view.Load(); v != nil; v = v.previous {
		for _, n := range v.distinct {
			n.close()
		}
	}
	c.wg.Wait()
	return nil
}

func (n *node) close() {
	if n.stop != nil {
		n.stop()
	}
	n.retired.Store(true)
	n.pipe.close()
	if n.bulk != nil {
		n.bulk.close()
	}
}

// sameSetup reports whether nothing changed that a connection depends on.
func (n *node) sameSetup(cfg Node) bool {
	a, b := n.cfg, cfg
	a.Index, a.Offset, a.Weight = 0, 0, 0
	b.Index, b.Offset, b.Weight = 0, 0, 0
	if a.Auth.Password.Reveal() != b.Auth.Password.Reveal() || a.Auth.Password.IsZero() != b.Auth.Password.IsZero() ||
		a.Stream.Passphrase.Reveal() != b.Stream.Passphrase.Reveal() {
		return false
	}
	a.Auth.Password, b.Auth.Password = Secret{}, Secret{}
	a.Stream.Passphrase, b.Stream.Passphrase = Secret{}, Secret{}
	return a == b
}
