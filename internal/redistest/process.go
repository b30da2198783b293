package redistest

import (
	"os"
	"os/exec"
	"runtime"
)

// process is a started child. One goroutine starts it, waits for it and ends
// with it; done is closed once the child is reaped.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, valid once done is closed
}

func startProcess(binary string, args []string, dir string, out *os.File) (*process, error) {
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	cmd.Stdout = out
	cmd.Stderr = out
	cmd.SysProcAttr = childAttr()
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel's parent death signal is tied to the thread that forked,
		// not to the process, so that thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the child and everything that it forked, and waits for it.
func (p *process) kill() {
	if !p.exited() {
		killGroup(p)
	}
	<-p.done
}
