package load

import (
	"testing"
	"time"
)

func TestLedgerVerdicts(t *testing.T) {
	l := newLedger([]string{"one", "two"})
	write := func(ok bool) uint64 {
		if !l.claim(0) {
			t.Fatal("the session is still claimed")
		}
		if l.claim(0) {
			t.Fatal("two writers at a time")
		}
		n := l.next(0)
		l.written(0, n, ok)
		return n
	}
	data := func(id string, n uint64) []byte { return AppendPayload(nil, id, n, 100) }
	check := func(what string, got, want Verdict) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s; want %s", what, got, want)
		}
	}
	check("nothing written, nothing there", l.absent(0, l.acknowledged(0), false), Absent)
	first := write(false)
	check("a write that failed may not have happened", l.absent(0, l.acknowledged(0), false), Absent)
	check("or it may", l.found(0, l.acknowledged(0), data("one", first)), Good)
	second := write(true)
	third := write(false)
	check("the acknowledged write", l.found(0, l.acknowledged(0), data("one", second)), Good)
	check("a later one that failed", l.found(0, l.acknowledged(0), data("one", third)), Good)
	if i := l.integrity(); i != (Integrity{}) {
		t.Errorf("all is well so far, counted: %+v", i)
	}

	check("older", l.found(0, l.acknowledged(0), data("one", first)), Stale)
	check("older, again", l.found(0, l.acknowledged(0), data("one", first)), Stale)
	check("older than a read that began before", l.found(0, first, data("one", first)), Good)
	check("never written", l.found(0, l.acknowledged(0), data("one", third+1)), Corrupt)
	check("damaged", l.found(0, l.acknowledged(0), []byte("visits|i:1;")), Corrupt)
	check("somebody else's", l.found(0, l.acknowledged(0), data("two", second)), Foreign)
	check("gone, perhaps", l.absent(0, l.acknowledged(0), true), Away)
	if i := l.integrity(); i.Lost != 1 || i.Away != 1 {
		t.Errorf("a session that is away is lost to its user: %+v", i)
	}
	check("gone", l.absent(0, l.acknowledged(0), false), Lost)
	want := Integrity{Lost: 1, Stale: 1, Foreign: 1, Corrupt: 1, LostReads: 2, StaleReads: 2, ForeignReads: 1, CorruptReads: 2}
	if i := l.integrity(); i != want {
		t.Errorf("counted %+v; want %+v", i, want)
	}
}

func TestPacer(t *testing.T) {
	begin := time.Unix(1000, 0)
	p := newPacer(begin, 4, 2500*time.Millisecond)
	var got []time.Duration
	for {
		at, ok := p.next()
		if !ok {
			break
		}
		got = append(got, at.Sub(begin))
	}
	if len(got) != 10 || got[0] != 0 || got[9] != 2250*time.Millisecond {
		t.Errorf("4 a second for 2.5 s start at %v", got)
	}
	for _, c := range []struct {
		after time.Duration
		want  int64
	}{{-time.Second, 0}, {0, 0}, {1, 1}, {249 * time.Millisecond, 1}, {251 * time.Millisecond, 2}, {time.Hour, 10}} {
		if n := p.due(begin.Add(c.after)); n != c.want {
			t.Errorf("%d due %v after the begin; want %d", n, c.after, c.want)
		}
	}
}
