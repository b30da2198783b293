package faults

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/test/faults/figure"
)

const (
	// deadline of an operation. More than the default, since it is shared out to nodes, and where many tests share few
	// processors a node that was not given its turn must not pass for one that hangs.
	deadline = 4 * time.Second
	// margin is what a busy machine may add to a deadline: operations are only bounded, never timed.
	margin   = 5 * time.Second
	lifetime = 1440 * time.Second
)

// recovery bounds how long everything may take to be whole again. A broken core is not waited for as long.
var recovery = envDuration("SESSIONRING_RECOVERY", 60*time.Second)

// tracing has the nodes date what they keep on disk, so that a session's story can be told.
var tracing = os.Getenv("SESSIONRING_TRACE") == "1"

// shape is what a site consists of.
type shape struct {
	nodes, clients, copies int
	// apart: each client is a process of its own, with a clock of its own and its own way to every node.
	apart bool
	// spare: one more node runs that no client knows of at first.
	spare bool
	// rejoinRate bounds how fast nodes are brought up to date; 0: the default.
	rejoinRate int
}

func (s shape) String() string {
	out := fmt.Sprintf("nodes=%d,clients=%d", s.nodes, s.clients)
	if s.apart {
		out += ",processes"
	}
	if s.spare {
		out += ",lists"
	}
	if s.rejoinRate > 0 {
		out += ",slow"
	}
	return out
}

// skews are the errors of the clocks of application servers that are processes of their own.
var skews = []time.Duration{0, 365 * 24 * time.Hour, -365 * 24 * time.Hour, 7 * time.Minute, -7 * time.Minute}

// site is nodes and application servers, on which one fault after the other is tried.
type site struct {
	shape
	servers []*redistest.Server
	proxies [][]*redistest.Proxy // by client and node, where clients have their own ways
	apps    []App
	ring    *sessionring.Ring
	runs    int
}

func newSite(t *testing.T, sh shape) *site {
	t.Helper()
	n := sh.nodes
	if sh.spare {
		n++
	}
	opts := redistest.Options{AppendOnly: true}
	if tracing {
		opts.Config = []string{"aof-timestamp-enabled yes", "auto-aof-rewrite-percentage 0"}
	}
	s := &site{shape: sh, servers: redistest.Nodes(t, n, opts)}
	path := redistest.SavePath(s.servers[:sh.nodes])
	s.ring = ringOf(t, path, sh.copies)
	for i := range sh.clients {
		conf := AppConfig{Index: i, SavePath: path, Copies: sh.copies, Deadline: deadline, Lifetime: lifetime, RejoinRate: sh.rejoinRate}
		open := OpenApp
		if sh.apart {
			open = OpenProcess
			conf.Skew = skews[i%len(skews)]
			conf.Via = map[string]string{}
			var ways []*redistest.Proxy
			for _, n := range s.servers {
				p := redistest.ProxyTo(t, n)
				ways = append(ways, p)
				conf.Via[n.Addr()] = p.Addr()
			}
			s.proxies = append(s.proxies, ways)
		}
		app, err := open(conf)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := app.Close(); err != nil {
				t.Errorf("closing an application server: %v", err)
			}
		})
		s.apps = append(s.apps, app)
	}
	s.settle(t)
	return s
}

