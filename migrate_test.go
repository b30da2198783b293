package sessionring

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/sessionring/sessionring/internal/redistest"
)

// fill writes n sessions with times to live from 60 s on and returns their ids.
func fillSessions(t *testing.T, c *Client, n int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%05x%021x", i*7919%(1<<20), i)
		if _, err := c.Store(context.Background(), ids[i], []byte(ids[i]), SetOptions{Lifetime: time.Duration(60+i*100) * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// What plan says is what migrate does: the same sessions, one copy each.
func TestPlanPredictsMigrate(t *testing.T) {
	nodes := redistest.Nodes(t, 4)
	ctx := context.Background()
	before, after := redistest.SavePath(nodes[:3], unhurried, "copies=1"), redistest.SavePath(nodes[1:], unhurried, "copies=1")
	c := openTest(t, before)
	ids := fillSessions(t, c, 600)
	for _, id := range ids[:10] {
		if err := c.Delete(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	m := openTest(t, after, WithPrevious(before), WithObserver())
	moves := 0
	for _, id := range ids {
		if c.Ring().Nodes()[c.Ring().Owner(id)].ID() != m.Ring().Nodes()[m.Ring().Owner(id)].ID() {
			moves++
		}
	}
	plan := PlanChange(c.Ring(), m.Ring(), 0)
	if predicted := plan.Moved * float64(len(ids)); math.Abs(predicted-float64(moves)) > 6*math.Sqrt(predicted) {
		t.Errorf("plan predicts %.0f of these sessions, %d have another owner", predicted, moves)
	}

	dry, err := m.Migrate(ctx, MigrateOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if dry.Moved != int64(moves) || dry.Scanned != int64(len(ids)) || dry.Failed != 0 {
		t.Errorf("dry run: %+v, want %d moved of %d", dry, moves, len(ids))
	}
	if len(dry.Leaving) != 1 || dry.Leaving[0].Safe() {
		t.Errorf("before anything moved: %+v", dry.Leaving)
	}
	keys, err := nodes[3].DBSize()
	if err != nil || keys != 0 {
		t.Errorf("the dry run wrote: %d keys on the new node, %v", keys, err)
	}

	// Interrupted, then run again.
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	_, err = m.Migrate(short, MigrateOptions{})
	cancel()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	res, err := m.Migrate(ctx, MigrateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Failed != 0 || res.Scanned != int64(len(ids)) || res.Moved > int64(moves) {
		t.Errorf("migrate: %+v, want at most %d moved of %d", res, moves, len(ids))
	}
	if len(res.Leaving) != 1 || !res.Leaving[0].Safe() {
		t.Errorf("after: %+v", res.Leaving)
	}
	again, err := m.Migrate(ctx, MigrateOptions{})
	if err != nil || again.Moved != 0 {
		t.Errorf("a second run moves nothing: %+v, %v", again, err)
	}
	// Without the node that left: everything is there, with the time it had.
	if err := nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, after)
	for i, id := range ids {
		data, err := d.Get(ctx, id)
		if i < 10 {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("destroyed session %d: %v", i, err)
			}
			continue
		}
		if err != nil || string(data) != id {
			t.Fatalf("session %d: %q, %v", i, data, err)
		}
		copies, err := d.Explain(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		want := time.Duration(60+i*100) * time.Second
		if ttl := copies[0].TTL; ttl > want || ttl < want-time.Minute {
			t.Errorf("session %d has %v to live, had %v", i, ttl, want)
		}
	}
}

// A PHP fleet's live sessions move to the ring and back.
func TestMigrateFromPHPLayout(t *testing.T) {
	nodes := redistest.Nodes(t, 3)
	ctx := context.Background()
	php, ring := redistest.SavePath(nodes, unhurried, "distribution=phpredis"), redistest.SavePath(nodes, unhurried, "copies=2")
	p := openTest(t, php)
	ids := fillSessions(t, p, 200)
	there := openTest(t, ring, WithPrevious(php), WithObserver())
	res, err := there.Migrate(ctx, MigrateOptions{})
	if err != nil || res.Failed != 0 || res.Scanned != 200 {
		t.Fatalf("%+v, %v", res, err)
	}
	r := openTest(t, ring)
	for _, id := range ids {
		if data, err := r.Get(ctx, id); err != nil || string(data) != id {
			t.Fatalf("on the ring: %q, %v", data, err)
		}
		if err := r.Set(ctx, id, []byte("from the ring")); err != nil {
			t.Fatal(err)
		}
	}
	back := openTest(t, php, WithPrevious(ring), WithObserver())
	if res, err = back.Migrate(ctx, MigrateOptions{}); err != nil || res.Failed != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, id := range ids {
		if data, err := p.Get(ctx, id); err != nil || string(data) != "from the ring" {
			t.Fatalf("back in PHP's layout: %q, %v", data, err)
		}
	}
}
