package phpsession

import (
	"math"
	"strconv"
)

// A Value is a PHP value: [Null], [Bool], [Int], [Float], [String], [*Array],
// [*Object], [Enum] or [*Ref]. A nil Value counts as Null.
//
// As in PHP, scalars, enums and arrays are values: an Array never changes, and
// its With methods return a changed copy. Objects and references are shared:
// whoever holds the pointer sees a change.
type Value interface {
	// phpType names the type for messages, as int or object of class User.
	phpType() string
}

type (
	// Null is PHP's null.
	Null struct{}
	// Bool is a PHP bool.
	Bool bool
	// Int is a PHP int: 64 bits, signed.
	Int int64
	// String is a PHP string: bytes, in no particular encoding.
	String string
)

// An Enum is a case of a PHP enum, as Suit::Hearts. The class need not be known.
type Enum struct {
	Class string
	Case  string
}

// String returns Class::Case.
func (e Enum) String() string { return e.Class + "::" + e.Case }

// A Ref is a PHP reference (&): all places that hold the same Ref hold the
// same variable, so a value set through one is seen in all.
type Ref struct {
	v     Value
	owner *changes
}

// NewRef returns a reference to be put into several places.
func NewRef(v Value) *Ref { return &Ref{v: deref(v)} }

// Value returns what the variable holds, never another Ref.
func (r *Ref) Value() Value { return deref(r.v) }

// Set changes the variable, and so every place that holds r.
func (r *Ref) Set(v Value) {
	r.v = deref(v)
	r.owner.touch()
}

// Deref returns the value behind a reference, and any other value as it is. It
// never returns nil.
func Deref(v Value) Value { return deref(v) }

func deref(v Value) Value {
	for {
		switch r := v.(type) {
		case nil:
			return Null{}
		case *Ref:
			if r == nil {
				return Null{}
			}
			if inner, ok := r.v.(*Ref); ok && inner == r {
				return Null{}
			}
			v = r.v
		case *Array:
			if r == nil {
				return emptyArray
			}
			return r
		case *Object:
			if r == nil {
				return Null{}
			}
			return r
		default:
			return v
		}
	}
}

func (Null) phpType() string      { return "null" }
func (Bool) phpType() string      { return "bool" }
func (Int) phpType() string       { return "int" }
func (Float) phpType() string     { return "float" }
func (String) phpType() string    { return "string" }
func (*Array) phpType() string    { return "array" }
func (e Enum) phpType() string    { return "enum " + e.Class }
func (o *Object) phpType() string { return "object of class " + o.class }
func (r *Ref) phpType() string    { return deref(r).phpType() }

// changes notes that some shared node of a decoded session was changed.
type changes struct{ any bool }

func (c *changes) touch() {
	if c != nil {
		c.any = true
	}
}

// A Key is a key of an array: an integer or a string of bytes. Keys are
// comparable. The zero Key is the integer 0.
type Key struct {
	// An integer n is {"", n}, the empty string {"\x00", 1} and any other
	// string {s, 0}: smaller than a separate kind, and there is one a element.
	s string
	n int64
}

// IntKey returns an integer key.
func IntKey(n int64) Key { return Key{n: n} }

// StringKey returns the key that PHP makes of a string: decimal integers, as
// "7" or "-1" but not "07", become integer keys.
func StringKey(s string) Key {
	if n, ok := decimalKey(s); ok {
		return IntKey(n)
	}
	return rawKey(s)
}

// rawKey returns a string key even for "7": session variables and properties
// may have such names.
func rawKey(s string) Key {
	if s == "" {
		return Key{s: "\x00", n: 1}
	}
	return Key{s: s}
}

// IsInt reports whether the key is an integer.
func (k Key) IsInt() bool { return k.s == "" }

// Int returns an integer key's number, 0 for a string.
func (k Key) Int() int64 {
	if k.IsInt() {
		return k.n
	}
	return 0
}

// String returns a string key's bytes, and an integer key in decimal.
func (k Key) String() string {
	switch {
	case k.IsInt():
		return strconv.FormatInt(k.n, 10)
	case k.n == 1:
		return ""
	}
	return k.s
}

func (k Key) value() Value {
	if k.IsInt() {
		return Int(k.n)
	}
	return String(k.String())
}

// compare orders integers before strings. It serves to find duplicates only.
func (k Key) compare(o Key) int {
	switch {
	case k.s != o.s:
		if k.s < o.s {
			return -1
		}
		return 1
	case k.n < o.n:
		return -1
	case k.n > o.n:
		return 1
	}
	return 0
}

// decimalKey reads the strings that PHP takes for integer keys.
func decimalKey(s string) (int64, bool) {
	if s == "0" {
		return 0, true
	}
	digits := s
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	var n uint64
	for i := 0; i < len(digits); i++ {
		c := digits[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c) // 19 digits fit
	}
	if len(digits) == len(s) {
		return int64(n), n <= math.MaxInt64
	}
	return -int64(n), n <= 1<<63
}
