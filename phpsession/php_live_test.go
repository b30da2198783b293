package phpsession

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// A phpPeer is a PHP process that runs testdata/peer.php.
type phpPeer struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

type phpAnswer struct {
	Errors []string           `json:"errors"`
	Bytes  map[Handler]string `json:"bytes"`
	Value  any                `json:"value"`
	Saved  []byte             `json:"saved"`
}

// startPHP starts PHP, or skips the test where PHP or igbinary is missing.
func startPHP(t *testing.T) *phpPeer {
	t.Helper()
	path, err := exec.LookPath("php")
	if err != nil {
		t.Skip("no php in PATH")
	}
	probe := `exit(extension_loaded("igbinary") && extension_loaded("session") && PHP_VERSION_ID >= 80100 && PHP_INT_SIZE == 8 ? 0 : 3);`
	if err := exec.Command(path, "-r", probe).Run(); err != nil {
		t.Skip("php has no igbinary or session extension, or is older than 8.1")
	}
	cmd := exec.Command(path, "-d", "session.use_cookies=0", "-d", "session.cache_limiter=", "-d", "session.use_strict_mode=0",
		"-d", "serialize_precision=-1", "-d", "precision=17", "testdata/peer.php")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("php: %v\n%s", err, stderr.Bytes())
		}
	})
	return &phpPeer{t: t, in: in, out: bufio.NewReaderSize(out, 1<<20)}
}

func (p *phpPeer) ask(request string) phpAnswer {
	p.t.Helper()
	if _, err := io.WriteString(p.in, request+"\n"); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("php gave no answer to %.100s: %v", request, err)
	}
	var a phpAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		p.t.Fatalf("php answered %.300q: %v", line, err)
	}
	return a
}

func (p *phpPeer) read(h Handler, data []byte) phpAnswer {
	p.t.Helper()
	return p.ask("read " + string(h) + " " + base64.StdEncoding.EncodeToString(data))
}

// dump gives a tree the form of peer.php's dump(): everything expanded, objects
// numbered.
func dump(v Value, ids map[*Object]int) any {
	switch v := deref(v).(type) {
	case Null:
		return obj{"null": true}
	case Bool:
		return obj{"bool": bool(v)}
	case Int:
		return obj{"int": strconv.FormatInt(int64(v), 10)}
	case Float:
		return obj{"float": string(appendFloat(nil, v.Float64(), 17, 'e')), "bits": fmt.Sprintf("%016x", v.bits)}
	case String:
		return dumpText(string(v))
	case Enum:
		return obj{"enum": v.String()}
	case *Array:
		return obj{"array": dumpPairs(v.items, ids)}
	case *Object:
		if n, ok := ids[v]; ok {
			return obj{"same_object_as": float64(n)}
		}
		n := len(ids) + 1
		ids[v] = n
		d := obj{"object": v.class, "id": float64(n)}
		switch {
		case v.custom != nil && v.class == "Old":
			d["old"] = dump(v.custom.nested, ids)
		case v.custom != nil:
			d["custom"] = dumpText(v.custom.data)
		case v.class == "Magic" || v.class == "ArrayObject" || v.class == "DateTime":
			d["serialize_returns"] = obj{"array": dumpPairs(v.items, ids)}
		default:
			props := []any{}
			for p := range v.Properties() {
				visibility := p.Visibility.String()
				if p.Visibility == Private {
					visibility += ":" + p.Class
				}
				props = append(props, []any{dumpText(p.Name), visibility, dump(p.Value, ids)})
			}
			d["properties"] = props
		}
		return d
	}
	return nil
}

type obj = map[string]any

func dumpText(s string) any {
	if plainText(s) {
		return obj{"string": s}
	}
	return obj{"bytes_base64": base64.StdEncoding.EncodeToString([]byte(s))}
}

func dumpPairs(items []Item, ids map[*Object]int) []any {
	list := []any{}
	for _, it := range items {
		list = append(list, []any{dump(it.Key.value(), nil), dump(it.Value, ids)})
	}
	return list
}

