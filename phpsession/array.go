package phpsession

import (
	"iter"
	"math"
	"slices"
)

// An Item is an element of an array.
type Item struct {
	Key   Key
	Value Value
}

// An Array is PHP's array: ordered, with integer and string keys, no key
// twice. It never changes; With, Without and Append return changed copies that
// share the elements. A nil Array is empty.
type Array struct {
	items []Item
	open  bool // being decoded
}

// emptyArray stands for every array without elements, as in PHP, where
// igbinary writes the second one as "the same array".
var emptyArray = &Array{}

// NewArray returns an array of the items in their order. Of two equal keys the
// later value counts, at the place of the first, as in PHP.
func NewArray(items ...Item) *Array {
	if len(items) == 0 {
		return emptyArray
	}
	kept, _ := dedupe(slices.Clone(items))
	return &Array{items: kept}
}

// NewList returns an array with the keys 0, 1, 2, …
func NewList(values ...Value) *Array {
	if len(values) == 0 {
		return emptyArray
	}
	items := make([]Item, len(values))
	for i, v := range values {
		items[i] = Item{IntKey(int64(i)), v}
	}
	return &Array{items: items}
}

func (a *Array) list() []Item {
	if a == nil {
		return nil
	}
	return a.items
}

// Len returns the number of elements.
func (a *Array) Len() int { return len(a.list()) }

// At returns element number i in order, from 0. It panics outside of 0 to Len-1.
func (a *Array) At(i int) Item { return a.list()[i] }

// Get returns the value of a key, behind a reference if there is one.
func (a *Array) Get(k Key) (Value, bool) {
	if i := a.index(k); i >= 0 {
		return deref(a.items[i].Value), true
	}
	return nil, false
}

// Ref returns the reference that the element of key k is, nil if it is none.
func (a *Array) Ref(k Key) *Ref {
	if i := a.index(k); i >= 0 {
		r, _ := a.items[i].Value.(*Ref)
		return r
	}
	return nil
}

// All iterates over the elements in order; values may be *Ref.
func (a *Array) All() iter.Seq2[Key, Value] {
	return func(yield func(Key, Value) bool) {
		for _, it := range a.list() {
			if !yield(it.Key, it.Value) {
				return
			}
		}
	}
}

// IsList reports whether the keys are 0, 1, 2, … in this order.
func (a *Array) IsList() bool {
	for i, it := range a.list() {
		if it.Key != IntKey(int64(i)) {
			return false
		}
	}
	return true
}

// With returns a copy in which key k has value v: in its place if the key
// exists, else at the end. It replaces a reference rather than setting it.
func (a *Array) With(k Key, v Value) *Array {
	items := a.list()
	if i := a.index(k); i >= 0 {
		items = slices.Clone(items)
		items[i].Value = v
		return &Array{items: items}
	}
	return &Array{items: append(slices.Clip(items), Item{k, v})}
}

// Without returns a copy without key k.
func (a *Array) Without(k Key) *Array {
	i := a.index(k)
	if i < 0 {
		if a == nil {
			return emptyArray
		}
		return a
	}
	if len(a.items) == 1 {
		return emptyArray
	}
	return &Array{items: slices.Concat(a.items[:i], a.items[i+1:])}
}

// Append returns a copy with v under the next free integer key: one above the
// highest, at least 0. An array whose highest key is the largest integer has
// no free key and is returned unchanged; PHP throws there.
func (a *Array) Append(v Value) *Array {
	next := int64(0)
	for _, it := range a.list() {
		if it.Key.IsInt() && it.Key.n >= next {
			if it.Key.n == math.MaxInt64 {
				return a
			}
			next = it.Key.n + 1
		}
	}
	return &Array{items: append(slices.Clip(a.list()), Item{IntKey(next), v})}
}

func (a *Array) index(k Key) int { return indexOf(a.list(), k) }

func indexOf(items []Item, k Key) int {
	if k.IsInt() && k.n >= 0 && k.n < int64(len(items)) && items[k.n].Key == k {
		return int(k.n)
	}
	for i := range items {
		if items[i].Key == k {
			return i
		}
	}
	return -1
}

// dedupe merges equal keys in place: the later value at the first place. moved
// is nil if there were none, else it gives every old index its new one.
func dedupe(items []Item) (kept []Item, moved []int32) {
	if !hasDuplicate(items) {
		return items, nil
	}
	moved = make([]int32, len(items))
	first := make(map[Key]int32, len(items))
	kept = items[:0]
	for i, it := range items {
		j, ok := first[it.Key]
		if ok {
			kept[j].Value = it.Value
		} else {
			j = int32(len(kept))
			first[it.Key] = j
			kept = append(kept, it)
		}
		moved[i] = j
	}
	clear(items[len(kept):])
	return kept, moved
}

// hasDuplicate looks for equal keys without allocating for the arrays that
// occur: short ones, and lists.
func hasDuplicate(items []Item) bool {
	if len(items) <= 12 {
		for i := 1; i < len(items); i++ {
			for j := range i {
				if items[j].Key == items[i].Key {
					return true
				}
			}
		}
		return false
	}
	rising := true
	for i := 1; i < len(items) && rising; i++ {
		rising = items[i-1].Key.IsInt() && items[i].Key.IsInt() && items[i-1].Key.n < items[i].Key.n
	}
	if rising {
		return false
	}
	order := make([]int32, len(items))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int { return items[x].Key.compare(items[y].Key) })
	for i := 1; i < len(order); i++ {
		if items[order[i-1]].Key == items[order[i]].Key {
			return true
		}
	}
	return false
}
