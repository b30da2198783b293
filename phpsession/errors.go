package phpsession

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Errors to match with errors.Is. Those of decoding come wrapped in a
// [DecodeError], which has the offset.
var (
	// ErrUnknownHandler: the name is none of PHP's session serializers.
	ErrUnknownHandler = errors.New("unknown session serialize handler")
	// ErrSyntax: the bytes are not what the handler writes.
	ErrSyntax = errors.New("malformed session data")
	// ErrTruncated: the bytes end too early. It is also an ErrSyntax.
	ErrTruncated = fmt.Errorf("%w: it ends too early", ErrSyntax)
	// ErrWrongHandler: the bytes look like another handler's. See [WrongHandlerError].
	ErrWrongHandler = errors.New("session data of another serialize handler")
	// ErrNotArray: well-formed, but a session is an array and this is not.
	// [DecodeValue] reads such values.
	ErrNotArray = errors.New("session data is not an array")
	// ErrLimit: depth, size or number of elements is over the limit. See [Limits].
	ErrLimit = errors.New("over the limit")
	// ErrKey: the handler cannot hold the key. See [KeyError].
	ErrKey = errors.New("key cannot be stored by this serialize handler")
	// ErrNoKey: there is no such session variable, element or property.
	ErrNoKey = errors.New("no such key")
	// ErrType: a value does not fit the Go type, or a Go value has no PHP form.
	ErrType = errors.New("type mismatch")
	// ErrJSON: the JSON is not of the form that this package documents.
	ErrJSON = errors.New("malformed session JSON")
	// ErrCompression: the value is compressed in a way that cannot be undone
	// here. See [CompressionError].
	ErrCompression = errors.New("compressed session data")
)

// A DecodeError says where and why bytes could not be decoded. It never
// contains bytes of the session.
type DecodeError struct {
	Handler Handler
	Offset  int    // of the byte that does not fit, from 0
	Key     string // session variable being read, "" if none
	Msg     string
	Err     error // ErrSyntax, ErrTruncated, ErrLimit or ErrNotArray
}

func (e *DecodeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "phpsession: %s, offset %d", e.Handler, e.Offset)
	if e.Key != "" {
		fmt.Fprintf(&b, " (in session variable %s)", quoteKey(e.Key))
	}
	fmt.Fprintf(&b, ": %v: %s", e.Err, e.Msg)
	return b.String()
}

func (e *DecodeError) Unwrap() error { return e.Err }

// A WrongHandlerError means that data does not decode with the handler that
// was asked for, while it looks like another's: PHP's serializer was switched,
// or the two sides are configured differently. PHP would destroy the session.
type WrongHandlerError struct {
	Handler   Handler // asked for
	LooksLike Handler
	Err       error // why it did not decode
}

func (e *WrongHandlerError) Error() string {
	return fmt.Sprintf("phpsession: session data looks like handler %s, not %s (%v)", e.LooksLike, e.Handler, e.Err)
}

// Unwrap makes ErrWrongHandler and the cause match.
func (e *WrongHandlerError) Unwrap() []error { return []error{ErrWrongHandler, e.Err} }

// A KeyError names the keys that a handler cannot hold. PHP drops them, and
// for a '|' in handler php the whole session, with no more than a warning.
type KeyError struct {
	Handler Handler
	Keys    []Key
}

func (e *KeyError) Error() string {
	names := make([]string, 0, 4)
	for i, k := range e.Keys {
		if i == 3 && len(e.Keys) > 4 {
			names = append(names, fmt.Sprintf("and %d more", len(e.Keys)-3))
			break
		}
		names = append(names, keyFault(e.Handler, k))
	}
	return fmt.Sprintf("phpsession: handler %s: %v: %s", e.Handler, ErrKey, strings.Join(names, ", "))
}

func (e *KeyError) Unwrap() error { return ErrKey }

// keyFault says why handler h cannot hold k, "" if it can.
func keyFault(h Handler, k Key) string {
	switch {
	case h != PHP && h != PHPBinary:
		return ""
	case k.IsInt():
		return "integer key " + k.String()
	case h == PHP && strings.IndexByte(k.String(), '|') >= 0:
		return "key " + quoteKey(k.String()) + " contains '|'"
	case h == PHPBinary && len(k.String()) > maxBinaryKey:
		return fmt.Sprintf("key %s has %d bytes, more than %d", quoteKey(k.String()), len(k.String()), maxBinaryKey)
	}
	return ""
}

// A TypeError says which value did not fit which Go type.
type TypeError struct {
	Path string // as in cart[0].price
	PHP  string // PHP type, as int or object of class User
	Go   string // Go type
	Msg  string
}

func (e *TypeError) Error() string {
	var b strings.Builder
	b.WriteString("phpsession: ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	switch {
	case e.PHP != "" && e.Go != "":
		fmt.Fprintf(&b, "cannot put PHP %s into Go %s", e.PHP, e.Go)
	case e.Go != "":
		fmt.Fprintf(&b, "Go %s has no PHP form", e.Go)
	default:
		fmt.Fprintf(&b, "PHP %s", e.PHP)
	}
	if e.Msg != "" {
		b.WriteString(": " + e.Msg)
	}
	return b.String()
}

func (e *TypeError) Unwrap() error { return ErrType }

// quoteKey quotes a key for messages and cuts long ones.
func quoteKey(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// WarningKind tells warnings apart.
type WarningKind int

const (
	// TrailingData: PHP ignores bytes behind the value. They are kept as long
	// as the session is unchanged, and dropped, as by PHP, when it is changed.
	TrailingData WarningKind = iota + 1
	// DuplicateKey: a key occurs twice; as in PHP the last value counts.
	DuplicateKey
	// IntegerRange: an integer does not fit 64 bits and was clamped as PHP does.
	IntegerRange
	// IgnoredKey: PHP ignores this key when it reads the session.
	IgnoredKey
	// UnverifiedReference: a back-reference behind a custom serialised object
	// (C:) whose content only its class can count. The bytes are kept while
	// unchanged; if the session is changed the reference may be meant otherwise.
	UnverifiedReference
)

// A Warning reports something that PHP accepts in silence or with a warning
// and that whoever writes the session back should know.
type Warning struct {
	Kind   WarningKind
	Offset int
	Key    string // session variable, "" if none
	Msg    string
}

func (w Warning) String() string {
	if w.Key != "" {
		return fmt.Sprintf("offset %d (in session variable %s): %s", w.Offset, quoteKey(w.Key), w.Msg)
	}
	return fmt.Sprintf("offset %d: %s", w.Offset, w.Msg)
}

// maxWarnings bounds what hostile input can make us keep.
const maxWarnings = 32
