package sessiontest

import (
	"context"
	"fmt"
	"time"
)

var lifeChecks = []check{
	{"expiry/ends", "a session ends when its time is over, and not at once", expires},
	{"expiry/renewed-by-set", "storing again gives the session its whole time again", renewedBySet},
	{"expiry/renewed-by-touch", "touching gives the session its whole time again and leaves its data alone", renewedByTouch},
	{"expiry/touch-of-nothing", "touching what is absent creates nothing", touchOfNothing},
}

// slack is what a check waits beyond the time that something should take, on a machine that does other things too.
const slack = 10 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ends waits until the session is absent.
func (s *Store) ends(ctx context.Context, id string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		_, found, err := s.Get(ctx, id)
		switch {
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		case !found:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the session is still there after %v", within)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func expires(ctx context.Context, s *Store) error {
	id, ttl := s.id(), 2*s.shortest()
	start := time.Now()
	if err := s.Set(ctx, id, []byte("data"), ttl); err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	if err := s.expect(ctx, id, []byte("data")); err != nil && time.Since(start) < ttl-s.shortest() {
		return fmt.Errorf("at the beginning of its life: %w", err)
	}
	return s.ends(ctx, id, ttl+slack)
}

// renewed gives a session a short life, renews it, and looks at it when its first life would be over.
func (s *Store) renewed(ctx context.Context, renew func(id string) error, want string) error {
	id, ttl := s.id(), 3*s.shortest()
	start := time.Now()
	if err := s.Set(ctx, id, []byte("data"), ttl); err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	if err := renew(id); err != nil {
		if time.Since(start) >= ttl {
			return notOffered("this machine was too slow to renew the session while it lived")
		}
		return err
	}
	if err := pause(ctx, ttl+s.shortest()); err != nil {
		return err
	}
	return s.expect(ctx, id, []byte(want))
}

func renewedBySet(ctx context.Context, s *Store) error {
	return s.renewed(ctx, func(id string) error { return s.Set(ctx, id, []byte("new"), long) }, "new")
}

func renewedByTouch(ctx context.Context, s *Store) error {
	if s.Touch == nil {
		return notOffered("no touch: a life is extended by storing the data again")
	}
	return s.renewed(ctx, func(id string) error {
		if err := s.Touch(ctx, id, long); err != nil {
			return fmt.Errorf("touching: %w", err)
		}
		return nil
	}, "data")
}

func touchOfNothing(ctx context.Context, s *Store) error {
	if s.Touch == nil {
		return notOffered("no touch: a life is extended by storing the data again")
	}
	id := s.id()
	_ = s.Touch(ctx, id, long) // whether that is an error is a matter of taste
	return s.expectAbsent(ctx, id)
}
