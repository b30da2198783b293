package phpsession

// Handler php_binary: one byte with the length of the key, the key, the value
// in serialize() format, and so on. PHP ignores the top bit of the length.

const maxBinaryKey = 127

func decodeBinary(in string, c config) (Value, []Warning, *changes, error) {
	return decodeVariables(PHPBinary, in, c, func(r *reader) (string, error) {
		n := int(r.in[r.pos] & maxBinaryKey)
		if n >= r.end-r.pos-1 {
			return "", r.truncated("a key and a value should follow")
		}
		name := r.in[r.pos+1 : r.pos+1+n]
		r.pos += 1 + n
		return name, nil
	})
}

func encodeBinary(items []Item, c config) ([]byte, error) {
	return encodeVariables(PHPBinary, items, c, func(w *writer, name string) {
		w.buf = append(w.buf, byte(len(name)))
		w.str(name)
	})
}
