package command

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

func (a *app) whitelist() *cobra.Command {
	cmd := &cobra.Command{Use: "whitelist", Short: "Say who may talk to this node"}
	group(cmd)
	cmd.AddCommand(a.whitelistAdd(), a.whitelistRemove(), a.whitelistList(),
		a.whitelistEnable("enable", "Let only whitelisted peers talk to this node", true),
		a.whitelistEnable("disable", "Let any peer talk to this node", false))
	return cmd
}

func (a *app) whitelistAdd() *cobra.Command {
	var add api.WhitelistAdd
	var pskFile string
	cmd := &cobra.Command{
		Use:   "add ADDRESS|KEY",
		Short: "Let a peer in, by its address or its WireGuard key; adding again updates it",
		Long: "Let a peer in. Do the same with this node's address (see 'hnet id') on the peer.\n" +
			"Adding again updates what is given and keeps the rest. A stock WireGuard client is added by its public key.",
		Args: exactly("ADDRESS or KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if address, err := netip.ParseAddr(args[0]); err == nil {
				if err := config.CheckAddress(address); err != nil {
					return usagef(cmd, "%v", err)
				}
				add.Address = address
			} else if key, err := identity.ParsePublicKey(args[0]); err == nil {
				add.Key, add.Address = key.String(), key.Address()
			} else {
				return usagef(cmd, "%q is neither an address of the overlay (fc94:...) nor a WireGuard public key", args[0])
			}
			if add.Endpoint != "" {
				if err := config.CheckEndpoint(add.Endpoint); err != nil {
					return usagef(cmd, "--endpoint: %v", err)
				}
			}
			if pskFile != "" {
				psk, err := config.ReadPSK(pskFile)
				if err != nil {
					return err
				}
				add.PSK = psk[:]
			}
			c := a.client()
			defer c.Close()
			entry, err := c.WhitelistAdd(cmd.Context(), add)
			if err != nil {
				return err
			}
			return a.show(entry, func() string { return named(entry.Hostname, entry.Address) + " is whitelisted\n" })
		},
		ValidArgsFunction: a.completeOnce(a.strangerWords),
	}
	cmd.Flags().StringVar(&add.Hostname, "hostname", "", "`name` for the peer, in /etc/hosts too")
	cmd.Flags().StringVar(&add.Endpoint, "endpoint", "", "`HOST:PORT` where the peer may be reached")
	cmd.Flags().StringVar(&pskFile, "psk-file", "", "`file` with a preshared key, as 'wg genpsk' writes it")
	cmd.MarkFlagFilename("psk-file")
	return cmd
}

func (a *app) whitelistRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "rm PEER",
		Short:             "Shut a peer out",
		Args:              exactly("PEER"),
		ValidArgsFunction: a.completeOnce(a.whitelistWords),
		RunE: a.call(func(ctx context.Context, c *api.Client, args []string) error {
			entry, err := c.WhitelistRemove(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(entry, func() string { return named(entry.Hostname, entry.Address) + " is no longer whitelisted\n" })
		}),
	}
}

func (a *app) whitelistList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List who is whitelisted",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			w, err := c.Whitelist(ctx)
			if err != nil {
				return err
			}
			return a.show(w, func() string { return a.whitelistText(w) })
		}),
	}
}

func (a *app) whitelistText(w api.Whitelist) string {
	note := ""
	if !w.Enabled {
		note = yellow.paint("the whitelist is disabled: any peer may talk to this node", a.colour()) + "\n"
	}
	if len(w.Entries) == 0 {
		return note + "the whitelist is empty: let a peer in with 'hnet whitelist add ADDRESS'\n"
	}
	t := table{columns: []column{{head: "HOSTNAME"}, {head: "ADDRESS"}, {head: "SOURCE"}, {head: "KEY", spare: 1}}}
	for _, e := range w.Entries {
		t.rows = append(t.rows, []cell{{orNone(e.Hostname), bold}, {e.Address.String(), plain}, {orNone(e.Source), plain}, {orNone(e.Key), plain}})
	}
	return note + t.render(a.width(), a.colour())
}

func (a *app) whitelistEnable(word, short string, enabled bool) *cobra.Command {
	return &cobra.Command{
		Use:   word,
		Short: short,
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			if err := c.WhitelistEnable(ctx, enabled); err != nil {
				return err
			}
			return a.show(map[string]bool{"enabled": enabled}, func() string {
				if enabled {
					return "whitelist enabled: only whitelisted peers may talk to this node\n"
				}
				return "whitelist disabled: any peer may talk to this node\n"
			})
		}),
	}
}
