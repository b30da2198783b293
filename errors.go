package sessionring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// What an operation can end with. Match them with errors.Is.
var (
	// ErrNotFound: there is no session of this id (never written, expired, destroyed).
	ErrNotFound = errors.New("sessionring: session not found")
	// ErrOwnerAway comes together with ErrNotFound when no owner of the session could be asked: it may exist.
	// Do not throw the id away.
	ErrOwnerAway = errors.New("sessionring: an owner of the session is away")
	// ErrDestroyed: the session was deleted; a write of a request that still used it changes nothing.
	ErrDestroyed = errors.New("sessionring: session was destroyed")
	// ErrConflict: the session changed since the version given was read.
	ErrConflict = errors.New("sessionring: session was changed by another request")
	// ErrNoNode: no node answered within the deadline. The error names each node and its last failure.
	ErrNoNode = errors.New("sessionring: no node answered")
	// ErrClosed: the Client was closed.
	ErrClosed = errors.New("sessionring: client is closed")
	// ErrOverloaded: too much is waiting already, for a node or in this process; the operation was not sent.
	ErrOverloaded = errors.New("sessionring: too many operations are waiting")
	// ErrID: the session id is empty, too long, or holds bytes that no session id has.
	ErrID = errors.New("sessionring: bad session id")
	// ErrTooLarge: the data exceed what Redis can store.
	ErrTooLarge = errors.New("sessionring: session data too large")
	// ErrWrongType: the key holds something that is no string, so no session. It is left alone.
	ErrWrongType = errors.New("sessionring: key holds a value that is not a session")
	// ErrOutOfMemory: the node refuses writes because maxmemory is reached.
	ErrOutOfMemory = errors.New("sessionring: node is out of memory")
	// ErrAuth: the node refused the user or password, or asks for one.
	ErrAuth = errors.New("sessionring: authentication failed")
	// ErrDatabase: the node has no database of this number.
	ErrDatabase = errors.New("sessionring: database refused")
	// ErrReplica: the node is a read-only replica; list its primary instead.
	ErrReplica = errors.New("sessionring: node is a read-only replica")
	// ErrClusterNode: the node is a member of a Redis Cluster, which wants the seed[]= form.
	ErrClusterNode = errors.New("sessionring: node is a member of a Redis Cluster")
	// ErrLockHeld: somebody else held the session's lock until the wait was over.
	ErrLockHeld = errors.New("sessionring: session is locked by another request")
	// ErrLockLost: the lock expired or was taken over; nothing was written under it.
	ErrLockLost = errors.New("sessionring: session lock was lost")
	// ErrTimeout: the node did not answer in the time that the operation could give it.
	ErrTimeout = errors.New("sessionring: node did not answer in time")
)

// NodeError is a failure of one node. It never holds a password.
type NodeError struct {
	Node string // Node.ID: tcp://host:port or unix:///path
	Op   string // what was tried: connect, get, set, touch, delete, lock, …
	Err  error
}

// Error names the node, what was tried and the cause.
func (e *NodeError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Node, e.Op, e.Err) }

// Unwrap returns the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// NoNodeError is ErrNoNode with each node's last failure.
type NoNodeError struct {
	Op      string
	Nodes   []*NodeError
	Elapsed time.Duration

	behind bool // refused for want of time of this process, no node was asked
}

