package sessionring

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessionring/sessionring/internal/redistest"
)

// A session request beside go-redis: load 1 KiB, change it, save it with 1,440 s. Ratios within one run say
// something; absolute figures belong to the machine.
//
//	go test -run '^$' -bench 'Cycle|Prolong' -benchmem -count 6 . | tee bench.out && benchstat -col /peer bench.out

const benchSessions = 1024

func benchID(i int) string { return fmt.Sprintf("%04x%028x", i*40503%65536, i) }

// spread runs f from n goroutines, b.N times in all.
func spread(b *testing.B, n int, f func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	defer func() {
		if used := cpuTime() - before; used > 0 {
			b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
		}
	}()
	for range n {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if err := f(int(i) % benchSessions); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

type benchPeer struct {
	name           string
	cycle, prolong func(id string, data []byte) error
}

func benchPeers(b *testing.B) []benchPeer {
	nodes := redistest.Nodes(b, 3)
	ctx := context.Background()
	var clients []*redis.Client
	shards := map[string]string{}
	for i, n := range nodes {
		c := redis.NewClient(&redis.Options{Addr: n.Addr()})
		b.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
		shards[fmt.Sprint(i)] = n.Addr()
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: shards})
	b.Cleanup(func() { _ = ring.Close() })
	pick := func(id string) redis.Cmdable { return clients[int(id[0]+id[1]+id[2])%len(clients)] }
	commands := func(at func(string) redis.Cmdable) (cycle, prolong func(string, []byte) error) {
		return func(id string, data []byte) error {
				if _, err := at(id).Get(ctx, "bench:"+id).Bytes(); err != nil {
					return err
				}
				return at(id).Set(ctx, "bench:"+id, data, DefaultLifetime).Err()
			}, func(id string, _ []byte) error {
				if _, err := at(id).Get(ctx, "bench:"+id).Bytes(); err != nil {
					return err
				}
				return at(id).Expire(ctx, "bench:"+id, DefaultLifetime).Err()
			}
	}
	plainCycle, plainProlong := commands(pick)
	ringCycle, ringProlong := commands(func(string) redis.Cmdable { return ring })
	peers := []benchPeer{{"go-redis", plainCycle, plainProlong}, {"go-redis-ring", ringCycle, ringProlong}}
	for copies := 1; copies <= 2; copies++ {
		c, err := Open(redistest.SavePath(nodes, "prefix=bench"+fmt.Sprint(copies)+":"), WithCopies(copies), WithDeadline(10*time.Second))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		peers = append(peers, benchPeer{fmt.Sprintf("sessionring-%d", copies), func(id string, data []byte) error {
			if _, err := c.Get(ctx, id); err != nil {
				return err
			}
			return c.Set(ctx, id, data)
		}, func(id string, _ []byte) error {
			_, err := c.Load(ctx, id, GetOptions{Touch: true})
			return err
		}})
		data := make([]byte, 1024)
		for i := range benchSessions {
			if err := c.Set(ctx, benchID(i), data); err != nil {
				b.Fatal(err)
			}
			for _, at := range []redis.Cmdable{pick(benchID(i)), ring} {
				if err := at.Set(ctx, "bench:"+benchID(i), data, DefaultLifetime).Err(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	return peers
}

func BenchmarkCycle(b *testing.B) {
	peers := benchPeers(b)
	data := make([]byte, 1024)
	for _, n := range []int{1, 16, 64} {
		for _, p := range peers {
			b.Run(fmt.Sprintf("goroutines=%d/peer=%s", n, p.name), func(b *testing.B) {
				spread(b, n, func(i int) error { return p.cycle(benchID(i), data) })
			})
		}
	}
}

func BenchmarkProlong(b *testing.B) {
	peers := benchPeers(b)
	for _, n := range []int{1, 16, 64} {
		for _, p := range peers {
			b.Run(fmt.Sprintf("goroutines=%d/peer=%s", n, p.name), func(b *testing.B) {
				spread(b, n, func(i int) error { return p.prolong(benchID(i), nil) })
			})
		}
	}
}
