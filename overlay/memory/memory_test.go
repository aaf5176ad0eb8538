package memory

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestConstant(t *testing.T) {
	const program = "/usr/bin/hnetd"
	for name, test := range map[string]struct {
		line       string
		start, end uintptr
		ok         bool
	}{
		"code":           {"00400000-00a72000 r-xp 00000000 fe:00 7 /usr/bin/hnetd\n", 0x400000, 0xa72000, true},
		"constants":      {"00a72000-0111a000 r--p 00672000 fe:00 7                  /usr/bin/hnetd\n", 0xa72000, 0x111a000, true},
		"data":           {"0111a000-01198000 rw-p 00d1a000 fe:00 7 /usr/bin/hnetd\n", 0, 0, false},
		"another file":   {"00400000-00a72000 r-xp 00000000 fe:00 7 /usr/lib/usr/bin/hnetd\n", 0, 0, false},
		"a newer file":   {"00400000-00a72000 r-xp 00000000 fe:00 7 /usr/bin/hnetd (deleted)\n", 0, 0, false},
		"no file":        {"c000000000-c000400000 rw-p 00000000 00:00 0 \n", 0, 0, false},
		"shared":         {"00400000-00a72000 r--s 00000000 fe:00 7 /usr/bin/hnetd\n", 0, 0, false},
		"not a range":    {"x-y r-xp 00000000 fe:00 7 /usr/bin/hnetd\n", 0, 0, false},
		"ends before":    {"00a72000-00400000 r-xp 00000000 fe:00 7 /usr/bin/hnetd\n", 0, 0, false},
		"not to its end": {"00400000-00a72000 r-xp", 0, 0, false},
	} {
		start, end, ok := constant([]byte(test.line), program)
		if ok != test.ok || ok && (start != test.start || end != test.end) {
			t.Errorf("%s: %x to %x, %v", name, start, end, ok)
		}
	}
}

// TestGiveBack: there is less of the program's file in memory than before, and the program goes on.
func TestGiveBack(t *testing.T) {
	mapped := func() (kB int) {
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Skip(err)
		}
		for line := range bytes.Lines(b) {
			if _, err := fmt.Sscanf(string(line), "RssFile: %d kB", &kB); err == nil {
				return kB
			}
		}
		t.Skip("no RssFile here")
		return 0
	}
	program, err := os.ReadFile("/proc/self/exe") // what is not in the page cache is not mapped along
	if err != nil {
		t.Skip(err)
	}
	t.Logf("%d bytes of program, %d kB of files mapped", len(program), mapped())
	touched := 0
	for _, word := range strings.Fields(strings.Repeat("a b ", 1000)) {
		touched += len(word)
	}
	before := mapped()
	if err := GiveBack(); err != nil {
		t.Fatal(err)
	}
	after := mapped()
	t.Logf("%d kB before, %d after, %d", before, after, touched)
	if after >= before {
		t.Errorf("%d kB of files mapped before, %d after", before, after)
	}
}
