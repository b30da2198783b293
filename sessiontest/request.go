package sessiontest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

var requestChecks = []check{
	{"update/lost-update", "requests that change one session at the same time lose no change that was acknowledged", lostUpdate},
	{"update/logout-race", "a request that began before a logout and saves after it does not bring the session back", logoutRace},
	{"update/read-only", "a request that changes nothing does not undo what another one stored meanwhile", readOnly},
}

// gate lets n requests meet, or opens by itself after a while: with locks they come one by one.
type gate struct {
	mu   sync.Mutex
	left int
	open chan struct{}
}

func newGate(n int) *gate { return &gate{left: n, open: make(chan struct{})} }

func (g *gate) pass(patience time.Duration) {
	g.mu.Lock()
	if g.left--; g.left == 0 {
		close(g.open)
	}
	g.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-g.open:
	case <-t.C:
		g.mu.Lock()
		if g.left > 0 { // nobody else will wait
			g.left = -1 << 30
			close(g.open)
		}
		g.mu.Unlock()
	}
}

func lostUpdate(ctx context.Context, s *Store) error {
	const requests = 4
	id, err := s.fresh(ctx, "0")
	if err != nil {
		return err
	}
	all := newGate(requests)
	var mu sync.Mutex
	acknowledged := 0
	var refusal error
	err = together(requests, func(int) error {
		var once sync.Once
		var bad error
		err := s.update(ctx, id, func(old []byte) []byte {
			n, err := strconv.Atoi(string(old))
			if err != nil {
				bad = fmt.Errorf("a request loaded %s instead of a number", brief(old))
			}
			once.Do(func() { all.pass(time.Second) })
			return strconv.AppendInt(nil, int64(n+1), 10)
		})
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			acknowledged++
		} else {
			refusal = err
		}
		return bad
	})
	if err != nil {
		return err
	}
	got, found, err := s.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	n, err := strconv.Atoi(string(got))
	switch {
	case !found || err != nil:
		return fmt.Errorf("read %s, found %t", brief(got), found)
	case acknowledged == 0:
		return fmt.Errorf("no request got through: %w", refusal)
	case n < acknowledged:
		return fmt.Errorf("%d requests added one each and were told that all is well, the counter says %d", acknowledged, n)
	case acknowledged < requests:
		return note(fmt.Sprintf("%d of %d requests were refused: %v", requests-acknowledged, requests, refusal))
	}
	return nil
}

func logoutRace(ctx context.Context, s *Store) error {
	id, err := s.fresh(ctx, "logged in")
	if err != nil {
		return err
	}
	var logout error
	saved := s.update(ctx, id, func([]byte) []byte {
		logout = s.Delete(ctx, id)
		return []byte("logged in, and more")
	})
	if logout != nil {
		return fmt.Errorf("logging out: %w", logout)
	}
	if err := s.expectAbsent(ctx, id); err != nil {
		return fmt.Errorf("after the logout: %w", err)
	}
	if saved == nil {
		return note("the slow request is not told that its session is gone")
	}
	return nil
}

func readOnly(ctx context.Context, s *Store) error {
	if s.Visit == nil {
		return notOffered("a request that changes nothing ends without the store")
	}
	id, err := s.fresh(ctx, "before")
	if err != nil {
		return err
	}
	var stored error
	if err := s.Visit(ctx, id, func() { stored = s.Set(ctx, id, []byte("after"), long) }); err != nil && stored == nil {
		// Refused is right too: what counts is what is in the store.
		if err := s.expect(ctx, id, []byte("after")); err != nil {
			return err
		}
		return note("the request that changed nothing ends with an error: " + err.Error())
	}
	if stored != nil {
		return fmt.Errorf("storing: %w", stored)
	}
	return s.expect(ctx, id, []byte("after"))
}
