// Package sessionring keeps web sessions on several plain Redis servers, named by one string in the form of
// phpredis's session.save_path, and goes on when one of them dies.
//
//	c, err := sessionring.Open("tcp://host1:6379, tcp://host2:6379?weight=2, tcp://host3:6379")
//	…
//	data, err := c.Get(ctx, id)
//	err = c.Set(ctx, id, data)
//
// # The string
//
// [ParseSavePath] reads it as phpredis does, to the letter: entries with tcp, tls and unix addresses, weight, timeout,
// database, prefix, auth and the rest. What it would refuse, or could never connect with, is refused with every bad
// entry named; what it reads in a surprising way comes back in [SavePath].Warnings. Strings of Redis Cluster
// (seed[]=…) and Sentinel (sentinel://…) open a [Client] of the same methods, and those engines distribute. Options of
// this package ride in the same string, where phpredis ignores them: distribution, copies, lifetime, locking,
// lock_expire, lock_wait, lock_retries, deadline; a With… [Option] wins over the string.
//
// # Where a session lives
//
// A [Ring] gives each id an order of preference over the nodes, by their weights. It depends on what the nodes serve
// and weigh and on nothing else: not on their order, and adding, removing or reweighting a node moves no session
// between the others. The first of the order are the session's owners, two where there are two nodes or more
// ([WithCopies]); when an owner is away the next stands in. [PlanChange] says what a change of the list would move.
//
// With distribution=phpredis an id lives where the PHP extension puts it, bit for bit, in one copy, as PHP wrote it:
// PHP and Go then share sessions.
//
// # What is promised
//
// With two copies and one node away, killed, hung, cut off, back with old data or back empty: no operation fails, no
// session is lost or goes back in time, and a destroyed one stays destroyed. Each operation has one deadline
// ([WithDeadline]); a node that hangs costs a part of it, and one that is known to be down costs nothing. When no node
// answers, the error is [ErrNoNode], with each node and its last failure. [Open] connects to nothing, and recovery
// needs no restart. docs/failover.md has the details and what is not promised.
//
// Every write carries a version, and a node refuses one that is older than what it has: late writes of a hung node,
// servers with wrong clocks and copies from before an outage change nothing that is newer. [Client.Store] with
// [SetOptions].IfVersion is compare-and-set on it. After [Client.Delete] a request that still holds the session gets
// [ErrDestroyed] from its write.
//
// # Locks
//
// [Client.Lock] is the lock of phpredis (the key with _LOCK behind it), taken on every owner and renewed while it is
// held. [SetOptions].Lock makes the nodes refuse a write of a holder that has lost it.
//
// # Errors
//
// Errors are matched with errors.Is and errors.As. [ErrNotFound] alone means that there is no such session; together
// with [ErrOwnerAway] it means that none was found while no owner of it could be asked, so the id must not be thrown
// away. [NodeError] names the node. No error, log or String method shows a password or an id.
//
// # Around it
//
// websession is net/http middleware over a Client, phpsession reads and writes what PHP stores in a session, proxy
// serves the Redis protocol on a local socket, sessiontest is a contract for session stores, adapters holds stores for
// scs, gorilla, gin, echo and fiber, telemetry the hooks for OpenTelemetry and Prometheus, and cmd/sessionring the
// command line tool.
package sessionring
