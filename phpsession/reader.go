package phpsession

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A reader decodes values of PHP's serialize() format.
//
// Back-references (R:, r:) count values from 1 in the order in which they
// start: arrays, objects and scalars, also those that are themselves r:, but
// neither keys nor R:. Handlers php and php_binary count over all variables of
// the session; in php_serialize the outer array is number 1.
type reader struct {
	source
	slots    []slot // where value number i+1 is
	backrefs int
	customs  int    // depth of custom serialised objects
	opaque   string // class of a custom object whose values could not be counted
}

// A slot is the place of a value: element i of a list.
type slot struct {
	list *[]Item
	i    int32
}

func (s slot) item() *Item { return &(*s.list)[s.i] }

// Every element takes at least i:0;N; .
const minElement = len("i:0;N;")

// value decodes one value into s.
func (r *reader) value(s slot) error {
	if r.pos >= r.end {
		return r.truncated("a value should follow")
	}
	start := r.pos
	c := r.in[start]
	if c != 'R' {
		r.slots = append(room(&r.source, r.slots), s)
	}
	if c == 'N' {
		if err := r.expect("N;"); err != nil {
			return err
		}
		s.item().Value = Null{}
		return nil
	}
	if start+1 < r.end && r.in[start+1] != ':' || strings.IndexByte("bidsSaOCErR", c) < 0 {
		return r.syntax(start, "no value starts like this")
	}
	if start+1 >= r.end {
		return r.truncated("a value should follow")
	}
	r.pos += 2
	switch c {
	case 'b':
		return r.bool(s)
	case 'i':
		n, err := r.int(';')
		s.item().Value = Int(n)
		return err
	case 'd':
		return r.float(s)
	case 's', 'S':
		str, err := r.string(c == 'S')
		s.item().Value = String(str)
		return err
	case 'a':
		return r.array(s)
	case 'O':
		return r.object(s)
	case 'C':
		return r.customObject(s)
	case 'E':
		return r.enum(s)
	}
	return r.backref(s, c)
}

func (r *reader) bool(s slot) error {
	if r.pos < r.end {
		switch r.in[r.pos] {
		case '0':
			s.item().Value = Bool(false)
		case '1':
			s.item().Value = Bool(true)
		default:
			return r.syntax(r.pos, "a bool is 0 or 1")
		}
		r.pos++
	}
	return r.expect(";")
}

// int reads [+-]?digits and the closing byte. Numbers beyond 64 bits are
// clamped with a warning, as by PHP.
func (r *reader) int(closing byte) (int64, error) {
	start := r.pos
	neg := false
	if r.pos < r.end && (r.in[r.pos] == '-' || r.in[r.pos] == '+') {
		neg = r.in[r.pos] == '-'
		r.pos++
	}
	first := r.pos
	var n uint64
	over := false
	for ; r.pos < r.end && isDigit(r.in[r.pos]); r.pos++ {
		d := uint64(r.in[r.pos] - '0')
		if n > (math.MaxUint64-d)/10 {
			over = true
		}
		n = n*10 + d
	}
	if r.pos == first {
		if r.pos >= r.end {
			return 0, r.truncated("an integer should follow")
		}
		return 0, r.syntax(r.pos, "not an integer")
	}
	limit := uint64(math.MaxInt64)
	if neg {
		limit++
	}
	if over || n > limit {
		n = limit
		if err := r.warn(IntegerRange, start, "integer of more than 64 bits, read as the nearest one"); err != nil {
			return 0, err
		}
	}
	if err := r.expectByte(closing); err != nil {
		return 0, err
	}
	if neg {
		return -int64(n), nil
	}
	return int64(n), nil
}

func (r *reader) float(s slot) error {
	n := strings.IndexByte(r.in[r.pos:min(r.end, r.pos+maxFloat)], ';')
	if n < 0 {
		if r.end-r.pos < maxFloat {
			return r.truncated("a float should end with ';'")
		}
		return r.syntax(r.pos, "not a float")
	}
	text := r.in[r.pos : r.pos+n]
	f, ok := parseFloat(text)
	if !ok {
		return r.syntax(r.pos, "not a float")
	}
	r.pos += n + 1
	s.item().Value = parsedFloat(f, text)
	return nil
}

