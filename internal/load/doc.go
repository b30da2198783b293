// Package load puts a session store under load and checks what it gives back.
//
// Every session that the load writes carries its own id and a counter that
// grows with each write. A ledger remembers the last counter that the store
// acknowledged, so each read tells whether the session was lost (acknowledged,
// reads as absent), went back in time (older than acknowledged), or is
// somebody else's.
//
// Operations are started as fast as the workers go, or at a fixed rate. At a
// rate each operation has an intended start, and its latency counts from
// there: a store that hangs cannot hide by keeping the load from asking
// ("coordinated omission").
//
// The package counts, and hands every operation to its caller as a [Sample];
// histograms, reports and plots are the caller's.
package load
