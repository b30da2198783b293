package phpsession

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A Pair is an element of [Pairs].
type Pair struct {
	Key   any // string or any integer type
	Value any
}

// Pairs is an ordered array for [Marshal], where a Go map has no order.
type Pairs []Pair

// maxGoDepth and maxGoValues bound conversions from and to Go values, which
// may be cyclic or, as PHP arrays that are shared, unfold to any size.
const (
	maxGoDepth  = 1000
	maxGoValues = 4 << 20
)

// Marshal returns the PHP form of a Go value:
//
//   - nil, nil pointers, nil maps and nil slices: null
//   - bool, integers, floats: bool, int, float. Unsigned integers over 2^63-1
//     are an error.
//   - string, []byte: string
//   - other slices and arrays: a list
//   - maps with string or integer keys: an array, sorted by key. As in PHP the
//     key "7" becomes the integer 7.
//   - [Pairs]: an array in that order
//   - structs: an array of the exported fields in their order. A tag
//     `php:"name"` gives the key, `php:"-"` leaves the field out,
//     `php:"name,omitempty"` leaves it out when it is zero. Fields of embedded
//     structs without a tag count as the struct's own.
//   - a [Value]: itself
//   - what implements [encoding.TextMarshaler]: a string (time.Time is RFC 3339)
//
// Errors match [ErrType].
func Marshal(v any) (Value, error) {
	m := marshaler{}
	return m.value(reflect.ValueOf(v))
}

type marshaler struct {
	path  []Key
	depth int
	count int
}

var (
	valueType       = reflect.TypeFor[Value]()
	bytesType       = reflect.TypeFor[[]byte]()
	pairsType       = reflect.TypeFor[Pairs]()
	marshalTextType = reflect.TypeFor[encoding.TextMarshaler]()
)

func (m *marshaler) fail(t reflect.Type, msg string) error {
	var b strings.Builder
	for _, k := range m.path {
		pathStep(&b, k)
	}
	return &TypeError{Path: b.String(), Go: t.String(), Msg: msg}
}

