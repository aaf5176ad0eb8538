package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plot is a bar for each system, with the spread of its rounds.
type plot struct {
	name, metric, title string
	scale               float64
	format              string
	log                 bool
}

var plots = []plot{
	{"tcp", "tcp1_mbps", "TCP, one stream, Gbit/s (more is better)", 1e-3, "%.2f", false},
	{"udp", "udp_kpps", "UDP of 1200 bytes, thousand packets/s (more is better)", 1, "%.0f", false},
	{"latency", "load_rtt_p99_us", "Round trip beside a saturating TCP stream, p99, ms (less is better)", 1e-3, "%.1f", true},
}

// Sizes of a plot, in pixels.
const (
	plotWidth  = 720
	labelWidth = 130
	valueWidth = 90
	barHeight  = 22
	barGap     = 10
	headHeight = 40
)

// svg draws the systems that have the metric.
func (p plot) svg(systems []string, c comparison) []byte {
	type bar struct {
		name string
		f    figure
	}
	var bars []bar
	most, least := 0., math.Inf(1)
	for _, s := range systems {
		if f, ok := c.table[s][p.metric]; ok && f.median > 0 {
			bars = append(bars, bar{s, f})
			most, least = max(most, f.high*p.scale), min(least, f.low*p.scale)
		}
	}
	length := func(v float64) float64 {
		room := float64(plotWidth - labelWidth - valueWidth)
		if most <= 0 || v <= 0 {
			return 0
		}
		if p.log {
			low := math.Log10(least) - 0.3
			return room * max(0, math.Log10(v)-low) / (math.Log10(most) - low)
		}
		return room * v / most
	}
	height := headHeight + len(bars)*(barHeight+barGap)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	title := p.title
	if p.log {
		title += ", logarithmic"
	}
	fmt.Fprintf(&b, `<text x="8" y="22" font-weight="bold">%s</text>`+"\n", html.EscapeString(title))
	for i, x := range bars {
		y := headHeight + i*(barHeight+barGap)
		middle := y + barHeight/2
		fill := "#9aa5b1"
		if strings.HasPrefix(x.name, "hnet") {
			fill = "#2f6fb2"
		}
		end := length(x.f.median * p.scale)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, middle+5, html.EscapeString(x.name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, end, barHeight, fill)
		low, high := labelWidth+length(x.f.low*p.scale), labelWidth+length(x.f.high*p.scale)
		fmt.Fprintf(&b, `<path d="M%.1f %dH%.1fM%.1f %dv8M%.1f %dv8" stroke="#333" fill="none"/>`+"\n", low, middle, high, low, middle-4, high, middle-4)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">`+p.format+`</text>`+"\n", high+8, middle+5, x.f.median*p.scale)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
