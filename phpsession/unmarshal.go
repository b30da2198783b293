package phpsession

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// Get returns a session variable as a Go value, see [Unmarshal]. The error
// matches [ErrNoKey] if there is no such variable, and [ErrType] if it does not
// fit T.
//
//	n, err := phpsession.Get[int](s, "visits")
func Get[T any](s *Session, name string) (T, error) {
	var t T
	v, ok := s.Get(name)
	if !ok {
		return t, fmt.Errorf("phpsession: %s: %w", quoteKey(name), ErrNoKey)
	}
	u := unmarshaler{path: []Key{s.key(name)}}
	err := u.value(v, reflect.ValueOf(&t).Elem())
	return t, err
}

// Unmarshal stores a PHP value in *dst, which must be a pointer:
//
//   - null: the zero value, a nil pointer
//   - bool: bool
//   - int: an integer that can hold it, or a float that holds it exactly
//   - float: float64 or float32
//   - string: string, []byte, or what implements [encoding.TextUnmarshaler]
//   - array: a map with string or integer keys, or a struct (see [Marshal] for
//     tags; elements without a field and fields without an element are left
//     alone); a list also a slice, or a Go array of that length
//   - object: a map or struct, by the names of its properties
//   - enum: [Enum]
//   - any: a [Value] or the type in question
//
// Into an empty interface go nil, bool, int64, float64, string, []any for
// lists, map[string]any for other arrays (which loses the order), and objects
// and enums as they are. Nothing is converted between strings and numbers, or
// from a float to an int. References are followed.
//
// Errors are a [*TypeError] with the path of the value; *dst may then be filled
// in part.
func Unmarshal(v Value, dst any) error {
	p := reflect.ValueOf(dst)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return &TypeError{Go: fmt.Sprintf("%T", dst), PHP: deref(v).phpType(), Msg: "the destination must be a pointer"}
	}
	var u unmarshaler
	return u.value(v, p.Elem())
}

// Unmarshal stores the session's variables in *dst, a struct or a map, see
// [Unmarshal].
func (s *Session) Unmarshal(dst any) error { return Unmarshal(s.vars(), dst) }

// Assign sets a variable for every field of a struct, or entry of a map or of
// [Pairs]. Other variables are left alone.
func (s *Session) Assign(src any) error {
	v, err := Marshal(src)
	if err != nil {
		return err
	}
	a, ok := v.(*Array)
	if !ok {
		return &TypeError{Go: fmt.Sprintf("%T", src), Msg: "variables come from a struct, a map or Pairs"}
	}
	for k, v := range a.All() {
		if err := s.Put(v, k); err != nil {
			return err
		}
	}
	return nil
}

type unmarshaler struct {
	path  []Key
	count int
}

var unmarshalTextType = reflect.TypeFor[encoding.TextUnmarshaler]()

func (u *unmarshaler) fail(v Value, t reflect.Type, msg string) error {
	var b strings.Builder
	for _, k := range u.path {
		pathStep(&b, k)
	}
	return &TypeError{Path: b.String(), PHP: deref(v).phpType(), Go: t.String(), Msg: msg}
}

func (u *unmarshaler) value(v Value, dst reflect.Value) error {
	t := dst.Type()
	if u.count++; u.count > maxGoValues || len(u.path) > maxGoDepth {
		return u.fail(v, t, "too deep or too large, perhaps it contains itself")
	}
	// A destination that is itself a Value takes it as it is.
	if t == valueType {
		dst.Set(reflect.ValueOf(deref(v)))
		return nil
	}
	v = deref(v)
	if rv := reflect.ValueOf(v); rv.Type() == t {
		dst.Set(rv)
		return nil
	}
	if _, ok := v.(Null); ok {
		dst.SetZero()
		return nil
	}
	switch dst.Kind() {
	case reflect.Pointer:
		if t.Implements(valueType) {
			return u.fail(v, t, "")
		}
		p := reflect.New(t.Elem())
		if err := u.value(v, p.Elem()); err != nil {
			return err
		}
		dst.Set(p)
		return nil
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return u.fail(v, t, "")
		}
		x, err := u.plain(v)
		if err == nil && x != nil {
			dst.Set(reflect.ValueOf(x))
		}
		return err
	}
	if s, ok := v.(String); ok && reflect.PointerTo(t).Implements(unmarshalTextType) {
		if err := dst.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			return u.fail(v, t, err.Error())
		}
		return nil
	}
	switch v := v.(type) {
	case Bool:
		if dst.Kind() == reflect.Bool {
			dst.SetBool(bool(v))
			return nil
		}
	case Int:
		return u.int(v, dst)
	case Float:
		if k := dst.Kind(); k == reflect.Float64 || k == reflect.Float32 {
			f := v.Float64()
			if dst.OverflowFloat(f) && !math.IsInf(f, 0) {
				return u.fail(v, t, "out of range")
			}
			dst.SetFloat(f)
			return nil
		}
	case String:
		switch {
		case dst.Kind() == reflect.String:
			dst.SetString(string(v))
			return nil
		case dst.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
			dst.SetBytes([]byte(v))
			return nil
		}
	case *Array:
		return u.items(v, v.items, dst)
	case *Object:
		if v.custom == nil && (dst.Kind() == reflect.Map || dst.Kind() == reflect.Struct) {
			items := make([]Item, len(v.items))
			for i, it := range v.items {
				items[i] = Item{rawKey(unmangle(it.Key.String()).Name), it.Value}
			}
			return u.items(v, items, dst)
		}
	}
	return u.fail(v, t, "")
}

