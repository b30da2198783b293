package sessiontest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
	"unsafe"
)

// long is a lifetime that no check outlives.
const long = time.Hour

var valueChecks = []check{
	{"value/absent", "an id that nobody stored is absent, which is no error", absent},
	{"value/round-trip", "what was stored comes back", roundTrip},
	{"value/overwrite", "a later, shorter value replaces the earlier one", overwrite},
	{"value/empty", "an empty value is stored or left out, without an error at either end", empty},
	{"value/binary", "all byte values, NUL and invalid UTF-8 among them, come back as they were", binary},
	{"value/large", "a session of 64 KiB is kept", large},
	{"value/buffers", "the store keeps no hold on buffers that the caller goes on using", buffers},
	{"value/similar-ids", "ids that differ in case or length alone are different sessions", similarIDs},
	{"value/delete", "a deleted session is absent; deleting what is absent is no error", deleted},
	{"value/many-at-once", "requests of different visitors, all at once, each see their own data", manyAtOnce},
	{"value/one-at-once", "requests of one visitor, all at once, see a value that one of them stored", oneAtOnce},
}

// expect reads a session that must be there.
func (s *Store) expect(ctx context.Context, id string, want []byte) error {
	got, found, err := s.Get(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("reading: %w", err)
	case !found:
		return fmt.Errorf("the session is absent, want %s", brief(want))
	case !bytes.Equal(got, want):
		return fmt.Errorf("read %s, want %s", brief(got), brief(want))
	}
	return nil
}

// expectAbsent reads a session that must not be there.
func (s *Store) expectAbsent(ctx context.Context, id string) error {
	got, found, err := s.Get(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("reading: %w", err)
	case found:
		return fmt.Errorf("there is a session, %s", brief(got))
	}
	return nil
}

func brief(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%d bytes beginning %q", len(b), b[:40])
	}
	return fmt.Sprintf("%q", b)
}

// fresh stores a session under a new id.
func (s *Store) fresh(ctx context.Context, data string) (string, error) {
	id := s.id()
	if err := s.Set(ctx, id, []byte(data), long); err != nil {
		return id, fmt.Errorf("storing: %w", err)
	}
	return id, nil
}

func absent(ctx context.Context, s *Store) error { return s.expectAbsent(ctx, s.id()) }

func roundTrip(ctx context.Context, s *Store) error {
	id, err := s.fresh(ctx, "user|i:7;")
	if err != nil {
		return err
	}
	return s.expect(ctx, id, []byte("user|i:7;"))
}

func overwrite(ctx context.Context, s *Store) error {
	id, err := s.fresh(ctx, "a value of some length")
	if err != nil {
		return err
	}
	if err := s.Set(ctx, id, []byte("short"), long); err != nil {
		return fmt.Errorf("storing again: %w", err)
	}
	return s.expect(ctx, id, []byte("short"))
}

func empty(ctx context.Context, s *Store) error {
	id := s.id()
	if err := s.Set(ctx, id, []byte{}, long); err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	got, found, err := s.Get(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("reading: %w", err)
	case len(got) > 0:
		return fmt.Errorf("read %s", brief(got))
	case !found:
		return note("an empty session is not stored")
	}
	return nil
}

func binary(ctx context.Context, s *Store) error {
	data := make([]byte, 0, 600)
	for i := range 256 {
		data = append(data, byte(i))
	}
	data = append(data, "\x00\r\n$5\r\n\xff\xfe\xc3\x28|\x00"...)
	for i := range 256 {
		data = append(data, byte(255-i))
	}
	id, err := s.fresh(ctx, string(data))
	if err != nil {
		return err
	}
	return s.expect(ctx, id, data)
}

func large(ctx context.Context, s *Store) error {
	data := strings.Repeat("0123456789abcdef", 4096)
	id, err := s.fresh(ctx, data)
	if err != nil {
		return err
	}
	return s.expect(ctx, id, []byte(data))
}

func buffers(ctx context.Context, s *Store) error {
	want, other := []byte("mine"), s.id()
	data := bytes.Clone(want)
	// Frameworks that avoid copies hand out strings that lie in the request's buffer, which the next request
	// fills anew.
	buf := []byte(s.id())
	id := strings.Clone(string(buf))
	if err := s.Set(ctx, unsafe.String(&buf[0], len(buf)), data, long); err != nil {
		return fmt.Errorf("storing: %w", err)
	}
	copy(data, "HIS!")
	if len(other) == len(buf) {
		copy(buf, other)
	}
	if err := s.expect(ctx, id, want); err != nil {
		return err
	}
	got, _, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	for i := range got {
		got[i] = 'x'
	}
	if err := s.expect(ctx, id, want); err != nil {
		return fmt.Errorf("after the caller wrote into what Get returned: %w", err)
	}
	if err := s.expectAbsent(ctx, other); err != nil {
		return fmt.Errorf("under the id that the buffer held later: %w", err)
	}
	return nil
}

func similarIDs(ctx context.Context, s *Store) error {
	id := s.id()
	variants := []string{id, id[:len(id)-1]}
	for _, v := range []string{strings.ToUpper(id), strings.ToLower(id)} {
		if v != id && v != variants[len(variants)-1] {
			variants = append(variants, v)
		}
	}
	for _, v := range variants {
		if err := s.Set(ctx, v, []byte("session "+v), long); err != nil {
			return fmt.Errorf("storing: %w", err)
		}
	}
	for _, v := range variants {
		if err := s.expect(ctx, v, []byte("session "+v)); err != nil {
			return err
		}
	}
	return nil
}

func deleted(ctx context.Context, s *Store) error {
	id, err := s.fresh(ctx, "data")
	if err != nil {
		return err
	}
	for _, what := range []string{"deleting", "deleting again"} {
		if err := s.Delete(ctx, id); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := s.expectAbsent(ctx, id); err != nil {
			return fmt.Errorf("after %s: %w", what, err)
		}
	}
	if err := s.Delete(ctx, s.id()); err != nil {
		return fmt.Errorf("deleting what never was: %w", err)
	}
	return nil
}

func manyAtOnce(ctx context.Context, s *Store) error {
	return together(8, func(worker int) error {
		for i := range 25 {
			data := fmt.Sprintf("worker %d session %d %s", worker, i, strings.Repeat("x", 40*i))
			id, err := s.fresh(ctx, data)
			if err != nil {
				return err
			}
			if err := s.expect(ctx, id, []byte(data)); err != nil {
				return err
			}
		}
		return nil
	})
}

func oneAtOnce(ctx context.Context, s *Store) error {
	id, err := s.fresh(ctx, "written by 0")
	if err != nil {
		return err
	}
	return together(8, func(worker int) error {
		for range 20 {
			if worker%2 == 0 {
				if err := s.Set(ctx, id, fmt.Appendf(nil, "written by %d", worker), long); err != nil {
					return fmt.Errorf("storing: %w", err)
				}
				continue
			}
			got, found, err := s.Get(ctx, id)
			if err != nil {
				return fmt.Errorf("reading: %w", err)
			}
			var by int
			if n, _ := fmt.Sscanf(string(got), "written by %d", &by); !found || n != 1 {
				return fmt.Errorf("read %s, found %t", brief(got), found)
			}
		}
		return nil
	})
}
