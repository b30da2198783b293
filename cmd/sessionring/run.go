package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sessionring/sessionring"
)

// Exit codes, part of the tool's contract.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or save_path: nothing was tried
)

// levelSilent is above every level that is logged.
const levelSilent = slog.Level(100)

// streams are all that the tool has of the process it runs in, so that tests need none.
type streams struct {
	in     io.Reader
	out    io.Writer
	err    io.Writer
	env    func(string) (string, bool)
	logger *slog.Logger   // writes to err; nil: silent
	level  *slog.LevelVar // of logger, set by --verbose; may be nil
}

// cli is the command line, a field a command. A command is a struct with kong's tags and a method
// Run(ctx context.Context, a *app) error. It prints by the app: emit for --json, otherwise text.
type cli struct {
	globals

	Inspect inspectCmd     `cmd:"" group:"ring" help:"Show how a save_path is read: nodes, defaults, warnings."`
	Locate  locateCmd      `cmd:"" group:"ring" help:"Show on which nodes session ids live."`
	Plan    planCmd        `cmd:"" group:"ring" help:"Show what a change of the node list would move."`
	Migrate migrateCmd     `cmd:"" group:"nodes" help:"Move sessions from one node list to another, and say which nodes may be switched off."`
	Get     getCmd         `cmd:"" group:"sessions" help:"Show sessions, PHP payloads decoded."`
	Set     setCmd         `cmd:"" group:"sessions" help:"Write a session from standard input."`
	Ls      lsCmd          `cmd:"" group:"sessions" help:"List the sessions on all nodes, ids masked."`
	Rm      rmCmd          `cmd:"" group:"sessions" help:"Destroy sessions."`
	Explain explainCmd     `cmd:"" group:"sessions" help:"Show which copies of a session each node holds."`
	Status  statusCmd      `cmd:"" group:"nodes" help:"Show health, memory, sessions and share of every node."`
	Doctor  doctorCmd      `cmd:"" group:"nodes" help:"Say what endangers sessions, and the remedies."`
	Decode  decodeCmd      `cmd:"" group:"php" help:"Turn a PHP session payload into lossless JSON."`
	Encode  encodeCmd      `cmd:"" group:"php" help:"Turn that JSON back into the payload, byte for byte."`
	Demo    demoCmd        `cmd:"" group:"load" help:"Serve a counter page on nodes that can be killed, hung and revived."`
	Bench   benchCmd       `cmd:"" group:"load" help:"Put the nodes under load, with faults, and check every session."`
	Worker  benchWorkerCmd `cmd:"" name:"bench-worker" hidden:"" help:"A process of bench --processes."`
	Version versionCmd     `cmd:"" group:"other" help:"Print the version of this program."`
}

// globals are the flags of every command.
type globals struct {
	JSON     bool          `name:"json" help:"Print one JSON object a line on standard output, and nothing else there."`
	Lenient  bool          `help:"Warn about parameters that nobody knows instead of refusing the save_path: for a string that is shared with PHP."`
	Deadline time.Duration `placeholder:"DURATION" help:"Most that one operation on a session may take, all tries on all nodes together (default 2s)."`
	Verbose  bool          `short:"v" help:"Log states of nodes and connections to standard error."`
}

const description = "Sessions of phpredis save_paths: look at the ring, at its nodes and at the sessions on them."

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	var c cli
	asked := false // --help was printed: kong parses on and complains
	parser, err := kong.New(&c,
		kong.Name("sessionring"), kong.Description(description),
		kong.Writers(s.out, s.err), kong.Exit(func(int) { asked = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "ring", Title: "Look at the ring (no node is asked):"},
			{Key: "sessions", Title: "Look at sessions and mend them:"},
			{Key: "nodes", Title: "Look at the nodes:"},
			{Key: "php", Title: "PHP payloads:"},
			{Key: "load", Title: "Try it out:"},
			{Key: "other", Title: "Other:"},
		}),
	)
	if err != nil {
		fmt.Fprintf(s.err, "sessionring: %v\n", err)
		return exitFailed
	}
	a := &app{globals: &c.globals, streams: s}
	if len(args) == 0 {
		a.message("no command; sessionring --help lists them")
		return exitUsage
	}
	parsed, err := parser.Parse(args)
	switch {
	case asked:
		return exitDone
	case err != nil && looksLikePath(args[0]) && args[0][0] != '-':
		a.message("a command comes first, as in: sessionring inspect SAVE_PATH; sessionring --help lists them")
		return exitUsage
	case err != nil:
		where := ""
		var pe *kong.ParseError
		if errors.As(err, &pe) && pe.Context != nil && pe.Context.Selected() != nil {
			where = pe.Context.Selected().Name + " "
		}
		a.message("%s; sessionring %s--help explains", withoutArguments(err.Error(), args), where)
		return exitUsage
	}
	if c.Deadline < 0 {
		a.message("--deadline must be above 0")
		return exitUsage
	}
	if c.Verbose && s.level != nil {
		s.level.Set(slog.LevelDebug)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	code := a.report(ctx, parsed.Run(a))
	return max(code, a.code)
}

// withoutArguments takes out of a message of the parser whatever may be a save_path: it holds passwords.
func withoutArguments(msg string, args []string) string {
	for _, arg := range args {
		if strings.ContainsAny(arg, ":/@=") {
			_, value, found := strings.Cut(arg, "=")
			if strings.HasPrefix(arg, "--") && found {
				arg = value
			}
			if arg != "" {
				msg = strings.ReplaceAll(msg, arg, "…")
				msg = strings.ReplaceAll(msg, strings.Trim(strconv.Quote(arg), `"`), "…")
			}
		}
	}
	return msg
}

// usageError is a wrong use of the tool: exit 2.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// report prints an error and returns the exit code that goes with it.
func (a *app) report(ctx context.Context, err error) int {
	var usage usageError
	var path *sessionring.SavePathError
	var ring *sessionring.RingError
	var away *sessionring.NoNodeError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &path):
		a.explainSavePath(path)
		return exitUsage
	case errors.As(err, &usage), errors.As(err, &ring), errors.Is(err, sessionring.ErrID):
		a.message("%s", plain(err))
		return exitUsage
	case ctx.Err() != nil:
		a.message("interrupted")
		return exitFailed
	case errors.As(err, &away):
		a.explainNoNode(err, away)
		return exitFailed
	}
	a.message("%s", plain(err))
	return exitFailed
}

// explainNoNode prints a failure of all nodes, a line each, with the remedy.
func (a *app) explainNoNode(err error, away *sessionring.NoNodeError) {
	where, _, _ := strings.Cut(err.Error(), away.Error())
	a.message("%sno node answered (%s, after %v):", plain(errors.New(where)), away.Op, away.Elapsed.Round(time.Millisecond))
	for _, n := range away.Nodes {
		problem, remedy := explainNodeError(n)
		fmt.Fprintf(a.err, "  %s: %s\n    → %s\n", a.paint(a.err, bold, n.Node), a.paint(a.err, red, problem), remedy)
	}
}

// plain is an error's text without the packages' names, which messages begin with anyway.
func plain(err error) string {
	return strings.NewReplacer("sessionring: ", "", "phpsession: ", "").Replace(err.Error())
}
