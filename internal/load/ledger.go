package load

import "sync/atomic"

// Verdict is what a read's content says.
type Verdict uint8

const (
	// Unread: nothing was learned, because the operation was a write or failed.
	Unread Verdict = iota
	// Good: at least as new as what was acknowledged before the read began.
	Good
	// Absent: no session, and none was acknowledged.
	Absent
	// Lost: acknowledged, and reads as absent with every owner asked.
	Lost
	// Away: acknowledged, and reads as absent while a node that should hold it
	// is away. The user is logged out all the same, so it counts as lost.
	Away
	// Stale: older than acknowledged.
	Stale
	// Foreign: another session's data.
	Foreign
	// Corrupt: damaged, or a write that was never made.
	Corrupt
)

var verdictNames = [...]string{"unread", "good", "absent", "lost", "away", "stale", "foreign", "corrupt"}

// String returns the verdict's name in lower case.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Bad reports whether the verdict is a broken promise.
func (v Verdict) Bad() bool { return v >= Lost }

// Integrity counts what reads found. Sessions are counted once however often
// they read wrong.
type Integrity struct {
	Lost    int // sessions that were acknowledged and read as absent
	Away    int // of Lost: sessions that read so only while a node that should hold them was away
	Stale   int // sessions that read older than acknowledged
	Foreign int // sessions that read as another's
	Corrupt int // sessions that read damaged

	LostReads, StaleReads, ForeignReads, CorruptReads int64 // reads that found it so
}

// Bad reports whether any promise was broken.
func (i Integrity) Bad() bool { return i.Lost+i.Stale+i.Foreign+i.Corrupt > 0 }

// Add adds the counts of another load, of other sessions.
func (i *Integrity) Add(o Integrity) {
	i.Lost += o.Lost
	i.Away += o.Away
	i.Stale += o.Stale
	i.Foreign += o.Foreign
	i.Corrupt += o.Corrupt
	i.LostReads += o.LostReads
	i.StaleReads += o.StaleReads
	i.ForeignReads += o.ForeignReads
	i.CorruptReads += o.CorruptReads
}

// ledger remembers what was written and acknowledged. Writes to one session
// follow one another, so that "the last one acknowledged" has a meaning; reads
// run beside them.
type ledger struct {
	ids   []string
	slots []slot
}

type slot struct {
	busy  atomic.Bool   // a write is under way
	sent  atomic.Uint64 // the greatest counter that any write carried
	acked atomic.Uint64 // the greatest counter that was acknowledged; 0: none
	bad   atomic.Uint32 // verdicts that reads came to, as bits
	reads [Corrupt + 1]atomic.Uint32
}

func newLedger(ids []string) *ledger {
	return &ledger{ids: ids, slots: make([]slot, len(ids))}
}

// claim makes the caller the session's only writer; false when there is one.
func (l *ledger) claim(i int) bool { return l.slots[i].busy.CompareAndSwap(false, true) }

// next returns the counter of the write that the claim is for.
func (l *ledger) next(i int) uint64 { return l.slots[i].sent.Add(1) }

// written ends a claim. A write that failed may have happened or not: a later
// read may find it, and need not.
func (l *ledger) written(i int, n uint64, acknowledged bool) {
	if acknowledged {
		l.slots[i].acked.Store(n)
	}
	l.slots[i].busy.Store(false)
}

// acknowledged is what a read that begins now must find, 0: nothing.
func (l *ledger) acknowledged(i int) uint64 { return l.slots[i].acked.Load() }

// absent judges a read that found no session.
func (l *ledger) absent(i int, before uint64, ownerAway bool) Verdict {
	switch {
	case before == 0:
		return Absent
	case ownerAway:
		return l.note(i, Away)
	}
	return l.note(i, Lost)
}

// found judges a read's data; before is acknowledged as it was when the read
// began.
func (l *ledger) found(i int, before uint64, data []byte) Verdict {
	id, n, err := ParsePayload(data)
	switch {
	case err != nil:
		return l.note(i, Corrupt)
	case id != l.ids[i]:
		return l.note(i, Foreign)
	case n < before:
		return l.note(i, Stale)
	case n > l.slots[i].sent.Load():
		return l.note(i, Corrupt)
	}
	return Good
}

func (l *ledger) note(i int, v Verdict) Verdict {
	l.slots[i].bad.Or(1 << v)
	l.slots[i].reads[v].Add(1)
	return v
}

func (l *ledger) integrity() Integrity {
	var t Integrity
	for i := range l.slots {
		s := &l.slots[i]
		bad := s.bad.Load()
		if bad == 0 {
			continue
		}
		has := func(v Verdict) int { return int(bad >> v & 1) }
		t.Lost += has(Lost) | has(Away)
		t.Away += has(Away) &^ has(Lost)
		t.Stale += has(Stale)
		t.Foreign += has(Foreign)
		t.Corrupt += has(Corrupt)
		t.LostReads += int64(s.reads[Lost].Load() + s.reads[Away].Load())
		t.StaleReads += int64(s.reads[Stale].Load())
		t.ForeignReads += int64(s.reads[Foreign].Load())
		t.CorruptReads += int64(s.reads[Corrupt].Load())
	}
	return t
}
