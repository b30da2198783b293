package websession

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring/phpsession"
)

// Whatever is stored: an error or a session that is written back with the same values. Never a panic.
func FuzzDecode(f *testing.F) {
	codecs := []Codec{JSON(), Gob(), PHP(phpsession.PHP), PHP(phpsession.PHPBinary), PHP(phpsession.PHPSerialize), PHP(phpsession.Igbinary)}
	for _, c := range codecs {
		v := c.empty()
		for _, x := range []any{1, "two", []int{3}, map[string]string{"f": "our"}} {
			if _, err := v.put(strings.Repeat("k", len(v.keys())+1), x); err != nil {
				f.Fatal(err)
			}
		}
		_, _ = v.put(metaKey, meta{Created: 5, User: "ann"})
		_, _ = v.put(flashKey, []Flash{{"info", "hello"}})
		data, err := v.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range codecs {
			v, err := c.decode(data)
			if err != nil {
				continue
			}
			_ = metaOf(v)
			_ = flashes(v)
			var x any
			for _, k := range v.keys() {
				_, _ = v.get(k, &x)
			}
			if _, err := v.put("fuzz", 1); err != nil {
				t.Fatal(err)
			}
			out, err := v.encode()
			if err != nil {
				continue // a key that the handler reads but cannot write
			}
			again, err := c.decode(out)
			if err != nil {
				t.Fatalf("%s: its own bytes %q: %v", c, out, err)
			}
			if !slices.Equal(v.keys(), again.keys()) {
				t.Fatalf("%s: keys %q became %q", c, v.keys(), again.keys())
			}
			for _, k := range v.keys() {
				if !v.same(k, again) {
					t.Fatalf("%s: %q changed", c, k)
				}
			}
		}
	})
}

// What is read at one look is what encoding/json reads.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `[]`, `1`, `"a"`, `{"a":1}`, `{"a":1,"a":2}`, " {\t\"a\" :\r\n1 , \"b\":[ {\"c\":\"}\\\"\"} ] ,\"d\":{}}\n",
		`{"":null,"\\":"\\","\"":"\"\\\"","\u00e9":"\ud800","x":"\\\\"}`, `{"n":-1.5e+7,"t":true,"f":false}`, "{\"\xff\":\"\xff\"}", `{"a":"é<>&"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want := map[string]json.RawMessage{}
		err := json.Unmarshal(data, &want)
		v, ours := openJSON(data)
		if len(data) == 0 || err == nil && string(bytes.TrimSpace(data)) == "null" {
			return
		}
		if (err == nil) != (ours == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", data, ours, err)
		}
		if err != nil {
			return
		}
		got := v.(*raw)
		if len(got.vals) != len(want) || len(got.order) != len(want) {
			t.Fatalf("%q: %q in the order %q, encoding/json: %q", data, got.vals, got.order, want)
		}
		for k, w := range want {
			if !bytes.Equal(got.vals[k], w) {
				t.Fatalf("%q: %q is %q, encoding/json: %q", data, k, got.vals[k], w)
			}
			var a, b string
			if errA, errB := unmarshalJSON(w, &a), json.Unmarshal(w, &b); a != b || (errA == nil) != (errB == nil) {
				t.Fatalf("%q: %q, %v, encoding/json: %q, %v", w, a, errA, b, errB)
			}
		}
		out, err := v.encode()
		if err != nil {
			t.Fatal(err)
		}
		again := map[string]json.RawMessage{}
		if err := json.Unmarshal(out, &again); err != nil || len(again) != len(want) {
			t.Fatalf("%q was written as %q: %v", data, out, err)
		}
	})
}

// sink is a connection that keeps what is written.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error)      { return s.Buffer.Write(b) }
func (s *sink) Read(b []byte) (int, error)       { return 0, net.ErrClosed }
func (s *sink) Close() error                     { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// Whatever a handler writes on a hijacked connection, in whatever pieces: it comes out as it is, with at most
// the cookie put in at the end of the head.
func FuzzCarryCookies(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nframes"), uint8(7))
	f.Add([]byte("HTTP/1.1 101 x\r\nset-cookie: session=own; Path=/\r\n\r\n"), uint8(1))
	f.Add([]byte("\x81\x05hello"), uint8(3))
	f.Add([]byte("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", maxHead)), uint8(255))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		const line = "session=abc; Path=/"
		var out sink
		conn, rw := carryCookies(&out, bufio.NewReadWriter(bufio.NewReader(&out), bufio.NewWriter(&out)), []string{line}, "session")
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(piece)+1)
			if m, err := conn.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		_ = rw.Flush()
		conn.Close()
		got := out.String()
		if with := "Set-Cookie: " + line + "\r\n"; got != string(data) {
			if i := strings.Index(got, with); i < 0 || got[:i]+got[i+len(with):] != string(data) {
				t.Fatalf("%q became %q", data, got)
			} else if end := strings.Index(string(data), "\r\n\r\n"); i != end+2 {
				t.Fatalf("the cookie is at %d, the head ends at %d", i, end)
			}
		} else if strings.HasPrefix(got, "HTTP/1.") && strings.Contains(got[:min(len(got), maxHead)], "\r\n\r\n") && !strings.Contains(strings.ToLower(got), "set-cookie") {
			t.Fatalf("no cookie in %q", got)
		}
	})
}