func (m *marshaler) value(v reflect.Value) (Value, error) {
	if !v.IsValid() {
		return Null{}, nil
	}
	t := v.Type()
	if m.count++; m.count > maxGoValues || m.depth > maxGoDepth {
		return nil, m.fail(t, "too deep or too large, perhaps it contains itself")
	}
	m.depth++
	defer func() { m.depth-- }()
	if k := v.Kind(); (k == reflect.Interface || k == reflect.Pointer) && v.IsNil() {
		return Null{}, nil
	}
	if t.Implements(valueType) {
		switch x := v.Interface().(type) {
		case Null, Bool, Int, Float, String, Enum, *Array, *Object, *Ref:
			return x.(Value), nil
		}
	}
	if t.Implements(marshalTextType) {
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return nil, m.fail(t, err.Error())
		}
		return String(text), nil
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return m.value(v.Elem())
	case reflect.Bool:
		return Bool(v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return Int(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if v.Uint() > math.MaxInt64 {
			return nil, m.fail(t, "over 2^63-1")
		}
		return Int(v.Uint()), nil
	case reflect.Float32:
		// The shortest decimal is what is meant: 0.1, not 0.10000000149011612.
		f, _ := strconv.ParseFloat(strconv.FormatFloat(v.Float(), 'g', -1, 32), 64)
		return NewFloat(f), nil
	case reflect.Float64:
		return NewFloat(v.Float()), nil
	case reflect.String:
		return String(v.String()), nil
	case reflect.Slice:
		if v.IsNil() {
			return Null{}, nil
		}
		if t.ConvertibleTo(bytesType) && t.Elem().Kind() == reflect.Uint8 {
			return String(v.Bytes()), nil
		}
		if t == pairsType {
			return m.pairs(v.Interface().(Pairs))
		}
		return m.list(v)
	case reflect.Array:
		return m.list(v)
	case reflect.Map:
		return m.mapping(v)
	case reflect.Struct:
		return m.structure(v)
	}
	return nil, m.fail(t, "")
}

// add marshals v under key k.
func (m *marshaler) add(items []Item, k Key, v reflect.Value) ([]Item, error) {
	m.path = append(m.path, k)
	pv, err := m.value(v)
	m.path = m.path[:len(m.path)-1]
	return append(items, Item{k, pv}), err
}

func (m *marshaler) list(v reflect.Value) (Value, error) {
	var items []Item
	var err error
	for i := range v.Len() {
		if items, err = m.add(items, IntKey(int64(i)), v.Index(i)); err != nil {
			return nil, err
		}
	}
	return NewArray(items...), nil
}

func (m *marshaler) pairs(p Pairs) (Value, error) {
	var items []Item
	for _, e := range p {
		k, err := m.key(reflect.ValueOf(e.Key))
		if err != nil {
			return nil, err
		}
		if items, err = m.add(items, k, reflect.ValueOf(e.Value)); err != nil {
			return nil, err
		}
	}
	return NewArray(items...), nil
}

func (m *marshaler) key(v reflect.Value) (Key, error) {
	if !v.IsValid() {
		return Key{}, m.fail(reflect.TypeFor[any](), "a key is a string or an integer")
	}
	switch v.Kind() {
	case reflect.Interface:
		return m.key(v.Elem())
	case reflect.String:
		return StringKey(v.String()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return IntKey(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if v.Uint() <= math.MaxInt64 {
			return IntKey(int64(v.Uint())), nil
		}
	case reflect.Struct:
		if k, ok := v.Interface().(Key); ok {
			return k, nil
		}
	}
	return Key{}, m.fail(v.Type(), "a key is a string or an integer")
}

func (m *marshaler) mapping(v reflect.Value) (Value, error) {
	if v.IsNil() {
		return Null{}, nil
	}
	type entry struct {
		k Key
		v reflect.Value
	}
	entries := make([]entry, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		k, err := m.key(it.Key())
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{k, it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.k.IsInt() != b.k.IsInt() { // integers first
			return cmp.Compare(len(a.k.s), len(b.k.s))
		}
		return cmp.Or(cmp.Compare(a.k.n, b.k.n)*boolInt(a.k.IsInt()), strings.Compare(a.k.String(), b.k.String()))
	})
	var items []Item
	var err error
	for _, e := range entries {
		if items, err = m.add(items, e.k, e.v); err != nil {
			return nil, err
		}
	}
	return NewArray(items...), nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *marshaler) structure(v reflect.Value) (Value, error) {
	fields, err := structFields(v.Type())
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, f := range fields {
		fv, err := v.FieldByIndexErr(f.index)
		if err != nil || f.omitEmpty && fv.IsZero() {
			continue // of an embedded nil pointer
		}
		if items, err = m.add(items, f.key, fv); err != nil {
			return nil, err
		}
	}
	return NewArray(items...), nil
}

// A field is one that takes part in conversion.
type field struct {
	key       Key
	index     []int
	omitEmpty bool
}

// structFields returns the fields of a struct type in order. Of two with one
// name the less deeply embedded counts; on a tie it is an error, since the
// wrong one would be written to the session.
func structFields(t reflect.Type) ([]field, error) {
	var fields []field
	byKey := make(map[Key]int)
	var walk func(t reflect.Type, index []int, on []reflect.Type) error
	walk = func(t reflect.Type, index []int, on []reflect.Type) error {
		if slices.Contains(on, t) {
			return nil // embeds itself by pointer
		}
		on = append(on, t)
		for i := range t.NumField() {
			sf := t.Field(i)
			tag, hasTag := sf.Tag.Lookup("php")
			name, opts, _ := strings.Cut(tag, ",")
			if tag == "-" {
				continue
			}
			at := append(slices.Clone(index), i)
			if sf.Anonymous && !hasTag {
				et := sf.Type
				if et.Kind() == reflect.Pointer {
					et = et.Elem()
				}
				if et.Kind() == reflect.Struct && (sf.IsExported() || sf.Type.Kind() == reflect.Struct) {
					if err := walk(et, at, on); err != nil {
						return err
					}
					continue
				}
			}
			if !sf.IsExported() {
				if hasTag {
					return &TypeError{Go: t.String(), Msg: fmt.Sprintf("field %s has a php tag but is not exported", sf.Name)}
				}
				continue
			}
			if name == "" {
				name = sf.Name
			}
			f := field{key: StringKey(name), index: at, omitEmpty: slices.Contains(strings.Split(opts, ","), "omitempty")}
			j, taken := byKey[f.key]
			switch {
			case !taken:
				byKey[f.key] = len(fields)
				fields = append(fields, f)
			case len(fields[j].index) == len(f.index):
				return &TypeError{Go: t.String(), Msg: fmt.Sprintf("two fields are named %s", quoteKey(name))}
			case len(f.index) < len(fields[j].index):
				fields[j] = f
			}
		}
		return nil
	}
	return fields, walk(t, nil, nil)
}
