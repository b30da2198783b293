package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// h builds histories by hand: op(client, kind, value, outcome, call, return), times in any unit.
func op(client int32, kind Kind, value uint64, outcome Outcome, call, ret int64) Op {
	return Op{Session: 7, Client: client, Kind: kind, Value: value, Outcome: outcome, Call: call, Return: ret}
}

func TestRightHistories(t *testing.T) {
	cases := map[string][]Op{
		"nothing": nil,
		"write, read": {
			op(1, Set, 1, OK, 0, 1), op(2, Get, 1, OK, 2, 3),
		},
		"absent before the first write": {
			op(2, Get, 0, Absent, 0, 1), op(2, Touch, 0, Absent, 1, 2), op(1, Set, 1, OK, 2, 3), op(2, Get, 1, OK, 4, 5),
		},
		"absent while the first write is under way": {
			op(1, Set, 1, OK, 0, 10), op(2, Get, 1, OK, 1, 9), op(3, Get, 0, Absent, 1, 9),
		},
		"concurrent writes, either order": {
			op(1, Set, 1, OK, 0, 10), op(2, Set, 2, OK, 0, 10), op(3, Get, 2, OK, 11, 12), op(3, Get, 2, OK, 13, 14),
		},
		"the same, the other order": {
			op(1, Set, 1, OK, 0, 10), op(2, Set, 2, OK, 0, 10), op(3, Get, 1, OK, 11, 12),
		},
		"a read that began before the write was acknowledged": {
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, OK, 2, 10), op(2, Get, 1, OK, 9, 20), op(2, Get, 2, OK, 21, 22),
		},
		"a failed write that never happened": {
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, Unknown, 2, 3), op(2, Get, 1, OK, 4, 5),
		},
		"a failed write that happened at once": {
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, Unknown, 2, 3), op(2, Get, 2, OK, 4, 5), op(2, Get, 2, OK, 6, 7),
		},
		"a failed write that happened long after": {
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, Unknown, 2, 3), op(2, Get, 1, OK, 4, 5), op(1, Set, 3, OK, 6, 7),
			op(2, Get, 3, OK, 8, 9), op(2, Get, 2, OK, 10, 11), op(2, Get, 2, OK, 12, 13),
		},
		"two failed writes, one read before the other": {
			op(1, Set, 1, Unknown, 0, 1), op(1, Set, 2, Unknown, 2, 3), op(2, Get, 2, OK, 4, 5), op(2, Get, 1, OK, 6, 7),
		},
		"a read that is away says nothing": {
			op(1, Set, 1, OK, 0, 1), op(1, Get, 0, Away, 2, 3), op(1, Get, 1, OK, 4, 5),
		},
		"destroyed": {
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, OK, 2, 3), op(2, Get, 0, Absent, 4, 5), op(2, Touch, 0, Absent, 4, 5),
			op(2, Set, 2, Destroyed, 6, 7), op(1, Delete, 0, OK, 8, 9),
		},
		"a write and a read beside the deletion": {
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, OK, 2, 10), op(2, Set, 2, OK, 3, 9), op(3, Get, 2, OK, 8, 20),
			op(3, Get, 0, Absent, 21, 22),
		},
		"a failed deletion that happened later": {
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, Unknown, 2, 3), op(2, Get, 1, OK, 4, 5), op(2, Set, 2, OK, 6, 7),
			op(2, Get, 0, Absent, 8, 9), op(2, Set, 3, Destroyed, 10, 11),
		},
		"a write that met a deletion, and was read before it": {
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, Destroyed, 2, 9), op(2, Get, 2, OK, 3, 4), op(2, Delete, 0, OK, 5, 6), op(2, Get, 0, Absent, 7, 8),
		},
		"deleted before it was ever written": {
			op(1, Delete, 0, OK, 0, 1), op(1, Set, 1, Destroyed, 2, 3), op(1, Get, 0, Absent, 4, 5),
		},
	}
	for name, ops := range cases {
		for _, rules := range []Rules{{}, {PerClient: true}, {MayVanish: true, MayForget: true}, {PerClient: true, MayVanish: true, MayForget: true}} {
			if v := Check(ops, rules); v.Wrong() != 0 || v.Vanished != 0 {
				// Destroyed sessions look vanished where that is allowed.
				if v.Wrong() == 0 && rules.MayVanish && strings.Contains(name, "delet") || strings.Contains(name, "destroyed") {
					continue
				}
				t.Errorf("%s, %+v: %v\n%s", name, rules, v, strings.Join(v.Examples, "\n"))
			}
		}
	}
}

