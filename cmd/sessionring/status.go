package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sessionring/sessionring"
)

type statusCmd struct {
	pathArg
	Quick bool `help:"Do not count the sessions, which reads every key once (by SCAN)."`
}

// Help is printed by --help.
func (statusCmd) Help() string {
	return `Asks every node how it is: state, latency, role, version, memory, eviction policy, and how many sessions it holds against its share of the ring. What endangers sessions comes with the remedy, as warnings on standard error and in the JSON. "share" is the part of all ids whose first owner the node is by the ring, "has" the part of those found, and "sessions" counts all that it holds, copies included. A dead node is a line like the others. Exit 1 if any node is down.

Examples:

    sessionring status 'tcp://host1:6379, tcp://host2:6379'
    sessionring status --json --quick @save_path | jq -c 'select(.state != "up")'`
}

// statusJSON is a line of status --json: one node. Null is what could not be found out.
type statusJSON struct {
	Kind           string    `json:"kind"`
	Index          int       `json:"index"`
	Node           string    `json:"node"`
	Address        string    `json:"address"`
	Up             bool      `json:"up"`    // it can serve sessions
	State          string    `json:"state"` // up, returning, suspect, down
	Error          *string   `json:"error"`
	LatencyMS      *float64  `json:"latency_ms"`
	Version        *string   `json:"version"`
	Role           *string   `json:"role"` // master or slave, as INFO says
	Primary        *string   `json:"primary"`
	ClusterMember  *bool     `json:"cluster_member"`
	Uptime         *int64    `json:"uptime"` // seconds
	UsedMemory     *int64    `json:"used_memory"`
	MaxMemory      *int64    `json:"max_memory"` // 0: no limit
	EvictionPolicy *string   `json:"eviction_policy"`
	EvictedKeys    *int64    `json:"evicted_keys"`
	Persistence    *bool     `json:"persistence"`
	Keys           *int64    `json:"keys"`
	Sessions       *int64    `json:"sessions"`    // held, copies included
	FirstOwner     *int64    `json:"first_owner"` // of them, those whose first owner the node is
	Misplaced      *int64    `json:"misplaced"`   // of them, those that belong to other nodes
	Weight         int       `json:"weight"`
	WeightShare    float64   `json:"weight_share"`  // of the sum of weights
	Share          float64   `json:"share"`         // of all ids, by the ring
	SessionShare   *float64  `json:"session_share"` // of first_owner over all nodes
	Debt           int64     `json:"debt"`          // sessions that wait to be copied to it
	Whole          *float64  `json:"whole_seconds"` // until no session lacks a copy on it, about; null where that cannot be told
	Rejoin         *rejoin   `json:"rejoin"`
	Warnings       []finding `json:"warnings"`
}

type rejoin struct {
	Seen    int64 `json:"seen"`
	Total   int64 `json:"total"`
	Scanned int64 `json:"scanned"`
	Copied  int64 `json:"copied"`
	Failed  int64 `json:"failed"`
}

// nodeReport is what was found out about one node.
type nodeReport struct {
	status  sessionring.NodeStatus
	info    sessionring.ServerInfo
	infoErr error
	latency time.Duration
	tally   *tally
	address string
}

// tally counts the sessions on one node.
type tally struct{ held, first, misplaced int64 }

// up reports whether the node can serve sessions.
func (n *nodeReport) up() bool { return n.infoErr == nil && n.status.State != sessionring.StateDown }

// err says why it is down.
func (n *nodeReport) err() error {
	switch {
	case n.up():
		return nil
	case n.status.State == sessionring.StateDown && n.status.LastErr != nil:
		return n.status.LastErr // what the client met with says more than that INFO works
	}
	return n.infoErr
}

// Run asks the nodes.
func (c *statusCmd) Run(ctx context.Context, a *app) error {
	path, err := a.savePath(c.SavePath)
	if err != nil {
		return err
	}
	client, err := a.open(path, sessionring.WithObserver())
	if err != nil {
		return err
	}
	defer client.Close()
	nodes, err := a.survey(ctx, client, !c.Quick)
	if err != nil {
		return err
	}
	findings := judge(client, nodes)
	if a.JSON {
		for _, line := range statusLines(client, nodes, findings) {
			if err := a.emit(line); err != nil {
				return err
			}
		}
	} else if err := a.printStatus(nodes); err != nil {
		return err
	}
	for _, f := range findings {
		a.warn("%s", f)
	}
	return downError(nodes)
}

