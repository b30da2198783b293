package faults

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

const (
	deadline = 2 * time.Second // of an operation: the default
	// margin is what a busy machine may add to a deadline: operations are only bounded, never timed.
	margin   = 5 * time.Second
	lifetime = 1440 * time.Second
	// recovery bounds how long everything may take to be whole again.
	recovery = 60 * time.Second
)

// shape is what a site consists of.
type shape struct {
	nodes, clients, copies int
	// apart: each client is a process of its own, with a clock of its own and its own way to every node.
	apart bool
	// rejoinRate bounds how fast nodes are brought up to date; 0: the default.
	rejoinRate int
}

func (s shape) String() string {
	out := fmt.Sprintf("nodes=%d,clients=%d", s.nodes, s.clients)
	if s.apart {
		out += ",processes"
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
	s := &site{shape: sh, servers: redistest.Nodes(t, sh.nodes, redistest.Options{AppendOnly: true})}
	path := redistest.SavePath(s.servers)
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
	r := &run{site: s, t: t, row: w, hit: s.runs % s.nodes}
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
	time.Sleep(300 * time.Millisecond)
	if got := r.commands(r.hit) - before; got < 20 {
		t.Fatalf("node %d served %d commands before the fault: nothing would be tested", r.hit, got)
	}
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

// sessions are all that were ever used in this run.
func (r *run) sessions() []int64 {
	var out []int64
	for i := range int64(durable) {
		out = append(out, i)
	}
	for i := range r.cold {
		out = append(out, coldBase+i)
	}
	for i := max(shortBase, r.load.newestShort(r.load.Epoch)-shortWindow); i <= r.load.newestShort(now()); i++ {
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

// collect stops the load.
func (r *run) collect() {
	r.t.Helper()
	for _, a := range r.apps {
		ops, err := a.Stop()
		r.must(err)
		r.ops = append(r.ops, ops...)
	}
}

// judge holds what happened to what is promised.
func (r *run) judge() {
	t, w := r.t, r.row
	t.Helper()
	one := r.copies < 2
	ops := r.ops
	if w.fails {
		// While all nodes are away and come back one by one, the newest copies may be among those that are still
		// away. What was acknowledged counts, and what is read once all is well.
		ops = slices.DeleteFunc(slices.Clone(ops), func(o Op) bool {
			return o.Kind != Set && o.Kind != Delete && o.Return > r.fault && o.Call < r.whole
		})
	}
	v := Check(ops, Rules{PerClient: one, MayVanish: one && w.loses, MayForget: one})
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
	t.Logf("%v; longest operation %v", v, time.Duration(longest.Return-longest.Call).Round(time.Millisecond))
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
	if v.Hidden > 0 && !one && !w.fails {
		t.Errorf("%d reads did not find a session that had an owner left", v.Hidden)
	}
	if took := time.Duration(longest.Return - longest.Call); took > deadline+margin {
		t.Errorf("an operation took %v, its deadline being %v: %v", took, deadline, longest)
	}
}

// trace shows what clients thought of the nodes, for whoever has to find out.
func (r *run) trace(v Verdict) {
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
		out[s] = held{make([]string, r.nodes), make([]string, r.nodes)}
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
	waitUntil(r.t, "every session has its copies on its owners and nowhere else", recovery, func() error {
		missing, behind, strays := 0, 0, 0
		examples := map[string]string{}
		for s, h := range r.inspect(sessions) {
			id := sessionID(r.load.Space, s)
			owners := r.ring.Owners(id)
			newest := slices.Max(h.stamps)
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
				case h.stamps[i] != newest || h.values[i] != h.values[owners[0]]:
					kind = "behind"
					behind++
				}
				if kind != "" {
					examples[kind] = fmt.Sprintf("session %d, owners %v: stamps %q", s, owners, h.stamps)
				}
			}
		}
		if missing+behind+strays > 0 {
			return fmt.Errorf("%d copies are missing, %d are behind, %d stand where no owner is; for example %v", missing, behind, strays, examples)
		}
		for i, n := range r.servers {
			keys, err := n.Do("KEYS", "sessionring:h:*")
			r.must(err)
			if list := keys.([]any); len(list) > 0 {
				return fmt.Errorf("node %d holds hints: %v", i, list)
			}
		}
		return nil
	})
}

func env(name string) string { return os.Getenv(name) }
