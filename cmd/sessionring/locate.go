package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sessionring/sessionring"
)

type locateCmd struct {
	pathArg
	IDs []string `arg:"" optional:"" name:"ID" sep:"none" help:"Session ids; - reads them from standard input, a line each. Put -- before ids that begin with a dash."`
	ringFlags
}

// Help is printed by --help.
func (locateCmd) Help() string {
	return `Computes on which nodes sessions live: the first owner, and the others that hold copies, by the position of the node in the save_path. No node is asked. With --distribution phpredis it is bit for bit the node that the phpredis extension chooses.

Examples:

    sessionring locate 'tcp://host1:6379, tcp://host2:6379?weight=2' r4t8w2y6u1i9o3p7a5
    redis-cli --scan --pattern 'PHPREDIS_SESSION:*' | cut -d: -f2- | sessionring locate --json --distribution phpredis @save_path -`
}

// locateJSON is a line of locate --json: part of the tool's contract.
type locateJSON struct {
	ID      string `json:"id"`
	Key     string `json:"key"`
	Index   int    `json:"index"`
	Address string `json:"address"`
	Owners  []int  `json:"owners"`
}

// Run prints where each id lives.
func (c *locateCmd) Run(ctx context.Context, a *app) error {
	ring, ids, err := c.prepare(a)
	if err != nil {
		return err
	}
	nodes := ring.Nodes()
	out := a.lines()
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	err = a.eachID(ctx, ids, out, func(id string) error {
		if err := ring.Check(id); err != nil {
			return err
		}
		owners := ring.Owners(id)
		first := nodes[owners[0]]
		if a.JSON {
			return lines.Encode(locateJSON{ID: id, Key: first.Prefix + id, Index: owners[0], Address: first.Address, Owners: owners})
		}
		_, err := fmt.Fprintf(out, "%s\t%s%s\n", id, nodeName(first), alsoOn(nodes, owners[1:]))
		return err
	})
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	return err
}

func (c *locateCmd) prepare(a *app) (*sessionring.Ring, []string, error) {
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	path, ids, err := a.savePathAndIDs(c.SavePath, c.IDs)
	if err != nil {
		return nil, nil, err
	}
	if len(ids) == 0 {
		return nil, nil, usagef("no id: give ids as arguments, or - to read them from standard input")
	}
	sp, err := a.parse(path)
	if err != nil {
		return nil, nil, err
	}
	ring, err := a.ring(sp, c.ringFlags)
	return ring, ids, err
}

// ring builds the ring of a save_path as the flags say.
func (a *app) ring(sp *sessionring.SavePath, f ringFlags) (*sessionring.Ring, error) {
	f.apply(sp)
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		return nil, err
	}
	if asked := sp.Settings.Copies; asked > ring.Copies() {
		why := "there are no more different nodes"
		if ring.Distribution() == sessionring.PHPRedis {
			why = "PHP writes one, so with distribution phpredis there is one"
		}
		a.warn("copies=%d, but %d: %s", asked, ring.Copies(), why)
	}
	return ring, nil
}

func nodeName(n sessionring.Node) string { return fmt.Sprintf("#%d %s", n.Index, n.ID()) }

func alsoOn(nodes []sessionring.Node, owners []int) string {
	s := ""
	for i, o := range owners {
		if i == 0 {
			s = ", then "
		} else {
			s += ", "
		}
		s += nodeName(nodes[o])
	}
	return s
}
