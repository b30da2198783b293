// Command peerstores holds session stores of Go's web frameworks against the contract of package sessiontest, each
// on real redis-server processes of its own, and prints the table of docs/adapters.md.
//
//	go run ./peerstores            # from the folder test/
//	go run ./peerstores -only scs  # those whose name holds "scs"
//
// Each store is set up as its documentation does. Stores that know one server get one; sessionring gets three,
// with two copies. Progress goes to standard error.
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
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"github.com/sessionring/sessionring/internal/contract"
	"github.com/sessionring/sessionring/sessiontest"
)

// A peer is one column of the table.
type peer struct {
	name    string
	servers int
	open    func(ctx context.Context, n *contract.Nodes) (*sessiontest.Store, func() error, error)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peerstores:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("peerstores", flag.ContinueOnError)
	flags.SetOutput(progress)
	only := flags.String("only", "", "take the stores whose name holds this")
	if err := flags.Parse(args); err != nil {
		return err
	}
	// What the frameworks and clients log of servers that are killed on purpose is not wanted here.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	redis.SetLogger(silent{})
	gin.SetMode(gin.ReleaseMode)

	var reports []sessiontest.Report
	for _, p := range peers() {
		if !strings.Contains(p.name, *only) {
			continue
		}
		start := time.Now()
		results, err := p.check(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		failed := 0
		for i, r := range results {
			if r.Verdict == sessiontest.Fail {
				failed++
			}
			results[i].Note = foreign.ReplaceAllString(address.ReplaceAllString(r.Note, "the server"), "sessiontest-…")
		}
		fmt.Fprintf(progress, "%s: %d checks, %d failed, %v\n", p.name, len(results), failed, time.Since(start).Round(time.Second))
		reports = append(reports, sessiontest.Report{Store: p.name, Results: results})
	}
	if len(reports) == 0 {
		return fmt.Errorf("no store's name holds %q", *only)
	}
	return sessiontest.WriteTable(out, reports...)
}

func (p peer) check(ctx context.Context) (results []sessiontest.Result, err error) {
	nodes, err := contract.Start(ctx, p.servers)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nodes.Stop()) }()
	store, closer, err := p.open(ctx, nodes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer()) }()
	store.Name = p.name
	return sessiontest.Check(ctx, store)
}

// What differs at each run.
var (
	address = regexp.MustCompile(`127\.0\.0\.\d+:\d+`)
	foreign = regexp.MustCompile(`sessiontest-[A-Z2-7]{26}`)
)

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
