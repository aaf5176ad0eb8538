package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/google/renameio/v2"

	installed "github.com/hnet-robotics/hnet_bridge/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

func (a *app) serviceInstall() *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use:   "service-install",
		Short: "Install hnetd as a systemd service and create group hnet",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 && !dry {
				return errors.New("service-install changes the system: run it with sudo, or see what it would do with --dry-run")
			}
			daemon, err := findDaemon()
			if err != nil {
				return err
			}
			i := installer{
				root: "/", daemon: daemon, config: a.paths.Config, user: a.Getenv("SUDO_USER"), dry: dry,
				group: func() bool { _, err := user.LookupGroup(api.Group); return err == nil },
				run:   runProgram,
			}
			return a.install(cmd.Context(), &i)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

// findDaemon returns the absolute path of hnetd: beside this program, or in PATH.
func findDaemon() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if beside := filepath.Join(filepath.Dir(self), "hnetd"); isProgram(beside) {
				return beside, nil
			}
		}
	}
	if found, err := exec.LookPath("hnetd"); err == nil {
		return filepath.Abs(found)
	}
	return "", errors.New("cannot find hnetd beside hnet or in PATH: put both programs into one folder, such as /usr/local/bin")
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func runProgram(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	why := strings.TrimSpace(string(out))
	if why == "" {
		why = err.Error()
	}
	return fmt.Errorf("%s %s failed: %s", name, strings.Join(args, " "), why)
}

// installer puts the service on a system.
type installer struct {
	root   string // of the file system
	daemon string // absolute path of hnetd
	config string // where the sample goes
	user   string // who called through sudo, or ""
	dry    bool
	group  func() bool // there is one
	run    func(ctx context.Context, name string, args ...string) error
}

// step is one thing to do; without do it is done already, or left out.
type step struct {
	text string
	do   func(ctx context.Context) error
}

const unitFile = "/etc/systemd/system/hnetd.service"

func (i *installer) steps() []step {
	var steps []step
	add := func(text string, do func(context.Context) error) { steps = append(steps, step{text, do}) }

	if i.group() {
		add("group "+api.Group+" is there already", nil)
	} else {
		add("create group "+api.Group+", whose members may change whitelist and names", func(ctx context.Context) error {
			return i.run(ctx, "groupadd", "--system", api.Group)
		})
	}

	unit := strings.ReplaceAll(installed.Unit, "@HNETD@", systemdQuote(i.daemon))
	add("write "+unitFile+", which runs "+i.daemon, func(context.Context) error { return i.write(unitFile, unit) })

	if _, err := os.Lstat(filepath.Join(i.root, i.config)); errors.Is(err, fs.ErrNotExist) {
		add("write "+i.config+", in which every setting is explained", func(context.Context) error { return i.write(i.config, installed.Sample) })
	} else {
		add("keep "+i.config+" as it is", nil)
	}

	if _, err := os.Stat(filepath.Join(i.root, "/run/systemd/system")); err != nil {
		add("systemd does not run here: leave the service to be enabled by hand", nil)
		return steps
	}
	add("have systemd read the unit (systemctl daemon-reload)", func(ctx context.Context) error {
		return i.run(ctx, "systemctl", "daemon-reload")
	})
	add("start hnetd at boot from now on (systemctl enable hnetd)", func(ctx context.Context) error {
		return i.run(ctx, "systemctl", "enable", "hnetd")
	})
	return steps
}

func (i *installer) write(path, text string) error {
	path = filepath.Join(i.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot create the folder of %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// next says what is left to the user.
func (i *installer) next() []string {
	next := []string{"start it now: systemctl start hnetd"}
	if i.user != "" && i.user != "root" {
		next = append(next, fmt.Sprintf("let %s change things: usermod -aG %s %s (and log in again)", i.user, api.Group, i.user))
	} else {
		next = append(next, "let a user change things: usermod -aG "+api.Group+" USER (and log in again)")
	}
	return next
}

// installedStep is a step in JSON.
type installedStep struct {
	Step string `json:"step"`
	Done bool   `json:"done"`
}

// install says each step and does it.
func (a *app) install(ctx context.Context, i *installer) error {
	return a.takeSteps(ctx, i.steps(), i.next(), i.dry)
}

// takeSteps says each step and, unless it is a dry run, takes it, and then what is next.
func (a *app) takeSteps(ctx context.Context, steps []step, next []string, dry bool) error {
	done := []installedStep{}
	var failed error
	for _, s := range steps {
		if !a.json {
			fmt.Fprintln(a.Stdout, "-", s.text)
		}
		if s.do != nil && !dry {
			if failed = s.do(ctx); failed != nil {
				done = append(done, installedStep{s.text, false})
				break
			}
		}
		done = append(done, installedStep{s.text, s.do == nil || !dry})
	}
	if a.json {
		return errors.Join(a.show(map[string]any{"dry_run": dry, "steps": done, "next": next}, nil), failed)
	}
	if failed != nil {
		return failed
	}
	if dry {
		fmt.Fprintln(a.Stdout, "nothing was changed (--dry-run)")
		return nil
	}
	for _, line := range next {
		fmt.Fprintln(a.Stdout, line)
	}
	return nil
}

// systemdQuote writes a path as ExecStart takes it.
func systemdQuote(path string) string {
	path = strings.NewReplacer("%", "%%", "$", "$$").Replace(path)
	if strings.ContainsAny(path, " \t\"'\\;") {
		return strconv.Quote(path)
	}
	return path
}