func ringOf(t *testing.T, path string, copies int) *sessionring.Ring {
	t.Helper()
	sp, err := sessionring.ParseSavePath(path)
	if err != nil {
		t.Fatal(err)
	}
	sp.Settings.Copies = copies
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// owners are the servers that should hold a session, the first owner first.
func (s *site) owners(id string) []int {
	var out []int
	nodes := s.ring.Nodes()
	for _, o := range s.ring.Owners(id) {
		out = append(out, slices.IndexFunc(s.servers, func(n *redistest.Server) bool { return n.Addr() == nodes[o].Address }))
	}
	return out
}

// settle waits until every client trusts every node and no session waits for a copy.
func (s *site) settle(t *testing.T) {
	t.Helper()
	waitUntil(t, "all nodes are up and no session waits for a copy", recovery, func() error {
		for i, a := range s.apps {
			v, err := a.View()
			if err != nil {
				return err
			}
			for _, n := range v.Nodes {
				if n.State != "up" || n.Debt != 0 {
					return fmt.Errorf("client %d: %s is %s, %d sessions wait for it, last error %s", i, n.Node, n.State, n.Debt, n.LastErr)
				}
			}
		}
		return nil
	})
}

// run is one row of the matrix under way: load, a fault, and what came of it.
type run struct {
	*site
	t     *testing.T
	row   row
	load  Load
	hit   int // the node that the fault is done to
	ops   []Op
	marks []Mark
	cold  int64 // sessions at rest so far
	fault int64 // when the fault began
	whole int64 // when all was well again
	ended int64 // when the load was last stopped
	pulse *stallWatch
}

// Mark is a moment to show in a picture.
type Mark struct {
	At   int64
	Text string
}

const (
	durable = 150 // sessions that are in use all the time
	resting = 60  // sessions that are at rest but for one operation during the fault
	workers = 12
)

// begin fills the nodes and starts the load.
func (s *site) begin(t *testing.T, w row) *run {
	t.Helper()
	r := &run{site: s, t: t, row: w, hit: s.runs % s.nodes, pulse: watchStalls()}
	t.Cleanup(func() { r.pulse.end() })
	s.runs++
	r.load = Load{
		Space: fmt.Sprintf("%s-%d", w.name, s.runs), Sessions: durable, Workers: max(1, workers/len(s.apps)),
		Pause: 8 * time.Millisecond, Seed: uint64(s.runs), Epoch: now(),
	}
	r.cold = resting
	var sessions []int64
	for i := range int64(durable) {
		sessions = append(sessions, i)
	}
	for i := range int64(resting) {
		sessions = append(sessions, coldBase+i)
	}
	r.spread(Set, sessions)
	for _, a := range s.apps {
		r.must(a.Start(r.load))
	}
	time.Sleep(500 * time.Millisecond)
	before := r.commands(r.hit)
	waitUntil(t, "the node that will be hit is in use", recovery, func() error {
		if got := r.commands(r.hit) - before; got < 50 {
			return fmt.Errorf("%d commands", got)
		}
		return nil
	})
	return r
}

func (r *run) commands(node int) int {
	r.t.Helper()
	info, err := r.servers[node].Info("stats")
	r.must(err)
	n := 0
	fmt.Sscan(info["total_commands_processed"], &n)
	return n
}

func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// spread has the clients share an operation on each of some sessions.
func (r *run) spread(kind Kind, sessions []int64) {
	r.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(r.apps))
	for i, a := range r.apps {
		var mine []int64
		for j, s := range sessions {
			if j%len(r.apps) == i {
				mine = append(mine, s)
			}
		}
		wg.Go(func() { errs[i] = a.Do(Job{r.load.Space, kind, mine}) })
	}
	wg.Wait()
	for _, err := range errs {
		r.must(err)
	}
}

// each has every client do an operation on each of some sessions.
func (r *run) each(kind Kind, sessions []int64) {
	r.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(r.apps))
	for i, a := range r.apps {
		wg.Go(func() { errs[i] = a.Do(Job{r.load.Space, kind, sessions}) })
	}
	wg.Wait()
	for _, err := range errs {
		r.must(err)
	}
}

// mark notes a moment; the first one begins the fault.
func (r *run) mark(format string, args ...any) {
	m := Mark{now(), fmt.Sprintf(format, args...)}
	if r.fault == 0 {
		r.fault = m.At
	}
	r.marks = append(r.marks, m)
}

