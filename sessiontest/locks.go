package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

var lockChecks = []check{
	{"lock/excludes", "one request at a time has the session's lock", lockExcludes},
	{"lock/expires", "the lock of a holder that died ends when its time is over, and not at once", lockExpires},
}

func lockExcludes(ctx context.Context, s *Store) error {
	if s.Lock == nil {
		return notOffered("no lock")
	}
	id, err := s.fresh(ctx, "data")
	if err != nil {
		return err
	}
	var inside, counter atomic.Int32
	err = together(4, func(int) error {
		for range 3 {
			l, err := s.Lock(ctx, id)
			if err != nil {
				return fmt.Errorf("locking: %w", err)
			}
			if inside.Add(1) > 1 {
				return errors.New("two requests have the lock")
			}
			counter.Add(1)
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
			inside.Add(-1)
			if err := l.Unlock(ctx); err != nil {
				return fmt.Errorf("unlocking: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l, err := s.Lock(ctx, id)
	if err != nil {
		return fmt.Errorf("locking: %w", err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if second, err := s.Lock(short, id); err == nil {
		_ = second.Unlock(ctx)
		return errors.New("the lock was given out while another request has it")
	}
	return l.Unlock(ctx)
}

func lockExpires(ctx context.Context, s *Store) error {
	if s.Lock == nil {
		return notOffered("no lock")
	}
	id, err := s.fresh(ctx, "data")
	if err != nil {
		return err
	}
	l, err := s.Lock(ctx, id)
	if err != nil {
		return fmt.Errorf("locking: %w", err)
	}
	if l.Abandon == nil {
		_ = l.Unlock(ctx)
		return notOffered("no way to let the holder die")
	}
	start := time.Now()
	if err := l.Abandon(); err != nil {
		return fmt.Errorf("abandoning the lock: %w", err)
	}
	wait, cancel := context.WithTimeout(ctx, 3*s.LockExpire+slack)
	defer cancel()
	for {
		next, err := s.Lock(wait, id)
		if err == nil {
			if took := time.Since(start); took < s.LockExpire/2 {
				return fmt.Errorf("somebody else had the lock after %v, it was to be held for %v", took.Round(time.Millisecond), s.LockExpire)
			}
			return next.Unlock(ctx)
		}
		if wait.Err() != nil {
			return fmt.Errorf("the lock is still held after %v: %w", time.Since(start).Round(time.Second), err)
		}
		if err := pause(wait, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the lock is still held after %v", time.Since(start).Round(time.Second))
		}
	}
}
