package sessiontest

import (
	"context"
	"errors"
	"fmt"
)

var idChecks = []check{
	{"fixation/made-up-id", "an id that a client made up is not taken up", madeUpID},
	{"fixation/dead-id", "the id of a session that was logged out is not taken up again", deadID},
	{"fixation/login", "a login gives the session another id, and the one from before is worth nothing", loginID},
}

// arrives sends a request with an id under which there is no session.
func (s *Store) arrives(ctx context.Context, id string) error {
	used, err := s.Arrive(ctx, id, []byte("victim"))
	switch {
	case err != nil:
		if absent := s.expectAbsent(ctx, id); absent != nil {
			return absent
		}
		return note("the request is refused: " + err.Error())
	case used == id:
		return errors.New("the session is kept under the client's id")
	case used == "":
		return errors.New("the session got no id")
	}
	if err := s.expectAbsent(ctx, id); err != nil {
		return fmt.Errorf("under the client's id: %w", err)
	}
	return s.expect(ctx, used, []byte("victim"))
}

func madeUpID(ctx context.Context, s *Store) error {
	if s.Arrive == nil {
		return notOffered("the store sees no requests")
	}
	return s.arrives(ctx, s.id())
}

func deadID(ctx context.Context, s *Store) error {
	if s.Arrive == nil {
		return notOffered("the store sees no requests")
	}
	id, err := s.fresh(ctx, "somebody")
	if err != nil {
		return err
	}
	if err := s.Delete(ctx, id); err != nil {
		return fmt.Errorf("logging out: %w", err)
	}
	return s.arrives(ctx, id)
}

func loginID(ctx context.Context, s *Store) error {
	if s.Regenerate == nil {
		return notOffered("no way to give a session another id")
	}
	id, err := s.fresh(ctx, "basket")
	if err != nil {
		return err
	}
	next, err := s.Regenerate(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("regenerating: %w", err)
	case next == id:
		return errors.New("the id stays")
	}
	if err := s.expect(ctx, next, []byte("basket")); err != nil {
		return fmt.Errorf("under the new id: %w", err)
	}
	if err := s.expectAbsent(ctx, id); err != nil {
		return fmt.Errorf("under the old id: %w", err)
	}
	return nil
}
