package load

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestPayloadRoundTrip(t *testing.T) {
	ids := []string{"a", strings.Repeat("f", IDLength), strings.Repeat("x y", 85)}
	for _, id := range ids {
		for _, n := range []uint64{0, 1, 4095, 4096, math.MaxUint64} {
			for _, size := range []int{0, MinSize(len(id)), MinSize(len(id)) + 1, 1024, 3*len(filler) + 7} {
				b := AppendPayload([]byte("before"), id, n, size)[len("before"):]
				if want := max(size, MinSize(len(id))); len(b) != want {
					t.Fatalf("%d bytes; want %d", len(b), want)
				}
				gotID, gotN, err := ParsePayload(b)
				if err != nil || gotID != id || gotN != n {
					t.Fatalf("id %q, counter %d came back as %q, %d, %v", id, n, gotID, gotN, err)
				}
			}
		}
	}
}

// Every damage of one byte is noticed, and so is every cut.
func TestPayloadDamage(t *testing.T) {
	good := AppendPayload(nil, strings.Repeat("e", IDLength), 7, 200)
	for i := range good {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			id, n, err := ParsePayload(bad)
			// A checksum digit in upper case is the same digit.
			if bytes.EqualFold(bad, good) && id == strings.Repeat("e", IDLength) && n == 7 {
				continue
			}
			if !errors.Is(err, ErrPayload) {
				t.Fatalf("byte %d changed to %q: id %q, counter %d, %v", i, bad[i], id, n, err)
			}
		}
		if _, _, err := ParsePayload(good[:i]); !errors.Is(err, ErrPayload) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestPayloadsOfTwoWritesDiffer(t *testing.T) {
	a, b := AppendPayload(nil, "id", 1, 4000), AppendPayload(nil, "id", 2, 4000)
	head := MinSize(2)
	mixed := append(bytes.Clone(a[:head]), b[head:]...)
	if _, _, err := ParsePayload(mixed); !errors.Is(err, ErrPayload) {
		t.Fatalf("the head of one write and the body of another pass: %v", err)
	}
}

func FuzzParsePayload(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendPayload(nil, "id", 3, 0))
	f.Add([]byte("sessionring-load \n"))
	f.Add([]byte("sessionring-load  00000000000000000000 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, n, err := ParsePayload(b)
		if err == nil && !bytes.HasPrefix(b, []byte(payloadMagic+id+" ")) {
			t.Fatalf("id %q, counter %d out of %q", id, n, b)
		}
	})
}
