package sessiontest_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sessionring/sessionring/sessiontest"
)

// A store of a map, as it is often written, and two things that the contract has to say of it.
func ExampleCheck() {
	var mu sync.Mutex
	sessions := map[string][]byte{}
	results, err := sessiontest.Check(context.Background(), &sessiontest.Store{
		Name:     "a map",
		Shortest: 10 * time.Millisecond,
		Get: func(_ context.Context, id string) ([]byte, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			data, found := sessions[id]
			return data, found, nil
		},
		Set: func(_ context.Context, id string, data []byte, ttl time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			sessions[id] = data
			time.AfterFunc(ttl, func() {
				mu.Lock()
				defer mu.Unlock()
				delete(sessions, id)
			})
			return nil
		},
		Delete: func(_ context.Context, id string) error {
			mu.Lock()
			defer mu.Unlock()
			delete(sessions, id)
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range results {
		if r.Verdict == sessiontest.Fail {
			fmt.Println(r.Check)
		}
	}
	// Output:
	// value/buffers
	// expiry/renewed-by-set
	// update/lost-update
	// update/logout-race
}
