//go:build unix

package sessionring

import (
	"errors"
	"net"
	"syscall"
)

// socket writes to a connection's socket what it takes without waiting. Go's sockets never block: a full one says
// so. One goroutine at a time may use it.
type socket struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // made once: a write needs no memory
	b   []byte
	n   int
	err error
}

// newSocket gives access to a connection's socket; nil where bytes do not go to it as they are.
func newSocket(nc net.Conn) *socket {
	var raw syscall.RawConn
	switch nc := nc.(type) {
	case *net.TCPConn:
		raw, _ = nc.SyscallConn()
	case *net.UnixConn:
		raw, _ = nc.SyscallConn()
	}
	if raw == nil {
		return nil
	}
	s := &socket{raw: raw}
	s.try = func(fd uintptr) bool {
		for s.n < len(s.b) {
			m, err := syscall.Write(int(fd), s.b[s.n:])
			switch {
			case err == nil:
				s.n += m
			case errors.Is(err, syscall.EINTR):
			case errors.Is(err, syscall.EAGAIN):
				return true
			default:
				s.err = err
				return true
			}
		}
		return true
	}
	return s
}

// write returns how much the socket took.
func (s *socket) write(b []byte) (int, error) {
	s.b, s.n, s.err = b, 0, nil
	err := s.raw.Write(s.try)
	s.b = nil
	if err == nil {
		err = s.err
	}
	return s.n, err
}
