package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// mutant is the core with one part broken on purpose. A test that plays the faults must notice.
type mutant struct {
	name  string
	patch []patch
	// row of the matrix, with so many copies, that finds it; or else the test.
	row    string
	copies int
	test   string
	// finds is what the output then says.
	finds string
}

// patch replaces a piece of the core's source, every time that it occurs.
type patch struct{ file, old, new string }

// mutantSource is added to the core of the mutants' build: all mutants share one build, and the environment picks one.
const mutantSource = `package sessionring

import "os"

var mutant = os.Getenv("SESSIONRING_MUTANT")

func ifMutant(name, broken, whole string) string {
	if mutant == name {
		return broken
	}
	return whole
}
`

// early makes a function return at once.
func early(file, signature, name, values string) patch {
	return patch{file, signature + " {\n", fmt.Sprintf("%s {\n\tif mutant == %q {\n\t\treturn %s\n\t}\n", signature, name, values)}
}

// inLua replaces a piece of a script.
func inLua(name, old, broken string) patch {
	return patch{"stamp.go", old, "`+ifMutant(\"" + name + "\", `" + broken + "`, `" + old + "`)+`"}
}

var mutants = []mutant{
	{name: "stamps ignored", row: "old-data", copies: 2, finds: `[1-9]\d* stale|[1-9]\d* are behind`,
		patch: []patch{early("stamp.go", "func (s stamp) newer(t stamp) bool", "stamps ignored", "s.dead && !t.dead")}},
	{name: "writes unguarded", row: "late-writes", copies: 2, finds: `late bytes put [1-9]\d* sessions back in time`,
		patch: []patch{inLua("writes unguarded", " if v>string.sub(ARGV[1],1,27) then return s end\n", "")}},
	{name: "repair off", row: "evicted", copies: 2, finds: `no read repaired anything`,
		patch: []patch{early("repair.go", "func (m *mender) add(id string)", "repair off", "")}},
	{name: "tombstones off", row: "kill", copies: 2, finds: `[1-9]\d* resurrected`,
		patch: []patch{{"stamp.go", "var deleteScript = newScript(1, `",
			"var deleteScript = newScript(1, ifMutant(\"tombstones off\", `do return {redis.call('DEL',KEYS[1],KEYS[2]),0} end `, ``)+`"}}},
	{name: "rejoin off", row: "restart-empty", copies: 2, finds: `[1-9]\d* (lost|stale|hidden)|[1-9]\d* copies are missing`,
		patch: []patch{early("rejoin.go", "func (c *Client) compare(ctx context.Context, v *view, n, src *node, t *tally) error", "rejoin off", "nil")}},
	{name: "lease off", row: "one-rejoins", copies: 2, finds: `brought the node up to date at the same time`,
		patch: []patch{{"rejoin.go", "len(got) != 1 || got[0].null {", "len(got) != 1 || (got[0].null && mutant != \"lease off\") {"}}},
	{name: "hints off", row: "hang", copies: 2, finds: `[1-9]\d* are behind|[1-9]\d* stand where no owner is|[1-9]\d* copies are missing`,
		patch: []patch{
			early("write.go", "func (f *fan) appendHints(b []byte, t *try, n int) ([]byte, int)", "hints off", "b, n"),
			early("write.go", "func (c *Client) leaveHints(f *fan)", "hints off", ""),
		}},
	{name: "stand-ins kept", row: "hang", copies: 2, finds: `[1-9]\d* (stand where no owner is|sessions wait for it)`,
		patch: []patch{inLua("stand-ins kept", "redis.call('DEL',KEYS[1],KEYS[2]) return 1 end", "return 1 end")}},
	{name: "returning nodes believed", row: "old-data", copies: 1, finds: `[1-9]\d* (stale|resurrected)`,
		patch: []patch{{"fan.go", "s == StateUp || s == StateSuspect", "(s == StateUp || s == StateSuspect || mutant == \"returning nodes believed\")"}}},
	{name: "locks not exclusive", test: "TestLocks", finds: `two held one lock|locks were lost`,
		patch: []patch{{"lock.go", "return err == nil && !r[0].null, err", "return err == nil && (!r[0].null || mutant == \"locks not exclusive\"), err"}}},
}

// TestMutants breaks the core on purpose, one part at a time, and demands that the faults bring it to light.
func TestMutants(t *testing.T) {
	redistest.FindOrSkip(t)
	if env("SESSIONRING_MUTANT") != "" {
		t.Skip("this is one of the mutants")
	}
	t.Parallel()
	program := buildMutants(t)
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		if out, err := runMutant(t, program, mutant{name: "none", row: "kill", copies: 2}); err != nil {
			t.Errorf("the mutants' build with nothing broken: %v\n%s", err, out)
		}
	})
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			out, err := runMutant(t, program, m)
			if err == nil {
				t.Fatalf("nothing noticed:\n%s", out)
			}
			if !regexp.MustCompile(m.finds).MatchString(out) {
				t.Errorf("it failed (%v), but not with %q:\n%s", err, m.finds, out)
			}
		})
	}
}

// runMutant plays the row that should find the mutant.
func runMutant(t *testing.T, program string, m mutant) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	run := "^" + m.test + "$"
	if m.row != "" {
		run = fmt.Sprintf("^TestMatrix$/^copies=%d$", m.copies)
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", run, "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "SESSIONRING_MUTANT="+m.name, "SESSIONRING_ROW="+m.row, "SESSIONRING_FULL=", "SESSIONRING_FIGURES=")
	if len(m.patch) > 0 { // what is broken will not mend with time
		cmd.Env = append(cmd.Env, "SESSIONRING_RECOVERY=8s")
	}
	b, err := cmd.CombinedOutput()
	var told []string
	for line := range strings.Lines(string(b)) { // not the logs of the servers
		if strings.Contains(line, "_test.go:") || strings.HasPrefix(strings.TrimSpace(line), "---") {
			told = append(told, line[:min(len(line), 400)])
		}
	}
	return strings.Join(told, "\n"), err
}

// buildMutants builds this package's tests over a core that holds all mutants.
func buildMutants(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sources := map[string]string{"mutant.go": mutantSource}
	for _, m := range mutants {
		for _, p := range m.patch {
			if sources[p.file] == "" {
				b, err := os.ReadFile(filepath.Join(root, p.file))
				if err != nil {
					t.Fatal(err)
				}
				sources[p.file] = string(b)
			}
			if !strings.Contains(sources[p.file], p.old) {
				t.Fatalf("the mutant %q no longer applies: %s holds no %q", m.name, p.file, p.old)
			}
			sources[p.file] = strings.ReplaceAll(sources[p.file], p.old, p.new)
		}
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for name, text := range sources {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, name)] = file
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "mutants.test")
	args := []string{"test", "-c", "-o", program, "-overlay", list}
	if raceDetector {
		args = append(args, "-race") // what the other packages were built with already
	}
	cmd := exec.Command("go", append(args, ".")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the mutants: %v\n%s", err, out)
	}
	return program
}
