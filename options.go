package sessionring

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Defaults, in one place. A save_path or an Option overrides each.
const (
	DefaultPort        = 6379
	DefaultPrefix      = "PHPREDIS_SESSION:"
	DefaultLifetime    = 1440 * time.Second // PHP's session.gc_maxlifetime
	DefaultTimeout     = time.Second        // connecting to one node
	DefaultReadTimeout = time.Second        // one answer of one node
	DefaultDeadline    = 2 * time.Second    // one operation, all its tries together
	DefaultCopies      = 2                  // where there are two nodes or more
	DefaultLockExpire  = 30 * time.Second   // phpredis: max_execution_time, 30 s
	DefaultLockWait    = 10 * time.Second   // how long Lock waits at most
)

// Limits of what is accepted.
const (
	MaxIDLength   = 256                       // bytes in a session id
	MaxDataLength = 512<<20 - 1               // Redis holds less than 512 MiB in a string
	MaxLifetime   = (1<<31 - 1) * time.Second // phpredis cuts larger lifetimes to 2147483647 s
)

// Option changes what the save_path says; the option wins.
type Option func(*config)

// config is the outcome of save_path, options and defaults.
type config struct {
	lenient      bool
	distribution Distribution
	copies       int
	lifetime     time.Duration
	deadline     time.Duration
	locking      *bool
	lockExpire   time.Duration
	lockWait     time.Duration
	logger       *slog.Logger
	hooks        *Hooks
	dialer       func(ctx context.Context, network, address string) (net.Conn, error)
	now          func() time.Time
	rejoinRate   int
	observer     bool
	ringSilence  time.Duration                  // after so long unheard, nobody works by a ring any more
	newRing      func(*SavePath) (*Ring, error) // NewRing; tests of this package share tables, which take seconds under -race
	previous     string                         // save_path
}

// WithLenient turns parameters of the save_path that nobody knows into warnings, for a string shared with PHP.
func WithLenient() Option { return func(c *config) { c.lenient = true } }

// WithDistribution sets the distribution.
func WithDistribution(d Distribution) Option { return func(c *config) { c.distribution = d } }

// WithCopies sets how many nodes hold each session; more than there are nodes means all of them.
func WithCopies(n int) Option { return func(c *config) { c.copies = n } }

// WithLifetime sets how long a session lives after its last Set or Touch.
// Above MaxLifetime it is cut to MaxLifetime; zero or less is DefaultLifetime.
func WithLifetime(d time.Duration) Option { return func(c *config) { c.lifetime = d } }

// WithDeadline bounds one operation, all its tries on all nodes together. An earlier deadline of the context wins.
func WithDeadline(d time.Duration) Option { return func(c *config) { c.deadline = d } }

// WithLocking says whether callers that can lock (websession, the proxy) take the session's lock around a request.
func WithLocking(on bool) Option { return func(c *config) { c.locking = &on } }

// WithLockExpire sets after how long a lock whose holder died ends by itself. It is renewed while held.
func WithLockExpire(d time.Duration) Option { return func(c *config) { c.lockExpire = d } }

// WithLockWait sets how long Lock waits for a held lock at most.
func WithLockWait(d time.Duration) Option { return func(c *config) { c.lockWait = d } }

// WithLogger hands in a logger for changes of node states and the like. Silent by default.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithHooks hands in hooks for metrics and traces.
func WithHooks(h Hooks) Option { return func(c *config) { c.hooks = &h } }

// WithDialer replaces the network dialer of plain and TLS connections; TLS is put on top of what it returns.
func WithDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return func(c *config) { c.dialer = dial }
}

// WithClock replaces the clock that versions start from, for tests of applications whose servers disagree on the time.
func WithClock(now func() time.Time) Option { return func(c *config) { c.now = now } }

// WithRejoinRate bounds how many sessions a second are copied to a node that returns or by migration; default 20,000.
func WithRejoinRate(perSecond int) Option { return func(c *config) { c.rejoinRate = perSecond } }

// WithObserver makes a Client that looks after nothing: it brings no node up to date and repairs no copies behind a
// read, and moves nothing from a previous node list unless Migrate is called. It is for tools that look at nodes, whose save_path may name other nodes or copies than the applications'.
func WithObserver() Option { return func(c *config) { c.observer = true } }
