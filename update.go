package sessionring

import (
	"context"
	"errors"
	"fmt"
)

// maxUpdates bounds how often Update runs its function: somebody else won that often.
const maxUpdates = 100

// Update changes a session without a lock: change gets what is stored and returns what shall be; when another
// request wrote in between, it runs again on the newer data. For a session that does not exist it gets the
// zero Item, and creates it. It must not have effects beside its result.
//
// An error of change ends Update and is returned as it is; nothing is written then. ErrDestroyed when the
// session was deleted, ErrConflict when others won a hundred times, else the errors of Load and Store.
func (c *Client) Update(ctx context.Context, id string, opt SetOptions, change func(Item) ([]byte, error)) (Item, error) {
	it, err := c.Load(ctx, id, GetOptions{})
	switch {
	case errors.Is(err, ErrOwnerAway):
		return it, err // it may exist: to create it anew would be to lose it
	case err != nil && !errors.Is(err, ErrNotFound):
		return it, err
	}
	for range maxUpdates {
		data, err := change(it)
		if err != nil {
			return it, err
		}
		opt.IfVersion = &it.Version
		version, err := c.Store(ctx, id, data, opt)
		var conflict *ConflictError
		switch {
		case err == nil:
			return Item{Data: data, Version: version}, nil
		case errors.As(err, &conflict):
			it = conflict.Newer
		default:
			return it, err
		}
	}
	return it, fmt.Errorf("%w, %d times in a row", &ConflictError{Newer: it}, maxUpdates)
}
