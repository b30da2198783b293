// Command scale works out how sessionring behaves with 3 to 1,000 nodes and up to a billion sessions, and makes the
// tables and plots of docs/scale.md.
//
//	go run ./scale                  # from the folder test/: prints the tables
//	go run ./scale -write ../docs   # puts them between the markers of docs/scale.md and draws docs/figures/scale-*.svg
//	go run ./scale -measure all     # measures anew, on real redis-servers, what the tables are computed from
//
// Placements are the real ring's. What is measured (bytes of a session, rates of scanning and copying, what a Client
// holds for a node) stands in measured.json with what made it; everything else is computed or drawn from a fixed seed,
// so the tables are the same on every machine. Progress goes to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

// config is what the flags say.
type config struct {
	measure []string // steps of measuring; none: work with what is measured
	docs    string   // folder to write, "" none
	assume  assumptions
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	c, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = c.run(ctx, os.Stdout, os.Stderr)
	}
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// measuredFile as seen from the folder test/.
const measuredFile = "scale/measured.json"

func parse(args []string, progress io.Writer) (config, error) {
	c := config{assume: defaults()}
	a := &c.assume
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(progress)
	measure := flags.String("measure", "", "measure on real servers and write "+measuredFile+": all (ten minutes), or some of "+stepNames())
	flags.StringVar(&c.docs, "write", "", "rewrite the tables of scale.md in this folder, and its figures/scale-*.svg")
	flags.IntVar(&a.Payload, "payload", a.Payload, "bytes of a session: one of those that were measured")
	flags.IntVar(&a.Rate, "rate", a.Rate, "sessions a second that a pass may copy (WithRejoinRate)")
	flags.DurationVar(&a.RoundTrip, "rtt", a.RoundTrip, "round trip to a node, paid for each batch of a scan")
	flags.DurationVar(&a.MTBF, "mtbf", a.MTBF, "mean time from a node's start to the failure that empties it")
	flags.DurationVar(&a.Away, "away", a.Away, "how long a failed node is away before it is back, empty")
	flags.Uint64Var(&a.Seed, "seed", a.Seed, "of the simulation and of unequal weights")
	flags.IntVar(&a.Failures, "failures", a.Failures, "nodes' failures to simulate for each row")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if *measure != "" {
		c.measure = strings.Split(*measure, ",")
	}
	return c, a.check()
}

func (c config) run(ctx context.Context, out, progress io.Writer) error {
	m, err := measured()
	if err != nil {
		return err
	}
	if len(c.measure) > 0 {
		if err := measure(ctx, m, c.measure, progress); err != nil {
			return err
		}
		return m.save(measuredFile)
	}
	s, err := newStudy(c.assume, m)
	if err != nil {
		return err
	}
	if c.docs == "" {
		for _, section := range sections {
			fmt.Fprintf(progress, "%s\n", section.name)
			text, err := section.table(s, ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "## %s\n\n%s\n", section.name, text)
		}
		return nil
	}
	if err := rewrite(ctx, s, filepath.Join(c.docs, "scale.md"), progress); err != nil {
		return err
	}
	return drawAll(ctx, s, filepath.Join(c.docs, "figures"))
}
