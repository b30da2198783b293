//go:build !linux

package redistest

import (
	"net"
	"strconv"
)

// holder holds nothing: elsewhere a port is only known to have been free.
type holder []int

func (h holder) close() {}

func holdPort(ip net.IP, port int) (holder, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return nil, l.Close()
}

func portRange() (low, high int) { return lowestPort, highestPort }
