package websession

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Codec says how the values of a session are written. The zero value is JSON.
type Codec struct {
	name string
	php  bool
	open func(data []byte) (values, error) // empty data: an empty session
	err  error                             // of making the codec
}

// String returns the codec's name.
func (c Codec) String() string {
	if c.open == nil {
		return "json"
	}
	return c.name
}

// decode reads a session; the error is a *DataError.
func (c Codec) decode(data []byte) (v values, err error) {
	defer func() { // encoding/gob says of itself that it is not hardened against hostile input
		if p := recover(); p != nil {
			v, err = nil, &DataError{c.name, fmt.Errorf("decoder panicked: %v", p)}
		}
	}()
	if v, err = c.open(data); err != nil {
		return nil, &DataError{c.name, err}
	}
	return v, nil
}

// empty returns a session without values.
func (c Codec) empty() values {
	v, err := c.open(nil)
	if err != nil {
		panic("websession: codec " + c.name + " cannot make an empty session: " + err.Error())
	}
	return v
}

// values are what a session holds, in a codec's form.
type values interface {
	keys() []string // in order
	has(key string) bool
	// get stores the value in *dst; found is false if there is none.
	get(key string, dst any) (found bool, err error)
	// put stores a value and reports whether that changed anything.
	put(key string, v any) (changed bool, err error)
	delete(key string) bool
	encode() ([]byte, error)
	// same reports whether key has the same value, or none, in the other, which is of the same codec.
	same(key string, other values) bool
	// take sets key to the value it has in the other, which is of the same codec.
	take(key string, other values) error
}

// raw is values encoded one by one, in order: what JSON and gob share.
type raw struct {
	order     []string
	vals      map[string][]byte
	marshal   func(v any) ([]byte, error)
	unmarshal func(data []byte, dst any) error
	wrap      func(r *raw) ([]byte, error) // the whole session
	checkKey  func(key string) error
}

func (r *raw) keys() []string { return slices.Clone(r.order) }

func (r *raw) has(key string) bool { _, ok := r.vals[key]; return ok }

func (r *raw) get(key string, dst any) (bool, error) {
	b, ok := r.vals[key]
	if !ok {
		return false, nil
	}
	if err := r.unmarshal(b, dst); err != nil {
		return true, fmt.Errorf("%w: %q into %T: %w", ErrType, key, dst, err)
	}
	return true, nil
}

func (r *raw) put(key string, v any) (bool, error) {
	if err := r.checkKey(key); err != nil {
		return false, err
	}
	b, err := r.marshal(v)
	if err != nil {
		return false, fmt.Errorf("%w: %q of type %T: %w", ErrType, key, v, err)
	}
	old, ok := r.vals[key]
	if ok && bytes.Equal(old, b) {
		return false, nil
	}
	r.set(key, b)
	return true, nil
}

func (r *raw) set(key string, b []byte) {
	if _, ok := r.vals[key]; !ok {
		r.order = append(r.order, key)
	}
	r.vals[key] = b
}

func (r *raw) delete(key string) bool {
	if _, ok := r.vals[key]; !ok {
		return false
	}
	delete(r.vals, key)
	r.order = slices.DeleteFunc(r.order, func(k string) bool { return k == key })
	return true
}

func (r *raw) encode() ([]byte, error) { return r.wrap(r) }

func (r *raw) same(key string, other values) bool {
	o := other.(*raw)
	a, okA := r.vals[key]
	b, okB := o.vals[key]
	return okA == okB && bytes.Equal(a, b)
}

func (r *raw) take(key string, other values) error {
	if b, ok := other.(*raw).vals[key]; ok {
		r.set(key, b)
	}
	return nil
}

// Gob writes values with encoding/gob, each on its own, so no type needs to be registered. Only Go reads it.
func Gob() Codec { return Codec{name: "gob", open: openGob} }

// gobEntry is a value as it is stored; a session is a list of them.
type gobEntry struct {
	Key   string
	Value []byte
}

func openGob(data []byte) (values, error) {
	r := &raw{vals: map[string][]byte{}, marshal: marshalGob, unmarshal: unmarshalGob, wrap: wrapGob, checkKey: anyKey}
	if len(data) == 0 {
		return r, nil
	}
	var entries []gobEntry
	in := bytes.NewReader(data)
	if err := gob.NewDecoder(in).Decode(&entries); err != nil {
		return nil, err
	}
	if in.Len() > 0 {
		return nil, fmt.Errorf("%d bytes behind the end", in.Len())
	}
	for _, e := range entries {
		r.set(e.Key, e.Value)
	}
	return r, nil
}

func anyKey(string) error { return nil }

func marshalGob(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func unmarshalGob(data []byte, dst any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	err = gob.NewDecoder(bytes.NewReader(data)).Decode(dst)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func wrapGob(r *raw) ([]byte, error) {
	entries := make([]gobEntry, 0, len(r.order))
	for _, k := range r.order {
		entries = append(entries, gobEntry{k, r.vals[k]})
	}
	return marshalGob(entries)
}
