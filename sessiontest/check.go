package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"time"
)

// Verdict is what a check found.
type Verdict int

const (
	// Pass: the store does what the check asks for.
	Pass Verdict = iota
	// Fail: it does not.
	Fail
	// NotOffered: the store has no such function, or nothing to try it with.
	NotOffered
)

// String returns "pass", "fail" or "not offered".
func (v Verdict) String() string {
	switch v {
	case Pass:
		return "pass"
	case Fail:
		return "fail"
	default:
		return "not offered"
	}
}

// Result is the verdict of one check.
type Result struct {
	Check   string // its name, such as "update/logout-race"
	Asks    string // what it asks of the store, in a line
	Verdict Verdict
	Note    string // why it failed, what is missing, or what is worth knowing of a pass
	Took    time.Duration
}

// checkTimeout bounds one check.
const checkTimeout = 2 * time.Minute

// a check asks one thing of a store. nil is a pass, a note a pass with a remark, notOffered is that, any other
// error a failure.
type check struct {
	name string
	asks string
	run  func(ctx context.Context, s *Store) error
}

type notOffered string

func (e notOffered) Error() string { return string(e) }

type note string

func (e note) Error() string { return string(e) }

// checks returns all of them, those that break servers last.
func checks() []check {
	var all []check
	for _, group := range [][]check{valueChecks, lifeChecks, requestChecks, idChecks, lockChecks, listChecks, faultChecks} {
		all = append(all, group...)
	}
	return all
}

// Check holds the store against the contract, one check after the other, and returns a verdict of each, always
// the same checks in the same order. It leaves sessions behind, under ids that nobody else has, and the servers
// running. The error is of a Store that lacks what is needed, or of ctx: the results are incomplete then.
func Check(ctx context.Context, s *Store) ([]Result, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	var out []Result
	for _, c := range checks() {
		r := c.do(ctx, s)
		if err := ctx.Err(); err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Run makes a subtest of each check; what is not offered is skipped.
func Run(t *testing.T, s *Store) {
	t.Helper()
	if err := s.validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			switch r := c.do(t.Context(), s); r.Verdict {
			case Fail:
				t.Errorf("%s: %s", c.asks, r.Note)
			case NotOffered:
				t.Skip(r.Note)
			default:
				if r.Note != "" {
					t.Log(r.Note)
				}
			}
		})
	}
}

func (c check) do(ctx context.Context, s *Store) Result {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	start := time.Now()
	err := guarded(func() error { return c.run(ctx, s) })
	r := Result{Check: c.name, Asks: c.asks, Took: time.Since(start)}
	var missing notOffered
	var remark note
	switch {
	case err == nil:
	case errors.As(err, &remark):
		r.Note = err.Error()
	case errors.As(err, &missing):
		r.Verdict, r.Note = NotOffered, err.Error()
	default:
		r.Verdict, r.Note = Fail, err.Error()
	}
	return r
}

// guarded makes an error of a panic: a store that panics has failed, and its neighbours have yet to be asked.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// together runs f in n goroutines and returns the first error.
func together(n int, f func(i int) error) error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- guarded(func() error { return f(i) }) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
