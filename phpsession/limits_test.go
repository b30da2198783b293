package phpsession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// hostile is input that claims much, nests deeply or makes much of little.
func hostile() map[Handler][]string {
	const size = 300_000
	deepPHP := strings.Repeat("a:1:{i:0;", size/9)
	wide := func(element string, n int) string {
		return fmt.Sprintf("a:%d:{%s}", n, strings.Repeat(element, n))
	}
	ig := func(body string) string { return igHeader + body }
	igWide := func(element string, n int) string {
		b := binary.BigEndian.AppendUint32([]byte{igArray8 + 2}, uint32(n))
		return ig("\x14\x01\x11\x01a" + string(b) + strings.Repeat(element, n))
	}
	// Every level claims half of what is left.
	var halves strings.Builder
	for n := size; n > 12; n /= 2 {
		fmt.Fprintf(&halves, "a:%d:{i:0;", n/12)
	}
	halves.WriteString(strings.Repeat("i:0;N;", size/6))
	var igHalves []byte
	for n := size; n > 12; n /= 2 {
		igHalves = append(binary.BigEndian.AppendUint32(append(igHalves, igArray8+2), uint32(n/6)), "\x06\x00"...)
	}
	var igObjects []byte
	for n := size; n > 12; n /= 2 {
		igObjects = append(binary.BigEndian.AppendUint32(append(igObjects, "\x17\x01A\x16"...), uint32(n/2)), "\x06\x00"...)
	}
	customs := strings.Repeat("x", size)
	for range 30 {
		customs = fmt.Sprintf(`C:1:"A":%d:{a:1:{i:0;%s}}`, len(customs)+12, customs)
	}
	values := []string{
		deepPHP,
		"a:2147483647:{", "a:99999999999999999999:{", "a:50000:{" + strings.Repeat("i:0;N;", 100),
		"s:2147483647:\"abc\";", "s:99999999999999999999:\"abc\";", `O:1:"A":2147483647:{}`, `C:1:"A":2147483647:{}`, `E:2147483647:"A:B";`,
		wide("i:0;N;", size/6), wide("i:0;a:0:{}", size/10), wide("i:0;d:0;", size/8), wide("i:0;s:0:\"\";", size/11),
		wide(`i:0;O:1:"A":0:{}`, size/16), wide(`i:0;E:3:"A:B";`, size/14), wide(`i:0;R:2;`, 100), wide("i:0;a:1:{i:0;N;}", size/17),
		halves.String(), customs,
		"a:2:{i:0;O:1:\"A\":0:{}i:1;" + wide("i:0;r:2;", 30000) + "}",
		strings.Repeat("i:5;", size/4), "i:" + strings.Repeat("9", size) + ";", "d:" + strings.Repeat("9", size) + ";",
	}
	ascending := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "i:%d;N;", i)
		}
		return fmt.Sprintf("a:%d:{%s}", n, b.String())
	}
	words := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `s:5:"%05x";N;`, i*7919%0xfffff)
		}
		return fmt.Sprintf("a:%d:{%s}", n, b.String())
	}
	values = append(values, ascending(20000), words(20000))
	in := map[Handler][]string{}
	for _, v := range values {
		in[PHP] = append(in[PHP], "a|"+v, "a|"+v+"b|"+v)
		in[PHPBinary] = append(in[PHPBinary], "\x01a"+v)
		in[PHPSerialize] = append(in[PHPSerialize], v, `a:1:{s:1:"a";`+v+"}")
	}
	in[PHP] = append(in[PHP], strings.Repeat("a|N;", size/4), strings.Repeat("|N;", size/3), strings.Repeat("x", size), strings.Repeat("|", size))
	in[PHPBinary] = append(in[PHPBinary], strings.Repeat("\x00N;", size/3))
	in[Igbinary] = []string{
		ig(strings.Repeat("\x14\x01\x06\x00", size/4)),
		ig(strings.Repeat("\x25", size)),
		ig("\x16\xff\xff\xff\xff"), ig("\x16\x7f\xff\xff\xff"), ig("\x14\x01\x11\x01a\x13\xff\xff\xff\xff"),
		ig("\x14\x01\x11\x01a\x26\xff\xff\xff\xff\xff\xff\xff\xff"), ig("\x14\x01\x11\x01a\x17\x01A\x1f\xff\xff\xff\xff"),
		igWide("\x06\x00\x00", size/3), igWide("\x06\x00\x14\x00", size/4), igWide("\x06\x00\x0d", size/3), igWide("\x06\x00\x11\x00", size/4),
		igWide("\x06\x00\x17\x00\x14\x00", size/6), igWide("\x06\x00\x25\x00", size/4), igWide("\x06\x00\x14\x01\x0d\x00", size/6),
		igWide("\x06\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00", size/11), igWide("\x06\x00\x01\x00", size/4),
		ig("\x14\x01\x11\x01a" + string(igHalves) + strings.Repeat("\x06\x00\x00", size/3)),
		ig("\x14\x01\x11\x01a" + string(igObjects) + strings.Repeat("\x00", size)),
		ig("\x14\x01\x11\x01a\x17\x01A\x1f\x00\x04\x00\x00" + strings.Repeat("i:5;", 1<<16)),
	}
	return in
}

