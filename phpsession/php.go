package phpsession

import "strings"

// Handler php: key|value key|value …, the values in serialize() format. The
// first '|' behind a value ends the next key; a value may contain any byte.

func decodePHP(in string, c config) (Value, []Warning, *changes, error) {
	return decodeVariables(PHP, in, c, func(r *reader) (string, error) {
		n := strings.IndexByte(r.in[r.pos:], '|')
		if n < 0 {
			return "", r.syntax(r.pos, "no '|' ends this key")
		}
		name := r.in[r.pos : r.pos+n]
		r.pos += n + 1
		return name, nil
	})
}

func encodePHP(items []Item, c config) ([]byte, error) {
	return encodeVariables(PHP, items, c, func(w *writer, name string) {
		w.str(name)
		w.str("|")
	})
}

// decodeVariables decodes what handlers php and php_binary have in common: a
// sequence of names and values in which back-references count throughout.
func decodeVariables(h Handler, in string, c config, name func(*reader) (string, error)) (Value, []Warning, *changes, error) {
	r := &reader{source: newSource(h, in, c)}
	r.changes = new(changes)
	root := &Array{}
	for r.pos < r.end {
		if r.elements++; r.elements > c.limits.MaxElements {
			return nil, nil, nil, r.fail(r.pos, ErrLimit, "too many variables")
		}
		r.variable = ""
		key, err := name(r)
		if err != nil {
			return nil, nil, nil, err
		}
		r.variable = key
		root.items = append(room(&r.source, root.items), Item{Key: rawKey(key)})
		if err := r.value(slot{&root.items, int32(len(root.items) - 1)}); err != nil {
			return nil, nil, nil, err
		}
	}
	r.variable = ""
	if err := r.merge(&root.items, 0); err != nil {
		return nil, nil, nil, err
	}
	return root, r.warnings, r.changes, nil
}

func encodeVariables(h Handler, items []Item, c config, name func(*writer, string)) ([]byte, error) {
	w := &writer{limits: c.limits}
	var unfit []Key
	for _, it := range items {
		if keyFault(h, it.Key) != "" {
			if c.dropped != nil {
				c.dropped(it.Key)
			} else {
				unfit = append(unfit, it.Key)
			}
			continue
		}
		name(w, it.Key.String())
		if err := w.value(it.Value); err != nil {
			return nil, err
		}
	}
	if unfit != nil {
		return nil, &KeyError{Handler: h, Keys: unfit}
	}
	return w.buf, nil
}
