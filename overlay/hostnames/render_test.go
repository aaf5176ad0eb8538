package hostnames

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	a1 = netip.MustParseAddr("fc94::1")
	a2 = netip.MustParseAddr("fc94::2")
)

// lines joins lines that each end in a newline.
func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

func TestRender(t *testing.T) {
	robots := []Name{{Name: "robot2", Address: a2}, {Name: "robot1", Address: a1}}
	block := lines(beginMark, "fc94::1 robot1", "fc94::2 robot2", endMark)
	const user = "127.0.0.1 localhost\n"
	tests := []struct {
		name     string
		existing string
		names    []Name
		want     string
	}{
		{"nothing at all", "", nil, ""},
		{"no names, no block", user, nil, user},
		{"an empty file", "", robots, block},
		{"a new block at the end", user, robots, user + block},
		{"the same again", user + block, robots, user + block},
		{"removed", user + block + user, nil, user + user},
		{"in the middle", user + lines(beginMark, "fc94::9 old", endMark) + "10.0.0.1 x\n", robots, user + block + "10.0.0.1 x\n"},
		{"at the beginning", lines(beginMark, endMark) + user, robots, block + user},
		{"no newline at the end", "127.0.0.1 localhost", robots, user + block},
		{"no newline at the end, no names", "127.0.0.1 localhost", nil, "127.0.0.1 localhost"},
		{"no newline after the end mark", user + strings.TrimSuffix(block, "\n"), robots, user + block},
		{"CRLF stays outside the block", "127.0.0.1 localhost\r\n# x\r\n", robots, "127.0.0.1 localhost\r\n# x\r\n" + block},
		{"a block converted to CRLF", "a\r\n" + strings.ReplaceAll(block, "\n", "\r\n") + "b\r\n", robots, "a\r\n" + block + "b\r\n"},
		{"CRLF and no names", "a\r\n" + strings.ReplaceAll(block, "\n", "\r\n") + "b\r\n", nil, "a\r\nb\r\n"},
		{"marks indented", "a\n  " + beginMark + " \nfc94::9 old\n\t" + endMark + "\nb\n", robots, "a\n" + block + "b\n"},
		{"two blocks", user + block + "b\n" + lines(beginMark, "fc94::9 old", endMark) + "c\n", robots, user + block + "b\nc\n"},
		{"what users write into the block is lost", user + lines(beginMark, "10.0.0.9 mine", endMark), robots, user + block},
		{"no end mark", user + lines(beginMark, "fc94::9 old", leftOut+"x", "10.0.0.9 mine", "fc94::8 a b"), robots, user + block + "10.0.0.9 mine\nfc94::8 a b\n"},
		{"no end mark, nothing else", user + beginMark, robots, user + block},
		{"no end mark, no names", user + lines(beginMark, "fc94::9 old", "10.0.0.9 mine"), nil, user + "10.0.0.9 mine\n"},
		{"no end mark before a whole block", lines(beginMark, "fc94::9 old", "10.0.0.9 mine") + block + user, robots, block + "10.0.0.9 mine\n" + user},
		{"a line glued to the end mark", user + lines(beginMark, "fc94::9 old", endMark+"10.0.0.9 mine"), robots, user + block + endMark + "10.0.0.9 mine\n"},
		{"an end mark alone is nobody's", user + endMark + "\n" + user, robots, user + endMark + "\n" + user + block},
		{"other marks are not ours", "# BEGIN hnet\nx\n# END hnet2\n", robots, "# BEGIN hnet\nx\n# END hnet2\n" + block},
		{"the user's own line wins", "192.168.1.5 Robot2 r2 # arm\n", robots, "192.168.1.5 Robot2 r2 # arm\n" + lines(beginMark, "fc94::1 robot1", leftOut+"robot2", endMark)},
		{"also after the block", block + "192.168.1.5 r2 robot2\n", robots, lines(beginMark, "fc94::1 robot1", leftOut+"robot2", endMark) + "192.168.1.5 r2 robot2\n"},
		{"and no longer when it is gone", lines(beginMark, "fc94::1 robot1", leftOut+"robot2", endMark), robots, block},
		{"a comment is no line of his", "# 192.168.1.5 robot2\n", robots, "# 192.168.1.5 robot2\n" + block},
		{"nor is one without an address", "host robot2\n", robots, "host robot2\n" + block},
		{"all names his", "fc94::1 robot1\nfc94::2 robot2\n", robots, "fc94::1 robot1\nfc94::2 robot2\n" + lines(beginMark, leftOut+"robot1", leftOut+"robot2", endMark)},
		{"a name twice", "", []Name{{Name: "robot1", Address: a1}, {Name: "Robot1", Address: a2}}, lines(beginMark, "fc94::1 robot1", endMark)},
		{"two names of an address", "", []Name{{Name: "b", Address: a1}, {Name: "a", Address: a1}}, lines(beginMark, "fc94::1 a", "fc94::1 b", endMark)},
		{"names that are none", user, []Name{
			{Name: "evil\n6.6.6.6 bank.example", Address: a1}, {Name: "", Address: a1}, {Name: "x y", Address: a1}, {Name: "localhost", Address: a1},
			{Name: "x", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "y"}, {Name: "z", Address: a1.WithZone("\n6.6.6.6 bank.example")},
		}, user},
		{"bytes that are no text", "\xff\xfe\x00\n", robots, "\xff\xfe\x00\n" + block},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			existing, names := []byte(tt.existing), slices.Clone(tt.names)
			got := Render(existing, names)
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if again := Render(got, names); !bytes.Equal(got, again) {
				t.Errorf("the second time\n%s", again)
			}
			if string(existing) != tt.existing || !slices.Equal(names, tt.names) {
				t.Error("the arguments were changed")
			}
		})
	}
}

