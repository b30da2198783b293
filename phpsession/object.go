package phpsession

import (
	"iter"
	"slices"
	"strings"
)

// Visibility of a property.
type Visibility int

// The visibilities of PHP. A private property belongs to the class that
// declares it, which may be a parent of the object's class.
const (
	Public Visibility = iota
	Protected
	Private
)

func (v Visibility) String() string {
	switch v {
	case Protected:
		return "protected"
	case Private:
		return "private"
	}
	return "public"
}

// A Property is one of an object's.
type Property struct {
	Name       string
	Visibility Visibility
	Class      string // that declares a private property, else ""
	Value      Value
}

// An Object is a PHP object of any class; the class need not be known. What
// its class returned from __serialize is kept as its properties: the bytes do
// not tell the two apart. An object of a class that implements Serializable
// (C: in serialize()) has opaque bytes instead, see [Object.Custom].
//
// Two places that hold the same *Object hold the same object.
type Object struct {
	class  string
	items  []Item // keys as PHP mangles them: "\0*\0name", "\0Class\0name"
	custom *custom
	owner  *changes
}

// NewObject returns an object of the given class and properties.
func NewObject(class string, props ...Property) *Object {
	o := &Object{class: class}
	for _, p := range props {
		o.items = append(o.items, Item{rawKey(mangle(p)), p.Value})
	}
	o.items, _ = dedupe(o.items)
	return o
}

// NewCustomObject returns an object whose class implements Serializable, with
// the bytes that its serialize method returned.
func NewCustomObject(class, data string) *Object {
	return &Object{class: class, custom: newCustom(data)}
}

// Class returns the name of the class.
func (o *Object) Class() string { return o.class }

// Custom returns the bytes that the class's Serializable::serialize returned,
// and whether the object has such.
func (o *Object) Custom() (string, bool) {
	if o.custom == nil {
		return "", false
	}
	if o.custom.linked {
		return o.custom.data, true // its back-references count from elsewhere
	}
	data, err := o.custom.standalone(Limits{}.withDefaults())
	if err != nil {
		data = o.custom.data
	}
	return data, true
}

// SetCustom replaces the bytes of a custom serialised object.
func (o *Object) SetCustom(data string) {
	o.custom, o.items = newCustom(data), nil
	o.owner.touch()
}

// Len returns the number of properties.
func (o *Object) Len() int { return len(o.items) }

// Properties iterates over the properties in order; values may be *Ref.
func (o *Object) Properties() iter.Seq[Property] {
	return func(yield func(Property) bool) {
		for _, it := range o.items {
			p := unmangle(it.Key.String())
			p.Value = it.Value
			if !yield(p) {
				return
			}
		}
	}
}

// Get returns the value of the property of that name, of whatever visibility,
// behind a reference if there is one. Of several (a parent's private property)
// that of the object's own class counts.
func (o *Object) Get(name string) (Value, bool) {
	if i := o.index(name); i >= 0 {
		return deref(o.items[i].Value), true
	}
	return nil, false
}

// Set changes the property of that name, of whatever visibility, or adds a
// public one. A property that is a reference is set through it, as PHP does.
func (o *Object) Set(name string, v Value) {
	i := o.index(name)
	switch {
	case i < 0:
		o.items = append(slices.Clip(o.items), Item{rawKey(name), v})
	default:
		setItem(&o.items[i], v)
	}
	o.owner.touch()
}

// SetProperty changes or adds exactly this property.
func (o *Object) SetProperty(p Property) {
	k := rawKey(mangle(p))
	if i := indexOf(o.items, k); i >= 0 {
		setItem(&o.items[i], p.Value)
	} else {
		o.items = append(slices.Clip(o.items), Item{k, p.Value})
	}
	o.owner.touch()
}

// Delete removes the property of that name and reports whether there was one.
func (o *Object) Delete(name string) bool {
	i := o.index(name)
	if i < 0 {
		return false
	}
	o.items = slices.Concat(o.items[:i], o.items[i+1:])
	o.owner.touch()
	return true
}

// setItem assigns as PHP does: through a reference, unless a reference is assigned.
func setItem(it *Item, v Value) {
	if r, ok := it.Value.(*Ref); ok {
		if _, isRef := v.(*Ref); !isRef {
			r.Set(v)
			return
		}
	}
	it.Value = v
}

func (o *Object) index(name string) int {
	best := -1
	for i, it := range o.items {
		p := unmangle(it.Key.String())
		if p.Name != name {
			continue
		}
		if p.Visibility != Private || p.Class == o.class {
			return i
		}
		if best < 0 {
			best = i
		}
	}
	return best
}

func mangle(p Property) string {
	switch p.Visibility {
	case Protected:
		return "\x00*\x00" + p.Name
	case Private:
		return "\x00" + p.Class + "\x00" + p.Name
	}
	return p.Name
}

func unmangle(s string) Property {
	if rest, ok := strings.CutPrefix(s, "\x00"); ok {
		if class, name, ok := strings.Cut(rest, "\x00"); ok && class != "" {
			if class == "*" {
				return Property{Name: name, Visibility: Protected}
			}
			return Property{Name: name, Visibility: Private, Class: class}
		}
	}
	return Property{Name: s}
}
