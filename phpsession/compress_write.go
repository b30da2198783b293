package phpsession

import (
	"encoding/binary"
	"fmt"
)

// Compress gives data the form in which phpredis with redis.session.compression
// = c stores it, so that PHP reads it. lzf and lz4 are really compressed, if
// less than by the usual libraries; zstd is a valid frame that stores the bytes
// as they are. Empty data stays empty.
//
// phpredis tells compressed from plain values by trying: writing plain values
// where it expects lzf or lz4 can go wrong by chance, so compress them.
func Compress(c Compression, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return data, nil
	}
	if len(data) > highestSize {
		return nil, tooLarge(c, highestSize)
	}
	switch c {
	case "", Uncompressed:
		return data, nil
	case LZF:
		return toLZF(data), nil
	case LZ4:
		return toLZ4(data), nil
	case Zstd:
		return storedZstd(data), nil
	}
	_, err := ParseCompression(string(c))
	return nil, err
}

const highestSize = 1 << 30

// matches finds repetitions in data, greedily: it calls emit with the literals
// before each match, the match's length and how far back it starts, and at last
// with the literals that remain. Matches have at least three bytes, at most
// longest, start at most farthest back, and leave tail bytes at the end.
func matches(data []byte, least, longest, farthest, tail int, emit func(literals []byte, length, back int)) {
	const bits = 12
	var table [1 << bits]int32 // 1 + where three bytes of that hash stood
	from := 0
	for i := 0; i+least <= len(data)-tail; {
		h := (uint32(data[i]) | uint32(data[i+1])<<8 | uint32(data[i+2])<<16) * 2654435761 >> (32 - bits)
		at := int(table[h]) - 1
		table[h] = int32(i + 1)
		if at < 0 || i-at > farthest {
			i++
			continue
		}
		n := 0
		for n < longest && i+n < len(data)-tail && data[at+n] == data[i+n] {
			n++
		}
		if n < least {
			i++
			continue
		}
		emit(data[from:i], n, i-at)
		i += n
		from = i
	}
	emit(data[from:], 0, 0)
}

// toLZF writes what unLZF reads.
func toLZF(data []byte) []byte {
	out := make([]byte, 0, len(data)+len(data)/32+1)
	matches(data, 3, 264, 1<<13, 0, func(literals []byte, length, back int) {
		for len(literals) > 0 {
			n := min(32, len(literals))
			out = append(append(out, byte(n-1)), literals[:n]...)
			literals = literals[n:]
		}
		if length == 0 {
			return
		}
		length, back = length-2, back-1
		if length < 7 {
			out = append(out, byte(length<<5|back>>8), byte(back))
		} else {
			out = append(out, byte(7<<5|back>>8), byte(length-7), byte(back))
		}
	})
	return out
}

// toLZ4 writes what phpredis puts before a block, and one block.
func toLZ4(data []byte) []byte {
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(data)))
	out := append(make([]byte, 0, len(data)+len(data)/255+16), crc8(head))
	out = append(out, head...)
	rest := func(n int) {
		for n -= 15; n >= 255; n -= 255 {
			out = append(out, 255)
		}
		out = append(out, byte(n))
	}
	// The format wants the last five bytes to be literals and the last match
	// to start twelve bytes before the end.
	matches(data, 4, len(data), 1<<16-1, 12, func(literals []byte, length, back int) {
		token := min(15, len(literals)) << 4
		if length > 0 {
			token |= min(15, length-4)
		}
		out = append(out, byte(token))
		if len(literals) >= 15 {
			rest(len(literals))
		}
		out = append(out, literals...)
		if length > 0 {
			out = binary.LittleEndian.AppendUint16(out, uint16(back))
			if length-4 >= 15 {
				rest(length - 4)
			}
		}
	})
	return out
}

// storedZstd writes a frame (RFC 8878) of raw blocks that states its size,
// without which phpredis does not read it.
func storedZstd(data []byte) []byte {
	const block = 1 << 17
	out := append(make([]byte, 0, len(data)+16), zstdMagic...)
	out = append(out, 0xa0) // one segment, content size in four bytes
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	for len(data) > 0 {
		n := min(block, len(data))
		header := uint32(n) << 3 // type 0, raw
		if n == len(data) {
			header |= 1 // the last
		}
		out = append(out, byte(header), byte(header>>8), byte(header>>16))
		out = append(out, data[:n]...)
		data = data[n:]
	}
	return out
}

// unstoreZstd reads frames of raw blocks only.
func unstoreZstd(in []byte, most int) ([]byte, bool) {
	if len(in) < 9 || in[4] != 0xa0 {
		return nil, false
	}
	size := int(binary.LittleEndian.Uint32(in[5:]))
	if size > most {
		return nil, false
	}
	var out []byte
	for in = in[9:]; len(in) >= 3; {
		header := uint32(in[0]) | uint32(in[1])<<8 | uint32(in[2])<<16
		n := int(header >> 3)
		if header&6 != 0 || n > len(in)-3 || n > size-len(out) {
			return nil, false
		}
		out = append(out, in[3:3+n]...)
		in = in[3+n:]
		if header&1 == 1 {
			return out, len(in) == 0 && len(out) == size
		}
	}
	return nil, false
}

func tooLarge(c Compression, most int) error {
	return &CompressionError{c, fmt.Errorf("%w: more than %d bytes", ErrLimit, most)}
}
