package main

import (
	"context"
	"fmt"

	"github.com/sessionring/sessionring"
)

type migrateCmd struct {
	Old string `arg:"" name:"OLD" help:"The save_path in use, or @FILE; left out, $SESSIONRING_SAVE_PATH is it."`
	New string `arg:"" optional:"" name:"NEW" help:"The save_path to come, or @FILE."`

	DryRun bool `name:"dry-run" help:"Count what would be moved and write nothing."`
	Rate   int  `placeholder:"N" help:"Most sessions to move in a second (default 20000)."`
	Copies int  `placeholder:"N" help:"Copies of each session, in both lists; otherwise each save_path says, or 2."`
}

// Help is printed by --help.
func (migrateCmd) Help() string {
	return `Brings every session to its owners by the new save_path, with its time to live, and then checks that none lives only on a node that leaves: "safe to switch off", or how many still live there (exit 1). Nobody is logged out: nothing is removed from the old nodes. Stop it at any time and run it again: what is in place is passed over. Sessions that expire or are destroyed meanwhile stay so.

Applications that go on writing by the old list meanwhile are the normal case: let them change over (Client.Reconfigure, or sessionring.WithPrevious), then run migrate once more.

Examples:

    sessionring migrate --dry-run 'tcp://host1:6379, tcp://host2:6379' 'tcp://host2:6379, tcp://host3:6379'
    sessionring migrate --rate 5000 @old @new`
}

// migrateJSON is the line of migrate --json: part of the tool's contract.
type migrateJSON struct {
	Scanned int64         `json:"scanned"`
	Moved   int64         `json:"moved"`
	Skipped int64         `json:"skipped"`
	Failed  int64         `json:"failed"`
	Seconds float64       `json:"seconds"`
	DryRun  bool          `json:"dry_run"`
	Leaving []leavingJSON `json:"leaving"` // nodes that the new list does not name
}

type leavingJSON struct {
	Node      string  `json:"node"`
	Remaining int64   `json:"remaining"` // sessions that live there alone
	Safe      bool    `json:"safe"`      // may be switched off
	Error     *string `json:"error"`     // it could not be asked
}

// Run moves the sessions.
func (c *migrateCmd) Run(ctx context.Context, a *app) error {
	if c.Rate < 0 || c.Copies < 0 {
		return usagef("--rate and --copies must be above 0")
	}
	fromEnv, _ := a.env(savePathVariable)
	switch {
	case c.New == "" && fromEnv != "":
		c.Old, c.New = fromEnv, c.Old
	case c.New == "":
		return usagef("migrate needs two save_paths, OLD and NEW (or OLD in $%s)", savePathVariable)
	}
	old, err := a.savePath(c.Old)
	if err != nil {
		return fmt.Errorf("OLD: %w", err)
	}
	to, err := a.savePath(c.New)
	if err != nil {
		return fmt.Errorf("NEW: %w", err)
	}
	opts := []sessionring.Option{sessionring.WithPrevious(old), sessionring.WithObserver(), sessionring.WithRejoinRate(c.Rate)}
	if c.Copies > 0 {
		opts = append(opts, sessionring.WithCopies(c.Copies))
	}
	client, err := a.open(to, opts...)
	if err != nil {
		return err
	}
	defer client.Close()

	bar := a.startProgress(ctx, "sessions", 0)
	shown := int64(0)
	res, err := client.Migrate(ctx, sessionring.MigrateOptions{DryRun: c.DryRun, Progress: func(r sessionring.MigrateResult) {
		bar.add(r.Scanned - shown)
		shown = r.Scanned
	}})
	bar.end()
	if err != nil {
		a.fail(ctx, err)
	}
	out := migrateJSON{Scanned: res.Scanned, Moved: res.Moved, Skipped: res.Skipped, Failed: res.Failed, Seconds: res.Elapsed.Seconds(), DryRun: c.DryRun, Leaving: []leavingJSON{}}
	for _, l := range res.Leaving {
		line := leavingJSON{Node: l.Node, Remaining: l.Remaining, Safe: l.Safe()}
		if l.Err != nil {
			text := l.Err.Error()
			line.Error = &text
		}
		if !line.Safe && !c.DryRun {
			a.code = max(a.code, exitFailed)
		}
		out.Leaving = append(out.Leaving, line)
	}
	if res.Failed > 0 {
		a.code = max(a.code, exitFailed)
	}
	if a.JSON {
		return a.emit(out)
	}
	c.print(a, out)
	return nil
}

func (c *migrateCmd) print(a *app, m migrateJSON) {
	verb := "moved"
	if m.DryRun {
		verb = "to move"
	}
	a.printf("%d sessions: %d %s, %d in place, %d failed, in %.1f s\n", m.Scanned, m.Moved, verb, m.Skipped, m.Failed, m.Seconds)
	for _, l := range m.Leaving {
		switch {
		case l.Error != nil:
			a.printf("%s  %s: %s\n", l.Node, a.paint(a.out, red, "not known"), *l.Error)
		case l.Safe:
			a.printf("%s  %s\n", l.Node, a.paint(a.out, green, "safe to switch off"))
		default:
			a.printf("%s  %s: %d sessions live there alone\n", l.Node, a.paint(a.out, red, "keep it"), l.Remaining)
		}
	}
}
