package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/sessionring/sessionring/internal/redistest"
)

const (
	memoryRequests = 1000    // at a time
	memorySession  = 100_000 // bytes of a session in flight
	memoryJob      = "SESSIONRING_PEERS_MEMORY"
)

// memoryPeers by the name that a job gives.
func memoryPeers() []peer {
	return []peer{
		{name: reference, open: openGoRedis("m:", expire)},
		{name: clientOne, open: openClient(1, deadline)},
		{name: clientTwo, open: openClient(2, deadline)},
	}
}

// job is what one child process measures: what other clients left in a process would blur its memory.
type job struct {
	Peer     string        `json:"peer"`
	Addrs    []string      `json:"addrs"`
	Requests int           `json:"requests"` // at a time
	For      time.Duration `json:"for"`
	Waves    int           `json:"waves"`  // of each size in flight
	Flight   []int         `json:"flight"` // bytes of sessions at a time
}

// usage is memory of a process. Heap is bytes of objects, garbage that was not collected yet among them; RSS is
// bytes, 0 where the OS does not tell.
type usage struct {
	Heap       uint64 `json:"heap"`
	Goroutines int    `json:"goroutines"`
	RSS        uint64 `json:"rss"`
}

// memoryResult is what a child found. Idle, Busy and After are growths over the process before the client was opened.
type memoryResult struct {
	Idle    usage    `json:"idle"`
	Busy    usage    `json:"busy"`  // the most while requests ran; the goroutines of the requests are not counted
	After   usage    `json:"after"` // when they have ended
	Flights []flight `json:"flights"`
}

// flight is what so many bytes of sessions at a time cost: growths over the idle client, with the sessions.
type flight struct {
	Bytes  int            `json:"bytes"`
	Save   usage          `json:"save"`
	Load   usage          `json:"load"`
	Failed map[string]int `json:"failed"` // by kind
	Tries  int            `json:"tries"`
}

// memory measures each client in a process of its own.
func (c config) memory(ctx context.Context, out, progress io.Writer) error {
	how := fmt.Sprintf("One process a client; %s requests at a time for %v; sessions in flight are %s bytes each, medians of %s.",
		thousands(memoryRequests), c.cell, thousands(memorySession), count(c.rounds, "wave"))
	text, err := circumstances(ctx, how, goRedisModule)
	if err != nil {
		return err
	}
	results := map[int]map[string]memoryResult{}
	for _, n := range []int{3, 32} {
		flights := []int{1_000_000, 10_000_000, 100_000_000}
		if n != 3 {
			flights = nil
		}
		if results[n], err = c.memoryOn(ctx, n, flights, progress); err != nil {
			return fmt.Errorf("%s: %w", count(n, "server"), err)
		}
	}
	text += writeMemory(results) + "\n" + writeFlights(results[3])
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	if c.docs == "" {
		return nil
	}
	return errors.Join(drawFlights(c.docs.figure("memory"), results[3]), c.docs.write(memorySection, text))
}

func (c config) memoryOn(ctx context.Context, n int, flights []int, progress io.Writer) (results map[string]memoryResult, err error) {
	nodes, err := redistest.StartNodes(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, redistest.StopNodes(nodes)) }()
	results = map[string]memoryResult{}
	for _, p := range memoryPeers() {
		for _, s := range nodes {
			if err := s.FlushAll(); err != nil {
				return nil, err
			}
		}
		r, err := runChild(ctx, job{p.name, addresses(nodes), memoryRequests, c.cell, c.rounds, flights})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		results[p.name] = r
		fmt.Fprintf(progress, "%s: %s\n", count(n, "server"), p.name)
	}
	return results, nil
}

func runChild(ctx context.Context, j job) (r memoryResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), memoryJob+"="+string(text))
	var failure strings.Builder
	cmd.Stderr = &failure
	answer, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, strings.TrimSpace(failure.String()))
	}
	return r, json.Unmarshal(answer, &r)
}

// memoryChild does a job, prints what it found, and returns the exit code.
func memoryChild(text string, out, failure io.Writer) int {
	quiet()
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		var r memoryResult
		if r, err = j.run(context.Background()); err == nil {
			err = json.NewEncoder(out).Encode(r)
		}
	}
	if err != nil {
		fmt.Fprintln(failure, err)
		return 1
	}
	return 0
}

