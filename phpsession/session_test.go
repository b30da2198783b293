package phpsession

import (
	"errors"
	"reflect"
	"slices"
	"testing"
)

func encoded(t *testing.T, s *Session, h Handler) string {
	t.Helper()
	b, err := s.Encode(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestZeroSession(t *testing.T) {
	var s Session
	if s.Len() != 0 || s.Changed() || len(s.Keys()) != 0 || s.Handler() != PHP {
		t.Error("the zero session is not an empty one")
	}
	for h, want := range map[Handler]string{"": "", PHP: "", PHPBinary: "", PHPSerialize: "a:0:{}", Igbinary: igHeader + "\x14\x00"} {
		if got := encoded(t, &s, h); got != want {
			t.Errorf("%s: %q", h, got)
		}
	}
	if err := s.Set("a", 1); err != nil || !s.Changed() {
		t.Errorf("set: %v", err)
	}
	if got := encoded(t, &s, ""); got != "a|i:1;" {
		t.Errorf("%q", got)
	}
}

func TestHandlerNames(t *testing.T) {
	for _, h := range Handlers() {
		if got, err := ParseHandler(string(h)); err != nil || got != h {
			t.Errorf("%s: %q, %v", h, got, err)
		}
	}
	if got, err := ParseHandler("PHP_Serialize"); err != nil || got != PHPSerialize {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"", "wddx", "php "} {
		if _, err := ParseHandler(name); !errors.Is(err, ErrUnknownHandler) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Decode("wddx", nil); !errors.Is(err, ErrUnknownHandler) {
		t.Errorf("decode: %v", err)
	}
	if _, err := new(Session).Encode("wddx"); !errors.Is(err, ErrUnknownHandler) {
		t.Errorf("encode: %v", err)
	}
}

func TestSetKeepsOrder(t *testing.T) {
	s := mustDecode(t, PHP, []byte("z|i:1;a|i:2;m|i:3;"))
	for _, err := range []error{s.Set("a", "new"), s.Set("b", nil), s.Set("z", true)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !s.Delete("m") || s.Delete("m") {
		t.Error("delete reports wrongly")
	}
	if got := encoded(t, s, PHP); got != `z|b:1;a|s:3:"new";b|N;` {
		t.Errorf("%q", got)
	}
	if got := s.Keys(); !slices.Equal(got, []string{"z", "a", "b"}) {
		t.Errorf("%q", got)
	}
	s.Clear()
	if got := encoded(t, s, PHP); got != "" || s.Len() != 0 {
		t.Errorf("%q", got)
	}
}

func TestSettingTheSameValueIsNoChange(t *testing.T) {
	s := mustDecode(t, PHP, []byte(`a|i:1;b|a:1:{i:0;s:1:"x";}`))
	if err := s.Set("a", 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("x", "b", 0); err != nil {
		t.Fatal(err)
	}
	if s.Changed() {
		t.Error("changed")
	}
	if err := s.Set("a", 1.0); err != nil || !s.Changed() {
		t.Errorf("not changed: %v", err)
	}
}

func TestReferencesAreSetThrough(t *testing.T) {
	s := mustDecode(t, PHP, []byte(`a|i:1;b|R:1;c|a:1:{i:0;R:1;}`))
	if err := s.Set("b", 5); err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, s, PHP); got != `a|i:5;b|R:1;c|a:1:{i:0;R:1;}` {
		t.Errorf("%q", got)
	}
	if err := s.Put("deep", "c", 0); err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, s, PHP); got != `a|s:4:"deep";b|R:1;c|a:1:{i:0;R:1;}` {
		t.Errorf("%q", got)
	}
	// unset() takes a variable away and leaves the others linked.
	if !s.Delete("a") {
		t.Error("not deleted")
	}
	if got := encoded(t, s, PHP); got != `b|s:4:"deep";c|a:1:{i:0;R:1;}` {
		t.Errorf("%q", got)
	}
	ref := s.Array().Ref(rawKey("b"))
	if ref == nil {
		t.Fatal("b is no reference")
	}
	ref.Set(NewList(Int(1)))
	if got := encoded(t, s, PHP); got != `b|a:1:{i:0;i:1;}c|a:1:{i:0;R:1;}` {
		t.Errorf("%q", got)
	}
}

// Values before a back-reference shift its number.
func TestBackReferencesAreRenumbered(t *testing.T) {
	for h, want := range map[Handler]string{
		PHP:          `n|a:2:{i:0;i:1;i:1;i:2;}o|O:1:"A":1:{s:1:"p";i:1;}p|r:4;q|r:4;`,
		PHPSerialize: `a:4:{s:1:"n";a:2:{i:0;i:1;i:1;i:2;}s:1:"o";O:1:"A":1:{s:1:"p";i:1;}s:1:"p";r:5;s:1:"q";r:5;}`,
	} {
		s := mustDecode(t, PHP, []byte(`n|N;o|O:1:"A":1:{s:1:"p";i:1;}p|r:2;q|r:2;`))
		if err := s.Set("n", []int{1, 2}); err != nil {
			t.Fatal(err)
		}
		if got := encoded(t, s, h); got != want {
			t.Errorf("%s: %q", h, got)
		}
	}
}

func TestObjects(t *testing.T) {
	s := mustDecode(t, PHP, []byte("o|O:5:\"Child\":3:{s:7:\"\x00Par\x00pw\";i:1;s:9:\"\x00Child\x00pw\";i:2;s:4:\"\x00*\x00n\";i:3;}same|r:1;"))
	v, _ := s.Get("o")
	o := v.(*Object)
	if v, _ := o.Get("pw"); v != Int(2) {
		t.Errorf("pw is %v", v)
	}
	if _, ok := o.Get("none"); ok {
		t.Error("property none")
	}
	o.Set("pw", Int(20))
	o.Set("n", Int(30))
	o.Set("added", Int(4))
	o.SetProperty(Property{Name: "pw", Visibility: Private, Class: "Par", Value: Int(10)})
	want := "o|O:5:\"Child\":4:{s:7:\"\x00Par\x00pw\";i:10;s:9:\"\x00Child\x00pw\";i:20;s:4:\"\x00*\x00n\";i:30;s:5:\"added\";i:4;}same|r:1;"
	if got := encoded(t, s, PHP); got != want || !s.Changed() {
		t.Errorf("%q", got)
	}
	if !o.Delete("n") || o.Delete("n") || o.Len() != 3 {
		t.Error("delete reports wrongly")
	}
	same, _ := s.Get("same")
	if same != v {
		t.Error("not the same object")
	}
	if err := s.Put(99, "same", "added"); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Lookup("o", "added"); v != Int(99) {
		t.Errorf("added is %v", v)
	}
	if err := s.Remove("o", "added"); err != nil || o.Len() != 2 {
		t.Errorf("%v, %d properties", err, o.Len())
	}
	for _, class := range []string{"", "a b", "A\"B", "\\A"} {
		for _, h := range []Handler{PHP, PHPSerialize} {
			var s Session
			if err := s.Set("o", NewObject(class)); err != nil {
				t.Fatal(err)
			}
			if b, err := s.Encode(h); !errors.Is(err, ErrType) {
				t.Errorf("class %q: %q, %v", class, b, err)
			}
		}
	}
}

func TestCustomObjects(t *testing.T) {
	s := mustDecode(t, PHP, []byte(`o|C:1:"A":4:{i:1;}p|C:1:"B":3:{abc}`))
	v, _ := s.Get("o")
	if data, ok := v.(*Object).Custom(); !ok || data != "i:1;" {
		t.Errorf("%q, %v", data, ok)
	}
	v.(*Object).SetCustom("a:1:{i:0;N;}")
	if err := s.Set("q", NewCustomObject("C", "}")); err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, s, PHP); got != `o|C:1:"A":12:{a:1:{i:0;N;}}p|C:1:"B":3:{abc}q|C:1:"C":1:{}}` {
		t.Errorf("%q", got)
	}
	if err := s.Put(1, "o", "x"); !errors.Is(err, ErrType) {
		t.Errorf("property of a custom object: %v", err)
	}
	if _, ok := NewObject("A").Custom(); ok {
		t.Error("a plain object is custom")
	}
	// Back-references count the values inside, as PHP does; and a reference
	// behind opaque bytes is reported.
	in := `o|C:1:"A":22:{a:2:{i:0;i:1;i:1;i:2;}}u|O:1:"U":0:{}v|r:5;`
	s = mustDecode(t, PHP, []byte(in))
	u, _ := s.Get("u")
	if v, _ := s.Get("v"); v != u || len(s.Warnings()) > 0 {
		t.Errorf("v is %v, %v", v, s.Warnings())
	}
	s = mustDecode(t, PHP, []byte(`o|C:1:"A":3:{abc}u|O:1:"U":0:{}v|r:2;`))
	checkWarning(t, s, UnverifiedReference)
}

func TestPaths(t *testing.T) {
	s := mustDecode(t, PHP, []byte(`cart|a:1:{s:5:"items";a:2:{i:0;a:2:{s:2:"id";i:7;s:3:"qty";i:1;}i:1;i:5;}}n|i:1;`))
	if v, err := s.Lookup("cart", "items", 0, "qty"); err != nil || v != Int(1) {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := s.Lookup("cart", "items", "0", "qty"); err != nil || v != Int(1) {
		t.Errorf(`"0": %v, %v`, v, err)
	}
	before := encoded(t, s, PHP)
	old, _ := s.Lookup("cart", "items")
	for _, c := range []struct {
		v    any
		path []any
	}{{2, []any{"cart", "items", 0, "qty"}}, {"x", []any{"new", "a", 3, "b"}}, {nil, []any{"cart", "items", IntKey(1)}}, {1, []any{"cart", "items", 1, "made"}}} {
		if err := s.Put(c.v, c.path...); err != nil {
			t.Errorf("%v: %v", c.path, err)
		}
	}
	want := `cart|a:1:{s:5:"items";a:2:{i:0;a:2:{s:2:"id";i:7;s:3:"qty";i:2;}i:1;a:1:{s:4:"made";i:1;}}}n|i:1;new|a:1:{s:1:"a";a:1:{i:3;a:1:{s:1:"b";s:1:"x";}}}`
	if got := encoded(t, s, PHP); got != want {
		t.Errorf("%q", got)
	}
	// Arrays are values: one taken out before does not change.
	var items []any
	if err := Unmarshal(old, &items); err != nil || !reflect.DeepEqual(items, []any{map[string]any{"id": int64(7), "qty": int64(1)}, int64(5)}) {
		t.Errorf("%v, %v (was %q)", items, err, before)
	}
	for _, path := range [][]any{{"none"}, {"cart", "none"}, {"cart", "items", 5}} {
		if _, err := s.Lookup(path...); !errors.Is(err, ErrNoKey) {
			t.Errorf("%v: %v", path, err)
		}
		if err := s.Remove(path...); !errors.Is(err, ErrNoKey) {
			t.Errorf("remove %v: %v", path, err)
		}
	}
	for _, path := range [][]any{{"n", "x"}, {"n", 0, 1}} {
		if _, err := s.Lookup(path...); !errors.Is(err, ErrType) {
			t.Errorf("%v: %v", path, err)
		}
		if err := s.Put(1, path...); !errors.Is(err, ErrType) {
			t.Errorf("put %v: %v", path, err)
		}
	}
	if err := s.Put(1); !errors.Is(err, ErrNoKey) {
		t.Errorf("empty path: %v", err)
	}
	if err := s.Put(1, 1.5); !errors.Is(err, ErrType) {
		t.Errorf("path of a float: %v", err)
	}
	if err := s.Remove("cart", "items", 0); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Lookup("cart", "items"); v.(*Array).Len() != 1 {
		t.Error("not removed")
	}
}

// $_SESSION["7"] is an integer key to PHP, which handler php cannot hold, while
// a payload can have a variable that is named 7.
func TestIntegerNames(t *testing.T) {
	s := mustDecode(t, PHP, []byte("7|i:1;"))
	checkGet(t, s, "7", 1)
	if err := s.Set("7", 2); err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, s, PHP); got != "7|i:2;" {
		t.Errorf("%q", got)
	}
	if err := s.Set("8", 2); err != nil {
		t.Fatal(err)
	}
	var ke *KeyError
	if _, err := s.Encode(PHP); !errors.As(err, &ke) || !errors.Is(err, ErrKey) || len(ke.Keys) != 1 || ke.Keys[0] != IntKey(8) {
		t.Errorf("%v", err)
	}
	if got := encoded(t, s, PHPSerialize); got != `a:2:{s:1:"7";i:2;i:8;i:2;}` {
		t.Errorf("%q", got)
	}
}

func TestArrays(t *testing.T) {
	a := NewArray(Item{StringKey("b"), Int(1)}, Item{StringKey("5"), Int(2)}, Item{StringKey("b"), Int(3)})
	if a.Len() != 2 || a.IsList() || a.At(0).Value != Int(3) || a.At(1).Key != IntKey(5) {
		t.Errorf("%v", a)
	}
	b := a.With(StringKey("c"), Int(4)).With(StringKey("b"), Int(5)).Append(Int(6)).Without(IntKey(5))
	var keys []string
	for k := range b.All() {
		keys = append(keys, k.String())
	}
	if !slices.Equal(keys, []string{"b", "c", "6"}) || a.Len() != 2 || a.At(0).Value != Int(3) {
		t.Errorf("%q", keys)
	}
	if v, ok := b.Get(StringKey("b")); !ok || v != Int(5) {
		t.Errorf("%v", v)
	}
	var none *Array
	if none.Len() != 0 || none.Append(Int(1)).Len() != 1 || none.With(IntKey(3), nil).At(0).Key != IntKey(3) || none.Without(IntKey(0)).Len() != 0 || !none.IsList() {
		t.Error("a nil array is not an empty one")
	}
	if full := NewArray(Item{IntKey(1<<63 - 1), Null{}}); full.Append(Int(1)).Len() != 1 {
		t.Error("a full array took another element")
	}
	for s, want := range map[string]bool{"0": true, "-1": true, "9223372036854775807": true, "-9223372036854775808": true,
		"": false, "-": false, "-0": false, "00": false, "01": false, "+1": false, "1.0": false, " 1": false, "9223372036854775808": false, "99999999999999999999": false} {
		if k := StringKey(s); k.IsInt() != want || k.String() != s {
			t.Errorf("%q: %v %q", s, k.IsInt(), k.String())
		}
	}
	if StringKey("\x00") == StringKey("") || StringKey("") == IntKey(0) || StringKey("") == IntKey(1) {
		t.Error("keys are mixed up")
	}
}

// A type that only looks like a Value is refused, not written as null.
func TestPointerToValue(t *testing.T) {
	n := Int(5)
	var s Session
	if err := s.Set("a", &n); err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, &s, PHP); got != "a|i:5;" {
		t.Errorf("%q", got)
	}
	if err := s.Set("a", NewList(&n)); err != nil {
		t.Fatal(err)
	}
	for _, h := range Handlers() {
		if b, err := s.Encode(h); !errors.Is(err, ErrType) {
			t.Errorf("%s: %q, %v", h, b, err)
		}
	}
	if _, err := s.EncodeJSON(); !errors.Is(err, ErrType) {
		t.Errorf("JSON: %v", err)
	}
	for _, v := range []Value{nil, (*Array)(nil), (*Object)(nil), (*Ref)(nil)} {
		for _, h := range []Handler{PHPSerialize, Igbinary} {
			if _, err := EncodeValue(h, v); err != nil {
				t.Errorf("%s %T: %v", h, v, err)
			}
		}
	}
}
