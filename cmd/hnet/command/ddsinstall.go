package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	installed "github.com/hnet-robotics/hnet_bridge/config"
	"github.com/hnet-robotics/hnet_bridge/dds/profile"
)

func (a *app) ddsInstall() *cobra.Command {
	var dry, sysctl bool
	var services []string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the profiles in force for all users, or for systemd services",
		Long: "Put hnetd's profiles in force from now on: in every login shell (/etc/profile.d/hnet.sh), or with --service in systemd\n" +
			"services that start ROS or DDS programs (a drop-in for each, which also has them start after hnetd). With --sysctl let\n" +
			"programs have the socket buffers that large samples need (/etc/sysctl.d/60-hnet.conf).",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range services {
				if !serviceName.MatchString(s) {
					return usagef(cmd, "--service: expected the name of a service, found %q", s)
				}
			}
			if os.Geteuid() != 0 && !dry {
				return errors.New("install changes the system: run it with sudo, or see what it would do with --dry-run")
			}
			self, err := os.Executable()
			if err == nil {
				self, err = filepath.EvalSymlinks(self)
			}
			if err != nil {
				return fmt.Errorf("cannot find this program: %w", err)
			}
			folder, _ := a.ddsFolder()
			d := ddsInstaller{
				installer: installer{root: "/", dry: dry, run: runProgram}, program: self, folder: folder, services: services, sysctl: sysctl,
				advice: profile.ReadLimits(os.DirFS("/proc/sys")).Advice(),
			}
			if err := d.check(cmd.Context(), serviceEnvironment); err != nil {
				return err
			}
			return a.takeSteps(cmd.Context(), d.steps(), d.next(), dry)
		},
	}
	cmd.Flags().StringArrayVar(&services, "service", nil, "a systemd `service` to put them in force for, instead of login shells; may be repeated")
	cmd.Flags().BoolVar(&sysctl, "sysctl", false, "raise kernel limits on socket buffers instead, where they are too small")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

var serviceName = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]{1,200}$`)

// serviceEnvironment is what a service's own unit says of its environment, "" if that cannot be known.
func serviceEnvironment(ctx context.Context, service string) string {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=Environment", "--value", service).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// check refuses services that have profiles of their own: a file of variables goes before what a unit says by itself.
func (d *ddsInstaller) check(ctx context.Context, environment func(context.Context, string) string) error {
	for _, s := range d.services {
		set := environment(ctx, s)
		for _, v := range profile.Variables(d.folder, profile.Cyclone010) {
			if strings.Contains(set, v.Name+"=") && !strings.Contains(set, v.Value) {
				return fmt.Errorf("service %s sets %s itself, which would be overridden: add %s to it there (see docs/dds.md)", s, v.Name, v.Value)
			}
		}
	}
	return nil
}

// ddsInstaller puts the profiles in force on a system.
type ddsInstaller struct {
	installer
	program  string // absolute path of hnet
	folder   string // of the profiles
	services []string
	sysctl   bool
	advice   []profile.Advice
}

const (
	profileScript = "/etc/profile.d/hnet.sh"
	sysctlFile    = "/etc/sysctl.d/60-hnet.conf"
)

func (d *ddsInstaller) steps() (steps []step) {
	add := func(text string, do func(context.Context) error) { steps = append(steps, step{text, do}) }
	if d.sysctl {
		d.sysctlSteps(add)
	}
	for _, s := range d.services {
		path := "/etc/systemd/system/" + strings.TrimSuffix(s, ".service") + ".service.d/hnet.conf"
		text := strings.ReplaceAll(installed.DropIn, "@ENVIRONMENT@", filepath.Join(d.folder, profile.EnvironmentFile))
		add("write "+path+", by which the service starts after hnetd and with its profiles", func(context.Context) error { return d.write(path, text) })
	}
	if len(d.services) > 0 {
		if _, err := os.Stat(filepath.Join(d.root, "/run/systemd/system")); err != nil {
			add("systemd does not run here: it reads that when it starts", nil)
		} else {
			add("have systemd read that (systemctl daemon-reload)", func(ctx context.Context) error { return d.run(ctx, "systemctl", "daemon-reload") })
		}
	}
	if len(d.services) == 0 && !d.sysctl {
		text := strings.ReplaceAll(installed.ProfileScript, "@HNET@", "'"+strings.ReplaceAll(d.program, "'", `'\''`)+"'")
		add("write "+profileScript+", which runs '"+d.program+" dds env' in every login shell", func(context.Context) error { return d.write(profileScript, text) })
	}
	return steps
}

func (d *ddsInstaller) sysctlSteps(add func(string, func(context.Context) error)) {
	if len(d.advice) == 0 {
		add("socket buffers may be large enough: keep kernel limits as they are", nil)
		return
	}
	text := "# Room for large DDS samples (images, point clouds): 'hnet dds install --sysctl' wrote this.\n"
	var settings []string
	for _, x := range d.advice {
		text += x.Line() + "\n"
		settings = append(settings, x.Line())
	}
	add("write "+sysctlFile+" with "+strings.Join(settings, ", "), func(context.Context) error { return d.write(sysctlFile, text) })
	add("have the kernel take that (sysctl -p "+sysctlFile+")", func(ctx context.Context) error {
		return d.run(ctx, "sysctl", "-q", "-p", filepath.Join(d.root, sysctlFile))
	})
}

// next says what is left to the user.
func (d *ddsInstaller) next() (next []string) {
	for _, s := range d.services {
		next = append(next, "put it in force: systemctl restart "+s)
	}
	if len(d.services) == 0 && !d.sysctl {
		next = append(next, `put it in force in this shell: eval "$(hnet dds env)"`)
	}
	if d.sysctl && len(d.advice) > 0 {
		next = append(next, "start DDS programs again: a socket keeps the buffer it was opened with")
	}
	return next
}
