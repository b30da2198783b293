package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sessionring/sessionring"
)

type inspectCmd struct {
	pathArg
}

// Help is printed by --help.
func (inspectCmd) Help() string {
	return `Reads a save_path exactly as phpredis does and shows every node with its defaults filled in. Readings that may surprise come as warnings on standard error; what phpredis refuses is refused, every bad entry at once, with the place and the remedy (exit 2). No node is asked. Passwords are never shown.

Examples:

    sessionring inspect 'tcp://host1:6379?weight=1&database=2, tcp://host2:6379?weight=2'
    sessionring inspect --json --lenient @/etc/php/save_path`
}

// nodeJSON is a line of inspect --json: part of the tool's contract.
type nodeJSON struct {
	Kind          string  `json:"kind"`
	Index         int     `json:"index"`
	Network       string  `json:"network"`
	Address       string  `json:"address"`
	Weight        int     `json:"weight"`
	Database      *int    `json:"database"`
	Timeout       float64 `json:"timeout"`
	ReadTimeout   float64 `json:"read_timeout"`
	Prefix        string  `json:"prefix"`
	Username      *string `json:"username"`
	HasPassword   bool    `json:"has_password"`
	TLS           bool    `json:"tls"`
	Persistent    bool    `json:"persistent"`
	PersistentID  *string `json:"persistent_id"`
	RetryInterval float64 `json:"retry_interval"`
	MasterName    string  `json:"master_name,omitempty"`
}

func describeNode(sp *sessionring.SavePath, n sessionring.Node) nodeJSON {
	out := nodeJSON{
		Kind: sp.Kind.String(), Index: n.Index, Network: n.Network, Address: n.Address, Weight: n.Weight,
		Timeout: n.Timeout.Seconds(), ReadTimeout: n.ReadTimeout.Seconds(), Prefix: n.Prefix,
		HasPassword: !n.Auth.Password.IsZero(), TLS: n.TLS, Persistent: n.Persistent,
		RetryInterval: n.RetryInterval.Seconds(), MasterName: sp.MasterName,
	}
	if n.Database >= 0 {
		out.Database = &n.Database
	}
	if n.Auth.HasUser {
		out.Username = &n.Auth.Username
	}
	if n.PersistentID != "" {
		out.PersistentID = &n.PersistentID
	}
	return out
}

// Run prints the nodes.
func (c *inspectCmd) Run(_ context.Context, a *app) error {
	path, err := a.savePath(c.SavePath)
	if err != nil {
		return err
	}
	sp, err := a.parse(path)
	if err != nil {
		return err
	}
	if a.JSON {
		for _, n := range sp.Nodes {
			if err := a.emit(describeNode(sp, n)); err != nil {
				return err
			}
		}
		return nil
	}
	return a.printNodes(sp)
}

func (a *app) printNodes(sp *sessionring.SavePath) error {
	var shares []float64
	if sp.Kind == sessionring.KindNodes {
		ring, err := sessionring.NewRing(sp)
		if err != nil {
			return err
		}
		shares = ring.Shares()
		a.printf("%s, distribution %s, %s\n\n", count(len(sp.Nodes), "node"), ring.Distribution(), copiesText(ring.Copies()))
	} else {
		what := "seeds of a Redis Cluster, which distributes and fails over by itself"
		if sp.Kind == sessionring.KindSentinel {
			what = fmt.Sprintf("Sentinels, which name the primary of %q", sp.MasterName)
		}
		a.printf("%s\n\n", what)
	}
	t := a.table()
	head := "#\taddress\tweight\tshare\tdatabase\tprefix\ttimeout\tread timeout\tother"
	if shares == nil {
		head = strings.Replace(head, "weight\tshare\t", "", 1)
	}
	fmt.Fprintln(t, head)
	for i, n := range sp.Nodes {
		address := n.Address
		if n.Network == "unix" {
			address = "unix://" + address
		}
		fmt.Fprintf(t, "%d\t%s\t", n.Index, address)
		if shares != nil {
			fmt.Fprintf(t, "%d\t%s\t", n.Weight, percent(shares[i]))
		}
		database := "0 (not named)"
		if n.Database >= 0 {
			database = fmt.Sprint(n.Database)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", database, n.Prefix, seconds(n.Timeout), seconds(n.ReadTimeout), strings.Join(extras(n), ", "))
	}
	return t.Flush()
}

// extras are the rarer settings of a node, in words.
func extras(n sessionring.Node) []string {
	var out []string
	if n.TLS {
		out = append(out, "TLS")
	}
	if n.Auth.HasUser {
		out = append(out, "user "+n.Auth.Username)
	}
	if !n.Auth.Password.IsZero() {
		out = append(out, "password")
	}
	if n.Persistent {
		out = append(out, "persistent")
	}
	if n.PersistentID != "" {
		out = append(out, "persistent_id "+n.PersistentID)
	}
	if n.RetryInterval > 0 {
		out = append(out, "retry_interval "+seconds(n.RetryInterval))
	}
	return out
}

func seconds(d time.Duration) string {
	if d < 0 {
		return "none"
	}
	return d.String()
}

func percent(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) }

// count is a number with its noun, in the plural where it is not one.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		noun = stem + "ie"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func copiesText(n int) string {
	return count(n, "copy") + " of each session"
}