func TestWrongHistories(t *testing.T) {
	cases := []struct {
		name string
		ops  []Op
		want string // what is found
		own  bool   // the client could tell by itself
		one  bool   // wrong even where sessions may vanish
	}{
		{"an acknowledged write is lost", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Get, 0, Absent, 2, 3)}, "lost", true, false},
		{"another client's acknowledged write is lost", []Op{
			op(1, Set, 1, OK, 0, 1), op(2, Get, 0, Absent, 2, 3)}, "lost", false, false},
		{"touch finds nothing", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Touch, 0, Absent, 2, 3)}, "lost", true, false},
		{"lost after it was only read", []Op{
			op(1, Set, 1, Unknown, 0, 1), op(2, Get, 1, OK, 2, 3), op(2, Get, 0, Absent, 4, 5)}, "lost", true, false},
		{"lost after a touch", []Op{
			op(1, Set, 1, Unknown, 0, 1), op(2, Touch, 0, OK, 2, 3), op(2, Touch, 0, Absent, 4, 5)}, "lost", true, false},
		{"destroyed by nobody", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, Destroyed, 2, 3)}, "lost", true, true},
		{"lost before a deletion that came later", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Get, 0, Absent, 2, 3), op(1, Delete, 0, OK, 4, 5)}, "lost", true, false},
		{"the reader's own write is gone", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, OK, 2, 3), op(1, Get, 1, OK, 4, 5)}, "stale", true, true},
		{"a read older than the reader's last", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, OK, 2, 3), op(2, Get, 2, OK, 4, 5), op(2, Get, 1, OK, 6, 7)}, "stale", false, true},
		{"older than what another client was acknowledged", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, OK, 2, 3), op(2, Get, 1, OK, 4, 5)}, "stale", false, true},
		{"older than what another client read", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, Unknown, 2, 3), op(2, Get, 2, OK, 4, 5), op(3, Get, 1, OK, 6, 7)}, "stale", false, true},
		{"back and forth", []Op{
			op(1, Set, 1, OK, 0, 10), op(2, Set, 2, OK, 0, 10), op(3, Get, 1, OK, 11, 12), op(3, Get, 2, OK, 13, 14),
			op(3, Get, 1, OK, 15, 16)}, "stale", true, true},
		{"two readers, two orders", []Op{
			op(1, Set, 1, OK, 0, 10), op(2, Set, 2, OK, 0, 10), op(3, Get, 1, OK, 11, 12), op(3, Get, 2, OK, 13, 14),
			op(4, Get, 2, OK, 11, 12), op(4, Get, 1, OK, 13, 14)}, "stale", false, true},
		{"a write based on a read is undone by what was read", []Op{
			op(1, Set, 1, OK, 0, 20), op(2, Get, 1, OK, 1, 2), op(2, Set, 2, OK, 3, 4), op(2, Get, 1, OK, 21, 22)}, "stale", true, true},
		{"a late write lands on a newer one", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Set, 2, OK, 2, 3), op(1, Set, 3, OK, 4, 5), op(1, Get, 3, OK, 6, 7), op(1, Get, 2, OK, 8, 9)}, "stale", true, true},
		{"destroyed and read", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, OK, 2, 3), op(1, Get, 1, OK, 4, 5)}, "resurrected", true, true},
		{"destroyed and read by another", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, OK, 2, 3), op(2, Get, 1, OK, 4, 5)}, "resurrected", false, true},
		{"a refused write is read after the deletion", []Op{
			op(1, Set, 1, OK, 0, 1), op(2, Delete, 0, OK, 2, 3), op(1, Set, 2, Destroyed, 2, 9), op(2, Get, 2, OK, 4, 5)}, "resurrected", true, false},
		{"destroyed and touched", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, OK, 2, 3), op(1, Touch, 0, OK, 4, 5)}, "resurrected", true, false},
		{"destroyed and written", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, OK, 2, 3), op(1, Set, 2, OK, 4, 5)}, "resurrected", true, false},
		{"seen destroyed, then read", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Delete, 0, Unknown, 2, 3), op(2, Set, 2, Destroyed, 4, 5), op(2, Get, 1, OK, 6, 7)}, "resurrected", true, true},
		{"seen gone, then read", []Op{
			op(1, Set, 1, OK, 0, 1), op(2, Get, 1, OK, 1, 2), op(1, Delete, 0, Unknown, 2, 3), op(2, Get, 0, Absent, 4, 5), op(2, Get, 1, OK, 6, 7)}, "resurrected", true, false},
		{"another session's data", []Op{
			op(1, Set, 1, OK, 0, 1), {Session: 7, Client: 1, Kind: Get, Outcome: OK, Value: 1, Foreign: true, Call: 2, Return: 3}}, "foreign", true, true},
		{"data that nobody wrote", []Op{
			op(1, Set, 1, OK, 0, 1), op(1, Get, 9, OK, 2, 3)}, "foreign", true, true},
		{"data of the future", []Op{
			op(1, Set, 1, OK, 0, 1), op(2, Get, 2, OK, 2, 3), op(1, Set, 2, OK, 4, 5)}, "foreign", true, true},
	}
	counted := func(v Verdict) string {
		for name, n := range map[string]int{"lost": v.Lost, "stale": v.Stale, "resurrected": v.Resurrected, "foreign": v.Foreign} {
			if n > 0 && n == v.Wrong() {
				return name
			}
		}
		return fmt.Sprint("not one kind: ", v)
	}
	for _, c := range cases {
		for _, order := range []string{"in order", "reversed"} {
			ops := slices.Clone(c.ops)
			if order == "reversed" {
				slices.Reverse(ops)
			}
			if got := counted(Check(ops, Rules{})); got != c.want {
				t.Errorf("%s, %s: found %s, want %s", c.name, order, got, c.want)
			}
			if v := Check(ops, Rules{PerClient: true}); (v.Wrong() > 0) != c.own {
				t.Errorf("%s, %s, one client alone: %v", c.name, order, v)
			}
			if v := Check(ops, Rules{MayVanish: true, MayForget: true}); (v.Wrong() > 0) != c.one {
				t.Errorf("%s, %s, sessions may vanish: %v", c.name, order, v)
			}
		}
	}
}

