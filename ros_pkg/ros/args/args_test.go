package args

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

func noFiles(string) ([]byte, error) { return nil, errors.New("no such file") }

func TestParse(t *testing.T) {
	files := map[string]string{"a.yaml": "/**: {ros__parameters: {rate: 5, name: file}}"}
	read := func(p string) ([]byte, error) {
		if s, ok := files[p]; ok {
			return []byte(s), nil
		}
		return nil, errors.New("no such file")
	}
	line := strings.Fields("before --flag --ros-args -r __node:=n --remap a:=b -p rate:=10 --params-file a.yaml -p n:deep.er:=[1,2] --ros-args --log-level WARN " +
		"--log-level a.b:=debug -e /enclave --disable-rosout-logs --disable-stdout-logs --enable-stdout-logs --log-config-file x -- after --ros-args")
	a, err := Parse(line, read)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"before", "--flag", "after"}; !slices.Equal(a.Rest, want) {
		t.Errorf("rest %q, want %q", a.Rest, want)
	}
	if len(a.Remap) != 2 || a.Remap.NodeName("x") != "n" {
		t.Errorf("rules %+v", a.Remap)
	}
	if a.Level == nil || *a.Level != slog.LevelWarn || a.Levels["a.b"] != slog.LevelDebug || a.Enclave != "/enclave" {
		t.Errorf("%+v", a)
	}
	if !a.NoRosout || a.NoStdout || a.NoExternal || a.LogConfigFile != "x" {
		t.Errorf("%+v", a)
	}
	got := a.Params.For("/n")
	want := map[string]param.Value{"rate": param.Of(int64(5)), "name": param.Of("file"), "deep.er": param.Of([]int64{1, 2})}
	for k, v := range want {
		if !got[k].Equal(v) {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
	if other := a.Params.For("/m"); len(other) != 2 {
		t.Errorf("another node gets %v", other)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"--ros-args -r", "-r needs a value"},
		{"--ros-args -r nonsense", "from:=to"},
		{"--ros-args -p x", "name:=value"},
		{"--ros-args -p x:=", "no value"},
		{"--ros-args -p :=1", "no name"},
		{"--ros-args -p x:={a:1}", "want a value"},
		{"--ros-args --params-file missing", "no such file"},
		{"--ros-args --log-level loud", "no log level"},
		{"--ros-args --log-level :=info", "want"},
		{"--ros-args -e relative", "'/'"},
		{"--ros-args --unknown -x", "--unknown -x"},
	} {
		if _, err := Parse(strings.Fields(c.line), noFiles); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.line, err, c.want)
		}
	}
	if a, err := Parse(nil, noFiles); err != nil || a.Rest != nil {
		t.Error(a, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("x --ros-args -r __ns:=/a -p a:=1 -p n:b:=[1,2] --log-level debug -- y")
	f.Add("--ros-args --params-file f -e /e --disable-external-lib-logs")
	f.Fuzz(func(t *testing.T, s string) {
		line := strings.Split(s, " ")
		a, err := Parse(line, func(p string) ([]byte, error) { return []byte(p), nil })
		if err == nil {
			a.Params.For("/a/b")
			a.Remap.Topic("x", "/a", "b")
			if len(a.Rest) > len(line) {
				t.Error("more arguments come out than went in")
			}
		}
	})
}
