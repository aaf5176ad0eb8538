package command

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

func TestProfiles(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	peers := []netip.Addr{robot.Address(), away.Address()}
	for line, wants := range map[string][]string{
		"dds show cyclone":                {"Cyclone DDS", "]:7402"},
		"dds show cyclone --version 0.10": {"Cyclone DDS 0.10", "]:7402"},
		"dds show cyclone --version 11":   {"Cyclone DDS 11", "]:7402"},
		"dds show cyclone --relay":        {"]:7402"},
		"dds show cyclone --peers":        {peers[0].String(), peers[1].String()},
		"dds show fastdds":                {"Fast DDS 2", "<port>7402</port>"},
		"dds show fastdds --version 3":    {"Fast DDS 3", "<port>7402</port>"},
		"dds show fastdds --peers":        {peers[0].String(), peers[1].String()},
		"dds show zenoh":                  {"mode: \"router\"", "[" + peers[0].String() + "]:7447", "[" + peers[1].String() + "]:7447"},
		"dds show zenoh --session":        {"mode: \"peer\""},
	} {
		t.Run(line, func(t *testing.T) {
			w := newWorld(run)
			if code := Run(t.Context(), w.Env, strings.Fields(line)); code != 0 {
				t.Fatalf("exit code %d: %s", code, w.err.String())
			}
			for _, want := range append(wants, self.Address().String()) {
				if !strings.Contains(w.out.String(), want) && !(want == self.Address().String() && strings.Contains(line, "--session")) {
					if want != self.Address().String() || !strings.Contains(line, "zenoh") {
						t.Errorf("no %s", want)
					}
				}
			}
			if strings.Contains(w.out.String(), guest.Address().String()) {
				t.Error("it has a peer that is not whitelisted")
			}
		})
	}
	for line, want := range map[string]string{
		"dds show cyclone --version 12": `there is no profile for version "12"`,
		"dds env --cyclone 9":           `--cyclone: expected 0.10 or 11, found "9"`,
		"dds install --service a/b":     `--service: expected the name of a service, found "a/b"`,
	} {
		w := newWorld(run)
		if code := Run(t.Context(), w.Env, strings.Fields(line)); code != 2 || !strings.Contains(w.err.String(), want) {
			t.Errorf("%s: exit code %d, %s", line, code, w.err.String())
		}
	}
}

// written is a folder with all profiles, and a shell's environment with a home.
func written(t *testing.T) (dir string, env map[string]string) {
	t.Helper()
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	w := newWorld(run)
	dir = filepath.Join(t.TempDir(), "dds")
	if code := Run(t.Context(), w.Env, []string{"dds", "write", "--dir", dir}); code != 0 {
		t.Fatalf("exit code %d: %s", code, w.err.String())
	}
	w = newWorld(run)
	if code := Run(t.Context(), w.Env, []string{"dds", "write", "--dir", dir}); code != 0 || w.out.String() != "all profiles in "+dir+" are as they should be\n" {
		t.Errorf("the second time: exit code %d, %s", code, w.out.String())
	}
	return dir, map[string]string{"HOME": t.TempDir()}
}

func evaluate(t *testing.T, dir string, env map[string]string) (text, remarks string) {
	t.Helper()
	w := newWorld("")
	w.Getenv = func(k string) string { return env[k] }
	if code := Run(t.Context(), w.Env, []string{"dds", "env", "--dir", dir, "--cyclone", "0.10"}); code != 0 {
		t.Fatalf("exit code %d: %s", code, w.err.String())
	}
	return w.out.String(), w.err.String()
}

// apply has a real shell evaluate the commands, as users do, and takes over what it exports.
func apply(t *testing.T, text string, env map[string]string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `eval "$1"; env -0`, "sh", text)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
}

func TestEnv(t *testing.T) {
	dir, env := written(t)
	want := map[string]string{
		"CYCLONEDDS_URI":                 "file://" + dir + "/cyclonedds-0.10.xml",
		"FASTRTPS_DEFAULT_PROFILES_FILE": dir + "/fastdds-2.xml",
		"FASTDDS_DEFAULT_PROFILES_FILE":  dir + "/fastdds-3.xml",
		"ZENOH_ROUTER_CONFIG_URI":        dir + "/zenoh-router.json5",
		"ZENOH_SESSION_CONFIG_URI":       dir + "/zenoh-session.json5",
	}
	for range 2 { // evaluated twice it is the same
		text, remarks := evaluate(t, dir, env)
		if remarks != "" {
			t.Errorf("stderr: %s", remarks)
		}
		apply(t, text, env)
		for k, v := range want {
			if env[k] != v {
				t.Errorf("%s is %q, want %q", k, env[k], v)
			}
		}
	}
}

const ownFast = `<?xml version="1.0"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <!-- mine -->
  <participant profile_name="mine" is_default_profile="true"><rtps><name>robot</name></rtps></participant>
</profiles>`

