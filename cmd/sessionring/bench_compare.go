package main

import (
	"fmt"
	"reflect"
	"strings"
)

// benchComparison is the line of bench --compare --json.
type benchComparison struct {
	A       string                 `json:"a"`
	B       string                 `json:"b"`
	Differs []string               `json:"differs"` // settings that are not the same: the figures may differ for that
	Rows    map[string]benchFigure `json:"rows"`
}

// benchFigure is a figure of both reports.
type benchFigure struct {
	A     float64  `json:"a"`
	B     float64  `json:"b"`
	Ratio *float64 `json:"ratio"` // b/a; null where a is 0
}

// compareReports is bench --compare A B.
func compareReports(a *app, first, second string) error {
	if second == "" {
		return usagef("bench --compare A.json B.json: the second report is missing")
	}
	x, err := readReport(first)
	if err != nil {
		return err
	}
	y, err := readReport(second)
	if err != nil {
		return err
	}
	rows := []struct {
		name   string
		format string
		of     func(*benchReport) float64
	}{
		{"ops_per_sec", "%.0f", func(b *benchReport) float64 { return b.OpsPerSec }},
		{"p50_ms", "%.3f", func(b *benchReport) float64 { return b.P50 }},
		{"p90_ms", "%.3f", func(b *benchReport) float64 { return b.P90 }},
		{"p99_ms", "%.3f", func(b *benchReport) float64 { return b.P99 }},
		{"p999_ms", "%.3f", func(b *benchReport) float64 { return b.P999 }},
		{"max_ms", "%.3f", func(b *benchReport) float64 { return b.Max }},
		{"reads_p99_ms", "%.3f", func(b *benchReport) float64 { return b.Reads.P99 }},
		{"writes_p99_ms", "%.3f", func(b *benchReport) float64 { return b.Writes.P99 }},
		{"service_p99_ms", "%.3f", func(b *benchReport) float64 { return b.Service.P99 }},
		{"ops", "%.0f", func(b *benchReport) float64 { return float64(b.Ops) }},
		{"errors", "%.0f", func(b *benchReport) float64 { return float64(b.Errors) }},
		{"unsent", "%.0f", func(b *benchReport) float64 { return float64(b.Unsent) }},
		{"lost", "%.0f", func(b *benchReport) float64 { return float64(b.Lost) }},
		{"stale", "%.0f", func(b *benchReport) float64 { return float64(b.Stale) }},
	}
	out := benchComparison{A: first, B: second, Differs: differences(x.Config, y.Config), Rows: map[string]benchFigure{}}
	if len(out.Differs) > 0 {
		a.warn("the two loads are not the same: %s", strings.Join(out.Differs, "; "))
	}
	t := a.table()
	fmt.Fprintf(t, "\t%s\t%s\tratio\n", first, second)
	for _, r := range rows {
		c := benchFigure{A: r.of(x), B: r.of(y)}
		ratio := "–"
		if c.A != 0 {
			q := c.B / c.A
			c.Ratio = &q
			ratio = fmt.Sprintf("%.2f", q)
		}
		out.Rows[r.name] = c
		fmt.Fprintf(t, "%s\t"+r.format+"\t"+r.format+"\t%s\n", r.name, c.A, c.B, ratio)
	}
	if a.JSON {
		return a.emit(out)
	}
	return t.Flush()
}

// differences names the settings that differ, by their names in the report.
func differences(x, y benchConfig) []string {
	out := []string{}
	a, b := reflect.ValueOf(x), reflect.ValueOf(y)
	for i := range a.NumField() {
		name := a.Type().Field(i).Tag.Get("json")
		if name == "save_path" && x.OwnNodes == y.OwnNodes && x.OwnNodes > 0 {
			continue // the ports are others each time
		}
		if u, v := a.Field(i).Interface(), b.Field(i).Interface(); !reflect.DeepEqual(u, v) {
			out = append(out, fmt.Sprintf("%s %v and %v", name, u, v))
		}
	}
	return out
}