// downError is the failure of nodes that are down, nil when there is none.
func downError(nodes []*nodeReport) error {
	down := 0
	for _, n := range nodes {
		if !n.up() {
			down++
		}
	}
	if down == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s down", down, count(len(nodes), "node"))
}

// survey asks all nodes at once.
func (a *app) survey(ctx context.Context, client *sessionring.Client, counting bool) ([]*nodeReport, error) {
	sp := client.SavePath()
	if sp.Kind != sessionring.KindNodes {
		return surveyEngine(ctx, client)
	}
	var bar *progress
	if counting {
		bar = a.startProgress(ctx, "sessions counted", 0)
		defer bar.end()
	}
	reports := make([]*nodeReport, len(sp.Nodes))
	var wg sync.WaitGroup
	for i := range reports {
		reports[i] = &nodeReport{address: sp.Nodes[i].Address}
		wg.Go(func() {
			n := reports[i]
			n.info, n.infoErr = client.ServerInfo(ctx, i)
			n.latency = n.info.Latency
			unfit := n.info.Role == "slave" || n.info.ClusterMember // no session is served from there
			if counting && n.infoErr == nil && !unfit {
				n.tally, n.infoErr = countSessions(ctx, client, i, bar)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, s := range settledNodes(ctx, client, reports) {
		reports[i].status = s
	}
	return reports, nil
}

// settledNodes returns the client's view of its nodes once it has met those that answer, or after a while.
func settledNodes(ctx context.Context, client *sessionring.Client, reports []*nodeReport) []sessionring.NodeStatus {
	_ = client.Ping(ctx) // each failure shows in the states
	for deadline := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		nodes := client.Nodes()
		settled := true
		for i, n := range nodes {
			if n.State == sessionring.StateReturning && reports[i].infoErr == nil && n.Rejoin.Since.IsZero() {
				settled = false
			}
		}
		if settled || ctx.Err() != nil || time.Now().After(deadline) {
			return nodes
		}
	}
}

// surveyEngine asks a Redis Cluster or the primary that Sentinel names, which show themselves as one node.
func surveyEngine(ctx context.Context, client *sessionring.Client) ([]*nodeReport, error) {
	n := &nodeReport{status: client.Nodes()[0]}
	n.address = n.status.Node
	n.infoErr = client.Ping(ctx)
	if n.infoErr == nil {
		begun := time.Now()
		n.infoErr = client.Ping(ctx)
		n.latency = time.Since(begun)
	}
	return []*nodeReport{n}, ctx.Err()
}

// countSessions reads through a node's keys.
func countSessions(ctx context.Context, client *sessionring.Client, index int, bar *progress) (*tally, error) {
	ring := client.Ring()
	var t tally
	var owners []int
	for s, err := range client.SessionsOn(ctx, index) {
		if err != nil {
			return nil, err
		}
		bar.add(1)
		t.held++
		owners = ring.AppendOwners(owners[:0], s.ID, ring.Copies())
		switch at := position(client, owners, index); {
		case at == 0:
			t.first++
		case at < 0:
			t.misplaced++
		}
	}
	return &t, nil
}

// position finds a node among owners; entries that name one node are the same.
func position(client *sessionring.Client, owners []int, index int) int {
	nodes := client.SavePath().Nodes
	for i, o := range owners {
		if o == index || nodes[o].ID() == nodes[index].ID() {
			return i
		}
	}
	return -1
}

// shareOf is the part of all sessions found whose first owner a node is; it is known only if all were counted.
func shareOf(nodes []*nodeReport, n *nodeReport) (share float64, known bool) {
	sum := int64(0)
	for _, o := range nodes {
		if o.tally == nil {
			return 0, false
		}
		sum += o.tally.first
	}
	return float64(n.tally.first) / float64(max(sum, 1)), true
}

func statusLines(client *sessionring.Client, nodes []*nodeReport, findings []finding) []statusJSON {
	weights := int64(0)
	for _, n := range nodes {
		weights += int64(n.status.Weight)
	}
	var out []statusJSON
	for i, n := range nodes {
		s := statusJSON{
			Kind: client.SavePath().Kind.String(), Index: i, Node: n.status.Node, Address: n.address,
			Up: n.up(), State: n.state(), Weight: n.status.Weight, Share: n.status.Share,
			WeightShare: float64(n.status.Weight) / float64(max(weights, 1)), Debt: n.status.Debt, Warnings: []finding{},
		}
		if err := n.err(); err != nil {
			text := plain(err)
			s.Error = &text
		}
		if n.infoErr == nil {
			ms := float64(n.latency.Microseconds()) / 1000
			s.LatencyMS = &ms
			if n.info.Version != "" {
				n.fill(&s)
			}
		}
		if t := n.tally; t != nil {
			s.Sessions, s.FirstOwner, s.Misplaced = &t.held, &t.first, &t.misplaced
			if share, known := shareOf(nodes, n); known {
				s.SessionShare = &share
			}
		}
		if p := n.status.Rejoin; !p.Since.IsZero() {
			s.Rejoin = &rejoin{p.Seen, p.Total, p.Scanned, p.Copied, p.Failed}
		}
		if whole := n.status.Whole.Seconds(); whole > 0 || (n.up() && n.status.State == sessionring.StateUp && n.status.Debt == 0) {
			s.Whole = &whole
		}
		for _, f := range findings {
			if f.Index != nil && *f.Index == i {
				s.Warnings = append(s.Warnings, f)
			}
		}
		out = append(out, s)
	}
	return out
}

// fill takes over what the server says of itself.
func (n *nodeReport) fill(s *statusJSON) {
	i, uptime := &n.info, int64(n.info.Uptime/time.Second)
	s.Version, s.Role, s.ClusterMember, s.Uptime = &i.Version, &i.Role, &i.ClusterMember, &uptime
	s.UsedMemory, s.MaxMemory, s.EvictionPolicy, s.EvictedKeys = &i.UsedMemory, &i.MaxMemory, &i.EvictionPolicy, &i.EvictedKeys
	s.Persistence, s.Keys = &i.Persistence, &i.Keys
	if i.Primary != "" {
		s.Primary = &i.Primary
	}
}

func (n *nodeReport) state() string {
	if !n.up() {
		return sessionring.StateDown.String()
	}
	return n.status.State.String()
}

func (a *app) printStatus(nodes []*nodeReport) error {
	t := a.table()
	fmt.Fprintln(t, "node\tweight\tshare\thas\tsessions\tlatency\tmemory\teviction\trole\tversion\tstate")
	for i, n := range nodes {
		row := fmt.Sprintf("#%d %s\t%d\t%s\t", i, n.status.Node, n.status.Weight, percent(n.status.Share))
		if share, known := shareOf(nodes, n); known {
			row += percent(share)
		}
		row += "\t"
		if n.tally != nil {
			row += fmt.Sprint(n.tally.held)
		}
		if n.infoErr == nil && n.info.Version != "" {
			row += fmt.Sprintf("\t%s\t%s\t%s\t%s\t%s", latencyText(n.latency), memoryText(n.info), n.info.EvictionPolicy, n.info.Role, n.info.Version)
		} else if n.infoErr == nil {
			row += "\t" + latencyText(n.latency) + "\t\t\t\t"
		} else {
			row += "\t\t\t\t\t"
		}
		fmt.Fprintf(t, "%s\t%s\n", row, a.stateText(n))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.up() && n.status.State == sessionring.StateReturning {
			a.message("returning: the node takes writes, and is read beside others until an application has made sure that it missed nothing")
			break
		}
	}
	return nil
}

func (a *app) stateText(n *nodeReport) string {
	switch err := n.err(); {
	case err != nil:
		problem, _ := explainNodeError(err)
		return a.paint(a.out, red, "down: "+problem)
	case n.status.State == sessionring.StateUp:
		return a.paint(a.out, green, "up")
	}
	text := n.status.State.String()
	if p := n.status.Rejoin; p.Total > 0 && !p.Done {
		text += fmt.Sprintf(", %s of %s", percent(min(float64(p.Seen)/float64(p.Total), 1)), count(int(p.Total), "id"))
	}
	if n.status.Whole > 0 {
		text += ", whole in about " + n.status.Whole.Round(time.Second).String()
	}
	return a.paint(a.out, yellow, text)
}

func latencyText(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.2fms", d.Seconds()*1000)
	}
	return d.Round(time.Millisecond).String()
}

func memoryText(i sessionring.ServerInfo) string {
	if i.MaxMemory == 0 {
		return size(i.UsedMemory)
	}
	return fmt.Sprintf("%s of %s", size(i.UsedMemory), size(i.MaxMemory))
}

// size is a number of bytes in the unit that suits it.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
