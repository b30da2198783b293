package phpsession

import (
	"encoding/binary"
	"fmt"
	"math"
)

type igReader struct {
	source
	strings []string
	refs    []Value // *Array, *Object, Enum or *Ref
}

func decodeIgbinary(in string, c config) (Value, []Warning, *changes, error) {
	r := &igReader{source: newSource(Igbinary, in, c)}
	r.changes = new(changes)
	if len(in) < 5 {
		return nil, nil, nil, r.truncated("an igbinary header should stand here")
	}
	if in[:4] != igHeader && in[:4] != igHeaderV1 {
		return nil, nil, nil, r.syntax(0, "no igbinary header of version 1 or 2")
	}
	r.pos = 4
	v, err := r.value()
	if err != nil {
		return nil, nil, nil, err
	}
	if r.pos < r.end {
		if err := r.warn(TrailingData, r.pos, fmt.Sprintf("%d bytes behind the value, ignored by PHP", r.end-r.pos)); err != nil {
			return nil, nil, nil, err
		}
	}
	return v, r.warnings, r.changes, nil
}

// Every element of an array takes at least two bytes of key and one of value,
// only the empty key has one.
const minIgElement = 2

func (r *igReader) value() (Value, error) {
	at := r.pos
	t, err := r.byte()
	if err != nil {
		return nil, err
	}
	wantRef := false
	for t == igReference { // PHP accepts and ignores repetitions
		wantRef = true
		if t, err = r.byte(); err != nil {
			return nil, err
		}
	}
	var v Value
	switch {
	case t >= igRef8 && t < igRef8+3:
		return r.backref(at, t-igRef8, wantRef)
	case t >= igObjectRef8 && t < igObjectRef8+3:
		return r.backref(at, t-igObjectRef8, wantRef)
	case t >= igArray8 && t <= igArray32:
		return r.array(t-igArray8, wantRef)
	case t >= igObject8 && t < igObjectID8+3:
		return r.object(t, wantRef)
	case t == igNull:
		v = Null{}
	case t == igFalse || t == igTrue:
		v = Bool(t == igTrue)
	case t >= igInt8 && t <= igInt32n || t == igInt64 || t == igInt64n:
		n, err := r.int(t)
		if err != nil {
			return nil, err
		}
		v = Int(n)
	case t == igDouble:
		bits, err := r.uint(8)
		if err != nil {
			return nil, err
		}
		v = Float{bits: bits}
	default:
		s, err := r.string(at, t)
		if err != nil {
			return nil, err
		}
		v = String(s)
	}
	if wantRef {
		v = r.newRef(v)
		r.refs = append(r.refs, v)
	}
	return v, nil
}

func (r *igReader) newRef(v Value) *Ref { return &Ref{v: v, owner: r.changes} }

// enlist gives v the next number, as a reference if it is to be one, and
// returns what stands at its place.
func (r *igReader) enlist(v Value, wantRef bool) Value {
	if wantRef {
		v = r.newRef(v)
	}
	r.refs = append(r.refs, v)
	return v
}

func (r *igReader) backref(at int, width byte, wantRef bool) (Value, error) {
	n, err := r.uint(1 << width)
	if err != nil {
		return nil, err
	}
	if n >= uint64(len(r.refs)) {
		return nil, r.syntax(at, fmt.Sprintf("back-reference to number %d of %d", n, len(r.refs)))
	}
	v := r.refs[n]
	if v == nil {
		return nil, r.syntax(at, "back-reference to an unfinished value")
	}
	if wantRef {
		if _, ok := v.(*Ref); !ok {
			// As in igbinary, from now on the number means the reference.
			v = r.newRef(v)
			r.refs[n] = v
		}
		return v, nil
	}
	v = deref(v)
	if a, ok := v.(*Array); ok && a.open {
		return nil, r.syntax(at, "an array cannot contain itself but by reference")
	}
	return v, nil
}

func (r *igReader) array(width byte, wantRef bool) (Value, error) {
	n, err := r.uint(1 << width)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		// Not emptyArray: PHP has empty arrays that are the same and others
		// that are not.
		return r.enlist(&Array{}, wantRef), nil
	}
	a := &Array{open: true}
	place := r.enlist(a, wantRef)
	if a.items, err = r.items(n); err != nil {
		return nil, err
	}
	a.open = false
	return place, nil
}

