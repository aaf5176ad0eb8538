package ros

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/args"
)

func TestConsole(t *testing.T) {
	var b strings.Builder
	a, err := args.Parse(strings.Fields("--ros-args --log-level warn --log-level a:=debug --log-level a.quiet:=error"), nil)
	if err != nil {
		t.Fatal(err)
	}
	logs := newLogging(a, nil)
	logs.out = &console{w: &b, mu: new(sync.Mutex)}
	for _, name := range []string{"/a/n", "/a/quiet", "/ab"} {
		log := slog.New(logs.node(name).handler())
		log.Debug("debug", "error", errors.New("is a"), "x", "")
		log.WithGroup("g").With(slog.Group("h", "i", 1)).Warn("warn", slog.Group("", "j", 2))
		log.Error("error")
	}
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		level, rest, _ := strings.Cut(line, " ")
		_, rest, _ = strings.Cut(rest, " ") // the time
		got = append(got, level+" "+rest)
	}
	want := `[DEBUG] [a.n]: debug error="is a" x=""
[WARN] [a.n]: warn g.h.i=1 g.j=2
[ERROR] [a.n]: error
[ERROR] [a.quiet]: error
[WARN] [ab]: warn g.h.i=1 g.j=2
[ERROR] [ab]: error`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("%s\nwant %s", s, want)
	}
	if newLogging(&args.Arguments{NoStdout: true}, nil).out != nil {
		t.Error("logs go out though they are disabled")
	}
	if logs := newLogging(&args.Arguments{NoExternal: true}, nil); logs.external("x").Enabled(t.Context(), slog.LevelError) {
		t.Error("other packages log though they must not")
	}
}