// No input makes decoding use more memory than a small multiple of its size.
func TestMemoryIsBounded(t *testing.T) {
	var most float64
	var worst string
	for h, inputs := range hostile() {
		for i, in := range inputs {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := decode(h, in, newConfig(nil))
			runtime.ReadMemStats(&after)
			// All that was allocated, freed or not, so more than was ever in use.
			used := after.TotalAlloc - before.TotalAlloc
			ratio := float64(used) / float64(len(in)+1000)
			if ratio > most {
				most, worst = ratio, fmt.Sprintf("%s #%d %.30q…, %d bytes: %v", h, i, in, len(in), err)
			}
			if ratio > 80 {
				t.Errorf("%s #%d %.30q…: %d bytes allocated for %d", h, i, in, used, len(in))
			}
		}
	}
	t.Logf("at most %.0f bytes allocated a byte of input: %s", most, worst)
}

func TestLimits(t *testing.T) {
	nested := func(n int) string { return "a|" + strings.Repeat("a:1:{i:0;", n) + "N;" + strings.Repeat("}", n) }
	igNested := func(n int) string {
		return igHeader + "\x14\x01\x11\x01a" + strings.Repeat("\x14\x01\x06\x00", n-1) + "\x00"
	}
	for _, c := range []struct {
		name string
		h    Handler
		in   string
		l    Limits
		ok   bool
	}{
		{"depth", PHP, nested(1024), Limits{}, true},
		{"depth", PHP, nested(1025), Limits{}, false},
		{"depth", PHP, nested(3), Limits{MaxDepth: 2}, false},
		{"depth", Igbinary, igNested(1024), Limits{}, true},
		{"depth", Igbinary, igNested(1025), Limits{}, false},
		{"depth", PHP, nested(4000), Limits{MaxDepth: 5000}, true},
		{"elements", PHP, "a|a:3:{i:0;N;i:1;N;i:2;N;}", Limits{MaxElements: 4}, true},
		{"elements", PHP, "a|a:3:{i:0;N;i:1;N;i:2;N;}", Limits{MaxElements: 3}, false},
		{"elements", PHPBinary, "\x01aN;\x01bN;", Limits{MaxElements: 1}, false},
		{"elements", Igbinary, igHeader + "\x14\x02\x06\x00\x00\x06\x01\x00", Limits{MaxElements: 1}, false},
		{"bytes", PHP, "a|i:1;", Limits{MaxBytes: 6}, true},
		{"bytes", PHP, "a|i:1;", Limits{MaxBytes: 5}, false},
		{"bytes", Igbinary, igNested(2), Limits{MaxBytes: 5}, false},
	} {
		s, err := Decode(c.h, []byte(c.in), WithLimits(c.l))
		if c.ok {
			if err != nil {
				t.Errorf("%s %s: %v", c.h, c.name, err)
				continue
			}
			if b, err := s.encode(c.h, newConfig([]Option{WithLimits(c.l)})); err != nil || string(b) != c.in {
				t.Errorf("%s %s: not written back: %v", c.h, c.name, err)
			}
			continue
		}
		var de *DecodeError
		if !errors.Is(err, ErrLimit) || !errors.As(err, &de) {
			t.Errorf("%s %s: %v, want ErrLimit", c.h, c.name, err)
		}
	}
}

