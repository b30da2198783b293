package phpsession

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// DecodeJSON reads a session from the package's JSON form. Errors match
// [ErrJSON] or [ErrLimit].
func DecodeJSON(data []byte, opts ...Option) (*Session, error) {
	c := newConfig(opts)
	x, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	r := jsonReader{limits: c.limits, objects: map[int]*Object{}, refs: map[int]*Ref{}, arrays: map[int]*Array{}}
	v, err := r.value(x, "session")
	if err != nil {
		return nil, err
	}
	if _, ok := deref(v).(*Array); !ok {
		return nil, jsonError("session", "a session is an array")
	}
	s := &Session{root: v, limits: c.limits}
	original, ok := x.(map[string]any)["original"].(map[string]any)
	if !ok {
		return s, nil
	}
	return s, s.adopt(original)
}

// UnmarshalJSON is DecodeJSON, for encoding/json.
func (s *Session) UnmarshalJSON(data []byte) error {
	d, err := DecodeJSON(data)
	if err == nil {
		*s = *d
	}
	return err
}

// adopt takes over the original bytes if the session is still the one that
// they decode to.
func (s *Session) adopt(original map[string]any) error {
	name, _ := original["handler"].(string)
	h, err := ParseHandler(name)
	if err != nil {
		return jsonError("original", err.Error())
	}
	raw, err := base64Field(original, "bytes_base64", "original")
	if err != nil {
		return err
	}
	c := newConfig([]Option{WithLimits(s.limits)})
	old, err := decode(h, raw, c)
	if err != nil {
		return jsonError("original", err.Error())
	}
	// The JSON form tells more apart than any handler's bytes.
	a, err := old.tree()
	if err != nil {
		return err
	}
	b, err := s.tree()
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return nil // edited
	}
	*s = *old
	return nil
}

// tree returns the JSON form without the original bytes.
func (s *Session) tree() ([]byte, error) { return EncodeValueJSON(s.rootValue()) }

// DecodeValueJSON reads the JSON form of one value.
func DecodeValueJSON(data []byte, opts ...Option) (Value, error) {
	x, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	r := jsonReader{limits: newConfig(opts).limits, objects: map[int]*Object{}, refs: map[int]*Ref{}, arrays: map[int]*Array{}}
	return r.value(x, "value")
}

