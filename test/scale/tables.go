package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

func (s *study) measuredTable(context.Context) (string, error) {
	t := tableOf("what", "value")
	t.add("made by", "`"+s.m.Command+"`, "+s.m.Date)
	t.add("on", fmt.Sprintf("%s, %s, %d cores shared with clients, servers and other work, all on loopback", s.m.Server, s.m.Go, s.m.CPUs))
	t.add("keys gone over by SCAN", whole(s.rates.scan)+" a second")
	t.add("copies compared in bulk", whole(s.rates.compare)+" a second")
	t.add("sessions checked by a rejoin, one by one", whole(s.rates.check)+" a second")
	t.add("sessions copied by it", whole(s.rates.copy)+" a second")
	t.add("sessions moved to new owners", whole(s.rates.move)+" a second")
	t.add("limit of each of these three (`WithRejoinRate`)", whole(float64(s.Rate))+" a second")
	t.add("round trip, assumed", s.RoundTrip.String())
	t.add("memory of the server for an idle connection", whole(s.m.Connection)+" bytes")
	t.add("CPU of the server for a command of a client's look", fmt.Sprintf("%.2f µs", s.m.Look))
	t.add("what `migrate` remembers of a session", whole(s.m.SeenBytes)+" bytes")
	return t.String(), nil
}

func (s *study) bytesTable(context.Context) (string, error) {
	t := tableOf("payload", "a copy, mean", "least – most", "without stamp", "the stamp", "all but the payload")
	for _, b := range s.m.Bytes {
		t.add(whole(float64(b.Payload)), whole(b.With.Mean), whole(b.With.Least)+" – "+whole(b.With.Most), whole(b.Without.Mean),
			whole(b.With.Mean-b.Without.Mean), whole(b.With.Mean-float64(b.Payload)))
	}
	return t.String(), nil
}

func (s *study) memoryTable(context.Context) (string, error) {
	columns := []string{"memory of"}
	for _, sessions := range sessionCounts {
		columns = append(columns, whole(sessions)+" sessions")
	}
	t := tableOf(columns...)
	for c := 1; c <= 3; c++ {
		name := fmt.Sprintf("all nodes together, copies=%d", c)
		row := []string{name}
		for _, sessions := range sessionCounts {
			row = append(row, gigabytes(sessions*float64(c)*s.bytes.With.Mean))
		}
		t.add(row...)
	}
	for _, n := range s.nodes {
		worst, err := s.worstShare(equal(n))
		if err != nil {
			return "", err
		}
		row := []string{fmt.Sprintf("the fullest of %s nodes, copies=%d", whole(float64(n)), copies)}
		for _, sessions := range sessionCounts {
			row = append(row, gigabytes(sessions*copies*s.bytes.With.Mean/float64(n)*worst))
		}
		t.add(row...)
	}
	return t.String(), nil
}

func (s *study) ringTable(context.Context) (string, error) {
	t := tableOf("nodes", "build", "memory", "worst share over its due, equal", "weights 1 to 10", "nodes that share sessions with one, 2 copies", "different pairs of owners", "different threes")
	for _, r := range s.m.Rings {
		if !slices.Contains(s.nodes, r.Nodes) {
			continue
		}
		row, err := s.ringRow(r)
		if err != nil {
			return "", err
		}
		t.add(row...)
	}
	return t.String(), nil
}

func (s *study) ringRow(r ringCost) ([]string, error) {
	same, err := s.worstShare(equal(r.Nodes))
	if err != nil {
		return nil, err
	}
	drawn, err := s.worstShare(unequal(r.Nodes, s.Seed))
	if err != nil {
		return nil, err
	}
	row := []string{whole(float64(r.Nodes)), fmt.Sprintf("%.0f ms", 1000*r.Seconds), fmt.Sprintf("%.1f MiB", r.TableBytes/(1<<20)),
		fmt.Sprintf("%.3f", same), fmt.Sprintf("%.3f", drawn)}
	for c := 2; c <= 3; c++ {
		g, err := s.groups(r.Nodes, c)
		if err != nil {
			return nil, err
		}
		sum := 0
		for _, k := range g.partners {
			sum += k
		}
		if c == 2 {
			row = append(row, fmt.Sprintf("%.0f", float64(sum)/float64(r.Nodes)))
		}
		row = append(row, whole(float64(sum/c)))
	}
	return row, nil
}

func (s *study) movesTable(context.Context) (string, error) {
	t := tableOf("change", "nodes", "weights", "first owner moves", "least possible", "another set of owners", "copies made, of all copies", "between untouched nodes")
	for i := range 3 {
		for _, n := range s.nodes {
			for _, l := range []struct {
				name string
				list nodeList
			}{{"equal", equal(n)}, {"1 to 10", unequal(n, s.Seed)}} {
				row, err := s.movesRow(changes(n, l.list)[i], n, l.name)
				if err != nil {
					return "", err
				}
				t.add(row...)
			}
		}
	}
	return t.String(), nil
}

