// Command peers measures a session request beside other Redis clients and session stores, all in one process, on real
// redis-server processes of its own, and prints what docs/performance.md shows.
//
//	go run ./peers                        # from the folder test/: rates, latency, CPU, allocations, targets
//	go run ./peers -peers 'ring|Client'   # the reference, go-redis, is measured always
//	go run ./peers -memory                # memory of a client, and of sessions in flight
//	go run ./peers -saturation            # throughput and latency against offered load
//	go run ./peers -large                 # small sessions beside one of 1 MiB
//	go run ./peers -write ../docs         # with each of them: rewrites the tables and pictures of the docs
//
// Two operations: cycle loads a session of 1 KiB, changes it and saves it for 1,440 s; read loads it and prolongs it
// to 1,440 s. Peers take turns within each round, in another order each time, and a rate is a ratio to go-redis in the
// same round. go-redis is measured twice: how far its second row is from 1 is how far any row may be by noise.
// Each answer is checked: the session holds a count of its saves. Progress goes to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
)

// config is what the flags say.
type config struct {
	mode       string
	rounds     int
	cell       time.Duration // of one peer, operation and number of goroutines, in each round; of a step of -saturation
	peers      *regexp.Regexp
	goroutines []int
	docs       docs
	limit      time.Duration // deadline of a request of -saturation
	underWay   int           // requests of -saturation at a time; one more is turned away before it reaches the client
}

// Modes, and how long and often they measure unless told.
const (
	ratesMode      = ""
	memoryMode     = "memory"
	saturationMode = "saturation"
	largeMode      = "large"
)

func usual(mode string) (rounds int, cell time.Duration) {
	switch mode {
	case memoryMode:
		return 3, time.Second
	case saturationMode:
		return 3, time.Second
	case largeMode:
		return 15, 200 * time.Millisecond
	default:
		return 15, 100 * time.Millisecond
	}
}

func main() {
	if job := os.Getenv(memoryJob); job != "" {
		os.Exit(memoryChild(job, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	c, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = c.run(ctx, os.Stdout, os.Stderr)
	}
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func parse(args []string, progress io.Writer) (config, error) {
	c := config{}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.IntVar(&c.rounds, "rounds", 0, "rounds; the tables give the median (default 15; 3 with -memory and -saturation)")
	flags.DurationVar(&c.cell, "time", 0, "of one cell in one round (default 100ms; 200ms with -large, 1s with -memory and -saturation)")
	peers := flags.String("peers", "", "take the peers whose name matches this regular expression")
	goroutines := flags.String("goroutines", "1,16,64", "numbers of goroutines, separated by commas")
	flags.DurationVar(&c.limit, "deadline", 250*time.Millisecond, "of a request, with -saturation")
	flags.IntVar(&c.underWay, "outstanding", 8<<10, "requests under way at most, with -saturation")
	flags.StringVar((*string)(&c.docs), "write", "", "rewrite the tables of performance.md in this folder, and the pictures in its figures/")
	modes := map[string]*bool{
		memoryMode:     flags.Bool(memoryMode, false, "measure memory"),
		saturationMode: flags.Bool(saturationMode, false, "measure throughput and latency against offered load"),
		largeMode:      flags.Bool(largeMode, false, "measure small sessions beside a large one"),
	}
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	for mode, on := range modes {
		if !*on {
			continue
		}
		if c.mode != "" {
			return c, errors.New("one of -memory, -saturation and -large at a time")
		}
		c.mode = mode
	}
	rounds, cell := usual(c.mode)
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "rounds":
			rounds = c.rounds
		case "time":
			cell = c.cell
		}
	})
	c.rounds, c.cell = rounds, cell
	for f := range strings.SplitSeq(*goroutines, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil || n < 1 || n > sessionsEach {
			return c, fmt.Errorf("-goroutines: %q is not a number from 1 to %d", f, sessionsEach)
		}
		c.goroutines = append(c.goroutines, n)
	}
	if c.rounds < 1 || c.cell <= 0 || c.limit <= 0 || c.underWay < 1 {
		return c, errors.New("-rounds, -time, -deadline and -outstanding must be positive")
	}
	var err error
	if c.peers, err = regexp.Compile(*peers); err != nil {
		return c, fmt.Errorf("-peers: %w", err)
	}
	return c, nil
}

func (c config) run(ctx context.Context, out, progress io.Writer) error {
	quiet()
	modes := map[string]struct {
		run      func(ctx context.Context, out, progress io.Writer) error
		sections []section
	}{
		ratesMode:      {c.rates, []section{tableSection, targetSection}},
		memoryMode:     {c.memory, []section{memorySection}},
		saturationMode: {c.saturation, []section{saturationSection}},
		largeMode:      {c.large, []section{largeSection}},
	}
	mode := modes[c.mode]
	if err := c.docs.check(mode.sections...); err != nil {
		return err
	}
	return mode.run(ctx, out, progress)
}

// rates measures all peers on one server and on three.
func (c config) rates(ctx context.Context, out, progress io.Writer) error {
	how := fmt.Sprintf("Medians of %s of %v a cell.", count(c.rounds, "round"), c.cell)
	head, err := circumstances(ctx, how, allModules()...)
	if err != nil {
		return err
	}
	var tables []*table
	var all, goals strings.Builder
	all.WriteString(head)
	goals.WriteString(head)
	for _, servers := range []int{1, 3} {
		t, err := c.measure(ctx, servers, progress)
		if err != nil {
			return fmt.Errorf("%s: %w", count(servers, "server"), err)
		}
		if err := t.write(&all); err != nil {
			return err
		}
		if c.docs != "" {
			if err := t.draw(c.docs.figure(fmt.Sprint("peers-", servers))); err != nil {
				return err
			}
		}
		tables = append(tables, t)
	}
	if err := writeTargets(&goals, targets(), tables); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s\n%s", all.String(), goals.String()); err != nil {
		return err
	}
	return errors.Join(c.docs.write(tableSection, all.String()), c.docs.write(targetSection, goals.String()))
}

// quiet keeps the clients from writing between the tables.
func quiet() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	redis.SetLogger(silent{})
	gin.SetMode(gin.ReleaseMode)
}

// silent writes nothing.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
