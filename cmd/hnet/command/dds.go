package command

import (
	"context"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
)

func (a *app) dds() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dds",
		Short: "Have ROS 2 and DDS programs use the overlay",
		Long: "Have ROS 2 and DDS programs use the overlay. hnetd writes profiles for Cyclone DDS, Fast DDS and zenoh (dds.dir in its\n" +
			"configuration) and keeps them as this host needs them. Programs read them once, when they start:\n" +
			"  eval \"$(hnet dds env)\"                     in a shell, before starting programs\n" +
			"  sudo hnet dds install                      in every login shell\n" +
			"  sudo hnet dds install --service NAME       in a systemd service that starts programs\n" +
			"Nothing need be started again when a robot joins or leaves.",
	}
	group(cmd)
	cmd.AddCommand(a.ddsEnv(), a.ddsShow(), a.ddsWrite(), a.ddsInstall())
	return cmd
}

// ddsFolder is where hnetd of this host keeps the profiles. A configuration that may not be read is taken for the default.
func (a *app) ddsFolder() (string, config.DDS) {
	cfg, err := config.Load(a.paths.Config)
	if err != nil {
		cfg = config.Default()
	}
	return cfg.DDS.Folder(a.paths), cfg.DDS
}

// profileParams is what a profile for this host is made from now.
func (a *app) profileParams(ctx context.Context, c *api.Client) (p profile.Params, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return p, err
	}
	w, err := c.Whitelist(ctx)
	if err != nil {
		return p, err
	}
	_, dds := a.ddsFolder()
	p = profile.Params{
		Interface: s.Interface, Address: s.Address, Mode: profile.Mode(dds.Mode), Limits: profile.ReadLimits(os.DirFS("/proc/sys")),
		Peers: make([]netip.Addr, 0, len(w.Entries)),
	}
	if addrs, err := a.Addresses(s.Interface); err == nil {
		for _, ip := range addrs {
			if ip.Is4() && !p.IPv4.IsValid() {
				p.IPv4 = ip
			}
		}
	}
	for _, e := range w.Entries {
		p.Peers = append(p.Peers, e.Address)
	}
	return p, nil
}

// ddsWrite writes all files once, for where hnetd's folder is not to be had.
func (a *app) ddsWrite() *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:   "write",
		Short: "Write all profiles into a folder, once",
		Long: "Write all profiles into a folder, once: for a container, or another host. hnetd keeps those in its own folder (dds.dir) up to\n" +
			"date by itself.",
		Args: exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			if dir == "" {
				dir, _ = a.ddsFolder()
			}
			p, err := a.profileParams(ctx, c)
			if err != nil {
				return err
			}
			cyclone, _ := a.detectCyclone()
			files, left := profile.Set(p, dir, cyclone)
			if len(files) == 0 {
				return left
			}
			changed, err := profile.Store(dir, files)
			if err != nil {
				return err
			}
			if left != nil {
				return left
			}
			return a.show(map[string]any{"folder": dir, "changed": append([]string{}, changed...)}, func() string {
				if len(changed) == 0 {
					return "all profiles in " + dir + " are as they should be\n"
				}
				text := ""
				for _, name := range changed {
					text += "wrote " + dir + "/" + name + "\n"
				}
				return text
			})
		}),
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `folder`, which is made if it is missing (default: hnetd's, dds.dir of its configuration)")
	return cmd
}
