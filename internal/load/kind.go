package load

import (
	"context"
	"errors"

	"github.com/sessionring/sessionring"
)

var kinds = []struct {
	err  error
	name string
}{
	// The causes before ErrNoNode, which wraps them.
	{sessionring.ErrAuth, "auth"},
	{sessionring.ErrDatabase, "database"},
	{sessionring.ErrReplica, "replica"},
	{sessionring.ErrClusterNode, "cluster_node"},
	{sessionring.ErrWrongType, "wrong_type"},
	{sessionring.ErrTooLarge, "too_large"},
	{sessionring.ErrOutOfMemory, "out_of_memory"},
	{sessionring.ErrOverloaded, "overloaded"},
	{sessionring.ErrNoNode, "no_node"},
	{sessionring.ErrTimeout, "timeout"},
	{sessionring.ErrDestroyed, "destroyed"},
	{sessionring.ErrConflict, "conflict"},
	{sessionring.ErrLockLost, "lock_lost"},
	{sessionring.ErrLockHeld, "lock_held"},
	{sessionring.ErrClosed, "closed"},
	{sessionring.ErrID, "id"},
	{context.DeadlineExceeded, "deadline"},
	{context.Canceled, "canceled"},
}

// Kind names an error for a count by kind, "" for nil. The names are stable:
// auth, database, replica, cluster_node, wrong_type, too_large, out_of_memory,
// overloaded, no_node, timeout, destroyed, conflict, lock_lost, lock_held,
// closed, id, deadline, canceled, other.
func Kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return "other"
}
