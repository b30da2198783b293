package main

import (
	"bytes"
	"fmt"
	paint "image/color"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours are those of Okabe and Ito, which most colour-blind people can tell apart.
var (
	plotBlue   = paint.RGBA{0x00, 0x72, 0xb2, 0xff}
	plotOrange = paint.RGBA{0xe6, 0x9f, 0x00, 0xff}
	plotGreen  = paint.RGBA{0x00, 0x9e, 0x73, 0xff}
	plotRed    = paint.RGBA{0xd5, 0x5e, 0x00, 0xff}
	plotGrey   = paint.RGBA{0x88, 0x88, 0x88, 0xff}
	plotBand   = paint.RGBA{0xfb, 0xe8, 0xdc, 0xff}
	plotGrid   = paint.RGBA{0xe4, 0xe4, 0xe4, 0xff}
)

const (
	plotWidth  = 26 * vg.Centimeter
	plotHeight = 8.5 * vg.Centimeter // of one panel
	plotDPI    = 110
)

// plotReport draws a report to a file: throughput and latency over time with the faults marked, percentiles, and
// for a load of several steps latency against throughput.
func plotReport(name string, b *benchReport) error {
	panels, err := reportPanels(b)
	if err != nil {
		return err
	}
	return writePanels(name, panels)
}

func reportPanels(b *benchReport) ([]*plot.Plot, error) {
	throughput, err := throughputPanel(b)
	if err != nil {
		return nil, err
	}
	throughput.Title.Text = wrapTitle(b.subject())
	latency, err := latencyPanel(b)
	if err != nil {
		return nil, err
	}
	curves := []plotCurve{{"all", b.Detail.Latency, plotBlue}}
	if b.Reads.Ops > 0 && b.Writes.Ops > 0 {
		curves = []plotCurve{{"reads", b.Detail.Reads, plotGreen}, {"writes", b.Detail.Writes, plotBlue}}
	}
	if b.Config.paced() {
		curves = append(curves, plotCurve{"all, from when they were sent", b.Detail.Service, plotGrey})
	}
	percentiles, err := percentilePanel(curves)
	if err != nil {
		return nil, err
	}
	panels := []*plot.Plot{throughput, latency, percentiles}
	if len(b.Steps) > 1 {
		steps, err := stepsPanel(b)
		if err != nil {
			return nil, err
		}
		panels = append(panels, steps)
	}
	return panels, nil
}

// writePanels draws panels under one another, as PNG or SVG by the name's ending.
func writePanels(name string, panels []*plot.Plot) error {
	height := plotHeight * vg.Length(len(panels))
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	if strings.HasSuffix(name, ".svg") {
		canvas = vgsvg.New(plotWidth, height)
	} else {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(plotWidth, height), vgimg.UseDPI(plotDPI))}
	}
	rows := make([][]*plot.Plot, len(panels))
	for i, p := range panels {
		rows[i] = []*plot.Plot{p}
	}
	area := draw.New(canvas)
	area.FillPolygon(paint.White, []vg.Point{{X: 0, Y: 0}, {X: plotWidth, Y: 0}, {X: plotWidth, Y: height}, {X: 0, Y: height}})
	tiles := draw.Tiles{
		Rows: len(panels), Cols: 1, PadY: vg.Centimeter * 0.6, PadTop: vg.Centimeter * 0.3,
		PadBottom: vg.Centimeter * 0.3, PadLeft: vg.Centimeter * 0.4, PadRight: vg.Centimeter,
	}
	for i, row := range plot.Align(rows, tiles, area) {
		panels[i].Draw(row[0])
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return err
	}
	return os.WriteFile(name, out.Bytes(), 0o644) //nolint:gosec // a picture for people
}

// newPanel is an empty panel with a grid.
func newPanel(x, y string) *plot.Plot {
	p := plot.New()
	for _, f := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		f.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size = 12
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font.Size = 11
		a.Tick.Label.Font.Size = 10
	}
	p.Legend.Top = true
	p.Legend.TextStyle.Font.Size = 10
	p.Legend.Padding = vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = plotGrid, plotGrid
	p.Add(grid)
	return p
}

