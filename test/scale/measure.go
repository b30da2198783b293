package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// unlimited is a rejoin rate that no machine reaches: what is measured then is the machine.
const unlimited = 100_000_000

// tries is how often what depends on the machine's speed is taken: the fastest counts, for other work only slows it.
const tries = 3

// measuring is the steps, by the names that -measure takes.
var measuring = []struct {
	name string
	take func(context.Context, *measurements) error
}{
	{"bytes", measureBytes},
	{"connection", measureConnection},
	{"rings", measureRings},
	{"seen", measureSeen},
	{"clients", measureClients},
	{"thousand", measureThousand},
	{"rejoins", measureRejoins},
	{"migrations", measureMigrations},
}

// stepNames lists the steps.
func stepNames() string {
	var names []string
	for _, step := range measuring {
		names = append(names, step.name)
	}
	return strings.Join(names, ",")
}

// measure takes the named steps, or all of them, on servers of its own; what the others found stays.
func measure(ctx context.Context, m *measurements, names []string, progress io.Writer) error {
	m.Command = "cd test && go run ./scale -measure all"
	m.Date = time.Now().UTC().Format(time.DateOnly)
	m.Go, m.CPUs = runtime.Version(), runtime.NumCPU()
	all := slices.Equal(names, []string{"all"})
	for _, step := range measuring {
		if !all && !slices.Contains(names, step.name) {
			continue
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == step.name })
		fmt.Fprintln(progress, "measuring", step.name)
		if err := step.take(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if !all && len(names) > 0 {
		return fmt.Errorf("-measure: nothing is called %s", strings.Join(names, ", "))
	}
	return nil
}

// measureBytes fills an empty server through a Client and looks at its memory at four sizes within an octave.
func measureBytes(ctx context.Context, m *measurements) error {
	m.Bytes = nil
	for _, payload := range []int{100, 600, 1024, 4096, 16384} {
		cost := byteCost{Payload: payload}
		for _, d := range []sessionring.Distribution{sessionring.Consistent, sessionring.PHPRedis} {
			spread, err := bytesOf(ctx, m, payload, d)
			if err != nil {
				return err
			}
			if d == sessionring.Consistent {
				cost.With = spread
			} else {
				cost.Without = spread
			}
		}
		m.Bytes = append(m.Bytes, cost)
	}
	return nil
}

func bytesOf(ctx context.Context, m *measurements, payload int, d sessionring.Distribution) (spread, error) {
	servers, err := redistest.StartNodes(ctx, 1)
	if err != nil {
		return spread{}, err
	}
	defer redistest.StopNodes(servers)
	client, err := openUp(ctx, servers, sessionring.WithDistribution(d), sessionring.WithCopies(1))
	if err != nil {
		return spread{}, err
	}
	defer client.Close()
	info, err := servers[0].Info("server")
	if err != nil {
		return spread{}, err
	}
	m.Server = "redis " + info["redis_version"]
	const first = 100 // with them come the scripts, and the least that hash tables take
	if err := fill(ctx, client, 0, first, payload); err != nil {
		return spread{}, err
	}
	before, err := memoryOf(servers[0])
	if err != nil {
		return spread{}, err
	}
	out := spread{Least: math.Inf(1)}
	written := first
	const points, base = 4, 5000.0
	for i := range points {
		upTo := int(base * math.Pow(2, float64(i)/points))
		if err := fill(ctx, client, written, upTo, payload); err != nil {
			return spread{}, err
		}
		written = upTo
		after, err := memoryOf(servers[0])
		if err != nil {
			return spread{}, err
		}
		each := (after - before) / float64(written-first)
		out.Mean += each / points
		out.Least, out.Most = min(out.Least, each), max(out.Most, each)
	}
	return out.rounded(), nil
}

func (s spread) rounded() spread {
	return spread{math.Round(s.Mean), math.Round(s.Least), math.Round(s.Most)}
}

// memoryOf is what the data take: used memory less the buffers of connections, once hash tables stopped growing.
func memoryOf(s *redistest.Server) (float64, error) {
	time.Sleep(300 * time.Millisecond)
	info, err := s.Info("memory")
	if err != nil {
		return 0, err
	}
	used, err := strconv.ParseFloat(info["used_memory"], 64)
	if err != nil {
		return 0, fmt.Errorf("used_memory: %w", err)
	}
	clients, err := strconv.ParseFloat(info["mem_clients_normal"], 64)
	if err != nil {
		return 0, fmt.Errorf("mem_clients_normal: %w", err)
	}
	return used - clients, nil
}

// measureConnection asks what a server needs for a connection over which nothing goes.
func measureConnection(ctx context.Context, m *measurements) error {
	servers, err := redistest.StartNodes(ctx, 1)
	if err != nil {
		return err
	}
	defer redistest.StopNodes(servers)
	used := func() (float64, error) {
		time.Sleep(4 * time.Second) // the server shrinks the buffers of idle connections after two seconds
		info, err := servers[0].Info("memory")
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(info["used_memory"], 64)
	}
	before, err := used()
	if err != nil {
		return err
	}
	const connections = 500
	for range connections {
		c, err := redistest.Dial(ctx, "tcp", servers[0].Addr())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Do(ctx, "PING"); err != nil {
			return err
		}
	}
	after, err := used()
	m.Connection = math.Round((after - before) / connections)
	return err
}

func measureRings(_ context.Context, m *measurements) error {
	m.Rings = nil
	for _, n := range nodeCounts {
		cost := ringCost{Nodes: n, Seconds: math.Inf(1)}
		for range tries {
			before := inUse()
			began := time.Now()
			r, err := sessionring.NewRing(equal(n).path())
			if err != nil {
				return err
			}
			cost.Seconds = min(cost.Seconds, round(time.Since(began).Seconds(), 3))
			cost.TableBytes = inUse() - before
			runtime.KeepAlive(r)
		}
		m.Rings = append(m.Rings, cost)
	}
	return nil
}

// measureSeen asks what the hashes of ids cost that Migrate keeps so as to count each session once: a set of all
// sessions, and one of the node being scanned (migrate.go).
func measureSeen(_ context.Context, m *measurements) error {
	const ids = 1_500_000 // between two sizes of the map
	before := inUse()
	seen := map[uint64]struct{}{}
	draw := rand.New(rand.NewPCG(1, 1))
	for range ids {
		seen[draw.Uint64()] = struct{}{}
	}
	m.SeenBytes = math.Round((inUse() - before) / ids)
	runtime.KeepAlive(seen)
	return nil
}

// inUse is the heap that is in use after a collection, stacks included.
func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc + s.StackInuse)
}

