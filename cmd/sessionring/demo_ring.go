package main

import (
	"fmt"
	"math"
)

// The ring's picture: an arc for each node, as long as its share of the sessions.
const (
	ringSize  = 400.0
	ringOuter = 150.0
	ringInner = 104.0
	ringLabel = 174.0
	ringLink  = 98.0
	ringGap   = 0.012 // between two arcs, in radians
)

// demoArc is one node's part of the picture.
type demoArc struct {
	Path           string
	LabelX, LabelY string
	LinkX, LinkY   string
	Anchor         string // of the label's text
}

// ringArcs places the nodes' shares clockwise, from the top.
func ringArcs(shares []float64) []demoArc {
	arcs := make([]demoArc, len(shares))
	at := 0.0
	for i, share := range shares {
		from, to := at*2*math.Pi, (at+share)*2*math.Pi
		at += share
		middle := (from + to) / 2
		a := &arcs[i]
		a.LabelX, a.LabelY = ringPoint(ringLabel, middle)
		a.LinkX, a.LinkY = ringPoint(ringLink, middle)
		switch x := math.Sin(middle); {
		case x > 0.3:
			a.Anchor = "start"
		case x < -0.3:
			a.Anchor = "end"
		default:
			a.Anchor = "middle"
		}
		if len(shares) > 1 {
			from, to = from+ringGap, max(from+ringGap, to-ringGap)
		}
		a.Path = ringSector(from, to)
	}
	return arcs
}

// ringSector is the outline of an arc with thickness, in SVG's path language. A whole turn begins where it ends,
// which SVG draws as nothing, so it is drawn in two halves.
func ringSector(from, to float64) string {
	if to-from > 2*math.Pi-0.001 {
		half := (from + to) / 2
		return ringSector(from, half) + " " + ringSector(half, to-0.002)
	}
	large := 0
	if to-from > math.Pi {
		large = 1
	}
	x1, y1 := ringPoint(ringOuter, from)
	x2, y2 := ringPoint(ringOuter, to)
	x3, y3 := ringPoint(ringInner, to)
	x4, y4 := ringPoint(ringInner, from)
	return fmt.Sprintf("M%s %s A%g %g 0 %d 1 %s %s L%s %s A%g %g 0 %d 0 %s %s Z",
		x1, y1, ringOuter, ringOuter, large, x2, y2, x3, y3, ringInner, ringInner, large, x4, y4)
}

func ringPoint(radius, angle float64) (x, y string) {
	return fmt.Sprintf("%.1f", ringSize/2+radius*math.Sin(angle)), fmt.Sprintf("%.1f", ringSize/2-radius*math.Cos(angle))
}
