package phpsession

import "fmt"

// A source is the input of a decoder, with what all decoders share: position,
// limits, warnings, errors.
type source struct {
	in      string
	pos     int
	end     int
	handler Handler
	config  config
	changes *changes

	depth    int
	elements int
	// pending is the least number of bytes that the open arrays still need.
	// An array may only claim what is left beside it, so all claims together
	// never exceed the input, and elements can be allocated when they are
	// claimed.
	pending  int
	variable string // session variable being read
	warnings []Warning
}

func newSource(h Handler, in string, c config) source {
	return source{in: in, end: len(in), handler: h, config: c}
}

// enter opens an array or object of n elements of at least size bytes each.
func (s *source) enter(n, size int) error {
	if s.depth++; s.depth > s.config.limits.MaxDepth {
		return s.fail(s.pos, ErrLimit, fmt.Sprintf("nested deeper than %d", s.config.limits.MaxDepth))
	}
	if n > (s.end-s.pos-s.pending)/size {
		return s.fail(s.pos, ErrTruncated, fmt.Sprintf("%d elements are announced, %d bytes follow", n, s.end-s.pos))
	}
	if s.elements += n; s.elements > s.config.limits.MaxElements {
		return s.fail(s.pos, ErrLimit, fmt.Sprintf("more than %d elements", s.config.limits.MaxElements))
	}
	s.pending += n * size
	return nil
}

func (s *source) leave() { s.depth-- }

func (s *source) expect(lit string) error {
	for i := 0; i < len(lit); i++ {
		if err := s.expectByte(lit[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) expectByte(c byte) error {
	if s.pos >= s.end {
		return s.truncated(fmt.Sprintf("%q should follow", c))
	}
	if s.in[s.pos] != c {
		return s.syntax(s.pos, fmt.Sprintf("%q should stand here", c))
	}
	s.pos++
	return nil
}

func (s *source) syntax(off int, msg string) error { return s.fail(off, ErrSyntax, msg) }

func (s *source) truncated(msg string) error { return s.fail(s.end, ErrTruncated, msg) }

func (s *source) fail(off int, kind error, msg string) error {
	return &DecodeError{Handler: s.handler, Offset: off, Key: s.variable, Msg: msg, Err: kind}
}

// warn notes a warning, or fails with it in strict mode.
func (s *source) warn(kind WarningKind, off int, msg string) error {
	if s.config.strict {
		return s.syntax(off, msg)
	}
	if len(s.warnings) < maxWarnings {
		s.warnings = append(s.warnings, Warning{Kind: kind, Offset: off, Key: s.variable, Msg: msg})
	}
	return nil
}

// room returns list with room for one more. Growing, it expects the rest of
// the input to be as dense as what was read, at most one in three bytes: append's
// own steps would come to several times the final size for a large list.
func room[T any](s *source, list []T) []T {
	if len(list) < cap(list) {
		return list
	}
	n := max(8, 2*len(list))
	if n > 64 {
		n = min(n, len(list)+int(float64(len(list))*float64(s.end-s.pos)/float64(s.pos+1))+16)
		n = min(n, len(list)+(s.end-s.pos)/3+1)
	}
	return append(make([]T, 0, n), list...)
}
