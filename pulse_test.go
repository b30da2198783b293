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
