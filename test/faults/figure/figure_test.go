package figure

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDraw(t *testing.T) {
	p := Picture{Title: "a fault", From: 0, To: int64(3 * time.Second), Marks: []Mark{{int64(time.Second), "it happens"}}}
	for at := int64(0); at < p.To; at += int64(5 * time.Millisecond) {
		p.Samples = append(p.Samples, Sample{Call: at, Return: at + at/1000 + 200_000, Failed: at%7 == 0})
	}
	dir := t.TempDir()
	for _, name := range []string{"new/a.svg", "b.png"} {
		file := filepath.Join(dir, name)
		if err := Draw(file, p); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(name) == ".svg" {
			for _, want := range []string{"<svg", "it happens", "operations a second"} {
				if !bytes.Contains(b, []byte(want)) {
					t.Errorf("%s holds no %q", name, want)
				}
			}
			continue
		}
		if _, err := png.Decode(bytes.NewReader(b)); err != nil {
			t.Error(err)
		}
	}
	if err := Draw(filepath.Join(dir, "c.svg"), Picture{To: int64(time.Second)}); err != nil {
		t.Errorf("nothing to draw: %v", err)
	}
}
