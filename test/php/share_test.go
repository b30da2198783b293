package php

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/phptest"
	"github.com/sessionring/sessionring/internal/redistest"
	"github.com/sessionring/sessionring/phpsession"
)

// The save_path of the seed, word for word. PHP writes sessions, Go reads, changes and writes them back, PHP goes on:
// the same node, database, key and lifetime each time.
func TestSeedSavePath(t *testing.T) {
	phptest.Require(t)
	const savePath = "tcp://host1:6379?weight=1&database=2, tcp://host2:6379?weight=2&timeout=2.5, tcp://host3:6379?weight=2"
	nodes := redistest.Nodes(t, 3)
	at := names{"host1:6379": nodes[0], "host2:6379": nodes[1], "host3:6379": nodes[2]}
	entries := []entry{{nodes[0], 2}, {nodes[1], 0}, {nodes[2], 0}}
	// PHP's handler reads "host1:6379" in the same places; only the hosts are written as addresses.
	php := serve(t, at.forPHP(savePath), 1)
	if strings.Contains(at.forPHP(savePath), "host") {
		t.Fatal(at.forPHP(savePath))
	}
	c := open(t, savePath, sessionring.WithDialer(at.dial))
	ctx := ctxOf(t)
	used := map[int]int{}
	for i := range 60 {
		id := newID()
		key := sessionring.DefaultPrefix + id
		page(t, php, "set", id, "n", strconv.Itoa(i))
		where := placed(t, entries, key)
		used[where]++
		if owner := c.Ring().Owner(id); owner != where {
			t.Fatalf("PHP put it on entry %d, the ring says %d", where, owner)
		}
		for round := range 2 {
			it, err := c.Load(ctx, id, sessionring.GetOptions{})
			must(t, err)
			if raw := entries[where].do(t, "GET", key); raw != string(it.Data) {
				t.Fatalf("Go reads %q, the node holds %q", it.Data, raw)
			}
			s, err := phpsession.Decode(phpsession.PHP, it.Data)
			must(t, err)
			n, err := phpsession.Get[int](s, "n")
			must(t, err)
			if want := i + 11*round; n != want {
				t.Fatalf("Go reads n = %d, not %d", n, want)
			}
			must(t, s.Set("n", n+10))
			data, err := s.Encode(phpsession.PHP)
			must(t, err)
			entries[where].do(t, "EXPIRE", key, 60)
			if round == 0 {
				must(t, c.Set(ctx, id, data))
			} else {
				_, err = c.Store(ctx, id, data, sessionring.SetOptions{IfVersion: &it.Version})
				must(t, err)
			}
			lifetime(t, entries[where], key, 1440*time.Second)
			if at := placed(t, entries, key); at != where {
				t.Fatalf("Go put it on entry %d, PHP on %d", at, where)
			}
			if got, want := page(t, php, "get", id), fmt.Sprint(n+10, " Zoë|;{} 0.1"); got != want {
				t.Fatalf("PHP reads %q, not %q", got, want)
			}
			entries[where].do(t, "EXPIRE", key, 60)
			if got := page(t, php, "add", id); got != strconv.Itoa(n+10) {
				t.Fatalf("PHP goes on from %q", got)
			}
			lifetime(t, entries[where], key, 1440*time.Second)
			if at := placed(t, entries, key); at != where {
				t.Fatalf("PHP put it on entry %d, then on %d", where, at)
			}
		}
		entries[where].do(t, "EXPIRE", key, 60)
		must(t, c.Touch(ctx, id))
		lifetime(t, entries[where], key, 1440*time.Second)
	}
	if len(used) != 3 || used[0] > used[1]+used[2] {
		t.Errorf("sessions on each entry: %v", used)
	}
	// Nothing stands beside PHP's own keys, but for the note by which clients tell each other what list they work by.
	for i, e := range entries {
		for db := range 3 {
			for _, k := range (entry{e.server, db}).do(t, "KEYS", "*").([]any) {
				if k != "sessionring:rings" && !strings.HasPrefix(k.(string), sessionring.DefaultPrefix) || strings.HasSuffix(k.(string), "_LOCK") {
					t.Errorf("entry %d, database %d holds %q", i, db, k)
				}
			}
		}
	}
	if p := php.Problems(); len(p) > 0 {
		t.Errorf("PHP complains: %v", p)
	}
}

func lifetime(t testing.TB, e entry, key string, want time.Duration) {
	t.Helper()
	got := time.Duration(e.do(t, "PTTL", key).(int64)) * time.Millisecond
	if got > want || got < want-time.Minute {
		t.Fatalf("the session lives for %v, not %v", got, want)
	}
}

