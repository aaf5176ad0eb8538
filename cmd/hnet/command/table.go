package command

import (
	"strings"
	"unicode/utf8"
)

// style is an ANSI sequence, or "" for plain text.
type style string

const (
	plain  style = ""
	bold   style = "\x1b[1m"
	dim    style = "\x1b[2m"
	red    style = "\x1b[31m"
	green  style = "\x1b[32m"
	yellow style = "\x1b[33m"
)

func (s style) paint(text string, colour bool) string {
	if s == plain || !colour || text == "" {
		return text
	}
	return string(s) + text + "\x1b[0m"
}

// colour tells whether the output may carry colours.
func (a *app) colour() bool {
	_, _, terminal := a.Terminal()
	return terminal && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
}

// width is how many characters a line may have; 0 = any number.
func (a *app) width() int {
	width, _, terminal := a.Terminal()
	if !terminal {
		return 0
	}
	return width
}

type cell struct {
	text  string
	style style
}

// column is a table's. On a narrow terminal those with the highest spare go first, those with 0 never.
type column struct {
	head  string
	right bool // aligned
	spare int
}

type table struct {
	columns []column
	rows    [][]cell
}

const gap = "  "

// lines lays the table out. Columns align, nothing ends in blanks, and what does not fit the width (0 = any) is cut.
func (t table) lines(width int, colour bool) []string {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.head)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	shown := t.choose(widths, width)
	head := make([]cell, len(t.columns))
	for i, c := range t.columns {
		head[i] = cell{c.head, bold}
	}
	lines := make([]string, 0, len(t.rows)+1)
	for _, row := range append([][]cell{head}, t.rows...) {
		var line strings.Builder
		room, blanks := width, 0
		if width <= 0 {
			room = 1 << 20
		}
		for n, i := range shown {
			if n > 0 {
				blanks += len(gap)
			}
			text := row[i].text
			pad := widths[i] - utf8.RuneCountInString(text)
			if t.columns[i].right {
				blanks += pad
				pad = 0
			}
			if text != "" && room > blanks {
				line.WriteString(strings.Repeat(" ", blanks))
				room -= blanks
				blanks = 0
				text = cut(text, room)
				room -= utf8.RuneCountInString(text)
				line.WriteString(row[i].style.paint(text, colour))
			}
			blanks += pad
		}
		lines = append(lines, line.String())
	}
	return lines
}

// choose returns the columns that fit.
func (t table) choose(widths []int, width int) []int {
	shown, total := make([]int, len(widths)), -len(gap)
	for i, w := range widths {
		shown[i] = i
		total += w + len(gap)
	}
	for width > 0 && total > width {
		drop := -1
		for n, i := range shown {
			if s := t.columns[i].spare; s > 0 && (drop < 0 || s > t.columns[shown[drop]].spare) {
				drop = n
			}
		}
		if drop < 0 {
			break
		}
		total -= widths[shown[drop]] + len(gap)
		shown = append(shown[:drop], shown[drop+1:]...)
	}
	return shown
}

// cut shortens text to room characters.
func cut(text string, room int) string {
	if utf8.RuneCountInString(text) <= room {
		return text
	}
	return string([]rune(text)[:max(room, 0)])
}

func (t table) render(width int, colour bool) string {
	return strings.Join(t.lines(width, colour), "\n") + "\n"
}

// sheet lays out pairs of a name and a value, one per line.
func sheet(colour bool, pairs ...[2]string) string {
	wide := 0
	for _, p := range pairs {
		wide = max(wide, len(p[0]))
	}
	var out strings.Builder
	for _, p := range pairs {
		out.WriteString(dim.paint(p[0], colour) + strings.Repeat(" ", wide-len(p[0])) + gap + p[1] + "\n")
	}
	return out.String()
}

// printable replaces what could steer a terminal, in text that came from elsewhere.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
