package sessionring

import (
	"fmt"
)

// phpredisMinID is the shortest id that phpredis places by the id alone: it reads four bytes, and the fourth of a
// three-byte id is the string's closing zero.
const phpredisMinID = 3

// phpredisRule is phpredis's own placement (redis_session.c, redis_pool_get_sock, the same in 5.3.7 and 6.1.0): the
// first four bytes of the id as a little-endian number modulo the sum of weights, counted off from the last entry of
// the string to the first. It knows entries, not nodes: a host named twice has two turns.
type phpredisRule struct {
	field *field
	ends  []uint32 // running sums of weights from the last entry on
}

func newPHPRedisRule(nodes []Node, f *field) (*phpredisRule, error) {
	rule := &phpredisRule{field: f, ends: make([]uint32, len(nodes))}
	var sum uint64
	for k := range rule.ends {
		sum += uint64(weightOf(nodes[len(nodes)-1-k]))
		if sum > maxRingWeight {
			return nil, &RingError{Node: -1, Reason: fmt.Sprintf("the weights add up to more than %d, where phpredis overflows; divide them all", maxRingWeight)}
		}
		rule.ends[k] = uint32(sum)
	}
	return rule, nil
}

// entry returns the index of the entry that PHP asks. Bytes that the id lacks count as zero.
func (rule *phpredisRule) entry(id string) int {
	var first uint32
	for i := range min(4, len(id)) {
		first |= uint32(id[i]) << (8 * i)
	}
	at := first % rule.ends[len(rule.ends)-1]
	low, high := 0, len(rule.ends)-1
	for low < high {
		if mid := (low + high) / 2; rule.ends[mid] > at {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return len(rule.ends) - 1 - low
}

// share is the share of the entry under ids whose first bytes are spread evenly, as PHP's are.
func (rule *phpredisRule) share(entry int) float64 {
	k := len(rule.ends) - 1 - entry
	weight := rule.ends[k]
	if k > 0 {
		weight -= rule.ends[k-1]
	}
	return float64(weight) / float64(rule.ends[len(rule.ends)-1])
}

// appendPHPRedis appends PHP's entry, then the nodes that stand in for it in the ring's order of the id's partition,
// which spreads a dead node's ids over the others by weight. Each node is named once.
func (r *Ring) appendPHPRedis(dst []int, id string, n int) []int {
	entry := r.php.entry(id)
	dst = append(dst, entry)
	if n == 1 {
		return dst
	}
	return r.appendOrder(dst, partitionOf(id), r.field.entry[entry], n-1)
}
