package sessiontest

import (
	"context"
	"crypto/rand"
	"fmt"
)

var listChecks = []check{
	{"list/each-once", "a listing has every session once and nothing else", listing},
	{"clear/own-only", "clearing removes the store's sessions and no key of anybody else", clearing},
}

const seeded = 40

// seed stores sessions and returns their ids.
func (s *Store) seed(ctx context.Context, n int, data string) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		id, err := s.fresh(ctx, data)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}

func listing(ctx context.Context, s *Store) error {
	if s.List == nil {
		return notOffered("no listing")
	}
	ids, err := s.seed(ctx, seeded, "data")
	if err != nil {
		return err
	}
	gone := ids[0]
	if err := s.Delete(ctx, gone); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	if s.Lock != nil {
		l, err := s.Lock(ctx, ids[1])
		if err != nil {
			return fmt.Errorf("locking: %w", err)
		}
		defer func() { _ = l.Unlock(ctx) }()
	}
	listed, err := s.List(ctx)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	times := map[string]int{}
	for _, id := range listed {
		times[id]++
		if times[id] > 1 {
			return fmt.Errorf("a session is listed twice")
		}
	}
	for _, id := range ids[1:] {
		if times[id] == 0 {
			return fmt.Errorf("a session is not listed")
		}
	}
	if times[gone] > 0 {
		return fmt.Errorf("a deleted session is listed")
	}
	for _, id := range listed {
		if err := s.readable(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// readable: what is listed is a session, or was one a moment ago, and no side key.
func (s *Store) readable(ctx context.Context, id string) error {
	_, found, err := s.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("reading what is listed: %w", err)
	}
	if !found {
		return fmt.Errorf("something is listed that cannot be read")
	}
	return nil
}

func clearing(ctx context.Context, s *Store) error {
	if s.Clear == nil {
		return notOffered("no way to clear")
	}
	if s.Foreign == nil {
		return notOffered("no way to look at keys of others")
	}
	ids, err := s.seed(ctx, seeded, "data")
	if err != nil {
		return err
	}
	keys := append([]string{"sessiontest-" + rand.Text()}, s.Foreign.Keys...)
	for _, k := range keys {
		if err := s.Foreign.Put(ctx, k, "not yours"); err != nil {
			return fmt.Errorf("storing a key of somebody else: %w", err)
		}
	}
	if err := s.Clear(ctx); err != nil {
		return fmt.Errorf("clearing: %w", err)
	}
	for _, k := range keys {
		v, found, err := s.Foreign.Get(ctx, k)
		if err != nil {
			return fmt.Errorf("reading a key of somebody else: %w", err)
		}
		if !found || v != "not yours" {
			return fmt.Errorf("the key %q of somebody else is gone", k)
		}
	}
	for _, id := range ids {
		if err := s.expectAbsent(ctx, id); err != nil {
			return fmt.Errorf("after clearing: %w", err)
		}
	}
	return nil
}
