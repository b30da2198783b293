package faults

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Kind is what an operation does to a session.
type Kind uint8

// The kinds of operations.
const (
	Get Kind = iota
	Set
	Touch
	Delete
)

func (k Kind) String() string { return [...]string{"get", "set", "touch", "delete"}[k] }

// Outcome is what its caller was told.
type Outcome uint8

// The outcomes of operations.
const (
	OK        Outcome = iota
	Absent            // there is no such session: every node that should know was asked
	Away              // not found, but a node that should know could not be asked: says nothing
	Destroyed         // the session was destroyed; a write may have been there before that
	Unknown           // failed: it may have happened, and may yet happen
)

func (o Outcome) String() string {
	return [...]string{"ok", "absent", "away", "destroyed", "failed"}[o]
}

// Op is one operation as the application saw it.
type Op struct {
	Session int64
	Client  int32
	Kind    Kind
	Outcome Outcome
	// Value was written, or read. No two writes write the same.
	Value uint64
	// Foreign: what was read was never written to this session.
	Foreign bool
	// Call and Return are nanoseconds of one monotonic clock.
	Call, Return int64
}

func (o Op) String() string {
	s := fmt.Sprintf("client %d %s session %d [%.3f–%.3f s] %s", o.Client, o.Kind, o.Session,
		time.Duration(o.Call).Seconds(), time.Duration(o.Return).Seconds(), o.Outcome)
	if o.Value != 0 {
		s += fmt.Sprintf(" %x", o.Value)
	}
	return s
}

// Rules say which promises a history is held to.
type Rules struct {
	// PerClient judges what each client saw by what that client itself was told. Otherwise all clients see one
	// order, in real time: a read that begins after a write was acknowledged, to whomever, returns that or a later one.
	PerClient bool
	// MayVanish: a session may be lost, as with one copy on a node that came back empty. What was overwritten must
	// not return all the same.
	MayVanish bool
	// MayForget: that a session was destroyed may be forgotten, as with one copy by whoever stands in for a node that
	// is away, so that its id may be used anew. What was destroyed must not return all the same.
	MayForget bool
}

// Verdict counts what is wrong with a history.
type Verdict struct {
	Ops         int
	Failed      int // operations that ended with an error
	Away        int // reads that could not be sure that there is no such session
	Hidden      int // those of them that did not find what had been acknowledged
	Vanished    int // reads that found nothing though something had been acknowledged, where Rules allow it
	Lost        int // the same where Rules do not
	Stale       int // reads of something older than what was acknowledged or read before
	Resurrected int // operations that found a destroyed session alive
	Foreign     int // reads of another session's data, of data that nobody wrote, or of a write not yet begun
	Examples    []string
	Sessions    []int64 // those of the examples
}

// Wrong counts all that breaks a promise under any rules.
func (v Verdict) Wrong() int { return v.Lost + v.Stale + v.Resurrected + v.Foreign }

func (v Verdict) String() string {
	return fmt.Sprintf("%d operations: %d failed, %d away (%d hidden), %d vanished, %d lost, %d stale, %d resurrected, %d foreign",
		v.Ops, v.Failed, v.Away, v.Hidden, v.Vanished, v.Lost, v.Stale, v.Resurrected, v.Foreign)
}

const maxExamples = 12

// blame counts what is wrong with an operation.
func (v *Verdict) blame(counter *int, o Op, format string, args ...any) {
	*counter++
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, o.String()+": "+fmt.Sprintf(format, args...))
		v.Sessions = append(v.Sessions, o.Session)
	}
}

// Check judges a history. For one session it asks whether some order of all operations explains what everybody was
// told: an order in which each operation takes effect at one moment between its call and its return, and a failed one
// at any moment after its call, or never. (A write that met a deletion may have taken effect before it.) Since no two writes write the same, that can be decided by looking at each
// value's zone, from the first moment when it certainly was there to the last (Gibbons and Korach, "Testing shared
// memories", 1997): two values that certainly were there must not each lie between two sightings of the other.
func Check(history []Op, rules Rules) Verdict {
	v := Verdict{Ops: len(history)}
	bySession := map[int64][]Op{}
	for _, o := range history {
		switch o.Outcome {
		case Unknown:
			v.Failed++
		case Away:
			v.Away++
		}
		bySession[o.Session] = append(bySession[o.Session], o)
	}
	sessions := make([]int64, 0, len(bySession))
	for s := range bySession {
		sessions = append(sessions, s)
	}
	slices.Sort(sessions)
	for _, s := range sessions {
		ops := bySession[s]
		slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
		v.checkForeign(ops)
		if !rules.PerClient {
			v.checkSession(ops, rules)
			continue
		}
		for _, c := range clientsOf(ops) {
			v.checkSession(asSeenBy(c, ops), rules)
		}
	}
	return v
}

func clientsOf(ops []Op) []int32 {
	var out []int32
	for _, o := range ops {
		if !slices.Contains(out, o.Client) {
			out = append(out, o.Client)
		}
	}
	return out
}

// asSeenBy is the history as far as one client can know it: what others were told is not known to it, so their
// writes and deletions took effect at any time after their call, or never.
func asSeenBy(client int32, ops []Op) []Op {
	var out []Op
	for _, o := range ops {
		switch {
		case o.Client == client:
			out = append(out, o)
		case o.Kind == Set || o.Kind == Delete:
			o.Outcome, o.Return = Unknown, math.MaxInt64
			out = append(out, o)
		}
	}
	return out
}

