package main

import (
	"time"

	"github.com/sessionring/sessionring"
)

// What a Client does without being asked: once a second it looks at each node (failover.go, rejoin.go): reads its mark,
// asks it for how many hints it holds for each other node, and leaves its ring's fingerprint by a script.

// lookEvery is the mean time between two looks at a node: a second and the mean of the jitter.
const lookEvery = 1 + 0.2505/2

// looks is how many commands a second a Client sends to all its n nodes; the script counts as one and the five that
// it runs, as the server counts.
func looks(n int) float64 { return float64(n) * float64(1+(n-1)+1+5) / lookEvery }

// looksAtNode is what one node gets from so many processes.
func looksAtNode(n, processes int) float64 { return looks(n) / float64(n) * float64(processes) }

// most is the greatest number of sessions up to a trillion for which fits holds, which must not hold again above it.
func most(fits func(sessions float64) bool) float64 {
	lo, hi := 0.0, 1e12
	for range 60 {
		if mid := (lo + hi) / 2; fits(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// restored is the most sessions at which a node that came back empty is whole again within one lifetime.
func (s *study) restored(n, copies int) float64 {
	return most(func(sessions float64) bool {
		return s.withRestarts(s.rejoin(sessions, n, copies), n) <= lifetime
	})
}

// changed is the most sessions for which adding a node is done within limit.
func (s *study) changed(n, copies int, limit time.Duration) (float64, error) {
	m, err := s.move(changes(n, equal(n))[0], copies)
	if err != nil {
		return 0, err
	}
	return most(func(sessions float64) bool { return s.drain(sessions, n, copies, m.changed) <= limit.Seconds() }), nil
}

// worstShare is the greatest first-owner share of a node, over what its weight is due.
func (s *study) worstShare(l nodeList) (float64, error) {
	r, err := s.ring(l)
	if err != nil {
		return 0, err
	}
	return overDue(r, l), nil
}

func overDue(r *sessionring.Ring, l nodeList) float64 {
	total, worst := 0.0, 0.0
	for _, w := range l.weights {
		total += float64(w)
	}
	for i, share := range r.Shares() {
		worst = max(worst, share*total/float64(l.weights[i]))
	}
	return worst
}
