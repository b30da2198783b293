package sessionring

import (
	"math"
	"strconv"
	"strings"
)

// maxQueryParams is PHP's max_input_vars: what comes after is not read, so more are refused here.
const maxQueryParams = 1000

// maxQueryDepth is PHP's max_input_nesting_level: a[b][c]… that is deeper is dropped.
const maxQueryDepth = 64

// phpParam is one name=value of a query as it stands there.
type phpParam struct {
	offset   int    // of its first byte, in the query
	rawName  string // before decoding
	rawValue string
	hasValue bool // there is a '='

	name   string   // top-level name, decoded and mangled as PHP does; "" when PHP drops it
	keys   []string // of a[key][key]=; "" is a[]=
	value  string   // decoded
	broken bool     // an opening bracket without its closing one: PHP made an underscore of it
}

// phpValue is a string, or an array when elements is not nil.
type phpValue struct {
	str      string
	elements map[string]*phpValue
	set      bool // given a value; false only while it is being made
	repeated bool // a value was overwritten: the last of equal names wins

	next    int64 // index that a[]= takes
	indexed bool  // next counts from an index already seen
	full    bool  // index 2^63-1 is taken: a[]= drops its value
}

func (v *phpValue) isArray() bool { return v.elements != nil }

// phpQuery is the outcome of parse_str.
type phpQuery struct {
	params []phpParam // in order, as written
	values *phpValue  // an array
	cut    bool       // there were more than maxQueryParams
}

// get returns the value of a top-level name, nil when there is none.
func (q *phpQuery) get(name string) *phpValue {
	if q.values == nil {
		return nil
	}
	return q.values.elements[name]
}

// parsePHPQuery follows PHP's parse_str (php_default_treat_data, php_register_variable_ex) with its default
// settings: '&' alone parts, '+' is a blank, names end at '[' or a NUL byte, blanks and dots in them turn
// into underscores, the last of two equal names wins.
func parsePHPQuery(s string) phpQuery {
	q := phpQuery{values: newPHPArray()}
	for offset := 0; offset < len(s); {
		part, _, _ := strings.Cut(s[offset:], "&")
		start := offset
		offset += len(part) + 1
		if part == "" {
			continue
		}
		if len(q.params) == maxQueryParams {
			q.cut = true
			break
		}
		p := phpParam{offset: start}
		p.rawName, p.rawValue, p.hasValue = strings.Cut(part, "=")
		p.value = urlDecode(p.rawValue, true)
		p.splitName(urlDecode(p.rawName, true))
		if p.name != "" && len(p.keys) <= maxQueryDepth {
			q.values.put(p.name, p.keys, p.value)
		}
		q.params = append(q.params, p)
	}
	return q
}

// splitName parts name[key][key] and mangles as PHP does.
func (p *phpParam) splitName(s string) {
	s, _, _ = strings.Cut(s, "\x00")
	s = strings.TrimLeft(s, " ")
	bracket := strings.IndexByte(s, '[')
	if bracket == 0 {
		return
	}
	if bracket < 0 {
		p.name = mangleName(s)
		return
	}
	p.name = mangleName(s[:bracket])
	for rest := s[bracket:]; strings.HasPrefix(rest, "["); {
		inner := rest[1:]
		skip := 0
		if inner != "" && isSpace(inner[0]) {
			skip = 1
		}
		end := strings.IndexByte(inner[skip:], ']')
		if end < 0 {
			p.broken = true
			if len(p.keys) == 0 {
				p.name += "_" + mangleTail(inner)
			}
			return
		}
		key := inner[:skip+end]
		if end == 0 { // "[]" and "[ ]"
			key = ""
		}
		p.keys = append(p.keys, key)
		rest = inner[skip+end+1:]
		if len(p.keys) > maxQueryDepth {
			return
		}
	}
}

func mangleName(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, " ", "_"), ".", "_")
}

// mangleTail is the same for what follows an unclosed bracket.
func mangleTail(s string) string { return strings.ReplaceAll(mangleName(s), "[", "_") }

