//go:build linux

package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("REDISTEST_ORPHAN") != "" {
		orphan()
		return
	}
	os.Exit(m.Run())
}

// orphan is a program that starts what a test starts, and is then killed.
func orphan() {
	running, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	paused, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(paused.Pause(), running.PID(), paused.PID())
	select {}
}

func TestNothingOutlivesAKilledTest(t *testing.T) {
	FindOrSkip(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REDISTEST_ORPHAN=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var pids [2]int
	if _, err := fmt.Sscanf(line, "<nil> %d %d", &pids[0], &pids[1]); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for _, pid := range pids {
		must(t, syscall.Kill(pid, 0))
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	for _, pid := range pids {
		eventually(t, func() bool { return gone(pid) })
	}
}

// gone tells whether a process has ended; whoever adopted it may be slow to
// reap it.
func gone(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// A child must not die with the thread of whoever called Start.
func TestServerOutlivesThreads(t *testing.T) {
	FindOrSkip(t)
	servers := make(chan *Server)
	go func() {
		defer close(servers)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		s, err := Start(context.Background(), Options{})
		if err != nil {
			t.Error(err)
			return
		}
		servers <- s
	}()
	s := <-servers
	if s == nil {
		return
	}
	defer s.Stop()
	<-servers
	for range 50 { // the thread takes a moment to end
		do(t, s, "PING")
		time.Sleep(2 * time.Millisecond)
	}
}
