package hostnames

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

const (
	beginMark = "# BEGIN hnet (managed by hnetd; changes here are lost)"
	endMark   = "# END hnet"
	leftOut   = "# left out, as a line outside this block has that name: "
)

// Render returns the hosts file existing with the names in its marked block, one line each in alphabetical order. The
// block stays where it is; a new one goes to the end. Nothing outside of it changes, but that a last line without
// an end gets one before a new block. Without names there is no block. Rendering twice is as rendering once.
//
// A name that a line outside the block has already is left out, with a comment that says so: resolvers put together all
// lines of a name and prefer IPv6, so ours would win over the user's own wherever it stood. Of several
// entries with one name the first counts; entries that are not valid are left out.
//
// Several blocks become one, in the place of the first. Where the end mark is missing, the block is taken to end where its
// lines no longer look like ours, so that nothing else is lost.
func Render(existing []byte, names []Name) []byte {
	outside, at := cut(existing)
	block := render(names, definedIn(outside))
	if len(block) == 0 {
		return outside
	}
	before, after := outside[:at], outside[at:]
	out := make([]byte, 0, len(outside)+len(block)+1)
	out = append(out, before...)
	if len(before) > 0 && before[len(before)-1] != '\n' {
		out = append(out, '\n')
	}
	out = append(out, block...)
	return append(out, after...)
}

// cut takes our blocks out of a hosts file, and tells where the first was: at the end if there was none.
func cut(file []byte) (outside []byte, at int) {
	lines := slices.Collect(bytes.Lines(file))
	outside = make([]byte, 0, len(file))
	at = -1
	for i := 0; i < len(lines); {
		if !isMark(lines[i], beginMark) {
			outside = append(outside, lines[i]...)
			i++
			continue
		}
		if at < 0 {
			at = len(outside)
		}
		i = blockEnd(lines, i+1)
	}
	if at < 0 {
		at = len(outside)
	}
	return outside, at
}

// blockEnd returns the index of the first line after the block whose lines begin at i.
func blockEnd(lines [][]byte, i int) int {
	for j := i; j < len(lines) && !isMark(lines[j], beginMark); j++ {
		if isMark(lines[j], endMark) {
			return j + 1
		}
	}
	for i < len(lines) && isOurs(lines[i]) {
		i++
	}
	return i
}

func isMark(line []byte, mark string) bool {
	return string(bytes.TrimSpace(line)) == mark
}

// isOurs tells whether a line is as render writes them between the marks.
func isOurs(line []byte) bool {
	text := strings.TrimSpace(string(line))
	if strings.HasPrefix(text, leftOut) {
		return true
	}
	address, name, _ := strings.Cut(text, " ")
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	_, err = check(Name{Name: name, Address: a})
	return err == nil
}

// definedIn returns the names in a hosts file, in lower case.
func definedIn(file []byte) map[string]bool {
	defined := make(map[string]bool)
	for line := range bytes.Lines(file) {
		text, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		if _, err := netip.ParseAddr(fields[0]); err != nil {
			continue
		}
		for _, name := range fields[1:] {
			defined[strings.ToLower(name)] = true
		}
	}
	return defined
}

// render returns the block, empty if there are no names for it.
func render(names []Name, defined map[string]bool) []byte {
	valid := make([]Name, 0, len(names))
	for _, n := range names {
		// Whoever built the list: a line break in a name must not become a line in a system file.
		if n, err := check(n); err == nil {
			valid = append(valid, n)
		}
	}
	slices.SortStableFunc(valid, func(a, b Name) int { return cmp.Compare(a.Name, b.Name) })
	valid = slices.CompactFunc(valid, func(a, b Name) bool { return a.Name == b.Name })
	if len(valid) == 0 {
		return nil
	}
	var b bytes.Buffer
	b.WriteString(beginMark + "\n")
	for _, n := range valid {
		if defined[n.Name] {
			b.WriteString(leftOut + n.Name + "\n")
			continue
		}
		b.WriteString(n.Address.String() + " " + n.Name + "\n")
	}
	b.WriteString(endMark + "\n")
	return b.Bytes()
}
