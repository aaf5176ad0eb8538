package host

import (
	"bytes"
	"strings"
	"testing"
)

// states is how many states an in-place write of new over file passes through, cut at any byte.
func states(file, new []byte) int {
	return len(journal(file, new)) + len(new) + 3
}

// stateOf returns one of them.
func stateOf(file, new []byte, i int) []byte {
	j := journal(file, new)
	if i <= len(j) {
		return append(bytes.Clone(file), j[:i]...)
	}
	i -= len(j) + 1
	if i > len(new) {
		return new
	}
	return append(bytes.Clone(new[:i]), append(bytes.Clone(file), j...)[i:]...)
}

var contents = []string{
	"",
	"127.0.0.1 localhost\n",
	"127.0.0.1 localhost\nBEGIN\nfc94::1 a\nEND\n10.0.0.1 lidar\n",
	"127.0.0.1 localhost\nBEGIN\nfc94::1 a\nfc94::2 b\nfc94::3 c\nEND\n10.0.0.1 lidar\n\n\n",
	"127.0.0.1 localhost without an end of line",
	"\n\n",
	strings.Repeat("10.0.0.1 lidar\n", 50),
}

func TestJournalAtEveryByte(t *testing.T) {
	for _, old := range contents {
		for _, new := range contents {
			for i := range states([]byte(old), []byte(new)) {
				file := stateOf([]byte(old), []byte(new), i)
				content, _ := recoverJournal(file)
				if !isOldOrNew(string(content), old, new) {
					t.Fatalf("%q to %q, state %d: file %q stands for %q", old, new, i, file, content)
				}
			}
		}
	}
}

// isOldOrNew allows the few bytes of a mark cut very short behind the old content.
func isOldOrNew(content, old, new string) bool {
	rest, ok := strings.CutPrefix(content, old)
	return content == new || ok && len(rest) < minMark && strings.HasPrefix(journalMark, rest)
}

// TestJournalInterruptedRepair: the repair of an interrupted write is interrupted in turn.
func TestJournalInterruptedRepair(t *testing.T) {
	old, new, newer := contents[2], contents[3], contents[1]
	for i := range states([]byte(old), []byte(new)) {
		file := stateOf([]byte(old), []byte(new), i)
		if content, _ := recoverJournal(file); bytes.HasPrefix(file, content) {
			// The repair begins by cutting the rest off.
			continue
		}
		for k := range states(file, []byte(newer)) {
			again := stateOf(file, []byte(newer), k)
			content, _ := recoverJournal(again)
			// The few bytes may also stand behind the copy.
			if !isOldOrNew(string(content), new, newer) {
				t.Fatalf("states %d, %d: file %q stands for %q", i, k, again, content)
			}
		}
	}
}

func TestJournalLeavesOthersAppendices(t *testing.T) {
	old, new := contents[2], contents[3]
	file := append([]byte(old), journal([]byte(old), []byte(new))...)
	file = append(file, "10.0.0.9 late\n"...)
	if content, pending := recoverJournal(file); !pending || string(content) != new+"10.0.0.9 late\n" {
		t.Errorf("%v, %q", pending, content)
	}
}

func TestNoJournal(t *testing.T) {
	for _, file := range append(contents,
		"a\n"+journalMark+"nonsense\nb\n",
		"a\n"+journalMark+"-1 -1 -1 00\nb\n",
		"a\n"+journalMark+"99999999 3 3 00\nb\n",
		"a\n"+journalMark+"1 100 9223372036854775807 00\nb\n",
		"a\n"+journalMark+"0 9223372036854775807 9223372036854775807 00\nb\n",
		"a\n"+journalMark+"1 1 99999999999999999999 00\nb\n",
		journalMark[1:]+"0 0 0 00\n",
	) {
		if content, pending := recoverJournal([]byte(file)); pending || string(content) != file {
			t.Errorf("%q stands for %q", file, content)
		}
	}
}

func FuzzRecoverJournal(f *testing.F) {
	f.Add([]byte(contents[2]), []byte(contents[3]), uint16(100))
	f.Add([]byte(contents[3]), []byte(contents[1]), uint16(300))
	f.Add([]byte("a"+journalMark+"1 99 0 00\n"), []byte{}, uint16(7))
	f.Fuzz(func(t *testing.T, old, new []byte, at uint16) {
		if content, pending := recoverJournal(old); !pending && !bytes.Equal(content, old) || len(content) > len(old) {
			t.Fatalf("%q stands for %q", old, content)
		}
		for _, content := range [][]byte{old, new} {
			if _, pending := recoverJournal(content); pending {
				return
			}
		}
		state := int(at) % states(old, new)
		file := stateOf(old, new, state)
		if content, _ := recoverJournal(file); !isOldOrNew(string(content), string(old), string(new)) {
			t.Fatalf("%q to %q, state %d: file %q stands for %q", old, new, state, file, content)
		}
	})
}