// Sessions do not mix in the checker.
func TestSessionsAreJudgedApart(t *testing.T) {
	a := []Op{op(1, Set, 1, OK, 0, 1), op(1, Set, 2, OK, 2, 3), op(1, Get, 2, OK, 4, 5)}
	b := []Op{op(1, Get, 0, Absent, 6, 7)}
	for i := range b {
		b[i].Session = 8
	}
	if v := Check(append(a, b...), Rules{}); v.Wrong() != 0 || v.Ops != 4 {
		t.Errorf("%v", v)
	}
	b = append(b, op(1, Get, 2, OK, 8, 9)) // session 7's, in session 8
	b[1].Session = 8
	if v := Check(append(a, b...), Rules{}); v.Foreign != 1 {
		t.Errorf("another session's value: %v", v)
	}
}

// register is a session that works: histories made with it are right whatever the interleaving.
type register struct {
	value uint64
	alive bool
	dead  bool
}

// take lets one operation take effect.
func (r *register) take(o *Op) {
	switch o.Kind {
	case Set:
		if r.dead {
			o.Outcome = Destroyed
			return
		}
		r.value, r.alive = o.Value, true
	case Delete:
		r.alive, r.dead = false, true
	case Get, Touch:
		if !r.alive {
			o.Outcome = Absent
		} else if o.Kind == Get {
			o.Value = r.value
		}
	}
}