// rest does one operation on sessions at rest: a third is overwritten, a third destroyed, a third left alone, and
// some are new. Nobody reads them before the end, so no read mends them.
func (r *run) rest() {
	r.t.Helper()
	var written, destroyed []int64
	for i := range int64(resting) {
		switch i % 3 {
		case 0:
			written = append(written, coldBase+i)
		case 1:
			destroyed = append(destroyed, coldBase+i)
		}
	}
	for range 20 {
		written = append(written, coldBase+r.cold)
		r.cold++
	}
	r.spread(Set, written)
	r.spread(Delete, destroyed)
}

// restSome does the same with a part of them, so that it can be done several times.
func (r *run) restSome(part int) {
	r.t.Helper()
	lo := coldBase + int64(part*12)
	r.spread(Set, []int64{lo, lo + 1, lo + 2, lo + 3, coldBase + r.cold, coldBase + r.cold + 1})
	r.cold += 2
	r.spread(Delete, []int64{lo + 4, lo + 5, lo + 6, lo + 7})
}

// sessions are all that were ever used in this run.
func (r *run) sessions() []int64 {
	var out []int64
	for i := range int64(durable) {
		out = append(out, i)
	}
	for i := range r.cold {
		out = append(out, coldBase+i)
	}
	at := now()
	if r.ended > 0 {
		at = r.ended
	}
	for i := shortBase; i <= r.load.newestShort(at); i++ {
		out = append(out, i)
	}
	return out
}

// seen waits until the client has noticed, since the fault began, that the node was in one of the states.
func (r *run) seen(client, node int, states ...string) {
	r.t.Helper()
	id := "tcp://" + r.servers[node].Addr()
	waitUntil(r.t, fmt.Sprintf("client %d noticed that node %d is one of %v", client, node, states), recovery, func() error {
		v, err := r.apps[client].View()
		r.must(err)
		var got []string
		for _, e := range v.Events {
			if e.At >= r.fault && e.Node == id {
				got = append(got, e.To)
				if slices.Contains(states, e.To) {
					return nil
				}
			}
		}
		return fmt.Errorf("it became %v", got)
	})
}

// allSeen is seen for all clients.
func (r *run) allSeen(node int, states ...string) {
	r.t.Helper()
	for i := range r.apps {
		r.seen(i, node, states...)
	}
}

// node is the server that the fault is done to.
func (r *run) node() *redistest.Server { return r.servers[r.hit] }

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

// held is what the nodes hold of a session.
type held struct {
	stamps, values []string // by node
}

// inspect looks at the nodes behind everybody's back.
func (r *run) inspect(sessions []int64) map[int64]held {
	r.t.Helper()
	out := map[int64]held{}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range sessions {
		out[s] = held{make([]string, len(r.servers)), make([]string, len(r.servers))}
	}
	for i, n := range r.servers {
		if n.State() != redistest.Running {
			continue
		}
		c, err := n.Connect(ctx)
		r.must(err)
		for _, s := range sessions {
			id := sessionID(r.load.Space, s)
			got, err := c.Do(ctx, "MGET", "PHPREDIS_SESSION:"+id, stampKey(id))
			r.must(err)
			list := got.([]any)
			out[s].values[i], _ = list[0].(string)
			out[s].stamps[i], _ = list[1].(string)
		}
		c.Close()
	}
	return out
}

