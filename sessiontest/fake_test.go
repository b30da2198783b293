package sessiontest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"
)

// fake is a session store that keeps the contract, in memory, on servers that can be broken.
type fake struct {
	mu      sync.Mutex
	version int
	nodes   []*fakeNode
	locks   map[string]fakeLock
	keys    map[string]string // of others
}

type fakeNode struct {
	down bool
	m    map[string]entry
}

type entry struct {
	data    string
	version int
	until   time.Time
	dead    bool
}

type fakeLock struct {
	token string
	until time.Time
}

var (
	errDown      = errors.New("no server answers")
	errGone      = errors.New("the session is gone")
	errElsewhere = errors.New("somebody else was quicker")
)

const fakeTick = 100 * time.Millisecond

func newFake(nodes int) *fake {
	f := &fake{locks: map[string]fakeLock{}, keys: map[string]string{}}
	for range nodes {
		f.nodes = append(f.nodes, &fakeNode{m: map[string]entry{}})
	}
	return f
}

// newest returns the copy to believe.
func (f *fake) newest(id string) (best entry, err error) {
	err = errDown
	for _, n := range f.nodes {
		if n.down {
			continue
		}
		err = nil
		if e, ok := n.m[id]; ok && e.version > best.version {
			best = e
		}
	}
	if !best.dead && !time.Now().Before(best.until) {
		best.version = 0
	}
	return best, err
}

func (f *fake) put(id string, e entry) {
	f.version++
	e.version = f.version
	for _, n := range f.nodes {
		if !n.down {
			n.m[id] = e
		}
	}
}

func (f *fake) get(_ context.Context, id string) ([]byte, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.newest(id)
	if err != nil || e.version == 0 || e.dead {
		return nil, false, err
	}
	return []byte(e.data), true, nil
}

func (f *fake) set(_ context.Context, id string, data []byte, ttl time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.setIf(id, string(data), ttl, -1)
}

func (f *fake) setIf(id, data string, ttl time.Duration, version int) error {
	e, err := f.newest(id)
	switch {
	case err != nil:
		return err
	case e.dead:
		return errGone
	case version >= 0 && e.version != version:
		return errElsewhere
	}
	f.put(strings.Clone(id), entry{data: data, until: time.Now().Add(ttl)})
	return nil
}

func (f *fake) delete(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.newest(id); err != nil {
		return err
	}
	f.put(id, entry{dead: true})
	return nil
}

func (f *fake) update(_ context.Context, id string, change func([]byte) []byte) error {
	for {
		f.mu.Lock()
		e, err := f.newest(id)
		f.mu.Unlock()
		if err != nil {
			return err
		}
		data := change([]byte(e.data))
		f.mu.Lock()
		err = f.setIf(id, string(data), long, e.version)
		f.mu.Unlock()
		if !errors.Is(err, errElsewhere) {
			return err
		}
	}
}

func (f *fake) visit(_ context.Context, id string, during func()) error {
	during()
	return f.touch(context.Background(), id, long)
}

func (f *fake) touch(_ context.Context, id string, ttl time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.newest(id)
	if err != nil || e.dead || e.version == 0 {
		return err
	}
	e.until = time.Now().Add(ttl)
	f.put(id, e)
	return nil
}

func (f *fake) arrive(ctx context.Context, id string, data []byte) (string, error) {
	if _, found, err := f.get(ctx, id); err != nil {
		return "", err
	} else if !found {
		id = rand.Text()
	}
	return id, f.set(ctx, id, data, long)
}

func (f *fake) regenerate(ctx context.Context, id string) (string, error) {
	data, _, err := f.get(ctx, id)
	if err != nil {
		return "", err
	}
	next := rand.Text()
	return next, errors.Join(f.set(ctx, next, data, long), f.delete(ctx, id))
}

func (f *fake) lock(ctx context.Context, id string) (*Lock, error) {
	token := rand.Text()
	for {
		f.mu.Lock()
		held, ok := f.locks[id]
		if !ok || !time.Now().Before(held.until) {
			f.locks[id] = fakeLock{token, time.Now().Add(4 * fakeTick)}
			f.mu.Unlock()
			return &Lock{
				Unlock: func(context.Context) error {
					f.mu.Lock()
					defer f.mu.Unlock()
					if f.locks[id].token == token {
						delete(f.locks, id)
					}
					return nil
				},
				Abandon: func() error { return nil },
			}, nil
		}
		f.mu.Unlock()
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (f *fake) list(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]bool{}
	var ids []string
	for _, n := range f.nodes {
		for id := range n.m {
			if e, err := f.newest(id); err == nil && !e.dead && e.version > 0 && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

func (f *fake) clear(ctx context.Context) error {
	ids, err := f.list(ctx)
	for _, id := range ids {
		err = errors.Join(err, f.delete(ctx, id))
	}
	return err
}

func (f *fake) down(to bool) func(context.Context, int) error {
	return func(_ context.Context, node int) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.nodes[node].down = to
		return nil
	}
}

func (f *fake) store() *Store {
	return &Store{
		Name: "fake", Get: f.get, Set: f.set, Delete: f.delete, Shortest: fakeTick,
		Unavailable: func(err error) bool { return errors.Is(err, errDown) },
		Update:      f.update, Visit: f.visit, Touch: f.touch,
		Arrive: f.arrive, Regenerate: f.regenerate,
		Lock: f.lock, LockExpire: 4 * fakeTick,
		List: f.list, Clear: f.clear,
		Foreign: &Foreign{
			Put: func(_ context.Context, k, v string) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.keys[k] = v
				return nil
			},
			Get: func(_ context.Context, k string) (string, bool, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				v, ok := f.keys[k]
				return v, ok, nil
			},
		},
		Faults: &Faults{
			Nodes: len(f.nodes), Kill: f.down(true), Return: f.down(false), Hang: f.down(true), Wake: f.down(false),
		},
	}
}
