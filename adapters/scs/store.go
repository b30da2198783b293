// Package scsstore keeps the sessions of github.com/alexedwards/scs on the nodes of a sessionring Client: with
// copies, failover, and the certainty that a destroyed session stays destroyed.
//
//	manager := scs.New()
//	manager.Store = scsstore.New(client)
//
// The payload is what the manager's Codec makes; session tokens are the ids. [Store.Requests] adds what the
// manager alone cannot do: locks, refused lost updates, and reads that rewrite nothing.
package scsstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/sessionring/sessionring"
)

// Store is an scs.Store, CtxStore, IterableStore and IterableCtxStore over a Client. It is safe for concurrent use.
//
// Errors are those of the Client, and reach the manager's ErrorFunc. A session that could not be asked for is
// an error, never an absent session: the visitor keeps the cookie. A commit of a session that another request
// destroyed is sessionring.ErrDestroyed.
type Store struct {
	client *sessionring.Client
	opt    Options
}

// Options are optional; the zero value is useful.
type Options struct {
	// Codec is the manager's, for Requests to see whether a session changed; nil: scs.GobCodec.
	Codec scs.Codec
	// RefuseConflicts has a commit under Requests end with sessionring.ErrConflict where another request
	// changed the session since this one loaded it, instead of undoing that change.
	RefuseConflicts bool
}

var (
	_ scs.CtxStore         = (*Store)(nil)
	_ scs.IterableStore    = (*Store)(nil)
	_ scs.IterableCtxStore = (*Store)(nil)
)

// New returns a Store over the Client, which stays the caller's to close.
func New(client *sessionring.Client) *Store { return NewWithOptions(client, Options{}) }

// NewWithOptions is New with options.
func NewWithOptions(client *sessionring.Client, opt Options) *Store {
	if opt.Codec == nil {
		opt.Codec = scs.GobCodec{}
	}
	return &Store{client: client, opt: opt}
}

// Find is FindCtx without a context.
func (s *Store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context.
func (s *Store) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is DeleteCtx without a context.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// All is AllCtx without a context.
func (s *Store) All() (map[string][]byte, error) { return s.AllCtx(context.Background()) }

// FindCtx returns the session's data. A token that is absent, expired, destroyed or no session id at all is not
// found, without an error.
func (s *Store) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	if r := requestOf(ctx); r != nil {
		return r.find(ctx, s, token)
	}
	it, found, err := s.load(ctx, token)
	return it.Data, found, err
}

func (s *Store) load(ctx context.Context, token string) (sessionring.Item, bool, error) {
	it, err := s.client.Load(ctx, token, sessionring.GetOptions{})
	if absent(err) {
		return it, false, nil
	}
	return it, err == nil, err
}

// absent: there is surely no session.
func absent(err error) bool {
	return errors.Is(err, sessionring.ErrNotFound) && !errors.Is(err, sessionring.ErrOwnerAway) ||
		errors.Is(err, sessionring.ErrID) || // such a token was never given out
		errors.Is(err, sessionring.ErrWrongType) // a key of somebody else
}

// CommitCtx stores the data until the expiry, by this process's clock; one that is over deletes the session.
func (s *Store) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	ttl := time.Until(expiry)
	if ttl <= 0 {
		return s.DeleteCtx(ctx, token)
	}
	ttl = max(ttl, time.Millisecond) // the shortest that Redis knows
	if r := requestOf(ctx); r != nil {
		return r.commit(ctx, s, token, data, ttl)
	}
	_, err := s.client.Store(ctx, token, data, sessionring.SetOptions{Lifetime: ttl})
	return err
}

// DeleteCtx destroys the session: no request that still works with it brings it back. An absent one is no error.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	if sessionring.CheckID(token) != nil {
		return nil //nolint:nilerr // the manager deletes "" for a session that was never stored
	}
	if err := s.client.Delete(ctx, token); !errors.Is(err, sessionring.ErrID) {
		return err
	}
	return nil
}

// AllCtx returns the data of all sessions by their tokens, found by SCAN on each node. It holds all of them in
// memory at once. With a node that could not be asked it returns what the others have, and the error.
func (s *Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := map[string][]byte{}
	var failed error
	for info, err := range s.client.Sessions(ctx) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if strings.Contains(info.ID, ":") {
			continue // no token has one: it belongs to a longer prefix that begins with this one
		}
		it, found, err := s.load(ctx, info.ID)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case found:
			all[info.ID] = it.Data
		}
	}
	return all, failed
}
