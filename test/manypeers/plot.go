package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

type point struct{ x, y float64 }

type curve struct {
	name   string
	points []point
}

// plot is some curves over a logarithmic number of peers.
type plot struct {
	title  string
	curves []curve
}

// Sizes of a plot, in pixels.
const (
	plotWidth, plotHeight = 640, 320
	left, right, top, low = 60, 150, 40, 40
)

var colours = []string{"#2f6fb2", "#9aa5b1", "#c2571a"}

func (p plot) svg() string {
	xmin, xmax, ymax := math.Inf(1), math.Inf(-1), 0.
	for _, c := range p.curves {
		for _, v := range c.points {
			xmin, xmax, ymax = min(xmin, v.x), max(xmax, v.x), max(ymax, v.y)
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(max(ymax, 1e-9))))
	for ymax/step < 3 {
		step /= 2
	}
	ymax = step * math.Ceil(ymax/step)
	x := func(v float64) float64 {
		return left + (plotWidth-left-right)*math.Log(v/xmin)/max(math.Log(xmax/xmin), 1e-9)
	}
	y := func(v float64) float64 { return plotHeight - low - (plotHeight-top-low)*v/ymax }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, plotHeight, plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="8" y="22" font-weight="bold">%s</text>`+"\n", html.EscapeString(p.title))
	for v := 0.; v <= ymax*1.001; v += step {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n", left, y(v), plotWidth-right, left-6, y(v)+5, v)
	}
	for v := xmin; v <= xmax*1.001; v *= 10 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(v), plotHeight-low+20, v)
	}
	for i, c := range p.curves {
		colour := colours[i%len(colours)]
		var line []string
		for _, v := range c.points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", x(v.x), y(v.y)))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x(v.x), y(v.y), colour)
		}
		last := c.points[len(c.points)-1]
		fmt.Fprintf(&b, `<polyline points="%s" stroke="%s" fill="none" stroke-width="1.5"/>`+"\n", strings.Join(line, " "), colour)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", x(last.x)+8, y(last.y)+5, colour, html.EscapeString(c.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
