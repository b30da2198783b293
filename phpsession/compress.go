package phpsession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Compression names phpredis's redis.session.compression. The zero value is
// [Uncompressed].
type Compression string

// The compressions of phpredis 6.
const (
	Uncompressed Compression = "none"
	LZF          Compression = "lzf"
	LZ4          Compression = "lz4"
	Zstd         Compression = "zstd"
)

// ParseCompression reads the name of a compression; case does not matter.
func ParseCompression(name string) (Compression, error) {
	for _, c := range []Compression{Uncompressed, LZF, LZ4, Zstd} {
		if strings.EqualFold(name, string(c)) {
			return c, nil
		}
	}
	return "", fmt.Errorf("phpsession: unknown compression %q: want none, lzf, lz4 or zstd", name)
}

// A Decompressor undoes a compression that this package cannot. It must not
// return more than most bytes.
type Decompressor func(c Compression, data []byte, most int) ([]byte, error)

// WithDecompressor lets [Decompress] read [Zstd], for which the standard
// library has no decoder.
func WithDecompressor(d Decompressor) Option { return func(c *config) { c.decompress = d } }

// A CompressionError says that a value is compressed and why it could not be
// decompressed.
type CompressionError struct {
	Compression Compression
	Err         error
}

func (e *CompressionError) Error() string {
	return fmt.Sprintf("phpsession: value compressed with %s: %v", e.Compression, e.Err)
}

// Unwrap makes ErrCompression and the cause match.
func (e *CompressionError) Unwrap() []error { return []error{ErrCompression, e.Err} }

var (
	errNoZstd  = errors.New("no decompressor given")
	errCorrupt = errors.New("corrupt data")
)

// Decompress undoes what phpredis with redis.session.compression = c did to a
// stored value. phpredis marks no value as compressed, and stores as it is what
// it cannot compress: data that is not of the form is therefore returned
// unchanged, as by phpredis. lzf and lz4 are decoded here, zstd (but for what
// [Compress] writes) by the [Decompressor], without which it gives a
// [*CompressionError]. Results over MaxBytes give an error that matches
// [ErrLimit].
//
// Source of the forms: redis_compress in phpredis's library.c; checked against 5.3.7.
func Decompress(c Compression, data []byte, opts ...Option) ([]byte, error) {
	cfg := newConfig(opts)
	most := cfg.limits.MaxBytes
	switch c {
	case "", Uncompressed:
		return data, nil
	case LZF:
		// A stream starts with a literal run, so with a byte under 32.
		out, err := unLZF(data, most)
		if errors.Is(err, errCorrupt) {
			return data, nil
		}
		return out, err
	case LZ4:
		block, size, ok := lz4Header(data)
		if !ok {
			return data, nil
		}
		if size > most {
			return nil, tooLarge(c, most)
		}
		out, err := unLZ4(block, size)
		if errors.Is(err, errCorrupt) {
			return data, nil
		}
		return out, err
	case Zstd:
		if !strings.HasPrefix(string(data[:min(4, len(data))]), zstdMagic) {
			return data, nil
		}
		if out, ok := unstoreZstd(data, most); ok {
			return out, nil // as Compress writes it
		}
		if cfg.decompress == nil {
			return nil, &CompressionError{c, errNoZstd}
		}
		out, err := cfg.decompress(c, data, most)
		if err != nil {
			return nil, &CompressionError{c, err}
		}
		if len(out) > most {
			return nil, tooLarge(c, most)
		}
		return out, nil
	}
	_, err := ParseCompression(string(c))
	return nil, err
}

// DetectCompression tells how a stored value is compressed, if that can be
// seen: zstd by its magic number, lz4 and lzf by what they decompress to being a
// session. A value that is a session as it stands is [Uncompressed]. It is a
// guess for error messages and tools.
func DetectCompression(data []byte, opts ...Option) (Compression, bool) {
	cfg := newConfig(opts)
	for _, c := range []Compression{Zstd, LZ4, LZF} {
		out, err := Decompress(c, data, opts...)
		switch {
		case errors.Is(err, errNoZstd):
			return c, true
		case err != nil || len(out) == len(data) && string(out) == string(data):
			continue
		}
		if _, ok := decodesAs(string(out), cfg); ok {
			return c, true
		}
	}
	if _, ok := decodesAs(string(data), cfg); ok {
		return Uncompressed, true
	}
	return "", false
}

