package phpsession

import (
	"errors"
	"fmt"
)

// custom is what Serializable::serialize returned.
type custom struct {
	data string
	// nested is data decoded, if it is itself serialize() output: its values
	// then count in the numbering of back-references of handlers php,
	// php_binary and php_serialize. nil if it is not.
	nested Value
	// linked: nested holds back-references, whose numbers depend on what
	// stands before the object, so it must be written anew with it.
	linked bool
	// plain is nested as PHP would write it, if that is not data. Data is
	// written as long as nested still gives plain: objects in it can be
	// changed from outside, through back-references to them.
	plain string
}

// settle compares data with what its decoded form gives.
func (c *custom) settle(limits Limits) {
	if c.nested == nil || c.linked {
		return
	}
	w := writer{limits: limits}
	if err := w.value(c.nested); err == nil && string(w.buf) != c.data {
		c.plain = string(w.buf)
	}
}

// standalone returns the bytes of a custom object where nothing is counted
// with them, as in igbinary.
func (c *custom) standalone(limits Limits) (string, error) {
	if c.nested == nil {
		return c.data, nil
	}
	w := writer{limits: limits}
	if err := w.value(c.nested); err != nil {
		return "", err
	}
	if c.plain != "" && string(w.buf) == c.plain {
		return c.data, nil
	}
	return string(w.buf), nil
}

// maxCustomDepth bounds custom objects inside the bytes of custom objects that
// are decoded; deeper ones stay bytes.
const maxCustomDepth = 8

// customObject reads C:5:"Class":3:{abc}. What the class wrote is opaque, but
// most classes write what serialize() gave them, and PHP then counts those
// values too. So the content is decoded on trial.
func (r *reader) customObject(s slot) error {
	class, err := r.class()
	if err != nil {
		return err
	}
	at := r.pos
	n, err := r.count(':')
	if err != nil {
		return err
	}
	if err := r.expect("{"); err != nil {
		return err
	}
	if n > r.end-r.pos {
		return r.fail(at, ErrTruncated, fmt.Sprintf("%d bytes are announced, %d bytes follow", n, r.end-r.pos))
	}
	c := &custom{data: r.in[r.pos : r.pos+n]}
	s.item().Value = &Object{class: class, custom: c, owner: r.changes}
	if err := r.nested(c, class); err != nil {
		return err
	}
	return r.expect("}")
}

// nested decodes c.data, which starts at r.pos, and steps over it.
func (r *reader) nested(c *custom, class string) error {
	if r.customs >= maxCustomDepth {
		r.pos += len(c.data)
		r.opaque = class
		return nil
	}
	saved := *r
	top := make([]Item, 1)
	r.end = r.pos + len(c.data)
	r.pending = 0
	r.customs++
	err := r.value(slot{&top, 0})
	switch {
	case errors.Is(err, ErrLimit):
		return err
	case err != nil || r.pos != r.end:
		elements, warnings := r.elements, len(saved.warnings)
		*r = saved
		r.elements = elements // what was tried counts against the limit
		r.warnings = r.warnings[:warnings]
		r.opaque = class
	default:
		c.nested = top[0].Value
		c.linked = r.backrefs > saved.backrefs
		c.settle(r.config.limits)
		r.end, r.pending, r.customs = saved.end, saved.pending, saved.customs
	}
	r.pos = saved.pos + len(c.data)
	return nil
}

// newCustom returns bytes that stand alone, decoded where they can be.
func newCustom(data string) *custom {
	c := &custom{data: data}
	top := make([]Item, 1)
	r := reader{source: newSource(PHPSerialize, data, config{limits: Limits{}.withDefaults()})}
	r.customs = 1
	if err := r.value(slot{&top, 0}); err == nil && r.pos == r.end {
		c.nested = top[0].Value
		c.linked = r.backrefs > 0
		c.settle(r.config.limits)
	}
	return c
}
