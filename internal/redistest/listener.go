package redistest

import (
	"errors"
	"net"
	"time"
)

// listener accepts connections until it is closed. A nil one is closed.
type listener struct {
	net.Listener
	handle func(net.Conn)
	fill   []net.Conn    // what occupies a deaf listener's queue
	done   chan struct{} // nil unless serving
}

func listen(addr string, handle func(net.Conn)) (*listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: l, handle: handle}, nil
}

// serve begins to accept, in a goroutine that close waits for.
func (l *listener) serve() {
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		for {
			c, err := l.Accept()
			if err == nil {
				l.handle(c)
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, or a client that left at once.
			time.Sleep(time.Millisecond)
		}
	}()
}

func (l *listener) close() {
	if l == nil {
		return
	}
	l.Close()
	if l.done != nil {
		<-l.done
	}
	for _, c := range l.fill {
		closeConn(c, true)
	}
}
