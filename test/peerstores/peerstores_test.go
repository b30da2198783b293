package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/sessiontest"
)

const document = "../../docs/adapters.md"

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every line of Go in the document, added lines of a diff included, stands in an adapter's example, which its
// module's tests run.
func TestDocumentedCodeIsInExamples(t *testing.T) {
	paths, err := filepath.Glob("../../adapters/*/example_test.go")
	if err != nil || len(paths) != 5 {
		t.Fatalf("%d examples, %v", len(paths), err)
	}
	lines := map[string]bool{}
	for _, p := range paths {
		for line := range strings.Lines(read(t, p)) {
			lines[strings.TrimSpace(line)] = true
		}
	}
	checked := 0
	for _, block := range regexp.MustCompile("(?s)```(go|diff)\n(.*?)```").FindAllStringSubmatch(read(t, document), -1) {
		for line := range strings.Lines(block[2]) {
			if block[1] == "diff" {
				if line[0] == '-' {
					continue
				}
				line = line[1:]
			}
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			checked++
			if !lines[line] {
				t.Errorf("no example has the line %q", line)
			}
		}
	}
	if checked < 15 {
		t.Errorf("only %d lines were found", checked)
	}
}

// The document's table is this command's: the same checks and stores.
func TestDocumentedTable(t *testing.T) {
	_, rest, ok := strings.Cut(read(t, document), "<!-- peerstores -->")
	got, _, ok2 := strings.Cut(rest, "<!-- /peerstores -->")
	if !ok || !ok2 {
		t.Fatal("no table is marked")
	}
	var want bytes.Buffer
	var columns []sessiontest.Report
	for _, p := range peers() {
		columns = append(columns, sessiontest.Report{Store: p.name})
	}
	if err := sessiontest.WriteTable(&want, columns...); err != nil {
		t.Fatal(err)
	}
	first := func(table string) (out []string) {
		for line := range strings.Lines(strings.TrimSpace(table)) {
			if strings.HasPrefix(line, "| check |") {
				out = append(out, line)
			} else if cells := strings.SplitN(line, "|", 3); len(cells) == 3 {
				out = append(out, cells[1])
			}
		}
		return out
	}
	g, w := first(got), first(want.String())
	if strings.Join(g, "\n") != strings.Join(w, "\n") {
		t.Errorf("the table is not of this contract and these stores; run the command again\n%q\n%q", g, w)
	}
}

// The contract tells stores apart on real servers.
func TestCommand(t *testing.T) {
	redistest.FindOrSkip(t)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-only", "gorilla, boj"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for check, want := range map[string]string{
		"value/round-trip": "yes", "value/delete": "yes", "expiry/ends": "yes", "lock/excludes": "–", "clear/own-only": "–",
		"update/lost-update": "**no**", "update/logout-race": "**no**", "failure/one-server-dies": "**no**", "failure/recovers": "yes",
	} {
		row := regexp.MustCompile(`(?m)^\| ` + check + `: [^|]* \| (\S+)`).FindStringSubmatch(out.String())
		if row == nil || row[1] != want {
			t.Errorf("%s: %q, want %s", check, row, want)
		}
	}
	if err := run(t.Context(), []string{"-only", "no such store"}, &out, io.Discard); err == nil {
		t.Error("no store at all is no error")
	}
}
