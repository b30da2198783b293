package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours are those of Okabe and Ito, which most colour-blind people can tell apart.
var (
	blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.RGBA{0xe6, 0x9f, 0x00, 0xff}
	green  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	red    = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	grey   = color.RGBA{0x88, 0x88, 0x88, 0xff}
	faint  = color.RGBA{0xe4, 0xe4, 0xe4, 0xff}
)

// hue and shape tell lines and points of one panel apart.
func hue(i int) color.Color {
	all := []color.Color{blue, orange, green, red, grey}
	return all[i%len(all)]
}

func shape(i int) draw.GlyphDrawer {
	all := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.CrossGlyph{}}
	return all[i%len(all)]
}

const (
	plotWidth   = 24 * vg.Centimeter
	panelHeight = 9 * vg.Centimeter
	rowHeight   = 0.85 * vg.Centimeter // of one peer
)

// drawPanels writes panels under one another as an SVG.
func drawPanels(file string, heights []vg.Length, panels ...*plot.Plot) error {
	total := vg.Length(0)
	for _, h := range heights {
		total += h
	}
	canvas := vgsvg.New(plotWidth, total)
	area := draw.New(canvas)
	area.FillPolygon(color.White, []vg.Point{{X: 0, Y: 0}, {X: plotWidth, Y: 0}, {X: plotWidth, Y: total}, {X: 0, Y: total}})
	top := total
	pad := 3 * vg.Millimeter
	for i, p := range panels {
		p.Draw(draw.Crop(area, pad, -3*pad, top-heights[i]+pad, top-total-pad))
		top -= heights[i]
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // for people
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644) //nolint:gosec // a picture for people
}

// newPanel is an empty panel with a grid.
func newPanel(title, x, y string) *plot.Plot {
	p := plot.New()
	for _, f := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		f.Variant = "Sans"
		f.Size = 10
	}
	p.Title.TextStyle.Font.Size, p.Title.Padding = 12, vg.Points(4)
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Legend.Top, p.Legend.Padding = true, vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	p.Add(grid)
	return p
}

// addLine adds a line with points. On a logarithmic axis, what is not above 0 is left out.
func addLine(p *plot.Plot, name string, i int, at plotter.XYs) error {
	if len(at) == 0 {
		return nil
	}
	line, points, err := plotter.NewLinePoints(at)
	if err != nil {
		return err
	}
	line.Color, line.Width = hue(i), vg.Points(1.4)
	points.Color, points.Shape, points.Radius = hue(i), shape(i), vg.Points(2.6)
	p.Add(line, points)
	p.Legend.Add(name, line, points)
	return nil
}

// logAxis makes an axis logarithmic, with room above its highest value.
func logAxis(a *plot.Axis, room float64) {
	if !(a.Min > 0) || math.IsInf(a.Min, 0) || math.IsInf(a.Max, 0) {
		a.Min, a.Max = 0.1, 10 // nothing was drawn
	}
	if a.Min == a.Max {
		a.Min, a.Max = a.Min/2, a.Max*2
	}
	a.Max *= room
	a.Scale, a.Tick.Marker = plot.LogScale{}, logTicks{}
}

// logTicks label 1, 2 and 5 of each decade.
type logTicks struct{}

// Ticks implements plot.Ticker.
func (logTicks) Ticks(low, high float64) []plot.Tick {
	if !(low > 0) || math.IsInf(high, 0) || math.IsNaN(high) {
		return nil
	}
	var out []plot.Tick
	for d := math.Pow(10, math.Floor(math.Log10(low))); d <= high; d *= 10 {
		for i := 1; i < 10; i++ {
			v := d * float64(i)
			if v < low*0.999 || v > high*1.001 {
				continue
			}
			t := plot.Tick{Value: v}
			if i == 1 || i == 2 || i == 5 {
				t.Label = strconv.FormatFloat(v, 'g', 3, 64)
				if v >= 1000 {
					t.Label = thousands(v)
				}
			}
			out = append(out, t)
		}
	}
	return out
}

// roundTicks labels about so many round numbers from 0 on.
type roundTicks int

// Ticks implements plot.Ticker.
func (n roundTicks) Ticks(_, high float64) []plot.Tick {
	if !(high > 0) || math.IsInf(high, 0) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10(high/float64(n))))
	for _, times := range []float64{1, 2, 5, 10} {
		if high/(step*times) <= float64(n) {
			step *= times
			break
		}
	}
	var out []plot.Tick
	for v := 0.0; v <= high*1.001; v += step {
		out = append(out, plot.Tick{Value: v, Label: thousands(v)})
	}
	return out
}

// draw makes the picture of a table: ratios by peer, with the middle half of the rounds, the operations under one
// another.
func (t *table) draw(file string) error {
	var panels []*plot.Plot
	var heights []vg.Length
	for _, op := range []operation{cycle, read} {
		p, rows, err := t.panel(op)
		if err != nil {
			return err
		}
		panels = append(panels, p)
		heights = append(heights, rowHeight*vg.Length(rows)+3*vg.Centimeter)
	}
	return drawPanels(file, heights, panels...)
}

func (t *table) panel(op operation) (*plot.Plot, int, error) {
	p := newPanel(fmt.Sprintf("%v, %s", op, count(t.servers, "server")), t.peers[0].row(op)+" = 1", "")
	var names []string
	var rows []peer
	for _, k := range slices.Backward(t.peers) { // the first comes to stand at the top
		if k.does(op) {
			rows, names = append(rows, k), append(names, k.row(op))
		}
	}
	low, high := 0.5, 2.0
	for i, n := range t.goroutines {
		var at plotter.XYs
		var around plotter.XErrors
		for j, k := range rows {
			r := t.ratio(key{k.name, op, n}, reference, rate)
			if r.low <= 0 {
				continue // a logarithm has no 0
			}
			low, high = min(low, r.low), max(high, r.high)
			at = append(at, plotter.XY{X: r.median, Y: float64(j) + 0.22*(float64(len(t.goroutines)-1)/2-float64(i))})
			around = append(around, struct{ Low, High float64 }{r.median - r.low, r.high - r.median})
		}
		bars, err := plotter.NewXErrorBars(struct {
			plotter.XYs
			plotter.XErrors
		}{at, around})
		if err != nil {
			return nil, 0, err
		}
		points, err := plotter.NewScatter(at)
		if err != nil {
			return nil, 0, err
		}
		bars.Color, bars.Width, bars.CapWidth = hue(i), vg.Points(1.2), vg.Points(4)
		points.Color, points.Shape, points.Radius = hue(i), shape(i), vg.Points(3)
		p.Add(bars, points)
		p.Legend.Add(count(n, "goroutine"), points)
	}
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(rows)) - 0.5}})
	if err != nil {
		return nil, 0, err
	}
	one.Color, one.Width = grey, vg.Points(0.8)
	p.Add(one)
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5-0.5*float64(len(t.goroutines)), float64(len(rows))-0.5 // below the last, the legend
	p.X.Min, p.X.Max = low*0.9, high
	logAxis(&p.X, 1.1)
	p.Legend.Top = false
	return p, len(rows), nil
}

// heights of n panels of the usual height.
func heights(n int) []vg.Length {
	out := make([]vg.Length, n)
	for i := range out {
		out[i] = panelHeight
	}
	return out
}
