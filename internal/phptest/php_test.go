//go:build unix

package phptest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

func TestMain(m *testing.M) {
	if os.Getenv("PHPTEST_ORPHAN") != "" {
		orphan()
		return
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	Require(t)
	out := MustRun(t, Script{
		Code: `echo $argv[1], getenv("COLOUR"), stream_get_contents(STDIN), ini_get("session.save_path"), ini_get("memory_limit");`,
		INI: map[string]string{
			"session.save_path": `tcp://h:1?auth=a"b;\c&weight=2|${x}`,
			"memory_limit":      "77M",
		},
		Args: []string{"<arg>"}, Env: []string{"COLOUR=<blue>"}, Stdin: strings.NewReader("<in>"),
	})
	if want := `<arg><blue><in>tcp://h:1?auth=a"b;\c&weight=2|${x}77M`; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	out = MustRun(t, Script{Code: `<?php echo ini_get("session.name");`, INI: map[string]string{"session.name": `it's "a\b"`}})
	if out != `it's "a\b"` {
		t.Errorf("setting with both quotes read as %q", out)
	}
}

func TestRunReportsFailures(t *testing.T) {
	Require(t)
	ctx := t.Context()
	stdout, stderr, err := Run(ctx, Script{Code: `echo "so far"; echo $undefined; exit(7);`})
	var run *RunError
	var exit *exec.ExitError
	if !errors.As(err, &run) || !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("status 7 is %v", err)
	}
	if stdout != "so far" || !strings.Contains(stderr, "undefined") || !strings.Contains(run.Stderr, "undefined") {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, _, err := Run(short, Script{Code: `sleep(60);`}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("script past its time: %v", err)
	}
	if _, _, err := Run(ctx, Script{INI: map[string]string{"a": "1\n2"}}); err == nil {
		t.Error("a setting of two lines")
	}
	t.Setenv("PHP", "no-such-php")
	if _, _, err := Run(ctx, Script{}); !errors.Is(err, ErrNoPHP) {
		t.Errorf("missing program: %v", err)
	}
	t.Setenv("PHP", "false")
	if _, err := Find(ctx); !errors.Is(err, ErrNoPHP) {
		t.Errorf("program without the extension: %v", err)
	}
}

func TestSessionsReachRedis(t *testing.T) {
	Require(t)
	node := redistest.Node(t, redistest.Options{Password: "p w"})
	MustRun(t, Script{
		Code: `session_id("abc"); session_start(); $_SESSION["n"] = 1; session_write_close();`,
		INI:  SessionINI(node.SavePath(), "session.serialize_handler", "php_serialize"),
	})
	v, err := node.Do("GET", "PHPREDIS_SESSION:abc")
	if err != nil || v != `a:1:{s:1:"n";i:1;}` {
		t.Errorf("stored %v, %v", v, err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(b)
}

func TestServe(t *testing.T) {
	Require(t)
	node := redistest.Node(t)
	s := Serve(t, App{
		Code: `
			if ($_SERVER["REQUEST_URI"] == "/warn") { echo $undefined; exit; }
			session_id("abc");
			session_start();
			$_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1;
			usleep(1000);
			echo getmypid(), " ", $_SESSION["n"], " ", getenv("COLOUR");`,
		INI: SessionINI(node.SavePath(), "redis.session.locking_enabled", "1",
			"redis.session.lock_retries", "-1", "redis.session.lock_wait_time", "2000"),
		Env: []string{"COLOUR=blue"}, Workers: 4,
	})
	const requests = 40
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		workers = make(map[string]bool)
	)
	for i := range 8 {
		wg.Go(func() {
			for range requests / 8 {
				resp, err := http.Get(fmt.Sprintf("%s/any/%d", s.URL, i))
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				f := strings.Fields(string(b))
				if len(f) != 3 || f[2] != "blue" {
					t.Errorf("page %q", b)
					return
				}
				mu.Lock()
				workers[f[0]] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// Locks of several workers: no increment is lost.
	if f := strings.Fields(get(t, s.URL)); f[1] != fmt.Sprint(requests+1) {
		t.Errorf("counted %s, want %d", f[1], requests+1)
	}
	if len(workers) < 2 {
		t.Errorf("%d workers answered", len(workers))
	}
	if p := s.Problems(); len(p) != 0 {
		t.Errorf("problems: %q", p)
	}
	get(t, s.URL+"/warn")
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "undefined") {
		t.Errorf("problems after a warning: %q", p)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(s.URL); err == nil {
		t.Error("answers after Stop")
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("directory is still there: %v", err)
	}
}

func TestStartReportsFailures(t *testing.T) {
	Require(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("PHP", "false")
	if _, err := Start(t.Context(), App{}); err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("program that does not serve: %v", err)
	}
	if _, err := Start(t.Context(), App{INI: map[string]string{"a": "\n"}}); err == nil {
		t.Error("bad setting")
	}
	if left, err := os.ReadDir(tmp); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// orphan is a program that starts what a test starts, and is then killed.
func orphan() {
	s, err := Start(context.Background(), App{Code: `echo getmypid();`, Workers: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.URL)
	os.Stdout.Close()
	select {}
}

func TestNothingOutlivesAKilledTest(t *testing.T) {
	Require(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PHPTEST_ORPHAN=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(line)
	get(t, url)
	cmd.Process.Kill()
	cmd.Wait()
	// Any worker left would answer.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			return
		}
		resp.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("PHP still answers")
		}
	}
}