// upLimit is how long a Client may take until all its nodes are up.
const upLimit = 2 * time.Minute

// measureClients opens a Client on so many nodes: databases of one server, each with a connection of its own.
func measureClients(ctx context.Context, m *measurements) error {
	for _, n := range nodeCounts[:len(nodeCounts)-1] {
		if err := measureClient(ctx, m, n); err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
	}
	return nil
}

// measureThousand does the same with the most nodes: it takes a machine minutes of all it has.
func measureThousand(ctx context.Context, m *measurements) error {
	return measureClient(ctx, m, nodeCounts[len(nodeCounts)-1])
}

// client puts a row in the place of the one of as many nodes.
func (m *measurements) client(c clientCost) {
	m.Clients = append(slices.DeleteFunc(m.Clients, func(o clientCost) bool { return o.Nodes == c.Nodes }), c)
	slices.SortFunc(m.Clients, func(a, b clientCost) int { return a.Nodes - b.Nodes })
}

func measureClient(ctx context.Context, m *measurements, n int) error {
	servers, err := redistest.StartNodes(ctx, 1, redistest.Options{Databases: n})
	if err != nil {
		return err
	}
	defer redistest.StopNodes(servers)
	s := servers[0]
	var entries []string
	for i := range n {
		entries = append(entries, s.SavePath("database="+strconv.Itoa(i)))
	}
	cost := clientCost{Nodes: n}
	before, goroutines := inUse(), runtime.NumGoroutine()
	began := time.Now()
	client, err := sessionring.Open(strings.Join(entries, ","))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := awaitUpWithin(ctx, client, upLimit); errors.Is(err, context.DeadlineExceeded) {
		for _, n := range client.Nodes() {
			if n.State == sessionring.StateUp {
				cost.Up++
			}
		}
		m.client(cost) // and nothing else of it is worth a measurement
		return nil
	} else if err != nil {
		return err
	}
	cost.Up = n
	cost.UpSeconds = round(time.Since(began).Seconds(), 2)
	if err := sleep(ctx, 5*time.Second); err != nil { // what coming up left behind is gone
		return err
	}
	at, err := workOf(s)
	if err != nil {
		return err
	}
	cpu, window := processCPU(), time.Now()
	if err := sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	took, used := time.Since(window).Seconds(), processCPU()-cpu
	then, err := workOf(s)
	if err != nil {
		return err
	}
	cost.Commands = math.Round((then.commands - at.commands) / took)
	cost.CPU = round(used.Seconds()/took, 3)
	m.Look = round(1e6*(then.cpu-at.cpu)/(then.commands-at.commands), 2) // the last, with the most nodes, stands
	info, err := s.Info("clients")
	if err != nil {
		return err
	}
	if cost.Connections, err = strconv.Atoi(info["connected_clients"]); err != nil {
		return err
	}
	cost.Connections-- // the one that asks
	cost.HeapBytes = inUse() - before
	cost.Goroutines = runtime.NumGoroutine() - goroutines
	m.client(cost)
	return nil
}