func (s *study) movesRow(c change, n int, weights string) ([]string, error) {
	m, err := s.move(c, copies)
	if err != nil {
		return nil, err
	}
	return []string{c.what, whole(float64(n)), weights, percent(m.Moved), percent(m.Minimum), percent(m.changed), percent(m.made / copies),
		brief(m.BetweenUnchanged + m.needless)}, nil
}

func (s *study) changesTable(context.Context) (string, error) {
	columns := []string{"nodes, one added"}
	for _, sessions := range sessionCounts {
		columns = append(columns, whole(sessions)+" sessions")
	}
	t := tableOf(append(columns, "of it round trips, at a billion")...)
	for _, n := range s.nodes {
		m, err := s.move(changes(n, equal(n))[0], copies)
		if err != nil {
			return "", err
		}
		row := []string{whole(float64(n))}
		for _, sessions := range sessionCounts {
			row = append(row, took(s.drain(sessions, n, copies, m.changed)))
		}
		w := changeWork(1e9, n, copies, m.changed)
		t.add(append(row, chance(w.trips*s.RoundTrip.Seconds()/s.drain(1e9, n, copies, m.changed)))...)
	}
	return t.String(), nil
}

func (s *study) modelTable(context.Context) (string, error) {
	t := tableOf("run", "copied, measured", "expected", "SCANs of the others, measured", "expected", "seconds, measured", "expected")
	for i, r := range s.m.Rejoins {
		name := fmt.Sprintf("%d nodes, %d copies, %s sessions, ", r.Nodes, r.Copies, whole(float64(r.Sessions)))
		w := rejoinWork(float64(r.Sessions), r.Nodes, r.Copies)
		own, due := w.checked, w.checked
		if !r.Empty {
			name += "mark lost"
			w, due = w.withData(), 0
		} else {
			name += "empty"
		}
		expected := fmt.Sprintf("%.2f", w.on(s.rates))
		if i < 2 {
			expected += " (rates come from here)"
		}
		t.add(name, whole(float64(r.Copied)), whole(due), whole(float64(r.Scans)), whole((w.keys-2*own)/scanBatch), fmt.Sprintf("%.2f", r.Seconds), expected)
	}
	return t.String(), nil
}

func (s *study) rejoinTable(context.Context) (string, error) {
	columns := []string{"nodes"}
	for _, sessions := range sessionCounts {
		columns = append(columns, whole(sessions)+" sessions")
	}
	t := tableOf(append(columns, "keys scanned for each of its own", "a billion, begun anew at each failure", "a billion, every node restarted with its data, one after the other")...)
	for _, n := range s.nodes {
		row := []string{whole(float64(n))}
		for _, sessions := range sessionCounts {
			row = append(row, took(s.rejoin(sessions, n, copies)))
		}
		w := rejoinWork(1, n, copies)
		kept := float64(n) * s.seconds(rejoinWork(1e9, n, copies).withData())
		t.add(append(row, brief(w.keys/(w.checked+w.copied)), took(s.withRestarts(s.rejoin(1e9, n, copies), n)), took(kept))...)
	}
	return t.String(), nil
}

// mild are the faults by which the chance of any loss is compared.
var mild = faults{mtbf: year.Seconds(), window: 3600}

func (s *study) anyTable(ctx context.Context) (string, error) {
	t := tableOf("nodes", "years simulated", "of them with a loss", "closed form")
	for _, n := range s.nodes {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		g, err := s.groups(n, copies)
		if err != nil {
			return "", err
		}
		o := mild.simulate(g, s.Failures, s.Seed)
		t.add(whole(float64(n)), whole(math.Ceil(o.years)), fmt.Sprintf("%d, %s", o.badYears, chance(float64(o.badYears)/o.years)), chance(-math.Expm1(-mild.events(g))))
	}
	return t.String(), nil
}

// harsh are the faults by which closed form and simulation are compared: rarer ones would show too few events.
var harsh = faults{mtbf: 30 * 86400, window: 86400}

func (s *study) simulationTable(ctx context.Context) (string, error) {
	t := tableOf("copies", "nodes", "years simulated", "failures that lost something", "a year, simulated", "a year, closed form", "lost of a million a year, simulated", "closed form")
	for c := 1; c <= 3; c++ {
		for _, n := range s.nodes {
			row, err := s.simulationRow(ctx, n, c)
			if err != nil {
				return "", err
			}
			t.add(row...)
		}
	}
	return t.String(), nil
}

