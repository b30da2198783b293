package phpsession

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EncodeJSON returns the session in the package's lossless JSON form, described
// in the package comment: DecodeJSON of it encodes to the same bytes.
func (s *Session) EncodeJSON() ([]byte, error) {
	w := newJSONWriter(s.rootValue())
	if err := w.value(s.rootValue()); err != nil {
		return nil, err
	}
	if !s.fromRaw || s.touched() || s.comesBack(w.buf) {
		return w.buf, nil
	}
	w.buf = w.buf[:len(w.buf)-1]
	w.str(`,"original":{"handler":"` + string(s.handler) + `","bytes_base64":`)
	w.base64(s.raw)
	w.str("}}")
	return w.buf, nil
}

// comesBack reports whether the JSON alone leads back to the bytes. It does
// unless they are not as PHP writes them, or hold what the JSON does not show.
func (s *Session) comesBack(js []byte) bool {
	d, err := DecodeJSON(js, WithLimits(s.limits))
	if err != nil {
		return false
	}
	again, err := d.Encode(s.handler)
	return err == nil && string(again) == s.raw
}

// MarshalJSON is EncodeJSON, for encoding/json.
func (s *Session) MarshalJSON() ([]byte, error) { return s.EncodeJSON() }

// EncodeValueJSON returns the JSON form of one value.
func EncodeValueJSON(v Value) ([]byte, error) {
	w := newJSONWriter(v)
	err := w.value(v)
	return w.buf, err
}

type jsonWriter struct {
	buf     []byte
	depth   int
	objects map[*Object]int
	refs    map[*Ref]int
	shared  map[*Array]int // arrays that occur more than once; 0 is not yet written
	arrays  int
}

func newJSONWriter(v Value) *jsonWriter {
	w := &jsonWriter{objects: map[*Object]int{}, refs: map[*Ref]int{}, shared: map[*Array]int{}}
	seen := map[any]bool{}
	w.count(v, seen, 0)
	return w
}

// count finds the arrays that occur more than once.
func (w *jsonWriter) count(v Value, seen map[any]bool, depth int) {
	if depth > highestDepth {
		return // value fails on it
	}
	if r, ok := v.(*Ref); ok {
		if seen[r] {
			return
		}
		seen[r] = true
	}
	var items []Item
	switch v := deref(v).(type) {
	case *Array:
		if len(v.items) == 0 {
			return
		}
		if seen[v] {
			w.shared[v] = 0
			return
		}
		seen[v] = true
		items = v.items
	case *Object:
		if seen[v] {
			return
		}
		seen[v] = true
		items = v.items
		if v.custom != nil && v.custom.linked {
			w.count(v.custom.nested, seen, depth+1)
		}
	}
	for _, it := range items {
		w.count(it.Value, seen, depth+1)
	}
}

func (w *jsonWriter) value(v Value) error {
	if w.depth++; w.depth > highestDepth {
		return fmt.Errorf("phpsession: %w: nested deeper than %d", ErrLimit, highestDepth)
	}
	defer func() { w.depth-- }()
	r, isRef := v.(*Ref)
	if isRef {
		if n, ok := w.refs[r]; ok {
			w.number(`{"same_reference_as":`, n)
			w.str("}")
			return nil
		}
		w.refs[r] = len(w.refs) + 1
	}
	if err := w.plain(deref(v)); err != nil {
		return err
	}
	if isRef {
		w.buf = w.buf[:len(w.buf)-1]
		w.number(`,"reference":`, w.refs[r])
		w.str("}")
	}
	return nil
}

func (w *jsonWriter) plain(v Value) error {
	switch v := v.(type) {
	case Null:
		w.str(`{"null":true}`)
	case Bool:
		w.str(`{"bool":` + strconv.FormatBool(bool(v)) + `}`)
	case Int:
		w.str(`{"int":"` + strconv.FormatInt(int64(v), 10) + `"}`)
	case Float:
		w.str(`{"float":"`)
		w.buf = appendFloat(w.buf, v.Float64(), 17, 'e')
		w.str(fmt.Sprintf(`","bits":"%016x"`, v.bits))
		if v.text != "" {
			w.str(`,"spelling":"` + v.text + `"`)
		}
		w.str("}")
	case String:
		w.bytes(string(v))
	case *Array:
		return w.array(v)
	case *Object:
		return w.object(v)
	case Enum:
		if name := v.String(); plainText(name) {
			w.str(`{"enum":`)
			w.quote(name)
		} else {
			w.str(`{"enum":null,"enum_base64":`)
			w.base64(name)
		}
		w.str("}")
	default:
		return notValue(v)
	}
	return nil
}

