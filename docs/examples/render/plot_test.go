package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/docs/examples/internal/exampletest"
)

var plot = flag.String("plot", "", "measure, and draw the plot into this SVG `file`")

// TestPlot measures the speed-up by more elements, and the work that is lost when elements
// are killed. It is for the plot in docs/distributed-computing.md.
func TestPlot(t *testing.T) {
	if *plot == "" {
		t.Skip("without -plot")
	}
	var speedup, lost []point
	var alone time.Duration
	for _, n := range []int{1, 2, 4, 8, 12, 16} {
		took, _ := measure(t, n, 0)
		if n == 1 {
			alone = took
		}
		speedup = append(speedup, point{n, float64(alone) / float64(took)})
		t.Logf("%d elements: %v", n, took)
	}
	for _, kills := range []int{0, 2, 4, 6, 8} {
		_, again := measure(t, 16, kills)
		lost = append(lost, point{kills, 100 * float64(again) / float64(plotted.height)})
		t.Logf("%d elements killed: %d rows again", kills, again)
	}
	if err := os.WriteFile(*plot, []byte(svg(speedup, lost)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// plotted is the picture that is measured: each row takes 20 ms, which stands for a
// computer that is slower than this one.
var plotted = picture{width: 60, height: 960, tileRows: 20, limit: 50}

// measure draws with so many elements, of which some are killed, evenly over the time.
func measure(t *testing.T, elements, kills int) (took time.Duration, again int64) {
	t.Helper()
	s := newScope(t)
	var all []*exampletest.Process
	for range elements {
		all = append(all, s.element("-pace", "20ms"))
	}
	var mu sync.Mutex
	killed := 0
	d := drawing{picture: plotted, user: s.user(), pool: "render", parallel: elements}
	d.progress = func(rows int) {
		mu.Lock()
		defer mu.Unlock()
		if killed < kills && rows >= (killed+1)*plotted.height/(kills+1) {
			go all[killed].Kill()
			killed++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	if err := d.draw(ctx); err != nil {
		t.Fatal(err)
	}
	took = time.Since(began)
	for _, p := range all {
		p.Kill()
	}
	return took, d.again.Load()
}

type point struct {
	x int
	y float64
}

// svg draws both plots side by side.
func svg(speedup, lost []point) string {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" width="760" height="330" font-family="sans-serif" font-size="13">` +
		`<rect width="760" height="330" fill="white"/>`)
	panel(&b, 60, "speed-up", "elements", 16, 16, 4, speedup, true)
	panel(&b, 440, "rows calculated again, in %", "elements killed, of 16", 8, 10, 2, lost, false)
	b.WriteString("</svg>\n")
	return b.String()
}

func panel(b *strings.Builder, left float64, title, below string, maxX, maxY float64, step int, points []point, ideal bool) {
	const width, height, top = 280.0, 220.0, 45.0
	at := func(x, y float64) (float64, float64) { return left + x/maxX*width, top + height - y/maxY*height }
	fmt.Fprintf(b, `<text x="%.0f" y="25" font-weight="bold">%s</text>`, left, title)
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle">%s</text>`, left+width/2, top+height+42, below)
	for v := 0; v <= int(maxX); v += step {
		x, y := at(float64(v), 0)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">%d</text>`, x, y+18, v)
	}
	for v := 0; v <= int(maxY); v += step {
		x, y := at(0, float64(v))
		fmt.Fprintf(b, `<path d="M%.1f %.1fh%.0f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%d</text>`, x, y, width, x-8, y+4, v)
	}
	if ideal {
		x0, y0 := at(0, 0)
		x1, y1 := at(maxX, maxY)
		fmt.Fprintf(b, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#999" stroke-dasharray="4"/>`, x0, y0, x1, y1)
	}
	line := ""
	for i, p := range points {
		x, y := at(float64(p.x), p.y)
		line += fmt.Sprintf("%c%.1f %.1f", "ML"[min(i, 1)], x, y)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="#06c"/>`, x, y)
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="#06c" stroke-width="2"/>`, line)
}
