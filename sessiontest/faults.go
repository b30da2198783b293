package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var faultChecks = []check{
	{"failure/one-server-dies", "while one server is away every session can be read and changed", oneServerDies},
	{"failure/stale-return", "a server that comes back with old data brings nothing back: no older data, no session that was logged out", staleReturn},
	{"failure/hung-server", "while a server hangs every call ends by its deadline", hungServer},
	{"failure/all-servers-die", "with no server left every call ends in an error, and no session reads as absent", allServersDie},
	{"failure/recovers", "when the servers are back so are the sessions, without a restart", recovers},
}

const (
	// patience is how long a call without a deadline of its own may take on a dead server.
	patience = 15 * time.Second
	// recovery is how long a store may take to notice that its servers are back.
	recovery = 60 * time.Second
)

var errAbsent = errors.New("a session reads as absent: its user would be logged out")

var errNoFaults = notOffered("no servers to break")

// healed puts every server back, whatever became of the check.
func (s *Store) healed(ctx context.Context, back func(context.Context, int) error, nodes ...int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recovery)
	defer cancel()
	for _, n := range nodes {
		if err := back(ctx, n); err != nil {
			return fmt.Errorf("bringing server %d back: %w", n, err)
		}
	}
	return s.settled(ctx)
}

// worse joins the outcome of a check with that of the healing after it; a failure of that is no remark.
func worse(err, healing error) error {
	var remark note
	if healing != nil && errors.As(err, &remark) {
		return healing
	}
	return errors.Join(err, healing)
}

func (s *Store) settled(ctx context.Context) error {
	if s.Faults.Settled != nil {
		if err := s.Faults.Settled(ctx); err != nil {
			return fmt.Errorf("the store does not take its servers for healthy again: %w", err)
		}
		return nil
	}
	streak, last := 0, error(nil)
	for streak < 8 {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("sessions still cannot be written: %w", errors.Join(last, err))
		}
		if _, last = s.fresh(ctx, "probe"); last != nil {
			streak = 0
		} else {
			streak++
		}
	}
	return nil
}

func (s *Store) nodes() []int {
	all := make([]int, s.Faults.Nodes)
	for i := range all {
		all[i] = i
	}
	return all
}

func oneServerDies(ctx context.Context, s *Store) (err error) {
	if s.Faults == nil {
		return errNoFaults
	}
	ids, err := s.seed(ctx, seeded, "before")
	if err != nil {
		return err
	}
	if err := s.Faults.Kill(ctx, 0); err != nil {
		return fmt.Errorf("killing a server: %w", err)
	}
	defer func() { err = worse(err, s.healed(ctx, s.Faults.Return, 0)) }()
	start := time.Now()
	failed, lost, last := 0, 0, error(nil)
	for i, id := range ids {
		got, found, err := s.Get(ctx, id)
		switch {
		case err != nil:
			failed, last = failed+1, err
		case !found || string(got) != "before":
			lost++
		}
		if err := s.Set(ctx, id, []byte("meanwhile"), long); err != nil {
			failed, last = failed+1, err
		}
		if time.Since(start) > checkTimeout/4 {
			return fmt.Errorf("with 1 of %d servers away %d calls took %v, of which %d failed%s",
				s.Faults.Nodes, 2*(i+1), time.Since(start).Round(time.Second), failed, because(last))
		}
	}
	for _, id := range ids {
		got, found, err := s.Get(ctx, id)
		switch {
		case err != nil:
			failed, last = failed+1, err
		case !found || string(got) != "meanwhile":
			lost++
		}
	}
	if failed > 0 || lost > 0 {
		return fmt.Errorf("with 1 of %d servers away %d of %d calls failed and %d read the wrong data or none%s",
			s.Faults.Nodes, failed, 3*len(ids), lost, because(last))
	}
	return nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return ": " + text
}

func staleReturn(ctx context.Context, s *Store) (err error) {
	if s.Faults == nil {
		return errNoFaults
	}
	ids, err := s.seed(ctx, seeded, "old")
	if err != nil {
		return err
	}
	if err := s.Faults.Kill(ctx, 0); err != nil {
		return fmt.Errorf("killing a server: %w", err)
	}
	down := true
	defer func() {
		if down {
			err = worse(err, s.healed(ctx, s.Faults.Return, 0))
		}
	}()
	written, ended := map[string]bool{}, map[string]bool{}
	for i, id := range ids {
		if i%4 == 3 {
			ended[id] = s.persist(ctx, func() error { return s.Delete(ctx, id) })
		} else {
			written[id] = s.persist(ctx, func() error { return s.Set(ctx, id, []byte("new"), long) })
		}
	}
	if err := s.Faults.Return(ctx, 0); err != nil {
		return fmt.Errorf("bringing the server back: %w", err)
	}
	down = false
	stale, revived, lost, acknowledged := map[string]bool{}, map[string]bool{}, map[string]bool{}, 0
	look := func() (failed error) {
		for _, id := range ids {
			got, found, err := s.Get(ctx, id)
			switch {
			case err != nil:
				failed = err
			case ended[id] && found:
				revived[id] = true
			case written[id] && !found:
				lost[id] = true
			case written[id] && string(got) != "new":
				stale[id] = true
			}
		}
		return failed
	}
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		_ = look()
	}
	if err := s.healed(ctx, nil); err != nil {
		return err
	}
	for until := time.Now().Add(recovery); ; {
		failed := look()
		if failed == nil {
			break
		}
		if time.Now().After(until) {
			return fmt.Errorf("reading after the return: %w", failed)
		}
	}
	for _, id := range ids {
		if written[id] || ended[id] {
			acknowledged++
		}
	}
	if len(stale)+len(revived)+len(lost) > 0 {
		return fmt.Errorf("of %d sessions that were written or ended meanwhile %d went back to older data, %d came back to life and %d were lost",
			acknowledged, len(stale), len(revived), len(lost))
	}
	if acknowledged == 0 {
		return note("nothing could be written while the server was away")
	}
	return nil
}

