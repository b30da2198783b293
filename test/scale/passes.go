package main

import (
	"errors"
	"math"
)

// How long the two passes take that bring copies where they belong: of rejoin.go after a node came back empty, and of
// reconfigure.go after the node list changed. What they do is counted from their code; how fast, was measured.

const (
	scanBatch = 512           // keys a SCAN goes over (scanCount)
	perBatch  = scanBatch / 2 // sessions in them: a value and a stamp each
	lifetime  = 1440.0        // seconds; sessionring.DefaultLifetime
)

// rates are sessions or keys a second, of one pass.
type rates struct {
	scan    float64 // keys gone over
	compare float64 // copies whose stamps were compared with another owner's in bulk
	check   float64 // sessions of which one by one all owners were asked, and had what they should
	copy    float64 // sessions of which besides a copy was brought to a node that came back
	move    float64 // sessions brought to new owners
}

// ratesOf takes the rates out of the measured runs: each run's time less what its scans and comparisons took. None
// that the measured machine, with clients and servers on two cores, did not reach, and none above limit.
func ratesOf(m *measurements, limit int) (rates, error) {
	r := rates{scan: m.ScanRate}
	if len(m.Rejoins) < 2 || len(m.Migrations) != 2 || m.ScanRate <= 0 {
		return r, errors.New("measured.json holds no runs: go run ./scale -measure all")
	}
	moved, idle := m.Migrations[0], m.Migrations[1]
	copies := float64(idle.Scanned) * float64(idle.Copies)
	r.compare = copies / (idle.Seconds - 2*copies/r.scan)
	r.move = float64(moved.Moved) / (moved.Seconds - idle.Seconds)
	// The first two runs are of one site, without copying and with; the others check what was learned from them.
	kept, empty := m.Rejoins[0], m.Rejoins[1]
	w := rejoinWork(float64(kept.Sessions), kept.Nodes, kept.Copies)
	r.check = w.checked / (kept.Seconds - w.keys/r.scan - w.compared/r.compare)
	r.copy = w.copied / (empty.Seconds - kept.Seconds)
	r.check, r.copy, r.move = min(r.check, float64(limit)), min(r.copy, float64(limit)), min(r.move, float64(limit))
	for _, v := range []float64{r.compare, r.check, r.copy, r.move} {
		if !(v > 0) {
			return r, errors.New("measured.json: a run was faster than its own scan; measure again")
		}
	}
	return r, nil
}

// passWork is what a pass does.
type passWork struct {
	keys     float64 // gone over by SCAN
	batches  float64 // SCAN commands, one after the other
	trips    float64 // round trips one after the other, over all batches
	compared float64 // copies
	checked  float64 // sessions, one by one
	copied   float64 // sessions brought to the returned node
	moved    float64 // sessions brought to new owners, or left-over copies removed
}

// rejoinWork is the pass for one of n equal nodes that came back empty. All other nodes are scanned whole, then itself;
// of what is found it compares what it should hold, and copies what differs; the scan of itself checks it all once
// more.
func rejoinWork(sessions float64, n, copies int) passWork {
	own := sessions * float64(copies) / float64(n)
	w := passWork{
		keys:     2 * sessions * float64(copies),
		compared: own * float64(copies-1),
		checked:  own,
		copied:   own,
	}
	if copies == 1 {
		w.keys -= 2 * own // it stays empty: nobody else has its sessions
		w.checked, w.copied = 0, 0
	}
	w.batches = w.keys / scanBatch
	// A batch with a session of this node costs two bulk reads, then at least a survey and a write.
	share := float64(copies-1) / float64(n-1)
	w.trips = w.batches * (1 + 4*(1-math.Pow(1-share, perBatch)))
	return w
}

// withData is the pass for a node that came back with its data under another run_id: nothing is
// behind.
func (w passWork) withData() passWork {
	w.copied = 0
	return w
}

// changeWork is the drain of the old list of n nodes after a change that gives a fraction changed of the sessions
// other owners, and the look for copies that are left over.
func changeWork(sessions float64, n, copies int, changed float64) passWork {
	all := sessions * float64(copies)
	w := passWork{keys: 2 * 2 * all, compared: all * float64(max(1, copies-1)), moved: 2 * sessions * changed}
	w.batches = w.keys / scanBatch
	// The sessions of a batch are compared with one other owner after the other, two round trips each.
	others := float64(n-1) * (1 - math.Pow(1-1/float64(n-1), perBatch*float64(max(1, copies-1))))
	w.trips = w.batches + w.batches/2*2*others
	return w
}

// on is how long the work takes at these rates, in seconds, with no network between.
func (w passWork) on(r rates) float64 {
	return w.keys/r.scan + w.compared/r.compare + w.checked/r.check + w.copied/r.copy + w.moved/r.move
}

// seconds that a pass takes when nothing disturbs it.
func (s *study) seconds(w passWork) float64 { return w.on(s.rates) + w.trips*s.RoundTrip.Seconds() }

// rejoin is the time from a node's return, empty, to full redundancy, in seconds.
func (s *study) rejoin(sessions float64, n, copies int) float64 {
	return s.seconds(rejoinWork(sessions, n, copies))
}

// withRestarts is the mean time of a pass that begins anew whenever one of the other nodes fails meanwhile: it is not
// resumed where it was. Failures come as in loss.go.
func (s *study) withRestarts(seconds float64, n int) float64 {
	often := float64(n-1) / (s.MTBF + s.Away).Seconds()
	return math.Expm1(often*seconds) / often
}

// drain is the time of a change of the list, seconds, after which the old list can be let go.
func (s *study) drain(sessions float64, n, copies int, changed float64) float64 {
	return s.seconds(changeWork(sessions, n, copies, changed))
}

// refused is the chance that so many other nodes are away that no pass may end (rejoin.go: as many as there are
// copies).
func refused(n, copies int, unavailable float64) float64 {
	chance, term := 0.0, math.Pow(1-unavailable, float64(n-1))
	for k := range copies {
		chance += term
		term *= float64(n-1-k) / float64(k+1) * unavailable / (1 - unavailable)
	}
	return max(0, 1-chance)
}
