package phpweb

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// TestDocs holds the documentation against the files that the tests here run: each snippet is a part of one.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/share-with-php.md")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]string{}
	for _, pattern := range []string{"*.go", "pages/*.php", "*.ini"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			kind := strings.TrimPrefix(filepath.Ext(name), ".")
			files[kind] = append(files[kind], string(text))
		}
	}
	snippets := fence.FindAllStringSubmatch(string(doc), -1)
	if len(snippets) < 6 {
		t.Errorf("only %d snippets found", len(snippets))
	}
	for _, m := range snippets {
		kind, body := m[1], m[2]
		found := false
		for _, text := range files[kind] {
			found = found || strings.Contains(text, body)
		}
		if !found {
			t.Errorf("no tested file holds this snippet (%s):\n%s", kind, body)
		}
	}
}
