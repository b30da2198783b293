package phpsession

import (
	"fmt"
	"slices"
	"strconv"
)

// A writer encodes values in PHP's serialize() format, as PHP 8.2 does.
type writer struct {
	buf    []byte
	limits Limits
	n      int         // number of the last value
	seen   map[any]int // numbers of objects (*Object, Enum) and references (*Ref)
	depth  int
}

func (w *writer) value(v Value) error {
	if w.depth++; w.depth > w.limits.MaxDepth+maxCustomDepth+1 {
		return fmt.Errorf("phpsession: %w: nested deeper than %d", ErrLimit, w.limits.MaxDepth)
	}
	defer func() { w.depth-- }()
	if len(w.buf) > w.limits.MaxBytes {
		return fmt.Errorf("phpsession: %w: more than %d bytes", ErrLimit, w.limits.MaxBytes)
	}
	ref, isRef := v.(*Ref)
	v = deref(v)
	w.n++
	switch o := v.(type) {
	case *Object:
		if w.again(o, isRef) {
			return nil
		}
	case Enum:
		// A case is one object in PHP, however often it is named.
		if w.again(o, isRef) {
			return nil
		}
	default:
		if isRef && ref != nil && w.again(ref, true) {
			return nil
		}
	}
	switch v := v.(type) {
	case Bool:
		if v {
			w.str("b:1;")
		} else {
			w.str("b:0;")
		}
	case Int:
		w.str("i:")
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
		w.str(";")
	case Float:
		w.str("d:")
		if v.text != "" {
			w.str(v.text)
		} else {
			w.buf = appendFloat(w.buf, v.Float64(), -1, 'E')
		}
		w.str(";")
	case String:
		w.string(string(v))
	case *Array:
		w.str("a:")
		w.count(len(v.items))
		w.str(":{")
		return w.items(v.items)
	case *Object:
		return w.object(v)
	case Enum:
		if !validClass(v.Class) || v.Case == "" {
			return badClass(v.String())
		}
		w.str("E:")
		w.quoted(v.Class + ":" + v.Case)
		w.str(";")
	case Null:
		w.str("N;")
	default:
		return notValue(v)
	}
	return nil
}

// notValue is the error for a type that merely looks like a Value, as *Int.
func notValue(v Value) error {
	return &TypeError{Go: fmt.Sprintf("%T", v), Msg: "not one of the types of Value"}
}

// again writes a back-reference if the object or reference was written before,
// else gives it the number of the current value.
func (w *writer) again(id any, isRef bool) bool {
	if w.seen == nil {
		w.seen = make(map[any]int)
	}
	n, ok := w.seen[id]
	if !ok {
		w.seen[id] = w.n
		return false
	}
	if isRef {
		w.n-- // R: does not count, r: does
		w.str("R:")
	} else {
		w.str("r:")
	}
	w.count(n)
	w.str(";")
	return true
}

func (w *writer) items(items []Item) error {
	for _, it := range items {
		if it.Key.IsInt() {
			w.str("i:")
			w.buf = strconv.AppendInt(w.buf, it.Key.n, 10)
			w.str(";")
		} else {
			w.string(it.Key.String())
		}
		if err := w.value(it.Value); err != nil {
			return err
		}
	}
	w.str("}")
	return nil
}

func (w *writer) object(o *Object) error {
	if !validClass(o.class) {
		return badClass(o.class)
	}
	if o.custom == nil {
		w.str("O:")
		w.quoted(o.class)
		w.str(":")
		w.count(len(o.items))
		w.str(":{")
		return w.items(o.items)
	}
	w.str("C:")
	w.quoted(o.class)
	w.str(":")
	at := len(w.buf)
	if o.custom.nested != nil {
		// PHP counts the values inside, so they are written in any case.
		if err := w.value(o.custom.nested); err != nil {
			return err
		}
	}
	if c := o.custom; c.nested == nil || c.plain != "" && string(w.buf[at:]) == c.plain {
		w.buf = append(w.buf[:at], c.data...)
	}
	head := strconv.AppendInt(make([]byte, 0, 24), int64(len(w.buf)-at), 10)
	w.buf = slices.Insert(w.buf, at, append(head, ":{"...)...)
	w.str("}")
	return nil
}

func (w *writer) str(s string) { w.buf = append(w.buf, s...) }

func (w *writer) count(n int) { w.buf = strconv.AppendInt(w.buf, int64(n), 10) }

func (w *writer) string(s string) {
	w.str("s:")
	w.quoted(s)
	w.str(";")
}

func (w *writer) quoted(s string) {
	w.count(len(s))
	w.str(`:"`)
	w.str(s)
	w.str(`"`)
}

func badClass(class string) error {
	return &TypeError{PHP: "object", Msg: "no class or enum case can have the name " + quoteKey(class)}
}
