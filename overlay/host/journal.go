package host

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

const (
	// journalMark begins the line that announces a copy of the whole new content, for resolvers a comment.
	journalMark = "\n# hnetd is changing this file; if this line stays, hnetd repairs it at its next start: "

	// minMark is how much of a mark cut short is taken for ours.
	minMark = len("\n# hnetd is")
)

// journal returns what to append to a file of content old before it is overwritten with content new: a line that tells
// the length of old and the place, length and hash of a copy of new, blank lines until past the end of new, the same line
// again, and the copy.
//
// With the copy safely on disk, the file can be overwritten from its beginning and then cut to its new length. If that
// stops half-way, recoverJournal finds the copy. If writing the copy stops half-way, the old content is intact, and the
// first line tells where it ends.
func journal(old, new []byte) []byte {
	// The line holds the copy's place, which depends on the line's own length: hence numbers of fixed width.
	line := fmt.Appendf(nil, "%s%08d %08d %08d %x\n", journalMark, len(old), 0, len(new), sha256.Sum256(new))
	pad := bytes.Repeat([]byte{'\n'}, max(0, len(new)-len(old)-len(line)))
	at := len(old) + len(line) + len(pad) + len(line)
	line = fmt.Appendf(nil, "%s%08d %08d %08d %x\n", journalMark, len(old), at, len(new), sha256.Sum256(new))
	return bytes.Join([][]byte{line, pad, line, new}, nil)
}

// recoverJournal returns the content that a hosts file stands for, and whether an interrupted write has to be repaired.
// Of a mark cut short it may leave the first few bytes, an empty comment.
func recoverJournal(file []byte) (content []byte, interrupted bool) {
	content = file
	for {
		// A repair can be interrupted too: then there is a journal within a journal.
		inner, found := recoverOnce(content)
		if !found {
			return content, interrupted
		}
		content, interrupted = inner, true
	}
}

func recoverOnce(file []byte) (content []byte, found bool) {
	for n := len(journalMark) - 1; n >= minMark; n-- {
		if content, found := bytes.CutSuffix(file, []byte(journalMark[:n])); found {
			return content, true
		}
	}
	at := bytes.LastIndex(file, []byte(journalMark))
	if at < 0 {
		return nil, false
	}
	line, _, whole := bytes.Cut(file[at+len(journalMark):], []byte{'\n'})
	if !whole {
		return file[:at], true
	}
	var oldLen, copyAt, newLen int
	var sum []byte
	n, _ := fmt.Sscanf(string(line), "%d %d %d %x", &oldLen, &copyAt, &newLen, &sum)
	if n != 4 || oldLen < 0 || oldLen > at || copyAt < at || newLen < 0 || newLen > maxHosts || len(sum) != sha256.Size {
		return nil, false
	}
	if copyAt <= len(file) && newLen <= len(file)-copyAt {
		if got := sha256.Sum256(file[copyAt : copyAt+newLen]); bytes.Equal(got[:], sum) {
			// What follows the copy was appended by others since.
			return file[copyAt:], true
		}
	}
	// Only our own line and blank ones may stand between the old content and this line.
	if between := bytes.Trim(file[oldLen:at], "\n"); len(between) == 0 || string(between) == journalMark[1:]+string(line) {
		return file[:oldLen], true
	}
	return nil, false
}
