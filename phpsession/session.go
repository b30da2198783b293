package phpsession

import (
	"fmt"
	"iter"
)

// A Session is a PHP session: the array $_SESSION, in order. The zero Session
// is empty and ready to use. A Session is not safe for concurrent use while it
// is changed; reading alone is.
type Session struct {
	handler  Handler
	root     Value // *Array, or a *Ref to one; nil is empty
	raw      string
	fromRaw  bool     // raw is what root was decoded from
	dirty    bool     // variables were changed
	shared   *changes // objects and references were changed
	warnings []Warning
	limits   Limits
}

// Decode reads a session as PHP reads it with the given handler. Empty data is
// an empty session. Errors are a [*DecodeError], or a [*WrongHandlerError] if
// the bytes look like another handler's.
func Decode(h Handler, data []byte, opts ...Option) (*Session, error) {
	h, err := h.check()
	if err != nil {
		return nil, err
	}
	c := newConfig(opts)
	in := string(data)
	s, err := decode(h, in, c)
	if err == nil {
		return s, nil
	}
	if len(data) <= c.limits.MaxBytes {
		if other, ok := Detect(data, WithLimits(c.limits)); ok && other != h {
			return nil, &WrongHandlerError{Handler: h, LooksLike: other, Err: err}
		}
	}
	return nil, err
}

func decode(h Handler, in string, c config) (*Session, error) {
	v, warnings, shared, err := decodeRoot(h, in, c)
	if err != nil {
		return nil, err
	}
	root, ok := deref(v).(*Array)
	if !ok {
		return nil, &DecodeError{Handler: h, Err: ErrNotArray, Msg: "it is " + deref(v).phpType()}
	}
	if h == Igbinary {
		if _, ok := v.(*Ref); ok { // PHP refuses it
			return nil, &DecodeError{Handler: h, Offset: len(igHeader), Err: ErrNotArray, Msg: "it is a reference"}
		}
		for _, it := range root.items {
			if it.Key.IsInt() && len(warnings) < maxWarnings {
				warnings = append(warnings, Warning{Kind: IgnoredKey, Key: it.Key.String(), Msg: "PHP ignores integer keys of an igbinary session"})
			}
		}
	}
	return &Session{handler: h, root: v, raw: in, fromRaw: true, shared: shared, warnings: warnings, limits: c.limits}, nil
}

// decodeRoot decodes the outermost value. For php and php_binary that is
// always an array.
func decodeRoot(h Handler, in string, c config) (Value, []Warning, *changes, error) {
	if len(in) > c.limits.MaxBytes {
		return nil, nil, nil, &DecodeError{Handler: h, Offset: c.limits.MaxBytes, Err: ErrLimit,
			Msg: fmt.Sprintf("%d bytes, more than %d", len(in), c.limits.MaxBytes)}
	}
	if in == "" {
		return emptyArray, nil, new(changes), nil
	}
	switch h {
	case PHPBinary:
		return decodeBinary(in, c)
	case PHPSerialize:
		return decodeSerialize(in, c)
	case Igbinary:
		return decodeIgbinary(in, c)
	}
	return decodePHP(in, c)
}

// DecodeValue reads one value that PHP's serialize() (handler [PHPSerialize])
// or igbinary_serialize() ([Igbinary]) wrote. Laravel's cache-backed sessions,
// for example, are a serialized string that holds a serialized array. What
// [Decode] would report as a [Warning] is an error here.
func DecodeValue(h Handler, data []byte, opts ...Option) (Value, error) {
	h, err := h.check()
	if err != nil {
		return nil, err
	}
	if h != PHPSerialize && h != Igbinary {
		return nil, fmt.Errorf("phpsession: handler %s has no form for a single value", h)
	}
	c := newConfig(opts)
	if len(data) == 0 {
		return nil, &DecodeError{Handler: h, Err: ErrTruncated, Msg: "a value should follow"}
	}
	c.strict = true
	v, _, _, err := decodeRoot(h, string(data), c)
	return v, err
}

// EncodeValue writes one value as PHP's serialize() or igbinary_serialize().
func EncodeValue(h Handler, v Value, opts ...Option) ([]byte, error) {
	h, err := h.check()
	if err != nil {
		return nil, err
	}
	c := newConfig(opts)
	var b []byte
	switch h {
	case PHPSerialize:
		b, err = encodeSerialize(v, c)
	case Igbinary:
		b, err = encodeIgbinary(v, c)
	default:
		return nil, fmt.Errorf("phpsession: handler %s has no form for a single value", h)
	}
	return bounded(b, err, c)
}

