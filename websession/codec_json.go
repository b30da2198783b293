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
	if !json.Valid(data) { // bounds the depth, too
		var syntax *json.SyntaxError
		if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
			return nil, fmt.Errorf("no JSON: byte %d: %w", syntax.Offset, err)
		}
		return nil, errors.New("no JSON")
	}
	if err := splitJSON(data, r.set); err != nil {
		return nil, err
	}
	return r, nil
}

// splitJSON gives the members of an object to each, which is known to be valid JSON: a request pays for one look at
// every byte, not for the three that encoding/json's Decoder takes. Values are parts of data.
func splitJSON(data []byte, each func(key string, value []byte)) error {
	i := skipSpace(data, 0)
	if data[i] != '{' {
		return errors.New("JSON, but no object")
	}
	for i = skipSpace(data, i+1); data[i] != '}'; {
		end := endOfJSON(data, i)
		var key string
		if err := unmarshalJSON(data[i:end], &key); err != nil {
			return err
		}
		i = skipSpace(data, skipSpace(data, end)+1) // the colon
		end = endOfJSON(data, i)
		each(key, data[i:end:end])
		if i = skipSpace(data, end); data[i] == ',' {
			i = skipSpace(data, i+1)
		}
	}
	return nil
}

func skipSpace(data []byte, i int) int {
	for data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r' {
		i++
	}
	return i
}

// endOfJSON is where the value that begins at i ends, in valid JSON that goes on behind it.
func endOfJSON(data []byte, i int) int {
	for depth := 0; ; {
		switch data[i] {
		case '"':
			i = endOfString(data, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		default:
			i++
		}
		if depth > 0 {
			continue
		}
		switch data[i-1] {
		case '"', '}', ']':
			return i
		}
		switch data[i] { // behind a number or a word
		case ',', '}', ' ', '\t', '\n', '\r':
			return i
		}
	}
}

// endOfString is behind the closing quote of the string that begins at i.
func endOfString(data []byte, i int) int {
	for i++; ; {
		i += bytes.IndexByte(data[i:], '"') + 1
		escapes := 0
		for at := i - 2; data[at] == '\\'; at-- {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}

// unmarshalJSON is json.Unmarshal, at once where a plain string is wanted and there: what sessions hold most, and the
// longest of it.
func unmarshalJSON(data []byte, dst any) error {
	if s, ok := dst.(*string); ok && len(data) >= 2 && data[0] == '"' {
		// JSON in a session is valid, so that there is no other quote, and no control character, inside.
		if in := data[1 : len(data)-1]; bytes.IndexByte(in, '\\') < 0 && utf8.Valid(in) {
			*s = string(in)
			return nil
		}
	}
	return json.Unmarshal(data, dst)
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
