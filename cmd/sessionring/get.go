package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sessionring/sessionring"
)

type getCmd struct {
	pathArg
	IDs []string `arg:"" optional:"" name:"ID" sep:"none" help:"Session ids; - reads them from standard input, a line each. Put -- before ids that begin with a dash."`
	Raw bool     `help:"Write the session's bytes and nothing else."`
}

// Help is printed by --help.
func (getCmd) Help() string {
	return `Reads sessions as an application server would: newest copy first, other nodes when one is away. PHP payloads are decoded by the handler that the bytes look like (php, php_binary, php_serialize or igbinary, also compressed by phpredis). With --json, "value" is the text, or {"base64":…} where the bytes are not UTF-8, and "session" the decoded payload in the form of the decode command. Nothing is changed, the lifetime neither. Exit 1 if there is no such session.

Examples:

    sessionring get 'tcp://host1:6379, tcp://host2:6379' r4t8w2y6u1i9o3p7a5
    sessionring get --raw @save_path r4t8w2y6u1i9o3p7a5 | sessionring decode`
}

// getJSON is a line of get --json: part of the tool's contract.
type getJSON struct {
	ID          string          `json:"id"`
	Index       int             `json:"index"` // of the node whose copy this is
	Address     string          `json:"address"`
	TTL         int64           `json:"ttl"` // seconds; -1: it never expires
	Bytes       int             `json:"bytes"`
	Value       any             `json:"value"` // a string, or {"base64":…}
	Version     string          `json:"version"`
	Handler     string          `json:"handler,omitempty"`     // that the payload looks like
	Compression string          `json:"compression,omitempty"` // that phpredis put around it
	Session     json.RawMessage `json:"session,omitempty"`     // the payload decoded
	Warnings    []string        `json:"warnings,omitempty"`    // of decoding
}

type base64JSON struct {
	Base64 string `json:"base64"`
}

// Run prints each session.
func (c *getCmd) Run(ctx context.Context, a *app) error {
	client, ids, err := a.openForIDs(c.pathArg, c.IDs, sessionring.WithObserver())
	if err != nil {
		return err
	}
	defer client.Close()
	if c.Raw && (len(ids) != 1 || ids[0] == "-") {
		return usagef("--raw takes exactly one id")
	}
	return a.eachID(ctx, ids, nil, func(id string) error { return c.one(ctx, a, client, id) })
}

func (c *getCmd) one(ctx context.Context, a *app, client *sessionring.Client, id string) error {
	item, err := client.Load(ctx, id, sessionring.GetOptions{})
	if err != nil {
		return surely(ctx, client, id, err)
	}
	if c.Raw {
		_, err := a.out.Write(item.Data)
		return err
	}
	at, _, err := found(ctx, client, id, item)
	if err != nil {
		return fmt.Errorf("it was read, but then: %w", err)
	}
	p := readPayload(item.Data)
	out := getJSON{
		ID: id, Index: at.Index, Address: addressOf(client, at), TTL: ttlSeconds(at.TTL), Bytes: len(item.Data),
		Value: jsonValue(item.Data), Version: string(item.Version), Handler: string(p.handler), Compression: p.compression(),
		Warnings: p.warnings,
	}
	if a.JSON {
		if p.session != nil {
			if out.Session, err = p.session.EncodeJSON(); err != nil {
				return err
			}
		}
		return a.emit(out)
	}
	return a.printSession(at, out, p, item.Data)
}

// found says on which node a session that was read lives: the first in its order of preference that holds the
// version read. It also returns what every node holds.
func found(ctx context.Context, client *sessionring.Client, id string, item sessionring.Item) (sessionring.CopyInfo, []sessionring.CopyInfo, error) {
	copies, err := client.Explain(ctx, id)
	if err != nil {
		return sessionring.CopyInfo{}, nil, err
	}
	same := func(c sessionring.CopyInfo) bool { return c.Version == item.Version }
	sized := func(c sessionring.CopyInfo) bool { return c.Bytes == len(item.Data) }
	whatever := func(sessionring.CopyInfo) bool { return true }
	for _, match := range []func(sessionring.CopyInfo) bool{same, sized, whatever} {
		for _, c := range copies {
			if c.Err == nil && c.Present && match(c) {
				return c, copies, nil
			}
		}
	}
	for _, c := range copies {
		if c.Err != nil {
			return sessionring.CopyInfo{}, nil, c.Err
		}
	}
	return sessionring.CopyInfo{}, nil, fmt.Errorf("%w: it went away meanwhile", sessionring.ErrNotFound)
}

