package hnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// serviceTimeout is how long the daemon may take for a request.
const serviceTimeout = 10 * time.Second

// serve opens the services.
func (b *bridge) serve() error {
	n := b.node
	_, err1 := ros.NewService(n, "~/whitelist_add", func(ctx context.Context, q *hnet_bridge.WhitelistAddRequest, info ros.RequestInfo) (*hnet_bridge.WhitelistAddResponse, error) {
		r := new(hnet_bridge.WhitelistAddResponse)
		r.Success, r.Message = b.change(ctx, info, func(ctx context.Context) (string, error) {
			a, err := parseAddress(q.Address)
			if err != nil {
				return "", err
			}
			e, err := b.client.WhitelistAdd(ctx, api.WhitelistAdd{Address: a, Hostname: strings.TrimSpace(q.Hostname)})
			return entryWords(e.Address, e.Hostname) + " is in the whitelist", err
		})
		return r, nil
	})
	_, err2 := ros.NewService(n, "~/whitelist_rm", func(ctx context.Context, q *hnet_bridge.WhitelistRmRequest, info ros.RequestInfo) (*hnet_bridge.WhitelistRmResponse, error) {
		r := new(hnet_bridge.WhitelistRmResponse)
		r.Success, r.Message = b.change(ctx, info, func(ctx context.Context) (string, error) {
			peer, err := notEmpty(q.Address, "address")
			if err != nil {
				return "", err
			}
			e, err := b.client.WhitelistRemove(ctx, peer)
			return entryWords(e.Address, e.Hostname) + " is no longer in the whitelist", err
		})
		return r, nil
	})
	_, err3 := ros.NewService(n, "~/whitelist_list", func(ctx context.Context, _ *hnet_bridge.WhitelistListRequest, _ ros.RequestInfo) (*hnet_bridge.WhitelistListResponse, error) {
		r := new(hnet_bridge.WhitelistListResponse)
		r.Success, r.Message = ask(ctx, func(ctx context.Context) (string, error) {
			w, err := b.client.Whitelist(ctx)
			r.Enabled, r.Entries = w.Enabled, WhitelistMessages(w.Entries)
			return plural(len(w.Entries), "peer"), err
		})
		return r, nil
	})
	_, err4 := ros.NewService(n, "~/whitelist_enable", func(ctx context.Context, q *std_srvs.SetBoolRequest, info ros.RequestInfo) (*std_srvs.SetBoolResponse, error) {
		r := new(std_srvs.SetBoolResponse)
		r.Success, r.Message = b.change(ctx, info, func(ctx context.Context) (string, error) {
			if err := b.client.WhitelistEnable(ctx, q.Data); err != nil {
				return "", err
			}
			if q.Data {
				return "the whitelist is on", nil
			}
			return "the whitelist is off: any node that reaches this one may talk to it", nil
		})
		return r, nil
	})
	_, err5 := ros.NewService(n, "~/hostname_add", func(ctx context.Context, q *hnet_bridge.HostnameAddRequest, info ros.RequestInfo) (*hnet_bridge.HostnameAddResponse, error) {
		r := new(hnet_bridge.HostnameAddResponse)
		r.Success, r.Message = b.change(ctx, info, func(ctx context.Context) (string, error) {
			name, err := notEmpty(q.Name, "name")
			if err != nil {
				return "", err
			}
			a, err := parseAddress(q.Address)
			if err != nil {
				return "", err
			}
			e, err := b.client.HostAdd(ctx, api.HostAdd{Name: name, Address: a})
			return fmt.Sprintf("%s is %s", e.Name, text(e.Address)), err
		})
		return r, nil
	})
	_, err6 := ros.NewService(n, "~/hostname_rm", func(ctx context.Context, q *hnet_bridge.HostnameRmRequest, info ros.RequestInfo) (*hnet_bridge.HostnameRmResponse, error) {
		r := new(hnet_bridge.HostnameRmResponse)
		r.Success, r.Message = b.change(ctx, info, func(ctx context.Context) (string, error) {
			name, err := notEmpty(q.Name, "name")
			if err != nil {
				return "", err
			}
			e, err := b.client.HostRemove(ctx, name)
			return fmt.Sprintf("%s is no longer %s", e.Name, text(e.Address)), err
		})
		return r, nil
	})
	_, err7 := ros.NewService(n, "~/hostname_list", func(ctx context.Context, _ *hnet_bridge.HostnameListRequest, _ ros.RequestInfo) (*hnet_bridge.HostnameListResponse, error) {
		r := new(hnet_bridge.HostnameListResponse)
		r.Success, r.Message = ask(ctx, func(ctx context.Context) (string, error) {
			hosts, err := b.client.Hosts(ctx)
			r.Entries = HostnameMessages(hosts)
			return plural(len(hosts), "name"), err
		})
		return r, nil
	})
	return errors.Join(err1, err2, err3, err4, err5, err6, err7)
}

// change carries out a request that changes something, if whoever asks may.
func (b *bridge) change(ctx context.Context, info ros.RequestInfo, do func(context.Context) (string, error)) (success bool, message string) {
	if err := b.guard.Permit(info); err != nil {
		return false, err.Error()
	}
	success, message = ask(ctx, do)
	b.node.Log().Info("a change was asked for", "service", info.Service, "from", info.From, "done", success, "message", message)
	return success, message
}

// ask has the daemon asked something, and puts its answer into a response's first two fields.
func ask(ctx context.Context, do func(context.Context) (string, error)) (success bool, message string) {
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	message, err := do(ctx)
	if err != nil {
		return false, err.Error()
	}
	return true, message
}

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return a, fmt.Errorf("%.100q is no address: 'hnet id' on the other node shows its own, fc94:…", s)
	}
	return a, nil
}

func notEmpty(s, what string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", fmt.Errorf("the %s is empty", what)
	}
	return s, nil
}

func entryWords(a netip.Addr, hostname string) string {
	if hostname == "" {
		return text(a)
	}
	return fmt.Sprintf("%s (%s)", hostname, text(a))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
