package websession

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/sessionring/sessionring"
)

// Defaults of Options.
const (
	DefaultMaxBytes        = 1 << 20 // a session as it is stored
	DefaultRegenerateGrace = 10 * time.Second
	DefaultMaxSessions     = 100 // of one user
	DefaultTouchInterval   = time.Minute
	DefaultRetryAfter      = time.Second
)

// Options say how sessions are kept. The zero value is useful: JSON, a cookie named "session" that scripts
// cannot read, the Client's lifetime as idle timeout.
type Options struct {
	// Codec writes the values: JSON (the default), Gob or PHP.
	Codec Codec
	// Cookie that carries the id.
	Cookie Cookie
	// ID is the form of new ids; zero: 256 random bits, in PHP's alphabet with a PHP codec.
	ID IDFormat

	// IdleTimeout is how long a session lives without a request that uses it; zero: the Client's Lifetime.
	IdleTimeout time.Duration
	// AbsoluteTimeout ends a session so long after it began, or after SetUser named another user; zero:
	// never. It compares the clocks of the application's servers. A session without a time of creation (made
	// by PHP, or before this was set) gets one, by one write, when it is first seen.
	AbsoluteTimeout time.Duration
	// TouchInterval is how often a session that is only read has its life extended, in each process. Zero: a
	// tenth of IdleTimeout, at most a minute; negative: at each request. IdleTimeout is exact to this.
	TouchInterval time.Duration
	// RegenerateGrace is how long a request that comes by the id from before Regenerate still finds the
	// session. Zero: 10 s; negative: not at all.
	RegenerateGrace time.Duration
	// MaxBytes bounds a session as it is stored; zero: 1 MiB. More is a *SizeError.
	MaxBytes int

	// Lock lets requests of one session run one after another. Zero: as the save_path says (locking=1).
	Lock LockMode
	// ReadOnly tells requests that change nothing, and so take no lock; nil: none. See Manager.ReadOnly too.
	ReadOnly func(*http.Request) bool
	// Locked says what becomes of a request that did not get the lock in time.
	Locked LockedPolicy
	// Merge resolves that the session was changed while the request ran: it changes theirs, the newer one,
	// into what is to be stored. base is what this request loaded, mine what it made of it. It may be called
	// several times in one save, and must not use the request's own Session. nil: MergeKeys.
	Merge func(base, mine, theirs *Session) error

	// Unavailable says what a request sees when the store cannot be asked for its session.
	Unavailable UnavailablePolicy
	// BadData says what becomes of a session that Codec cannot read.
	BadData BadDataPolicy

	// MaxSessions bounds the sessions of one user named by SetUser; zero: 100. One more destroys the oldest.
	MaxSessions int
	// Label describes a session in Manager.SessionsOf, "my devices"; nil: the User-Agent header.
	Label func(*http.Request) string

	// Skip tells requests that have no session at all, such as static files under Lock; nil: none.
	Skip func(*http.Request) bool
	// ErrorHandler writes the response when the session could not be had or saved. It gets the plain
	// ResponseWriter, with the headers from before the handler. nil: Status(err) in plain words.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
	// RetryAfter is what a 503 tells the client to wait; zero: 1 s. Whole seconds, rounded up.
	RetryAfter time.Duration
	// Hooks receive events, for metrics and traces.
	Hooks Hooks
	// Logger is told of sessions that could not be loaded or saved; nil: silent. Ids are digests there.
	Logger *slog.Logger
}

// LockMode says whether requests take their session's lock.
type LockMode int

const (
	LockAsConfigured LockMode = iota // locking=1 in the save_path, or sessionring.WithLocking
	// LockRequests takes the lock and loads the session before the handler runs, if the request has a
	// session, and gives it up when the session has been saved: at the first byte of the response.
	LockRequests
	LockNever
)

// LockedPolicy says what becomes of a request that did not get its session's lock in time.
type LockedPolicy int

const (
	LockedFail     LockedPolicy = iota // 503 with Retry-After; the handler does not run
	LockedReadOnly                     // the handler runs with the real data; changes are refused with ErrReadOnly
)

// UnavailablePolicy says what a request sees when the store cannot be asked for its session.
type UnavailablePolicy int

