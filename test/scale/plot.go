package main

import (
	"context"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	width  = 20 * vg.Centimeter
	height = 12 * vg.Centimeter
)

var colours = []color.Color{
	color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xff, 0x7f, 0x0e, 0xff}, color.RGBA{0x2c, 0xa0, 0x2c, 0xff},
	color.RGBA{0xd6, 0x27, 0x28, 0xff}, color.RGBA{0x55, 0x55, 0x55, 0xff},
}

// picture is a plot with logarithmic axes.
type picture struct {
	*plot.Plot
	lines int
	err   error
}

func newPicture(title, x, y string) *picture {
	p := &picture{Plot: plot.New()}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.TickerFunc(decades), plot.TickerFunc(decades)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(9)
	p.Legend.Padding = vg.Points(2)
	p.Add(plotter.NewGrid())
	return p
}

// curve adds a line in the next colour; dots are drawn in the same.
func (p *picture) curve(name string, at, dots plotter.XYs) {
	c := colours[p.lines%len(colours)]
	p.lines++
	l, err := plotter.NewLine(at)
	if err != nil {
		p.err = err
		return
	}
	l.Color, l.Width = c, vg.Points(1.5)
	p.Add(l)
	p.Legend.Add(name, l)
	if len(dots) == 0 {
		return
	}
	d, err := plotter.NewScatter(dots)
	if err != nil {
		p.err = err
		return
	}
	d.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	p.Add(d)
}

func (p *picture) write(file string) error {
	if p.err != nil {
		return p.err
	}
	canvas := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(4), -vg.Points(36), vg.Points(4), -vg.Points(4)))
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

// decades are the ticks of a logarithmic axis; every third is named where there are many.
func decades(lo, hi float64) []plot.Tick {
	first, last := int(math.Ceil(math.Log10(lo)-1e-9)), int(math.Floor(math.Log10(hi)+1e-9))
	step := 1
	if last-first > 8 {
		step = 3
	}
	var out []plot.Tick
	for d := first; d <= last; d++ {
		t := plot.Tick{Value: math.Pow(10, float64(d))}
		if d%step == 0 {
			t.Label = tickName(t.Value)
		}
		out = append(out, t)
	}
	return out
}

// tickName writes whole numbers with commas.
func tickName(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%g", v)
	}
	return whole(v)
}

// steps are values from lo to hi, evenly on a logarithmic axis.
func steps(lo, hi float64) []float64 {
	const count = 60
	var out []float64
	for i := range count + 1 {
		out = append(out, lo*math.Pow(hi/lo, float64(i)/count))
	}
	return out
}

func drawAll(ctx context.Context, s *study, folder string) error {
	for name, paint := range map[string]func(context.Context) (*picture, error){
		"scale-rejoin.svg": s.rejoinPicture, "scale-changes.svg": s.changesPicture, "scale-loss.svg": s.lossPicture, "scale-background.svg": s.backgroundPicture,
	} {
		p, err := paint(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := p.write(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *study) rejoinPicture(context.Context) (*picture, error) {
	p := newPicture("From an empty return to full redundancy, two copies", "sessions", "seconds")
	for _, n := range []int{3, 10, 100, 1000} {
		var at plotter.XYs
		for _, sessions := range steps(1e5, 1e9) {
			at = append(at, plotter.XY{X: sessions, Y: s.rejoin(sessions, n, copies)})
		}
		p.curve(fmt.Sprintf("%d nodes", n), at, nil)
	}
	p.curve("a lifetime, 1,440 s", plotter.XYs{{X: 1e5, Y: lifetime}, {X: 1e9, Y: lifetime}}, nil)
	return p, nil
}

func (s *study) changesPicture(context.Context) (*picture, error) {
	p := newPicture("A node added: until the old list can go, two copies", "sessions", "seconds")
	for _, n := range []int{3, 10, 100, 1000} {
		m, err := s.move(changes(n, equal(n))[0], copies)
		if err != nil {
			return nil, err
		}
		var at plotter.XYs
		for _, sessions := range steps(1e5, 1e9) {
			at = append(at, plotter.XY{X: sessions, Y: s.drain(sessions, n, copies, m.changed)})
		}
		p.curve(fmt.Sprintf("%d nodes", n), at, nil)
	}
	return p, nil
}

// lossPicture draws the closed form, and dots that were simulated where that sees enough.
func (s *study) lossPicture(ctx context.Context) (*picture, error) {
	p := newPicture("Lost of a million sessions a year (dots: simulated, 10 nodes)", "hours that a failed node's copies are missing", "sessions")
	p.Legend.YOffs = -vg.Points(24) // between the first two curves
	for c := 1; c <= 3; c++ {
		g, err := s.groups(10, c)
		if err != nil {
			return nil, err
		}
		var at, dots plotter.XYs
		for _, hours := range steps(1.0/60, 168) {
			f := faults{s.MTBF.Seconds(), hours * 3600}
			at = append(at, plotter.XY{X: hours, Y: 1e6 * f.lostShare(c)})
		}
		for _, hours := range []float64{1, 6, 24, 96} {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if o := (faults{s.MTBF.Seconds(), hours * 3600}).simulate(g, s.Failures, s.Seed); o.events >= 20 {
				dots = append(dots, plotter.XY{X: hours, Y: 1e6 * o.lost / o.years})
			}
		}
		name := fmt.Sprintf("%d copies", c)
		if c == 1 {
			name = "1 copy"
		}
		p.curve(name, at, dots)
	}
	return p, nil
}

func (s *study) backgroundPicture(context.Context) (*picture, error) {
	p := newPicture("What one Client asks of its nodes unbidden (dots: measured)", "nodes", "commands a second")
	var at, dots plotter.XYs
	for _, n := range steps(3, 1000) {
		at = append(at, plotter.XY{X: n, Y: looks(int(math.Round(n)))})
	}
	for _, c := range s.m.Clients {
		if c.Up < c.Nodes {
			continue
		}
		dots = append(dots, plotter.XY{X: float64(c.Nodes), Y: c.Commands})
	}
	p.curve("all nodes together", at, dots)
	return p, nil
}
