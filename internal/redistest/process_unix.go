//go:build unix

package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

func killGroup(p *process) {
	// A stopped process dies of SIGKILL too. Its group holds the children that
	// save its data in the background.
	syscall.Kill(-p.pid(), syscall.SIGKILL)
}

// stop sends SIGSTOP and returns once the process really stands still.
func (p *process) stop() error {
	if err := syscall.Kill(-p.pid(), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("redistest: SIGSTOP: %w", err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		stopped, err := processStopped(p.pid())
		if stopped || errors.Is(err, os.ErrNotExist) {
			return nil // without /proc the signal must do
		}
		if err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("redistest: process does not stop")
		}
	}
}

func (p *process) cont() error {
	if err := syscall.Kill(-p.pid(), syscall.SIGCONT); err != nil {
		return fmt.Errorf("redistest: SIGCONT: %w", err)
	}
	return nil
}

// processStopped reads the state letter of proc(5), the word after the name in
// parentheses.
func processStopped(pid int) (bool, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false, err
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || i+2 >= len(b) {
		return false, errors.New("redistest: unreadable process state")
	}
	return b[i+2] == 'T', nil
}
