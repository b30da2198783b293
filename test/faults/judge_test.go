package faults

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sessionring/sessionring/test/faults/figure"
)

// end waits until all is well, then has everybody look at every session, and judges.
func (r *run) end() {
	r.t.Helper()
	r.settle(r.t)
	r.whole = now()
	r.mark("whole again")
	time.Sleep(300 * time.Millisecond)
	r.collect()
	if r.copies > 1 {
		r.checkCopies()
	}
	r.each(Get, r.sessions())
	r.collect()
	r.judge()
	r.draw()
}

// draw makes a picture of the run where SESSIONRING_FIGURES names a directory.
func (r *run) draw() {
	r.t.Helper()
	dir := env("SESSIONRING_FIGURES")
	if dir == "" || r.row.play == nil {
		return
	}
	p := figure.Picture{
		Title: fmt.Sprintf("%s, copies=%d (%s)", r.row.name, r.copies, strings.ReplaceAll(r.shape.String(), ",", ", ")),
		From:  max(r.load.Epoch, r.fault-int64(time.Second)), To: r.whole + int64(300*time.Millisecond),
	}
	for _, o := range r.ops {
		p.Samples = append(p.Samples, figure.Sample{Call: o.Call, Return: o.Return, Failed: o.Outcome == Unknown})
	}
	for _, m := range r.marks {
		p.Marks = append(p.Marks, figure.Mark{At: m.At, Text: m.Text})
	}
	format := "svg"
	if f := env("SESSIONRING_FIGURES_FORMAT"); f != "" {
		format = f
	}
	r.must(figure.Draw(filepath.Join(dir, fmt.Sprintf("fault-%s-copies%d.%s", r.row.name, r.copies, format)), p))
}

// collect stops the load.
func (r *run) collect() {
	r.t.Helper()
	for _, a := range r.apps {
		ops, err := a.Stop()
		r.must(err)
		r.ops = append(r.ops, ops...)
	}
	r.ended = now()
}

// judge holds what happened to what is promised.
func (r *run) judge() {
	t, w := r.t, r.row
	t.Helper()
	stalled := r.pulse.end()
	one := r.copies < 2
	ops := r.ops
	if w.fails {
		// While all nodes are away and come back one by one, the newest copies may be among those that are still
		// away. What was acknowledged counts, and what is read once all is well.
		ops = slices.DeleteFunc(slices.Clone(ops), func(o Op) bool {
			return o.Kind != Set && o.Kind != Delete && o.Return > r.fault && o.Call < r.whole
		})
	}
	v := Check(ops, Rules{PerClient: one, MayVanish: one && w.loses, MayForget: one || w.fails})
	longest := Op{}
	failedLate := 0
	for _, o := range r.ops {
		if o.Return-o.Call > longest.Return-longest.Call {
			longest = o
		}
		if o.Outcome == Unknown && o.Call > r.whole {
			failedLate++
		}
	}
	errs := map[string]int{}
	for _, a := range r.apps {
		view, err := a.View()
		r.must(err)
		for text, n := range view.Errors {
			errs[text] += n
		}
	}
	t.Logf("%v; longest operation %v; the test itself stood still for %v at most", v,
		time.Duration(longest.Return-longest.Call).Round(time.Millisecond), stalled.Round(time.Millisecond))
	if one && len(r.apps) > 1 {
		all := Check(r.ops, Rules{MayVanish: true, MayForget: true})
		t.Logf("judged across clients, which one copy does not promise: %d stale, %d resurrected", all.Stale, all.Resurrected)
	}
	if v.Wrong() > 0 {
		t.Errorf("promises broken: %v\n%s", v, strings.Join(v.Examples, "\n"))
		r.trace(v)
	}
	if v.Failed > 0 && !w.fails {
		t.Errorf("%d operations failed: %v", v.Failed, errs)
	}
	if failedLate > 0 {
		t.Errorf("%d operations failed after all was well again", failedLate)
	}
	for text := range errs {
		if !strings.HasPrefix(text, noNodeText) {
			t.Errorf("an error that is none of the promised: %s", text)
		}
	}
	// A client that cannot reach either owner says so, and is right: no fault of its.
	if v.Hidden > 0 && !one && !w.fails && stalled < deadline/20 {
		t.Errorf("%d reads did not find a session that had an owner left\n%s", v.Hidden, strings.Join(v.Examples, "\n"))
		r.trace(v)
	}
	if took := time.Duration(longest.Return - longest.Call); took > deadline+margin {
		t.Errorf("an operation took %v, its deadline being %v: %v", took, deadline, longest)
	}
}

// trace shows what clients thought of the nodes, and what was done to a session, for whoever has to find out.
func (r *run) trace(v Verdict) {
	for i, session := range v.Sessions {
		if slices.Contains(v.Sessions[:i], session) || i > 2 {
			continue
		}
		r.t.Logf("session %d lives on %v", session, r.owners(sessionID(r.load.Space, session)))
		var story []Op
		for _, o := range r.ops {
			if o.Session == session {
				story = append(story, o)
			}
		}
		slices.SortFunc(story, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
		for _, o := range story {
			r.t.Log("  ", o)
		}
		r.tell(session)
	}
	for i, m := range r.marks {
		r.t.Logf("mark %d: %.3f s %s", i, time.Duration(m.At).Seconds(), m.Text)
	}
	for _, a := range r.apps {
		view, err := a.View()
		r.must(err)
		for _, e := range view.Events {
			if e.At >= r.load.Epoch {
				r.t.Logf("client %d: %.3f s %s: %s to %s (%s)", e.App, time.Duration(e.At).Seconds(), e.Node, e.From, e.To, e.Cause)
			}
		}
	}
}