func parseJSON(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var x any
	if err := d.Decode(&x); err != nil {
		return nil, fmt.Errorf("phpsession: %w: %w", ErrJSON, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("phpsession: %w: more than one JSON value", ErrJSON)
	}
	return x, nil
}

type jsonReader struct {
	limits   Limits
	depth    int
	elements int
	objects  map[int]*Object
	refs     map[int]*Ref
	arrays   map[int]*Array
}

func jsonError(at, msg string) error {
	return fmt.Errorf("phpsession: %w: %s: %s", ErrJSON, at, msg)
}

func (r *jsonReader) value(x any, at string) (Value, error) {
	if r.depth++; r.depth > r.limits.MaxDepth+1 {
		return nil, fmt.Errorf("phpsession: %w: nested deeper than %d", ErrLimit, r.limits.MaxDepth)
	}
	defer func() { r.depth-- }()
	m, ok := x.(map[string]any)
	if !ok {
		return nil, jsonError(at, `a value is a JSON object, as {"int":"1"}`)
	}
	if n, ok, err := number(m, "same_reference_as", at); ok || err != nil {
		ref := r.refs[n]
		if err == nil && ref == nil {
			err = jsonError(at, "same_reference_as a reference that was not named before")
		}
		return ref, err
	}
	n, isRef, err := number(m, "reference", at)
	if err != nil {
		return nil, err
	}
	if !isRef {
		return r.plain(m, at, false)
	}
	if r.refs[n] != nil {
		return nil, jsonError(at, fmt.Sprintf("reference %d is named twice", n))
	}
	ref := &Ref{v: Null{}}
	r.refs[n] = ref
	v, err := r.plain(m, at, true)
	ref.v = v
	return ref, err
}

func (r *jsonReader) plain(m map[string]any, at string, isRef bool) (Value, error) {
	for name, x := range m {
		switch name {
		case "null":
			return Null{}, nil
		case "bool":
			if b, ok := x.(bool); ok {
				return Bool(b), nil
			}
			return nil, jsonError(at, "bool must be true or false")
		case "int":
			n, err := strconv.ParseInt(scalar(x), 10, 64)
			if err != nil {
				return nil, jsonError(at, `int must be a decimal of 64 bits in a string, as "42"`)
			}
			return Int(n), nil
		case "float", "bits":
			return jsonFloat(m, at)
		case "string":
			s, ok := x.(string)
			if !ok {
				return nil, jsonError(at, "string must be a string")
			}
			return String(s), nil
		case "bytes_base64":
			s, err := base64Field(m, name, at)
			return String(s), err
		case "array":
			return r.array(m, at)
		case "same_array_as":
			n, _, err := number(m, name, at)
			a := r.arrays[n]
			switch {
			case err != nil:
			case a == nil:
				err = jsonError(at, "same_array_as an array that was not given before")
			case a.open && !isRef:
				err = jsonError(at, "an array cannot contain itself but by reference")
			}
			return a, err
		case "object":
			return r.object(m, at)
		case "same_object_as":
			n, _, err := number(m, name, at)
			if err == nil && r.objects[n] == nil {
				err = jsonError(at, "same_object_as an object that was not given before")
			}
			return r.objects[n], err
		case "enum", "enum_base64":
			return jsonEnum(m, at)
		}
	}
	return nil, jsonError(at, "none of null, bool, int, float, string, bytes_base64, array, object, enum, same_array_as, same_object_as, same_reference_as")
}

func jsonFloat(m map[string]any, at string) (Value, error) {
	var f Float
	if hex, ok := m["bits"].(string); ok {
		bits, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			return nil, jsonError(at, "bits must be 16 hexadecimal digits")
		}
		f.bits = bits
	} else {
		n, ok := parseFloat(scalar(m["float"]))
		if !ok {
			return nil, jsonError(at, `float must be a decimal, "INF", "-INF" or "NAN"`)
		}
		f = NewFloat(n)
	}
	if text, ok := m["spelling"].(string); ok {
		n, ok := parseFloat(text)
		if !ok || NewFloat(n).bits != f.bits {
			return nil, jsonError(at, "the spelling is of another float")
		}
		f.text = text
	}
	return f, nil
}

func jsonEnum(m map[string]any, at string) (Value, error) {
	name, _ := m["enum"].(string)
	if _, ok := m["enum_base64"]; ok {
		var err error
		if name, err = base64Field(m, "enum_base64", at); err != nil {
			return nil, err
		}
	}
	class, cas, ok := strings.Cut(name, "::")
	if !ok {
		return nil, jsonError(at, "an enum is Class::Case")
	}
	return Enum{class, cas}, nil
}

func (r *jsonReader) array(m map[string]any, at string) (Value, error) {
	a := &Array{open: true}
	n, ok, err := number(m, "array_id", at)
	if err != nil {
		return nil, err
	}
	if ok {
		if r.arrays[n] != nil {
			return nil, jsonError(at, fmt.Sprintf("array_id %d is given twice", n))
		}
		r.arrays[n] = a
	}
	if a.items, err = r.pairs(m["array"], at); err != nil {
		return nil, err
	}
	a.open = false
	if len(a.items) == 0 && !ok {
		return emptyArray, nil
	}
	return a, nil
}

func (r *jsonReader) pairs(x any, at string) ([]Item, error) {
	list, err := r.list(x, at)
	if err != nil {
		return nil, err
	}
	items := make([]Item, len(list))
	for i, e := range list {
		at := at + "[" + strconv.Itoa(i) + "]"
		if len(at) > 200 {
			at = "…" + at[len(at)-150:]
		}
		pair, ok := e.([]any)
		if !ok || len(pair) != 2 {
			return nil, jsonError(at, "an element is [key,value]")
		}
		k, err := r.value(pair[0], at)
		if err != nil {
			return nil, err
		}
		switch k := k.(type) {
		case Int:
			items[i].Key = IntKey(int64(k))
		case String:
			items[i].Key = rawKey(string(k))
		default:
			return nil, jsonError(at, "a key is an int or a string")
		}
		if items[i].Value, err = r.value(pair[1], at); err != nil {
			return nil, err
		}
	}
	if hasDuplicate(items) {
		return nil, jsonError(at, "a key occurs twice")
	}
	return items, nil
}

