package main

import (
	"context"
	"fmt"

	"github.com/sessionring/sessionring"
)

type planCmd struct {
	Old string `arg:"" name:"OLD" help:"The save_path in use, or @FILE; left out, $SESSIONRING_SAVE_PATH is it."`
	New string `arg:"" optional:"" name:"NEW" help:"The save_path to come, or @FILE."`

	Samples int `placeholder:"N" help:"How many ids to draw where the fractions cannot be counted exactly (distribution phpredis; default 100000)."`
	ringFlags
}

// Help is printed by --help.
func (planCmd) Help() string {
	return `Compares two save_paths and shows which part of all sessions would get another first owner, the least that any placement would have to move, and how much of it moves between nodes that did not change at all (with distribution consistent: nothing). No node is asked. Between two rings of distribution consistent the fractions are exact.

Examples:

    sessionring plan 'tcp://host1:6379, tcp://host2:6379' 'tcp://host1:6379, tcp://host2:6379, tcp://host3:6379'
    sessionring plan --json --distribution phpredis --samples 1000000 @old @new`
}

// planJSON is the line of plan --json: part of the tool's contract. All numbers but the indexes are fractions of
// all sessions.
type planJSON struct {
	Moved            float64        `json:"moved"`
	Minimum          float64        `json:"minimum"`
	BetweenUnchanged float64        `json:"between_unchanged"`
	PerNode          []planNodeJSON `json:"per_node"`
	Samples          int            `json:"samples"` // 0: counted exactly
}

type planNodeJSON struct {
	Node     string  `json:"node"`
	OldIndex *int    `json:"old_index"` // null: added
	NewIndex *int    `json:"new_index"` // null: removed
	OldShare float64 `json:"old_share"`
	NewShare float64 `json:"new_share"`
	In       float64 `json:"in"`
	Out      float64 `json:"out"`
}

// Run compares the two save_paths.
func (c *planCmd) Run(_ context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Samples < 0 || c.Samples > maxSamples {
		return usagef("--samples must be from 1 to %d", maxSamples)
	}
	fromEnv, _ := a.env(savePathVariable)
	switch {
	case c.New == "" && fromEnv != "":
		c.Old, c.New = fromEnv, c.Old
	case c.New == "":
		return usagef("plan needs two save_paths, OLD and NEW (or OLD in $%s)", savePathVariable)
	}
	from, err := c.side(a, "OLD", c.Old)
	if err != nil {
		return err
	}
	to, err := c.side(a, "NEW", c.New)
	if err != nil {
		return err
	}
	plan := sessionring.PlanChange(from, to, c.Samples)
	if a.JSON {
		return a.emit(planLine(plan))
	}
	return a.printPlan(plan)
}

// maxSamples keeps plan to some minutes.
const maxSamples = 1_000_000_000

func (c *planCmd) side(a *app, name, arg string) (*sessionring.Ring, error) {
	path, err := a.savePath(arg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	sp, err := a.parse(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ring, err := a.ring(sp, c.ringFlags)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ring, nil
}

func planLine(plan sessionring.Plan) planJSON {
	out := planJSON{Moved: plan.Moved, Minimum: plan.Minimum, BetweenUnchanged: plan.BetweenUnchanged, Samples: plan.Samples}
	index := func(i int) *int {
		if i < 0 {
			return nil
		}
		return &i
	}
	for _, n := range plan.PerNode {
		out.PerNode = append(out.PerNode, planNodeJSON{
			Node: n.Node, OldIndex: index(n.OldIndex), NewIndex: index(n.NewIndex),
			OldShare: n.OldShare, NewShare: n.NewShare, In: n.In, Out: n.Out,
		})
	}
	return out
}

func (a *app) printPlan(plan sessionring.Plan) error {
	a.printf("moves %s of all sessions (no placement could do with less than %s)\n", percent(plan.Moved), percent(plan.Minimum))
	a.printf("of it between nodes that did not change: %s\n", percent(plan.BetweenUnchanged))
	if plan.Samples > 0 {
		a.printf("estimated from %d ids\n", plan.Samples)
	}
	a.printf("\n")
	t := a.table()
	fmt.Fprintln(t, "node\tshare before\tafter\tgets\tgives\tchange")
	for _, n := range plan.PerNode {
		change := ""
		switch {
		case n.OldIndex < 0:
			change = a.paint(a.out, green, "added")
		case n.NewIndex < 0:
			change = a.paint(a.out, red, "removed")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Node, percent(n.OldShare), percent(n.NewShare), percent(n.In), percent(n.Out), change)
	}
	return t.Flush()
}
