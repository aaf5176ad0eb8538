package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

type profileWriter func(profile.Params) ([]byte, error)

func (a *app) ddsShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print a profile, in which every line is explained",
		Long: "Print a profile for this host as it would be written now, in which every line is explained. Programs with it find those of\n" +
			"all whitelisted hosts through hnetd.",
	}
	group(cmd)
	cmd.AddCommand(
		a.ddsProfile("cyclone", "Print the Cyclone DDS profile", map[string]profileWriter{"0.10": profile.Cyclone, "11": profile.Cyclone11}, func() string {
			v, _ := a.detectCyclone()
			return string(v)
		}),
		a.ddsProfile("fastdds", "Print the Fast DDS profile", map[string]profileWriter{"2": profile.FastDDS, "3": profile.FastDDS3}, func() string { return "2" }),
		a.ddsZenoh(),
	)
	return cmd
}

func (a *app) ddsProfile(format, short string, writers map[string]profileWriter, detect func() string) *cobra.Command {
	var version string
	var peers, relay bool
	cmd := &cobra.Command{
		Use:   format,
		Short: short,
		Args:  exactly(),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if version == "" {
			version = detect()
		}
		write := writers[version]
		if write == nil {
			return usagef(cmd, "there is no profile for version %q", version)
		}
		return a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			p, err := a.profileParams(ctx, c)
			if err != nil {
				return err
			}
			if p.Relay = !peers; peers {
				p.Mode = profile.Overlay
			}
			return a.showProfile(format, p, write)
		})(cmd, args)
	}
	wording := "of the library, 0.10 or 11 (default: what is found on this host)"
	if format == "fastdds" {
		wording = "of the library, 2 or 3 (default 2)"
	}
	cmd.Flags().StringVar(&version, "version", "", wording)
	cmd.Flags().BoolVar(&peers, "peers", false, "name the hosts on the whitelist instead of hnetd: a new profile, and programs started again, whenever one joins")
	cmd.Flags().BoolVar(&relay, "relay", false, "name hnetd, which is the default")
	_ = cmd.Flags().MarkHidden("relay")
	return cmd
}

func (a *app) ddsZenoh() *cobra.Command {
	session := false
	cmd := &cobra.Command{
		Use:   "zenoh",
		Short: "Print the configuration of rmw_zenoh's router",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			p, err := a.profileParams(ctx, c)
			if err != nil {
				return err
			}
			if session {
				return a.showProfile("zenoh", p, profile.ZenohSession)
			}
			return a.showProfile("zenoh", p, profile.ZenohRouter)
		}),
	}
	cmd.Flags().BoolVar(&session, "session", false, "that of nodes")
	return cmd
}

func (a *app) showProfile(format string, p profile.Params, write profileWriter) error {
	text, err := write(p)
	if err != nil {
		return err
	}
	return a.show(map[string]string{"format": format, "profile": string(text)}, func() string { return string(text) })
}
