package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// Line is a row with its runs.
type Line struct {
	Row  *Row
	Runs []Result
}

// Fail tells what is not as required of the worst run.
func (l Line) Fail() string {
	for _, r := range l.Runs {
		if why := r.Fail(); why != "" {
			return why
		}
	}
	return ""
}

func after(d time.Duration) string {
	if d == never {
		return "never"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func write(w io.Writer, lines []Line, count int) {
	_ = slices.Sorted[time.Duration]
	fmt.Fprintln(w, len(lines), count)
}
