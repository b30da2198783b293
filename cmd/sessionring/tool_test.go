package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) {
	redis.SetLogger(redisLogger{slog.New(slog.DiscardHandler)}) // as main does
	os.Exit(m.Run())
}

// tool runs command lines without a process.
type tool struct {
	t   *testing.T
	env map[string]string
	in  string
}

func newTool(t *testing.T) *tool { return &tool{t: t, env: map[string]string{}} }

// stdin gives the next command lines something to read.
func (x *tool) stdin(s string) *tool { y := *x; y.in = s; return &y }

type result struct {
	t        *testing.T
	code     int
	out, err string
}

func (x *tool) run(args ...string) result {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return x.runContext(ctx, args...)
}

func (x *tool) runContext(ctx context.Context, args ...string) result {
	x.t.Helper()
	var out, errs bytes.Buffer
	level := new(slog.LevelVar)
	level.Set(levelSilent)
	code := run(ctx, args, streams{
		in: strings.NewReader(x.in), out: &out, err: &errs,
		env:    func(k string) (string, bool) { v, ok := x.env[k]; return v, ok },
		logger: slog.New(slog.NewTextHandler(&errs, &slog.HandlerOptions{Level: level})), level: level,
	})
	r := result{x.t, code, out.String(), errs.String()}
	raw := slices.Contains(args, "--raw") || (len(args) > 0 && args[0] == "encode") // bytes as they are
	if strings.Contains(r.out+r.err, "\x1b") && !raw {
		x.t.Errorf("%v: colours although no terminal listens: %q", args, r.out+r.err)
	}
	return r
}

// exits checks the exit code and, where it is not 0, that nothing but messages was printed.
func (r result) exits(code int) result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.err)
	}
	return r
}

// says checks that standard error holds every text.
func (r result) says(texts ...string) result {
	r.t.Helper()
	for _, s := range texts {
		if !strings.Contains(r.err, s) {
			r.t.Errorf("standard error lacks %q:\n%s", s, r.err)
		}
	}
	return r
}

// hides checks that neither stream holds a text.
func (r result) hides(texts ...string) result {
	r.t.Helper()
	for _, s := range texts {
		if strings.Contains(r.out, s) || strings.Contains(r.err, s) {
			r.t.Errorf("%q is shown:\n%s%s", s, r.out, r.err)
		}
	}
	return r
}

// lines parses standard output as the contract has it: one JSON object a line and nothing else.
func (r result) lines() []map[string]any {
	r.t.Helper()
	var out []map[string]any
	if r.out != "" && !strings.HasSuffix(r.out, "\n") {
		r.t.Fatalf("the last line has no end: %q", r.out)
	}
	for line := range strings.Lines(r.out) {
		var m map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&m); err != nil || m == nil {
			r.t.Fatalf("%q is no JSON object: %v", line, err)
		}
		if d.More() {
			r.t.Fatalf("more than one object on a line: %q", line)
		}
		out = append(out, m)
	}
	return out
}

// one is the only line.
func (r result) one() map[string]any {
	r.t.Helper()
	lines := r.lines()
	if len(lines) != 1 {
		r.t.Fatalf("%d lines, want one:\n%s%s", len(lines), r.out, r.err)
	}
	return lines[0]
}

// hasFields checks that an object has exactly these fields.
func hasFields(t *testing.T, m map[string]any, names ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(m))
	want := slices.Sorted(slices.Values(names))
	if !slices.Equal(got, want) {
		t.Errorf("fields\n%v, want\n%v", got, want)
	}
}

