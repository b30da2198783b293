//go:build unix && !linux

package phptest

import "syscall"

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func groupAttr() *syscall.SysProcAttr { return childAttr() }

func killGroup(pid int) { syscall.Kill(-pid, syscall.SIGKILL) }
