package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/sessionring/sessionring/internal/redistest"
)

// section names the parts of performance.md that this command writes.
type section string

const (
	targetSection     section = "targets"
	tableSection      section = "tables"
	memorySection     section = "memory"
	saturationSection section = "saturation"
	largeSection      section = "large"
)

func (s section) begin() []byte { return []byte("<!-- made by test/peers: " + string(s) + " -->\n") }
func (s section) end() []byte   { return []byte("<!-- end: " + string(s) + " -->\n") }

// replace puts text between the section's marks.
func (s section) replace(doc []byte, text string) ([]byte, error) {
	if bytes.Count(doc, s.begin()) != 1 || bytes.Count(doc, s.end()) != 1 {
		return nil, fmt.Errorf("%q and %q must each stand there once", bytes.TrimSpace(s.begin()), bytes.TrimSpace(s.end()))
	}
	before, rest, _ := bytes.Cut(doc, s.begin())
	_, after, found := bytes.Cut(rest, s.end())
	if !found {
		return nil, fmt.Errorf("%q stands before %q", bytes.TrimSpace(s.end()), bytes.TrimSpace(s.begin()))
	}
	return bytes.Join([][]byte{before, s.begin(), []byte("\n" + strings.TrimSpace(text) + "\n\n"), s.end(), after}, nil), nil
}

// docs is the folder whose performance.md and figures are rewritten; "" is none.
type docs string

func (d docs) file() string { return filepath.Join(string(d), "performance.md") }

// figure is where a picture goes.
func (d docs) figure(name string) string { return filepath.Join(string(d), "figures", name+".svg") }

// check says early whether the sections can be written, for measuring takes minutes.
func (d docs) check(all ...section) error {
	if d == "" {
		return nil
	}
	doc, err := os.ReadFile(d.file())
	for _, s := range all {
		if err == nil {
			_, err = s.replace(doc, "")
		}
	}
	if err != nil {
		return fmt.Errorf("-write: %s: %w", d.file(), err)
	}
	return nil
}

// write rewrites one section.
func (d docs) write(s section, text string) error {
	if d == "" {
		return nil
	}
	doc, err := os.ReadFile(d.file())
	if err != nil {
		return err
	}
	if doc, err = s.replace(doc, text); err != nil {
		return fmt.Errorf("%s: %w", d.file(), err)
	}
	return os.WriteFile(d.file(), doc, 0o644) //nolint:gosec // for people
}

// circumstances says how figures were taken, and with which versions of the clients, by their modules.
func circumstances(ctx context.Context, how string, modules ...string) (string, error) {
	nodes, err := redistest.StartNodes(ctx, 1)
	if err != nil {
		return "", err
	}
	server, err := serverVersion(ctx, nodes[0])
	if err := errors.Join(err, redistest.StopNodes(nodes)); err != nil {
		return "", err
	}
	text := fmt.Sprintf("*%s On %s, %s/%s, with %s, %s", how, count(runtime.NumCPU(), "core"), runtime.GOOS, runtime.GOARCH, runtime.Version(), server)
	for _, v := range versions(modules) {
		text += ", " + v
	}
	return text + ".*\n\n", nil
}

// Modules of the clients that are measured.
const (
	goRedisModule = "github.com/redis/go-redis/v9"
	rueidisModule = "github.com/redis/rueidis"
)

func allModules() []string {
	return []string{
		goRedisModule, rueidisModule, "github.com/gomodule/redigo", "github.com/alexedwards/scs/v2", "github.com/boj/redistore",
		"github.com/gin-contrib/sessions", "github.com/gofiber/storage/redis/v3",
	}
}

// versions are those that were built in. A test's binary does not tell.
func versions(modules []string) []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	at := map[string]string{}
	for _, m := range info.Deps {
		at[m.Path] = m.Version
	}
	var out []string
	for _, m := range modules {
		if at[m] != "" {
			out = append(out, strings.TrimPrefix(m, "github.com/")+" "+at[m])
		}
	}
	return out
}
