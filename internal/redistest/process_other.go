//go:build !unix

package redistest

import (
	"errors"
	"syscall"
)

func childAttr() *syscall.SysProcAttr { return nil }

func killGroup(p *process) { p.cmd.Process.Kill() }

// errUnsupported is what a fault returns on a system that has no such signal.
var errUnsupported = errors.New("redistest: not supported on this system")

func (p *process) stop() error { return errUnsupported }

func (p *process) cont() error { return errUnsupported }
