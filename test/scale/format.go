package main

import (
	"fmt"
	"strings"
)

// rows collects a table.
type rows struct{ b strings.Builder }

func tableOf(columns ...string) *rows {
	r := new(rows)
	r.add(columns...)
	r.b.WriteString("|---" + strings.Repeat("|--:", len(columns)-1) + "|\n")
	return r
}

func (r *rows) add(cells ...string) { r.b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }

func (r *rows) String() string { return r.b.String() }

// whole writes a number with commas, rounded.
func whole(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}

// brief writes a number to two digits: 0.0012, 3.4, 560, 12,000.
func brief(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1e-4:
		return fmt.Sprintf("%.1e", v)
	case v < 10:
		return fmt.Sprintf("%.2g", v)
	}
	unit := 1.0
	for v/unit >= 100 {
		unit *= 10
	}
	return whole(float64(int64(v/unit+0.5)) * unit)
}

// took writes seconds in the unit that fits.
func took(v float64) string {
	switch {
	case v > 100*year.Seconds():
		return "never"
	case v < 90:
		return brief(v) + " s"
	case v < 90*60:
		return fmt.Sprintf("%.0f min", v/60)
	case v < 48*3600:
		return fmt.Sprintf("%.1f h", v/3600)
	}
	return brief(v/86400) + " days"
}

func percent(v float64) string { return fmt.Sprintf("%.2f %%", 100*v) }

func gigabytes(v float64) string { return brief(v/1e9) + " GB" }

// chance writes a probability.
func chance(v float64) string {
	if v > 0.99 {
		return "> 99 %"
	}
	return brief(100*v) + " %"
}
