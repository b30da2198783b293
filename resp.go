package sessionring

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The part of RESP2 that the data path speaks (Redis serialization protocol specification). go-redis makes
// the connection and its handshake; this reads and writes the commands of many requests on it.

// reply is one reply, or one element of an array (arrays are flattened: each command's shape is known).
type reply struct {
	kind byte // '+', '-', ':', '$', '*'
	null bool
	n    int64  // ':' value, '*' count
	b    []byte // '$' and '+' contents
	err  error  // '-'
}

const maxReplyBulk = 512 << 20 // a Redis string's own limit

var errProtocol = errors.New("unexpected bytes from the node: is it a Redis server?")

// respReader reads replies.
type respReader struct {
	br    *bufio.Reader
	small []byte // room for short bulks
}

// readReply appends one reply to dst, an array as a head and its elements, nested ones flattened likewise.
func (r *respReader) readReply(dst []reply) ([]reply, error) {
	return r.read(dst, 0)
}

func (r *respReader) read(dst []reply, depth int) ([]reply, error) {
	line, err := r.line()
	if err != nil {
		return dst, err
	}
	if len(line) == 0 {
		return dst, errProtocol
	}
	rep := reply{kind: line[0]}
	switch line[0] {
	case '+':
		rep.b = append([]byte(nil), line[1:]...)
	case '-':
		rep.err = replyError(line[1:])
	case ':':
		if rep.n, err = strconv.ParseInt(string(line[1:]), 10, 64); err != nil {
			return dst, errProtocol
		}
	case '$':
		n, err := parseLen(line[1:])
		if err != nil {
			return dst, err
		}
		if n < 0 {
			rep.null = true
			break
		}
		if rep.b, err = r.bulk(n); err != nil {
			return dst, err
		}
	case '*':
		n, err := parseLen(line[1:])
		if err != nil || depth > 4 {
			return dst, errProtocol
		}
		rep.n, rep.null = int64(n), n < 0
		dst = append(dst, rep)
		for range n {
			if dst, err = r.read(dst, depth+1); err != nil {
				return dst, err
			}
		}
		return dst, nil
	default:
		return dst, errProtocol
	}
	return append(dst, rep), nil
}

// bulk reads n bytes and CRLF. What is claimed is only allocated as it arrives.
func (r *respReader) bulk(n int) ([]byte, error) {
	const step = 1 << 20
	var b []byte
	if at := len(r.small); n <= cap(r.small)-at {
		r.small = r.small[:at+n]
		b = r.small[at : at+n : at+n]
	} else {
		b = make([]byte, min(n, step))
	}
	for got := 0; ; {
		m, err := io.ReadFull(r.br, b[got:])
		if got += m; err != nil {
			return nil, err
		}
		if got == n {
			break
		}
		b = append(b, make([]byte, min(n-got, len(b)))...)
	}
	crlf, err := r.br.Peek(2)
	if err != nil {
		return nil, err
	}
	if crlf[0] != '\r' || crlf[1] != '\n' {
		return nil, errProtocol
	}
	_, err = r.br.Discard(2)
	return b, err
}

// line reads up to CRLF; valid until the next read.
func (r *respReader) line() ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("%w: a line without end", errProtocol)
		}
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	return line[:len(line)-2], nil
}

func parseLen(b []byte) (int, error) {
	n, err := strconv.Atoi(string(b))
	if err != nil || n < -1 || n > maxReplyBulk {
		return 0, errProtocol
	}
	return n, nil
}

// appendCommand appends a command in RESP.
func appendCommand[T ~string | ~[]byte](dst []byte, args ...T) []byte {
	dst = appendHeader(dst, len(args))
	for _, a := range args {
		dst = appendArg(dst, a)
	}
	return dst
}

func appendHeader(dst []byte, n int) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// appendJoined appends one argument that stands in parts.
func appendJoined(dst []byte, parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, '\r', '\n')
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return append(dst, '\r', '\n')
}

// appendIntArg appends a number as an argument.
func appendIntArg(dst []byte, n int64) []byte {
	var digits [20]byte
	return appendArg(dst, strconv.AppendInt(digits[:0], n, 10))
}

func appendArg[T ~string | ~[]byte](dst []byte, a T) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(len(a)), 10)
	dst = append(dst, '\r', '\n')
	dst = append(dst, a...)
	return append(dst, '\r', '\n')
}