// checkForeign finds reads of what nobody can have read.
func (v *Verdict) checkForeign(ops []Op) {
	called := map[uint64]int64{}
	first := int64(math.MaxInt64)
	for _, o := range ops {
		if o.Kind == Set {
			called[o.Value] = o.Call
			first = min(first, o.Call)
		}
	}
	for _, o := range ops {
		if o.Kind == Touch && o.Outcome == OK && first > o.Return {
			v.blame(&v.Foreign, o, "foreign: nobody had written to this session")
		}
		if o.Kind != Get || o.Outcome != OK {
			continue
		}
		at, written := called[o.Value]
		switch {
		case o.Foreign || !written:
			v.blame(&v.Foreign, o, "foreign: nobody wrote that to this session")
		case at > o.Return:
			v.blame(&v.Foreign, o, "foreign: written only at %.3f s", time.Duration(at).Seconds())
		}
	}
}

// zone is what is known of one value.
type zone struct {
	value    uint64
	write    Op
	there    int64 // the first moment when it certainly had been there: a write acknowledged, a read returned
	lastCall int64 // of an operation on it, among those looked at so far
	read     bool
}

// checkSession judges one session's operations, in the order of their calls.
func (v *Verdict) checkSession(ops []Op, rules Rules) {
	zones := map[uint64]*zone{}
	for _, o := range ops {
		if o.Kind != Set {
			continue
		}
		z := &zone{value: o.Value, write: o, there: math.MaxInt64}
		if o.Outcome == OK {
			z.there = o.Return
		}
		zones[o.Value] = z
	}
	for _, o := range ops {
		if z := zones[o.Value]; o.Kind == Get && o.Outcome == OK && z != nil {
			z.there = min(z.there, o.Return)
			z.read = true
		}
	}
	deadBy, deletion := v.checkAbsence(ops, rules)
	v.checkResurrection(ops, zones, rules, deadBy, deletion)
	v.checkStale(ops, zones)
}

// checkAbsence judges what was not found, and returns the first moment when the session certainly was destroyed
// and the call of the deletion that began last before it.
func (v *Verdict) checkAbsence(ops []Op, rules Rules) (deadBy, deletion int64) {
	const never = int64(math.MaxInt64)
	firstDelete, firstAlive := never, never
	for _, o := range ops {
		switch {
		case o.Kind == Delete:
			firstDelete = min(firstDelete, o.Call)
		case o.Outcome == OK:
			firstAlive = min(firstAlive, o.Return)
		}
	}
	deadBy = never
	for _, o := range ops {
		switch {
		case o.Kind == Delete && o.Outcome == OK:
			deadBy = min(deadBy, o.Return)
		case o.Outcome == Destroyed && firstDelete <= o.Return:
			deadBy = min(deadBy, o.Return)
		case o.Outcome == Destroyed:
			v.blame(&v.Lost, o, "lost: nobody had deleted it")
		case o.Outcome == Away && firstAlive < o.Call && firstDelete > o.Return:
			v.blame(&v.Hidden, o, "hidden: it was alive at %.3f s", time.Duration(firstAlive).Seconds())
		case o.Outcome != Absent || firstAlive >= o.Call:
			// It may not have been written yet.
		case rules.MayVanish:
			v.Vanished++
		case firstDelete <= o.Return:
			deadBy = min(deadBy, o.Return)
		default:
			v.blame(&v.Lost, o, "lost: it was alive at %.3f s, and nobody deleted it", time.Duration(firstAlive).Seconds())
		}
	}
	deletion = firstDelete
	for _, o := range ops {
		if o.Kind == Delete && o.Call < deadBy {
			deletion = max(deletion, o.Call)
		}
	}
	return deadBy, deletion
}

// checkResurrection finds operations that saw a session alive that had been destroyed.
func (v *Verdict) checkResurrection(ops []Op, zones map[uint64]*zone, rules Rules, deadBy, deletion int64) {
	for _, o := range ops {
		if o.Kind == Delete || o.Outcome != OK || o.Call <= deadBy {
			continue
		}
		if rules.MayForget {
			z := zones[o.Value]
			if o.Kind != Get || z == nil || z.there >= deletion {
				continue
			}
		}
		v.blame(&v.Resurrected, o, "resurrected: it was destroyed by %.3f s", time.Duration(deadBy).Seconds())
	}
}

// checkStale finds reads of a value after another one had certainly taken its place. It goes through the calls in
// order and keeps the value that was last seen being worked on, among those that were certainly there.
func (v *Verdict) checkStale(ops []Op, zones map[uint64]*zone) {
	var seen []*zone // by the moment when they were certainly there
	for _, z := range zones {
		if z.there != math.MaxInt64 {
			seen = append(seen, z)
		}
	}
	slices.SortFunc(seen, func(a, b *zone) int { return cmp.Compare(a.there, b.there) })
	next := 0
	var first, second *zone // the two with the latest calls, of those that were there before now
	rank := func(z *zone) {
		switch {
		case z == first:
		case first == nil || z.lastCall > first.lastCall:
			if z != first {
				first, second = z, first
			}
		case second == nil || z == second || z.lastCall > second.lastCall:
			second = z
		}
	}
	there := map[*zone]bool{}
	for _, o := range ops {
		for next < len(seen) && seen[next].there < o.Call {
			there[seen[next]] = true
			rank(seen[next])
			next++
		}
		z := zones[o.Value]
		if z == nil || (o.Kind != Set && (o.Kind != Get || o.Outcome != OK)) {
			continue
		}
		if o.Kind == Get {
			newer := first
			if newer == z {
				newer = second
			}
			if newer != nil && newer.lastCall > z.there {
				v.blame(&v.Stale, o, "stale: that had been there by %.3f s; then came %v, there by %.3f s",
					time.Duration(z.there).Seconds(), newer.write, time.Duration(newer.there).Seconds())
			}
		}
		z.lastCall = o.Call
		if there[z] {
			rank(z)
		}
	}
}
