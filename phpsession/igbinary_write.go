package phpsession

import (
	"encoding/binary"
	"fmt"
	"math"
)

type igWriter struct {
	buf     []byte
	limits  Limits
	scalar  bool // a lone scalar: igbinary then keeps no strings
	strings map[string]uint32
	nstring uint32
	refs    map[any]uint32 // *Array, *Object, Enum, *Ref
	nref    uint32
	depth   int
}

func encodeIgbinary(root Value, c config) ([]byte, error) {
	w := &igWriter{limits: c.limits, strings: make(map[string]uint32)}
	switch deref(root).(type) {
	case *Array, *Object, Enum:
	default:
		w.scalar = true
	}
	w.buf = append(w.buf, igHeader...)
	// What a session's or a call's outermost value is a reference to is not
	// known to igbinary.
	err := w.value(deref(root))
	return w.buf, err
}

// outermost stands for the first array in the table: igbinary never refers to
// the outermost array as such.
type outermost struct{}

func (w *igWriter) value(v Value) error {
	if w.depth++; w.depth > w.limits.MaxDepth+1 {
		return fmt.Errorf("phpsession: %w: nested deeper than %d", ErrLimit, w.limits.MaxDepth)
	}
	defer func() { w.depth-- }()
	if len(w.buf) > w.limits.MaxBytes {
		return fmt.Errorf("phpsession: %w: more than %d bytes", ErrLimit, w.limits.MaxBytes)
	}
	ref, isRef := v.(*Ref)
	v = deref(v)
	if isRef {
		w.buf = append(w.buf, igReference)
	}
	switch v := v.(type) {
	case *Array:
		var id any = v
		if isRef {
			id = ref
		}
		if w.again(id, igRef8) {
			return nil
		}
		return w.items(v.items)
	case *Object:
		if w.again(v, igObjectRef8) {
			return nil
		}
		return w.object(v)
	case Enum:
		if w.again(v, igObjectRef8) {
			return nil
		}
		if err := w.class(v.Class); err != nil {
			return err
		}
		w.buf = append(w.buf, igEnum)
		w.string(v.Case)
		return nil
	}
	if isRef && w.again(ref, igRef8) {
		return nil
	}
	switch v := v.(type) {
	case Bool:
		if v {
			w.buf = append(w.buf, igTrue)
		} else {
			w.buf = append(w.buf, igFalse)
		}
	case Int:
		w.int(int64(v))
	case Float:
		w.buf = append(w.buf, igDouble)
		w.buf = binary.BigEndian.AppendUint64(w.buf, v.bits)
	case String:
		w.string(string(v))
	case Null:
		w.buf = append(w.buf, igNull)
	default:
		return notValue(v)
	}
	return nil
}

// again writes a back-reference to what was written before, else gives it the
// next number.
func (w *igWriter) again(id any, type8 byte) bool {
	if w.nref == 0 && type8 == igRef8 {
		id = outermost{}
	}
	if n, ok := w.refs[id]; ok {
		w.sized(type8, uint64(n))
		return true
	}
	if w.refs == nil {
		w.refs = make(map[any]uint32)
	}
	w.refs[id] = w.nref
	w.nref++
	return false
}

func (w *igWriter) items(items []Item) error {
	w.sized(igArray8, uint64(len(items)))
	for _, it := range items {
		if it.Key.IsInt() {
			w.int(it.Key.n)
		} else {
			w.string(it.Key.String())
		}
		if err := w.value(it.Value); err != nil {
			return err
		}
	}
	return nil
}

func (w *igWriter) object(o *Object) error {
	if err := w.class(o.class); err != nil {
		return err
	}
	if o.custom == nil {
		return w.items(o.items)
	}
	data, err := o.custom.standalone(w.limits)
	w.sized(igCustom8, uint64(len(data)))
	w.buf = append(w.buf, data...)
	return err
}

func (w *igWriter) class(name string) error {
	if n, ok := w.strings[name]; ok {
		w.sized(igObjectID8, uint64(n))
		return nil
	}
	w.strings[name] = w.nstring
	w.nstring++
	w.sized(igObject8, uint64(len(name)))
	w.buf = append(w.buf, name...)
	return nil
}

func (w *igWriter) string(s string) {
	if s == "" {
		w.buf = append(w.buf, igEmptyString)
		return
	}
	if !w.scalar {
		if n, ok := w.strings[s]; ok {
			w.sized(igStringID8, uint64(n))
			return
		}
		w.strings[s] = w.nstring
		w.nstring++
	}
	w.sized(igString8, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// int writes the sign into the type byte and the amount in as few bytes as hold it.
func (w *igWriter) int(n int64) {
	neg, amount := byte(0), uint64(n)
	if n < 0 {
		neg, amount = 1, -amount
	}
	switch {
	case amount <= math.MaxUint8:
		w.buf = append(w.buf, igInt8+neg, byte(amount))
	case amount <= math.MaxUint16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, igInt8+2+neg), uint16(amount))
	case amount <= math.MaxUint32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, igInt8+4+neg), uint32(amount))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, igInt64+neg), amount)
	}
}

// sized writes a type byte of the three of its kind and the number behind it.
// Numbers beyond 32 bits cannot occur: MaxBytes is an int32's worth at most.
func (w *igWriter) sized(type8 byte, n uint64) {
	switch {
	case n <= math.MaxUint8:
		w.buf = append(w.buf, type8, byte(n))
	case n <= math.MaxUint16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, type8+1), uint16(n))
	default:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, type8+2), uint32(n))
	}
}
