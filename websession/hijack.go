package websession

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
)

// maxHead bounds what is held back of a hand-written response while its end is awaited.
const maxHead = 64 << 10

// carryCookies has the response that a handler writes by hand on a hijacked connection, as for a WebSocket,
// carry the session's new cookie: it goes in with the head, unless the handler put it there. Where there is no
// new cookie the connection is handed on as it is.
func carryCookies(conn net.Conn, rw *bufio.ReadWriter, lines []string, name string) (net.Conn, *bufio.ReadWriter) {
	if len(lines) == 0 {
		return conn, rw
	}
	c := &headConn{Conn: conn, lines: lines, name: name}
	return c, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(c, rw.Writer.Size()))
}

// headConn holds back the head of an HTTP/1 response until it is complete, then adds lines to it.
type headConn struct {
	net.Conn
	lines []string
	name  string

	mu   sync.Mutex
	head []byte
	done bool
}

// NetConn returns the connection underneath, as *tls.Conn does.
func (c *headConn) NetConn() net.Conn { return c.Conn }

// Write sends b, but for a beginning that is held back.
func (c *headConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.done {
		c.mu.Unlock()
		return c.Conn.Write(b)
	}
	defer c.mu.Unlock()
	from := max(0, len(c.head)-3) // what stood before was searched before
	c.head = append(c.head, b...)
	end := bytes.Index(c.head[from:], []byte("\r\n\r\n"))
	if end >= 0 {
		end += from
	}
	isHTTP := bytes.HasPrefix(c.head, []byte("HTTP/1.")[:min(len(c.head), 7)])
	if end < 0 && isHTTP && len(c.head) < maxHead {
		return len(b), nil
	}
	out := c.head
	if end >= 0 && isHTTP {
		out = c.withLines(c.head[:end+2], c.head[end+2:])
	}
	c.done, c.head = true, nil
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close sends what is still held back.
func (c *headConn) Close() error {
	c.mu.Lock()
	if !c.done && len(c.head) > 0 {
		_, _ = c.Conn.Write(c.head)
	}
	c.done, c.head = true, nil
	c.mu.Unlock()
	return c.Conn.Close()
}

// withLines puts Set-Cookie lines behind a head of whole lines, if it has no cookie of the name.
func (c *headConn) withLines(head, rest []byte) []byte {
	out := bytes.Clone(head)
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		key, value, _ := strings.Cut(string(line), ":")
		if textproto.CanonicalMIMEHeaderKey(key) != "Set-Cookie" {
			continue
		}
		if ck, err := http.ParseSetCookie(strings.TrimSpace(value)); err == nil && ck.Name == c.name {
			return append(out, rest...)
		}
	}
	for _, line := range c.lines {
		out = append(append(append(out, "Set-Cookie: "...), line...), "\r\n"...)
	}
	return append(out, rest...)
}
