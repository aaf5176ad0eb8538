package command

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
)

func (a *app) host() *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "Give addresses names"}
	group(cmd)
	cmd.AddCommand(a.hostAdd(), a.hostRemove(), a.hostList())
	return cmd
}

func (a *app) hostAdd() *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME ADDRESS",
		Short: "Give an address a name",
		Args:  exactly("NAME", "ADDRESS"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.words(cmd.Context(), a.addressWords), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			address, err := netip.ParseAddr(args[1])
			if err != nil {
				return usagef(cmd, "%q is no address", args[1])
			}
			if err := config.CheckAddress(address); err != nil {
				return usagef(cmd, "%v", err)
			}
			c := a.client()
			defer c.Close()
			h, err := c.HostAdd(cmd.Context(), api.HostAdd{Name: args[0], Address: address})
			if err != nil {
				return err
			}
			return a.show(h, func() string { return fmt.Sprintf("%s is %s\n", printable(h.Name), h.Address) })
		},
	}
}

func (a *app) hostRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME",
		Short:             "Take a name away",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeOnce(a.hostWords),
		RunE: a.call(func(ctx context.Context, c *api.Client, args []string) error {
			h, err := c.HostRemove(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(h, func() string { return fmt.Sprintf("%s is no longer %s\n", printable(h.Name), h.Address) })
		}),
	}
}

func (a *app) hostList() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the names",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			hosts, err := c.Hosts(ctx)
			if err != nil {
				return err
			}
			return a.show(hosts, func() string {
				if len(hosts) == 0 {
					return "no names yet: give one with 'hnet host add NAME ADDRESS'\n"
				}
				t := table{columns: []column{{head: "NAME"}, {head: "ADDRESS"}, {head: "SOURCE"}}}
				for _, h := range hosts {
					t.rows = append(t.rows, []cell{{orNone(h.Name), bold}, {h.Address.String(), plain}, {orNone(h.Source), plain}})
				}
				return t.render(a.width(), a.colour())
			})
		}),
	}
}
