package phpsession

import (
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type item struct {
	ID    int     `php:"id"`
	Name  string  `php:"name"`
	Price float64 `php:"price,omitempty"`
}

type base struct {
	Theme string `php:"theme"`
}

type profile struct {
	base
	*Extra
	UserID  uint32         `php:"user_id"`
	Admin   bool           `php:"admin"`
	Items   []item         `php:"items"`
	Flags   map[string]int `php:"flags"`
	Seen    time.Time      `php:"seen"`
	Blob    []byte         `php:"blob"`
	Parent  *item          `php:"parent"`
	Pair    [2]int         `php:"pair"`
	Any     any            `php:"any"`
	Tree    Value          `php:"tree"`
	Skipped string         `php:"-"`
	Plain   string
	private int
}

type Extra struct {
	Note string `php:"note"`
}

func TestStructs(t *testing.T) {
	p := profile{
		base: base{"dark"}, UserID: 7, Admin: true,
		Items: []item{{1, "pen", 0}, {2, "ink", 2.5}}, Flags: map[string]int{"z": 1, "a": 2, "10": 3, "9": 4},
		Seen: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), Blob: []byte{0, 255}, Pair: [2]int{3, 4},
		Any: Pairs{{"y", 1}, {2, "x"}}, Tree: NewObject("A"), Skipped: "x", Plain: "p", private: 1,
	}
	var s Session
	if err := s.Assign(p); err != nil {
		t.Fatal(err)
	}
	want := `theme|s:4:"dark";user_id|i:7;admin|b:1;items|a:2:{i:0;a:2:{s:2:"id";i:1;s:4:"name";s:3:"pen";}` +
		`i:1;a:3:{s:2:"id";i:2;s:4:"name";s:3:"ink";s:5:"price";d:2.5;}}flags|a:4:{i:9;i:4;i:10;i:3;s:1:"a";i:2;s:1:"z";i:1;}` +
		`seen|s:20:"2024-02-29T12:00:00Z";blob|s:2:"` + "\x00\xff" + `";parent|N;pair|a:2:{i:0;i:3;i:1;i:4;}any|a:2:{s:1:"y";i:1;i:2;s:1:"x";}tree|O:1:"A":0:{}Plain|s:1:"p";`
	if got := encoded(t, &s, PHP); got != want {
		t.Fatalf("\n got %q\nwant %q", got, want)
	}
	back := mustDecode(t, PHP, []byte(want+`note|s:2:"hi";parent|a:1:{s:2:"id";i:9;}`))
	var q profile
	q.Skipped = "kept"
	if err := back.Unmarshal(&q); err != nil {
		t.Fatal(err)
	}
	if q.Extra == nil || q.Note != "hi" || q.Parent == nil || q.Parent.ID != 9 || q.Skipped != "kept" {
		t.Errorf("%+v", q)
	}
	q.Extra, q.Parent, q.Skipped, p.Skipped, p.private = nil, nil, "", "", 0
	if o, ok := q.Tree.(*Object); !ok || o.Class() != "A" {
		t.Errorf("tree is %v", q.Tree)
	}
	p.Tree, q.Tree = nil, nil
	p.Any = map[string]any{"y": int64(1), "2": "x"}
	if !reflect.DeepEqual(p, q) {
		t.Errorf("\n got %+v\nwant %+v", q, p)
	}
}