// items decodes n key-value pairs. A null where a key should stand is a
// property that had no value (an uninitialised typed one), and has none here.
func (r *igReader) items(n uint64) ([]Item, error) {
	if n > uint64(r.end) {
		return nil, r.fail(r.pos, ErrTruncated, fmt.Sprintf("%d elements are announced, %d bytes follow", n, r.end-r.pos))
	}
	// One byte is all that a missing property takes.
	if err := r.enter(int(n), 1); err != nil {
		return nil, err
	}
	first := int(n)
	if first > 16 {
		first = min(first, max(16, (r.end-r.pos-r.pending+first)/(minIgElement+1)))
	}
	items := make([]Item, 0, first)
	for range n {
		r.pending--
		at := r.pos
		t, err := r.byte()
		if err != nil {
			return nil, err
		}
		var k Key
		switch {
		case t == igNull:
			continue
		case t >= igInt8 && t <= igInt32n || t == igInt64 || t == igInt64n:
			n, err := r.int(t)
			if err != nil {
				return nil, err
			}
			k = IntKey(n)
		default:
			s, err := r.string(at, t)
			if err != nil {
				return nil, err
			}
			k = rawKey(s)
		}
		if r.depth == 1 {
			r.variable = k.String()
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		items = append(items, Item{k, v})
	}
	if r.depth == 1 {
		r.variable = ""
	}
	r.leave()
	kept, moved := dedupe(items)
	if moved != nil {
		if err := r.warn(DuplicateKey, r.pos, "a key occurs twice, the last value counts"); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

func (r *igReader) object(t byte, wantRef bool) (Value, error) {
	at := r.pos - 1
	var class string
	var err error
	if t < igObjectID8 {
		class, err = r.newString(1 << (t - igObject8))
	} else {
		class, err = r.oldString(at, t-igObjectID8)
	}
	if err != nil {
		return nil, err
	}
	at = r.pos
	if t, err = r.byte(); err != nil {
		return nil, err
	}
	o := &Object{class: class, owner: r.changes}
	switch {
	case t >= igArray8 && t <= igArray32:
		n, err := r.uint(1 << (t - igArray8))
		if err != nil {
			return nil, err
		}
		place := r.enlist(o, wantRef)
		o.items, err = r.items(n)
		return place, err
	case t >= igCustom8 && t < igCustom8+3:
		n, err := r.uint(1 << (t - igCustom8))
		if err != nil {
			return nil, err
		}
		data, err := r.take(n)
		if err != nil {
			return nil, err
		}
		if r.elements += len(data) / minElement; r.elements > r.config.limits.MaxElements {
			return nil, r.fail(at, ErrLimit, fmt.Sprintf("more than %d elements", r.config.limits.MaxElements))
		}
		o.custom = newCustom(data)
		return r.enlist(o, wantRef), nil
	case t == igEnum:
		n := len(r.refs)
		r.refs = append(r.refs, nil)
		at := r.pos
		if t, err = r.byte(); err != nil {
			return nil, err
		}
		name, err := r.string(at, t)
		if err != nil {
			return nil, err
		}
		var v Value = Enum{class, name}
		if wantRef {
			v = r.newRef(v)
		}
		r.refs[n] = v
		return v, nil
	}
	return nil, r.syntax(at, fmt.Sprintf("type %#02x is no content of an object", t))
}

// string reads a string whose type byte t stood at offset at.
func (r *igReader) string(at int, t byte) (string, error) {
	switch {
	case t == igEmptyString:
		return "", nil
	case t >= igStringID8 && t < igStringID8+3:
		return r.oldString(at, t-igStringID8)
	case t >= igString8 && t < igString8+3:
		return r.newString(1 << (t - igString8))
	case t == igString64:
		return r.newString(8)
	}
	return "", r.syntax(at, fmt.Sprintf("type %#02x should not stand here", t))
}

func (r *igReader) newString(width int) (string, error) {
	n, err := r.uint(width)
	if err != nil {
		return "", err
	}
	s, err := r.take(n)
	if err != nil {
		return "", err
	}
	r.strings = append(r.strings, s)
	return s, nil
}

func (r *igReader) oldString(at int, width byte) (string, error) {
	n, err := r.uint(1 << width)
	if err != nil {
		return "", err
	}
	if n >= uint64(len(r.strings)) {
		return "", r.syntax(at, fmt.Sprintf("string number %d of %d", n, len(r.strings)))
	}
	return r.strings[n], nil
}

// int reads an integer of type byte t. One that does not fit is 0 with a
// warning, as in igbinary.
func (r *igReader) int(t byte) (int64, error) {
	at := r.pos - 1
	width := 8
	if t < igInt64 {
		width = 1 << ((t - igInt8) / 2)
	}
	n, err := r.uint(width)
	if err != nil {
		return 0, err
	}
	neg := t&1 == 1
	if n > math.MaxInt64 && !(neg && n == 1<<63) {
		return 0, r.warn(IntegerRange, at, "integer of more than 64 bits, read as 0")
	}
	if neg {
		return -int64(n), nil
	}
	return int64(n), nil
}

func (r *igReader) byte() (byte, error) {
	if r.pos >= r.end {
		return 0, r.truncated("a value or key should follow")
	}
	r.pos++
	return r.in[r.pos-1], nil
}

func (r *igReader) uint(width int) (uint64, error) {
	b, err := r.take(uint64(width))
	if err != nil {
		return 0, err
	}
	var buf [8]byte
	copy(buf[8-width:], b)
	return binary.BigEndian.Uint64(buf[:]), nil
}

func (r *igReader) take(n uint64) (string, error) {
	if n > uint64(r.end-r.pos) {
		return "", r.fail(r.pos, ErrTruncated, fmt.Sprintf("%d bytes are announced, %d follow", n, r.end-r.pos))
	}
	s := r.in[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s, nil
}