func num(t *testing.T, m map[string]any, name string) float64 {
	t.Helper()
	n, ok := m[name].(json.Number)
	if !ok {
		t.Fatalf("%s is %T (%v), want a number", name, m[name], m[name])
	}
	f, err := n.Float64()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func isJSON(t *testing.T, what string, got any, want string) {
	t.Helper()
	b, err := encodeJSON(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != want {
		t.Errorf("%s is %s, want %s", what, b, want)
	}
}

func TestUsage(t *testing.T) {
	x := newTool(t)
	for _, c := range []struct {
		args []string
		says []string
	}{
		{nil, []string{"no command", "--help"}},
		{[]string{"inspekt"}, []string{`did you mean "inspect"`}},
		{[]string{"inspect", "--jsn"}, []string{`did you mean "--json"`, "sessionring inspect --help"}},
		{[]string{"inspect"}, []string{"no save_path", "$SESSIONRING_SAVE_PATH"}},
		{[]string{"inspect", "tcp://h:1", "tcp://h:2"}, []string{"unexpected argument"}},
		{[]string{"tcp://h:1"}, []string{"a command comes first"}},
		{[]string{"locate", "tcp://h:1"}, []string{"no id"}},
		{[]string{"locate", "tcp://h:1", "--copies", "x", "abcd"}, []string{"--copies"}},
		{[]string{"locate", "tcp://h:1", "--copies", "-1", "abcd"}, []string{"--copies"}},
		{[]string{"locate", "tcp://h:1", "--distribution", "random", "abcd"}, []string{"--distribution", "consistent"}},
		{[]string{"locate", "tcp://h:1,", "tcp://h:2", "abcd"}, []string{"quotes"}},
		{[]string{"locate", "tcp://h:1", "-", "-"}, []string{"only once"}},
		{[]string{"plan", "tcp://h:1"}, []string{"two save_paths"}},
		{[]string{"plan", "tcp://h:1", "tcp://h:1?wieght=2"}, []string{"weight"}},
		{[]string{"get", "tcp://h:1"}, []string{"no id"}},
		{[]string{"get", "tcp://h:1", "--raw", "a", "b"}, []string{"exactly one"}},
		{[]string{"get", "tcp://h:1", "-x"}, []string{"unknown flag"}},
		{[]string{"set", "tcp://h:1", "a", "b"}, []string{"one id"}},
		{[]string{"set", "tcp://h:1", "a", "--ttl", "0"}, []string{"above 0"}},
		{[]string{"set", "tcp://h:1", "a", "--ttl", "soon"}, []string{"90m"}},
		{[]string{"set", "tcp://h:1", "a", "--ttl", "9999999999999"}, []string{"at most"}},
		{[]string{"set", "tcp://h:1", "a b"}, []string{"bad session id"}},
		{[]string{"ls", "tcp://h:1", "--node", "1"}, []string{"--node must be from 0 to 0"}},
		{[]string{"decode", "--handler", "json"}, []string{"igbinary"}},
		{[]string{"encode", "--handler", "json"}, []string{"igbinary"}},
		{[]string{"get", "tcp://h:1", "a", "--deadline", "-1s"}, []string{"--deadline"}},
		{[]string{"inspect", "@/no/such/file"}, []string{"/no/such/file", "no such file"}},
	} {
		r := x.run(c.args...).exits(exitUsage).says(c.says...)
		if r.out != "" {
			t.Errorf("%v prints to standard output: %s", c.args, r.out)
		}
	}
}

func TestUsageErrorsHideArguments(t *testing.T) {
	x := newTool(t)
	path := "tcp://h:1?auth=geheim"
	for _, args := range [][]string{
		{path}, {"version", path}, {"inspect", path, path}, {"inspect", "--copies=" + path}, {"get", path, "--deadline", path},
		{"get", path, "--deadline=" + path}, {"decode", path}, {"get", path, path}, {"plan", path, path, path},
	} {
		x.run(args...).exits(exitUsage).hides("geheim")
	}
}

func TestHelp(t *testing.T) {
	x := newTool(t)
	all := x.run("--help").exits(exitDone)
	if all.err != "" {
		t.Errorf("--help writes to standard error: %s", all.err)
	}
	for _, name := range []string{"inspect", "locate", "plan", "get", "set", "ls", "rm", "explain", "decode", "encode", "status", "doctor", "version"} {
		if !strings.Contains(all.out, "\n  "+name) {
			t.Errorf("--help does not list %s", name)
		}
		r := x.run(name, "--help").exits(exitDone)
		_, examples, ok := strings.Cut(r.out, "Examples:")
		if !ok || strings.Count(strings.Split(examples, "\n\n")[1], "sessionring "+name) < 2 {
			t.Errorf("%s --help has no two examples:\n%s", name, r.out)
		}
		if r.err != "" {
			t.Errorf("%s --help writes to standard error: %s", name, r.err)
		}
	}
}

func TestVersion(t *testing.T) {
	x := newTool(t)
	m := x.run("version", "--json").exits(exitDone).one()
	for _, f := range []string{"version", "go", "platform"} {
		if s, _ := m[f].(string); s == "" {
			t.Errorf("%s is %v", f, m[f])
		}
	}
	if r := x.run("version").exits(exitDone); !strings.HasPrefix(r.out, "sessionring ") {
		t.Errorf("version prints %q", r.out)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	newTool(t).runContext(ctx, "get", "tcp://127.0.0.1:1", "abcd").exits(exitFailed).says("interrupted")
}
