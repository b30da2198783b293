// Package faults proves the promises of docs/promises.md on real redis-server processes: application servers work on
// sessions, nodes are killed, hung, emptied, rolled back or cut off, and every answer that an application got is
// judged afterwards against what had been acknowledged.
//
// History and its checker know nothing of Redis. A Site is the nodes, the ways to them and the application servers;
// an application server lives in this process or in one of its own.
package faults
