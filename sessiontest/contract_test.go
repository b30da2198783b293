package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAStoreThatKeepsTheContractPasses(t *testing.T) {
	t.Parallel()
	Run(t, newFake(3).store())
}

// Every check must be able to fail, and none may fail for a fault that is another's.
func TestEachFaultIsFoundByItsCheck(t *testing.T) {
	faults := []struct {
		check string
		harm  func(f *fake, s *Store)
	}{
		{"value/absent", func(_ *fake, s *Store) {
			get := s.Get
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				data, found, err := get(ctx, id)
				if err == nil && !found {
					err = errors.New("nil returned")
				}
				return data, found, err
			}
		}},
		{"value/round-trip", func(_ *fake, s *Store) {
			s.Set = func(context.Context, string, []byte, time.Duration) error { return nil }
		}},
		{"value/overwrite", func(_ *fake, s *Store) {
			set, get := s.Set, s.Get
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				if old, _, _ := get(ctx, id); len(old) > len(data) {
					data = append(bytes.Clone(data), old[len(data):]...)
				}
				return set(ctx, id, data, ttl)
			}
		}},
		{"value/empty", func(_ *fake, s *Store) {
			get := s.Get
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				data, found, err := get(ctx, id)
				if found && len(data) == 0 {
					err = errors.New("EOF")
				}
				return data, found, err
			}
		}},
		{"value/binary", func(_ *fake, s *Store) {
			set := s.Set
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				return set(ctx, id, bytes.ToValidUTF8(data, []byte("?")), ttl)
			}
		}},
		{"value/large", func(_ *fake, s *Store) {
			set := s.Set
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				return set(ctx, id, data[:min(len(data), 4096)], ttl)
			}
		}},
		{"value/buffers", func(_ *fake, s *Store) {
			var mu sync.Mutex
			kept := map[string][]byte{}
			get, set := s.Get, s.Set
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				mu.Lock()
				kept[strings.Clone(id)] = data
				mu.Unlock()
				return set(ctx, id, data, ttl)
			}
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				data, found, err := get(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				if mine, ok := kept[id]; ok && found {
					data = mine
				}
				return data, found, err
			}
		}},
		{"value/similar-ids", func(_ *fake, s *Store) {
			get, set := s.Get, s.Set
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				return set(ctx, strings.ToLower(id), data, ttl)
			}
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) { return get(ctx, strings.ToLower(id)) }
		}},
		{"value/delete", func(_ *fake, s *Store) { s.Delete = func(context.Context, string) error { return nil } }},
		{"value/many-at-once", func(_ *fake, s *Store) {
			var mu sync.Mutex
			var inside int
			get := s.Get
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) { // answers mixed up under load
				mu.Lock()
				inside++
				crowded := inside > 1
				mu.Unlock()
				time.Sleep(time.Millisecond)
				data, found, err := get(ctx, id)
				mu.Lock()
				inside--
				mu.Unlock()
				if crowded {
					data = []byte("somebody else's")
				}
				return data, found, err
			}
		}},
		{"value/one-at-once", func(_ *fake, s *Store) {
			get, set := s.Get, s.Set
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				time.Sleep(time.Millisecond)
				return get(ctx, id)
			}
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				if _, found, _ := get(ctx, id); found && strings.HasPrefix(string(data), "written by") {
					_ = set(ctx, id, data[:4], ttl) // in pieces
					time.Sleep(time.Millisecond)
				}
				return set(ctx, id, data, ttl)
			}
		}},
		{"expiry/ends", func(_ *fake, s *Store) {
			set := s.Set
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				return set(ctx, id, data, ttl/1e6)
			}
		}},
		{"expiry/renewed-by-set", func(f *fake, s *Store) {
			set := s.Set
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				f.mu.Lock()
				if e, err := f.newest(id); err == nil && e.version > 0 {
					ttl = time.Until(e.until)
				}
				f.mu.Unlock()
				return set(ctx, id, data, ttl)
			}
		}},
		{"expiry/renewed-by-touch", func(_ *fake, s *Store) { s.Touch = func(context.Context, string, time.Duration) error { return nil } }},
		{"expiry/touch-of-nothing", func(_ *fake, s *Store) {
			s.Touch = func(ctx context.Context, id string, ttl time.Duration) error { return s.Set(ctx, id, nil, ttl) }
		}},
		{"update/lost-update", func(_ *fake, s *Store) { s.Update = nil }},
		{"update/logout-race", func(f *fake, s *Store) {
			s.Delete = func(_ context.Context, id string) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				_, err := f.newest(id)
				for _, n := range f.nodes {
					delete(n.m, id)
				}
				return err
			}
			s.Update = nil
		}},
		{"update/read-only", func(f *fake, s *Store) {
			s.Visit = func(ctx context.Context, id string, during func()) error {
				data, _, _ := f.get(ctx, id)
				during()
				return f.set(ctx, id, data, long)
			}
		}},
		{"fixation/made-up-id", func(f *fake, s *Store) {
			s.Arrive = func(ctx context.Context, id string, data []byte) (string, error) {
				return id, f.set(ctx, id, data, long)
			}
		}},
		{"fixation/dead-id", func(f *fake, s *Store) {
			s.Arrive = func(_ context.Context, id string, data []byte) (string, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.put(id, entry{data: string(data), until: time.Now().Add(long)})
				return id, nil
			}
		}},
		{"fixation/login", func(f *fake, s *Store) {
			s.Regenerate = func(ctx context.Context, id string) (string, error) {
				data, _, err := f.get(ctx, id)
				next := s.id()
				return next, errors.Join(err, f.set(ctx, next, data, long))
			}
		}},
		{"lock/excludes", func(_ *fake, s *Store) {
			s.Lock = func(context.Context, string) (*Lock, error) {
				return &Lock{Unlock: func(context.Context) error { return nil }}, nil
			}
		}},
		{"lock/expires", func(f *fake, s *Store) {
			s.Lock = func(ctx context.Context, id string) (*Lock, error) {
				l, err := f.lock(ctx, id)
				if err == nil {
					l.Abandon = func() error { return l.Unlock(ctx) }
				}
				return l, err
			}
		}},
		{"list/each-once", func(f *fake, s *Store) {
			s.List = func(ctx context.Context) ([]string, error) {
				ids, err := f.list(ctx)
				return append(ids, "lock:"+ids[0]), err
			}
		}},
		{"clear/own-only", func(f *fake, s *Store) {
			s.Clear = func(ctx context.Context) error {
				f.mu.Lock()
				clear(f.keys)
				f.mu.Unlock()
				return f.clear(ctx)
			}
		}},
		{"failure/one-server-dies", func(f *fake, s *Store) {
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				f.mu.Lock()
				down := f.nodes[0].down
				f.mu.Unlock()
				if down {
					return nil, false, errDown
				}
				return f.get(ctx, id)
			}
		}},
		{"failure/stale-return", func(f *fake, s *Store) {
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				for _, n := range f.nodes { // whoever is first, not whoever is newest
					if e, ok := n.m[id]; !n.down && ok {
						return []byte(e.data), !e.dead && time.Now().Before(e.until), nil
					} else if !n.down {
						return nil, false, nil
					}
				}
				return nil, false, errDown
			}
		}},
		{"failure/hung-server", func(_ *fake, s *Store) {
			set := s.Set
			var hung atomic.Bool
			s.Faults.Hang = func(context.Context, int) error { hung.Store(true); return nil }
			s.Faults.Wake = func(context.Context, int) error { hung.Store(false); return nil }
			s.Set = func(ctx context.Context, id string, data []byte, ttl time.Duration) error {
				if hung.Load() {
					time.Sleep(3500 * time.Millisecond)
				}
				return set(ctx, id, data, ttl)
			}
		}},
		{"failure/all-servers-die", func(f *fake, s *Store) {
			s.Get = func(ctx context.Context, id string) ([]byte, bool, error) {
				data, found, err := f.get(ctx, id)
				if errors.Is(err, errDown) {
					err = nil
				}
				return data, found, err
			}
		}},
		{"failure/recovers", func(f *fake, s *Store) {
			s.Faults.Return = func(_ context.Context, n int) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.nodes[n].down = false
				clear(f.nodes[n].m)
				return nil
			}
		}},
	}
	found := map[string]bool{}
	for _, x := range faults {
		found[x.check] = true
		t.Run(x.check, func(t *testing.T) {
			t.Parallel()
			f := newFake(3)
			s := f.store()
			x.harm(f, s)
			for _, c := range checks() {
				if c.name != x.check {
					continue
				}
				r := c.do(t.Context(), s)
				if r.Verdict != Fail {
					t.Fatalf("%s, %q: a store that does not keep this is let through", r.Verdict, r.Note)
				}
				t.Log(r.Note)
			}
		})
	}
	for _, c := range checks() {
		if !found[c.name] {
			t.Errorf("nothing shows that %s can fail", c.name)
		}
	}
}