// checkCopies demands that every session has its copies, alike, on its owners and nowhere else, without anybody
// reading it, and that no hint is left.
func (r *run) checkCopies() {
	r.t.Helper()
	sessions := r.sessions()
	last := int64(-1)
	defer func() {
		if r.t.Failed() {
			r.tell(last)
		}
	}()
	waitUntil(r.t, "every session has its copies on its owners and nowhere else", recovery, func() error {
		missing, behind, strays := 0, 0, 0
		examples, kinds := map[string]string{}, map[string]int{}
		for s, h := range r.inspect(sessions) {
			id := sessionID(r.load.Space, s)
			owners := r.owners(id)
			newest := newestOf(h.stamps)
			if newest == "" {
				continue
			}
			for i := range r.servers {
				kind := ""
				switch {
				case !slices.Contains(owners, i) && (h.stamps[i] != "" || h.values[i] != ""):
					kind = "stray"
					strays++
				case !slices.Contains(owners, i):
				case h.stamps[i] == "":
					kind = "missing"
					missing++
				case strings.HasSuffix(newest, "d") && strings.HasSuffix(h.stamps[i], "d"):
					// Destroyed twice: as good as once.
				case versionOf(h.stamps[i]) != versionOf(newest) || h.values[i] != h.values[owners[0]]:
					kind = "behind"
					behind++
				}
				if kind != "" {
					kinds[fmt.Sprint(kind, " at ", i)]++
					last = s
					examples[kind] = fmt.Sprintf("session %d, owners %v: stamps %q", s, owners, h.stamps)
				}
			}
		}
		hints := map[string]any{}
		for _, n := range r.servers {
			if n.State() != redistest.Running {
				continue
			}
			keys, err := n.Do("KEYS", "sessionring:h:*")
			r.must(err)
			for _, k := range keys.([]any) {
				hints[fmt.Sprint(k, " at ", n.Addr())], err = n.Do("SMEMBERS", k)
				r.must(err)
			}
		}
		if missing+behind+strays+len(hints) == 0 {
			return nil
		}
		draining := ""
		for i, a := range r.apps {
			v, err := a.View()
			r.must(err)
			if v.Draining {
				draining += fmt.Sprint(" client ", i)
			}
		}
		return fmt.Errorf("%d copies are missing, %d are behind, %d stand where no owner is (%v); for example %v; hints %v; draining:%s", missing, behind, strays, kinds, examples, hints, draining)
	})
}

// tell shows what was changed of a session on the nodes, by their append-only files, as far as these go back.
func (r *run) tell(session int64) {
	if !tracing || session < 0 {
		return
	}
	id := sessionID(r.load.Space, session)
	for i, n := range r.servers {
		got, err := n.Do("CONFIG", "GET", "dir")
		if err != nil {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(got.([]any)[1].(string), "appendonlydir", "*.incr.aof"))
		for _, f := range files {
			data, err := os.ReadFile(f)
			r.must(err)
			at := ""
			for len(data) > 0 {
				var args []string
				if args, data = nextCommand(data); args == nil {
					at = strings.TrimSpace(string(data[:bytes.IndexByte(data, '\n')]))
					data = data[bytes.IndexByte(data, '\n')+1:]
				} else if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, id) }) {
					for j := range args {
						args[j] = args[j][:min(len(args[j]), 60)]
					}
					r.t.Logf("node %d %s: %q", i, at, args)
				}
			}
		}
	}
}

// nextCommand takes one command off an append-only file; nil where something else comes first.
func nextCommand(data []byte) (args []string, rest []byte) {
	line := func() string {
		i := bytes.IndexByte(data, '\n')
		s := string(bytes.TrimSpace(data[:i]))
		data = data[i+1:]
		return s
	}
	if data[0] != '*' {
		return nil, data
	}
	n, _ := strconv.Atoi(line()[1:])
	for range n {
		size, _ := strconv.Atoi(line()[1:])
		args = append(args, string(data[:size]))
		data = data[size+2:]
	}
	return args, data
}

// versionOf is a stamp without its last letter, which tells a write from a repair.
func versionOf(stamp string) string { return stamp[:min(len(stamp), 27)] }

// newestOf is the stamp that wins: a tombstone, else the greatest.
func newestOf(stamps []string) string {
	best := ""
	for _, s := range stamps {
		dead, bestDead := strings.HasSuffix(s, "d"), strings.HasSuffix(best, "d")
		if dead != bestDead && s != "" && best != "" {
			if dead {
				best = s
			}
			continue
		}
		best = max(best, s)
	}
	return best
}

func env(name string) string { return os.Getenv(name) }

func envDuration(name string, def time.Duration) time.Duration {
	if d, err := time.ParseDuration(env(name)); err == nil {
		return d
	}
	return def
}
