package command

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

func (a *app) dds() *cobra.Command {
	cmd := &cobra.Command{Use: "dds", Short: "Get DDS to use the overlay"}
	group(cmd)
	show := &cobra.Command{
		Use:   "show",
		Short: "Print a DDS profile for the present whitelist",
		Long: "Print a DDS profile that uses the overlay and knows the peers on the whitelist as it is now.\n" +
			"  hnet dds show cyclone > cyclone.xml && export CYCLONEDDS_URI=file://$PWD/cyclone.xml\n" +
			"  hnet dds show fastdds > fastdds.xml && export FASTRTPS_DEFAULT_PROFILES_FILE=$PWD/fastdds.xml FASTDDS_DEFAULT_PROFILES_FILE=$PWD/fastdds.xml",
	}
	group(show)
	show.AddCommand(
		a.ddsProfile("cyclone", "Print a Cyclone DDS profile", profile.Cyclone),
		a.ddsProfile("fastdds", "Print a Fast DDS profile", profile.FastDDS),
	)
	cmd.AddCommand(show)
	return cmd
}

// profileParams is what a profile for this host is made from now.
func profileParams(ctx context.Context, c *api.Client) (p profile.Params, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return p, err
	}
	w, err := c.Whitelist(ctx)
	if err != nil {
		return p, err
	}
	p = profile.Params{Interface: s.Interface, Address: s.Address, Peers: make([]netip.Addr, 0, len(w.Entries))}
	for _, e := range w.Entries {
		p.Peers = append(p.Peers, e.Address)
	}
	return p, nil
}

func (a *app) ddsProfile(format, short string, write func(profile.Params) ([]byte, error)) *cobra.Command {
	relay := false
	cmd := &cobra.Command{
		Use:   format,
		Short: short,
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			p, err := profileParams(ctx, c)
			if err != nil {
				return err
			}
			if p.Relay = relay; relay {
				p.Peers = nil
			}
			text, err := write(p)
			if err != nil {
				return err
			}
			return a.show(map[string]string{"format": format, "profile": string(text)}, func() string { return string(text) })
		}),
	}
	cmd.Flags().BoolVar(&relay, "relay", false, "name hnetd alone, which makes all whitelisted hosts' programs known: no new profile when a robot joins")
	return cmd
}
