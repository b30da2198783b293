package main

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

func newTestStudy(t *testing.T) *study {
	t.Helper()
	m, err := measured()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStudy(defaults(), m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDocument holds the tables of docs/scale.md against what the simulator prints: the rows of few nodes and of the
// most, with SESSIONRING_FULL=1 of all.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newTestStudy(t)
	full := os.Getenv("SESSIONRING_FULL") == "1"
	switch {
	case full:
	case raceDetector || testing.Short():
		s.nodes = []int{3, 10}
	default:
		s.nodes = []int{3, 10, 1000}
	}
	for _, section := range sections {
		_, found, _, err := sectionOf(string(b), section.name)
		if err != nil {
			t.Error(err)
			continue
		}
		table, err := section.table(s, t.Context())
		if err != nil {
			t.Errorf("%s: %v", section.name, err)
			continue
		}
		if full && found != "\n"+table+"\n" {
			t.Errorf("%s is not what the simulator prints", section.name)
		}
		rest := found
		for row := range strings.Lines(table) {
			_, after, ok := strings.Cut(rest, row)
			if !ok {
				t.Errorf("%s has no row, or not in its place:\n%s(make scale)", section.name, row)
				continue
			}
			rest = after
		}
	}
}

// TestMarkers: what stands around a table stays.
func TestMarkers(t *testing.T) {
	doc := "before\n" + begin("x") + "old\n" + end + "between\n" + begin("y") + end + "after\n"
	before, table, after, err := sectionOf(doc, "x")
	if err != nil || before+table+after != doc || table != "old\n" {
		t.Errorf("%q, %q, %q, %v", before, table, after, err)
	}
	for _, doc := range []string{"", begin("x")} {
		if _, _, _, err := sectionOf(doc, "x"); err == nil {
			t.Errorf("%q: no error", doc)
		}
	}
}

// TestOneIDEach: an id of a partition stands for all ids of it, so the count is of the whole ring.
func TestOneIDEach(t *testing.T) {
	s := newTestStudy(t)
	r, err := s.ring(unequal(7, 3))
	if err != nil {
		t.Fatal(err)
	}
	counted := make([]float64, 7)
	for _, id := range s.ids {
		counted[r.Owner(id)] += 1.0 / partitions
	}
	for i, share := range r.Shares() {
		if math.Abs(counted[i]-share) > 1e-9 {
			t.Errorf("node %d: counted %g of the ids, the ring says %g", i, counted[i], share)
		}
	}
}

// TestMoves: what a change of equal nodes moves is the touched node's share, and nothing goes from an untouched node
// to another.
func TestMoves(t *testing.T) {
	s := newTestStudy(t)
	sizes := []int{3, 10, 24}
	if raceDetector {
		sizes = sizes[:1] // rings take seconds
	}
	for _, n := range sizes {
		for _, l := range []nodeList{equal(n), unequal(n, 5)} {
			for _, c := range changes(n, l) {
				m, err := s.move(c, 2)
				if err != nil {
					t.Fatal(err)
				}
				if m.BetweenUnchanged != 0 || m.needless != 0 {
					t.Errorf("%d nodes, %s: %g of the first owners and %g of the sets moved between untouched nodes", n, c.what, m.BetweenUnchanged, m.needless)
				}
				if m.strangers != 0 {
					t.Errorf("%d nodes, %s: %g of the sessions have none of their owners any more", n, c.what, m.strangers)
				}
				if m.Moved <= 0 || m.changed < m.Moved-1e-9 || m.made < m.changed-1e-9 {
					t.Errorf("%d nodes, %s: %g moved, %g changed, %g made", n, c.what, m.Moved, m.changed, m.made)
				}
			}
		}
		m, err := s.move(changes(n, equal(n))[0], 2)
		if err != nil {
			t.Fatal(err)
		}
		due := 1 / float64(n+1)
		if math.Abs(m.Moved/due-1) > 0.06 || math.Abs(m.changed/(2*due)-1) > 0.06 {
			t.Errorf("%d nodes and one: %g of the first owners moved, due %g; %g of the sets, due %g", n, m.Moved, due, m.changed, 2*due)
		}
	}
}

// TestNeedlessIsSeen: the count of what moves between untouched nodes is not always 0.
func TestNeedlessIsSeen(t *testing.T) {
	s := newTestStudy(t)
	moved := changes(4, equal(4))[0]
	moved.to = unrelated(4)
	if m, err := s.move(moved, 2); err != nil || m.strangers < 0.9 {
		t.Errorf("other nodes altogether: %g of the sessions have other owners (%v)", m.strangers, err)
	}
	c := changes(4, equal(4))[0]
	c.touched = 0 // a lie: then what the new node takes is moved between nodes that were not touched
	m, err := s.move(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	if m.needless < 0.1 {
		t.Errorf("%g of the sessions counted as moved between untouched nodes", m.needless)
	}
}

// unrelated is a list of n other hosts.
func unrelated(n int) nodeList {
	var l nodeList
	for i := range n {
		l = l.with(100+i, 1)
	}
	return l
}

// TestSimulationAgrees: closed form and simulation, with a seed. The bounds are what they differ by with this one, and
// some more; a wrong factor or exponent is far outside.
func TestSimulationAgrees(t *testing.T) {
	s := newTestStudy(t)
	for _, at := range []struct {
		nodes, copies int
		f             faults
		lost, events  float64 // greatest difference, of the closed form
	}{
		{3, 1, faults{30, 1}, 0.01, 0.01},
		{3, 2, faults{30, 1}, 0.05, 0.05},
		{10, 2, faults{30, 1}, 0.02, 0.02},
		{10, 2, faults{100, 1}, 0.03, 0.03},
		{32, 2, faults{30, 2}, 0.02, 0.02},
		{10, 3, faults{10, 1}, 0.03, 0.25},
		{32, 3, faults{30, 1}, 0.04, 0.40},
	} {
		g, err := s.groups(at.nodes, at.copies)
		if err != nil {
			t.Fatal(err)
		}
		f := faults{at.f.mtbf * 86400, at.f.window * 86400}
		o := f.simulate(g, 100_000, 1)
		if got, want := o.lost/o.years, f.lostShare(at.copies); math.Abs(got/want-1) > at.lost {
			t.Errorf("%d nodes, %d copies, %v: %.4g of all sessions lost a year, closed form %.4g", at.nodes, at.copies, at.f, got, want)
		}
		got, want := float64(o.events)/o.years, f.events(g)
		if math.Abs(got/want-1) > at.events {
			t.Errorf("%d nodes, %d copies, %v: %.4g losses a year, closed form %.4g", at.nodes, at.copies, at.f, got, want)
		}
		if at.copies == 3 && got > 1.02*want {
			t.Errorf("%d nodes, %v: %.4g losses a year, above the closed form's %.4g, which is to err on the safe side", at.nodes, at.f, got, want)
		}
		if again := f.simulate(g, 100_000, 1); again != o {
			t.Errorf("the same seed gave %+v, then %+v", o, again)
		}
	}
}

// TestGroups: every partition is in one group, and with as many copies as nodes there is one group.
func TestGroups(t *testing.T) {
	s := newTestStudy(t)
	for copies := 1; copies <= 3; copies++ {
		g, err := s.groups(3, copies)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, k := range g.count {
			sum += k
		}
		if sum != partitions {
			t.Errorf("%d copies: groups of %d partitions", copies, sum)
		}
		if want := []int{3, 3, 1}[copies-1]; len(g.count) != want {
			t.Errorf("%d copies: %d groups, not %d", copies, len(g.count), want)
		}
	}
	g, err := s.groups(3, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.complete(1, []int32{2, 0}); got != partitions {
		t.Errorf("the last of three failed, and %d partitions are lost", got)
	}
	if got := g.complete(1, []int32{2}); got != 0 {
		t.Errorf("one of three is left, and %d partitions are lost", got)
	}
}

// TestRefused compares with the sum over who is away.
func TestRefused(t *testing.T) {
	const u = 0.1
	draw, held := rand.New(rand.NewPCG(1, 1)), 0
	const tries = 200_000
	for range tries {
		away := 0
		for range 9 {
			if draw.Float64() < u {
				away++
			}
		}
		if away >= 2 {
			held++
		}
	}
	if got, want := refused(10, 2, u), float64(held)/tries; math.Abs(got-want) > 0.005 {
		t.Errorf("%g, drawn %g", got, want)
	}
}

// TestModel holds the counts of the model against what real servers were asked (measured.json), and its times against
// theirs, which were taken on a busy machine.
func TestModel(t *testing.T) {
	s := newTestStudy(t)
	for _, c := range s.m.Clients {
		if c.Up < c.Nodes {
			continue
		}
		if d := looks(c.Nodes) / c.Commands; d < 0.8 || d > 1.25 {
			t.Errorf("%d nodes: a client sends %g commands a second, counted %g", c.Nodes, c.Commands, looks(c.Nodes))
		}
		if c.Connections != c.Nodes {
			t.Errorf("%d nodes: %d connections", c.Nodes, c.Connections)
		}
	}
	for _, r := range s.m.Rejoins {
		w := rejoinWork(float64(r.Sessions), r.Nodes, r.Copies)
		own := w.checked
		if !r.Empty {
			w = w.withData()
		}
		if d := float64(r.Scans) * scanBatch / (w.keys - 2*own); d < 0.97 || d > 1.05 {
			t.Errorf("%+v: the others were asked for %g keys, counted %g", r, float64(r.Scans)*scanBatch, w.keys-2*own)
		}
		if due := float64(r.Sessions*r.Copies) / float64(r.Nodes) * map[bool]float64{true: 1}[r.Empty]; math.Abs(float64(r.Copied)-due) > 0.03*own {
			t.Errorf("%+v: %d copied, counted %g", r, r.Copied, due)
		}
		took := w.on(s.rates)
		if d := took / r.Seconds; d < 0.5 || d > 2 {
			t.Errorf("%+v: the model says %.2f s", r, took)
		}
	}
}

// TestTimesGrow: more sessions never take less, and the search for the most finds its bound.
func TestTimesGrow(t *testing.T) {
	s := newTestStudy(t)
	for _, n := range nodeCounts {
		last := 0.0
		for _, sessions := range sessionCounts {
			now := s.rejoin(sessions, n, 2)
			if now <= last {
				t.Errorf("%d nodes: %g sessions take %g s, a tenth of them %g s", n, sessions, now, last)
			}
			last = now
		}
		at := s.restored(n, 2)
		if took := s.withRestarts(s.rejoin(at, n, 2), n); math.Abs(took-lifetime) > 1 {
			t.Errorf("%d nodes: %g sessions take %g s, not a lifetime", n, at, took)
		}
	}
	if got := s.withRestarts(100, 2); math.Abs(got-100) > 0.01 {
		t.Errorf("100 s among nodes that hardly fail become %g", got)
	}
}

// TestFormats pins how numbers are written.
func TestFormats(t *testing.T) {
	for _, at := range []struct{ got, want string }{
		{whole(1234567), "1,234,567"}, {whole(999.6), "1,000"}, {whole(12), "12"},
		{brief(0), "0"}, {brief(0.00123), "0.0012"}, {brief(3.44), "3.4"}, {brief(12_345), "12,000"}, {brief(99.6), "100"},
		{took(3), "3 s"}, {took(600), "10 min"}, {took(7200), "2.0 h"}, {took(864000), "10 days"}, {took(math.Inf(1)), "never"},
		{percent(0.251), "25.10 %"}, {gigabytes(3.27e9), "3.3 GB"}, {chance(0.999), "> 99 %"}, {chance(0.05), "5 %"},
	} {
		if at.got != at.want {
			t.Errorf("%q, want %q", at.got, at.want)
		}
	}
}

// TestFlags refuses what cannot be.
func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-payload", "0"}, {"-rate", "0"}, {"-failures", "0"}, {"-mtbf", "0"}, {"-away", "-1s"}, {"-nonsense"}} {
		if _, err := parse(args, &strings.Builder{}); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	c, err := parse([]string{"-seed", "9", "-payload", "77"}, &strings.Builder{})
	if err != nil || c.assume.Seed != 9 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := c.run(context.Background(), &strings.Builder{}, &strings.Builder{}); err == nil || !strings.Contains(err.Error(), "not measured") {
		t.Errorf("a payload that was not measured: %v", err)
	}
}

// TestPictures draws all plots; -write does the same.
func TestPictures(t *testing.T) {
	s := newTestStudy(t)
	s.Failures = 2000
	for name, draw := range map[string]func(context.Context) (*picture, error){"rejoin": s.rejoinPicture, "background": s.backgroundPicture, "loss": s.lossPicture} {
		p, err := draw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		file := t.TempDir() + "/" + name + ".svg"
		if err := p.write(file); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), "<svg") || len(b) < 5000 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if got := decades(1, 1e9); len(got) != 10 || got[0].Label != "1" || got[1].Label != "" || got[3].Value != 1000 {
		t.Errorf("ticks %v", got)
	}
	if got := strconv.Itoa(len(steps(1, 10))); got != "61" {
		t.Errorf("%s steps", got)
	}
}