func (w *jsonWriter) array(a *Array) error {
	n, shared := w.shared[a]
	if n > 0 {
		w.number(`{"same_array_as":`, n)
		w.str("}")
		return nil
	}
	if shared {
		w.arrays++
		n = w.arrays
		w.shared[a] = n
	}
	w.str(`{"array":`)
	if err := w.pairs(a.items); err != nil {
		return err
	}
	if shared {
		w.number(`,"array_id":`, n)
	}
	w.str("}")
	return nil
}

func (w *jsonWriter) pairs(items []Item) error {
	w.str("[")
	for i, it := range items {
		if i > 0 {
			w.str(",")
		}
		w.str("[")
		if err := w.plain(it.Key.value()); err != nil {
			return err
		}
		w.str(",")
		if err := w.value(it.Value); err != nil {
			return err
		}
		w.str("]")
	}
	w.str("]")
	return nil
}

func (w *jsonWriter) object(o *Object) error {
	if n, ok := w.objects[o]; ok {
		w.number(`{"same_object_as":`, n)
		w.str("}")
		return nil
	}
	n := len(w.objects) + 1
	w.objects[o] = n
	if plainText(o.class) {
		w.str(`{"object":`)
		w.quote(o.class)
	} else {
		w.str(`{"object":null,"class_base64":`)
		w.base64(o.class)
	}
	w.number(`,"id":`, n)
	switch {
	case o.custom != nil && o.custom.linked:
		w.str(`,"custom_value":`)
		if err := w.value(o.custom.nested); err != nil {
			return err
		}
	case o.custom != nil:
		w.str(`,"custom":`)
		data, _ := o.Custom()
		w.bytes(data)
	case o.returned():
		w.str(`,"serialize_returns":{"array":`)
		if err := w.pairs(o.items); err != nil {
			return err
		}
		w.str("}")
	default:
		w.str(`,"properties":[`)
		for i, it := range o.items {
			if i > 0 {
				w.str(",")
			}
			w.property(it.Key.String())
			if err := w.value(it.Value); err != nil {
				return err
			}
			w.str("]")
		}
		w.str("]")
	}
	w.str("}")
	return nil
}

// returned reports whether the properties are surely what __serialize
// returned: PHP writes no property with an integer key, and some of PHP's own
// classes are known. For others the bytes do not tell.
func (o *Object) returned() bool {
	for _, it := range o.items {
		if it.Key.IsInt() {
			return true
		}
	}
	switch strings.ToLower(o.class) {
	case "datetime", "datetimeimmutable", "datetimezone", "dateinterval", "dateperiod",
		"arrayobject", "arrayiterator", "recursivearrayiterator",
		"spldoublylinkedlist", "splqueue", "splstack", "splobjectstorage", "splfixedarray":
		return len(o.items) > 0
	}
	return false
}

// property writes [name,visibility, of a property.
func (w *jsonWriter) property(key string) {
	p := unmangle(key)
	w.str("[")
	if !plainText(p.Name) || !plainText(p.Class) || mangle(p) != key {
		// The mangled name as it is, which "public" does not mangle further.
		w.bytes(key)
		w.str(`,"public",`)
		return
	}
	w.quote(p.Name)
	w.str(",")
	visibility := p.Visibility.String()
	if p.Visibility == Private {
		visibility += ":" + p.Class
	}
	w.quote(visibility)
	w.str(",")
}

func (w *jsonWriter) bytes(s string) {
	if plainText(s) {
		w.str(`{"string":`)
		w.quote(s)
	} else {
		w.str(`{"bytes_base64":`)
		w.base64(s)
	}
	w.str("}")
}

// plainText reports whether s is shown as text: valid UTF-8 without NUL.
func plainText(s string) bool {
	return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

func (w *jsonWriter) base64(s string) {
	w.str(`"`)
	w.buf = base64.StdEncoding.AppendEncode(w.buf, []byte(s))
	w.str(`"`)
}

// quote writes valid UTF-8 as a JSON string.
func (w *jsonWriter) quote(s string) {
	w.str(`"`)
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		w.str(s[from:i])
		switch c {
		case '"', '\\':
			w.buf = append(w.buf, '\\', c)
		case '\n':
			w.str(`\n`)
		case '\r':
			w.str(`\r`)
		case '\t':
			w.str(`\t`)
		default:
			w.str(fmt.Sprintf(`\u%04x`, c))
		}
		from = i + 1
	}
	w.str(s[from:])
	w.str(`"`)
}

func (w *jsonWriter) number(name string, n int) {
	w.str(name)
	w.buf = strconv.AppendInt(w.buf, int64(n), 10)
}

func (w *jsonWriter) str(s string) { w.buf = append(w.buf, s...) }
