package redistest

import (
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// holder is the descriptors of bound sockets that do not listen. Linux lets a
// listener that sets SO_REUSEADDR, as redis-server and Go do, bind the same
// port beside such a socket if that has the option too, but neither picks the
// port for an outgoing connection nor lets a bind without the option have it.
type holder []int

func (h holder) close() {
	for _, fd := range h {
		syscall.Close(fd)
	}
}

func holdPort(ip net.IP, port int) (holder, error) {
	var (
		family = syscall.AF_INET6
		sa     syscall.Sockaddr
	)
	if v4 := ip.To4(); v4 != nil {
		family = syscall.AF_INET
		sa = &syscall.SockaddrInet4{Port: port, Addr: [4]byte(v4)}
	} else {
		sa = &syscall.SockaddrInet6{Port: port, Addr: [16]byte(ip.To16())}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Bound without the option first: this fails if anybody else, another test
	// binary's holder included, has the port.
	err = os.NewSyscallError("bind", syscall.Bind(fd, sa))
	if err == nil {
		err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	}
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return holder{fd}, nil
}

func portRange() (low, high int) {
	low, high = lowestPort, highestPort
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return low, high
	}
	if f := strings.Fields(string(b)); len(f) == 2 {
		// A machine that gives nearly all ports to outgoing connections leaves
		// no range below; the holders still protect what is chosen.
		if first, err := strconv.Atoi(f[0]); err == nil && first > low+2*busOffset {
			high = min(high, first)
		}
	}
	return low, high
}