func (j job) run(ctx context.Context) (r memoryResult, err error) {
	i := slices.IndexFunc(memoryPeers(), func(p peer) bool { return p.name == j.Peer })
	if i < 0 {
		return r, fmt.Errorf("no peer %q", j.Peer)
	}
	before := settled()
	k, err := memoryPeers()[i].begin(ctx, j.Addrs, 1) // so that each node was spoken to
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	s, ok := k.worker().(*store)
	if !ok {
		return r, errors.New("not a store")
	}
	tokens := k.tokens
	idle := settled()
	r.Idle = idle.over(before)
	if r.Busy, err = most(func() error { return s.crowd(ctx, tokens, j.Requests, j.For) }); err != nil {
		return r, err
	}
	r.Busy = r.Busy.over(before)
	r.Busy.Goroutines -= j.Requests
	r.After = settled().over(before)
	for _, total := range j.Flight {
		f, err := s.fly(ctx, total, j.Waves)
		if err != nil {
			return r, err
		}
		r.Flights = append(r.Flights, f)
	}
	return r, nil
}

// crowd runs cycles, each goroutine on a session of its own, for a time.
func (s *store) crowd(ctx context.Context, tokens []string, n int, d time.Duration) error {
	if n > len(tokens) {
		return fmt.Errorf("%d requests at a time on %d sessions", n, len(tokens))
	}
	errs := make([]error, n)
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for g := range n {
		wg.Go(func() {
			for v := (visit{want: 1}); errs[g] == nil && time.Now().Before(end); v.want++ {
				errs[g] = s.cycle(ctx, tokens[g], &v)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// flying is the content of a session in flight.
func flying(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%08d", i), memorySession/8) }

// fly saves so many bytes of sessions at a time, and then loads them, and does so some times.
func (s *store) fly(ctx context.Context, total, waves int) (flight, error) {
	n := max(1, total/memorySession)
	f := flight{Bytes: total, Failed: map[string]int{}}
	sessions, got, errs := make([][]byte, n), make([][]byte, n), make([]error, n)
	base := settled()
	all := func(do func(i int)) func() error {
		return func() error {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { do(i) })
			}
			wg.Wait()
			return nil
		}
	}
	var saves, loads []usage
	for wave := range waves {
		for i := range sessions { // each a request's own
			sessions[i] = flying(wave*n + i)
		}
		settled()
		u, err := most(all(func(i int) { errs[i] = s.set(ctx, openID(i), sessions[i]) }))
		if err != nil {
			return f, err
		}
		saves = append(saves, u.over(base))
		for i := range errs {
			if f.Tries++; errs[i] != nil {
				f.Failed[kind(errs[i])]++
				continue
			}
			sessions[i] = nil // to be loaded
		}
		settled()
		if u, err = most(all(func(i int) {
			if got[i], errs[i] = nil, nil; sessions[i] == nil {
				got[i], errs[i] = s.get(ctx, openID(i))
			}
		})); err != nil {
			return f, err
		}
		loads = append(loads, u.over(base))
		for i := range errs {
			if sessions[i] != nil {
				continue // its save failed
			}
			if f.Tries++; errs[i] != nil {
				f.Failed[kind(errs[i])]++
			} else if !bytes.Equal(got[i], flying(wave*n+i)) {
				return f, errors.New("a session is another than was saved")
			}
		}
		clear(sessions)
		clear(got)
	}
	f.Save, f.Load = middle(saves), middle(loads)
	return f, nil
}

// middle is the median of each figure.
func middle(all []usage) usage {
	of := func(figure func(usage) uint64) uint64 {
		var v []uint64
		for _, u := range all {
			v = append(v, figure(u))
		}
		return quantile(v, 0.5)
	}
	return usage{
		Heap: of(func(u usage) uint64 { return u.Heap }), RSS: of(func(u usage) uint64 { return u.RSS }),
		Goroutines: int(of(func(u usage) uint64 { return uint64(max(u.Goroutines, 0)) })),
	}
}

// over is how much more it is, not below 0.
func (u usage) over(v usage) usage {
	more := func(a, b uint64) uint64 { return max(a, b) - b }
	return usage{more(u.Heap, v.Heap), u.Goroutines - v.Goroutines, more(u.RSS, v.RSS)}
}

// settled is what is in use when the garbage is gone and its memory given back.
func settled() usage {
	runtime.GC()
	debug.FreeOSMemory() // collects once more: finalizers and pools take two
	return usage{heapObjects(), runtime.NumGoroutine(), rss()}
}

func heapObjects() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// most looks every half millisecond, while f runs, at heap and goroutines, and lets the kernel note the peak of RSS.
func most(f func() error) (usage, error) {
	resetPeakRSS()
	var peak usage
	done, ended := make(chan struct{}), make(chan struct{})
	look := func() {
		peak.Heap = max(peak.Heap, heapObjects())
		peak.Goroutines = max(peak.Goroutines, runtime.NumGoroutine()-1) // without the one that looks
	}
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-done:
				return
			}
		}
	}()
	err := f()
	close(done)
	<-ended
	look()
	peak.RSS = peakRSS()
	return peak, err
}

// mib and kib write bytes for people.
func mib(v uint64) string { return fmt.Sprintf("%.1f", float64(v)/(1<<20)) }
func kib(v uint64) string { return thousands(float64(v) / (1 << 10)) }

// resident is MiB of RSS, where the OS tells.
func resident(v uint64) string {
	if v == 0 && rss() == 0 {
		return "–"
	}
	return mib(v)
}

func writeMemory(results map[int]map[string]memoryResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| client | nodes | idle: heap KiB | goroutines | RSS MiB | %s requests: peak heap MiB | goroutines | peak RSS MiB | after them: heap KiB |\n",
		thousands(memoryRequests))
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, n := range slices.Sorted(maps.Keys(results)) {
		for _, p := range memoryPeers() {
			r := results[n][p.name]
			fmt.Fprintf(&b, "| %s | %d | %s | %d | %s | %s | %d | %s | %s |\n", p.name, n, kib(r.Idle.Heap), r.Idle.Goroutines, resident(r.Idle.RSS),
				mib(r.Busy.Heap), r.Busy.Goroutines, resident(r.Busy.RSS), kib(r.After.Heap))
		}
	}
	return b.String()
}