// Random sessions with references, shared objects and arrays, enums and custom
// objects: Go reads what PHP wrote, and PHP reads what Go wrote, unchanged,
// written anew from the tree, and changed.
func TestPHPReadsWhatGoWrites(t *testing.T) {
	php := startPHP(t)
	seeds := 250
	if testing.Short() {
		seeds = 40
	}
	var changed, references, custom int
	for seed := range seeds {
		g := php.ask(fmt.Sprintf("generate %d", seed))
		if g.Errors != nil {
			t.Fatalf("seed %d: %v", seed, g.Errors)
		}
		for _, h := range Handlers() {
			data, err := base64.StdEncoding.DecodeString(g.Bytes[h])
			if err != nil {
				t.Fatal(err)
			}
			at := fmt.Sprintf("seed %d, %s", seed, h)
			s, err := Decode(h, data)
			if err != nil {
				t.Errorf("%s: %v in %q", at, err, data)
				continue
			}
			for _, w := range s.Warnings() {
				if w.Kind != UnverifiedReference {
					t.Errorf("%s: %v", at, w)
				}
			}
			references += bytes.Count(data, []byte("R:"))
			custom += bytes.Count(data, []byte("C:"))
			if b, err := s.Encode(h); err != nil || !bytes.Equal(b, data) {
				t.Errorf("%s unchanged: %v", at, err)
			}
			// igbinary notes an uninitialised typed property, which is none.
			holes := h == Igbinary && bytes.Contains(data, []byte("Typed"))
			b, err := s.encode(h, newConfig(nil))
			if err != nil || !bytes.Equal(b, data) && !holes {
				t.Errorf("%s, written anew: %v\n got %q\nwant %q", at, err, b, data)
			}
			if holes {
				if r := php.read(h, b); len(r.Errors) > 0 || !reflect.DeepEqual(r.Value, dump(s.vars(), map[*Object]int{})) {
					t.Errorf("%s, written anew: PHP reads it otherwise: %v", at, r.Errors)
				}
			}
			r := php.read(h, data)
			if len(r.Errors) > 0 {
				t.Errorf("%s: PHP cannot read its own data: %v", at, r.Errors)
				continue
			}
			if got := dump(s.vars(), map[*Object]int{}); !reflect.DeepEqual(got, r.Value) {
				t.Errorf("%s: Go and PHP read differently\n  go %.1500v\n php %.1500v\nof %q", at, got, r.Value, data)
				continue
			}
			js, err := s.EncodeJSON()
			if err != nil {
				t.Fatal(err)
			}
			if viaJSON, err := DecodeJSON(js); err != nil {
				t.Errorf("%s: %v", at, err)
			} else if b, err := viaJSON.Encode(h); err != nil || !bytes.Equal(b, data) {
				t.Errorf("%s by way of JSON: %v\n got %q\nwant %q", at, err, b, data)
			}

			change(t, s, rand.New(rand.NewPCG(uint64(seed), 1)))
			b, err = s.Encode(h)
			if err != nil {
				t.Errorf("%s changed: %v", at, err)
				continue
			}
			r = php.read(h, b)
			if len(r.Errors) > 0 {
				t.Errorf("%s changed: PHP: %v in %q", at, r.Errors, b)
				continue
			}
			if got := dump(s.vars(), map[*Object]int{}); !reflect.DeepEqual(got, r.Value) {
				t.Errorf("%s changed: PHP reads what Go wrote differently\n  go %.1500v\n php %.1500v\nof %q", at, got, r.Value, b)
			}
			if !bytes.Equal(r.Saved, b) && !holes && !sameForIgbinary(t, h, b, r.Saved) {
				t.Errorf("%s changed: PHP saves it otherwise\n go  %q\n php %q", at, b, r.Saved)
			}
			changed++
		}
	}
	if changed < seeds*3 || references < seeds/4 || custom < seeds/4 {
		t.Errorf("only %d changed sessions, %d references, %d custom objects: the generator is broken", changed, references, custom)
	}
}

