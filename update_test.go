package sessionring

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/sessionring/sessionring/internal/redistest"
)

// Many goroutines of two clients count in one session, without locks, and no count is lost.
func TestUpdate(t *testing.T) {
	nodes := redistest.Nodes(t, 3)
	for _, layout := range []string{"copies=2", "copies=1", "distribution=phpredis"} {
		t.Run(layout, func(t *testing.T) {
			ctx := context.Background()
			id := "counter-" + layout[len(layout)-1:]
			const workers, each = 8, 10
			var wg sync.WaitGroup
			for w := range workers {
				c := openTest(t, redistest.SavePath(nodes, unhurried, layout), WithDeadline(patient))
				_ = w
				wg.Go(func() {
					for range each {
						_, err := c.Update(ctx, id, SetOptions{}, func(it Item) ([]byte, error) {
							n, _ := strconv.Atoi(string(it.Data))
							return strconv.AppendInt(nil, int64(n+1), 10), nil
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			c := openTest(t, redistest.SavePath(nodes, unhurried, layout))
			waitUp(t, c)
			if data, err := c.Get(ctx, id); err != nil || string(data) != strconv.Itoa(workers*each) {
				t.Errorf("counted to %q, %v, want %d", data, err, workers*each)
			}
			sentinel := errors.New("no")
			if _, err := c.Update(ctx, id, SetOptions{}, func(Item) ([]byte, error) { return nil, sentinel }); !errors.Is(err, sentinel) {
				t.Errorf("the function's error: %v", err)
			}
			if layout == "distribution=phpredis" {
				return // PHP's layout keeps no tombstones
			}
			if err := c.Delete(ctx, id); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Update(ctx, id, SetOptions{}, func(Item) ([]byte, error) { return []byte("x"), nil }); !errors.Is(err, ErrDestroyed) {
				t.Errorf("of a destroyed session: %v", err)
			}
		})
	}
}