// randomHistory lets each operation take effect at a moment of its own between call and return.
func randomHistory(rnd *rand.Rand, n int) []Op {
	type moment struct {
		at int64
		i  int
	}
	ops := make([]Op, n)
	var moments []moment
	for i := range ops {
		call := rnd.Int64N(int64(n) * 3)
		ops[i] = Op{Session: 7, Client: rnd.Int32N(4), Kind: Get, Call: call, Return: call + 1 + rnd.Int64N(12)}
		switch x := rnd.IntN(100); {
		case x < 45:
			ops[i].Kind, ops[i].Value = Set, uint64(i+1)
		case x < 55:
			ops[i].Kind = Touch
		case x < 56:
			ops[i].Kind = Delete
		}
		at := call + rnd.Int64N(ops[i].Return-call+1)
		if (ops[i].Kind == Set || ops[i].Kind == Delete) && rnd.IntN(10) == 0 {
			ops[i].Outcome = Unknown
			at = call + rnd.Int64N(40) // late, perhaps after its return
			if rnd.IntN(3) == 0 {
				continue // never
			}
		}
		moments = append(moments, moment{at, i})
	}
	slices.SortFunc(moments, func(a, b moment) int { return int(a.at - b.at) })
	r := &register{}
	for _, m := range moments {
		o := ops[m.i]
		r.take(&o)
		if ops[m.i].Outcome == Unknown {
			continue // nobody was told
		}
		ops[m.i] = o
	}
	return ops
}

func TestRandomRightHistories(t *testing.T) {
	for seed := range uint64(3000) {
		ops := randomHistory(rand.New(rand.NewPCG(seed, 1)), 5+int(seed%60))
		for _, rules := range []Rules{{}, {PerClient: true}} {
			if v := Check(ops, rules); v.Wrong() != 0 {
				t.Fatalf("seed %d, %+v: %v\n%s", seed, rules, v, strings.Join(v.Examples, "\n"))
			}
		}
	}
}

// A right history with one answer replaced by an older one must be noticed, exactly when no order explains it. Small
// histories are compared with a search through all orders.
func TestCheckerAgreesWithSearch(t *testing.T) {
	wrong := 0
	for seed := range uint64(4000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		ops := randomHistory(rnd, 4+int(seed%6))
		for i := range ops { // change some answers
			if o := &ops[i]; rnd.IntN(4) == 0 && o.Outcome != Unknown {
				switch o.Kind {
				case Get:
					if from := ops[rnd.IntN(len(ops))]; from.Kind == Set {
						o.Value, o.Outcome = from.Value, OK
					} else {
						o.Value, o.Outcome = 0, Absent
					}
				case Touch:
					o.Outcome = Absent - o.Outcome
				case Set:
					o.Outcome = Destroyed - o.Outcome
				}
			}
		}
		want := explained(ops)
		got := Check(ops, Rules{}).Wrong() == 0
		if got != want {
			for _, o := range ops {
				t.Log(o, o.Call, o.Return)
			}
			t.Fatalf("seed %d: the checker says %v, a search through all orders %v: %v", seed, got, want, Check(ops, Rules{}))
		}
		if !want {
			wrong++
		}
	}
	if wrong < 500 || wrong > 3500 {
		t.Errorf("%d of 4000 histories were wrong: the test no longer tests much", wrong)
	}
}

// explained searches for an order of all operations that explains what everybody was told.
func explained(ops []Op) bool {
	var search func(left []Op, r register) bool
	search = func(left []Op, r register) bool {
		told := false
		for _, o := range left {
			told = told || o.Outcome != Unknown
		}
		if !told {
			return true // what is left may never happen
		}
		for i, o := range left {
			first := true
			for _, other := range left {
				if other.Outcome != Unknown && other.Return < o.Call {
					first = false
					break
				}
			}
			if !first {
				continue
			}
			after, got := r, o
			got.Outcome = OK
			if got.Kind == Get {
				got.Value = 0
			}
			after.take(&got)
			if o.Outcome != Unknown && (got.Outcome != o.Outcome || got.Value != o.Value) {
				continue
			}
			rest := append(slices.Clone(left[:i]), left[i+1:]...)
			if search(rest, after) {
				return true
			}
		}
		return false
	}
	for _, o := range slices.Clone(ops) { // a write that met a deletion may have taken effect before it
		if o.Outcome == Destroyed {
			o.Outcome = Unknown
			ops = append(ops, o)
		}
	}
	return search(ops, register{})
}
