package command

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// errUnwell is a check that failed: all there is to say is said.
var errUnwell = errors.New("a check failed")

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [PEER]",
		Short: "Find out what is wrong here, or between here and a peer, and how to mend it",
		Long: "Find out what is wrong with this node and, with PEER, with the way to that peer: checks, one cause, one fix.\n" +
			"Contact with PEER is tried, which takes some seconds if it does not answer. Exit code 1: a check failed.",
		ValidArgsFunction: a.completeOnce(a.peerWords),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: a.call(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.Doctor(ctx, strings.Join(args, ""))
			if err != nil {
				return err
			}
			a.checkDDS(ctx, c, &d)
			if err := a.show(d, func() string { return a.diagnosisText(d) }); err != nil {
				return err
			}
			if d.Failed() {
				return errUnwell
			}
			return nil
		}),
	}
}

var checkStyle = map[api.CheckStatus]style{api.CheckOK: green, api.CheckWarn: yellow, api.CheckFail: red, api.CheckSkip: dim}

// checkMark is how a check came out, as wide as the others.
func (a *app) checkMark(s api.CheckStatus) string {
	mark := map[api.CheckStatus]string{api.CheckOK: "ok  ", api.CheckWarn: "warn", api.CheckFail: "FAIL"}[s]
	if a.symbols() {
		mark = map[api.CheckStatus]string{api.CheckOK: "✓", api.CheckWarn: "!", api.CheckFail: "✗"}[s]
	}
	switch {
	case mark == "" && a.symbols():
		return "·"
	case mark == "":
		return "-   "
	}
	return mark
}

// symbols tells whether the output is a terminal that shows more than ASCII.
func (a *app) symbols() bool {
	if _, _, terminal := a.Terminal(); !terminal {
		return false
	}
	locale := a.Getenv("LC_ALL")
	for _, name := range []string{"LC_CTYPE", "LANG"} {
		if locale == "" {
			locale = a.Getenv(name)
		}
	}
	locale = strings.ToUpper(locale)
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}

func (a *app) diagnosisText(d api.Diagnosis) string {
	colour, width := a.colour(), 0
	for _, c := range d.Checks {
		width = max(width, utf8.RuneCountInString(checkName(c.Name)))
	}
	var out strings.Builder
	if d.Peer.IsValid() {
		out.WriteString(bold.paint(named(d.Hostname, d.Peer), colour) + "\n")
	}
	for _, c := range d.Checks {
		name := checkName(c.Name)
		out.WriteString(checkStyle[c.Status].paint(a.checkMark(c.Status), colour) + " " + name +
			strings.Repeat(" ", width-utf8.RuneCountInString(name)) + gap + orNone(c.Detail) + "\n")
	}
	if len(d.Checks) > 0 || d.Peer.IsValid() {
		out.WriteString("\n")
	}
	if d.Cause == "" {
		out.WriteString("Nothing wrong was found.\n")
		return out.String()
	}
	out.WriteString(bold.paint("Cause:", colour) + " " + printable(d.Cause) + "\n")
	if d.Fix != "" {
		out.WriteString(bold.paint("Fix:", colour) + "   " + printable(d.Fix) + "\n")
	}
	return out.String()
}

// checkName is a check's for people: "port_mapping" as "port mapping", "base:ADDRESS" as "base", since the detail names it.
func checkName(name string) string {
	kind, subject, _ := strings.Cut(name, ":")
	switch kind {
	case "base":
		return kind
	case "endpoint", "warning":
		kind += " " + subject
	}
	return printable(strings.ReplaceAll(kind, "_", " "))
}
