package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sessionring/sessionring"
)

type explainCmd struct {
	pathArg
	IDs []string `arg:"" optional:"" name:"ID" sep:"none" help:"Session ids; - reads them from standard input, a line each. Put -- before ids that begin with a dash."`
}

// Help is printed by --help.
func (explainCmd) Help() string {
	return `Asks every node what it holds of a session, owners first: which copies there are, which is the newest, when it was written, how long each lives, and whether it was destroyed. It answers "where did my session go". Ids are masked. Nothing is changed.

Examples:

    sessionring explain 'tcp://host1:6379, tcp://host2:6379' r4t8w2y6u1i9o3p7a5
    sessionring explain --json @save_path r4t8w2y6u1i9o3p7a5 | jq -c 'select(.owner)'`
}

// copyJSON is a line of explain --json: what one node holds.
type copyJSON struct {
	ID      string   `json:"id"` // masked
	Index   int      `json:"index"`
	Address string   `json:"address"`
	Owner   bool     `json:"owner"`
	State   string   `json:"state"`  // present, absent, destroyed, unknown
	Newest  bool     `json:"newest"` // no other node holds a newer one
	Version string   `json:"version"`
	Age     *float64 `json:"age"` // seconds since the write, by the writer's clock; null: not known
	TTL     *int64   `json:"ttl"` // seconds, -1: never expires; null: nothing there
	Bytes   int      `json:"bytes"`
	Error   string   `json:"error,omitempty"`
}

// Run explains each session.
func (c *explainCmd) Run(ctx context.Context, a *app) error {
	client, ids, err := a.openForIDs(c.pathArg, c.IDs, sessionring.WithObserver())
	if err != nil {
		return err
	}
	defer client.Close()
	return a.eachID(ctx, ids, nil, func(id string) error {
		begun := time.Now()
		copies, err := client.Explain(ctx, id)
		if err != nil {
			return err
		}
		return a.printCopies(client, id, copies, begun)
	})
}

func (a *app) printCopies(client *sessionring.Client, id string, copies []sessionring.CopyInfo, begun time.Time) error {
	var newest sessionring.Version
	away := &sessionring.NoNodeError{Op: "explain"}
	for _, k := range copies {
		if k.Err != nil {
			away.Nodes = append(away.Nodes, &sessionring.NodeError{Node: k.Node, Op: away.Op, Err: k.Err})
		} else if k.Present || k.Dead {
			newest = max(newest, k.Version)
		}
	}
	var t *tabwriter.Writer
	if !a.JSON {
		a.printf("session %s\n\n", shorten(id))
		t = a.table()
		fmt.Fprintln(t, "node\t\twritten\texpires in\tbytes\tcopy")
	}
	for _, k := range copies {
		line := describeCopy(client, id, k, newest)
		if a.JSON {
			if err := a.emit(line); err != nil {
				return err
			}
			continue
		}
		a.copyRow(t, k, line)
	}
	if t != nil {
		if err := t.Flush(); err != nil {
			return err
		}
		a.printf("\n")
	}
	if len(away.Nodes) == len(copies) {
		away.Elapsed = time.Since(begun)
		return away
	}
	return nil
}

func describeCopy(client *sessionring.Client, id string, k sessionring.CopyInfo, newest sessionring.Version) copyJSON {
	out := copyJSON{
		ID: shorten(id), Index: k.Index, Address: addressOf(client, k), Owner: k.Owner, State: "absent",
		Version: string(k.Version), Bytes: k.Bytes,
	}
	switch {
	case k.Err != nil:
		out.State = "unknown"
		out.Error, _ = explainNodeError(k.Err)
	case k.Dead:
		out.State = "destroyed"
	case k.Present:
		out.State = "present"
	}
	if k.Err == nil && (k.Dead || k.Present) {
		out.Newest = k.Version == newest
		ttl := ttlSeconds(k.TTL)
		out.TTL = &ttl
		if at, ok := writtenAt(k.Version); ok {
			age := max(0, time.Since(at).Round(time.Millisecond).Seconds())
			out.Age = &age
		}
	}
	return out
}

// writtenAt reads the time out of a version: it starts with a counter that is the writer's time in milliseconds
// unless the writer had seen a later version. What is far from now tells nothing.
func writtenAt(v sessionring.Version) (time.Time, bool) {
	counter, _, ok := strings.Cut(string(v), ".")
	ms, err := strconv.ParseInt(counter, 10, 64)
	if !ok || err != nil || ms == 0 {
		return time.Time{}, false
	}
	at := time.UnixMilli(ms)
	if since := time.Since(at); since < -time.Minute || since > sessionring.MaxLifetime {
		return time.Time{}, false
	}
	return at, true
}

func (a *app) copyRow(t io.Writer, k sessionring.CopyInfo, line copyJSON) {
	owner, state, written, ttl, size := "", line.State, "", "", ""
	if k.Owner {
		owner = "owner"
	}
	switch {
	case line.State == "present" && line.Newest:
		state = a.paint(a.out, green, state)
	case line.State == "present":
		state = a.paint(a.out, yellow, "older")
	}
	if line.Age != nil {
		written = time.Duration(*line.Age*float64(time.Second)).Round(time.Second).String() + " ago"
	}
	if line.TTL != nil {
		ttl = ttlText(k.TTL)
	}
	if k.Present {
		size = strconv.Itoa(k.Bytes)
	}
	if k.Err != nil {
		problem, _ := explainNodeError(k.Err)
		state = a.paint(a.out, red, problem)
	}
	fmt.Fprintf(t, "#%d %s\t%s\t%s\t%s\t%s\t%s\n", k.Index, k.Node, owner, written, ttl, size, state)
}