func (r *jsonReader) list(x any, at string) ([]any, error) {
	list, ok := x.([]any)
	if !ok {
		return nil, jsonError(at, "a list should stand here")
	}
	if r.elements += len(list); r.elements > r.limits.MaxElements {
		return nil, fmt.Errorf("phpsession: %w: more than %d elements", ErrLimit, r.limits.MaxElements)
	}
	return list, nil
}

func (r *jsonReader) object(m map[string]any, at string) (Value, error) {
	o := new(Object)
	class, named := m["object"].(string)
	o.class = class
	if _, ok := m["class_base64"]; ok {
		var err error
		if o.class, err = base64Field(m, "class_base64", at); err != nil {
			return nil, err
		}
	} else if !named {
		return nil, jsonError(at, "object must be the name of a class")
	}
	n, ok, err := number(m, "id", at)
	if err != nil {
		return nil, err
	}
	if ok {
		if r.objects[n] != nil {
			return nil, jsonError(at, fmt.Sprintf("id %d is given twice", n))
		}
		r.objects[n] = o
	}
	if x, ok := m["custom"]; ok {
		v, err := r.value(x, at)
		data, isString := v.(String)
		if err == nil && !isString {
			err = jsonError(at, "custom must be a string")
		}
		o.custom = newCustom(string(data))
		return o, err
	}
	if x, ok := m["custom_value"]; ok {
		v, err := r.value(x, at)
		if err != nil {
			return nil, err
		}
		o.custom = &custom{nested: v, linked: true}
		o.custom.data, err = o.custom.standalone(r.limits)
		return o, err
	}
	if x, ok := m["serialize_returns"]; ok {
		ret, _ := x.(map[string]any)
		o.items, err = r.pairs(ret["array"], at)
		return o, err
	}
	return o, r.properties(o, m["properties"], at)
}

func (r *jsonReader) properties(o *Object, x any, at string) error {
	list, err := r.list(x, at)
	if err != nil {
		return err
	}
	o.items = make([]Item, len(list))
	for i, e := range list {
		at := at + "." + strconv.Itoa(i)
		if len(at) > 200 {
			at = "…" + at[len(at)-150:]
		}
		prop, ok := e.([]any)
		if !ok || len(prop) != 3 {
			return jsonError(at, "a property is [name,visibility,value]")
		}
		var p Property
		switch name := prop[0].(type) {
		case string:
			p.Name = name
		case map[string]any:
			v, err := r.plain(name, at, false)
			if err != nil {
				return err
			}
			s, ok := v.(String)
			if !ok {
				return jsonError(at, "the name of a property is a string")
			}
			p.Name = string(s)
		default:
			return jsonError(at, "the name of a property is a string")
		}
		visibility, _ := prop[1].(string)
		kind, class, _ := strings.Cut(visibility, ":")
		switch {
		case visibility == "public":
		case visibility == "protected":
			p.Visibility = Protected
		case kind == "private" && class != "":
			p.Visibility, p.Class = Private, class
		default:
			return jsonError(at, `a visibility is "public", "protected" or "private:Class"`)
		}
		v, err := r.value(prop[2], at)
		if err != nil {
			return err
		}
		o.items[i] = Item{rawKey(mangle(p)), v}
	}
	if hasDuplicate(o.items) {
		return jsonError(at, "a property occurs twice")
	}
	return nil
}

// number reads an optional whole number.
func number(m map[string]any, name, at string) (n int, ok bool, err error) {
	x, ok := m[name]
	if !ok {
		return 0, false, nil
	}
	n, err = strconv.Atoi(scalar(x))
	if err != nil {
		return 0, true, jsonError(at, name+" must be a whole number")
	}
	return n, true, nil
}

// scalar returns a JSON string or number as text.
func scalar(x any) string {
	switch x := x.(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	}
	return ""
}

func base64Field(m map[string]any, name, at string) (string, error) {
	s, _ := m[name].(string)
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", jsonError(at, name+" must be base64")
	}
	return string(b), nil
}
