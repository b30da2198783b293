package redistest

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// listenDeaf listens with a full queue: Linux then drops further SYNs, as a
// network does that loses every packet.
func listenDeaf(addr string) (*listener, error) {
	l, err := listen(addr, nil)
	if err != nil {
		return nil, err
	}
	raw, err := l.Listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		l.close()
		return nil, err
	}
	var sysErr error
	// A second listen(2) only changes the length of the queue.
	err = raw.Control(func(fd uintptr) { sysErr = syscall.Listen(int(fd), 0) })
	if err = errors.Join(err, sysErr); err != nil {
		l.close()
		return nil, err
	}
	// A queue of length 0 holds one connection, maybe two.
	for range 8 {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return l, nil
		}
		if err != nil {
			l.close()
			return nil, err
		}
		l.fill = append(l.fill, c)
	}
	l.close()
	return nil, errors.New("redistest: the kernel goes on accepting")
}