// sameForIgbinary excuses two differences: PHP does not mark a reference that
// only one place holds any more, we do, and it reads as the plain value; and PHP
// makes all empty arrays one when it reads, except inside some of its classes.
func sameForIgbinary(t *testing.T, h Handler, a, b []byte) bool {
	t.Helper()
	lone := bytes.Count(a, []byte{igReference}) > bytes.Count(b, []byte{igReference})
	empty := bytes.Count(a, []byte{igArray8, 0}) != bytes.Count(b, []byte{igArray8, 0})
	if h != Igbinary || !lone && !empty {
		return false
	}
	x, err := Decode(h, a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := Decode(h, b)
	if err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(dump(x.vars(), map[*Object]int{}), dump(y.vars(), map[*Object]int{}))
}

// change does to a session what an application does: count, add, remove, and
// reach into arrays and objects.
func change(t *testing.T, s *Session, rnd *rand.Rand) {
	t.Helper()
	for _, name := range s.Keys() {
		v, _ := s.Get(name)
		var err error
		switch v := v.(type) {
		case Int:
			if v != math.MaxInt64 {
				err = s.Set(name, int64(v)+1)
			}
		case Null:
			err = s.Set(name, Pairs{{"z", 1.5}, {"a", "x"}, {7, []int{1, 2}}, {"e", []string{}}})
		case *Array:
			switch rnd.IntN(4) {
			case 0:
				err = s.Put("deep", name, "new", 3, "x")
				if err != nil && strings.Contains(err.Error(), "has no elements") {
					err = nil
				}
			case 1:
				if v.Len() > 0 {
					err = s.Remove(name, v.At(rnd.IntN(v.Len())).Key)
				}
			case 2:
				err = s.Set(name, v.Append(NewFloat(0.1)))
			}
		case *Object:
			if v.class == "stdClass" {
				v.Set("added", String("value"))
			}
			if v.class == "User" {
				err = s.Put(rnd.IntN(1000), name, "level")
			}
		case Bool:
			if rnd.IntN(2) == 0 && !s.Delete(name) {
				t.Errorf("%s was not there", name)
			}
		}
		if err != nil {
			t.Errorf("change of %s: %v", name, err)
		}
	}
	ref := NewRef(String("linked"))
	o := NewObject("User", Property{Name: "name", Value: ref}, Property{Name: "level", Visibility: Protected, Value: Int(5)},
		Property{Name: "secret", Visibility: Private, Class: "User", Value: String("\x00")}, Property{Name: "friend", Value: Null{}})
	for name, v := range map[string]Value{"go1": o, "go2": NewList(o, ref, Enum{"Suit", "Hearts"}, Enum{"Suit", "Hearts"}), "go3": ref} {
		if rnd.IntN(2) == 0 {
			continue
		}
		if err := s.Set(name, v); err != nil {
			t.Error(err)
		}
	}
}

// The saved sessions of values.json, read by the PHP at hand.
func TestPHPReadsValues(t *testing.T) {
	php := startPHP(t)
	for _, c := range savedCases(t) {
		if strings.Contains(c.Name, "Serializable") || strings.Contains(c.Name, "65536") {
			continue // a class of another name; a long line
		}
		for _, h := range Handlers() {
			s, err := Decode(h, c.Bytes[h])
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Set("added", 1); err != nil {
				t.Fatal(err)
			}
			b, err := s.Encode(h)
			if err != nil {
				t.Errorf("%s, %s: %v", c.Name, h, err)
				continue
			}
			r := php.read(h, b)
			if len(r.Errors) > 0 {
				t.Errorf("%s, %s: PHP: %v", c.Name, h, r.Errors)
			}
			if !bytes.Equal(r.Saved, b) && c.Name != "integer key" { // PHP drops it
				t.Errorf("%s, %s: PHP saves it otherwise\n go  %q\n php %q", c.Name, h, b, r.Saved)
			}
		}
	}
}

// What PHP accepts and refuses, Go does; accepted values are the same.
func TestPHPAcceptsTheSame(t *testing.T) {
	php := startPHP(t)
	for _, c := range []struct {
		h    Handler
		data string
	}{
		{PHP, `a|i:1;garbage`}, {PHP, `a|i:1;b`}, {PHP, `a|i:1;a|i:2;`}, {PHP, `a|b:2;`}, {PHP, `a|i:12345678901234567890;`},
		{PHP, `a|i:-12345678901234567890;`}, {PHP, `a|i:+5;b|i:007;`}, {PHP, `!a|i:1;`}, {PHP, `|i:1;`}, {PHP, `5|i:1;`},
		{PHP, `a|d:.5;b|d:1.;c|d:1e5;d|d:+1;e|d:-.5e-3;f|d:1.7976931348623157e309;`}, {PHP, `a|d:+INF;`}, {PHP, `a|d:1e;`}, {PHP, `a|d: 1;`},
		{PHP, `a|S:3:"a\62c";`}, {PHP, `a|s:01:"a";`}, {PHP, `a|s:+1:"a";`}, {PHP, `a|s:1:"a"`}, {PHP, `a|s:2:"a";`}, {PHP, `a|s:0:"a";`},
		{PHP, `a|a:1:{s:1:"5";i:1;}`}, {PHP, `a|a:2:{i:0;i:1;i:0;i:2;}`}, {PHP, `a|a:2:{i:0;i:1;s:1:"0";i:2;}`}, {PHP, `a|a:1:{N;i:1;}`},
		{PHP, `a|a:2:{i:0;i:1;}`}, {PHP, `a|a:0:{i:0;i:1;}`}, {PHP, `a|a:1:{i:0;i:1;`}, {PHP, `a|a:-1:{}`},
		{PHP, `a|O:8:"stdClass":2:{s:1:"a";i:1;s:1:"a";i:2;}`}, {PHP, `a|O:8:"stdClass":1:{s:1:"5";i:1;}`},
		{PHP, `a|O:0:"":0:{}`}, {PHP, `a|O:3:"a b":0:{}`}, {PHP, `a|E:11:"Suit:Hearts";`}, {PHP, `a|E:4:"Suit";`},
		{PHP, `a|O:8:"stdClass":0:{}b|r:1;`}, {PHP, `a|i:1;b|r:1;`}, {PHP, `a|i:1;b|R:1;c|R:1;`}, {PHP, `a|i:1;b|R:2;`}, {PHP, `a|R:1;`}, {PHP, `a|r:1;`},
		{PHP, `a|C:3:"Old":4:{i:1;}b|i:5;c|R:3;`}, {PHP, `a|C:3:"Old":24:{O:8:"stdClass":1:{s:1:"a";N;}}`},
		{PHP, `a|C:3:"Old":33:{O:8:"stdClass":1:{s:1:"a";i:5;}}}b|r:2;c|R:3;`}, {PHP, `a|C:3:"Old":32:{O:8:"stdClass":1:{s:1:"a";i:5;}}b|r:2;c|R:3;`},
		{PHPBinary, "\x01ai:1;"}, {PHPBinary, "\x81ai:1;"}, {PHPBinary, "\x00i:1;"}, {PHPBinary, "\x05a"}, {PHPBinary, "\x01a"}, {PHPBinary, "\x01ai:1;\x01"},
		{PHPSerialize, `a:1:{s:1:"a";i:1;}junk`}, {PHPSerialize, `a:1:{s:1:"a";i:1`}, {PHPSerialize, `a:1:{s:1:"5";i:1;}`}, {PHPSerialize, `junk`},
		{Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x06\x07"}, {Igbinary, "\x00\x00\x00\x01\x14\x01\x11\x01a\x06\x07"}, {Igbinary, "\x00\x00\x00\x03\x14\x00"},
		{Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x06\x07junk"}, {Igbinary, "\x00\x00\x00\x02\x14\x02\x11\x01a\x06\x07"}, {Igbinary, "\x00\x00\x00\x02"},
		{Igbinary, "\x00\x00\x00\x02\x14\x02\x11\x01a\x06\x07\x11\x01a\x06\x08"}, {Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x0e\x00"},
		{Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x0e\x01"}, {Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x01\x01"}, {Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x13\x00\x00\x00\x01b"},
		{Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x20\xff\xff\xff\xff\xff\xff\xff\xff"}, {Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x21\x80\x00\x00\x00\x00\x00\x00\x00"},
		{Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x25\x25\x06\x01"}, {Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x28"},
		{Igbinary, "\x00\x00\x00\x02\x14\x01\x11\x01a\x17\x08stdClass\x14\x02\x11\x01x\x06\x01\x00"},
		{Igbinary, "\x00\x00\x00\x02\x25\x14\x00"}, {Igbinary, "\x00\x00\x00\x02\x06\x01"},
		{Igbinary, "\x00\x00\x00\x02\x14\x02\x11\x01a\x14\x01\x06\x00\x06\x05\x11\x01b\x01\x01"}, {Igbinary, "\x00\x00\x00\x02\x14\x02\x11\x01a\x25\x14\x01\x06\x00\x06\x05\x11\x01b\x25\x01\x01"},
	} {
		r := php.read(c.h, []byte(c.data))
		s, err := Decode(c.h, []byte(c.data))
		phpOK := r.Value != nil
		if (err == nil) != phpOK {
			t.Errorf("%s %q: Go: %v; PHP: %v", c.h, c.data, err, r.Errors)
			continue
		}
		if err != nil {
			continue
		}
		if got := dump(s.vars(), map[*Object]int{}); !reflect.DeepEqual(got, r.Value) {
			t.Errorf("%s %q:\n  go %v\n php %v", c.h, c.data, got, r.Value)
		}
		if strings.Contains(c.data, "d:.5") {
			continue // we keep the spelling
		}
		if b, err := s.encode(c.h, newConfig(nil)); err != nil || !bytes.Equal(b, r.Saved) && !sameForIgbinary(t, c.h, b, r.Saved) {
			t.Errorf("%s %q, written anew:\n  go %q, %v\n php %q", c.h, c.data, b, err, r.Saved)
		}
		// Only what PHP warns of, drops or merges may need a warning.
		if same := string(r.Saved) == c.data; same && len(s.Warnings()) > 0 {
			t.Errorf("%s %q: %v", c.h, c.data, s.Warnings())
		}
	}
}

// Laravel keeps serialize(serialize($attributes)) through its cache.
func TestPHPSingleValues(t *testing.T) {
	php := startPHP(t)
	for _, kind := range []Handler{PHPSerialize, Igbinary} {
		for _, v := range []Value{Int(5), String("abc"), NewFloat(0.1), Null{}, Bool(true), Enum{"Suit", "Hearts"},
			NewList(String("x"), String("x")), NewObject("stdClass", Property{Name: "a", Value: NewList()}), String("")} {
			b, err := EncodeValue(kind, v)
			if err != nil {
				t.Fatal(err)
			}
			r := php.ask("unserialize " + string(kind) + " " + base64.StdEncoding.EncodeToString(b))
			if len(r.Errors) > 0 || !reflect.DeepEqual(r.Value, dump(v, map[*Object]int{})) || !bytes.Equal(r.Saved, b) {
				t.Errorf("%s %v: PHP reads %v, %v, saves %q, not %q", kind, v, r.Value, r.Errors, r.Saved, b)
			}
			back, err := DecodeValue(kind, b)
			if err != nil || !reflect.DeepEqual(dump(back, map[*Object]int{}), dump(v, map[*Object]int{})) {
				t.Errorf("%s %v: got %v, %v", kind, v, back, err)
			}
		}
	}
}
