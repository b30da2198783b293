package sessionring

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(r io.Reader, size int) ([][]reply, error) {
	rr := respReader{br: bufio.NewReaderSize(r, size)}
	var out [][]reply
	for {
		got, err := rr.readReply(nil)
		if err != nil {
			return out, err
		}
		out = append(out, got)
	}
}

func TestReadReply(t *testing.T) {
	big := strings.Repeat("x", 3<<20+17)
	for _, tc := range []struct {
		in   string
		want []reply
	}{
		{"+OK\r\n", []reply{{kind: '+', b: []byte("OK")}}},
		{"+\r\n", []reply{{kind: '+'}}},
		{":0\r\n", []reply{{kind: ':'}}},
		{":-42\r\n", []reply{{kind: ':', n: -42}}},
		{"$0\r\n\r\n", []reply{{kind: '$', b: []byte{}}}},
		{"$-1\r\n", []reply{{kind: '$', null: true}}},
		{"*-1\r\n", []reply{{kind: '*', n: -1, null: true}}},
		{"*0\r\n", []reply{{kind: '*'}}},
		{"$6\r\na\r\n+b$\r\n", []reply{{kind: '$', b: []byte("a\r\n+b$")}}},
		{"-ERR no\r\n", []reply{{kind: '-', err: replyError("ERR no")}}},
		{"*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", []reply{{kind: '*', n: 3}, {kind: '$', b: []byte("a")}, {kind: '$', null: true}, {kind: ':', n: 7}}},
		{"*2\r\n$1\r\n5\r\n*1\r\n$2\r\nid\r\n", []reply{{kind: '*', n: 2}, {kind: '$', b: []byte("5")}, {kind: '*', n: 1}, {kind: '$', b: []byte("id")}}},
		{fmt.Sprintf("$%d\r\n%s\r\n", len(big), big), []reply{{kind: '$', b: []byte(big)}}},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "with its end": iotest.DataErrReader,
		} {
			if name == "bytewise" && len(tc.in) > 1<<20 {
				continue
			}
			got, err := readAll(wrap(strings.NewReader(tc.in+tc.in)), 64)
			if err != io.EOF || len(got) != 2 || !sameReplies(got[0], tc.want) || !sameReplies(got[1], tc.want) {
				t.Errorf("%s, %.40q: %d replies, %v", name, tc.in, len(got), err)
			}
		}
	}
}

func sameReplies(a, b []reply) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if !bytes.Equal(x.b, y.b) {
			return false
		}
		x.b, y.b = nil, nil
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

func TestReadReplyRefuses(t *testing.T) {
	for _, in := range []string{
		"\r\n", "\n", "OK\r\n", "+OK\n", ":x\r\n", ":\r\n", "$x\r\n", "$-2\r\n", "$1\r\nab\r\n", "$1\r\na\n\n", "$99999999999999999999\r\n",
		"$536870913\r\n", "*x\r\n", "*-2\r\n", "*9999999999\r\n", "%1\r\n+a\r\n+b\r\n", "_\r\n", "HTTP/1.1 400 Bad Request\r\n",
		"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "+" + strings.Repeat("x", 1<<20) + "\r\n",
	} {
		got, err := readAll(strings.NewReader(in), 16<<10)
		if !errors.Is(err, errProtocol) || len(got) > 0 {
			t.Errorf("%.40q: %d replies, %v", in, len(got), err)
		}
	}
	for _, in := range []string{"+OK", "$5\r\nab", "*2\r\n:1\r\n", "$5\r\nabcde", "$5\r\nabcde\r"} {
		if got, err := readAll(strings.NewReader(in), 64); len(got) > 0 || err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Errorf("%q, cut off: %d replies, %v", in, len(got), err)
		}
	}
}

// A length is a claim: memory is taken as bytes arrive, not as they are announced.
func TestReadReplyTakesNoMemoryOnCredit(t *testing.T) {
	in := "$536870912\r\n" + strings.Repeat("x", 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = readAll(strings.NewReader(in), 64)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("512 MiB announced and 100 B sent take %d bytes", n)
	}
	array := "*536870912\r\n:1\r\n"
	if replies, err := readAll(strings.NewReader(array), 64); len(replies) > 0 || err == nil {
		t.Errorf("an array cut off: %v", err)
	}
}

func TestAppendCommand(t *testing.T) {
	b := appendCommand(nil, "SET", "k\r\n", "")
	if want := "*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n"; string(b) != want {
		t.Errorf("%q", b)
	}
	cmds, err := parseCommands(appendCommand(b, []byte("GET"), []byte("x")))
	if err != nil || !reflect.DeepEqual(cmds, [][]any{{"SET", "k\r\n", ""}, {"GET", "x"}}) {
		t.Errorf("%q, %v", cmds, err)
	}
	for _, bad := range []string{"x", "*1\r\n", "*1\r\n$5\r\nab\r\n", "*1\r\n+OK\r\n"} {
		if cmds, err := parseCommands([]byte(bad)); err == nil {
			t.Errorf("%q gives %q", bad, cmds)
		}
	}
}

// FuzzReadReply: whatever a server sends, reading ends, panics never, and what is read is what was sent.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "-ERR x\r\n", ":12\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "*-1\r\n", "$536870912\r\n", "*999999999\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readAll(bytes.NewReader(in), 32)
		if err == nil {
			t.Fatal("a finite input without end")
		}
		// Written again, it is the beginning of the input, but for spellings such as +1 and 007.
		var again []byte
		for _, replies := range got {
			for _, r := range replies {
				again = appendReply(again, r)
			}
		}
		if same, _ := readAll(bytes.NewReader(again), 1024); !sameAll(same, got) {
			t.Fatalf("%q reads as %v, written again %q", in, got, again)
		}
		half, _ := readAll(iotest.OneByteReader(bytes.NewReader(in)), 32)
		if !sameAll(half, got) {
			t.Fatalf("%q reads otherwise byte by byte", in)
		}
	})
}

func sameAll(a, b [][]reply) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameReplies(a[i], b[i]) {
			return false
		}
	}
	return true
}

func appendReply(dst []byte, r reply) []byte {
	switch {
	case r.kind == '-':
		return fmt.Appendf(dst, "-%s\r\n", r.err)
	case r.kind == '+':
		return fmt.Appendf(dst, "+%s\r\n", r.b)
	case r.kind == ':':
		return fmt.Appendf(dst, ":%d\r\n", r.n)
	case r.kind == '*':
		return fmt.Appendf(dst, "*%d\r\n", r.n)
	case r.null:
		return append(dst, "$-1\r\n"...)
	}
	return fmt.Appendf(dst, "$%d\r\n%s\r\n", len(r.b), r.b)
}
