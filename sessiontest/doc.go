// Package sessiontest is one contract that any session store may be held against, whatever framework it is for
// and whatever it keeps sessions in: values go in and come out as they were, sessions end when they should, two
// requests of one visitor do not undo each other's work, a session that was logged out stays so, ids chosen by
// strangers are not taken up, locks end with their holders, and trouble with the servers is told as trouble
// instead of as an empty session.
//
// A [Store] is a handful of functions, of which three are needed; what the others would show is reported as not
// offered. [Run] makes subtests of the checks. [Check] returns verdicts, of which [WriteTable] makes a table.
//
// The package imports the standard library alone.
package sessiontest
