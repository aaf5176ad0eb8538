package fleet

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Base is a host that runs hnet_base.
type Base struct {
	*lab.Host
	Daemon  *lab.Process
	Address netip.Addr // overlay address, which clients pin
	args    []string
	t       lab.TB
}

// StartBase starts hnet_base on the host, with its default ports unless args say otherwise, and returns when it is ready.
func StartBase(t lab.TB, h *lab.Host, args ...string) *Base {
	t.Helper()
	b := &Base{Host: h, args: args, t: t}
	id := strings.TrimSpace(h.Run(t, Binary(t, "hnet_base"), "id", "--state", "/var/lib/hnet_base"))
	address, err := netip.ParseAddr(id)
	if err != nil {
		t.Fatalf("'hnet_base id' printed %q", id)
	}
	b.Address = address
	b.Restart()
	return b
}

// Restart starts hnet_base, which must not be running.
func (b *Base) Restart() {
	b.t.Helper()
	args := append([]string{"--state", "/var/lib/hnet_base"}, b.args...)
	b.Daemon = b.Start(b.t, Binary(b.t, "hnet_base"), args...)
	b.Daemon.WaitLine(b.Address.String(), 20*time.Second)
}

// Addresses are those of the host's network devices, overlay and link-local ones apart.
func (b *Base) Addresses() (list []netip.Addr) {
	for _, field := range strings.Fields(b.Run(b.t, "ip", "-o", "addr", "show", "scope", "global")) {
		if p, err := netip.ParsePrefix(field); err == nil {
			list = append(list, p.Addr())
		}
	}
	return list
}

// Entry is the line for the 'bases' of a client's configuration; host is the name or address under which the client finds the Base.
func (b *Base) Entry(host string) string {
	return fmt.Sprintf("  - {host: \"%s\", address: \"%s\"}\n", host, b.Address)
}