// maxFloat is far longer than PHP writes; the exact value of the smallest
// float has 1,075 digits.
const maxFloat = 1200

// parseFloat reads what PHP's unserialize accepts behind d: .
func parseFloat(s string) (float64, bool) {
	switch s {
	case "NAN":
		return math.NaN(), true
	case "INF":
		return math.Inf(1), true
	case "-INF":
		return math.Inf(-1), true
	}
	rest := strings.TrimLeft(s, "0123456789")
	if s != "" && (s[0] == '+' || s[0] == '-') {
		rest = strings.TrimLeft(s[1:], "0123456789")
	}
	digits := len(s) - len(rest)
	if s != "" && (s[0] == '+' || s[0] == '-') {
		digits--
	}
	if frac, ok := strings.CutPrefix(rest, "."); ok {
		rest = strings.TrimLeft(frac, "0123456789")
		digits += len(frac) - len(rest)
	}
	if digits == 0 {
		return 0, false
	}
	if rest != "" {
		if rest[0] != 'e' && rest[0] != 'E' {
			return 0, false
		}
		exp := rest[1:]
		if exp != "" && (exp[0] == '+' || exp[0] == '-') {
			exp = exp[1:]
		}
		if exp == "" || strings.Trim(exp, "0123456789") != "" {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return f, true // out of range is INF or 0, as in PHP
}

// string reads 5:"hello"; behind s: , or behind S: with \xx escapes.
func (r *reader) string(escaped bool) (string, error) {
	str, err := r.quoted(escaped)
	if err != nil {
		return "", err
	}
	return str, r.expect(";")
}

// quoted reads 5:"hello" .
func (r *reader) quoted(escaped bool) (string, error) {
	at := r.pos
	n, err := r.count(':')
	if err != nil {
		return "", err
	}
	if err := r.expect(`"`); err != nil {
		return "", err
	}
	if n > r.end-r.pos {
		return "", r.fail(at, ErrTruncated, fmt.Sprintf("a string of %d bytes is announced, %d bytes follow", n, r.end-r.pos))
	}
	var str string
	if escaped {
		if str, err = r.unescape(n); err != nil {
			return "", err
		}
	} else {
		str = r.in[r.pos : r.pos+n]
		r.pos += n
	}
	if r.pos < r.end && r.in[r.pos] != '"' {
		return "", r.syntax(at, "the string does not end where its length says")
	}
	return str, r.expect(`"`)
}

func (r *reader) unescape(n int) (string, error) {
	var b strings.Builder
	b.Grow(n)
	for range n {
		if r.pos >= r.end {
			return "", r.truncated("a string should go on")
		}
		c := r.in[r.pos]
		r.pos++
		if c == '\\' {
			if r.end-r.pos < 2 {
				return "", r.truncated("an escape should go on")
			}
			v, err := strconv.ParseUint(r.in[r.pos:r.pos+2], 16, 8)
			if err != nil || r.in[r.pos] == '+' {
				return "", r.syntax(r.pos, "an escape has two hexadecimal digits")
			}
			c = byte(v)
			r.pos += 2
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// count reads digits and the closing byte.
func (r *reader) count(closing byte) (int, error) {
	start := r.pos
	n := 0
	for ; r.pos < r.end && isDigit(r.in[r.pos]); r.pos++ {
		if n > (math.MaxInt32-9)/10 {
			return 0, r.syntax(start, "the length is beyond all bounds")
		}
		n = n*10 + int(r.in[r.pos]-'0')
	}
	if r.pos == start {
		if r.pos >= r.end {
			return 0, r.truncated("a length should follow")
		}
		return 0, r.syntax(start, "not a length")
	}
	return n, r.expectByte(closing)
}

func (r *reader) array(s slot) error {
	n, err := r.count(':')
	if err != nil {
		return err
	}
	if err := r.expect("{"); err != nil {
		return err
	}
	if n == 0 {
		s.item().Value = emptyArray
		return r.expect("}")
	}
	a := &Array{}
	s.item().Value = a
	return r.items(&a.items, n, true)
}

func (r *reader) object(s slot) error {
	class, err := r.class()
	if err != nil {
		return err
	}
	n, err := r.count(':')
	if err != nil {
		return err
	}
	if err := r.expect("{"); err != nil {
		return err
	}
	o := &Object{class: class, owner: r.changes}
	s.item().Value = o
	return r.items(&o.items, n, false)
}

func (r *reader) class() (string, error) {
	at := r.pos
	class, err := r.quoted(false)
	if err != nil {
		return "", err
	}
	if !validClass(class) {
		return "", r.syntax(at, "not a class name")
	}
	return class, r.expect(":")
}

// validClass accepts what PHP's unserialize takes for a class name.
func validClass(s string) bool {
	if s == "" || s[0] == '\\' {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x80 && !isDigit(c) && c != '_' && c != '\\' && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// items decodes n key-value pairs and the closing brace into *list.
func (r *reader) items(list *[]Item, n int, array bool) error {
	if err := r.enter(n, minElement); err != nil {
		return err
	}
	from := len(r.slots)
	// Allocated at once: enter has seen that the input is long enough for n
	// elements here and for all that the enclosing arrays still expect.
	*list = make([]Item, n)
	for i := range n {
		r.pending -= minElement
		k, err := r.key(array)
		if err != nil {
			return err
		}
		(*list)[i].Key = k
		if r.depth == 1 && r.handler == PHPSerialize {
			r.variable = k.String()
		}
		if err := r.value(slot{list, int32(i)}); err != nil {
			return err
		}
	}
	r.leave()
	if err := r.expect("}"); err != nil {
		return err
	}
	return r.merge(list, from)
}

// merge joins equal keys, and lets the slots follow.
func (r *reader) merge(list *[]Item, from int) error {
	kept, moved := dedupe(*list)
	if moved == nil {
		return nil
	}
	*list = kept
	for i := from; i < len(r.slots); i++ {
		if s := &r.slots[i]; s.list == list {
			s.i = moved[s.i]
		}
	}
	return r.warn(DuplicateKey, r.pos, "a key occurs twice, the last value counts")
}

func (r *reader) key(array bool) (Key, error) {
	if r.end-r.pos < 2 {
		return Key{}, r.truncated("a key should follow")
	}
	kind := r.in[r.pos : r.pos+2]
	switch kind {
	case "i:":
		r.pos += 2
		n, err := r.int(';')
		return IntKey(n), err
	case "s:", "S:":
		r.pos += 2
		str, err := r.string(kind == "S:")
		if array {
			return StringKey(str), err
		}
		return rawKey(str), err
	}
	return Key{}, r.syntax(r.pos, "a key is an int or a string")
}

func (r *reader) enum(s slot) error {
	at := r.pos
	str, err := r.string(false)
	if err != nil {
		return err
	}
	class, name, ok := strings.Cut(str, ":")
	if !ok || !validClass(class) || name == "" {
		return r.syntax(at, "an enum case is Class:Case")
	}
	s.item().Value = Enum{class, name}
	return nil
}

// backref resolves R: and r: .
func (r *reader) backref(s slot, kind byte) error {
	at := r.pos
	n, err := r.count(';')
	if err != nil {
		return err
	}
	r.backrefs++
	seen := len(r.slots)
	if kind == 'r' {
		seen-- // its own
	}
	if r.opaque != "" {
		msg := "a back-reference behind an object of class " + quoteKey(r.opaque) + ", whose content only the class can count"
		if err := r.warn(UnverifiedReference, at, msg); err != nil {
			return err
		}
	}
	if n < 1 || n > seen {
		return r.syntax(at, fmt.Sprintf("back-reference to value %d of %d", n, seen))
	}
	target := r.slots[n-1].item()
	if kind == 'r' {
		switch v := deref(target.Value).(type) {
		case *Object, Enum:
			s.item().Value = v
			return nil
		}
		return r.syntax(at, "r: must refer to an object")
	}
	ref, ok := target.Value.(*Ref)
	if !ok {
		if target.Value == nil || target == s.item() {
			return r.syntax(at, "a reference to itself")
		}
		ref = &Ref{v: target.Value, owner: r.changes}
		target.Value = ref
	}
	s.item().Value = ref
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
