package load

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// ErrPayload means that bytes are no payload, or not as they were written.
var ErrPayload = errors.New("load: payload is damaged")

// A payload is one line, then filler up to the wanted size:
//
//	sessionring-load <id> <counter> <CRC-32 of all but itself, 8 hex digits>
const (
	payloadMagic  = "sessionring-load "
	counterDigits = 20 // of any uint64
	crcDigits     = 8
)

// MinSize is the least size of a payload for ids of so many bytes.
func MinSize(idLen int) int {
	return len(payloadMagic) + idLen + 1 + counterDigits + 1 + crcDigits + 1
}

// filler is what sessions are padded with: letters, so that a person who looks
// at a value sees text, in an order that a shift of one byte changes.
var filler = func() []byte {
	b := make([]byte, 1<<12)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223 // Numerical Recipes' generator; good enough for padding
		b[i] = 'a' + byte(x>>24)%26
	}
	return b
}()

// AppendPayload appends the payload of a session's n-th write, size bytes
// long, or MinSize where that is more.
func AppendPayload(dst []byte, id string, n uint64, size int) []byte {
	start := len(dst)
	size = max(size, MinSize(len(id)))
	dst = append(dst, payloadMagic...)
	dst = append(dst, id...)
	dst = append(dst, ' ')
	digits := strconv.AppendUint(nil, n, 10)
	for range counterDigits - len(digits) {
		dst = append(dst, '0')
	}
	dst = append(dst, digits...)
	dst = append(dst, ' ')
	sumAt := len(dst)
	dst = append(dst, "00000000\n"...)
	bodyAt := len(dst)
	// Each write's filler begins elsewhere: bytes of two writes mixed up show.
	for at := int(n % uint64(len(filler))); len(dst)-start < size; at = 0 {
		dst = append(dst, filler[at:min(len(filler), at+size-(len(dst)-start))]...)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(dst[start:sumAt]), crc32.IEEETable, dst[bodyAt:])
	const hexDigits = "0123456789abcdef"
	for i := range crcDigits {
		dst[sumAt+i] = hexDigits[sum>>(4*(crcDigits-1-i))&15]
	}
	return dst
}

// ParsePayload returns whose payload it is and which write's. The error
// matches ErrPayload.
func ParsePayload(b []byte) (id string, n uint64, err error) {
	line, body, ok := bytes.Cut(b, []byte{'\n'})
	rest, magic := bytes.CutPrefix(line, []byte(payloadMagic))
	if !ok || !magic {
		return "", 0, fmt.Errorf("%w: no header in %d bytes", ErrPayload, len(b))
	}
	tail := counterDigits + 1 + crcDigits
	if len(rest) < tail+2 || rest[len(rest)-tail-1] != ' ' || rest[len(rest)-crcDigits-1] != ' ' {
		return "", 0, fmt.Errorf("%w: header is cut", ErrPayload)
	}
	id = string(rest[:len(rest)-tail-1])
	n, err = strconv.ParseUint(string(rest[len(rest)-tail:len(rest)-crcDigits-1]), 10, 64)
	if err != nil {
		return "", 0, fmt.Errorf("%w: counter: %w", ErrPayload, err)
	}
	want, err := strconv.ParseUint(string(rest[len(rest)-crcDigits:]), 16, 32)
	if err != nil {
		return "", 0, fmt.Errorf("%w: checksum: %w", ErrPayload, err)
	}
	sum := crc32.ChecksumIEEE(line[:len(line)-crcDigits])
	if crc32.Update(sum, crc32.IEEETable, body) != uint32(want) {
		return "", 0, fmt.Errorf("%w: checksum does not match", ErrPayload)
	}
	return id, n, nil
}
