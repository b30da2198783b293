package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sessionring/sessionring"
)

// savePathVariable names the save_path where the command line does not.
const savePathVariable = "SESSIONRING_SAVE_PATH"

// pathArg is the first argument of most commands.
type pathArg struct {
	SavePath string `arg:"" optional:"" name:"SAVE_PATH" help:"The session.save_path, quoted; or @FILE, which holds it, so that passwords stay out of the list of processes. Without it, $SESSIONRING_SAVE_PATH is used."`
}

// ringFlags choose the ring where the save_path does not.
type ringFlags struct {
	Distribution string `placeholder:"consistent|phpredis" enum:"consistent,phpredis," default:"" help:"How ids are placed; wins over the save_path's distribution=."`
	Copies       int    `placeholder:"N" help:"On how many nodes each session is kept; wins over the save_path's copies=."`
}

// check refuses what no ring has.
func (f ringFlags) check() error {
	if f.Copies < 0 {
		return usagef("--copies must be 1 or more")
	}
	return nil
}

// apply puts the flags into a parsed save_path.
func (f ringFlags) apply(sp *sessionring.SavePath) {
	if f.Distribution != "" {
		sp.Settings.Distribution = sessionring.Distribution(f.Distribution)
	}
	if f.Copies > 0 {
		sp.Settings.Copies = f.Copies
	}
}

// savePath returns the save_path of a command that takes nothing else.
func (a *app) savePath(arg string) (string, error) {
	path, ids, err := a.savePathAndIDs(arg, nil)
	if err == nil && len(ids) > 0 {
		return "", usagef("%q is no save_path (one has a host:port, a unix:// path or seed[]=…)", arg)
	}
	return path, err
}

// savePathAndIDs tells the save_path from the ids behind it: with the variable set it may be left out, and no id
// of a session holds ':' or '/', while no save_path does without. A file's name (@FILE) is no id either.
func (a *app) savePathAndIDs(first string, rest []string) (path string, ids []string, err error) {
	fromEnv, _ := a.env(savePathVariable)
	switch {
	case looksLikePath(first):
		path, ids = first, rest
	case fromEnv != "" && first != "":
		path, ids = fromEnv, append([]string{first}, rest...)
	case fromEnv != "":
		path = fromEnv
	case first == "":
		return "", nil, usagef("no save_path: give it as the first argument, or in $%s", savePathVariable)
	default:
		path, ids = first, rest // refused by the parser, which says why
	}
	for _, id := range ids {
		if looksLikePath(id) {
			return "", nil, usagef("a save_path stands where an id belongs: put quotes around a save_path with blanks in it")
		}
	}
	if name, ok := strings.CutPrefix(path, "@"); ok {
		if path, err = readPathFile(name); err != nil {
			return "", nil, err
		}
	}
	return path, ids, nil
}

func looksLikePath(s string) bool {
	return strings.ContainsAny(s, ":/[=") || strings.HasPrefix(s, "@")
}

// readPathFile reads a save_path from a file: its text without blank lines and lines that begin with # or ;, so
// that comments are possible.
func readPathFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", usagef("cannot read the save_path from the file %s: %v", name, err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && line[0] != ';' {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "", usagef("the file %s holds no save_path", name)
	}
	return strings.Join(lines, " "), nil
}

// explainSavePath prints what is wrong with a save_path, all of it, and how to mend it.
func (a *app) explainSavePath(e *sessionring.SavePathError) {
	switch len(e.Entries) {
	case 1:
		a.message("the save_path is wrong:")
	default:
		a.message("the save_path is wrong in %d places:", len(e.Entries))
	}
	for _, entry := range e.Entries {
		if entry.Entry != "" {
			where := fmt.Sprintf("at byte %d", entry.Offset)
			if entry.Index >= 0 {
				where = fmt.Sprintf("entry %d, at byte %d", entry.Index+1, entry.Offset)
			}
			fmt.Fprintf(a.err, "  %s: %s\n", where, a.paint(a.err, bold, entry.Entry))
		}
		fmt.Fprintf(a.err, "    %s\n", a.paint(a.err, red, entry.Problem))
		if entry.Remedy != "" {
			fmt.Fprintf(a.err, "    → %s\n", entry.Remedy)
		}
	}
}
