// Package command is the command line of hnet: a client of hnetd's local API.
//
// Exit codes: 0 done, 1 refused or failed with one line saying why and what to do, 2 wrong usage.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
)

// Env is the world a command runs in.
type Env struct {
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Now            func() time.Time
	// Terminal gives the size of the terminal that Stdout is, in characters; ok is false if it is none.
	Terminal func() (width, height int, ok bool)
	// Keys gives the keys that are pressed on the terminal until restore is called; nil if nobody can press any.
	Keys func() (keys <-chan key, restore func(), err error)
	// Addresses lists those of a network interface that is up.
	Addresses func(name string) ([]netip.Addr, error)
}

// System is the real world.
func System() Env {
	return Env{
		Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now,
		Terminal: func() (int, int, bool) {
			w, h, err := term.GetSize(int(os.Stdout.Fd()))
			return w, h, err == nil
		},
		Keys:      terminalKeys,
		Addresses: interfaceAddresses,
	}
}

func interfaceAddresses(name string) ([]netip.Addr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("there is no interface %s", name)
	}
	if i.Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("interface %s is not up", name)
	}
	prefixes, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("cannot read the addresses of %s: %w", name, err)
	}
	var addrs []netip.Addr
	for _, p := range prefixes {
		if prefix, err := netip.ParsePrefix(p.String()); err == nil {
			addrs = append(addrs, prefix.Addr())
		}
	}
	return addrs, nil
}

// usageError is a command line that makes no sense.
type usageError struct{ text, hint string }

func (e *usageError) Error() string { return e.text + ": " + e.hint }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...), fmt.Sprintf("see '%s --help'", cmd.CommandPath())}
}

// app is one run of the program.
type app struct {
	Env
	paths config.Paths
	json  bool
}

// Run runs one command line and returns the exit code.
func Run(ctx context.Context, env Env, args []string) int {
	a := &app{Env: env, paths: config.FindPaths(env.Getenv)}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUnwell):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintln(env.Stderr, "hnet:", oneLine(err))
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(env.Stderr, "hnet: interrupted")
		return 1
	}
	fmt.Fprintln(env.Stderr, "hnet:", oneLine(err))
	return 1
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// usageTemplate is cobra's, shorter, and without a usage line for commands that only hold others.
const usageTemplate = `Usage: {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}{{$all := .Commands}}{{if .Groups}}{{range $g := .Groups}}

{{.Title}}{{range $all}}{{if and (eq .GroupID $g.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{else}}

Commands:{{range $all}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`

const (
	groupSee    = "see"
	groupChange = "change"
	groupWait   = "wait"
	groupSetUp  = "setup"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hnet",
		Short: "Look at and steer the overlay network of this host",
		Long: "hnet looks at and steers hnetd, the daemon that joins this host to the overlay network.\n" +
			"PEER is an address (fc94:...) or a hostname. Anyone may look; root and group hnet may change.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	group(root)
	root.SetUsageTemplate(usageTemplate)
	root.PersistentFlags().StringVar(&a.paths.Run, "run", a.paths.Run, "`folder` of hnetd's socket")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%v", err) })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddGroup(
		&cobra.Group{ID: groupSee, Title: "Look:"},
		&cobra.Group{ID: groupChange, Title: "Change:"},
		&cobra.Group{ID: groupWait, Title: "Reach:"},
		&cobra.Group{ID: groupSetUp, Title: "Set up:"},
	)
	add := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add(groupSee, a.status(), a.id(), a.peers(), a.ip(), a.top(), a.doctor())
	add(groupChange, a.whitelist(), a.host(), a.down())
	add(groupWait, a.ping(), a.wait())
	add(groupSetUp, a.dds(), a.serviceInstall(), a.completion(root), a.version())
	root.SetHelpCommandGroupID(groupSetUp)
	return root
}

// group makes cmd one that only holds others.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !cmd.HasParent() {
			return usagef(cmd, "no command given")
		}
		if len(args) == 0 {
			var words []string
			for _, c := range cmd.Commands() {
				words = append(words, c.Name())
			}
			return usagef(cmd, "%s needs one of %s", cmd.Name(), strings.Join(words, ", "))
		}
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return &usageError{fmt.Sprintf("unknown command %q", args[0]), fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), near[0])}
		}
		return usagef(cmd, "unknown command %q", args[0])
	}
}

// exactly refuses another number of arguments than names says.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef(cmd, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usagef(cmd, "unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

func (a *app) client() *api.Client { return api.NewClient(a.paths.Socket()) }

// show prints v as JSON, or what text returns: lines.
func (a *app) show(v any, text func() string) error {
	if !a.json {
		_, err := io.WriteString(a.Stdout, text())
		return err
	}
	out := json.NewEncoder(a.Stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// call makes a command whose run needs a client, the arguments given, and nothing else.
func (a *app) call(run func(ctx context.Context, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c := a.client()
		defer c.Close()
		return run(cmd.Context(), c, args)
	}
}
