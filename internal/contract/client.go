package contract

import (
	"context"
	"errors"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/sessiontest"
)

// Store is the Client as a store.
func Store(c *sessionring.Client) *sessiontest.Store {
	get := func(ctx context.Context, id string) ([]byte, bool, error) {
		data, err := c.Get(ctx, id)
		if errors.Is(err, sessionring.ErrNotFound) && !errors.Is(err, sessionring.ErrOwnerAway) {
			return nil, false, nil
		}
		return data, err == nil, err
	}
	set := func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
		_, err := c.Store(ctx, id, data, sessionring.SetOptions{Lifetime: ttl})
		return err
	}
	return &sessiontest.Store{
		Name: "sessionring", Get: get, Set: set, Delete: c.Delete,
		Shortest: 100 * time.Millisecond,
		Update: func(ctx context.Context, id string, change func([]byte) []byte) error {
			for {
				it, err := c.Load(ctx, id, sessionring.GetOptions{})
				if err != nil {
					return err
				}
				_, err = c.Store(ctx, id, change(it.Data), sessionring.SetOptions{IfVersion: &it.Version})
				if !errors.Is(err, sessionring.ErrConflict) {
					return err
				}
			}
		},
		Visit: func(ctx context.Context, id string, during func()) error {
			if _, _, err := get(ctx, id); err != nil {
				return err
			}
			during()
			return c.Touch(ctx, id)
		},
	}
}