func (u *unmarshaler) int(v Int, dst reflect.Value) error {
	n := int64(v)
	switch dst.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if !dst.OverflowInt(n) {
			dst.SetInt(n)
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if n >= 0 && !dst.OverflowUint(uint64(n)) {
			dst.SetUint(uint64(n))
			return nil
		}
	case reflect.Float32, reflect.Float64:
		bits := 53
		if dst.Kind() == reflect.Float32 {
			bits = 24
		}
		if n >= -1<<bits && n <= 1<<bits {
			dst.SetFloat(float64(n))
			return nil
		}
	default:
		return u.fail(v, dst.Type(), "")
	}
	return u.fail(v, dst.Type(), "out of range")
}

// items fills dst from the elements of v.
func (u *unmarshaler) items(v Value, items []Item, dst reflect.Value) error {
	t := dst.Type()
	switch dst.Kind() {
	case reflect.Slice, reflect.Array:
		a, ok := v.(*Array)
		if !ok || !a.IsList() {
			return u.fail(v, t, "its keys are not 0, 1, 2, …")
		}
		if dst.Kind() == reflect.Array {
			if dst.Len() != len(items) {
				return u.fail(v, t, fmt.Sprintf("it has %d elements", len(items)))
			}
		} else {
			dst.Set(reflect.MakeSlice(t, len(items), len(items)))
		}
		for i, it := range items {
			if err := u.element(it, dst.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		return u.mapping(v, items, dst)
	case reflect.Struct:
		fields, err := structFields(t)
		if err != nil {
			return err
		}
		for _, f := range fields {
			i := indexOf(items, f.key)
			if i < 0 && f.key.IsInt() {
				i = indexOf(items, rawKey(f.key.String()))
			}
			if i < 0 {
				continue
			}
			fv, err := settable(dst, f.index)
			if err != nil {
				return u.fail(v, t, err.Error())
			}
			if err := u.element(items[i], fv); err != nil {
				return err
			}
		}
		return nil
	}
	return u.fail(v, t, "")
}

func (u *unmarshaler) mapping(v Value, items []Item, dst reflect.Value) error {
	t := dst.Type()
	m := reflect.MakeMapWithSize(t, len(items))
	for _, it := range items {
		k := reflect.New(t.Key()).Elem()
		switch {
		case t.Key() == reflect.TypeFor[Key]():
			k.Set(reflect.ValueOf(it.Key))
		case k.Kind() == reflect.String:
			k.SetString(it.Key.String())
		case k.CanInt() && it.Key.IsInt() && !k.OverflowInt(it.Key.n):
			k.SetInt(it.Key.n)
		case k.CanUint() && it.Key.IsInt() && it.Key.n >= 0 && !k.OverflowUint(uint64(it.Key.n)):
			k.SetUint(uint64(it.Key.n))
		default:
			return u.fail(v, t, "key "+quoteKey(it.Key.String())+" does not fit")
		}
		e := reflect.New(t.Elem()).Elem()
		if err := u.element(it, e); err != nil {
			return err
		}
		m.SetMapIndex(k, e)
	}
	dst.Set(m)
	return nil
}

func (u *unmarshaler) element(it Item, dst reflect.Value) error {
	u.path = append(u.path, it.Key)
	err := u.value(it.Value, dst)
	u.path = u.path[:len(u.path)-1]
	return err
}

// plain returns v for an empty interface.
func (u *unmarshaler) plain(v Value) (any, error) {
	switch v := v.(type) {
	case Bool:
		return bool(v), nil
	case Int:
		return int64(v), nil
	case Float:
		return v.Float64(), nil
	case String:
		return string(v), nil
	case *Array:
		if v.IsList() {
			list := make([]any, 0)
			err := u.value(v, reflect.ValueOf(&list).Elem())
			return list, err
		}
		m := make(map[string]any)
		err := u.value(v, reflect.ValueOf(&m).Elem())
		return m, err
	case Null:
		return nil, nil
	}
	return v, nil
}

// settable returns the field of an index path and makes embedded pointers on
// the way.
func settable(v reflect.Value, index []int) (reflect.Value, error) {
	for i, x := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return v, fmt.Errorf("embedded pointer to unexported %s is nil", v.Type().Elem())
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v, nil
}
