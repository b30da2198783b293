package websession

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// JSON writes a session as one JSON object, a member for each value, as encoding/json writes them. It is the
// default: readable with redis-cli and from other languages.
func JSON() Codec { return Codec{name: "json", open: openJSON} }

func openJSON(data []byte) (values, error) {
	r := &raw{vals: map[string][]byte{}, marshal: json.Marshal, unmarshal: unmarshalJSON, wrap: wrapJSON, checkKey: utf8Key}
	if len(data) == 0 {
		return r, nil
	}
	if splitJSON(data, r.set) {
		return r, nil
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return nil, fmt.Errorf("no JSON: byte %d: %w", syntax.Offset, err)
	}
	return nil, errors.New("JSON, but no object")
}

// splitJSON gives the members of an object to each; false where data is no JSON object. A request pays for one look at
// every byte, not for the three or four that encoding/json takes; what is no plain string it still judges. Values are
// parts of data.
func splitJSON(data []byte, each func(key string, value []byte)) bool {
	i := skipSpace(data, 0)
	if at(data, i) != '{' {
		return false
	}
	if i = skipSpace(data, i+1); at(data, i) != '}' {
		for {
			end, ok := endOfString(data, i)
			if !ok {
				return false
			}
			key := keyOf(data[i:end])
			if i = skipSpace(data, end); at(data, i) != ':' {
				return false
			}
			i = skipSpace(data, i+1)
			if end, ok = endOfJSON(data, i); !ok {
				return false
			}
			value := bytes.TrimRight(data[i:end], " \t\n\r")
			each(key, value[:len(value):len(value)])
			i = skipSpace(data, end)
			if at(data, i) != ',' {
				break
			}
			i = skipSpace(data, i+1)
		}
	}
	return at(data, i) == '}' && skipSpace(data, i+1) == len(data)
}

// keyOf reads a string that is known to be valid.
func keyOf(data []byte) string {
	if key, ok := plainJSON(data); ok {
		return key
	}
	var key string
	_ = json.Unmarshal(data, &key)
	return key
}

// at is the byte at i, 0 behind the end.
func at(data []byte, i int) byte {
	if i < len(data) {
		return data[i]
	}
	return 0
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// endOfString is behind the closing quote of the valid string that begins at i.
func endOfString(data []byte, i int) (end int, ok bool) {
	if at(data, i) != '"' {
		return 0, false
	}
	plain := true
	for end = i + 1; end < len(data); end++ {
		switch c := data[end]; {
		case c == '"':
			end++
			return end, plain || json.Valid(data[i:end])
		case c == '\\':
			plain = false
			end++
		case c < ' ':
			return 0, false
		}
	}
	return 0, false
}

// endOfJSON is behind the valid value that begins at i, and maybe space behind it.
func endOfJSON(data []byte, i int) (end int, ok bool) {
	if at(data, i) == '"' {
		return endOfString(data, i)
	}
	depth := 0
	for end = i; end < len(data); end++ {
		switch data[end] {
		case '"':
			last, ok := endOfString(data, end)
			if !ok {
				return 0, false
			}
			end = last - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return end, json.Valid(data[i:end])
			}
		case ',':
			if depth == 0 {
				return end, json.Valid(data[i:end])
			}
		}
	}
	return 0, false
}

// unmarshalJSON is json.Unmarshal, at once where a plain string is wanted and there: what sessions hold most, and the
// longest of it.
func unmarshalJSON(data []byte, dst any) error {
	if s, ok := dst.(*string); ok {
		if plain, ok := plainJSON(data); ok {
			*s = plain
			return nil
		}
	}
	return json.Unmarshal(data, dst)
}

// plainJSON is what a JSON string says that holds nothing that has to be decoded. There is no other quote, and no
// control character, inside: JSON in a session is valid.
func plainJSON(data []byte) (string, bool) {
	if len(data) < 2 || data[0] != '"' {
		return "", false
	}
	in := data[1 : len(data)-1]
	if bytes.IndexByte(in, '\\') >= 0 || !utf8.Valid(in) {
		return "", false
	}
	return string(in), true
}

func utf8Key(key string) error {
	if !utf8.ValidString(key) {
		return fmt.Errorf("%w: %q is not UTF-8, and JSON holds nothing else", ErrKey, key)
	}
	return nil
}

func wrapJSON(r *raw) ([]byte, error) {
	size := 2
	for k, v := range r.vals {
		size += len(k) + len(v) + len(`"":,`)
	}
	b := append(make([]byte, 0, size), '{')
	for i, k := range r.order {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), r.vals[k]...)
	}
	return append(b, '}'), nil
}
