package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

func short(t *testing.T) config {
	t.Helper()
	c, err := parse([]string{"-rounds", "1", "-time", "20ms", "-goroutines", "2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every peer serves, and each has its row in each table it belongs to.
func TestEveryPeerHasItsRows(t *testing.T) {
	redistest.FindOrSkip(t)
	var out strings.Builder
	if err := short(t).run(t.Context(), &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers() {
		want := 2 // operations, on one server
		if p.several && p.copies == 1 {
			want = 4
		}
		if got := strings.Count(out.String(), "| "+p.name+" | "); got != want {
			t.Errorf("%s has %d rows instead of %d", p.name, got, want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// What a request of ours may allocate, the payload that the measurement makes included. The ceilings are generous:
// they are for the accident that doubles it. Under the race detector the runtime allocates too.
func TestAllocationsOfOurs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	nodes := redistest.Nodes(t, 3)
	ceilings := map[string]map[operation]float64{
		"sessionring Client, copies=1": {cycle: 40, read: 25},
		"sessionring Client, copies=2": {cycle: 55, read: 40},
	}
	for _, p := range peers() {
		for op, ceiling := range ceilings[p.name] {
			o, err := p.open(t.Context(), nodes)
			if err != nil {
				t.Fatal(err)
			}
			k := &contestant{peer: p, opened: o}
			if err := k.begin(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			s, err := k.cell(t.Context(), op, 2, 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.close(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, %v: %.1f allocations", p.name, op, s.allocs)
			if s.allocs > ceiling {
				t.Errorf("%s, %v: %.1f allocations a request, over %.0f", p.name, op, s.allocs, ceiling)
			}
		}
	}
}

// A client that answers with what was there before the last save ends the measurement.
func TestLostSaveIsNoticed(t *testing.T) {
	var last []byte
	saves := 0
	o, err := stores(&store{
		get: func(context.Context, string) ([]byte, error) { return last, nil },
		set: func(_ context.Context, _ string, data []byte) error {
			if saves++; saves != sessionsEach+3 { // the third after the sessions were made is lost
				last = data
			}
			return nil
		},
	}, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	k := &contestant{opened: o}
	if err := k.begin(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	v := &visit{}
	for i := range 4 {
		v.want = uint64(i + 1)
		if err = k.work[0].cycle(t.Context(), k.tokens[0], v); err != nil {
			break
		}
	}
	if want := "session was saved 4 times and holds the count 3"; fmt.Sprint(err) != want {
		t.Fatalf("%v, not: %s", err, want)
	}
}

func TestRowIsOfTheSameRound(t *testing.T) {
	tb := newTable(1, config{goroutines: []int{1}}, []*contestant{{peer: peer{name: "x"}}})
	for i, rates := range [][2]float64{{100, 50}, {10, 20}, {200, 200}} {
		ms := time.Duration(i+1) * time.Millisecond
		tb.add(reference, cycle, 1, sample{rate: rates[0], latency: []time.Duration{ms}})
		tb.add("x", cycle, 1, sample{rate: rates[1], allocs: float64(i), cpu: 7, latency: []time.Duration{ms}})
	}
	got := tb.row(key{"x", cycle, 1})
	want := row{1, 0.5, 2, 2 * time.Millisecond, 3 * time.Millisecond, 1, 7}
	if got != want {
		t.Fatalf("%+v instead of %+v", got, want)
	}
}
