package sessionring

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	var p pulse
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	p.beat(at(0))
	p.beat(at(25))
	if got := p.since(at(10), at(30)); !got.Equal(at(10)) {
		t.Errorf("running: waiting since 10 ms counts from %v", got.Sub(start))
	}
	if got := p.since(at(10), at(400)); !got.Equal(at(400)) {
		t.Errorf("no beat for 375 ms: it counts from %v, want not at all", got.Sub(start))
	}
	p.beat(at(400))
	if got := p.since(at(10), at(410)); got.Sub(at(400)).Abs() > time.Microsecond {
		t.Errorf("after a standstill it counts from %v, want from its end", got.Sub(start))
	}
	if got := p.since(at(405), at(410)); !got.Equal(at(405)) {
		t.Errorf("begun after the standstill: it counts from %v", got.Sub(start))
	}
}

// However often this process stands still, what it ran in between adds up: else nobody would ever find a node that hangs
// on a machine that is busy for long.
func TestPulseOfABusyMachine(t *testing.T) {
	var p pulse
	start := time.Now()
	sent, waited := start.Add(time.Millisecond), time.Duration(0)
	now := start
	p.beat(now)
	for i := range 200 {
		for range 10 { // 250 ms of running
			now = now.Add(pulseEvery)
			p.beat(now)
		}
		now = now.Add(150 * time.Millisecond)
		during := now.Sub(p.since(sent, now))
		p.beat(now)
		after := now.Sub(p.since(sent, now))
		if i < pulseKept && during != after {
			t.Fatalf("standstill %d: %v of waiting count at its end and %v after it", i, during, after)
		}
		if i < pulseKept && after < waited || after < 0 {
			t.Fatalf("standstill %d: of the waiting only %v count, after %v before", i, after, waited)
		}
		waited = after
	}
	if ran := 200 * 250 * time.Millisecond; waited < ran/2 {
		t.Errorf("only %v of %v that this process ran count as waiting", waited, ran)
	}
}
