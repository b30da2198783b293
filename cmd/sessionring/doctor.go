package main

import (
	"context"
	"fmt"

	"github.com/sessionring/sessionring"
)

type doctorCmd struct {
	pathArg
}

// Help is printed by --help.
func (doctorCmd) Help() string {
	return `Looks for what endangers sessions, in the save_path and on every node, and says what to do about each: nodes that are down, replicas, cluster members, eviction, memory that runs out, copies that share a host. Exit 1 if sessions cannot be served or will be lost, 0 if there are only warnings or nothing.

Examples:

    sessionring doctor 'tcp://host1:6379, tcp://host2:6379'
    sessionring doctor --json @save_path | jq -r 'select(.level == "error") | .remedy'`
}

// Run prints the findings, one JSON object each.
func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	path, err := a.savePath(c.SavePath)
	if err != nil {
		return err
	}
	client, err := a.open(path, sessionring.WithObserver())
	if err != nil {
		return err
	}
	defer client.Close()
	nodes, err := a.survey(ctx, client, true)
	if err != nil {
		return err
	}
	findings := append(judgePath(client), judge(client, nodes)...)
	serious := 0
	for _, f := range findings {
		if f.Level == levelError {
			serious++
		}
		if a.JSON {
			if err := a.emit(f); err != nil {
				return err
			}
			continue
		}
		a.printFinding(f)
	}
	switch {
	case serious > 0:
		return fmt.Errorf("%s found, %d of them serious", count(len(findings), "problem"), serious)
	case !a.JSON && len(findings) == 0:
		a.printf("%s asked, nothing to mend\n", count(len(nodes), "node"))
	}
	return nil
}

func (a *app) printFinding(f finding) {
	where, c := "save_path", yellow
	if f.Index != nil {
		where = fmt.Sprintf("#%d %s", *f.Index, f.Node)
	}
	if f.Level == levelError {
		c = red
	}
	a.printf("%s %s\n    %s\n    → %s\n", a.paint(a.out, c, f.Level+":"), where, f.Problem, f.Remedy)
}

// judgePath looks at the save_path alone.
func judgePath(client *sessionring.Client) []finding {
	var all []finding
	add := func(problem, remedy string) {
		all = append(all, finding{Level: levelWarning, Problem: problem, Remedy: remedy})
	}
	sp, ring := client.SavePath(), client.Ring()
	for _, w := range sp.Warnings {
		add(w.String(), "write it unmistakably")
	}
	if sp.Kind != sessionring.KindNodes || ring == nil {
		return all
	}
	hosts := map[string]bool{}
	for _, n := range sp.Nodes {
		hosts[n.Host()] = true
	}
	switch {
	case len(sp.Nodes) == 1:
		add("there is one node: when it is away, so are all sessions", "add a second one")
	case ring.Copies() == 1 && ring.Distribution() == sessionring.PHPRedis:
		add("distribution phpredis keeps one copy of each session: those of a node that dies are lost", "once PHP no longer writes sessions, change over to distribution=consistent")
	case ring.Copies() == 1:
		add("there is one copy of each session: those of a node that dies are lost", "leave copies=1 out: 2 is the default")
	case len(hosts) == 1:
		add("all nodes are on one host: its end takes all copies", "spread them over two hosts or more")
	}
	return all
}
