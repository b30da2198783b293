package redistest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ReplyError is an error reply of the server, without the leading '-'.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// Code returns the first word of the reply, such as "LOADING" or "ERR".
func (e ReplyError) Code() string {
	code, _, _ := strings.Cut(string(e), " ")
	return code
}

// Conn is one connection that speaks RESP2 as far as tests need it. It is not
// safe for concurrent use.
type Conn struct {
	nc net.Conn
	r  *bufio.Reader
}

// Dial opens a connection; network is "tcp" or "unix".
func Dial(ctx context.Context, network, address string) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return NewConn(nc), nil
}

// NewConn speaks RESP over a connection made elsewhere, a TLS one for example.
func NewConn(nc net.Conn) *Conn {
	return &Conn{nc: nc, r: bufio.NewReader(nc)}
}

// Close closes the connection.
func (c *Conn) Close() error { return c.nc.Close() }

// NetConn returns the connection underneath.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Do sends one command and reads its reply: a string for simple and bulk
// strings, int64, nil, or []any, in which an error reply is a value. An error
// reply to the command itself is returned as a ReplyError. Arguments may be
// strings, []byte, integers, and anything else that fmt prints as meant.
func (c *Conn) Do(ctx context.Context, args ...any) (any, error) {
	if err := c.Send(ctx, args...); err != nil {
		return nil, err
	}
	return c.Receive(ctx)
}

// Send writes one command without waiting for its reply.
func (c *Conn) Send(ctx context.Context, args ...any) error {
	release := c.watch(ctx)
	defer release()
	_, err := c.nc.Write(appendCommand(nil, args))
	return orContext(ctx, err)
}

// Receive reads one reply.
func (c *Conn) Receive(ctx context.Context) (any, error) {
	release := c.watch(ctx)
	defer release()
	v, err := readReply(c.r)
	if err != nil {
		return nil, orContext(ctx, err)
	}
	if e, ok := v.(ReplyError); ok {
		return nil, e
	}
	return v, nil
}

// watch makes the end of ctx interrupt reads and writes.
func (c *Conn) watch(ctx context.Context) (release func()) {
	deadline, _ := ctx.Deadline() // the zero time means none
	c.nc.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// orContext prefers the context's error to the time-out that it caused.
func orContext(ctx context.Context, err error) error {
	var ne net.Error
	if err != nil && errors.As(err, &ne) && ne.Timeout() {
		// The connection's timer may fire a moment before the context's.
		if _, ok := ctx.Deadline(); ok {
			return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
	return err
}

func appendCommand(b []byte, args []any) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		var s []byte
		switch v := a.(type) {
		case string:
			s = []byte(v)
		case []byte:
			s = v
		default:
			s = fmt.Append(nil, v)
		}
		b = fmt.Appendf(b, "$%d\r\n", len(s))
		b = append(b, s...)
		b = append(b, '\r', '\n')
	}
	return b
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(line, "\r\n")), nil
}

func readReply(r *bufio.Reader) (any, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, errors.New("redistest: empty reply line")
	}
	rest := line[1:]
	switch line[0] {
	case '+':
		return rest, nil
	case '-':
		return ReplyError(rest), nil
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return nil, err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case '*':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return nil, err
		}
		list := make([]any, n)
		for i := range list {
			if list[i], err = readReply(r); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("redistest: unknown reply type %q", line[0])
}