func bounded(b []byte, err error, c config) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if len(b) > c.limits.MaxBytes {
		return nil, fmt.Errorf("phpsession: %w: %d bytes, more than %d", ErrLimit, len(b), c.limits.MaxBytes)
	}
	return b, nil
}

// Encode writes the session for handler h. A session that was decoded with h
// and not changed gives the very bytes it was decoded from. Otherwise all of it
// is written as PHP 8.2 writes it; floats keep their spelling.
//
// A key that h cannot hold gives a [*KeyError], see [DropKeys]. An array that
// PHP shared between places of an igbinary session is written in full at each
// place by the other handlers, as PHP does; MaxBytes bounds that.
func (s *Session) Encode(h Handler, opts ...Option) ([]byte, error) {
	h, err := h.check()
	if err != nil {
		return nil, err
	}
	if s.fromRaw && h == s.handler && !s.touched() {
		return []byte(s.raw), nil
	}
	return s.encode(h, newConfig(append([]Option{WithLimits(s.limits)}, opts...)))
}

// encode writes the session anew.
func (s *Session) encode(h Handler, c config) ([]byte, error) {
	var b []byte
	var err error
	switch h {
	case PHPBinary:
		b, err = encodeBinary(s.vars().items, c)
	case PHPSerialize:
		b, err = encodeSerialize(s.rootValue(), c)
	case Igbinary:
		b, err = encodeIgbinary(s.rootValue(), c)
	default:
		b, err = encodePHP(s.vars().items, c)
	}
	return bounded(b, err, c)
}

// Handler returns the handler that the session was decoded with.
func (s *Session) Handler() Handler { return s.handler.orDefault() }

// Warnings returns what decoding noticed, in order of occurrence; at most 32.
func (s *Session) Warnings() []Warning { return s.warnings }

// Changed reports whether Encode, with the handler the session was decoded
// with, gives other bytes than those decoded. A new session is changed once it
// holds a variable.
func (s *Session) Changed() bool {
	if !s.fromRaw {
		return s.Len() > 0
	}
	if !s.touched() {
		return false
	}
	b, err := s.encode(s.handler, newConfig([]Option{WithLimits(s.limits)}))
	return err != nil || string(b) != s.raw
}

func (s *Session) touched() bool { return s.dirty || s.shared != nil && s.shared.any }

func (s *Session) rootValue() Value {
	if s.root == nil {
		return emptyArray
	}
	return s.root
}

func (s *Session) vars() *Array {
	a, _ := deref(s.rootValue()).(*Array)
	return a
}

func (s *Session) setVars(a *Array) {
	s.dirty = true
	if r, ok := s.root.(*Ref); ok {
		r.v = a
		return
	}
	s.root = a
}

// Array returns the session's variables as an array.
func (s *Session) Array() *Array { return s.vars() }

// Len returns the number of variables.
func (s *Session) Len() int { return s.vars().Len() }

// Keys returns the names of the variables in order.
func (s *Session) Keys() []string {
	keys := make([]string, 0, s.Len())
	for k := range s.All() {
		keys = append(keys, k.String())
	}
	return keys
}

// All iterates over the variables in order; values may be *Ref.
func (s *Session) All() iter.Seq2[Key, Value] { return s.vars().All() }

// key finds the form in which the session has the name, else PHP's.
func (s *Session) key(name string) Key {
	k := rawKey(name)
	if n := StringKey(name); n != k && s.vars().index(k) < 0 {
		return n
	}
	return k
}

// Get returns the value of a variable, behind a reference if there is one.
func (s *Session) Get(name string) (Value, bool) { return s.vars().Get(s.key(name)) }

// Set gives a variable the PHP form of v, see [Marshal]. A variable keeps its
// place, a new one comes last. One that is a reference is set through it, as
// PHP does, so other variables may change with it.
func (s *Session) Set(name string, v any) error { return s.Put(v, name) }

// Delete removes a variable, as unset() does, and reports whether it was there.
func (s *Session) Delete(name string) bool {
	a := s.vars()
	k := s.key(name)
	if a.index(k) < 0 {
		return false
	}
	s.setVars(a.Without(k))
	return true
}

// Clear removes all variables.
func (s *Session) Clear() {
	if s.Len() > 0 {
		s.setVars(emptyArray)
	}
}
