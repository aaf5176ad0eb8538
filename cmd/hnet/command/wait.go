package command

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

const (
	waitRetry = 100 * time.Millisecond // between two looks
	waitGrace = 2 * time.Second        // for a look that began in time
)

func (a *app) wait() *cobra.Command {
	timeout := span(30 * time.Second)
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the daemon, a Base or a peer is ready",
		Long:  "Wait until something is ready; if it is not in time, exit with 1 and say what is missing.",
	}
	group(cmd)
	cmd.PersistentFlags().Var(&timeout, "timeout", "how long at most")
	cmd.AddCommand(
		&cobra.Command{
			Use:   "daemon",
			Short: "Wait until hnetd answers and its interface has its address",
			Args:  exactly(),
			RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
				return a.waitDaemon(ctx, c, time.Duration(timeout))
			}),
		},
		&cobra.Command{
			Use:   "base",
			Short: "Wait until this node is registered with a Base",
			Args:  exactly(),
			RunE: a.call(func(ctx context.Context, c *api.Client, _ []string) error {
				return a.waitBase(ctx, c, time.Duration(timeout))
			}),
		},
		&cobra.Command{
			Use:               "peer PEER",
			Short:             "Make contact with a peer and wait until it is connected",
			Args:              exactly("PEER"),
			ValidArgsFunction: a.completeOnce(a.peerWords),
			RunE: a.call(func(ctx context.Context, c *api.Client, args []string) error {
				return a.waitPeer(ctx, c, args[0], time.Duration(timeout))
			}),
		},
	)
	return cmd
}

// until looks again and again, at least once, until look succeeds or says that waiting is no use.
func until[T any](ctx context.Context, timeout time.Duration, look func(ctx context.Context) (v T, final bool, err error)) (T, error) {
	// The last look may take a moment beyond, so that its own words come through.
	ctx, cancel := context.WithTimeout(ctx, timeout+waitGrace)
	defer cancel()
	end := time.Now().Add(timeout)
	var missing error
	for {
		v, final, err := look(ctx)
		if err == nil || final {
			return v, err
		}
		// What was missing before time ran out says more than that it ran out.
		if ctx.Err() == nil || missing == nil {
			missing = err
		}
		left := time.Until(end)
		if left > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(min(waitRetry, left)):
			}
		}
		switch {
		case context.Cause(ctx) == context.Canceled:
			return v, context.Canceled
		case left <= 0, ctx.Err() != nil:
			return v, fmt.Errorf("waited %s in vain: %w", timeout, missing)
		}
	}
}

func (a *app) waitDaemon(ctx context.Context, c *api.Client, timeout time.Duration) error {
	s, err := until(ctx, timeout, func(ctx context.Context) (api.Status, bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return s, false, err
		}
		addrs, err := a.Addresses(s.Interface)
		if err != nil {
			return s, false, fmt.Errorf("hnetd answers, but %w: look at 'hnet status'", err)
		}
		if !slices.Contains(addrs, s.Address) {
			return s, false, fmt.Errorf("hnetd answers, but %s does not have the address %s: look at 'hnet status'", s.Interface, s.Address)
		}
		return s, false, nil
	})
	if err != nil {
		return err
	}
	return a.show(s, func() string { return fmt.Sprintf("hnetd is ready: %s has %s\n", s.Interface, s.Address) })
}

func (a *app) waitBase(ctx context.Context, c *api.Client, timeout time.Duration) error {
	b, err := until(ctx, timeout, func(ctx context.Context) (api.Base, bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return api.Base{}, false, err
		}
		for _, b := range s.Bases {
			if b.State == api.BaseRegistered {
				return b, false, nil
			}
		}
		if len(s.Bases) == 0 {
			return api.Base{}, false, fmt.Errorf("no Base is known: name one under bases: in %s", a.paths.Config)
		}
		b := s.Bases[0]
		return b, false, fmt.Errorf("%s is %s: look at 'hnet status'", named(b.Host, b.Address), b.State)
	})
	if err != nil {
		return err
	}
	return a.show(b, func() string {
		return fmt.Sprintf("registered with %s by %s\n", named(b.Host, b.Address), orNone(b.Transport))
	})
}

func (a *app) waitPeer(ctx context.Context, c *api.Client, peer string, timeout time.Duration) error {
	end := time.Now().Add(timeout)
	p, err := until(ctx, timeout, func(ctx context.Context) (api.Peer, bool, error) {
		p, err := c.Connect(ctx, peer, time.Until(end))
		// A daemon that is still starting is worth waiting for; what it refuses is not.
		final := !api.IsCode(err, api.CodeNotRunning) && !api.IsCode(err, api.CodeTimeout)
		return p, final, err
	})
	if err != nil {
		return err
	}
	return a.show(p, func() string {
		line := fmt.Sprintf("%s is connected by %s", named(p.Hostname, p.Address), pathText(p.Path))
		if p.Endpoint.IsValid() {
			line += " at " + p.Endpoint.String()
		}
		if p.RTT != nil {
			line += ", " + humanMS(p.RTT)
		}
		return line + "\n"
	})
}
