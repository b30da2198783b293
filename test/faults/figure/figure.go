// Package figure draws what operations went through while something happened: how many a second, how many failed,
// how long they took, and the moments of the happening.
package figure

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Sample is one operation. Times are nanoseconds of any one clock.
type Sample struct {
	Call, Return int64
	Failed       bool
}

// Mark is a moment to name.
type Mark struct {
	At   int64
	Text string
}

// Picture is what is drawn.
type Picture struct {
	Title   string
	Samples []Sample
	Marks   []Mark
	// From and To bound the time that is drawn.
	From, To int64
}

const (
	step   = 100 * time.Millisecond // one point of a curve
	width  = 24 * vg.Centimeter
	height = 15 * vg.Centimeter
)

var (
	blue   = color.RGBA{0x1f, 0x77, 0xb4, 0xff}
	orange = color.RGBA{0xff, 0x7f, 0x0e, 0xff}
	red    = color.RGBA{0xd6, 0x27, 0x28, 0xff}
	grey   = color.RGBA{0x55, 0x55, 0x55, 0xff}
	faint  = color.RGBA{0xdd, 0xdd, 0xdd, 0xff}
)

// Draw writes the picture to file, whose name ends in .svg or .png.
func Draw(file string, p Picture) error {
	rates, err := p.rates()
	if err != nil {
		return err
	}
	latencies, err := p.latencies()
	if err != nil {
		return err
	}
	var canvas vg.CanvasWriterTo
	if strings.HasSuffix(file, ".png") {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(110))}
	} else {
		canvas = vgsvg.New(width, height)
	}
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter}
	panels := plot.Align([][]*plot.Plot{{rates}, {latencies}}, tiles, draw.New(canvas))
	rates.Draw(panels[0][0])
	latencies.Draw(panels[1][0])
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// bins sorts samples by the time when they ended: that is when a user sees something.
func (p Picture) bins() [][]Sample {
	out := make([][]Sample, max(1, int((p.To-p.From)/int64(step))))
	for _, s := range p.Samples {
		if i := int((s.Return - p.From) / int64(step)); s.Return >= p.From && i < len(out) {
			out[i] = append(out[i], s)
		}
	}
	return out
}

// seconds is the middle of a bin on the time axis.
func seconds(bin int) float64 { return (float64(bin) + 0.5) * step.Seconds() }

func (p Picture) rates() (*plot.Plot, error) {
	c := plot.New()
	c.Title.Text = p.Title
	c.Y.Label.Text = "operations a second"
	var done, failed plotter.XYs
	most := 0.0
	for i, bin := range p.bins() {
		bad := 0
		for _, s := range bin {
			if s.Failed {
				bad++
			}
		}
		done = append(done, plotter.XY{X: seconds(i), Y: float64(len(bin)-bad) / step.Seconds()})
		failed = append(failed, plotter.XY{X: seconds(i), Y: float64(bad) / step.Seconds()})
		most = max(most, done[i].Y, failed[i].Y)
	}
	c.Y.Min, c.Y.Max = 0, most*1.35
	if err := add(c, "answered", blue, done); err != nil {
		return nil, err
	}
	if err := add(c, "failed", red, failed); err != nil {
		return nil, err
	}
	p.frame(c, true)
	return c, nil
}

func (p Picture) latencies() (*plot.Plot, error) {
	c := plot.New()
	c.X.Label.Text = "seconds"
	c.Y.Label.Text = "milliseconds"
	c.Y.Scale = plot.LogScale{}
	c.Y.Tick.Marker = plot.TickerFunc(decades)
	var half, most, worst plotter.XYs
	for i, bin := range p.bins() {
		if len(bin) == 0 {
			continue
		}
		took := make([]float64, len(bin))
		for j, s := range bin {
			took[j] = max(float64(s.Return-s.Call)/1e6, 0.01)
		}
		slices.Sort(took)
		at := func(q float64) float64 { return took[min(len(took)-1, int(q*float64(len(took))))] }
		half = append(half, plotter.XY{X: seconds(i), Y: at(0.5)})
		most = append(most, plotter.XY{X: seconds(i), Y: at(0.99)})
		worst = append(worst, plotter.XY{X: seconds(i), Y: took[len(took)-1]})
	}
	c.Y.Min, c.Y.Max = 0.05, 10_000
	for _, l := range []struct {
		name  string
		color color.Color
		at    plotter.XYs
	}{{"longest", red, worst}, {"99 %", orange, most}, {"half", blue, half}} {
		if err := add(c, l.name, l.color, l.at); err != nil {
			return nil, err
		}
	}
	p.frame(c, false)
	return c, nil
}

// decades are the ticks of the logarithmic axis.
func decades(lo, hi float64) []plot.Tick {
	var out []plot.Tick
	for d := math.Pow(10, math.Floor(math.Log10(lo))); d <= hi; d *= 10 {
		for m := 1.0; m < 10; m++ {
			v := d * m
			if v < lo || v > hi {
				continue
			}
			t := plot.Tick{Value: v}
			if m == 1 {
				t.Label = fmt.Sprintf("%g", v)
			}
			out = append(out, t)
		}
	}
	return out
}

func add(c *plot.Plot, name string, col color.Color, at plotter.XYs) error {
	if len(at) == 0 {
		return nil
	}
	l, err := plotter.NewLine(at)
	if err != nil {
		return err
	}
	l.Color, l.Width = col, vg.Points(1.2)
	c.Add(l)
	c.Legend.Add(name, l)
	return nil
}

// frame adds the axes' looks and the marks; names writes their texts, too.
func (p Picture) frame(c *plot.Plot, names bool) {
	c.X.Min, c.X.Max = 0, time.Duration(p.To-p.From).Seconds()
	c.Legend.Left, c.Legend.Top = true, !names // where the fault has not happened yet, clear of the marks' texts
	c.Legend.TextStyle.Font.Size = vg.Points(9)
	if names {
		c.Legend.YOffs = vg.Points(8)
	}
	c.Add(marks{p, names})
}

// marks are vertical lines at the moments, each with its text beside it.
type marks struct {
	p     Picture
	names bool
}

// Plot draws the marks.
func (m marks) Plot(c draw.Canvas, plt *plot.Plot) {
	x, _ := plt.Transforms(&c)
	style := text.Style{Color: grey, Font: font.From(plot.DefaultFont, vg.Points(8)), Rotation: math.Pi / 2, XAlign: draw.XRight, YAlign: draw.YBottom, Handler: plot.DefaultTextHandler}
	last := vg.Length(math.Inf(-1))
	for _, k := range m.p.Marks {
		if k.At < m.p.From || k.At > m.p.To {
			continue
		}
		at := x(time.Duration(k.At - m.p.From).Seconds())
		line := faint
		if m.names {
			line = grey
		}
		c.StrokeLine2(draw.LineStyle{Color: line, Width: vg.Points(0.7), Dashes: []vg.Length{vg.Points(3), vg.Points(2)}}, at, c.Min.Y, at, c.Max.Y)
		if m.names && at > last+vg.Points(9) {
			c.FillText(style, vg.Point{X: at - vg.Points(1), Y: c.Max.Y - vg.Points(2)}, k.Text)
			last = at
		}
	}
}