// addLine adds a line with a legend; where a value is no number or, on a logarithmic axis, not above 0, it is
// interrupted.
func addLine(p *plot.Plot, name string, xy plotter.XYs, c paint.Color, log bool) error {
	var part plotter.XYs
	first := true
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		line, points, err := plotter.NewLinePoints(part)
		if err != nil {
			return err
		}
		line.Color, line.Width = c, vg.Points(1.6)
		points.Color, points.Shape, points.Radius = c, draw.CircleGlyph{}, vg.Points(0.8)
		p.Add(line)
		if len(part) == 1 {
			p.Add(points) // a line of one point shows nothing
		}
		if first {
			p.Legend.Add(name, line)
			first = false
		}
		part = nil
		return nil
	}
	for _, v := range xy {
		if math.IsNaN(v.Y) || log && v.Y <= 0 {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		part = append(part, v)
	}
	return flush()
}

func throughputPanel(b *benchReport) (*plot.Plot, error) {
	p := newPanel("seconds", "operations a second")
	bands := addBands(p, b)
	ops, failed := plotter.XYs{}, plotter.XYs{}
	for _, x := range b.Detail.Points {
		at := x.At + b.Detail.Slice/2
		ops = append(ops, plotter.XY{X: at, Y: x.OpsPerSec})
		y := math.NaN()
		if x.Errors > 0 {
			y = x.OpsPerSec * float64(x.Errors) / float64(x.Ops)
		}
		failed = append(failed, plotter.XY{X: at, Y: y})
	}
	if err := addLine(p, "finished", ops, plotBlue, false); err != nil {
		return nil, err
	}
	if b.Errors > 0 {
		if err := addLine(p, "of them failed", failed, plotRed, false); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max = 0, b.Seconds
	p.X.Tick.Marker = roundTicks(12)
	p.Y.Max = max(p.Y.Max*1.25, 1) // room for the faults' names
	p.Y.Min = 0
	p.Y.Tick.Marker = roundTicks(6)
	bands(p.Y.Min, p.Y.Max)
	return p, markFaults(p, b, true)
}

func latencyPanel(b *benchReport) (*plot.Plot, error) {
	p := newPanel("seconds", "latency, ms")
	bands := addBands(p, b)
	lines := []struct {
		name string
		c    paint.Color
		of   func(benchPoint) float64
	}{
		{"longest", plotRed, func(x benchPoint) float64 { return x.Max }},
		{"p99", plotOrange, func(x benchPoint) float64 { return x.P99 }},
		{"p50", plotBlue, func(x benchPoint) float64 { return x.P50 }},
	}
	for _, l := range lines {
		xy := plotter.XYs{}
		for _, x := range b.Detail.Points {
			xy = append(xy, plotter.XY{X: x.At + b.Detail.Slice/2, Y: l.of(x)})
		}
		if err := addLine(p, l.name, xy, l.c, true); err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max = 0, b.Seconds
	p.X.Tick.Marker = roundTicks(12)
	logAxis(&p.Y)
	bands(p.Y.Min, p.Y.Max)
	return p, markFaults(p, b, false)
}

// drawnOnly hides everything of a plotter but that it draws: its range, for one, widens no axis.
type drawnOnly struct{ plot.Plotter }

// addBands draws a band for as long as a node hung, below the lines. How high it is, is known when those are
// drawn: the function that it returns says so.
func addBands(p *plot.Plot, b *benchReport) func(low, high float64) {
	var bands []*plotter.Polygon
	for _, f := range b.Faults {
		if f.Kind != "hang" || f.Until <= f.At {
			continue
		}
		until := min(f.Until, b.Seconds)
		band, err := plotter.NewPolygon(plotter.XYs{{X: f.At, Y: 1}, {X: until, Y: 1}, {X: until, Y: 1}, {X: f.At, Y: 1}})
		if err != nil {
			continue // no number: then there is no band
		}
		band.Color, band.LineStyle.Width = plotBand, 0
		p.Add(drawnOnly{band})
		bands = append(bands, band)
	}
	return func(low, high float64) {
		for _, band := range bands {
			for i, y := range []float64{low, low, high, high} {
				band.XYs[0][i].Y = y
			}
		}
	}
}

// markFaults draws a line at each fault, with its name, and a fine one where a step begins.
func markFaults(p *plot.Plot, b *benchReport, names bool) error {
	low, high := p.Y.Min, p.Y.Max
	at := 0.0
	for _, s := range b.Steps[:max(0, len(b.Steps)-1)] {
		at += s.Seconds
		line, err := plotter.NewLine(plotter.XYs{{X: at, Y: low}, {X: at, Y: high}})
		if err != nil {
			return err
		}
		line.Color, line.Width = plotGrey, vg.Points(0.6)
		p.Add(line)
	}
	for i, f := range b.Faults {
		line, err := plotter.NewLine(plotter.XYs{{X: f.At, Y: low}, {X: f.At, Y: high}})
		if err != nil {
			return err
		}
		line.Color, line.Width, line.Dashes = plotRed, vg.Points(1.2), []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(line)
		if !names {
			continue
		}
		text := fmt.Sprintf(" %s node %d", f.Kind, f.Node)
		if f.Kind == "hang" {
			text += fmt.Sprintf(" for %.1f s", f.Until-f.At)
		}
		// One under the other, for faults may follow closely.
		label, err := plotter.NewLabels(plotter.XYLabels{
			XYs: plotter.XYs{{X: f.At, Y: high * (0.95 - 0.065*float64(i%3))}}, Labels: []string{text},
		})
		if err != nil {
			return err
		}
		label.TextStyle[0].Color = plotRed
		label.TextStyle[0].Font.Size, label.TextStyle[0].Font.Variant = 10, "Sans"
		if f.At > 0.75*p.X.Max {
			label.TextStyle[0].XAlign = draw.XRight
		}
		p.Add(label)
	}
	p.Y.Min, p.Y.Max = low, high
	return nil
}

// plotCurve is a line of percentiles.
type plotCurve struct {
	name string
	hist benchHist
	c    paint.Color
}

// percentilePanel shows latency by percentile; each nine gets the same room.
func percentilePanel(curves []plotCurve) (*plot.Plot, error) {
	p := newPanel("percentile", "latency, ms")
	nines := 1.0
	for _, c := range curves {
		if c.hist.Histogram == nil || c.hist.TotalCount() == 0 {
			continue
		}
		n := float64(c.hist.TotalCount())
		nines = max(nines, math.Ceil(math.Log10(n)))
		xy := plotter.XYs{}
		// 20 points a decade, from the median on (1/(1-q) = 2) until one operation is left.
		for x := 1.0; x < n; x *= math.Pow(10, 1.0/20) {
			xy = append(xy, plotter.XY{X: x, Y: c.hist.ms(100 * (1 - 1/x))})
		}
		xy = append(xy, plotter.XY{X: n, Y: c.hist.ms(100)})
		if err := addLine(p, fmt.Sprintf("%s (%.0f operations)", c.name, n), xy, c.c, true); err != nil {
			return nil, err
		}
	}
	p.Legend.Left = true
	p.X.Scale = plot.LogScale{}
	p.X.Min, p.X.Max = 1, math.Pow(10, nines)
	p.X.Tick.Marker = percentileTicks{}
	logAxis(&p.Y)
	return p, nil
}

// stepsPanel shows what each step reached against its p50 and p99.
func stepsPanel(b *benchReport) (*plot.Plot, error) {
	p := newPanel("operations a second, reached (a point a step)", "latency, ms")
	for _, l := range []struct {
		name string
		c    paint.Color
		of   func(benchStep) float64
	}{
		{"p99", plotOrange, func(s benchStep) float64 { return s.P99 }},
		{"p50", plotBlue, func(s benchStep) float64 { return s.P50 }},
	} {
		xy := plotter.XYs{}
		for _, s := range b.Steps {
			if s.Ops > 0 {
				xy = append(xy, plotter.XY{X: s.OpsPerSec, Y: l.of(s)})
			}
		}
		if len(xy) == 0 {
			continue
		}
		line, points, err := plotter.NewLinePoints(xy)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = l.c, vg.Points(1.6)
		points.Color, points.Shape, points.Radius = l.c, draw.CircleGlyph{}, vg.Points(3)
		p.Add(line, points)
		p.Legend.Add(l.name, line, points)
	}
	p.Legend.Left = true
	p.X.Min = 0
	p.X.Max *= 1.02
	p.X.Tick.Marker = roundTicks(10)
	logAxis(&p.Y)
	return p, nil
}

// logAxis makes an axis logarithmic, over whole decades.
func logAxis(a *plot.Axis) {
	if !(a.Min > 0) || math.IsInf(a.Min, 0) || math.IsInf(a.Max, 0) {
		a.Min, a.Max = 0.1, 10 // nothing was drawn
	}
	a.Min = math.Pow(10, math.Floor(math.Log10(a.Min)+1e-9))
	a.Max = math.Pow(10, math.Ceil(math.Log10(a.Max)-1e-9))
	if a.Max <= a.Min {
		a.Max = a.Min * 10
	}
	a.Scale = plot.LogScale{}
	a.Tick.Marker = decadeTicks{}
}

// decadeTicks labels 1, 10, 100 … in full, and 2 and 5 between them where there is room.
type decadeTicks struct{}

// Ticks implements plot.Ticker.
func (decadeTicks) Ticks(low, high float64) []plot.Tick {
	var out []plot.Tick
	few := math.Log10(high/low) < 3.5
	for d := math.Pow(10, math.Floor(math.Log10(low)+1e-9)); d <= high*1.0001; d *= 10 {
		for i := 1; i < 10; i++ {
			v := d * float64(i)
			if v > high*1.0001 {
				break
			}
			t := plot.Tick{Value: v}
			if i == 1 || few && (i == 2 || i == 5) {
				t.Label = strconv.FormatFloat(v, 'g', 4, 64)
				if v >= 1 {
					t.Label = strconv.FormatFloat(v, 'f', 0, 64)
				}
			}
			out = append(out, t)
		}
	}
	return out
}

// roundTicks labels so many round numbers at most.
type roundTicks int

// Ticks implements plot.Ticker.
func (n roundTicks) Ticks(low, high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/float64(n))))
	for _, times := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*times) <= float64(n) {
			step *= times
			break
		}
	}
	decimals := max(0, int(-math.Floor(math.Log10(step)+1e-9)))
	var out []plot.Tick
	for i := math.Ceil(low / step); i*step <= high*1.0001; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'f', decimals, 64)})
	}
	return out
}

// percentileTicks labels 1/(1-q): 50 %, 90 %, 99 % …
type percentileTicks struct{}

// Ticks implements plot.Ticker.
func (percentileTicks) Ticks(_, high float64) []plot.Tick {
	out := []plot.Tick{{Value: 1, Label: "0 %"}, {Value: 2, Label: "50 %"}, {Value: 4, Label: "75 %"}, {Value: 10, Label: "90 %"}}
	for v, digits := 100.0, 0; v <= high*1.0001; v, digits = v*10, digits+1 {
		out = append(out, plot.Tick{Value: v, Label: fmt.Sprintf("%.*f %%", digits, 100*(1-1/v))})
	}
	return out
}

// wrapTitle breaks a long title in two.
func wrapTitle(s string) string {
	const width = 110
	if len(s) <= width {
		return s
	}
	if i := strings.LastIndex(s[:width], ", "); i > 0 {
		return s[:i+1] + "\n" + strings.TrimSpace(s[i+1:])
	}
	return s
}
