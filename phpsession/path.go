package phpsession

import (
	"fmt"
	"strconv"
	"strings"
)

// Lookup follows a path of variable name, array keys and property names (each
// a string, an int or a [Key]) and returns the value there, behind references.
// The error matches [ErrNoKey] if there is none, [ErrType] if the path leads
// into a scalar.
//
//	v, err := s.Lookup("_sf2_attributes", "cart", 0, "qty")
func (s *Session) Lookup(path ...any) (Value, error) {
	var v Value = s.vars()
	for i, step := range path {
		k, err := pathKey(step)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			k = s.key(k.String())
		}
		var ok bool
		switch c := deref(v).(type) {
		case *Array:
			v, ok = c.Get(k)
		case *Object:
			v, ok = c.Get(k.String())
		default:
			return nil, &TypeError{Path: pathString(path[:i]), PHP: c.phpType(), Msg: "has no elements"}
		}
		if !ok {
			return nil, fmt.Errorf("phpsession: %s: %w", pathString(path[:i+1]), ErrNoKey)
		}
	}
	return deref(v), nil
}

// Put sets the value at a path to the PHP form of v, see [Marshal]. Arrays that
// are missing on the way are made, as in PHP; a scalar on the way is an error
// that matches [ErrType]. References on the way are followed.
func (s *Session) Put(v any, path ...any) error {
	pv, err := Marshal(v)
	if err != nil {
		return err
	}
	return s.modify(path, func(old Value) (Value, error) {
		if r, ok := old.(*Ref); ok {
			if _, isRef := pv.(*Ref); !isRef {
				r.Set(pv)
				return r, nil
			}
		}
		return pv, nil
	})
}

// Remove takes away the element at a path. Nothing happens, and the error
// matches [ErrNoKey], if there is none.
func (s *Session) Remove(path ...any) error {
	if _, err := s.Lookup(path...); err != nil {
		return err
	}
	return s.modify(path, func(Value) (Value, error) { return nil, nil })
}

// modify replaces the value at a path by what f makes of it; nil removes it.
// Arrays on the way are copied, as they are values; objects and references are
// changed in place.
func (s *Session) modify(path []any, f func(Value) (Value, error)) error {
	if len(path) == 0 {
		return fmt.Errorf("phpsession: empty path: %w", ErrNoKey)
	}
	keys := make([]Key, len(path))
	for i, step := range path {
		k, err := pathKey(step)
		if err != nil {
			return err
		}
		keys[i] = k
	}
	keys[0] = s.key(keys[0].String())
	changed, err := replace(s.vars(), keys, path, 0, f)
	if err != nil {
		return err
	}
	s.setVars(changed.(*Array))
	return nil
}

// replace returns container v with the value at keys[at:] replaced.
func replace(v Value, keys []Key, path []any, at int, f func(Value) (Value, error)) (Value, error) {
	if at == len(keys) {
		return f(v)
	}
	k := keys[at]
	switch c := v.(type) {
	case *Ref:
		changed, err := replace(c.Value(), keys, path, at, f)
		if err == nil {
			c.Set(changed)
		}
		return c, err
	case nil, Null:
		return replace(emptyArray, keys, path, at, f)
	case *Array:
		var old Value
		if i := c.index(k); i >= 0 {
			old = c.items[i].Value
		}
		changed, err := replace(old, keys, path, at+1, f)
		switch {
		case err != nil:
			return nil, err
		case changed == nil:
			return c.Without(k), nil
		}
		return c.With(k, changed), nil
	case *Object:
		if c.custom != nil {
			return nil, &TypeError{Path: pathString(path[:at]), PHP: c.phpType(), Msg: "is custom serialised"}
		}
		name := k.String()
		i := c.index(name)
		var old Value
		if i >= 0 {
			old = c.items[i].Value
		}
		changed, err := replace(old, keys, path, at+1, f)
		switch {
		case err != nil:
			return nil, err
		case changed == nil:
			c.Delete(name)
		case i >= 0:
			c.items[i].Value = changed
		default:
			c.Set(name, changed)
		}
		c.owner.touch()
		return c, nil
	default:
		return nil, &TypeError{Path: pathString(path[:at]), PHP: deref(v).phpType(), Msg: "has no elements"}
	}
}

func pathKey(step any) (Key, error) {
	switch k := step.(type) {
	case string:
		return StringKey(k), nil
	case int:
		return IntKey(int64(k)), nil
	case int64:
		return IntKey(k), nil
	case Key:
		return k, nil
	}
	return Key{}, &TypeError{Go: fmt.Sprintf("%T", step), Msg: "a path is made of strings, ints and Keys"}
}

// pathString writes a path as cart[0].price .
func pathString(path []any) string {
	var b strings.Builder
	for _, step := range path {
		k, err := pathKey(step)
		if err != nil {
			continue
		}
		pathStep(&b, k)
	}
	return b.String()
}

func pathStep(b *strings.Builder, k Key) {
	switch name := k.String(); {
	case k.IsInt():
		b.WriteString("[" + name + "]")
	case b.Len() > 0 && plainName(name):
		b.WriteString("." + name)
	case plainName(name):
		b.WriteString(name)
	default:
		b.WriteString("[" + strconv.Quote(name) + "]")
	}
}

func plainName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`.[]"|`, c) >= 0 {
			return false
		}
	}
	return true
}
