package sessionring

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStampFormat(t *testing.T) {
	at := time.UnixMilli(1764072000123)
	c := newClock(func() time.Time { return at })
	v := c.next()
	if !regexp.MustCompile(`^0001764072000123\.\d{10}$`).MatchString(string(v)) {
		t.Errorf("version %q", v)
	}
	for _, s := range []stamp{{version: v}, {version: v, dead: true}, {version: zeroVersion}} {
		if got, ok := parseStamp([]byte(s.String())); !ok || got != s || len(s.String()) != stampLen {
			t.Errorf("%q reads as %+v, %v", s, got, ok)
		}
	}
	good := stamp{version: v}.String()
	for _, bad := range []string{
		"", "v", good[:27], good + "v", strings.Replace(good, ".", ",", 1), good[:27] + "x", "x" + good[1:], good[:17] + "-" + good[18:],
	} {
		if s, ok := parseStamp([]byte(bad)); ok {
			t.Errorf("%q reads as %+v", bad, s)
		}
	}
}

func TestClockGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(rapid.Int64Range(-1e12, 1e15).Draw(t, "start"))
		c := newClock(func() time.Time { return now })
		last := Version("")
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0: // time goes on, or back
				now = now.Add(time.Duration(rapid.Int64Range(-1e18, 1e18).Draw(t, "jump")))
			case 1: // another writer's version is seen
				seen := Version(fmt.Sprintf("%016d.%010d", rapid.Uint64Range(0, 9_000_000_000_000_000).Draw(t, "seen"), rapid.Uint64Range(0, 9_999_999_999).Draw(t, "tag")))
				c.saw(seen)
				last = max(last, seen)
			case 2:
				v := c.next()
				if len(v) != versionLen || v <= last {
					t.Fatalf("%q after %q", v, last)
				}
				if _, ok := parseStamp([]byte(string(v) + "v")); !ok {
					t.Fatalf("%q is no version", v)
				}
				last = v
			}
		}
		// What is no version teaches nothing, above all not that the end of time is near.
		for _, s := range []Version{"", "x", "99999999999999999999999999999", Version(strings.Repeat("z", versionLen))} {
			c.saw(s)
		}
		if v := c.next(); v <= last {
			t.Fatalf("%q after %q", v, last)
		}
	})
}

