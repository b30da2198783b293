// Command peers measures a session request beside other Redis clients and session stores, all in one process, on real
// redis-server processes of its own, and prints the tables of docs/performance.md.
//
//	go run ./peers                        # from the folder test/
//	go run ./peers -peers 'ring|Client'   # the reference, go-redis, is measured always
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
	rounds     int
	cell       time.Duration // of one peer, operation and number of goroutines, in each round
	peers      *regexp.Regexp
	goroutines []int
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
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func parse(args []string, progress io.Writer) (config, error) {
	c := config{}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.IntVar(&c.rounds, "rounds", 7, "rounds; the tables give the median")
	flags.DurationVar(&c.cell, "time", 150*time.Millisecond, "of one cell in one round")
	peers := flags.String("peers", "", "take the peers whose name matches this regular expression")
	goroutines := flags.String("goroutines", "1,16,64", "numbers of goroutines, separated by commas")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	for f := range strings.SplitSeq(*goroutines, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil || n < 1 || n > sessionsEach {
			return c, fmt.Errorf("-goroutines: %q is not a number from 1 to %d", f, sessionsEach)
		}
		c.goroutines = append(c.goroutines, n)
	}
	if c.rounds < 1 || c.cell <= 0 {
		return c, errors.New("-rounds and -time must be positive")
	}
	var err error
	if c.peers, err = regexp.Compile(*peers); err != nil {
		return c, fmt.Errorf("-peers: %w", err)
	}
	return c, nil
}

func (c config) run(ctx context.Context, out, progress io.Writer) error {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	redis.SetLogger(silent{})
	gin.SetMode(gin.ReleaseMode)
	for _, servers := range []int{1, 3} {
		t, err := c.measure(ctx, servers, progress)
		if err != nil {
			return fmt.Errorf("%d servers: %w", servers, err)
		}
		if err := t.write(out); err != nil {
			return err
		}
	}
	return nil
}

// silent keeps the clients from writing between the tables.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
