package command

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show this node, its Bases and what is wrong",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			return a.show(s, func() string { return a.statusText(s) })
		}),
	}
}

func (a *app) statusText(s api.Status) string {
	colour := a.colour()
	whitelist := green.paint("enabled", colour)
	if !s.WhitelistEnabled {
		whitelist = yellow.paint("disabled", colour) + ": any peer may talk to this node"
	}
	pairs := [][2]string{
		{"address", bold.paint(s.Address.String(), colour)},
		{"IPv4", orNone(addressText(s.IPv4))},
		{"hostname", orNone(s.Hostname)},
		{"interface", orNone(s.Interface)},
		{"whitelist", whitelist},
		{"NAT", orNone(s.NAT)},
		{"version", orNone(s.Version)},
	}
	for _, b := range s.Bases {
		state := map[api.BaseState]style{api.BaseRegistered: green, api.BaseConnecting: yellow, api.BaseUnreachable: red}[b.State]
		text := fmt.Sprintf("%s %s, %s", named(b.Host, b.Address), orNone(b.Transport), state.paint(printable(string(b.State)), colour))
		if b.RTT != nil {
			text += ", " + humanMS(b.RTT)
		}
		pairs = append(pairs, [2]string{"base", text})
	}
	if len(s.Bases) == 0 {
		pairs = append(pairs, [2]string{"bases", "none: peers are found on the local network and at known endpoints only"})
	}
	var out strings.Builder
	out.WriteString(sheet(colour, pairs...))
	for _, w := range s.Warnings {
		fmt.Fprintf(&out, "\n%s %s\n", yellow.paint("warning "+printable(w.Code)+":", colour), printable(w.Text))
		if w.Fix != "" {
			fmt.Fprintf(&out, "  fix: %s\n", printable(w.Fix))
		}
	}
	return out.String()
}

func (a *app) id() *cobra.Command {
	return &cobra.Command{
		Use:   "id [KEY]",
		Short: "Show this node's address and keys, or the address of a WireGuard key",
		Long:  "Show this node's address and keys.\nWith KEY, a WireGuard public key: print the address that belongs to it; this needs no daemon.",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return a.ownID(cmd.Context())
			case 1:
				key, err := identity.ParsePublicKey(args[0])
				if err != nil {
					return usagef(cmd, "%q is no WireGuard public key (%v)", args[0], err)
				}
				id := api.ID{Address: key.Address(), WireGuard: key.String()}
				return a.show(id, func() string { return id.Address.String() + "\n" })
			}
			return usagef(cmd, "unexpected argument %q", args[1])
		},
	}
}

func (a *app) ownID(ctx context.Context) error {
	c := a.client()
	defer c.Close()
	id, err := c.ID(ctx)
	if err != nil {
		return err
	}
	return a.show(id, func() string {
		pairs := [][2]string{{"address", id.Address.String()}, {"ed25519", id.Ed25519}, {"wireguard", id.WireGuard}}
		if id.IPv4.IsValid() {
			pairs = append(pairs, [2]string{"IPv4", id.IPv4.String()})
		}
		return sheet(a.colour(), pairs...)
	})
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of hnet and of the running hnetd",
		Args:  exactly(),
		RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
			v := struct {
				Hnet  string  `json:"hnet"`
				Hnetd *string `json:"hnetd"` // null: not running
			}{Hnet: api.Version()}
			if s, err := c.Status(ctx); err == nil {
				v.Hnetd = &s.Version
			}
			return a.show(v, func() string {
				daemon := "not running"
				if v.Hnetd != nil {
					daemon = orNone(*v.Hnetd)
				}
				return fmt.Sprintf("hnet %s (%s, %s/%s)\nhnetd %s\n", v.Hnet, runtime.Version(), runtime.GOOS, runtime.GOARCH, daemon)
			})
		}),
	}
}