// A few igbinary bytes that unfold to any size elsewhere are stopped.
func TestSharedArraysDoNotExplode(t *testing.T) {
	// Each array holds the one before twice.
	a := NewList(Int(1))
	for range 60 {
		a = NewList(a, a)
	}
	var s Session
	if err := s.Set("a", a); err != nil {
		t.Fatal(err)
	}
	b, err := s.Encode(Igbinary)
	if err != nil || len(b) > 2000 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	d := mustDecode(t, Igbinary, b)
	for _, h := range []Handler{PHP, PHPBinary, PHPSerialize} {
		if _, err := d.Encode(h, WithLimits(Limits{MaxBytes: 1 << 20})); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", h, err)
		}
	}
	js, err := d.EncodeJSON()
	if err != nil || len(js) > 20000 {
		t.Fatalf("%d bytes of JSON, %v", len(js), err)
	}
	back, err := DecodeJSON(js)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(Igbinary); err != nil || string(again) != string(b) {
		t.Errorf("by way of JSON: %v", err)
	}
	if testing.Short() {
		return
	}
	var x any
	if err := d.Unmarshal(&x); !errors.Is(err, ErrType) {
		t.Errorf("as Go values: %v", err)
	}
}

// Cycles end, whatever is asked for.
func TestCycles(t *testing.T) {
	for h, in := range map[Handler]string{
		PHP:          `a|a:1:{i:0;R:1;}`,
		PHPSerialize: `a:1:{s:1:"a";R:1;}`,
		Igbinary:     igHeader + "\x14\x01\x11\x01a\x25\x14\x01\x06\x00\x25\x01\x01",
	} {
		s := mustDecode(t, h, []byte(in))
		var x any
		if err := s.Unmarshal(&x); !errors.Is(err, ErrType) {
			t.Errorf("%s as Go values: %v", h, err)
		}
		for _, to := range Handlers() {
			if b, err := s.Encode(to); err != nil {
				t.Errorf("%s to %s: %v", h, to, err)
			} else if _, err := Decode(to, b); err != nil {
				t.Errorf("%s to %s: %v", h, to, err)
			}
		}
		if js, err := s.EncodeJSON(); err != nil {
			t.Errorf("%s: %v", h, err)
		} else if d, err := DecodeJSON(js); err != nil {
			t.Errorf("%s: %v in %s", h, err, js)
		} else if b, err := d.Encode(h); err != nil || string(b) != in {
			t.Errorf("%s by way of JSON: %q, %v", h, b, err)
		}
	}
	// An array that contains itself without a reference cannot be.
	if _, err := Decode(Igbinary, []byte(igHeader+"\x14\x01\x11\x01a\x14\x01\x06\x00\x01\x01")); !errors.Is(err, ErrSyntax) {
		t.Errorf("array in itself: %v", err)
	}
	type node struct{ Next *node }
	n := &node{}
	n.Next = n
	if _, err := Marshal(n); !errors.Is(err, ErrType) {
		t.Errorf("cyclic Go value: %v", err)
	}
}

// Every prefix of good data is refused where it stops, and never panics.
func TestTruncated(t *testing.T) {
	for _, c := range savedCases(t) {
		for _, h := range Handlers() {
			full := c.Bytes[h]
			if len(full) > 600 {
				continue
			}
			for n := range len(full) {
				s, err := decode(h, string(full[:n]), newConfig(nil))
				if err == nil {
					// A session may end behind any variable.
					if h == PHPSerialize && n > 0 || h == Igbinary && n > 0 || n > 0 && s.Len() == 0 {
						t.Errorf("%s, %s: %d of %d bytes were accepted", c.Name, h, n, len(full))
					}
					continue
				}
				var de *DecodeError
				if !errors.As(err, &de) || de.Offset > n || de.Offset < 0 || !errors.Is(err, ErrSyntax) {
					t.Errorf("%s, %s, %d bytes: %v", c.Name, h, n, err)
				}
			}
		}
	}
}
