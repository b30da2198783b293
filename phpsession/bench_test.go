package phpsession

import (
	"fmt"
	"strings"
	"testing"
)

// typical is a session of about 1 KiB: a login, a cart, flash messages.
func typical(b *testing.B, h Handler) []byte {
	b.Helper()
	type line struct {
		ID    int     `php:"id"`
		Name  string  `php:"name"`
		Qty   int     `php:"qty"`
		Price float64 `php:"price"`
	}
	var cart []line
	for i := range 8 {
		cart = append(cart, line{1000 + i, fmt.Sprintf("Article number %d", i), i + 1, 9.99 * float64(i+1)})
	}
	var s Session
	if err := s.Assign(Pairs{
		{"_token", strings.Repeat("k", 40)}, {"user_id", 4711}, {"visits", 17}, {"last_seen", 1700000000},
		{"_flash", Pairs{{"old", []string{}}, {"new", []string{"saved"}}}}, {"cart", cart}, {"locale", "en_GB"},
		{"user", NewObject("App\\User", Property{Name: "id", Value: Int(4711)}, Property{Name: "mail", Visibility: Protected, Value: String("ann@example.org")})},
	}); err != nil {
		b.Fatal(err)
	}
	data, err := s.Encode(h)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

func BenchmarkDecode(b *testing.B) {
	for _, h := range Handlers() {
		b.Run(string(h), func(b *testing.B) {
			data := typical(b, h)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(h, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A request: decode, count, encode.
func BenchmarkRequest(b *testing.B) {
	for _, h := range Handlers() {
		b.Run(string(h), func(b *testing.B) {
			data := typical(b, h)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s, err := Decode(h, data)
				if err != nil {
					b.Fatal(err)
				}
				n, err := Get[int](s, "visits")
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Set("visits", n+1); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Encode(h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeUnchanged(b *testing.B) {
	data := typical(b, PHP)
	s, err := Decode(PHP, data)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Encode(PHP); err != nil {
			b.Fatal(err)
		}
	}
}