const (
	// Fail gives the handler the error, and the client a 503 with Retry-After whatever the handler writes.
	Fail UnavailablePolicy = iota
	// ReadOnlyEmpty gives the handler an empty session whose changes are refused with ErrReadOnly. The
	// response goes out as the handler wrote it; the cookie stays.
	ReadOnlyEmpty
)

// BadDataPolicy says what becomes of a session that the codec cannot read: written by another codec, cut off.
// It is left in the store as it is either way.
type BadDataPolicy int

const (
	// BadDataFail is a *DataError to the handler and a 500 to the client: the mistake of a deployment is seen,
	// and nobody is logged out by it.
	BadDataFail BadDataPolicy = iota
	// BadDataFresh starts a new session, with a new id, when the handler puts something.
	BadDataFresh
)

// Hooks receive events. Each field may be nil. They run on the request's goroutine and must return quickly.
type Hooks struct {
	Operation func(Operation)
}

// Operation is something that was done for a session. It holds no id and no data.
type Operation struct {
	Name    string // load, save, touch, lock, regenerate, destroy, index
	Outcome Outcome
	Err     error // OutcomeError, OutcomeGone, OutcomeRefused
	// Late is true for a save after the first byte of the response: no client learns of its failure.
	Late     bool
	Duration time.Duration
}

// Outcome of an Operation.
type Outcome string

const (
	OutcomeOK      Outcome = "ok"
	OutcomeMiss    Outcome = "miss"    // load: no such session
	OutcomeMerged  Outcome = "merged"  // save: the session had been changed meanwhile
	OutcomeGone    Outcome = "gone"    // save: the session had been destroyed meanwhile, and stays so
	OutcomeRefused Outcome = "refused" // not tried, because it could not be kept: no cookie could be sent, too large
	OutcomeError   Outcome = "error"
)

// complete checks the options and fills in what is zero.
func (o Options) complete(c *sessionring.Client) (Options, error) {
	if c == nil {
		return o, fmt.Errorf("websession: New needs a *sessionring.Client, got nil")
	}
	if o.Codec.open == nil {
		o.Codec = JSON()
	}
	if o.Codec.err != nil {
		return o, o.Codec.err
	}
	var err error
	if o.ID, err = o.ID.complete(o.Codec.php); err != nil {
		return o, err
	}
	if err = o.Cookie.complete(o.Codec.php); err != nil {
		return o, err
	}
	if o.IdleTimeout < 0 || o.AbsoluteTimeout < 0 || o.MaxBytes < 0 || o.MaxSessions < 0 || o.RetryAfter < 0 {
		return o, fmt.Errorf("websession: IdleTimeout, AbsoluteTimeout, MaxBytes, MaxSessions and RetryAfter must not be negative")
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = c.Lifetime()
	}
	if o.IdleTimeout < time.Millisecond {
		return o, fmt.Errorf("websession: IdleTimeout %v is under a millisecond, the shortest that Redis knows", o.IdleTimeout)
	}
	o.IdleTimeout = min(o.IdleTimeout, sessionring.MaxLifetime)
	switch {
	case o.TouchInterval == 0:
		o.TouchInterval = min(o.IdleTimeout/10, DefaultTouchInterval)
	case o.TouchInterval >= o.IdleTimeout:
		return o, fmt.Errorf("websession: TouchInterval %v must be below IdleTimeout %v, or sessions in use would end", o.TouchInterval, o.IdleTimeout)
	}
	if o.RegenerateGrace == 0 {
		o.RegenerateGrace = DefaultRegenerateGrace
	}
	if o.RegenerateGrace > maxGrace {
		return o, fmt.Errorf("websession: RegenerateGrace %v is over %v; it is meant for requests already under way", o.RegenerateGrace, maxGrace)
	}
	setDefault(&o.MaxBytes, DefaultMaxBytes)
	setDefault(&o.MaxSessions, DefaultMaxSessions)
	setDefault(&o.RetryAfter, DefaultRetryAfter)
	if o.Lock == LockAsConfigured {
		o.Lock = LockNever
		if c.Locking() {
			o.Lock = LockRequests
		}
	}
	if o.Label == nil {
		o.Label = (*http.Request).UserAgent
	}
	if o.Merge == nil {
		o.Merge = MergeKeys
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
