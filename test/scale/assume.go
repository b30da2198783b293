package main

import (
	"fmt"
	"time"
)

// Sizes that the tables look at.
var (
	nodeCounts    = []int{3, 10, 32, 100, 320, 1000}
	sessionCounts = []float64{1e6, 1e7, 1e8, 1e9}
)

// assumptions are what cannot be measured here: flags, with defaults that docs/scale.md names.
type assumptions struct {
	Payload   int           // bytes of a session
	Rate      int           // sessions a second that a pass may copy
	RoundTrip time.Duration // to a node
	MTBF      time.Duration // mean time from a node's start to the failure that empties it
	Away      time.Duration // from the failure until the node is back, empty
	Seed      uint64
	Failures  int // to simulate for each row
}

func defaults() assumptions {
	return assumptions{
		Payload:   1024,
		Rate:      20_000,
		RoundTrip: 200 * time.Microsecond,
		MTBF:      year,
		Away:      5 * time.Minute,
		Seed:      1,
		Failures:  100_000,
	}
}

const year = 365 * 24 * time.Hour

func (a assumptions) check() error {
	switch {
	case a.Payload < 1, a.Rate < 1, a.Failures < 1:
		return fmt.Errorf("-payload, -rate and -failures must be 1 or more")
	case a.RoundTrip < 0, a.Away < 0, a.MTBF <= 0:
		return fmt.Errorf("-rtt and -away must not be negative, -mtbf must be positive")
	}
	return nil
}
