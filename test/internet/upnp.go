package internet

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// miniupnpd's configuration. It maps ports to the host that asks only, and only high ones.
const upnpConfiguration = `ext_ifname=%s
listening_ip=%s
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
http_port=5000
uuid=00000000-0000-0000-0000-00000000%04x
friendly_name=lab router
upnp_table_name=miniupnpd
upnp_nat_table_name=miniupnpd
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 %s 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
`

// startUPnP runs miniupnpd, which speaks UPnP IGD, NAT-PMP and PCP, on a router whose rules have its chains.
func startUPnP(t lab.TB, r *lab.Router, outer, inner string, inside netip.Prefix, number int) *lab.Process {
	t.Helper()
	program, err := exec.LookPath("miniupnpd")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/miniupnpd") // not in everyone's PATH
	}
	if err != nil {
		t.Fatalf("internet: no miniupnpd on this machine: run test/install-deps.sh lab")
	}
	text := fmt.Sprintf(upnpConfiguration, outer, inner, number, inside.Masked())
	if err := os.WriteFile(r.Path("/run/miniupnpd.conf"), []byte(text), 0o644); err != nil {
		t.Fatalf("internet: %v", err)
	}
	p := r.Start(t, program, "-d", "-f", "/run/miniupnpd.conf", "-P", "/run/miniupnpd.pid")
	p.WaitLine(`Listening for NAT-PMP`, 10*time.Second)
	return p
}
