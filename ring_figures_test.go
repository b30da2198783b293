package sessionring

import (
	"flag"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
)

var figures = flag.String("ring.figures", "", "write the comparison of ways to rank partitions to this SVG file, and a table to the log")

// TestRankingSchemes is how the ring's permutation and number of partitions were chosen: it draws node lists of 2 to 10
// nodes with weights 1 to 10, and looks at the node that is farthest from its weight's share. It makes the figures of
// docs/ring.md, and runs only for them:
//
//	go test -run TestRankingSchemes -v -ring.figures docs/ring-shares.svg .
func TestRankingSchemes(t *testing.T) {
	if *figures == "" {
		t.Skip("only with -ring.figures")
	}
	const lists = 400
	schemes := []struct {
		name   string
		colour string
		ranks  func(id string, size int) func(p uint32) uint32
	}{
		{"drawn for each partition", "#999", drawnRanks},
		{"random linear map", "#c60", linearRanks},
		{"random permutation", "#06c", permutedRanks},
	}
	plot := newErrorPlot()
	t.Log("| ranks | partitions | median | 95 % | 99 % | worst | survivor, worst |\n|---|---|---|---|---|---|---|")
	for _, size := range []int{16, 17, 18} {
		for _, s := range schemes {
			off := make([]float64, lists)
			survivors := make([]float64, lists)
			var wg sync.WaitGroup
			for w := range runtime.GOMAXPROCS(0) {
				wg.Go(func() {
					for i := w; i < lists; i += runtime.GOMAXPROCS(0) {
						nodes := randomNodes(rand.New(rand.NewPCG(7, uint64(i))), 2+i%9, 10)
						off[i], survivors[i] = schemeErrors(nodes, size, s.ranks)
					}
				})
			}
			wg.Wait()
			slices.Sort(off)
			t.Logf("| %s | 2^%d | %.2f %% | %.2f %% | %.2f %% | %.2f %% | %.3f |", s.name, size, 100*off[lists/2],
				100*off[lists*95/100], 100*off[lists*99/100], 100*off[lists-1], slices.Max(survivors))
			if size == partitionBits {
				plot.line(s.name, s.colour, off)
			}
		}
	}
	if err := os.WriteFile(*figures, []byte(plot.svg()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// schemeErrors returns how far the worst node is off its share, and the highest load of a survivor over its due.
func schemeErrors(nodes []Node, size int, ranks func(string, int) func(uint32) uint32) (share, survivor float64) {
	n, count, total := len(nodes), 1<<size, 0.0
	rankOf := make([]func(uint32) uint32, n)
	for i, node := range nodes {
		rankOf[i] = ranks(node.ID(), size)
		total += float64(node.Weight)
	}
	distance := make([]float64, count)
	for rank := range distance {
		distance[rank] = -math.Log1p(-(float64(rank) + 0.5) / float64(count))
	}
	own, next := make([]float64, n), make([]float64, n*n)
	for p := range uint32(count) {
		first, second := -1, -1
		best, other := math.Inf(1), math.Inf(1)
		for i, node := range nodes {
			switch s := distance[rankOf[i](p)] / float64(node.Weight); {
			case s < best:
				first, second, best, other = i, first, s, best
			case s < other:
				second, other = i, s
			}
		}
		own[first]++
		next[first*n+second]++
	}
	for i, node := range nodes {
		due := float64(count) * float64(node.Weight) / total
		share = max(share, math.Abs(own[i]/due-1))
		for dead := range nodes {
			if dead != i {
				left := total - float64(nodes[dead].Weight)
				survivor = max(survivor, (own[i]+next[dead*n+i])/(float64(count)*float64(node.Weight)/left))
			}
		}
	}
	return share, survivor
}

func drawnRanks(id string, size int) func(uint32) uint32 {
	seed := xxhash.Sum64String(id)
	return func(p uint32) uint32 { return uint32(mix64(seed+uint64(p)*0x9e3779b97f4a7c15) >> (64 - size)) }
}

func permutedRanks(id string, size int) func(uint32) uint32 {
	seed := xxhash.Sum64String(id)
	ranks := rand.New(rand.NewPCG(seed, 0)).Perm(1 << size)
	return func(p uint32) uint32 { return uint32(ranks[p]) }
}

// linearRanks is a digital net: a regular matrix over GF(2) times the partition's number, and a shift.
func linearRanks(id string, size int) func(uint32) uint32 {
	draw := rand.New(rand.NewPCG(xxhash.Sum64String(id), 1))
	columns := make([]uint32, size)
	for rank := 0; rank < size; {
		for i := range columns {
			columns[i] = draw.Uint32N(1 << size)
		}
		m := slices.Clone(columns)
		rank = 0
		for bit := range size {
			at := slices.IndexFunc(m[rank:], func(c uint32) bool { return c>>bit&1 == 1 })
			if at < 0 {
				continue
			}
			m[rank], m[rank+at] = m[rank+at], m[rank]
			for j := rank + 1; j < size; j++ {
				if m[j]>>bit&1 == 1 {
					m[j] ^= m[rank]
				}
			}
			rank++
		}
	}
	shift := draw.Uint32N(1 << size)
	return func(p uint32) uint32 {
		x := shift
		for ; p != 0; p &= p - 1 {
			x ^= columns[bits.TrailingZeros32(p)]
		}
		return x
	}
}

// errorPlot draws, for each scheme, which part of the lists is off by at most so much; the error axis is logarithmic.
type errorPlot struct{ lines strings.Builder }

const plotWidth, plotHeight, plotMargin = 720.0, 360.0, 60.0

func newErrorPlot() *errorPlot { return new(errorPlot) }

func plotX(e float64) float64 { // 0.05 % to 30 %
	return plotMargin + (plotWidth-2*plotMargin)*(math.Log(max(e, 0.0005)/0.0005)/math.Log(0.3/0.0005))
}

func plotY(part float64) float64 { return plotHeight - plotMargin - (plotHeight-2*plotMargin)*part }

func (p *errorPlot) line(name, colour string, sorted []float64) {
	fmt.Fprintf(&p.lines, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
	for i, e := range sorted {
		fmt.Fprintf(&p.lines, "%.1f,%.1f ", plotX(e), plotY(float64(i+1)/float64(len(sorted))))
	}
	fmt.Fprintf(&p.lines, "\"/>\n<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", plotX(sorted[len(sorted)-1]), plotY(1), colour)
	y := plotMargin + 20 + 18*float64(strings.Count(p.lines.String(), "<polyline"))
	fmt.Fprintf(&p.lines, `<text x="%.0f" y="%.0f" fill="%s">%s</text>`+"\n", plotWidth-plotMargin-190, y+90, colour, name)
}

func (p *errorPlot) svg() string {
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="13">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&s, `<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&s, `<text x="%.0f" y="28" font-size="15">Worst node's share against its weight, 400 lists of 2 to 10 nodes, 2^%d partitions</text>`+"\n", plotMargin, partitionBits)
	for _, e := range []float64{0.001, 0.003, 0.01, 0.03, 0.06, 0.2} {
		fmt.Fprintf(&s, `<path d="M%.1f %.1fV%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="middle">%g %%</text>`+"\n", plotX(e), plotY(0), plotY(1), plotX(e), plotY(0)+18, 100*e)
	}
	for _, part := range []float64{0, 0.5, 0.95, 1} {
		fmt.Fprintf(&s, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%g %%</text>`+"\n", plotMargin, plotY(part), plotWidth-plotMargin, plotMargin-6, plotY(part)+4, 100*part)
	}
	fmt.Fprintf(&s, `<text x="%.0f" y="%.0f" text-anchor="middle">off by at most (dots: the worst list)</text>`+"\n", plotWidth/2, plotHeight-14)
	fmt.Fprintf(&s, `<text x="16" y="%.0f" transform="rotate(-90 16 %.0f)" text-anchor="middle">part of the lists</text>`+"\n", plotHeight/2, plotHeight/2)
	s.WriteString(p.lines.String())
	s.WriteString("</svg>\n")
	return s.String()
}
