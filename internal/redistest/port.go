package redistest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that the kernel gives to outgoing
// connections. A node that is down would otherwise lose its port to some
// client's connection, and a client that keeps dialling a dead port of that
// range can even end up connected to itself.
const (
	lowestPort  = 10000
	highestPort = 32700
	// busOffset is how far above its port a cluster node's bus listens by
	// default (Redis Cluster specification).
	busOffset = 10000
)

// Port is a TCP port of one loopback address, kept from others, where the
// system allows it, while its owner does not listen there. Until somebody
// listens, connections to it are refused.
type Port struct {
	host string
	port int
	hold holder
}

// ReservePort finds a free port of host, 127.0.0.1 when empty.
func ReservePort(host string) (*Port, error) { return reservePort(host, false) }

// Addr returns host:port.
func (r *Port) Addr() string { return net.JoinHostPort(r.host, strconv.Itoa(r.port)) }

// Release gives the port up. It may be called more than once.
func (r *Port) Release() {
	if r != nil {
		r.hold.close()
		r.hold = nil
	}
}

// reservePort finds a free port of host. With withBus the port busOffset above
// it is free too.
func reservePort(host string, withBus bool) (*Port, error) {
	if host == "" {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("redistest: %q is not a loopback address", host)
	}
	low, high := portRange()
	if withBus {
		high -= busOffset
	}
	var last error
	for range 200 {
		port := low
		if high > low {
			port += rand.IntN(high - low)
		}
		hold, err := holdPort(ip, port)
		if err != nil {
			last = err
			continue
		}
		if withBus {
			bus, err := holdPort(ip, port+busOffset)
			if err != nil {
				hold.close()
				last = err
				continue
			}
			hold = append(hold, bus...)
		}
		return &Port{host: host, port: port, hold: hold}, nil
	}
	return nil, fmt.Errorf("redistest: no free port on %s: %w", host, last)
}