const zstdMagic = "\x28\xb5\x2f\xfd"

// unLZF decodes Marc Lehmann's LZF: 000LLLLL and L+1 literal bytes, or
// LLLddddd dddddddd, a copy of L+2 bytes from d+1 bytes back, where L = 7 adds
// a byte of length before the second of distance.
func unLZF(in []byte, most int) ([]byte, error) {
	if len(in) == 0 || in[0] >= 32 {
		return nil, errCorrupt
	}
	var out []byte
	for i := 0; i < len(in); {
		ctrl := int(in[i])
		i++
		if ctrl < 32 {
			n := ctrl + 1
			if n > len(in)-i {
				return nil, errCorrupt
			}
			if n > most-len(out) {
				return nil, tooLarge(LZF, most)
			}
			out = append(out, in[i:i+n]...)
			i += n
			continue
		}
		n := ctrl>>5 + 2
		if n == 7+2 {
			if i >= len(in) {
				return nil, errCorrupt
			}
			n += int(in[i])
			i++
		}
		if i >= len(in) {
			return nil, errCorrupt
		}
		back := (ctrl&31)<<8 + int(in[i]) + 1
		i++
		if back > len(out) {
			return nil, errCorrupt
		}
		if n > most-len(out) {
			return nil, tooLarge(LZF, most)
		}
		out = appendBack(out, back, n)
	}
	return out, nil
}

// appendBack copies n bytes from back bytes before the end; they may overlap.
func appendBack(out []byte, back, n int) []byte {
	for n > 0 {
		from := len(out) - back
		k := min(n, back)
		out = append(out, out[from:from+k]...)
		n -= k
	}
	return out
}

// lz4Header reads what phpredis puts before an lz4 block: a checksum of the
// length, and the length of the content, four bytes little-endian.
func lz4Header(in []byte) (block []byte, size int, ok bool) {
	if len(in) < 5 || crc8(in[1:5]) != in[0] {
		return nil, 0, false
	}
	n := binary.LittleEndian.Uint32(in[1:5])
	if n == 0 || n > 1<<31-1 {
		return nil, 0, false
	}
	return in[5:], int(n), true
}

// crc8 has polynomial 0x31 and starts from 0xff.
func crc8(p []byte) byte {
	crc := byte(0xff)
	for _, b := range p {
		crc ^= b
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// unLZ4 decodes one lz4 block of size bytes of content: a token of two four-bit
// lengths, literals, a distance of two bytes, and so on; the last sequence has
// literals only. Lengths of 15 go on in bytes of up to 255.
func unLZ4(in []byte, size int) ([]byte, error) {
	out := make([]byte, 0, min(size, 4*len(in))) // the size may be false
	i := 0
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for i < len(in) {
			b := in[i]
			i++
			if n += int(b); b < 255 {
				return n, true
			}
		}
		return 0, false
	}
	for i < len(in) {
		token := in[i]
		i++
		n, ok := length(int(token >> 4))
		if !ok || n > len(in)-i || n > size-len(out) {
			return nil, errCorrupt
		}
		out = append(out, in[i:i+n]...)
		if i += n; i == len(in) {
			break
		}
		if len(in)-i < 2 {
			return nil, errCorrupt
		}
		back := int(binary.LittleEndian.Uint16(in[i:]))
		i += 2
		n, ok = length(int(token & 15))
		if n += 4; !ok || back == 0 || back > len(out) || n > size-len(out) {
			return nil, errCorrupt
		}
		out = appendBack(out, back, n)
	}
	if len(out) != size {
		return nil, errCorrupt
	}
	return out, nil
}
