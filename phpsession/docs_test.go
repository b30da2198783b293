package phpsession_test

import (
	"os"
	"strings"
	"testing"
)

// The Go of docs/php-payloads.md is part of the examples, which are run.
func TestDocsAreExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/php-payloads.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no Go in the page")
	}
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```")
		if !strings.Contains(unindent(string(code)), unindent(b)) {
			t.Errorf("not in example_test.go:\n%s", b)
		}
	}
}

func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}
