package sessionring_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/sessionring/sessionring"
	"github.com/sessionring/sessionring/internal/redistest"
)

// startNodes runs Redis servers on this machine, so that the examples can be run. Yours come from the configuration.
func startNodes(n int) (savePath string, stop func()) {
	nodes, err := redistest.StartNodes(context.Background(), n)
	if err != nil {
		log.Fatal(err)
	}
	return redistest.SavePath(nodes), func() { _ = redistest.StopNodes(nodes) }
}

func Example() {
	savePath, stop := startNodes(3) // "tcp://host1:6379, tcp://host2:6379, tcp://host3:6379"
	defer stop()

	c, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err) // of the string; that nodes are down is no error here
	}
	defer c.Close()

	ctx := context.Background()
	id := "v7k2m9x4p1q8r5t3w6y0z2b4c6"
	if err := c.Set(ctx, id, []byte("visits|i:1;")); err != nil {
		log.Fatal(err)
	}
	data, err := c.Get(ctx, id)
	fmt.Printf("%s %v\n", data, err)

	fmt.Println(c.Touch(ctx, id))  // lives on for another lifetime
	fmt.Println(c.Delete(ctx, id)) // and nothing brings it back
	_, err = c.Get(ctx, id)
	fmt.Println(errors.Is(err, sessionring.ErrNotFound))
	fmt.Println(errors.Is(c.Set(ctx, id, data), sessionring.ErrDestroyed))
	// Output:
	// visits|i:1; <nil>
	// <nil>
	// <nil>
	// true
	// true
}

// What the errors of a read mean for a web application.
func ExampleClient_Get() {
	savePath, stop := startNodes(2)
	c, err := sessionring.Open(savePath, sessionring.WithDeadline(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	read := func(id string) {
		data, err := c.Get(context.Background(), id)
		var no *sessionring.NoNodeError
		switch {
		case err == nil:
			fmt.Printf("the session: %s\n", data)
		case errors.Is(err, sessionring.ErrOwnerAway):
			fmt.Println("not found, but a node that may have it is away: keep the cookie")
		case errors.Is(err, sessionring.ErrNotFound):
			fmt.Println("no such session: a new one, with a new id")
		case errors.As(err, &no):
			fmt.Printf("none of %d nodes answers: 503, and the log says why\n", len(no.Nodes))
		default:
			fmt.Println(err)
		}
	}
	if err := c.Set(context.Background(), "v7k2m9x4p1q8r5t3w6y0z2b4c6", []byte("a|i:1;")); err != nil {
		log.Fatal(err)
	}
	read("v7k2m9x4p1q8r5t3w6y0z2b4c6")
	read("another0id1that2nobody3has")
	stop() // every node is gone
	read("v7k2m9x4p1q8r5t3w6y0z2b4c6")
	// Output:
	// the session: a|i:1;
	// no such session: a new one, with a new id
	// none of 2 nodes answers: 503, and the log says why
}

// Compare-and-set: two requests that change one session at the same time both keep what they did.
func ExampleClient_Store() {
	savePath, stop := startNodes(1)
	defer stop()
	c, err := sessionring.Open(savePath)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	increment := func(ctx context.Context, id string) error {
		session, err := c.Load(ctx, id, sessionring.GetOptions{})
		if err != nil && !errors.Is(err, sessionring.ErrNotFound) {
			return err
		}
		for {
			n, _ := strconv.Atoi(string(session.Data))
			_, err := c.Store(ctx, id, []byte(strconv.Itoa(n+1)), sessionring.SetOptions{IfVersion: &session.Version})
			var conflict *sessionring.ConflictError
			if !errors.As(err, &conflict) {
				return err
			}
			session = conflict.Newer // somebody was faster: once more, with what is there now
		}
	}
	ctx := context.Background()
	done := make(chan error)
	for range 10 {
		go func() { done <- increment(ctx, "counter") }()
	}
	for range 10 {
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
	data, err := c.Get(ctx, "counter")
	fmt.Printf("%s %v\n", data, err)
	// Output: 10 <nil>
}

// One request at a time works on a session, and a holder that lost the lock cannot write any more.
func ExampleClient_Lock() {
	savePath, stop := startNodes(1)
	defer stop()
	c, err := sessionring.Open(savePath, sessionring.WithLockWait(100*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()

	lock, err := c.Lock(ctx, "cart")
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Lock(ctx, "cart")
	fmt.Println(errors.Is(err, sessionring.ErrLockHeld))
	_, err = c.Store(ctx, "cart", []byte("one item"), sessionring.SetOptions{Lock: lock})
	fmt.Println(err)
	fmt.Println(lock.Unlock(ctx))
	// Output:
	// true
	// <nil>
	// <nil>
}

// Lifetimes are the client's, or of one call.
func ExampleSetOptions() {
	savePath, stop := startNodes(1)
	defer stop()
	c, err := sessionring.Open(savePath, sessionring.WithLifetime(30*time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if _, err := c.Store(ctx, "remember-me", []byte("user|i:7;"), sessionring.SetOptions{Lifetime: 30 * 24 * time.Hour}); err != nil {
		log.Fatal(err)
	}
	copies, err := c.Explain(ctx, "remember-me")
	fmt.Println(copies[0].TTL.Round(time.Hour), copies[0].Bytes, err)
	// Output: 720h0m0s 9 <nil>
}

// Sessions that PHP reads and writes too: the same nodes, keys and lifetimes as its extension.
func ExampleWithDistribution() {
	savePath, stop := startNodes(2)
	defer stop()
	c, err := sessionring.Open(savePath, sessionring.WithDistribution(sessionring.PHPRedis))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Ring().Distribution(), c.Ring().Copies(), c.Set(context.Background(), "v7k2m9x4p1q8r5t3w6y0z2b4c6", []byte("a|i:1;")))
	// Output: phpredis 1 <nil>
}

// Where an id lives, without asking anybody.
func ExampleRing_Owners() {
	sp, err := sessionring.ParseSavePath("tcp://a:6379, tcp://b:6379, tcp://c:6379?distribution=phpredis")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := sessionring.NewRing(sp)
	if err != nil {
		log.Fatal(err)
	}
	for _, i := range ring.Owners("r4t8w2y6u1i9o3p7a5") {
		fmt.Println(ring.Nodes()[i].Address)
	}
	// Output: a:6379
}

// What a fourth host would move, before it is added.
func ExamplePlanChange() {
	ring := func(savePath string) *sessionring.Ring {
		sp, err := sessionring.ParseSavePath(savePath)
		if err != nil {
			log.Fatal(err)
		}
		r, err := sessionring.NewRing(sp)
		if err != nil {
			log.Fatal(err)
		}
		return r
	}
	plan := sessionring.PlanChange(
		ring("tcp://a:6379, tcp://b:6379, tcp://c:6379"),
		ring("tcp://a:6379, tcp://b:6379, tcp://c:6379, tcp://d:6379"), 0)
	fmt.Printf("about a quarter moves: %v; between the old ones: %.1f %%\n", plan.Moved > 0.24 && plan.Moved < 0.26, 100*plan.BetweenUnchanged)
	// Output: about a quarter moves: true; between the old ones: 0.0 %
}

// Metrics and alarms come from hooks.
func ExampleWithHooks() {
	down := make(chan string, 1)
	c, err := sessionring.Open("tcp://127.0.0.1:1", sessionring.WithHooks(sessionring.Hooks{
		StateChange: func(s sessionring.StateChange) {
			if s.To == sessionring.StateDown {
				down <- s.Node
			}
		},
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(<-down)
	// Output: tcp://127.0.0.1:1
}