// What one side begins the other ends: destroyed, new ids, lifetimes of the configuration.
func TestLifeAcrossLanguages(t *testing.T) {
	phptest.Require(t)
	nodes := redistest.Nodes(t, 2)
	path := redistest.SavePath(nodes)
	php := serve(t, path, 1, "session.gc_maxlifetime", "777")
	c := open(t, path, sessionring.WithLifetime(777*time.Second))
	ctx := ctxOf(t)
	entries := []entry{{nodes[0], 0}, {nodes[1], 0}}

	id := newID()
	page(t, php, "set", id, "n", "5")
	lifetime(t, entries[c.Ring().Owner(id)], sessionring.DefaultPrefix+id, 777*time.Second)
	if got := page(t, php, "destroy", id); got != "gone" {
		t.Fatal(got)
	}
	if _, err := c.Get(ctx, id); !errors.Is(err, sessionring.ErrNotFound) {
		t.Errorf("destroyed by PHP: %v", err)
	}

	page(t, php, "set", id, "n", "6")
	must(t, c.Delete(ctx, id))
	if got := page(t, php, "get", id); got != "none none null" {
		t.Errorf("destroyed by Go, PHP reads %q", got)
	}

	page(t, php, "set", id, "n", "7")
	fresh := page(t, php, "regenerate", id)
	if _, err := c.Get(ctx, id); !errors.Is(err, sessionring.ErrNotFound) {
		t.Errorf("the id before session_regenerate_id: %v", err)
	}
	data, err := c.Get(ctx, fresh)
	must(t, err)
	if !strings.HasPrefix(string(data), "n|i:7;") {
		t.Errorf("the id after it: %q", data)
	}

	// Written by Go first.
	id = newID()
	must(t, c.Set(ctx, id, []byte("n|i:41;")))
	lifetime(t, entries[c.Ring().Owner(id)], sessionring.DefaultPrefix+id, 777*time.Second)
	if got := page(t, php, "add", id); got != "41" {
		t.Errorf("PHP sees %q", got)
	}
	if data, err := c.Get(ctx, id); err != nil || string(data) != "n|i:42;" {
		t.Errorf("%q, %v", data, err)
	}
	// Compare-and-set is by the data here: a write of PHP in between is a conflict.
	it, err := c.Load(ctx, id, sessionring.GetOptions{})
	must(t, err)
	page(t, php, "add", id)
	if _, err := c.Store(ctx, id, []byte("n|i:0;"), sessionring.SetOptions{IfVersion: &it.Version}); !errors.Is(err, sessionring.ErrConflict) {
		t.Errorf("PHP wrote in between: %v", err)
	}
	// PHP's empty session is a session.
	id = newID()
	if got := page(t, php, "get", id); got != "none none null" {
		t.Errorf("PHP reads %q", got)
	}
	if data, err := c.Get(ctx, id); err != nil || len(data) != 0 {
		t.Errorf("an empty session of PHP: %q, %v", data, err)
	}
}

// A node dies and comes back with what it had. PHP's sessions there are out of PHP's reach meanwhile; Go's side goes
// on with them on another node, and PHP finds what Go wrote when the node is back.
func TestNodeReturnsToPHP(t *testing.T) {
	phptest.Require(t)
	nodes := redistest.Nodes(t, 3, redistest.Options{AppendOnly: true})
	path := redistest.SavePath(nodes, "timeout=1", "read_timeout=1")
	php := serve(t, path, 2)
	c := open(t, path)
	ctx := ctxOf(t)
	entries := []entry{{nodes[0], 0}, {nodes[1], 0}, {nodes[2], 0}}
	var ids []string
	for len(ids) < 20 {
		id := newID()
		page(t, php, "set", id, "n", "1")
		if c.Ring().Owner(id) == 0 {
			ids = append(ids, id)
		}
	}
	up := func(want sessionring.State) {
		t.Helper()
		eventually(t, func() error {
			if n := c.Nodes()[0]; n.State != want {
				return fmt.Errorf("%s is %s, not %s", n.Node, n.State, want)
			}
			return nil
		})
	}
	up(sessionring.StateUp)
	must(t, nodes[0].Kill())
	for i, id := range ids {
		if _, status := ask(t, php, "get", id); status == 200 {
			t.Fatal("PHP serves a session of a node that is down: this test does not test what it says")
		}
		if _, err := c.Get(ctx, id); !errors.Is(err, sessionring.ErrNotFound) || !errors.Is(err, sessionring.ErrOwnerAway) {
			t.Fatalf("its only copy is away: %v", err)
		}
		if i%2 == 0 {
			must(t, c.Set(ctx, id, []byte("n|i:100;")))
			if got, err := c.Get(ctx, id); err != nil || string(got) != "n|i:100;" {
				t.Fatalf("on the stand-in: %q, %v", got, err)
			}
		}
	}
	up(sessionring.StateDown)
	must(t, nodes[0].Restart(ctx))
	up(sessionring.StateUp)
	for i, id := range ids {
		want := "1"
		if i%2 == 0 {
			want = "100"
		}
		eventually(t, func() error {
			if got := page(t, php, "get", id); !strings.HasPrefix(got, want+" ") {
				return fmt.Errorf("PHP reads %q, not %s", got, want)
			}
			return nil
		})
		if got, err := c.Get(ctx, id); err != nil || !strings.HasPrefix(string(got), "n|i:"+want+";") {
			t.Errorf("Go reads %q, %v, not %s", got, err, want)
		}
		eventually(t, func() error { // the stand-in's copy is taken away
			for i := 1; i < 3; i++ {
				if entries[i].do(t, "EXISTS", sessionring.DefaultPrefix+id) == int64(1) {
					return fmt.Errorf("node %d still holds a copy", i)
				}
			}
			return nil
		})
	}
}
