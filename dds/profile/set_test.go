package profile

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestSetAndStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dds")
	store := func(p Params) []string {
		t.Helper()
		files, err := Set(p, dir, Cyclone010)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := Store(dir, files)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	all := []string{CycloneFile, Cyclone11File, FastDDSFile, FastDDS3File, ZenohRouterFile, ZenohSessionFile, EnvironmentFile}
	p := own()
	if got := store(p); !slices.Equal(got, all) {
		t.Errorf("written: %v", got)
	}
	if got := store(p); got != nil {
		t.Errorf("written again: %v", got)
	}
	for _, name := range all {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}

	// Only what depends on a change changes.
	p.Peers = addrs("fc94::2")
	if got := store(p); !slices.Equal(got, []string{ZenohRouterFile}) {
		t.Errorf("with a peer: %v", got)
	}
	p.Limits = Limits{Receive: 1 << 20}
	if got := store(p); !slices.Equal(got, all[:4]) {
		t.Errorf("with a limit: %v", got)
	}
	if err := os.Chmod(filepath.Join(dir, FastDDSFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := store(p); !slices.Equal(got, []string{FastDDSFile}) {
		t.Errorf("unreadable for others: %v", got)
	}

	// Too many routers leave that file out, nonsense all.
	for i := range MaxRouters + 1 {
		a := netip.MustParseAddr("fc94::1:0:0").As16()
		a[14], a[15] = byte(i>>8), byte(i)
		p.Peers = append(p.Peers, netip.AddrFrom16(a))
	}
	files, err := Set(p, dir, Cyclone010)
	if len(files) != len(all)-1 || err == nil || !strings.Contains(err.Error(), ZenohRouterFile+" is not written: DDS profile: 1026 peers") {
		t.Errorf("%d files, %v", len(files), err)
	}
	p.Address = netip.Addr{}
	if files, err := Set(p, dir, Cyclone010); files != nil || err == nil {
		t.Errorf("%v, %v", files, err)
	}
}

func TestStoreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Store(filepath.Join(file, "dds"), []File{{"a", nil}}); err == nil || !strings.Contains(err.Error(), "correct dds.dir") {
		t.Errorf("%v", err)
	}
}

func TestCheckZenoh(t *testing.T) {
	p := own()
	p.Peers = addrs("fc94::2", "fc94::3")
	text, err := ZenohRouter(p)
	if err != nil {
		t.Fatal(err)
	}
	if problem := CheckZenoh(text, p); problem != nil {
		t.Error(*problem)
	}
	p.Peers = append(p.Peers, netip.MustParseAddr("fc94::4"))
	if problem := CheckZenoh(text, p); problem == nil || !problem.Stale || !strings.Contains(problem.Text, "fc94::4") {
		t.Errorf("%+v", problem)
	}
	if problem := CheckZenoh(text[:len(text)/2], p); problem == nil || problem.Stale {
		t.Errorf("%+v", problem)
	}
}

func TestZenohModes(t *testing.T) {
	for mode, want := range map[Mode][]any{
		Overlay: {"tcp/[fc94:6b5d:f8ee:c7bc:9e9b:7f36:b0a:11d1]:7447", "tcp/localhost:7447"}, Both: {"tcp/[::]:7447"},
	} {
		p := own()
		p.Mode = mode
		text, err := ZenohRouter(p)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parseJSON5(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]any{"endpoints": want}, v.(map[string]any)["listen"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", mode, diff)
		}
	}
}

func TestJSON5(t *testing.T) {
	for text, want := range map[string]any{
		`{a: 1, 'b': [true, null, -2.5,], "c": "x\"y", /* d */ } // e`: map[string]any{"a": 1.0, "b": []any{true, nil, -2.5}, "c": `x"y`},
		`[]`: []any{}, `"a"`: "a", ` 3 `: 3.0,
	} {
		got, err := parseJSON5([]byte(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"": "line 1: it ends too early", "{\na": "line 2: it ends too early", "{a:1 b:2}": "a comma is missing", "{a 1}": "a colon is missing",
		"{a:1, a:2}": "a is there twice", "[1] 2": "something follows", "\"a\nb\"": "a text has no end", "/* a": "too early", "[nan5]": `"nan5" is no value`,
		strings.Repeat("[", 100): "too deep", "[:]": `':' is not expected`, `"\`: "too early",
	} {
		if got, err := parseJSON5([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzJSON5(f *testing.F) {
	f.Add([]byte(`{a: [1, "b",], /* c */ d: {e: null}} // f`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseJSON5(b) })
}

func TestLimits(t *testing.T) {
	sys := fstest.MapFS{receiveFile: {Data: []byte("212992\n")}, sendFile: {Data: []byte("x")}}
	l := ReadLimits(sys)
	if l != (Limits{Receive: 212992}) {
		t.Errorf("%+v", l)
	}
	want := []Advice{{"net.core.rmem_max", wantedReceive, "net.core.rmem_max is 212992 bytes, less than 4194304: pieces of large samples (images, point clouds, maps) are lost when they arrive faster than a program takes them"}}
	if diff := cmp.Diff(want, l.Advice()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := want[0].Line(); got != "net.core.rmem_max=4194304" {
		t.Error(got)
	}
	for limit, want := range map[int]int{0: wantedReceive, 100: wantedReceive, 212992: 212992, wantedReceive: wantedReceive, 1 << 30: wantedReceive} {
		if got := (Limits{Receive: limit}).receiveBuffer(); got != want {
			t.Errorf("limit %d: %d, want %d", limit, got, want)
		}
	}
}

func TestDetectCyclone(t *testing.T) {
	lib := func(paths ...string) fstest.MapFS {
		m := fstest.MapFS{}
		for _, p := range paths {
			m[p] = &fstest.MapFile{}
		}
		return m
	}
	const (
		jazzy   = "opt/ros/jazzy/lib/x86_64-linux-gnu/libddsc.so.0.10.5"
		lyrical = "opt/ros/lyrical/lib/libddsc.so.11.0.1"
		debian  = "usr/lib/x86_64-linux-gnu/libddsc.so.0debian"
		home    = "home/ada/ws/install/lib/libddsc.so.11.0.1"
	)
	for name, test := range map[string]struct {
		root     fstest.MapFS
		prefixes []string
		distro   string
		want     CycloneVersion
		found    string
	}{
		"nothing":              {lib("opt/ros/jazzy/lib/librmw.so"), nil, "", Cyclone010, ""},
		"one distribution":     {lib(lyrical), nil, "", CycloneV11, lyrical},
		"both, nothing said":   {lib(lyrical, jazzy), nil, "", Cyclone010, jazzy},
		"both, one sourced":    {lib(lyrical, jazzy), nil, "lyrical", CycloneV11, lyrical},
		"a workspace":          {lib(lyrical, jazzy, home), []string{"/home/ada/ws/install", "/opt/ros/jazzy"}, "jazzy", CycloneV11, home},
		"a workspace without":  {lib(lyrical, jazzy), []string{"/home/ada/ws/install", "/opt/ros/jazzy"}, "jazzy", Cyclone010, jazzy},
		"Debian's own":         {lib(debian), nil, "", Cyclone010, debian},
		"strange distribution": {lib(jazzy), []string{"", "*", "relative"}, "../*", Cyclone010, jazzy},
	} {
		t.Run(name, func(t *testing.T) {
			got, found := DetectCyclone(test.root, test.prefixes, test.distro)
			if want := test.found; got != test.want || found != "/"+want && (want != "" || found != "") {
				t.Errorf("%s from %q, want %s from %q", got, found, test.want, want)
			}
		})
	}
}

func TestEnvironmentText(t *testing.T) {
	got := string(environmentText(`/a "b" $c`, CycloneV11))
	if !strings.Contains(got, "\n"+`CYCLONEDDS_URI="file:///a \"b\" \$c/cyclonedds-11.xml"`+"\n") {
		t.Error(got)
	}
}