func TestGetTypes(t *testing.T) {
	s := mustDecode(t, PHP, []byte(`i|i:300;neg|i:-1;big|i:9007199254740993;f|d:1.5;s|s:1:"5";b|b:1;n|N;l|a:2:{i:0;i:1;i:1;i:2;}m|a:2:{s:1:"a";i:1;i:5;i:2;}`+
		`o|O:1:"A":2:{s:4:"`+"\x00*\x00"+`x";i:1;s:1:"y";s:1:"z";}e|E:6:"Suit:H";r|R:1;ip|s:9:"127.0.0.1";`))
	checkGet(t, s, "i", 300)
	checkGet(t, s, "i", int16(300))
	checkGet(t, s, "i", uint64(300))
	checkGet(t, s, "i", 300.0)
	checkGet(t, s, "i", Int(300))
	checkGet(t, s, "r", 300)
	checkGet(t, s, "f", float32(1.5))
	checkGet(t, s, "s", "5")
	checkGet(t, s, "s", String("5"))
	checkGet(t, s, "b", true)
	checkGet(t, s, "n", "")
	checkGet(t, s, "n", (*int)(nil))
	checkGet(t, s, "e", Enum{"Suit", "H"})
	checkGet(t, s, "ip", netip.MustParseAddr("127.0.0.1"))
	checkGet[any](t, s, "i", int64(300))
	checkGet[any](t, s, "e", Enum{"Suit", "H"})
	checkGet[any](t, s, "n", nil)
	checkGet[Value](t, s, "f", NewFloat(1.5))
	if l, err := Get[[]int](s, "l"); err != nil || !reflect.DeepEqual(l, []int{1, 2}) {
		t.Errorf("%v, %v", l, err)
	}
	if m, err := Get[map[string]int](s, "m"); err != nil || !reflect.DeepEqual(m, map[string]int{"a": 1, "5": 2}) {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := Get[map[Key]int](s, "m"); err != nil || m[IntKey(5)] != 2 {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := Get[map[uint8]int](s, "l"); err != nil || m[1] != 2 {
		t.Errorf("%v, %v", m, err)
	}
	if o, err := Get[struct {
		X int    `php:"x"`
		Y string `php:"y"`
	}](s, "o"); err != nil || o.X != 1 || o.Y != "z" {
		t.Errorf("%v, %v", o, err)
	}
	if p, err := Get[**int](s, "i"); err != nil || **p != 300 {
		t.Errorf("%v", err)
	}
	for name, err := range map[string]error{
		"i as int8":      second(Get[int8](s, "i")),
		"neg as uint":    second(Get[uint](s, "neg")),
		"big as float":   second(Get[float64](s, "big")),
		"f as int":       second(Get[int](s, "f")),
		"s as int":       second(Get[int](s, "s")),
		"i as string":    second(Get[string](s, "i")),
		"b as int":       second(Get[int](s, "b")),
		"m as []int":     second(Get[[]int](s, "m")),
		"m as map[int]":  second(Get[map[int]int](s, "m")),
		"l as [3]int":    second(Get[[3]int](s, "l")),
		"l as []string":  second(Get[[]string](s, "l")),
		"o as []int":     second(Get[[]int](s, "o")),
		"i as *Array":    second(Get[*Array](s, "i")),
		"s as IP":        second(Get[netip.Addr](s, "s")),
		"i as chan":      second(Get[chan int](s, "i")),
		"i as interface": second(Get[error](s, "i")),
	} {
		var te *TypeError
		if !errors.Is(err, ErrType) || !errors.As(err, &te) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Get[[]string](s, "l")
	if te := new(TypeError); !errors.As(err, &te) || te.Path != "l[0]" || te.PHP != "int" || te.Go != "string" {
		t.Errorf("%v", err)
	}
	if _, err := Get[int](s, "none"); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v", err)
	}
	var i int
	if err := s.Unmarshal(i); !errors.Is(err, ErrType) {
		t.Errorf("%v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestMarshalErrors(t *testing.T) {
	type twice struct {
		A int `php:"x"`
		B int `php:"x"`
	}
	type hidden struct {
		a int `php:"a"`
	}
	for _, v := range []any{make(chan int), func() {}, uint64(math.MaxUint64), 1i, map[float64]int{1: 1}, twice{}, hidden{a: 1},
		Pairs{{1.5, 1}}, Pairs{{nil, 1}}, []any{map[string]any{"x": make(chan int)}}} {
		_, err := Marshal(v)
		if !errors.Is(err, ErrType) {
			t.Errorf("%T: %v", v, err)
		}
	}
	_, err := Marshal([]any{map[string]any{"x": make(chan int)}})
	if err == nil || !strings.Contains(err.Error(), "[0].x") {
		t.Errorf("%v does not name the place", err)
	}
	var s Session
	if err := s.Assign(5); !errors.Is(err, ErrType) {
		t.Errorf("%v", err)
	}
}

func TestMarshalNumbers(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{float32(0.1), "d:0.1;"}, {0.1, "d:0.1;"}, {1e25, "d:1.0E+25;"}, {-1.5e-7, "d:-1.5E-7;"}, {1e17, "d:1.0E+17;"}, {1e16, "d:10000000000000000;"},
		{0.0001, "d:0.0001;"}, {0.00001, "d:1.0E-5;"}, {math.Inf(-1), "d:-INF;"}, {math.NaN(), "d:NAN;"}, {math.Copysign(0, -1), "d:-0;"},
		{123456789012345678.0, "d:1.2345678901234568E+17;"}, {100.0, "d:100;"}, {1.25e3, "d:1250;"}, {math.SmallestNonzeroFloat64, "d:5.0E-324;"},
		{int8(-5), "i:-5;"}, {uint16(5), "i:5;"}, {math.MinInt64, "i:-9223372036854775808;"},
		{[]byte(nil), "N;"}, {[]int(nil), "N;"}, {[]int{}, "a:0:{}"}, {map[string]int{}, "a:0:{}"}, {(*int)(nil), "N;"}, {nil, "N;"},
	} {
		v, err := Marshal(c.v)
		if err != nil {
			t.Errorf("%v: %v", c.v, err)
			continue
		}
		if b, err := EncodeValue(PHPSerialize, v); err != nil || string(b) != c.want {
			t.Errorf("%v: %q, %v; want %q", c.v, b, err, c.want)
		}
	}
}
