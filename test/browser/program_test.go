package browser

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// supervise runs a program until standard input ends, also when the test is killed.
const supervise = `"$@" & pid=$!; exec >&-; read -r line; kill -TERM $pid; wait $pid`

// build builds the program in a directory, once a test.
func build(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build in %s: %v\n%s", dir, err, out)
	}
	return program
}

// start runs a program until the test ends, and returns the first line that it prints.
func start(t *testing.T, program string, args ...string) (firstLine string) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", supervise, "sh", program}, args...)...)
	var log syncBuffer
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make(chan string, 1)
	var reader sync.WaitGroup
	reader.Go(func() { // ends with the program
		lines := bufio.NewScanner(stdout)
		if lines.Scan() {
			line <- lines.Text()
		}
		close(line)
		for lines.Scan() {
		}
	})
	t.Cleanup(func() {
		stuck := time.AfterFunc(stepFor, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		_ = stdin.Close()
		reader.Wait()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s did not end well: %v", filepath.Base(program), err)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", args, log.String())
		}
	})
	select {
	case l, ok := <-line:
		if !ok {
			t.Fatalf("%s ended at once: %s", args, log.String())
		}
		return l
	case <-time.After(2 * stepFor):
		t.Fatalf("%s printed nothing: %s", args, log.String())
	}
	return ""
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// root is the repository's root.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "go.work"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