func TestEnvWithOwnProfiles(t *testing.T) {
	dir, env := written(t)
	home := env["HOME"] + "/it's mine"
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(home, "fast.xml")
	if err := os.WriteFile(mine, []byte(ownFast), 0o644); err != nil {
		t.Fatal(err)
	}
	inline := `<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="a,/b"/></Interfaces></General></Domain></CycloneDDS>`
	env["CYCLONEDDS_URI"] = inline + ",file://" + home + "/c.xml"
	env["FASTRTPS_DEFAULT_PROFILES_FILE"] = mine
	env["ZENOH_ROUTER_CONFIG_URI"] = home + "/router.json5"
	for i := range 2 {
		text, remarks := evaluate(t, dir, env)
		if !strings.Contains(remarks, "ZENOH_ROUTER_CONFIG_URI stays "+home) {
			t.Errorf("stderr: %s", remarks)
		}
		apply(t, text, env)
		if want := "file://" + dir + "/cyclonedds-0.10.xml," + inline + ",file://" + home + "/c.xml"; env["CYCLONEDDS_URI"] != want {
			t.Errorf("round %d: %s\nwant %s", i, env["CYCLONEDDS_URI"], want)
		}
		merged, err := os.ReadFile(env["FASTRTPS_DEFAULT_PROFILES_FILE"])
		if err != nil || !strings.Contains(string(merged), "<name>robot</name>") || strings.Count(string(merged), "<port>7402</port>") != 1 {
			t.Errorf("round %d: %v\n%s", i, err, merged)
		}
		if env["HNET_OWN_FASTRTPS_DEFAULT_PROFILES_FILE"] != mine {
			t.Errorf("the user's file is forgotten: %v", env)
		}
	}
	if b, _ := os.ReadFile(mine); string(b) != ownFast {
		t.Errorf("the user's file was changed: %s", b)
	}

	// What cannot be merged stays.
	if err := os.WriteFile(mine, []byte("<profiles"), 0o644); err != nil {
		t.Fatal(err)
	}
	text, remarks := evaluate(t, dir, env)
	apply(t, text, env)
	if env["FASTRTPS_DEFAULT_PROFILES_FILE"] != mine || !strings.Contains(remarks, "stays "+mine+", without the overlay: it is no valid XML") {
		t.Errorf("%s\n%s", env["FASTRTPS_DEFAULT_PROFILES_FILE"], remarks)
	}
}

func TestEnvWithoutProfiles(t *testing.T) {
	w := newWorld("")
	if code := Run(t.Context(), w.Env, []string{"dds", "env", "--dir", t.TempDir()}); code != 1 || w.out.String() != "" || !strings.Contains(w.err.String(), "start hnetd") {
		t.Errorf("exit code %d\n%s\n%s", code, w.out.String(), w.err.String())
	}
}

func TestEnvFish(t *testing.T) {
	got := shell([]profile.Variable{{Name: "A", Value: `it's a \`}}, true)
	if want := "set -gx A 'it\\'s a \\\\'\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCycloneList(t *testing.T) {
	for list, want := range map[string][]string{
		"":                             {""},
		"file:///a":                    {"file:///a"},
		"file:///a,/b":                 {"file:///a", "/b"},
		`<a b="1,2"/>,file:///a`:       {`<a b="1,2"/>`, "file:///a"},
		`file:///a,<a>1,/x</a>, <b/>`:  {"file:///a", "<a>1,/x</a>", " <b/>"},
		`<a b="/x,/y"></a>,<c></c>,/d`: {`<a b="/x,/y"></a>`, "<c></c>", "/d"},
	} {
		if got := cycloneList(list); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", list, got, want)
		}
	}
}

func TestDDSInstall(t *testing.T) {
	for name, change := range map[string]func(*ddsInstaller){
		"dds-install":         func(*ddsInstaller) {},
		"dds-install-service": func(d *ddsInstaller) { d.services = []string{"robot", "nav@2.service"} },
		"dds-install-sysctl": func(d *ddsInstaller) {
			d.sysctl, d.advice = true, profile.Limits{Receive: 212992, Send: 212992}.Advice()
		},
		"dds-install-sysctl-enough": func(d *ddsInstaller) { d.sysctl = true },
	} {
		t.Run(name, func(t *testing.T) {
			i, ran := fakeSystem(t, true, true)
			d := ddsInstaller{installer: *i, program: "/opt/it's here/hnet", folder: "/var/lib/hnet/dds"}
			change(&d)
			w := newWorld("")
			if err := (&app{Env: w.Env}).takeSteps(context.Background(), d.steps(), d.next(), false); err != nil {
				t.Fatal(err)
			}
			text := w.out.String()
			for _, r := range *ran {
				text += "\nran: " + r + "\n"
			}
			err := filepath.WalkDir(filepath.Join(i.root, "etc"), func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return nil
				}
				b, err := os.ReadFile(path)
				text += "\n" + strings.TrimPrefix(path, i.root) + ":\n" + string(b)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, strings.ReplaceAll(text, i.root, ""))
		})
	}
}

func TestDDSInstallOwnProfile(t *testing.T) {
	d := ddsInstaller{folder: "/var/lib/hnet/dds", services: []string{"robot"}}
	for set, want := range map[string]string{
		"": "", "A=b": "", "CYCLONEDDS_URI=file:///var/lib/hnet/dds/cyclonedds-0.10.xml,file:///mine": "",
		"A=b CYCLONEDDS_URI=file:///mine": "service robot sets CYCLONEDDS_URI itself",
	} {
		err := d.check(t.Context(), func(context.Context, string) string { return set })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", set, err, want)
		}
	}
}

// TestProfileScript has a real shell take the script: with the program and without.
func TestProfileScript(t *testing.T) {
	i, _ := fakeSystem(t, false, true)
	program := filepath.Join(t.TempDir(), "it's", "hnet")
	d := ddsInstaller{installer: *i, program: program, folder: "/var/lib/hnet/dds"}
	for _, s := range d.steps() {
		if err := s.do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(i.root, profileScript)
	login := func() string {
		out, err := exec.Command("sh", "-c", `. "$1"; echo "[$A]"`, "sh", script).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := login(); got != "[]\n" {
		t.Errorf("without the program: %q", got)
	}
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"export A='$*'\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("[dds env]\n", login()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