func TestVersionsAreUnique(t *testing.T) {
	at := time.UnixMilli(1764072000000)
	clocks := []*clock{}
	for range 4 {
		clocks = append(clocks, newClock(func() time.Time { return at }))
	}
	var mu sync.Mutex
	seen := map[Version]bool{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 500 {
				v := clocks[i%4].next()
				mu.Lock()
				if seen[v] {
					t.Errorf("%q twice", v)
				}
				seen[v] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestStampOrder(t *testing.T) {
	old, late := Version("0000000000000001.0000000009"), Version("0000000000000002.0000000001")
	order := []stamp{{}, {version: zeroVersion}, {version: old}, {version: late}, {version: old, dead: true}, {version: late, dead: true}}
	for i := range order {
		for j := range order {
			if got := order[i].newer(order[j]); got != (i > j) {
				t.Errorf("%v newer than %v: %v", order[i], order[j], got)
			}
		}
	}
}

// Copies of one session arrive at a node in any order, some twice, some long after their writer gave up. What stays
// is the newest, or the tombstone.
func TestWriteScriptInAnyOrder(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 1)
	c := f.up(f.path())
	ctx := ctxOf(t)
	n := c.view.Load().nodes[0]
	type write struct {
		stamp stamp
		data  string
	}
	for round := range 60 {
		id := newID()
		var writes []write
		for i := range 5 {
			v := c.clock.next()
			writes = append(writes, write{stamp{version: v}, fmt.Sprint(i)})
		}
		want := "4"
		if round%3 == 0 {
			at := rand.IntN(5)
			writes[at].stamp.dead, want = true, ""
		}
		writes = append(writes, writes[rand.IntN(5)], writes[rand.IntN(5)])
		rand.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
		for _, w := range writes {
			var err error
			if w.stamp.dead {
				_, err = c.run(ctx, n, deleteScript, "2", n.key(id), n.stampKey(id), w.stamp.String(), "60000")
			} else {
				_, err = c.run(ctx, n, writeScript, "2", n.key(id), n.stampKey(id), string(w.stamp.version), "60000", []byte(w.data))
			}
			must(t, err)
		}
		v, _ := do(t, f.servers[0], "GET", n.key(id)).(string)
		if v != want {
			var order []string
			for _, w := range writes {
				order = append(order, w.stamp.String()+w.data)
			}
			slices.Reverse(order)
			t.Fatalf("holds %q, not %q, after (latest first) %v", v, want, order)
		}
		if v, _ := do(t, f.servers[0], "GET", n.stampKey(id)).(string); strings.HasSuffix(v, "d") != (want == "") {
			t.Fatalf("the stamp is %q", v)
		}
	}
}

func TestTombstone(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3)
	c := f.up(f.path("lifetime=600"))
	ctx := ctxOf(t)

	// It lives as long as an old copy could: the configured lifetime, or the session's own where that is longer.
	plain, long, absent := newID(), newID(), newID()
	must(t, c.Set(ctx, plain, []byte("v")))
	_, err := c.Store(ctx, long, []byte("v"), SetOptions{Lifetime: 5 * time.Hour})
	must(t, err)
	for id, want := range map[string]time.Duration{plain: 10 * time.Minute, long: 5 * time.Hour, absent: 10 * time.Minute} {
		must(t, c.Delete(ctx, id))
		for _, i := range c.Ring().Owners(id) {
			s := f.servers[i]
			about(t, "the tombstone", pttl(t, s, stampPrefix+id), want)
			if n := do(t, s, "EXISTS", DefaultPrefix+id); n != int64(0) {
				t.Error("the value is still there")
			}
		}
	}

	// One owner had the session for longer than the other knew: every tombstone gets the longer time.
	id := newID()
	owners := c.Ring().Owners(id)
	_, err = c.Store(ctx, id, []byte("v"), SetOptions{Lifetime: 5 * time.Hour})
	must(t, err)
	do(t, f.servers[owners[0]], "DEL", DefaultPrefix+id, stampPrefix+id)
	must(t, c.Delete(ctx, id))
	eventually(t, func() error {
		if ms := pttl(t, f.servers[owners[0]], stampPrefix+id); ms < (4 * time.Hour).Milliseconds() {
			return fmt.Errorf("the tombstone beside no copy lives for %d ms", ms)
		}
		return nil
	})

	// Destroyed twice lives no shorter.
	must(t, c.Delete(ctx, long))
	about(t, "the tombstone after a second Delete", pttl(t, f.servers[c.Ring().Owner(long)], stampPrefix+long), 5*time.Hour)
}

// SCRIPT FLUSH, or a server that forgot its scripts for another reason, costs nothing but a second round trip.
func TestScriptsForgotten(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 2)
	ctx := ctxOf(t)
	for _, params := range []string{"distribution=consistent", "distribution=phpredis"} {
		c := f.up(f.path(params))
		forget := func() {
			for _, s := range f.servers {
				do(t, s, "SCRIPT", "FLUSH")
			}
		}
		id := newID()
		for i := range 3 {
			forget()
			must(t, c.Set(ctx, id, fmt.Append(nil, i)))
			it, err := c.Load(ctx, id, GetOptions{})
			must(t, err)
			forget()
			_, err = c.Store(ctx, id, fmt.Append(nil, i, "b"), SetOptions{IfVersion: &it.Version})
			must(t, err)
			forget()
			l, err := c.Lock(ctx, id)
			must(t, err)
			forget()
			_, err = c.Store(ctx, id, fmt.Append(nil, i, "c"), SetOptions{Lock: l})
			must(t, err)
			forget()
			must(t, l.Unlock(ctx))
			if got, err := c.Get(ctx, id); err != nil || string(got) != fmt.Sprint(i, "c") && string(got) != fmt.Sprint(i)+"c" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		forget()
		must(t, c.Delete(ctx, id))
		if _, err := c.Get(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
}