// persist tries as a client would that has yet to notice that a server is gone.
func (s *Store) persist(ctx context.Context, f func() error) bool {
	for range 5 {
		if f() == nil {
			return true
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return false
		}
	}
	return false
}

var errEndless = errors.New("does not come back")

// within gives a call so long. A call that takes longer is left behind: it ends when its server is back.
func within(limit time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- guarded(f) }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("%w within %v", errEndless, limit)
	}
}

func hungServer(ctx context.Context, s *Store) (err error) {
	if s.Faults == nil {
		return errNoFaults
	}
	if s.Faults.Hang == nil || s.Faults.Wake == nil {
		return notOffered("no way to make a server hang")
	}
	ids, err := s.seed(ctx, seeded/4, "before")
	if err != nil {
		return err
	}
	if err := s.Faults.Hang(ctx, 0); err != nil {
		return fmt.Errorf("hanging a server: %w", err)
	}
	defer func() { err = worse(err, s.healed(ctx, s.Faults.Wake, 0)) }()
	const deadline = time.Second
	failed := 0
	for _, id := range ids {
		for _, f := range []func(context.Context) error{
			func(ctx context.Context) error { return s.expect(ctx, id, []byte("before")) },
			func(ctx context.Context) error { return s.Set(ctx, id, []byte("meanwhile"), long) },
		} {
			short, cancel := context.WithTimeout(ctx, deadline)
			err := within(deadline+2*time.Second, func() error { return f(short) })
			cancel()
			if errors.Is(err, errEndless) {
				return fmt.Errorf("a call with a deadline of %v %w", deadline, err)
			}
			if err != nil {
				failed++
			}
		}
	}
	if failed > 0 {
		return note(fmt.Sprintf("%d of %d calls failed, in time", failed, 2*len(ids)))
	}
	return nil
}

func allServersDie(ctx context.Context, s *Store) (err error) {
	if s.Faults == nil {
		return errNoFaults
	}
	ids, err := s.seed(ctx, 4, "before")
	if err != nil {
		return err
	}
	for _, n := range s.nodes() {
		if err := s.Faults.Kill(ctx, n); err != nil {
			return fmt.Errorf("killing a server: %w", err)
		}
	}
	defer func() { err = worse(err, s.healed(ctx, s.Faults.Return, s.nodes()...)) }()
	call := func(what string, f func() error) error {
		err := within(patience, f)
		switch {
		case errors.Is(err, errAbsent):
			return err
		case err == nil:
			return fmt.Errorf("%s succeeds", what)
		case errors.Is(err, errEndless):
			return fmt.Errorf("%s %w", what, err)
		case s.Unavailable != nil && !s.Unavailable(err):
			return fmt.Errorf("%s gives an error that does not say that the servers are away: %w", what, err)
		}
		return nil
	}
	for _, id := range ids {
		err := call("reading", func() error {
			_, found, err := s.Get(ctx, id)
			if err == nil && !found {
				return errAbsent
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := call("writing", func() error { return s.Set(ctx, id, []byte("meanwhile"), long) }); err != nil {
			return err
		}
		if s.Update != nil {
			if err := call("a request that changes a session", func() error {
				return s.Update(ctx, id, func([]byte) []byte { return []byte("meanwhile") })
			}); err != nil {
				return err
			}
		}
	}
	if s.Arrive != nil {
		if err := call("a request that comes with a session", func() error {
			_, err := s.Arrive(ctx, ids[0], []byte("meanwhile"))
			return err
		}); err != nil {
			return err
		}
	}
	return call("deleting", func() error { return s.Delete(ctx, s.id()) })
}

func recovers(ctx context.Context, s *Store) error {
	if s.Faults == nil {
		return errNoFaults
	}
	ids, err := s.seed(ctx, seeded/2, "before")
	if err != nil {
		return err
	}
	for _, n := range s.nodes() {
		if err := s.Faults.Kill(ctx, n); err != nil {
			return fmt.Errorf("killing a server: %w", err)
		}
	}
	_, _, _ = s.Get(ctx, ids[0]) // so that the outage is noticed
	if err := s.healed(ctx, s.Faults.Return, s.nodes()...); err != nil {
		return err
	}
	for _, id := range ids {
		for until := time.Now().Add(recovery); ; {
			err := s.expect(ctx, id, []byte("before"))
			if err == nil {
				break
			}
			if _, found, readErr := s.Get(ctx, id); readErr == nil && !found {
				return fmt.Errorf("after the return: %w", err)
			}
			if time.Now().After(until) {
				return fmt.Errorf("after the return: %w", err)
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
