package phpsession

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// phpredisValues are payloads and what phpredis made of them.
type phpredisValues struct {
	Values     map[string][]byte
	Compressed map[Compression]map[string][]byte
}

func compressedValues(t testing.TB) phpredisValues {
	t.Helper()
	data, err := os.ReadFile("testdata/compressed.json")
	if err != nil {
		t.Fatal(err)
	}
	var v phpredisValues
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Values) != 6 || len(v.Compressed) != 3 {
		t.Fatalf("%d values, %d compressions", len(v.Values), len(v.Compressed))
	}
	return v
}

func TestDecompress(t *testing.T) {
	v := compressedValues(t)
	for _, how := range []Compression{LZF, LZ4} {
		for name, data := range v.Compressed[how] {
			want := v.Values[name]
			out, err := Decompress(how, data)
			if err != nil || !bytes.Equal(out, want) {
				t.Errorf("%s %s: %.100q, %v", how, name, out, err)
			}
			if _, err := Decompress(how, data, WithLimits(Limits{MaxBytes: len(want)})); err != nil {
				t.Errorf("%s %s at the limit: %v", how, name, err)
			}
			var ce *CompressionError
			_, err = Decompress(how, data, WithLimits(Limits{MaxBytes: len(want) - 1}))
			if !errors.Is(err, ErrLimit) || !errors.As(err, &ce) || ce.Compression != how {
				t.Errorf("%s %s over the limit: %v", how, name, err)
			}
			if got, ok := DetectCompression(data); !ok || got != how {
				t.Errorf("%s %s looks like %q, %v", how, name, got, ok)
			}
			// A part of it is not of the form and comes back as it is.
			cut := data[:len(data)-1]
			if out, err := Decompress(how, cut); err != nil || bytes.Equal(out, want) {
				t.Errorf("%s %s cut: %.50q, %v", how, name, out, err)
			}
		}
	}
	// What was stored uncompressed is returned, as by phpredis.
	for name, want := range v.Values {
		for _, how := range []Compression{"", Uncompressed, LZF, LZ4, Zstd} {
			if out, err := Decompress(how, want); err != nil || !bytes.Equal(out, want) {
				t.Errorf("%s read as %s: %.50q, %v", name, how, out, err)
			}
		}
		if got, ok := DetectCompression(want); !ok || got != Uncompressed {
			t.Errorf("%s looks like %q, %v", name, got, ok)
		}
	}
}

func TestDecompressZstd(t *testing.T) {
	v := compressedValues(t)
	for name, data := range v.Compressed[Zstd] {
		var ce *CompressionError
		_, err := Decompress(Zstd, data)
		if !errors.Is(err, ErrCompression) || !errors.As(err, &ce) || ce.Compression != Zstd || !strings.Contains(err.Error(), "zstd") {
			t.Errorf("%s: %v", name, err)
		}
		if got, ok := DetectCompression(data); !ok || got != Zstd {
			t.Errorf("%s looks like %q, %v", name, got, ok)
		}
		// Stands for a real decoder.
		plug := WithDecompressor(func(c Compression, in []byte, most int) ([]byte, error) {
			if c != Zstd || !bytes.Equal(in, data) || most != defaultMaxBytes {
				t.Errorf("asked for %s, %d bytes, at most %d", c, len(in), most)
			}
			return v.Values[name], nil
		})
		if out, err := Decompress(Zstd, data, plug); err != nil || !bytes.Equal(out, v.Values[name]) {
			t.Errorf("%s: %v", name, err)
		}
		broken := errors.New("broken")
		if _, err := Decompress(Zstd, data, WithDecompressor(func(Compression, []byte, int) ([]byte, error) { return nil, broken })); !errors.Is(err, broken) || !errors.Is(err, ErrCompression) {
			t.Errorf("%s: %v", name, err)
		}
		big := WithDecompressor(func(_ Compression, _ []byte, most int) ([]byte, error) { return make([]byte, most+1), nil })
		if _, err := Decompress(Zstd, data, big); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseCompression(t *testing.T) {
	for in, want := range map[string]Compression{"none": Uncompressed, "LZF": LZF, "lz4": LZ4, "Zstd": Zstd} {
		if got, err := ParseCompression(in); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	if _, err := ParseCompression("gzip"); err == nil {
		t.Error("gzip was accepted")
	}
	if _, err := Decompress("gzip", nil); err == nil {
		t.Error("gzip was accepted")
	}
}