func FuzzRender(f *testing.F) {
	block := lines(beginMark, "fc94::1 robot1", leftOut+"x", endMark)
	f.Add([]byte("127.0.0.1 localhost\n"+block+"10.0.0.1 robot1 # x\r\n"), "robot1", "Robot2")
	f.Add([]byte(block+beginMark+"\nfc94::3 c\nuser"), "a", "a")
	f.Add([]byte(endMark+"\n"+beginMark), "x\n1.1.1.1 y", "")
	f.Fuzz(func(t *testing.T, existing []byte, name1, name2 string) {
		names := []Name{{Name: name1, Address: a1}, {Name: name2, Address: a2}}
		before := bytes.Clone(existing)
		got := Render(existing, names)
		if !bytes.Equal(existing, before) {
			t.Fatal("the argument was changed")
		}
		if again := Render(got, names); !bytes.Equal(got, again) {
			t.Fatalf("rendered once\n%q\ntwice\n%q", got, again)
		}
		// Outside of the block is what is left without names; it stays but for the end of its last line.
		bare, outside := Render(existing, nil), Render(got, nil)
		if !bytes.Equal(bare, outside) && !bytes.Equal(append(bytes.Clone(bare), '\n'), outside) {
			t.Fatalf("outside of the block was\n%q\nand is\n%q", bare, outside)
		}
		if !bytes.Contains(existing, []byte(beginMark)) && !bytes.HasPrefix(got, existing) {
			t.Fatalf("no block was there and what was changed:\n%q\n%q", existing, got)
		}
		for line := range bytes.Lines(bare) {
			if isMark(line, beginMark) {
				t.Fatalf("a begin mark outlived:\n%q", bare)
			}
		}
		// Every line of the block is ours, so no name smuggled in another.
		in := false
		for line := range bytes.Lines(got) {
			switch {
			case isMark(line, beginMark):
				in = true
			case in && isMark(line, endMark):
				in = false
			case in && !isOurs(line):
				t.Fatalf("line %q in the block", line)
			}
		}
		if in {
			t.Fatalf("no end mark:\n%q", got)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	var names []Name
	for i := range MaxNames {
		names = append(names, Name{Name: fmt.Sprint("robot", i), Address: a1})
	}
	file := Render([]byte("127.0.0.1 localhost\n"), names)
	for b.Loop() {
		Render(file, names)
	}
}
