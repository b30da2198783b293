package sessionring

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
)

// docs/ring.md has the figures of one run:
//
//	go test -run '^$' -bench Ring -count 5 .
//
// Look-ups go through 4,096 ids of 26 bytes. The floor is the bare xxhash; the peer is go-redis's Ring, which knows
// neither weights nor a second owner.

var benchSizes = []int{3, 10, 100, 1000}

func benchIDs() []string {
	draw := rand.New(rand.NewPCG(1, 1))
	ids := make([]string, 4096)
	for i := range ids {
		ids[i] = drawID(draw)
	}
	return ids
}

func benchNodes(size int) []Node {
	nodes := make([]Node, size)
	for i := range nodes {
		nodes[i] = Node{Index: i, Network: "tcp", Address: fmt.Sprintf("redis%d.example.com:6379", i), Weight: 1 + i%10}
	}
	return nodes
}

var sink int // keeps the compiler from leaving work out

func BenchmarkRingLookup(b *testing.B) {
	ids := benchIDs()
	b.Run("xxhash", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			sink = int(xxhash.Sum64String(ids[i%len(ids)]))
			i++
		}
	})
	for _, size := range benchSizes {
		r := ringOf(b, Consistent, benchNodes(size))
		dst := make([]int, 0, size)
		b.Run(fmt.Sprintf("owner/nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				sink = r.Owner(ids[i%len(ids)])
				i++
			}
		})
		b.Run(fmt.Sprintf("two-owners/nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dst = r.AppendOwners(dst[:0], ids[i%len(ids)], 2)
				i++
			}
		})
		b.Run(fmt.Sprintf("eight/nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dst = r.AppendOwners(dst[:0], ids[i%len(ids)], 8)
				i++
			}
		})
		b.Run(fmt.Sprintf("all/nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dst = r.Preference(dst[:0], ids[i%len(ids)])
				i++
			}
		})
		p := ringOf(b, PHPRedis, benchNodes(size))
		b.Run(fmt.Sprintf("phpredis-owner/nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				sink = p.Owner(ids[i%len(ids)])
				i++
			}
		})
		if size > 100 {
			continue // go-redis's Ring needs minutes to build
		}
		peer := goRedisRing(size)
		b.Run(fmt.Sprintf("goredis/nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := peer.GetShardClientForKey(ids[i%len(ids)]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
		if err := peer.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// goRedisRing never dials: its clients connect when first used, and nothing probes them within a benchmark.
func goRedisRing(size int) *redis.Ring {
	addrs := make(map[string]string, size)
	for i := range size {
		addrs[fmt.Sprintf("redis%d", i)] = "127.0.0.1:1"
	}
	return redis.NewRing(&redis.RingOptions{Addrs: addrs, HeartbeatFrequency: 1 << 62})
}

func BenchmarkRingBuild(b *testing.B) {
	for _, size := range benchSizes {
		nodes := benchNodes(size)
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			var r *Ring
			for b.Loop() {
				r = ringOf(b, Consistent, nodes)
			}
			b.ReportMetric(float64(2*len(r.table.rows)), "table-B")
		})
		b.Run(fmt.Sprintf("scores-alone/nodes=%d", size), func(b *testing.B) {
			for b.Loop() {
				scoreRing(b, nodes)
			}
		})
		if size > 100 {
			continue
		}
		b.Run(fmt.Sprintf("goredis/nodes=%d", size), func(b *testing.B) {
			for b.Loop() {
				if err := goRedisRing(size).Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
