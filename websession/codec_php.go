package websession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sessionring/sessionring/phpsession"
)

// PHP writes sessions as PHP does under session.serialize_handler = h, for sessions shared with PHP. Values
// that are not changed keep their bytes. Struct fields are named by `php:"name"` tags; see phpsession.Marshal.
// Session.EditPHP reaches deep into objects and arrays.
func PHP(h phpsession.Handler) Codec {
	if h == "" {
		h = phpsession.PHP
	}
	c := Codec{name: h.String(), php: true}
	h, c.err = phpsession.ParseHandler(string(h))
	if c.err != nil {
		c.err = fmt.Errorf("websession: PHP codec: %w", c.err)
	}
	c.open = func(data []byte) (values, error) {
		tree, err := phpsession.Decode(h, data)
		if err != nil {
			return nil, err
		}
		return &phpValues{h, tree}, nil
	}
	return c
}

type phpValues struct {
	handler phpsession.Handler
	tree    *phpsession.Session
}

func (p *phpValues) keys() []string { return p.tree.Keys() }

func (p *phpValues) has(key string) bool { _, ok := p.tree.Get(key); return ok }

func (p *phpValues) get(key string, dst any) (bool, error) {
	v, ok := p.tree.Get(key)
	if !ok {
		return false, nil
	}
	if err := phpsession.Unmarshal(v, dst); err != nil {
		return true, fmt.Errorf("%w: %q: %w", ErrType, key, err)
	}
	return true, nil
}

func (p *phpValues) put(key string, v any) (bool, error) {
	pv, err := phpsession.Marshal(v)
	if err != nil {
		return false, fmt.Errorf("%w: %q: %w", ErrType, key, err)
	}
	old, ok := p.tree.Get(key)
	if ok && equalPHP(old, pv) {
		return false, nil
	}
	if !ok {
		// A key that the handler cannot hold is refused here, not when all is saved. PHP drops it in silence.
		probe := &phpsession.Session{}
		if err := probe.Set(key, nil); err != nil {
			return false, fmt.Errorf("%w: %q: %w", ErrKey, key, err)
		}
		if _, err := probe.Encode(p.handler); err != nil {
			return false, fmt.Errorf("%w: %q: %w", ErrKey, key, err)
		}
	}
	if err := p.tree.Set(key, pv); err != nil {
		return false, fmt.Errorf("%w: %q: %w", ErrType, key, err)
	}
	return true, nil
}

func (p *phpValues) delete(key string) bool { return p.tree.Delete(key) }

func (p *phpValues) encode() ([]byte, error) { return p.tree.Encode(p.handler) }

func (p *phpValues) same(key string, other values) bool {
	a, okA := p.tree.Get(key)
	b, okB := other.(*phpValues).tree.Get(key)
	return okA == okB && (!okA || equalPHP(a, b))
}

func (p *phpValues) take(key string, other values) error {
	if v, ok := other.(*phpValues).tree.Get(key); ok {
		return p.tree.Set(key, v)
	}
	return nil
}

// equalPHP compares by what PHP would write.
func equalPHP(a, b phpsession.Value) bool {
	x, errX := phpsession.EncodeValue(phpsession.PHPSerialize, a)
	y, errY := phpsession.EncodeValue(phpsession.PHPSerialize, b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// EditPHP hands the session's tree to edit, for what Value and Put do not reach: single elements of nested
// arrays, properties of objects, the order. Keep neither the tree nor parts of it. An error of edit is
// returned; what it changed before stays changed. ErrCodec with a codec that is not PHP.
func (s *Session) EditPHP(edit func(*phpsession.Session) error) error {
	return s.use(func() error {
		p, ok := s.values.(*phpValues)
		if !ok {
			return fmt.Errorf("%w: EditPHP needs websession.PHP", ErrCodec)
		}
		if s.readOnly == nil {
			err := edit(p.tree)
			s.dirty = true // whether anything changed is seen when it is encoded
			return errors.Join(err, s.readMeta())
		}
		// A copy, so that nothing of a refused change is seen.
		b, err := p.encode()
		if err != nil {
			return err
		}
		v, err := s.m.opt.Codec.decode(b)
		if err != nil {
			return err
		}
		tree := v.(*phpValues).tree
		if err := edit(tree); err != nil {
			return err
		}
		if tree.Changed() {
			return s.readOnly
		}
		return nil
	})
}

// warn tells the log of what PHP's decoder passes over in silence, when it is about to be lost by writing the
// session anew: bytes behind the end, keys that occur twice.
func (s *Session) warn(ctx context.Context) {
	p, ok := s.values.(*phpValues)
	if !ok {
		return
	}
	for _, w := range p.tree.Warnings() {
		s.m.opt.Logger.LogAttrs(ctx, slog.LevelWarn, "session holds what writing it anew does not keep, as in PHP",
			slog.String("sid", masked(s.id)), slog.Int("offset", w.Offset), slog.String("what", w.Msg))
	}
}
