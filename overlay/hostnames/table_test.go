package hostnames

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

var compare = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestNormalize(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	long := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	tests := []struct{ name, want, why string }{
		{"robot1", "robot1", ""},
		{"Robot-1", "robot-1", ""},
		{"1robot", "1robot", ""},
		{"a", "a", ""},
		{"arm.robot1.lab", "arm.robot1.lab", ""},
		{"xn--bcher-kva", "xn--bcher-kva", ""},
		{"1.2.3.robot", "1.2.3.robot", ""},
		{"0xyz", "0xyz", ""},
		{label63, label63, ""},
		{long, long, ""},
		{"", "", "empty"},
		{label63 + "a", "", "64 characters, 63 at most"},
		{long + "c", "", "254 characters, 253 at most"},
		{"-a", "", "hyphen"},
		{"a-", "", "hyphen"},
		{"a.-b", "", "hyphen"},
		{"a..b", "", "empty"},
		{".a", "", "empty"},
		{"a.", "", "empty"},
		{"robot_1", "", "use a hyphen"},
		{"robot 1", "", "only letters"},
		{"robot\n1", "", "only letters"},
		{"robot#1", "", "only letters"},
		{"bücher", "", "only letters"},
		{"\u212Aelvin", "", "only letters"}, // the Kelvin sign, whose lower case is an ASCII k
		{"fc94::1", "", "only letters"},
		{"10.0.0.1", "", "IPv4"},
		{"127.1", "", "IPv4"},
		{"4711", "", "IPv4"},
		{"0x7f000001", "", "IPv4"},
		{"robot.0x", "", "IPv4"},
		{"robot.1", "", "IPv4"},
		{"localhost", "", "meaning"},
		{"LocalHost", "", "meaning"},
		{"x.localhost", "", "meaning"},
		{"ip6-allnodes", "", "meaning"},
		{strings.Repeat("x\n", 1<<20), "", "at most"},
	}
	for _, tt := range tests {
		got, err := Normalize(tt.name)
		if tt.why == "" {
			if err != nil || got != tt.want {
				t.Errorf("%q: %q, %v", tt.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%.80q: %q, %v; want an error with %q", tt.name, got, err, tt.why)
		} else if len(err.Error()) > 500 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80q: error of %d bytes: %.100q", tt.name, len(err.Error()), err)
		}
	}
}

func open(t *testing.T, path string) *Table {
	t.Helper()
	table, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostnames.json")
	table := open(t, path)
	if len(table.List()) != 0 {
		t.Errorf("a new table has %v", table.List())
	}
	want := []Name{
		{Name: "alpha", Address: a1, Source: "dashboard"},
		{Name: "robot1", Address: a1, Source: "local"},
		{Name: "robot2", Address: a2, Source: "local"},
	}
	for _, i := range []int{1, 0, 2} {
		n := want[i]
		n.Name = strings.ToUpper(n.Name)
		if got, err := table.Add(n); err != nil || got != want[i] {
			t.Fatalf("Add: %v, %v", got, err)
		}
	}
	if _, err := table.Add(want[1]); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, table := range []*Table{table, open(t, path)} {
		if diff := cmp.Diff(want, table.List(), compare); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if n, ok := table.Lookup("ROBOT2"); !ok || n != want[2] {
			t.Errorf("Lookup: %v, %v", n, ok)
		}
		if n, ok := table.Lookup("robot3"); ok {
			t.Errorf("Lookup finds %v", n)
		}
		if n, ok := table.Reverse(a1); !ok || n.Name != "alpha" {
			t.Errorf("Reverse: %v, %v", n, ok)
		}
		if n, ok := table.Reverse(netip.MustParseAddr("fc94::3")); ok {
			t.Errorf("Reverse finds %v", n)
		}
	}

	if _, err := table.Add(Name{Name: "robot1", Address: a2}); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), a1.String()) {
		t.Errorf("a taken name: %v", err)
	}
	if n, err := table.Remove("Alpha"); err != nil || n != want[0] {
		t.Errorf("Remove: %v, %v", n, err)
	}
	if _, err := table.Remove("alpha"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove again: %v", err)
	}
	for _, table := range []*Table{table, open(t, path)} {
		if diff := cmp.Diff(want[1:], table.List(), compare); diff != "" {
			t.Errorf("after Remove (-want +got)\n%s", diff)
		}
		if n, _ := table.Reverse(a1); n.Name != "robot1" {
			t.Errorf("Reverse after Remove: %v", n)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostnames.json")
	table := open(t, path)
	table.own = "this-host"
	for _, n := range []Name{
		{},
		{Name: "robot1"},
		{Address: a1},
		{Name: "robot_1", Address: a1},
		{Name: "localhost", Address: a1},
		{Name: "This-Host", Address: a1},
		{Name: "bank.example", Address: netip.MustParseAddr("203.0.113.6")},
		{Name: "robot1", Address: netip.MustParseAddr("fd94::1")},
		{Name: "robot1", Address: a1.WithZone("eth0")},
	} {
		if got, err := table.Add(n); err == nil {
			t.Errorf("%+v is added as %+v", n, got)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was stored: %v", err)
	}
}

func TestTableIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostnames.json")
	f := file{Version: fileVersion}
	for i := range MaxNames {
		f.Names = append(f.Names, Name{Name: fmt.Sprint("robot-", i), Address: a1, Source: "local"})
	}
	if err := statefile.WriteJSON(path, f, 0o600); err != nil {
		t.Fatal(err)
	}
	table := open(t, path)
	if _, err := table.Add(Name{Name: "one-more", Address: a1}); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	if _, err := table.Add(Name{Name: "robot-5", Address: a1, Source: "dashboard"}); err != nil {
		t.Errorf("an update of a full table: %v", err)
	}
	f.Names = append(f.Names, Name{Name: "one-more", Address: a1})
	if err := statefile.WriteJSON(path, f, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, statefile.ErrDamaged) {
		t.Errorf("a file of too many: %v", err)
	}
}

func TestFailedChangeDoesNotHappen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	table := open(t, filepath.Join(dir, "hostnames.json"))
	want := Name{Name: "robot1", Address: a1}
	if _, err := table.Add(want); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Add(Name{Name: "robot2", Address: a2}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Add: %v", err)
	}
	if _, err := table.Remove("robot1"); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Remove: %v", err)
	}
	if diff := cmp.Diff([]Name{want}, table.List(), compare); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostnames.json")
	for _, content := range []string{
		``, `{`, `null`, `{}`, `{"version":2,"names":[]}`, `{"version":1,"names":[{}]}`, `{"version":1,"names":null,"more":1}`,
		`{"version":1,"names":[{"name":"a b","address":"fc94::1","source":""}]}`,
		`{"version":1,"names":[{"name":"a","address":"10.0.0.1","source":""}]}`,
		`{"version":1,"names":[{"name":"a","address":"fc94::1","source":""},{"name":"A","address":"fc94::2","source":""}]}`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		if !errors.Is(err, statefile.ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", content, err)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%s was changed to %s", content, b)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostnames.json")
	table := open(t, path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := table.Add(Name{Name: fmt.Sprint("robot-", i), Address: a1}); err != nil {
				t.Error(err)
			}
			table.Lookup("robot-0")
			table.Reverse(a1)
			table.List()
		})
	}
	wg.Wait()
	if n := len(open(t, path).List()); n != 8 {
		t.Errorf("%d names are stored, want 8", n)
	}
}

func TestNameJSON(t *testing.T) {
	b, err := json.Marshal(Name{Name: "robot1", Address: a1, Source: "local"})
	if want := `{"name":"robot1","address":"fc94::1","source":"local"}`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}
