package sessionring

import "time"

// Hooks receive events, for metrics and traces. Each field may be nil. They run on the goroutine where the
// event happens and must return quickly; they may be called from several goroutines at once. No event holds
// a session id or data.
type Hooks struct {
	// StateChange is called when a node's state changes.
	StateChange func(StateChange)
	// Operation is called when an operation of the Client ends.
	Operation func(Operation)
	// Failure is called when one node failed one operation, whatever became of the operation.
	Failure func(Failure)
	// Repair is called when copies were brought up to date behind an operation's back.
	Repair func(Repair)
}

// StateChange is a node's change of state.
type StateChange struct {
	Node     string // Node.ID
	From, To State
	Cause    error // nil when all is well
}

// Operation is a finished operation of the Client.
type Operation struct {
	Name     string // get, set, touch, delete, lock, unlock
	Err      error
	Duration time.Duration
	Failover bool // a node that should have served it did not
}

// Failure is one node's failure in one operation.
type Failure struct {
	Node string // Node.ID
	Op   string
	Err  error
}

// Repair is one session's copies brought up to date.
type Repair struct {
	Reason string // read, hint, rejoin, migrate
	Copies int    // copies written
}
