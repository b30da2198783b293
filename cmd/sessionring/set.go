package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sessionring/sessionring"
)

type setCmd struct {
	pathArg
	IDs       []string `arg:"" optional:"" name:"ID" sep:"none" help:"The session's id. Put -- before one that begins with a dash."`
	TTL       lifetime `name:"ttl" placeholder:"DURATION" help:"Lifetime from now, as 90m or in seconds; without it the save_path's lifetime=, or 1440 s."`
	IfVersion *string  `placeholder:"VERSION" help:"Write only if the session still has this version (from get --json); empty: only if there is none."`
}

// Help is printed by --help.
func (setCmd) Help() string {
	return `Writes a session: its bytes come from standard input and are stored as they are, on all its owners. The last writer wins, unless --if-version is given. A session that was removed cannot be written again under the same id while its tombstone lives. Exit 1 if no node took it.

Examples:

    printf 'visits|i:7;' | sessionring set 'tcp://host1:6379, tcp://host2:6379' r4t8w2y6u1i9o3p7a5
    sessionring encode --handler igbinary <session.json | sessionring set --ttl 2h @save_path r4t8w2y6u1i9o3p7a5`
}

// setJSON is the line of set --json.
type setJSON struct {
	ID      string `json:"id"`
	Index   int    `json:"index"`
	Address string `json:"address"`
	TTL     int64  `json:"ttl"`
	Bytes   int    `json:"bytes"`
	Version string `json:"version"`
	Copies  []int  `json:"copies"` // indexes of the nodes that hold this version now
}

// lifetime is a duration in Go's notation, or in whole seconds as PHP has it.
type lifetime time.Duration

// UnmarshalText reads a lifetime.
func (l *lifetime) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if n, nerr := strconv.ParseInt(string(text), 10, 64); nerr == nil {
		d, err = time.Duration(min(n, int64(sessionring.MaxLifetime/time.Second)+1))*time.Second, nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("%q is no duration: write 90m, 2h30m or a number of seconds", text)
	case d < time.Millisecond:
		return fmt.Errorf("a lifetime must be above 0")
	case d > sessionring.MaxLifetime:
		return fmt.Errorf("a lifetime is at most %d seconds, as in phpredis", sessionring.MaxLifetime/time.Second)
	}
	*l = lifetime(d)
	return nil
}

// Run writes the session.
func (c *setCmd) Run(ctx context.Context, a *app) error {
	client, ids, err := a.openForIDs(c.pathArg, c.IDs)
	if err != nil {
		return err
	}
	defer client.Close()
	if len(ids) != 1 {
		return usagef("set takes one id, but there are %d", len(ids))
	}
	id := ids[0]
	if err := sessionring.CheckID(id); err != nil {
		return err
	}
	data, err := readAll(a.in, sessionring.MaxDataLength)
	if err != nil {
		return err
	}
	if bytes.HasSuffix(data, []byte("\n")) {
		a.warn("the data end with a line feed, which is stored with them (printf %%s leaves it out)")
	}
	opt := sessionring.SetOptions{Lifetime: time.Duration(c.TTL)}
	if c.IfVersion != nil {
		v := sessionring.Version(*c.IfVersion)
		opt.IfVersion = &v
	}
	version, err := client.Store(ctx, id, data, opt)
	if err != nil {
		return err
	}
	return c.tell(ctx, a, client, id, sessionring.Item{Data: data, Version: version})
}

// tell says where the session is now, from the nodes themselves. It was written, whatever they answer.
func (c *setCmd) tell(ctx context.Context, a *app, client *sessionring.Client, id string, item sessionring.Item) error {
	at, copies, err := found(ctx, client, id, item)
	if err != nil {
		a.warn("it was written, but then: %s", plain(err))
		at = sessionring.CopyInfo{TTL: cmp.Or(time.Duration(c.TTL), client.Lifetime())}
		if ring := client.Ring(); ring != nil {
			at.Index = ring.Owner(id)
		}
		at.Node = client.Nodes()[at.Index].Node
	}
	out := setJSON{
		ID: id, Index: at.Index, Address: addressOf(client, at), TTL: ttlSeconds(at.TTL), Bytes: len(item.Data),
		Version: string(item.Version), Copies: []int{},
	}
	for _, k := range copies {
		if k.Err == nil && k.Present && k.Version == at.Version {
			out.Copies = append(out.Copies, k.Index)
		}
	}
	if a.JSON {
		return a.emit(out)
	}
	a.printf("stored %s on #%d %s, %s, expires in %s\n", count(out.Bytes, "byte"), at.Index, at.Node, count(len(out.Copies), "copy"), ttlText(at.TTL))
	return nil
}

// readAll reads standard input up to a limit.
func readAll(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("standard input: %w: more than %d bytes", sessionring.ErrTooLarge, most)
	}
	return data, nil
}