func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}

// work is what a server has done since it started.
type work struct{ commands, cpu float64 }

func workOf(s *redistest.Server) (work, error) {
	var w work
	info, err := s.Info("")
	if err != nil {
		return w, err
	}
	for field, to := range map[string]*float64{"total_commands_processed": &w.commands, "used_cpu_user": &w.cpu, "used_cpu_sys": &w.cpu} {
		v, err := strconv.ParseFloat(info[field], 64)
		if err != nil {
			return w, fmt.Errorf("%s: %w", field, err)
		}
		*to += v
	}
	return w, nil
}

// measureRejoins plays two kinds of pass on three nodes, from which the rates come, and one on six nodes with three
// copies, by which the model is checked.
func measureRejoins(ctx context.Context, m *measurements) error {
	m.ScanRate, m.Rejoins = 0, nil
	for _, at := range []struct{ nodes, copies, sessions int }{{3, 2, 45_000}, {6, 3, 40_000}} {
		servers, client, err := filled(ctx, at.nodes, at.copies, at.sessions)
		if err != nil {
			return err
		}
		err = errors.Join(rejoins(ctx, m, servers, client, at.copies, at.sessions), client.Close(), redistest.StopNodes(servers))
		if err != nil {
			return err
		}
	}
	return nil
}

func rejoins(ctx context.Context, m *measurements, servers []*redistest.Server, client *sessionring.Client, copies, sessions int) error {
	if m.ScanRate == 0 {
		var err error
		if m.ScanRate, err = scanRate(ctx, servers[1]); err != nil {
			return err
		}
	}
	for _, empty := range []bool{false, true} {
		best := rejoinRun{Seconds: math.Inf(1)}
		for range tries {
			run, err := rejoin(ctx, servers, client, empty)
			if err != nil {
				return err
			}
			if run.Seconds < best.Seconds {
				best = run
			}
		}
		best.Copies, best.Sessions = copies, sessions
		m.Rejoins = append(m.Rejoins, best)
	}
	return nil
}

// scanRate goes over a server as a pass does: a batch of 512, then the next.
func scanRate(ctx context.Context, s *redistest.Server) (float64, error) {
	keys, err := s.DBSize()
	if err != nil {
		return 0, err
	}
	c, err := redistest.Dial(ctx, "tcp", s.Addr())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	rate := 0.0
	for range tries {
		began := time.Now()
		for cursor := "0"; ; {
			v, err := c.Do(ctx, "SCAN", cursor, "MATCH", "sessionring:v:*", "COUNT", "512")
			if err != nil {
				return 0, err
			}
			reply, ok := v.([]any)
			if !ok || len(reply) != 2 {
				return 0, fmt.Errorf("SCAN answered %T", v)
			}
			if cursor, ok = reply[0].(string); !ok {
				return 0, fmt.Errorf("SCAN's cursor is %T", reply[0])
			}
			if cursor == "0" {
				break
			}
		}
		rate = max(rate, float64(keys)/time.Since(began).Seconds())
	}
	return math.Round(rate), nil
}

// rejoin makes the first node lose its data, or only its mark, and waits until the client has been over it.
func rejoin(ctx context.Context, servers []*redistest.Server, client *sessionring.Client, empty bool) (rejoinRun, error) {
	run := rejoinRun{Nodes: len(servers), Empty: empty}
	last := client.Nodes()[0].Rejoin.Since
	before, err := callsOf(servers[1:])
	if err != nil {
		return run, err
	}
	if empty {
		err = servers[0].RestartEmpty(ctx)
	} else {
		_, err = servers[0].Do("DEL", "sessionring:mark")
	}
	if err != nil {
		return run, err
	}
	for {
		n := client.Nodes()[0]
		if n.Rejoin.Done && n.Rejoin.Since.After(last) && n.State == sessionring.StateUp {
			run.Seconds = round(n.Since.Sub(n.Rejoin.Since).Seconds(), 3) // up since the pass ended
			run.Scanned, run.Copied = n.Rejoin.Scanned, n.Rejoin.Copied
			break
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return run, err
		}
	}
	after, err := callsOf(servers[1:])
	run.Scans, run.Bulk = after.scan-before.scan, after.mget-before.mget
	return run, err
}

