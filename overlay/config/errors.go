package config

import (
	"fmt"
	"slices"
)

// Error is a mistake in the configuration.
type Error struct {
	File string
	Line int // 0 if it concerns the file as a whole
	Text string
}

// Error is one line: "FILE:LINE: TEXT".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// nearest is the word that takes the fewest edits to become s; of equals the first in the alphabet.
func nearest(s string, words []string) string {
	best, bestDistance := "", 0
	for _, w := range slices.Sorted(slices.Values(words)) {
		if d := distance(s, w); best == "" || d < bestDistance {
			best, bestDistance = w, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into b.
func distance(a, b string) int {
	// A long key can only be far from ours: its head decides which is nearest, at a bounded cost.
	const enough = 64
	a, b = a[:min(len(a), enough)], b[:min(len(b), enough)]
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
