package phpsession

import "fmt"

// Handler php_serialize: the whole session is one serialize() array, which is
// value number 1 for back-references. PHP ignores what follows it.

func decodeSerialize(in string, c config) (Value, []Warning, *changes, error) {
	r := &reader{source: newSource(PHPSerialize, in, c)}
	r.changes = new(changes)
	top := make([]Item, 1)
	if err := r.value(slot{&top, 0}); err != nil {
		return nil, nil, nil, err
	}
	if r.pos < r.end {
		if err := r.warn(TrailingData, r.pos, fmt.Sprintf("%d bytes behind the value, ignored by PHP", r.end-r.pos)); err != nil {
			return nil, nil, nil, err
		}
	}
	return top[0].Value, r.warnings, r.changes, nil
}

func encodeSerialize(root Value, c config) ([]byte, error) {
	w := &writer{limits: c.limits}
	err := w.value(root)
	return w.buf, err
}