type calls struct{ scan, mget int64 }

func callsOf(servers []*redistest.Server) (calls, error) {
	var c calls
	for _, s := range servers {
		info, err := s.Info("commandstats")
		if err != nil {
			return c, err
		}
		for name, to := range map[string]*int64{"cmdstat_scan": &c.scan, "cmdstat_mget": &c.mget} {
			var n int64
			if text := info[name]; text != "" {
				if _, err := fmt.Sscanf(text, "calls=%d,", &n); err != nil {
					return c, fmt.Errorf("%s: %w", name, err)
				}
			}
			*to += n
		}
	}
	return c, nil
}

// measureMigrations adds a fourth node to three: once for all, then once more with nothing to move.
func measureMigrations(ctx context.Context, m *measurements) error {
	m.Migrations = nil
	for range tries {
		runs, err := migrations(ctx)
		if err != nil {
			return err
		}
		if m.Migrations == nil {
			m.Migrations = runs
		}
		for i, run := range runs {
			if run.Seconds < m.Migrations[i].Seconds {
				m.Migrations[i] = run
			}
		}
	}
	return nil
}

func migrations(ctx context.Context) ([]migrateRun, error) {
	const copies, sessions = 2, 45_000
	servers, client, err := filled(ctx, 4, copies, 0)
	if err != nil {
		return nil, err
	}
	defer redistest.StopNodes(servers)
	if err := client.Close(); err != nil {
		return nil, err
	}
	if client, err = openUp(ctx, servers[:3], sessionring.WithCopies(copies)); err != nil {
		return nil, err
	}
	err = errors.Join(fill(ctx, client, 0, sessions, 1024), client.Close())
	if err != nil {
		return nil, err
	}
	mover, err := openUp(ctx, servers, sessionring.WithCopies(copies), sessionring.WithRejoinRate(unlimited),
		sessionring.WithPrevious(redistest.SavePath(servers[:3])), sessionring.WithObserver())
	if err != nil {
		return nil, err
	}
	defer mover.Close()
	var runs []migrateRun
	for range 2 {
		r, err := mover.Migrate(ctx, sessionring.MigrateOptions{})
		if err != nil {
			return nil, err
		}
		runs = append(runs, migrateRun{3, 4, copies, r.Scanned, r.Moved, round(r.Elapsed.Seconds(), 3)})
	}
	return runs, nil
}

// filled is a site with so many sessions of 1 KiB, whose passes run as fast as the machine can.
func filled(ctx context.Context, nodes, copies, sessions int) ([]*redistest.Server, *sessionring.Client, error) {
	servers, err := redistest.StartNodes(ctx, nodes)
	if err != nil {
		return nil, nil, err
	}
	client, err := openUp(ctx, servers, sessionring.WithCopies(copies), sessionring.WithRejoinRate(unlimited))
	if err == nil {
		err = fill(ctx, client, 0, sessions, 1024)
		if err != nil {
			client.Close()
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, redistest.StopNodes(servers))
	}
	return servers, client, nil
}

// openUp opens a Client and waits until all nodes are up.
func openUp(ctx context.Context, servers []*redistest.Server, opts ...sessionring.Option) (*sessionring.Client, error) {
	client, err := sessionring.Open(redistest.SavePath(servers), append(opts, sessionring.WithDeadline(10*time.Second))...)
	if err != nil {
		return nil, err
	}
	if err := awaitUp(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

func awaitUpWithin(ctx context.Context, client *sessionring.Client, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return awaitUp(ctx, client)
}

func awaitUp(ctx context.Context, client *sessionring.Client) error {
	for {
		up := true
		for _, n := range client.Nodes() {
			up = up && n.State == sessionring.StateUp
		}
		if up {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// fill writes sessions from..to-1. Ids are as long as PHP's, 26 characters; data are random, for Redis may compress.
func fill(ctx context.Context, client *sessionring.Client, from, to, payload int) error {
	const writers = 32
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			data := make([]byte, payload)
			draw := rand.NewChaCha8([32]byte{byte(w)})
			for i := from + w; i < to && errs[w] == nil; i += writers {
				_, _ = draw.Read(data) // never fails
				errs[w] = client.Set(ctx, fmt.Sprintf("%026d", i), data)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
