// Package redistest runs real redis-server (or valkey-server) processes on
// loopback addresses and breaks them in the ways that networks and machines
// do: killed, hung, restarted empty, brought back with old data, cut off,
// slowed down, or fed with bytes that its clients sent long ago.
//
// It serves this module's tests and the nodes that the command line tool
// starts for its own demonstrations and load tests. It depends on the standard
// library only, so a program that imports it gains no other module; even the
// tests' helpers take an interface that testing.TB satisfies instead of
// importing testing.
//
// A [Server] is one process with its own directory, port and log. A [Proxy]
// stands in front of any address and misbehaves on demand. [StartCluster] and
// [StartSentinel] build the two kinds of deployment that need several
// processes to agree. [Nodes] is the short way for a test.
//
// No process outlives the program that started it: each runs in a process
// group of its own and, on Linux, is killed by the kernel when the program
// ends in whatever way.
package redistest
