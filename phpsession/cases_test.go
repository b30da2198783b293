package phpsession

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
)

// The tests of this file are public bug reports about PHP payloads, turned into
// checks. Each names its source.

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustDecode(t *testing.T, h Handler, data []byte) *Session {
	t.Helper()
	s, err := Decode(h, data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func checkGet[T comparable](t *testing.T, s *Session, name string, want T) {
	t.Helper()
	got, err := Get[T](s, name)
	if err != nil || got != want {
		t.Errorf("%s is %#v, %v; want %#v", name, got, err, want)
	}
}

// checkSame demands the bytes back, from the tree too.
func checkSame(t *testing.T, s *Session, h Handler, data []byte) {
	t.Helper()
	if b, err := s.Encode(h); err != nil || !bytes.Equal(b, data) {
		t.Errorf("encoded %q, %v; want %q", b, err, data)
	}
	if b, err := s.encode(h, newConfig(nil)); err != nil || !bytes.Equal(b, data) {
		t.Errorf("encoded from the tree %q, %v; want %q", b, err, data)
	}
	if s.Changed() {
		t.Error("unchanged session says it is changed")
	}
}

// naholyr/js-php-unserialize#3, ADOdb/ADOdb#537: splitting at '|'.
func TestPipeInsideAValue(t *testing.T) {
	data := unbase64(t, "bm90ZXxzOjc6ImF8YjtjfWQiO2NhcnR8YToyOntpOjA7czo2OiJ4fGk6OTsiO2k6MTtzOjM6In18eyI7fWxhc3R8czoxNzoidXNlcnxzOjU6ImFkbWluIjsiOw==")
	s := mustDecode(t, PHP, data)
	if got := s.Keys(); !slices.Equal(got, []string{"note", "cart", "last"}) {
		t.Errorf("keys %q", got)
	}
	checkGet(t, s, "note", "a|b;c}d")
	checkGet(t, s, "last", `user|s:5:"admin";`)
	if _, err := Get[string](s, "user"); !errors.Is(err, ErrNoKey) {
		t.Errorf("key user: %v", err)
	}
	checkSame(t, s, PHP, data)

	data = unbase64(t, "dHxzOjE0OiJsaW5lMQ0KbGluZTJ8eCI7")
	s = mustDecode(t, PHP, data)
	checkGet(t, s, "t", "line1\r\nline2|x")
	checkSame(t, s, PHP, data)
}

// naholyr/js-php-unserialize#11, phpredis/phpredis#477: data ends at NUL.
func TestPrivatePropertiesWithNUL(t *testing.T) {
	for h, b64 := range map[Handler]string{
		PHP:      "dXxPOjQ6IlVzZXIiOjM6e3M6NDoibmFtZSI7czo0OiJab8OrIjtzOjc6IgAqAHJvbGUiO3M6NToiYWRtaW4iO3M6ODoiAFVzZXIAcHciO3M6MjoiAHgiO30=",
		Igbinary: "AAAAAhQBEQF1FwRVc2VyFAMRBG5hbWURBFpvw6sRBwAqAHJvbGURBWFkbWluEQgAVXNlcgBwdxECAHg=",
	} {
		data := unbase64(t, b64)
		s := mustDecode(t, h, data)
		v, _ := s.Get("u")
		o, ok := v.(*Object)
		if !ok || o.Class() != "User" || o.Len() != 3 {
			t.Fatalf("%s: u is %v", h, v)
		}
		want := []Property{
			{Name: "name", Value: String("Zoë")},
			{Name: "role", Visibility: Protected, Value: String("admin")},
			{Name: "pw", Visibility: Private, Class: "User", Value: String("\x00x")},
		}
		if got := slices.Collect(o.Properties()); !slices.Equal(got, want) {
			t.Errorf("%s: properties %q", h, got)
		}
		checkSame(t, s, h, data)
		js, err := s.EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`["name","public",{"string":"Zoë"}]`, `["role","protected",{"string":"admin"}]`, `["pw","private:User",{"bytes_base64":"AHg="}]`} {
			if !strings.Contains(string(js), part) {
				t.Errorf("%s: %s does not show %s", h, js, part)
			}
		}
	}
}

// mscdex/groan#5, locutusjs/locutus#105: lengths are of bytes.
func TestLengthsAreOfBytes(t *testing.T) {
	data := unbase64(t, "bGFzdG5hbWV8czo3OiJLb3bDoWNzIjtmaXJzdG5hbWV8czo2OiLDlmTDtm4iO2d8czoxOiIxIjs=")
	s := mustDecode(t, PHP, data)
	checkGet(t, s, "lastname", "Kovács")
	checkGet(t, s, "firstname", "Ödön")
	checkGet(t, s, "g", "1")
	checkSame(t, s, PHP, data)

	var fresh Session
	for _, kv := range [][2]string{{"lastname", "Kovács"}, {"firstname", "Ödön"}, {"g", "1"}} {
		if err := fresh.Set(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := fresh.Encode(PHP); err != nil || !bytes.Equal(b, data) {
		t.Errorf("from Go strings: %q, %v", b, err)
	}
	bad := []byte("a|s:3:\"\xff\xfez\";")
	s = mustDecode(t, PHP, bad)
	checkGet(t, s, "a", "\xff\xfez")
	checkSame(t, s, PHP, bad)
}

// igbinary/igbinary#20, phpmyadmin/phpmyadmin#11781: after the serializer was
// switched, sessions were destroyed.
func TestWrongSerializer(t *testing.T) {
	ig := "\x00\x00\x00\x02\x14\x01\x11\x01\x61\x06\x07"
	for _, c := range []struct {
		h, looks Handler
		data     string
	}{
		{PHP, Igbinary, ig}, {PHPBinary, Igbinary, ig}, {PHPSerialize, Igbinary, ig},
		{Igbinary, PHP, "a|i:7;"}, {PHPSerialize, PHP, "a|i:7;"}, {PHPBinary, PHP, "a|i:7;"},
		{PHP, PHPSerialize, `a:1:{s:1:"a";i:7;}`}, {Igbinary, PHPSerialize, `a:1:{s:1:"a";i:7;}`}, {PHPBinary, PHPSerialize, `a:1:{s:1:"a";i:7;}`},
		{PHP, PHPBinary, "\x01ai:7;"}, {PHPSerialize, PHPBinary, "\x01ai:7;"}, {Igbinary, PHPBinary, "\x01ai:7;"},
		// truncated as well
		{PHP, Igbinary, ig[:len(ig)-1]}, {Igbinary, PHPSerialize, `a:1:{s:1:"a";i:7`}, {PHPSerialize, PHP, `user|a:2:{i:0`},
		// pipes in another handler's values
		{PHP, PHPSerialize, `a:1:{s:1:"a";s:6:"b|i:1;";}`}, {PHP, PHPBinary, "\x01as:6:\"b|i:1;\";"},
	} {
		_, err := Decode(c.h, []byte(c.data))
		var wrong *WrongHandlerError
		if !errors.As(err, &wrong) || !errors.Is(err, ErrWrongHandler) || !errors.Is(err, ErrSyntax) {
			t.Errorf("%q read as %s: %v", c.data, c.h, err)
			continue
		}
		if wrong.Handler != c.h || wrong.LooksLike != c.looks || !strings.Contains(err.Error(), string(c.looks)) {
			t.Errorf("%q read as %s: %v, want %s", c.data, c.h, err, c.looks)
		}
		s, err := Decode(wrong.LooksLike, []byte(c.data))
		if err == nil && s.Len() != 1 {
			t.Errorf("%q read as %s: %d variables", c.data, wrong.LooksLike, s.Len())
		}
	}
	for _, h := range Handlers() {
		if _, ok := Detect(nil); ok {
			t.Error("empty data looks like something")
		}
		if _, err := Decode(h, []byte("\xff\xfe no session")); err == nil || errors.Is(err, ErrWrongHandler) {
			t.Errorf("garbage read as %s: %v", h, err)
		}
	}
}

// php/php-src#5698: what PHP accepts behind the data differs by handler.
func TestTrailingGarbage(t *testing.T) {
	for _, in := range []string{"a|i:1;garbage", "a|i:1;b", "a|b:2;"} {
		_, err := Decode(PHP, []byte(in))
		var de *DecodeError
		if !errors.As(err, &de) || !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", in, err)
		} else if want := map[string]int{"a|i:1;garbage": 6, "a|i:1;b": 6, "a|b:2;": 4}[in]; de.Offset != want {
			t.Errorf("%q: offset %d, want %d: %v", in, de.Offset, want, err)
		}
	}

	data := []byte("a|i:1;a|i:2;")
	s := mustDecode(t, PHP, data)
	checkGet(t, s, "a", 2)
	checkWarning(t, s, DuplicateKey)
	checkChanged(t, s, PHP, data, "a|i:2;n|i:1;")

	data = []byte("a|i:12345678901234567890;")
	s = mustDecode(t, PHP, data)
	checkGet(t, s, "a", int64(9223372036854775807))
	checkWarning(t, s, IntegerRange)
	checkChanged(t, s, PHP, data, "a|i:9223372036854775807;n|i:1;")

	data = []byte(`a:1:{s:1:"a";i:1;}junk`)
	s = mustDecode(t, PHPSerialize, data)
	checkGet(t, s, "a", 1)
	checkWarning(t, s, TrailingData)
	checkChanged(t, s, PHPSerialize, data, `a:2:{s:1:"a";i:1;s:1:"n";i:1;}`)

	_, err := Decode(PHPSerialize, []byte("i:5;"))
	if !errors.Is(err, ErrNotArray) || !strings.Contains(err.Error(), "int") {
		t.Errorf("no array: %v", err)
	}
	if v, err := DecodeValue(PHPSerialize, []byte("i:5;")); err != nil || v != Int(5) {
		t.Errorf("no array, as a value: %v, %v", v, err)
	}
	for _, in := range []string{"a|i:1;a|i:2;", "a|i:12345678901234567890;"} {
		if _, err := Decode(PHP, []byte(in), Strict()); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q strict: %v", in, err)
		}
	}
	if _, err := Decode(PHPSerialize, data, Strict()); !errors.Is(err, ErrSyntax) {
		t.Errorf("%q strict: %v", data, err)
	}
}

func checkWarning(t *testing.T, s *Session, kind WarningKind) {
	t.Helper()
	w := s.Warnings()
	if len(w) != 1 || w[0].Kind != kind || w[0].String() == "" {
		t.Errorf("warnings %v, want one of kind %d", w, kind)
	}
}

// checkChanged demands the old bytes while unchanged, also by way of JSON, and
// the new ones after n = 1.
func checkChanged(t *testing.T, s *Session, h Handler, old []byte, want string) {
	t.Helper()
	if b, err := s.Encode(h); err != nil || !bytes.Equal(b, old) || s.Changed() {
		t.Errorf("unchanged: %q, %v", b, err)
	}
	js, err := s.EncodeJSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeJSON(js)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Encode(h); err != nil || !bytes.Equal(b, old) {
		t.Errorf("by way of JSON: %q, %v", b, err)
	}
	for _, s := range []*Session{s, again} {
		if err := s.Set("n", 1); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Encode(h); err != nil || string(b) != want || !s.Changed() {
			t.Errorf("changed: %q, %v; want %q", b, err, want)
		}
	}
}

// steelbrain/php-serialize#290, mitsuhiko/phpserialize#7: floats became
// integers, and lost their spelling.
func TestFloatsStayFloats(t *testing.T) {
	data := []byte("p|d:750;q|d:0.10000000000000001;r|d:1.0E+25;n|i:1;")
	s := mustDecode(t, PHP, data)
	checkGet(t, s, "p", 750.0)
	checkGet(t, s, "q", 0.1)
	if _, err := Get[int](s, "p"); !errors.Is(err, ErrType) {
		t.Errorf("p as an int: %v", err)
	}
	checkSame(t, s, PHP, data)
	if err := s.Set("n", 2); err != nil {
		t.Fatal(err)
	}
	want := "p|d:750;q|d:0.10000000000000001;r|d:1.0E+25;n|i:2;"
	if b, err := s.Encode(PHP); err != nil || string(b) != want {
		t.Errorf("%q, %v; want %q", b, err, want)
	}
	if err := s.Set("q", 0.1); err != nil {
		t.Fatal(err)
	}
	want = "p|d:750;q|d:0.1;r|d:1.0E+25;n|i:2;"
	if b, err := s.Encode(PHP); err != nil || string(b) != want {
		t.Errorf("%q, %v; want %q", b, err, want)
	}
}
