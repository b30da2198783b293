package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/sessionring/sessionring"
)

type lsCmd struct {
	pathArg
	IDs   bool `name:"ids" help:"Show whole ids. Whoever knows an id is logged in as its user: mind where the list goes."`
	Node  int  `placeholder:"N" default:"-1" help:"List what this node holds alone, by its position in the save_path from 0, copies of other nodes' sessions included."`
	Limit int  `placeholder:"N" help:"Stop after so many."`
}

// Help is printed by --help.
func (lsCmd) Help() string {
	return `Lists the sessions on all nodes, each once, as they are found: by SCAN, a bounded batch at a time, so that no server stops for it. Locks and side keys are left out. Ids are masked unless asked for. A node that cannot be asked is reported, the others are listed, and the exit code is 1.

Examples:

    sessionring ls 'tcp://host1:6379, tcp://host2:6379'
    sessionring ls --json --node 1 @save_path | jq -s 'map(.bytes) | add'`
}

// lsJSON is a line of ls --json.
type lsJSON struct {
	ID      string `json:"id"` // masked unless --ids
	Index   int    `json:"index"`
	Address string `json:"address"`
	TTL     int64  `json:"ttl"` // seconds; -1: it never expires
	Bytes   int64  `json:"bytes"`
}

// Run lists the sessions.
func (c *lsCmd) Run(ctx context.Context, a *app) error {
	path, err := a.savePath(c.SavePath)
	if err != nil {
		return err
	}
	client, err := a.open(path, sessionring.WithObserver())
	if err != nil {
		return err
	}
	defer client.Close()
	list, err := c.source(ctx, client)
	if err != nil {
		return err
	}
	out := a.lines()
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	var bar *progress
	if !isTerminal(a.out) { // there the list itself shows how far it is
		bar = a.startProgress(ctx, "sessions", 0)
	}
	defer bar.end()
	listed := 0
	for s, err := range list {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if ferr := out.Flush(); ferr != nil {
				return ferr
			}
			a.fail(ctx, err)
			continue
		}
		if err := c.print(a, client, out, lines, s, listed == 0); err != nil {
			return err
		}
		bar.add(1)
		if listed++; listed == c.Limit {
			break
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	bar.end()
	if !a.JSON {
		a.message("%s", count(listed, "session"))
	}
	return nil
}

func (c *lsCmd) source(ctx context.Context, client *sessionring.Client) (iter.Seq2[sessionring.SessionInfo, error], error) {
	sp := client.SavePath()
	switch {
	case sp.Kind != sessionring.KindNodes:
		return nil, errors.New("sessions of a Redis Cluster or behind Sentinel cannot be listed by this tool; use redis-cli --scan on each primary")
	case c.Node >= len(sp.Nodes) || c.Node < -1:
		return nil, usagef("--node must be from 0 to %d", len(sp.Nodes)-1)
	case c.Limit < 0:
		return nil, usagef("--limit must be 1 or more")
	case c.Node >= 0:
		return client.SessionsOn(ctx, c.Node), nil
	}
	return client.Sessions(ctx), nil
}

// print writes one session. Columns have a fixed width: the list may be too long to wait for its end.
func (c *lsCmd) print(a *app, client *sessionring.Client, out io.Writer, lines *json.Encoder, s sessionring.SessionInfo, first bool) error {
	id, width := shorten(s.ID), 8
	if c.IDs {
		id, width = s.ID, 33
	}
	if a.JSON {
		n := client.SavePath().Nodes[s.Index]
		return lines.Encode(lsJSON{ID: id, Index: s.Index, Address: n.Address, TTL: ttlSeconds(s.TTL), Bytes: s.Bytes})
	}
	if first {
		if _, err := fmt.Fprintf(out, "%-*s %9s  %13s  %s\n", width, "id", "bytes", "expires in", "node"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%-*s %9d  %13s  #%d %s\n", width, id, s.Bytes, ttlText(s.TTL), s.Index, s.Node)
	return err
}