func TestAPanicIsAFailure(t *testing.T) {
	t.Parallel()
	s := newFake(1).store()
	s.Get = func(context.Context, string) ([]byte, bool, error) { panic("nil session") }
	s.Faults = nil
	results, err := Check(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(checks()) {
		t.Fatalf("%d results of %d checks", len(results), len(checks()))
	}
	for _, r := range results {
		if r.Check == "value/round-trip" && (r.Verdict != Fail || !strings.Contains(r.Note, "nil session")) {
			t.Errorf("%+v", r)
		}
		if strings.HasPrefix(r.Check, "failure/") && r.Verdict != NotOffered {
			t.Errorf("%s without servers to break: %s", r.Check, r.Verdict)
		}
	}
}

func TestTheLeastStoreIsAskedWhatItCanAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(1)
	results, err := Check(t.Context(), &Store{Get: f.get, Set: f.set, Delete: f.delete, Shortest: fakeTick})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		want := Pass
		switch group, _, _ := strings.Cut(r.Check, "/"); {
		case r.Check == "update/lost-update":
			want = Fail // reading, changing and storing is not enough
		case r.Check == "update/logout-race", group == "value", r.Check == "expiry/ends", r.Check == "expiry/renewed-by-set":
		default:
			want = NotOffered
		}
		if r.Verdict != want {
			t.Errorf("%s: %s (%s), want %s", r.Check, r.Verdict, r.Note, want)
		}
	}
	for _, s := range []*Store{nil, {}, {Get: f.get, Set: f.set, Delete: f.delete, Faults: &Faults{}}, {Get: f.get, Set: f.set, Delete: f.delete, Lock: f.lock}} {
		if _, err := Check(t.Context(), s); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if results, err := Check(ctx, newFake(1).store()); !errors.Is(err, context.Canceled) || len(results) > 0 {
		t.Errorf("%d results, %v", len(results), err)
	}
}

func TestTable(t *testing.T) {
	var all []Result
	for i, c := range checks() {
		r := Result{Check: c.name, Asks: c.asks}
		switch i {
		case 0:
			r.Verdict, r.Note = Fail, "a|b\nand a stack"
		case 1:
			r.Verdict, r.Note = NotOffered, "no such thing"
		case 2:
			r.Note = "a remark"
		}
		all = append(all, r)
	}
	var b strings.Builder
	two := []Result{all[0], {Verdict: Fail, Note: "another"}}
	if err := WriteTable(&b, Report{"one", all}, Report{"two", two}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if lines[0] != "| check | one | two |" || lines[1] != "| --- | --- | --- |" {
		t.Errorf("%q %q", lines[0], lines[1])
	}
	for i, want := range []string{" | **no** (1) | **no** (1) |", " | – | **no** (2) |", " | yes (3) | |", " | yes | |"} {
		if !strings.HasSuffix(lines[2+i], want) {
			t.Errorf("row %d: %q, want it to end in %q", i, lines[2+i], want)
		}
	}
	if want := fmt.Sprintf("1. %s: a\\|b\n", checks()[0].name); !strings.Contains(b.String(), want) {
		t.Errorf("%s\nlacks %q", b.String(), want)
	}
}
