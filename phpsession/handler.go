package phpsession

import (
	"fmt"
	"strings"
)

// Handler names one of PHP's session serializers, the value of PHP's
// session.serialize_handler. The zero value is [PHP], as in php.ini.
type Handler string

// The serializers that PHP and the igbinary extension bring.
const (
	// PHP joins key|value pairs. It cannot hold integer keys or keys with '|'.
	PHP Handler = "php"
	// PHPBinary joins length byte, key, value. It cannot hold integer keys or
	// keys of more than 127 bytes.
	PHPBinary Handler = "php_binary"
	// PHPSerialize is one serialize() array. It holds every key.
	PHPSerialize Handler = "php_serialize"
	// Igbinary is one igbinary_serialize() array. It holds every key, but PHP
	// ignores integer keys when it reads.
	Igbinary Handler = "igbinary"
)

// Handlers returns all known handlers.
func Handlers() []Handler { return []Handler{PHP, PHPBinary, PHPSerialize, Igbinary} }

// ParseHandler reads the name of a handler as PHP does: case does not matter.
// Any other name gives an error that matches [ErrUnknownHandler].
func ParseHandler(name string) (Handler, error) {
	for _, h := range Handlers() {
		if strings.EqualFold(name, string(h)) {
			return h, nil
		}
	}
	return "", fmt.Errorf("%w %q: want php, php_binary, php_serialize or igbinary", ErrUnknownHandler, name)
}

// String returns PHP's name of the handler.
func (h Handler) String() string { return string(h.orDefault()) }

func (h Handler) orDefault() Handler {
	if h == "" {
		return PHP
	}
	return h
}

func (h Handler) check() (Handler, error) {
	switch h = h.orDefault(); h {
	case PHP, PHPBinary, PHPSerialize, Igbinary:
		return h, nil
	}
	return ParseHandler(string(h))
}

// Detect tells which handler the bytes look like. Bytes that one handler
// decodes in full are that handler's; otherwise the beginning decides, so a
// truncated payload is still recognised. Empty data is valid for every
// handler and looks like none.
//
// It is a guess for error messages and for tools: a session is read with the
// handler that PHP is configured with.
func Detect(data []byte, opts ...Option) (Handler, bool) {
	if len(data) == 0 {
		return "", false
	}
	if h, ok := decodesAs(string(data), newConfig(opts)); ok {
		return h, true
	}
	return sniff(string(data))
}

// decodesAs finds a handler that decodes all of in.
func decodesAs(in string, c config) (Handler, bool) {
	for _, h := range []Handler{Igbinary, PHPSerialize, PHP, PHPBinary} {
		if _, err := decode(h, in, c); err == nil && in != "" {
			return h, true
		}
	}
	return "", false
}

// sniff looks at the first bytes only.
func sniff(in string) (Handler, bool) {
	switch {
	case len(in) >= 5 && (in[:4] == igHeader || in[:4] == igHeaderV1) && isIgArray(in[4]):
		return Igbinary, true
	case startsArray(in):
		return PHPSerialize, true
	}
	if n := int(in[0]) + 1; n <= 0x20 && n < len(in) && startsValue(in[n:]) {
		return PHPBinary, true
	}
	if i := strings.IndexByte(in, '|'); i >= 0 && i+1 < len(in) && startsValue(in[i+1:]) {
		return PHP, true
	}
	return "", false
}

func isIgArray(t byte) bool { return t >= igArray8 && t <= igArray32 }

// startsArray reports whether s starts like a:12:{ .
func startsArray(s string) bool {
	rest, ok := strings.CutPrefix(s, "a:")
	if !ok {
		return false
	}
	digits := strings.TrimLeft(rest, "0123456789")
	return len(digits) < len(rest) && strings.HasPrefix(digits, ":{")
}

// startsValue reports whether s starts like a value of PHP's serialize().
func startsValue(s string) bool {
	if strings.HasPrefix(s, "N;") {
		return true
	}
	if len(s) < 3 || s[1] != ':' {
		return false
	}
	c := s[2]
	switch s[0] {
	case 'b', 's', 'S', 'a', 'O', 'C', 'E', 'r', 'R':
		return c >= '0' && c <= '9'
	case 'i':
		return c >= '0' && c <= '9' || c == '-' || c == '+'
	case 'd':
		return c >= '0' && c <= '9' || strings.IndexByte("-+.IN", c) >= 0
	}
	return false
}
