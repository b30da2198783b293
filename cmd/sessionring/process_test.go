package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// The tool as a user has it: built and run from the repository's root, streams and exit codes of a process.
func TestProcess(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.work")); err != nil {
		t.Skip("no go.work: not in the repository")
	}
	binary := filepath.Join(t.TempDir(), "sessionring")
	build := exec.Command("go", "build", "-o", binary, "./cmd/sessionring")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/sessionring: %v\n%s", err, out)
	}
	start := func(stdin string, args ...string) (cmd *exec.Cmd, out, errs *bytes.Buffer) {
		cmd = exec.Command(binary, args...)
		out, errs = new(bytes.Buffer), new(bytes.Buffer)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), out, errs
		cmd.Env = append(os.Environ(), savePathVariable+"=")
		return cmd, out, errs
	}
	exits := func(want int, cmd *exec.Cmd) {
		t.Helper()
		err := cmd.Run()
		var ee *exec.ExitError
		if err != nil && !errors.As(err, &ee) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%v exits with %d, want %d", cmd.Args[1:], code, want)
		}
	}

	cmd, out, errs := start("", "inspect", "--json", seedPath)
	exits(exitDone, cmd)
	if n := strings.Count(out.String(), "\n"); n != 3 || errs.Len() > 0 {
		t.Errorf("%d lines, messages %q", n, errs)
	}
	cmd, out, errs = start("", "inspect", "tcp://h:1?weight=0")
	exits(exitUsage, cmd)
	if out.Len() > 0 || errs.Len() == 0 {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
	cmd, out, errs = start("", "get", "tcp://"+redistest.DeadAddr(t), "abcd")
	exits(exitFailed, cmd)
	if out.Len() > 0 || !strings.Contains(errs.String(), "no node answered") || strings.Contains(errs.String(), "redis: ") {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}

	// Interrupted, it ends by itself, soon, with exit code 1.
	server := redistest.Node(t)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	cmd, _, errs = start("", "get", "--deadline", "1h", "tcp://"+server.Addr()+"?timeout=3000&read_timeout=3000", "abcd")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // it may be interrupted before it waits, too
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		if code := cmd.ProcessState.ExitCode(); code != exitFailed {
			t.Errorf("interrupted, it exits with %d: %s", code, errs)
		}
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		t.Error("interrupted, it goes on")
	}
}