func writeFlights(results map[string]memoryResult) string {
	var b strings.Builder
	b.WriteString("| client | MB in flight | saving: peak heap MB | sessions = 1 | peak RSS MB | loading: peak heap MB | sessions = 1 | peak RSS MB | failed |\n" +
		"|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
	mb := func(v uint64) string { return fmt.Sprintf("%.1f", float64(v)/1e6) }
	set := func(v uint64) string {
		if v == 0 && rss() == 0 {
			return "–"
		}
		return mb(v)
	}
	for _, p := range memoryPeers() {
		for _, f := range results[p.name].Flights {
			failed := (&step{failed: f.Failed, ended: f.Tries}).kinds()
			fmt.Fprintf(&b, "| %s | %g | %s | %.1f | %s | %s | %.1f | %s | %s |\n", p.name, float64(f.Bytes)/1e6,
				mb(f.Save.Heap), float64(f.Save.Heap)/float64(f.Bytes), set(f.Save.RSS),
				mb(f.Load.Heap), float64(f.Load.Heap)/float64(f.Bytes), set(f.Load.RSS), failed)
		}
	}
	return b.String()
}

func drawFlights(file string, results map[string]memoryResult) error {
	var panels []*plot.Plot
	for _, w := range []struct {
		title string
		of    func(flight) usage
	}{{"saving", func(f flight) usage { return f.Save }}, {"loading", func(f flight) usage { return f.Load }}} {
		p := newPanel(w.title+" so many bytes of sessions at a time", "MB of sessions", "peak heap, MB")
		low, high := 1.0, 1.0
		for i, k := range memoryPeers() {
			var at plotter.XYs
			for _, f := range results[k.name].Flights {
				v := plotter.XY{X: float64(f.Bytes) / 1e6, Y: max(float64(w.of(f).Heap)/1e6, 0.1)}
				at, low, high = append(at, v), min(low, v.X), max(high, v.X)
			}
			if err := addLine(p, k.name, i, at); err != nil {
				return err
			}
		}
		least, err := plotter.NewLine(plotter.XYs{{X: low, Y: low}, {X: high, Y: high}})
		if err != nil {
			return err
		}
		least.Color = grey
		p.Legend.Add("the sessions themselves", least)
		p.Legend.Left = true
		p.Add(least)
		logAxis(&p.X, 1)
		logAxis(&p.Y, 10) // room for the legend
		panels = append(panels, p)
	}
	return drawPanels(file, heights(2), panels...)
}