func newPHPArray() *phpValue { return &phpValue{elements: map[string]*phpValue{}} }

// put stores value under name and keys.
func (v *phpValue) put(name string, keys []string, value string) {
	at := v.child(name, false)
	for _, key := range keys {
		if at == nil {
			return
		}
		if !at.isArray() {
			at.repeated = at.set
			at.str, at.elements = "", map[string]*phpValue{}
		}
		at.set = true
		at = at.child(key, key == "")
	}
	if at == nil {
		return
	}
	*at = phpValue{str: value, set: true, repeated: at.set}
}

// child returns the element under key, made when missing; nil where PHP cannot append.
func (v *phpValue) child(key string, appending bool) *phpValue {
	if appending {
		if v.full {
			return nil
		}
		key = strconv.FormatInt(v.next, 10)
	}
	if c, ok := v.elements[key]; ok {
		return c
	}
	c := &phpValue{}
	v.elements[key] = c
	if n, ok := phpIndex(key); ok && (n >= v.next || !v.indexed) {
		v.next, v.indexed, v.full = n+1, true, n == math.MaxInt64
	}
	return c
}

// phpIndex reports whether PHP turns the key into an integer: canonical decimals only.
func phpIndex(key string) (int64, bool) {
	n, err := strconv.ParseInt(key, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == key
}

// urlDecode decodes %XX, and '+' as a blank where plus is set. A malformed %XX stays as it is, as in PHP.
func urlDecode(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && plus:
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8) // cannot fail: two hex digits
			b = append(b, byte(n))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// castInt is PHP's cast to int: of a string by its leading number, of an array 1 (0 when empty).
func (v *phpValue) castInt() int64 {
	if v.isArray() {
		return int64(min(len(v.elements), 1))
	}
	number, isFloat := numericPrefix(v.str)
	if !isFloat {
		// ParseInt returns the nearest limit on overflow, and so does PHP.
		n, _ := strconv.ParseInt(number, 10, 64)
		return n
	}
	f, _ := strconv.ParseFloat(number, 64)
	switch {
	case math.IsInf(f, 0):
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// castFloat is PHP's cast to float. It may be infinite (1e999), never NaN.
func (v *phpValue) castFloat() float64 {
	if v.isArray() {
		return float64(min(len(v.elements), 1))
	}
	number, _ := numericPrefix(v.str)
	f, _ := strconv.ParseFloat(number, 64) // out of range: ±Inf, as in PHP
	return f
}

// castString is PHP's cast to string: an array becomes the word Array.
func (v *phpValue) castString() string {
	if v.isArray() {
		return "Array"
	}
	return v.str
}

// castBool is phpredis's reading of a switch: 1, true, yes in any case; everything else is off.
func (v *phpValue) castBool() bool {
	s := v.castString()
	return s == "1" || strings.EqualFold(s, "true") || strings.EqualFold(s, "yes")
}

// truthy is PHP's own reading of a switch: off are "", "0" and the empty array, nothing else.
func (v *phpValue) truthy() bool {
	if v.isArray() {
		return len(v.elements) > 0
	}
	return v.str != "" && v.str != "0"
}

// numericPrefix returns the number that s starts with, "0" when it starts with none, and whether it is
// written as a float. Leading white space is skipped, the tail ignored.
func numericPrefix(s string) (number string, isFloat bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	whole := leadingDigits(s[i:], len(s))
	i += whole
	if i < len(s) && s[i] == '.' {
		fraction := leadingDigits(s[i+1:], len(s))
		if whole+fraction > 0 {
			isFloat = true
			i += 1 + fraction
		}
	}
	if whole == 0 && !isFloat {
		return "0", false
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '-' || s[j] == '+') {
			j++
		}
		if exponent := leadingDigits(s[j:], len(s)); exponent > 0 {
			isFloat = true
			i = j + exponent
		}
	}
	return s[:i], isFloat
}
