package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/sessionring/sessionring"
)

// app is what a command works with.
type app struct {
	*globals
	streams
	code int // exit code of what failed while the command went on
}

// emit prints one JSON object on a line of standard output.
func (a *app) emit(v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(b, '\n'))
	return err
}

// encodeJSON is json.Marshal without escapes for HTML, which would only make values harder to read.
func encodeJSON(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// message prints a line to standard error, with the program's name before it.
func (a *app) message(format string, args ...any) {
	fmt.Fprintf(a.err, "%s %s\n", a.paint(a.err, bold, "sessionring:"), fmt.Sprintf(format, args...))
}

// warn prints a warning to standard error. It changes no exit code.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "%s %s\n", a.paint(a.err, yellow, "warning:"), fmt.Sprintf(format, args...))
}

// fail reports a failure after which the command goes on. The exit code will tell of it.
func (a *app) fail(ctx context.Context, err error) { a.code = max(a.code, a.report(ctx, err)) }

// printf prints text to standard output.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// table writes aligned columns to standard output: cells are separated by tabs. It must be flushed.
func (a *app) table() *tabwriter.Writer { return tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0) }

// lines buffers standard output for commands that print much. It must be flushed.
func (a *app) lines() *bufio.Writer { return bufio.NewWriterSize(a.out, 64<<10) }

// color is an ANSI sequence. In a table, use it in the last column only: tabwriter counts its bytes.
type color string

const (
	bold   color = "\x1b[1m"
	red    color = "\x1b[31m"
	green  color = "\x1b[32m"
	yellow color = "\x1b[33m"
	faint  color = "\x1b[2m"
)

// paint colours s where w is a terminal and NO_COLOR (no-color.org) is not set.
func (a *app) paint(w io.Writer, c color, s string) string {
	if no, _ := a.env("NO_COLOR"); no != "" || !isTerminal(w) {
		return s
	}
	if term, _ := a.env("TERM"); term == "dumb" {
		return s
	}
	return string(c) + s + "\x1b[0m"
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// open opens a Client as the global flags say, opts win. The caller closes it.
func (a *app) open(savePath string, opts ...sessionring.Option) (*sessionring.Client, error) {
	all := []sessionring.Option{}
	if a.Lenient {
		all = append(all, sessionring.WithLenient())
	}
	if a.Deadline > 0 {
		all = append(all, sessionring.WithDeadline(a.Deadline))
	}
	if a.logger != nil {
		all = append(all, sessionring.WithLogger(a.logger))
	}
	c, err := sessionring.Open(savePath, append(all, opts...)...)
	if err != nil {
		return nil, err
	}
	a.warnings(c.SavePath())
	return c, nil
}

// parse reads a save_path as the global flags say, without opening anything.
func (a *app) parse(savePath string) (*sessionring.SavePath, error) {
	var opts []sessionring.ParseOption
	if a.Lenient {
		opts = append(opts, sessionring.Lenient())
	}
	sp, err := sessionring.ParseSavePath(savePath, opts...)
	if err != nil {
		return nil, err
	}
	a.warnings(sp)
	return sp, nil
}

func (a *app) warnings(sp *sessionring.SavePath) {
	for _, w := range sp.Warnings {
		a.warn("%s", w)
	}
}
