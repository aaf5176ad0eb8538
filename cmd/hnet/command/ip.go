package command

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

func (a *app) ip() *cobra.Command {
	var four bool
	cmd := &cobra.Command{
		Use:               "ip NAME",
		Short:             "Print the address of a name",
		Long:              "Print the address of a name.\nWith -4: its IPv4 address inside the overlay, making contact if it is not known yet. It may change; the other one never does.",
		Args:              exactly("NAME"),
		ValidArgsFunction: a.completeOnce(a.peerWords),
		RunE: a.call(func(ctx context.Context, c *api.Client, args []string) error {
			h, err := c.Resolve(ctx, args[0])
			if err != nil {
				return err
			}
			if four {
				if h.Address, err = ipv4Of(ctx, c, h.Address); err != nil {
					return err
				}
			}
			return a.show(h, func() string { return h.Address.String() + "\n" })
		}),
	}
	cmd.Flags().BoolVarP(&four, "ipv4", "4", false, "the IPv4 address")
	return cmd
}

// ipv4Patience is how long a peer that is connected may take to tell its IPv4 address; it takes two round trips.
const ipv4Patience = 5 * time.Second

// ipv4Of finds the IPv4 address of this node or of a peer, which tells it when there is contact.
func ipv4Of(ctx context.Context, c *api.Client, address netip.Addr) (netip.Addr, error) {
	s, err := c.Status(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	if !s.IPv4.IsValid() {
		return netip.Addr{}, errors.New("this node has no IPv4 address inside the overlay: 'hnet status' shows why, if it is not 'ipv4: off'")
	}
	if address == s.Address {
		return s.IPv4, nil
	}
	connected := false
	for until := time.Now().Add(ipv4Patience); ; {
		peers, err := c.Peers(ctx)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, p := range peers {
			if p.Address == address && p.IPv4.IsValid() {
				return p.IPv4, nil
			}
		}
		if !connected {
			if _, err := c.Connect(ctx, address.String(), ipv4Patience); err != nil {
				return netip.Addr{}, err
			}
			connected, until = true, time.Now().Add(ipv4Patience)
			continue
		}
		if time.Now().After(until) {
			return netip.Addr{}, errors.New("that peer has no IPv4 address that this node uses: 'hnet status' on both shows why, if it is no older version, a stock WireGuard client, or 'ipv4: off'")
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// addressText is an address, "" for none.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