func (s *study) simulationRow(ctx context.Context, n, c int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g, err := s.groups(n, c)
	if err != nil {
		return nil, err
	}
	o := harsh.simulate(g, s.Failures, s.Seed)
	return []string{fmt.Sprint(c), whole(float64(n)), whole(o.years), whole(float64(o.events)), brief(float64(o.events) / o.years), brief(harsh.events(g)),
		brief(1e6 * o.lost / o.years), brief(1e6 * harsh.lostShare(c))}, nil
}

func (s *study) windowsTable(context.Context) (string, error) {
	t := tableOf("a node's copies are missing for", "1 copy", "2 copies", "3 copies")
	for _, w := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour} {
		f := faults{s.MTBF.Seconds(), w.Seconds()}
		t.add(took(w.Seconds()), brief(1e6*f.lostShare(1)), brief(1e6*f.lostShare(2)), brief(1e6*f.lostShare(3)))
	}
	return t.String(), nil
}

// window is how long a node's copies are missing after a failure: it is away, then the pass runs.
func (s *study) window(sessions float64, n, copies int) faults {
	w := s.Away.Seconds() + s.withRestarts(s.rejoin(sessions, n, copies), n)
	return faults{s.MTBF.Seconds(), min(w, 100*year.Seconds())}
}

func (s *study) lossTable(context.Context) (string, error) {
	t := tableOf("nodes", "sessions", "copies missing for (2 copies)", "lost a year, 1 copy", "2 copies", "3 copies", "chance of any in a year, 2 copies", "3 copies", "pass held up, 2 copies")
	for _, n := range s.nodes {
		for _, sessions := range []float64{1e6, 1e8, 1e9} {
			two, three := s.window(sessions, n, 2), s.window(sessions, n, 3)
			row := []string{whole(float64(n)), whole(sessions), took(two.window), brief(sessions * two.lostShare(1)), brief(sessions * two.lostShare(2)), brief(sessions * three.lostShare(3))}
			for _, at := range []struct {
				f      faults
				copies int
			}{{two, 2}, {three, 3}} {
				g, err := s.groups(n, at.copies)
				if err != nil {
					return "", err
				}
				row = append(row, chance(-math.Expm1(-at.f.events(g))))
			}
			held := refused(n, 2, faults{s.MTBF.Seconds(), s.Away.Seconds()}.unavailable())
			t.add(append(row, chance(held))...)
		}
	}
	return t.String(), nil
}

func (s *study) clientsTable(context.Context) (string, error) {
	t := tableOf("nodes", "heap and stacks", "a node, less the ring", "goroutines", "connections", "commands a second", "expected", "CPU, cores", "all up after")
	for _, c := range s.m.Clients {
		if c.Up < c.Nodes {
			t.add(whole(float64(c.Nodes)), "–", "–", "–", "–", "–", whole(looks(c.Nodes)), "–", fmt.Sprintf("not within 2 min: %d were up", c.Up))
			continue
		}
		ring := 0.0
		for _, r := range s.m.Rings {
			if r.Nodes == c.Nodes {
				ring = r.TableBytes
			}
		}
		t.add(whole(float64(c.Nodes)), fmt.Sprintf("%.1f MiB", c.HeapBytes/(1<<20)), fmt.Sprintf("%.0f KiB", max(0, c.HeapBytes-ring)/float64(c.Nodes)/1024),
			whole(float64(c.Goroutines)), whole(float64(c.Connections)), whole(c.Commands), whole(looks(c.Nodes)), fmt.Sprintf("%.3f", c.CPU), took(c.UpSeconds))
	}
	return t.String(), nil
}

func (s *study) backgroundTable(context.Context) (string, error) {
	t := tableOf("nodes", "connections, all", "of a node, and its memory for them", "commands a second of a client", "of all clients at a node", "CPU of a node for them, cores")
	for _, n := range s.nodes {
		at := looksAtNode(n, processes)
		t.add(whole(float64(n)), whole(float64(processes*n)), fmt.Sprintf("%d, %.2f MB", processes, processes*s.m.Connection/1e6), whole(looks(n)),
			whole(at), brief(at*s.m.Look/1e6))
	}
	return t.String(), nil
}

func (s *study) limitsTable(context.Context) (string, error) {
	t := tableOf("nodes", "whole within a lifetime after a return: sessions up to", "a node added within an hour: sessions up to", "within a day", "memory of `migrate` for the latter")
	for _, n := range s.nodes {
		hour, err := s.changed(n, copies, time.Hour)
		if err != nil {
			return "", err
		}
		day, err := s.changed(n, copies, 24*time.Hour)
		if err != nil {
			return "", err
		}
		t.add(whole(float64(n)), brief(s.restored(n, copies)), brief(hour), brief(day), gigabytes(day*s.m.SeenBytes))
	}
	return t.String(), nil
}
