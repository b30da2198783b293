//go:build !unix

package redistest

import "syscall"

func childAttr() *syscall.SysProcAttr { return nil }

func killGroup(p *process) { p.cmd.Process.Kill() }

func (p *process) stop() error { return errUnsupported }

func (p *process) cont() error { return errUnsupported }
