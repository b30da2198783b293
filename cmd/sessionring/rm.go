package main

import (
	"context"
)

type rmCmd struct {
	pathArg
	IDs []string `arg:"" optional:"" name:"ID" sep:"none" help:"Session ids; - reads them from standard input, a line each. Put -- before ids that begin with a dash."`
}

// Help is printed by --help.
func (rmCmd) Help() string {
	return `Destroys sessions: whoever has them is logged out. A tombstone stays behind for as long as an old copy could live, so that neither a request still running nor a node that comes back with old data revives them. Removing what is not there is no failure.

Examples:

    sessionring rm 'tcp://host1:6379, tcp://host2:6379' r4t8w2y6u1i9o3p7a5
    sessionring ls --ids --json @save_path | jq -r .id | sessionring rm @save_path -`
}

// rmJSON is a line of rm --json.
type rmJSON struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
	Existed *bool  `json:"existed"` // null: not known, for a node could not be asked
}

// Run destroys each session.
func (c *rmCmd) Run(ctx context.Context, a *app) error {
	client, ids, err := a.openForIDs(c.pathArg, c.IDs)
	if err != nil {
		return err
	}
	defer client.Close()
	removed, missing := 0, 0
	err = a.eachID(ctx, ids, nil, func(id string) error {
		there, known := exists(ctx, client, id)
		if err := client.Delete(ctx, id); err != nil {
			return err
		}
		if known && !there {
			missing++
		} else {
			removed++
		}
		if !a.JSON {
			return nil
		}
		line := rmJSON{ID: id, Deleted: true}
		if known {
			line.Existed = &there
		}
		return a.emit(line)
	})
	if err == nil && !a.JSON && removed+missing > 0 {
		a.printf("removed %s", count(removed, "session"))
		if missing > 0 {
			a.printf(", not there: %d", missing)
		}
		a.printf("\n")
	}
	return err
}
