package command

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
)

// fakeSystem is a root folder and a record of the programs run.
func fakeSystem(t *testing.T, systemd, group bool) (*installer, *[]string) {
	t.Helper()
	root := t.TempDir()
	if systemd {
		if err := os.MkdirAll(filepath.Join(root, "/run/systemd/system"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var ran []string
	return &installer{
		root: root, daemon: "/opt/my robot/hnetd", config: "/etc/hnet/hnet.yaml", user: "ada",
		group: func() bool { return group },
		run: func(_ context.Context, name string, args ...string) error {
			ran = append(ran, strings.Join(append([]string{name}, args...), " "))
			return nil
		},
	}, &ran
}

func TestInstall(t *testing.T) {
	i, ran := fakeSystem(t, true, false)
	w := newWorld("")
	if err := (&app{Env: w.Env}).install(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	golden(t, "service-install", w.out.String())
	if diff := cmp.Diff([]string{"groupadd --system hnet", "systemctl daemon-reload", "systemctl enable hnetd"}, *ran); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	unit, err := os.ReadFile(filepath.Join(i.root, unitFile))
	if err != nil || !strings.Contains(string(unit), "\nExecStart=\"/opt/my robot/hnetd\"\n") || strings.Contains(string(unit), "@") {
		t.Errorf("%v\n%s", err, unit)
	}
	if _, err := config.Load(filepath.Join(i.root, i.config)); err != nil {
		t.Error(err)
	}

	// Again: what the user wrote stays.
	if err := os.WriteFile(filepath.Join(i.root, i.config), []byte("mtu: 1400\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	i.group = func() bool { return true }
	w = newWorld("")
	if err := (&app{Env: w.Env}).install(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(i.root, i.config)); string(b) != "mtu: 1400\n" || !strings.Contains(w.out.String(), "- keep /etc/hnet/hnet.yaml as it is\n") {
		t.Errorf("%s\n%s", b, w.out.String())
	}
}

func TestInstallDryRun(t *testing.T) {
	for _, form := range []string{"", "-json"} {
		i, ran := fakeSystem(t, true, false)
		i.dry = true
		w := newWorld("")
		if err := (&app{Env: w.Env, json: form != ""}).install(t.Context(), i); err != nil {
			t.Fatal(err)
		}
		golden(t, "service-install-dry"+form, w.out.String())
		if _, err := os.Stat(filepath.Join(i.root, "etc")); !errors.Is(err, fs.ErrNotExist) || len(*ran) > 0 {
			t.Errorf("changed something: %v, %v", err, *ran)
		}
	}
}

func TestInstallWithoutSystemd(t *testing.T) {
	i, ran := fakeSystem(t, false, true)
	w := newWorld("")
	if err := (&app{Env: w.Env}).install(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	if len(*ran) > 0 || !strings.Contains(w.out.String(), "- systemd does not run here") {
		t.Errorf("ran %v\n%s", *ran, w.out.String())
	}
}

func TestInstallFails(t *testing.T) {
	i, _ := fakeSystem(t, true, false)
	i.run = func(context.Context, string, ...string) error {
		return errors.New("groupadd --system hnet failed: read-only")
	}
	w := newWorld("")
	if err := (&app{Env: w.Env}).install(t.Context(), i); err == nil || oneLine(err) != "groupadd --system hnet failed: read-only" {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(i.root, unitFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("went on after a failure")
	}
}

func TestUnits(t *testing.T) {
	ms := func(v float64) string { return humanMS(&v) }
	for _, tt := range []struct{ got, want string }{
		{humanBytes(0), "0 B"}, {humanBytes(999), "999 B"}, {humanBytes(1000), "1.00 kB"}, {humanBytes(999499), "999 kB"},
		{humanBytes(999500), "1.00 MB"}, {humanBytes(1 << 63), "9.22 EB"}, {humanBytes(1<<64 - 1), "18.4 EB"},
		{ms(0), "0.00 ms"}, {ms(9.994), "9.99 ms"}, {ms(9.996), "10.0 ms"}, {ms(99.96), "100 ms"}, {ms(999.4), "999 ms"}, {ms(999.6), "1.00 s"},
		{humanMS(nil), "-"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\u009bc\n\xff"); got != "a?[31mb?c??" {
		t.Errorf("%q", got)
	}
}
