package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Examples of docs/tool.md that need no server print what the page shows.
func TestDocumentedOutput(t *testing.T) {
	page, err := os.ReadFile("../../docs/tool.md")
	if err != nil {
		t.Skip("no docs: not in the repository")
	}
	binary := filepath.Join(t.TempDir(), "sessionring")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checked := 0
	for _, example := range examples(string(page)) {
		command, want, _ := strings.Cut(example, "\n")
		if !needsNoServer(command) {
			continue
		}
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"), savePathVariable+"=")
		out, _ := cmd.CombinedOutput() // some examples fail on purpose
		if got := trimLines(string(out)); got != trimLines(want) {
			t.Errorf("%s\nprints\n%s\nbut the page has\n%s", command, got, trimLines(want))
		}
		checked++
	}
	if checked < 9 {
		t.Errorf("only %d examples found", checked)
	}
}

// examples are the command lines of the page's consoles with what follows each.
func examples(page string) []string {
	var out []string
	for i, block := range strings.Split(page, "```") {
		if body, ok := strings.CutPrefix(block, "console\n"); ok && i%2 == 1 {
			out = append(out, strings.Split("\n"+body, "\n$ ")[1:]...)
		}
	}
	return out
}

func needsNoServer(command string) bool {
	if strings.Contains(command, "@save_path") || strings.Contains(command, "<session.json") {
		return false
	}
	for _, name := range []string{"inspect", "locate", "plan", "decode", "encode"} {
		if strings.Contains(command, "sessionring "+name+" ") || strings.HasSuffix(command, "sessionring "+name) {
			return true
		}
	}
	return false
}

// trimLines drops blanks at the ends of lines and blank lines at the end.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
