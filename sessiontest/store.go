package sessiontest

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
)

// Store is the store under test, as functions. Get, Set and Delete are needed; of the others each may be nil,
// and the checks that need it are then not offered. All must be safe for concurrent use where the store is.
type Store struct {
	// Name heads the store's column in a table.
	Name string

	// Get reads a session as a request's load does. Absent is found == false with a nil error.
	Get func(ctx context.Context, id string) (data []byte, found bool, err error)
	// Set stores a session under the id, for the time given from now on. Checks use an id that NewID made and
	// that was not deleted before.
	Set func(ctx context.Context, id string, data []byte, ttl time.Duration) error
	// Delete ends a session, as a logout does. An absent one is no error.
	Delete func(ctx context.Context, id string) error

	// NewID makes an id as the store or its framework does; nil: 26 letters and digits.
	NewID func() string
	// Shortest is the least time to live that the store can keep, and its resolution; zero: 1 s.
	Shortest time.Duration
	// Unavailable reports whether an error says that the servers could not be asked; nil: any error does.
	Unavailable func(error) bool

	// Update is a whole request that changes a session: load, change, save, in the way that protects most and
	// that the store or its framework has ready. nil: Get, change, Set. change may run more than once, and
	// blocks while other requests run.
	Update func(ctx context.Context, id string, change func(old []byte) []byte) error
	// Visit is a whole request that reads a session, runs during, changes nothing, and ends as such requests
	// end in the framework.
	Visit func(ctx context.Context, id string, during func()) error
	// Touch extends the life of a session, its data untouched.
	Touch func(ctx context.Context, id string, ttl time.Duration) error

	// Arrive is a whole request that comes with the id as far as its client can forge that (signed, where the
	// server signs and once gave out the id; else as it is) and stores data in its session. It returns the id
	// that the session got.
	Arrive func(ctx context.Context, id string, data []byte) (string, error)
	// Regenerate is what a login does: the session goes on under another id.
	Regenerate func(ctx context.Context, id string) (string, error)

	// Lock takes the session's lock and waits for it until ctx ends.
	Lock func(ctx context.Context, id string) (*Lock, error)
	// LockExpire is after how long the lock of a holder that died ends.
	LockExpire time.Duration

	// List returns the ids of all sessions, each once.
	List func(ctx context.Context) ([]string, error)
	// Clear removes all of the store's sessions.
	Clear func(ctx context.Context) error
	// Foreign are keys of others in the same database, which Clear has no business with.
	Foreign *Foreign

	// Faults break the servers.
	Faults *Faults
}

// Lock is a lock that is held.
type Lock struct {
	// Unlock gives it up.
	Unlock func(ctx context.Context) error
	// Abandon leaves it as a holder does whose process is killed; nil: cannot be imitated.
	Abandon func() error
}

// Foreign reaches past the store into its database.
type Foreign struct {
	Put func(ctx context.Context, key, value string) error
	Get func(ctx context.Context, key string) (value string, found bool, err error)
	// Keys are names that lie close to the store's own, such as one that begins with its prefix and belongs
	// to a longer one.
	Keys []string
}

// Faults break the servers, numbered from 0, that hold the sessions.
type Faults struct {
	// Nodes is how many there are.
	Nodes int
	// Kill ends a server as kill -9 does. It keeps what it held at that moment.
	Kill func(ctx context.Context, node int) error
	// Return starts a killed server with what it held when it was killed.
	Return func(ctx context.Context, node int) error
	// Hang makes a server stand still with its connections open, and Wake ends that. Either nil: not offered.
	Hang, Wake func(ctx context.Context, node int) error
	// Settled returns once the store takes all its servers for healthy again; nil: once sessions can be
	// written.
	Settled func(ctx context.Context) error
}

func (s *Store) validate() error {
	switch {
	case s == nil || s.Get == nil || s.Set == nil || s.Delete == nil:
		return errors.New("sessiontest: a Store needs Get, Set and Delete")
	case s.Faults != nil && (s.Faults.Nodes < 1 || s.Faults.Kill == nil || s.Faults.Return == nil):
		return errors.New("sessiontest: Faults need Nodes, Kill and Return")
	case s.Foreign != nil && (s.Foreign.Put == nil || s.Foreign.Get == nil):
		return errors.New("sessiontest: Foreign needs Put and Get")
	case s.Lock != nil && s.LockExpire <= 0:
		return errors.New("sessiontest: Lock needs LockExpire")
	}
	return nil
}

func (s *Store) id() string {
	if s.NewID != nil {
		return s.NewID()
	}
	return rand.Text()
}

func (s *Store) shortest() time.Duration {
	if s.Shortest > 0 {
		return s.Shortest
	}
	return time.Second
}

func (s *Store) update(ctx context.Context, id string, change func([]byte) []byte) error {
	if s.Update != nil {
		return s.Update(ctx, id, change)
	}
	old, _, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	return s.Set(ctx, id, change(old), long)
}
