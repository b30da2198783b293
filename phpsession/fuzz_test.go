package phpsession

import (
	"bytes"
	"errors"
	"testing"
)

// Each fuzzer starts from PHP's own sessions and from hostile ones; the seeds
// run in every `go test`.

func FuzzDecodePHP(f *testing.F)          { fuzzDecode(f, PHP) }
func FuzzDecodePHPBinary(f *testing.F)    { fuzzDecode(f, PHPBinary) }
func FuzzDecodePHPSerialize(f *testing.F) { fuzzDecode(f, PHPSerialize) }
func FuzzDecodeIgbinary(f *testing.F)     { fuzzDecode(f, Igbinary) }

var fuzzLimits = WithLimits(Limits{MaxBytes: 1 << 20, MaxElements: 1 << 16})

func fuzzDecode(f *testing.F, h Handler) {
	for _, c := range savedCases(f) {
		if len(c.Bytes[h]) < 4096 {
			f.Add(c.Bytes[h])
		}
	}
	for _, in := range hostile()[h] {
		f.Add([]byte(in[:min(len(in), 2000)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(h, data, fuzzLimits)
		if err != nil {
			var de *DecodeError
			if !errors.As(err, &de) || de.Offset < 0 || de.Offset > len(data) {
				t.Fatalf("%T without an offset in the input: %v", err, err)
			}
			return
		}
		// Unchanged: the same bytes.
		b, err := s.Encode(h)
		if err != nil || !bytes.Equal(b, data) {
			t.Fatalf("unchanged: %q, %v", b, err)
		}
		js, err := s.EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		viaJSON, err := DecodeJSON(js, fuzzLimits)
		if err != nil {
			t.Fatalf("%v in %s", err, js)
		}
		if b, err := viaJSON.Encode(h); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("by way of JSON: %q, %v", b, err)
		}
		// From the tree: bytes that mean the same, and stay the same.
		anew, err := s.encode(h, newConfig([]Option{fuzzLimits}))
		if errors.Is(err, ErrLimit) || errors.Is(err, ErrType) {
			return // of many bytes made more, or a class no class can have
		}
		if err != nil {
			t.Fatalf("from the tree: %v", err)
		}
		again, err := Decode(h, anew, WithLimits(Limits{MaxDepth: defaultMaxDepth + 16}))
		if err != nil {
			t.Fatalf("from the tree: %q: %v", anew, err)
		}
		if len(s.Warnings()) == 0 {
			x, err1 := s.tree()
			y, err2 := again.tree()
			// igbinary has no form for an array that is the same in a reference
			// and outside of one; as by PHP it is then written twice.
			twice := bytes.Contains(x, []byte(`"same_array_as"`)) && bytes.Contains(x, []byte(`"reference"`))
			if err1 != nil || err2 != nil || !bytes.Equal(x, y) && !twice {
				t.Fatalf("from the tree %q:\n was %s\n  is %s", anew, x, y)
			}
		}
		stable, err := again.encode(h, newConfig(nil))
		if err != nil || !bytes.Equal(stable, anew) {
			t.Fatalf("from the tree again: %q, %v; was %q", stable, err, anew)
		}
		for _, to := range Handlers() {
			b, err := s.Encode(to, fuzzLimits)
			if err != nil {
				continue
			}
			if _, err := decode(to, string(b), newConfig([]Option{WithLimits(Limits{MaxDepth: defaultMaxDepth + 16})})); err != nil {
				t.Fatalf("%s, written by us, does not decode: %v\n%q", to, err, b)
			}
		}
		var x any
		_ = s.Unmarshal(&x)
	})
}

func FuzzDecodeJSON(f *testing.F) {
	for _, c := range savedCases(f) {
		if len(c.Value) < 4096 {
			f.Add([]byte(c.Value))
		}
	}
	f.Add([]byte(`{"array":[[{"string":"a"},{"int":"1","reference":1}],[{"string":"b"},{"same_reference_as":1}]]}`))
	f.Add([]byte(`{"array":[[{"int":"0"},{"array":[[{"int":"0"},{"null":true}]],"array_id":1}],[{"int":"1"},{"same_array_as":1}]]}`))
	f.Add([]byte(`{"array":[[{"string":"a"},{"object":"A","id":1,"custom_value":{"same_object_as":1}}]]}`))
	f.Add([]byte(`{"array":[],"original":{"handler":"php","bytes_base64":"YXxpOisxOw=="}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeJSON(data, fuzzLimits)
		if err != nil {
			if !errors.Is(err, ErrJSON) && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrType) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		js, err := s.EncodeJSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeJSON(js, fuzzLimits)
		if err != nil {
			t.Fatalf("%v in %s", err, js)
		}
		if js2, err := again.EncodeJSON(); err != nil || !bytes.Equal(js, js2) {
			t.Fatalf("%s became %s, %v", js, js2, err)
		}
		for _, h := range Handlers() {
			b, err := s.Encode(h, DropKeys(nil))
			if err != nil {
				continue
			}
			if _, err := decode(h, string(b), newConfig([]Option{WithLimits(Limits{MaxDepth: defaultMaxDepth + 16})})); err != nil {
				t.Fatalf("%s, written by us, does not decode: %v\n%q", h, err, b)
			}
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for how, values := range compressedValues(f).Compressed {
		for _, data := range values {
			f.Add(string(how), data)
		}
	}
	f.Add("lzf", []byte("\x00a\xe0\xff\x00\xe0\xff\x00"))
	f.Add("lz4", []byte("\x00\xff\xff\xff\x7f\xff\xff"))
	f.Add("zstd", storedZstd([]byte("a|i:1;")))
	f.Fuzz(func(t *testing.T, how string, data []byte) {
		out, err := Decompress(Compression(how), data, WithLimits(Limits{MaxBytes: 1 << 16}))
		if err == nil && len(out) > max(1<<16, len(data)) {
			t.Fatalf("%d bytes", len(out))
		}
		DetectCompression(data, WithLimits(Limits{MaxBytes: 1 << 16}))
	})
}
