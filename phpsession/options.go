package phpsession

import "math"

// Limits bound what decoding accepts and encoding produces. A zero field means
// its default.
type Limits struct {
	// MaxBytes is the size of the payload, before and after decompression.
	// Default 8 MiB, at most 2 GiB.
	MaxBytes int
	// MaxDepth is how deeply arrays and objects may nest. Default 1,024
	// (PHP's unserialize_max_depth is 4,096), at most 20,000.
	MaxDepth int
	// MaxElements is the number of array elements and properties in all.
	// Default 1,048,576.
	MaxElements int
}

const (
	defaultMaxBytes    = 8 << 20
	defaultMaxDepth    = 1024
	defaultMaxElements = 1 << 20

	// highestDepth keeps recursion inside any goroutine's stack whatever the
	// caller asks for.
	highestDepth = 20_000
)

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = defaultMaxBytes
	}
	l.MaxBytes = min(l.MaxBytes, math.MaxInt32)
	if l.MaxDepth <= 0 {
		l.MaxDepth = defaultMaxDepth
	}
	l.MaxDepth = min(l.MaxDepth, highestDepth)
	if l.MaxElements <= 0 {
		l.MaxElements = defaultMaxElements
	}
	return l
}

// An Option changes how one call decodes or encodes.
type Option func(*config)

type config struct {
	limits     Limits
	strict     bool
	dropped    func(Key)
	decompress Decompressor
}

func newConfig(opts []Option) config {
	var c config
	for _, o := range opts {
		o(&c)
	}
	c.limits = c.limits.withDefaults()
	return c
}

// WithLimits sets other limits.
func WithLimits(l Limits) Option { return func(c *config) { c.limits = l } }

// Strict turns every warning of decoding into an error that matches [ErrSyntax].
func Strict() Option { return func(c *config) { c.strict = true } }

// DropKeys makes [Session.Encode] leave out the keys that the handler cannot
// hold, and reports each, where it would otherwise return a [KeyError]. PHP
// does the same with integer keys and long keys; of a key with '|' in handler
// php, PHP loses the whole session, this only the key.
func DropKeys(report func(Key)) Option {
	return func(c *config) {
		if report == nil {
			report = func(Key) {}
		}
		c.dropped = report
	}
}