// addressOf is the address of the node as inspect shows it; of an engine's, all its seeds.
func addressOf(client *sessionring.Client, c sessionring.CopyInfo) string {
	sp := client.SavePath()
	if sp.Kind == sessionring.KindNodes && c.Index >= 0 && c.Index < len(sp.Nodes) {
		return sp.Nodes[c.Index].Address
	}
	return c.Node
}

// ttlSeconds rounds as Redis's TTL does; Redis writes -1 for a key without expiry.
func ttlSeconds(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return int64((d + 500*time.Millisecond) / time.Second)
}

func ttlText(d time.Duration) string {
	if d <= 0 {
		return "never expires"
	}
	return d.Round(time.Second).String()
}

func jsonValue(data []byte) any {
	if utf8.Valid(data) {
		return string(data)
	}
	return base64JSON{base64.StdEncoding.EncodeToString(data)}
}

func (a *app) printSession(at sessionring.CopyInfo, s getJSON, p payload, data []byte) error {
	t := a.table()
	fmt.Fprintf(t, "id\t%s\n", s.ID)
	fmt.Fprintf(t, "node\t#%d %s\n", at.Index, at.Node)
	fmt.Fprintf(t, "expires in\t%s\n", ttlText(at.TTL))
	fmt.Fprintf(t, "size\t%s\n", count(s.Bytes, "byte"))
	if p.handler != "" {
		how := string(p.handler)
		if s.Compression != "" {
			how += ", compressed by " + s.Compression
		}
		fmt.Fprintf(t, "handler\t%s (by the look of the bytes)\n", how)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, w := range s.Warnings {
		a.warn("%s", w)
	}
	a.printf("\n")
	switch {
	case p.session != nil:
		return printPHP(a.out, p.session)
	case len(data) == 0:
		a.printf("(empty)\n")
	case printable(data):
		a.printf("%s\n", strings.TrimSuffix(string(data), "\n"))
	default:
		d := hex.Dumper(a.out)
		if _, err := d.Write(data); err != nil {
			return err
		}
		return d.Close()
	}
	return nil
}

// printable reports whether data can be shown on a terminal as they are: text without control characters, which
// a terminal would obey.
func printable(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	for _, r := range string(data) {
		if r != '\n' && r != '\t' && (r < ' ' || (r >= 0x7f && r < 0xa0)) {
			return false
		}
	}
	return true
}

// openForIDs opens a Client for a command that takes ids.
func (a *app) openForIDs(path pathArg, ids []string, opts ...sessionring.Option) (*sessionring.Client, []string, error) {
	savePath, ids, err := a.savePathAndIDs(path.SavePath, ids)
	if err != nil {
		return nil, nil, err
	}
	if len(ids) == 0 {
		return nil, nil, errNoID
	}
	client, err := a.open(savePath, opts...)
	return client, ids, err
}

var errNoID = usagef("no id: give ids as arguments, or - to read them from standard input")

// surely makes a miss certain if every node, asked once more, has nothing: the Client calls a node away that it has
// not yet found to be complete.
func surely(ctx context.Context, client *sessionring.Client, id string, err error) error {
	if !errors.Is(err, sessionring.ErrOwnerAway) {
		return err
	}
	if there, known := exists(ctx, client, id); known && !there {
		return sessionring.ErrNotFound
	}
	return err
}

// exists asks every node whether it holds a session; known is false if none does and one could not be asked.
func exists(ctx context.Context, client *sessionring.Client, id string) (there, known bool) {
	copies, err := client.Explain(ctx, id)
	if err != nil {
		return false, false
	}
	known = true
	for _, c := range copies {
		if c.Dead {
			return false, true
		}
		there = there || c.Present
		known = known && c.Err == nil
	}
	return there, known || there
}