// Error lists every node that was tried or known to be down, with its last error.
func (e *NoNodeError) Error() string {
	if e.behind {
		return fmt.Sprintf("%v: %s: %v", ErrNoNode, e.Op, errBehind)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s after %v", ErrNoNode, e.Op, e.Elapsed.Round(time.Millisecond))
	for i, n := range e.Nodes {
		if i == 8 && len(e.Nodes) > 9 {
			fmt.Fprintf(&b, "; and %d more", len(e.Nodes)-i)
			break
		}
		fmt.Fprintf(&b, "; %s: %v", n.Node, n.Err)
	}
	return b.String()
}

// Is matches ErrNoNode.
func (e *NoNodeError) Is(target error) bool { return target == ErrNoNode }

// Unwrap returns the nodes' failures, so that errors.Is finds ErrAuth and alike.
func (e *NoNodeError) Unwrap() []error {
	if e.behind {
		return []error{errBehind}
	}
	out := make([]error, len(e.Nodes))
	for i, n := range e.Nodes {
		out[i] = n
	}
	return out
}

// ConflictError is ErrConflict with the newer session at hand.
type ConflictError struct{ Newer Item }

// Error says that the session changed.
func (e *ConflictError) Error() string { return ErrConflict.Error() }

// Is matches ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// missingError is a miss that could not be made sure of.
type missingError struct{ away []string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%v on the nodes that answered; away: %s", ErrNotFound, strings.Join(e.away, ", "))
}

func (e *missingError) Is(target error) bool { return target == ErrNotFound || target == ErrOwnerAway }

// replyError is an error reply of a Redis server. RedisError makes it a redis.Error.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError marks it as go-redis's kind of error.
func (e replyError) RedisError() {}

// Is maps what servers say to this package's sentinels.
func (e replyError) Is(target error) bool { return sentinelOf(string(e)) == target && target != nil }

// redisError wraps an error reply that came through go-redis so that the sentinels match.
type redisError struct{ err error }

func (e redisError) Error() string { return e.err.Error() }
func (e redisError) Unwrap() error { return e.err }
func (e redisError) Is(target error) bool {
	return target != nil && sentinelOf(e.err.Error()) == target
}

// sentinelOf reads the error code that starts an error reply (Redis protocol specification, "Simple errors").
func sentinelOf(msg string) error {
	msg = scriptCause(msg)
	code, _, _ := strings.Cut(msg, " ")
	switch code {
	case "WRONGTYPE":
		return ErrWrongType
	case "OOM":
		return ErrOutOfMemory
	case "NOAUTH", "WRONGPASS", "NOPERM":
		return ErrAuth
	case "READONLY":
		return ErrReplica
	case "MOVED", "ASK", "CROSSSLOT":
		return ErrClusterNode
	}
	switch {
	case strings.Contains(msg, "DB index"), strings.Contains(msg, "invalid DB"):
		return ErrDatabase
	case strings.Contains(msg, "invalid password"), strings.Contains(msg, "AUTH") && strings.HasPrefix(msg, "ERR"):
		return ErrAuth
	}
	return nil
}

// scriptCause unwraps what a command inside a script answered: Redis 6 puts it behind its own words.
func scriptCause(msg string) string {
	if strings.HasPrefix(msg, "ERR Error running script") || strings.HasPrefix(msg, "ERR Error compiling script") {
		if i := strings.Index(msg, ": -"); i >= 0 {
			return msg[i+3:]
		}
	}
	return msg
}

// verdict says what an error tells of the node it came from.
type verdict int

const (
	verdictFine   verdict = iota // the node works; the error is this operation's
	verdictRetry                 // the connection broke: once more on a fresh one
	verdictFailed                // counts against the node; go on to the next
	verdictFull                  // refuses this write only: another copy may take it
)

// judge classifies an error of a call. Errors of the caller's own context never reach it.
func judge(err error) verdict {
	var re replyError
	var rd redisError
	switch {
	case err == nil, errors.Is(err, errBusy):
		return verdictFine
	case errors.As(err, &re):
		return judgeReply(string(re))
	case errors.As(err, &rd):
		return judgeReply(rd.Error())
	case errors.Is(err, errConnBroken):
		return verdictRetry
	default:
		return verdictFailed
	}
}

func judgeReply(msg string) verdict {
	msg = scriptCause(msg)
	code, _, _ := strings.Cut(msg, " ")
	switch code {
	case "OOM":
		return verdictFull
	case "LOADING", "READONLY", "MISCONF", "NOAUTH", "WRONGPASS", "NOPERM", "CLUSTERDOWN", "MASTERDOWN",
		"MOVED", "ASK", "BUSY", "NOREPLICAS", "UNKILLABLE":
		return verdictFailed
	case "ERR":
		if strings.Contains(msg, "max number of clients") || sentinelOf(msg) != nil {
			return verdictFailed
		}
	}
	return verdictFine
}

// errPlainConflict: the data are not those that were read (layout without stamps).
var errPlainConflict = errors.New("digest differs")

// errConnBroken: the connection ended while a call was on it; the node itself may be well.
var errConnBroken = errors.New("connection closed by the node")

// errBusy: answers flow, but this one is not there yet. The node lives.
var errBusy = fmt.Errorf("%w: the connection is busy with other answers", ErrTimeout)

// permanent reports whether waiting will not mend the node: somebody must change a setting.
func permanent(err error) bool {
	for _, s := range []error{ErrAuth, ErrDatabase, ErrReplica, ErrClusterNode} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// plainCause words a failed connection for people.
func plainCause(err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("host name not found: %w", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connection refused (is redis-server running there?): %w", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("connection closed at the handshake: %w", err)
	}
	return err
}
