package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// envChild makes a process of this test the program on a host of the lab: see child.
const envChild = "HNET_PORTMAP_CHILD"

func TestMain(m *testing.M) {
	lab.Enter() // or become what runs on a host
	if how := os.Getenv(envChild); how != "" {
		if err := child(how); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child maps a port, tells on standard output what came of it, and sends datagrams to the port back, until it is ended.
func child(how string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer cancel()
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	port := uint16(conn.LocalAddr().(*net.UDPAddr).Port)
	if how == NATPMP {
		// The servers here speak PCP too, which is preferred.
		gateways, err := DefaultGateways("")
		if err != nil || len(gateways) == 0 {
			return fmt.Errorf("gateways %v, %v", gateways, err)
		}
		r := newRouter(gateways[0]).(*router)
		g, err := r.mapPMP(ctx, port, port, asked)
		if err != nil {
			return err
		}
		fmt.Println("mapped", g.protocol, g.external)
		<-ctx.Done()
		r.clear(context.WithoutCancel(ctx))
		fmt.Println("ended")
		return nil
	}
	m := New(Config{
		Port: func() uint16 { return port },
		Notify: func(all []Mapping) {
			for _, m := range all {
				fmt.Println("mapped", m.Protocol, m.External, m.Double)
			}
		},
		Log: slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err := m.Run(ctx); err != nil {
		return err
	}
	fmt.Println("ended")
	return nil
}

// house is a network behind a router with miniupnpd, and a host on its other side.
type house struct {
	*lab.Lab
	router       *lab.Router
	inside, peer *lab.Host
	program      string
}

const (
	outerAddr = "20.0.0.1" // not one for documentation: miniupnpd maps nothing on an address that is not of the Internet
	peerAddr  = "20.0.0.2"
	rules     = `
table inet filter {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		iifname "lan0" accept
		jump miniupnpd
	}
	chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
	chain postrouting {
		type nat hook postrouting priority 100;
		jump postrouting_miniupnpd
		ip version 4 oifname "lan1" masquerade
	}
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
}`
)

func newHouse(t *testing.T, options string) *house {
	t.Helper()
	l := lab.New(t)
	program, err := exec.LookPath("miniupnpd")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/miniupnpd") // not in everybody's PATH
	}
	if err != nil {
		if os.Getenv("HNET_LAB") == "required" {
			t.Fatal("miniupnpd is missing: install miniupnpd-nftables: ", err)
		}
		t.Skip("miniupnpd is missing: install miniupnpd-nftables: ", err)
	}
	h := &house{Lab: l, program: program, router: l.Router("router"), inside: l.Host("inside"), peer: l.Host("peer")}
	l.LAN(lab.Link{}, h.router, h.inside)
	l.LAN(lab.Link{}, h.router, h.peer, lab.IPv6Only)
	h.router.Run(t, "ip", "address", "add", outerAddr+"/24", "dev", "lan1")
	h.peer.Run(t, "ip", "address", "add", peerAddr+"/24", "dev", "lan0")
	h.router.Rules(t, rules)
	config := h.router.Path("/run/miniupnpd.conf")
	text := "ext_ifname=lan1\nlistening_ip=lan0\nsecure_mode=yes\nsystem_uptime=no\nnotify_interval=60\n" +
		"uuid=00000000-0000-0000-0000-000000000000\n" + options +
		"\nallow 1024-65535 10.0.0.0/8 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return h
}

// serve starts miniupnpd on the router.
func (h *house) serve(t *testing.T) *lab.Process {
	t.Helper()
	p := h.router.Start(t, h.program, "-d", "-f", "/run/miniupnpd.conf", "-P", "/run/miniupnpd.pid")
	p.WaitLine("(?i)listening (on|for)", 10*time.Second)
	return p
}

// start starts the child inside, and returns where it is seen.
func (h *house) start(t *testing.T, how string) (*lab.Process, netip.AddrPort) {
	t.Helper()
	cmd := h.inside.Command(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), envChild+"="+how)
	p := h.inside.StartCmd(t, cmd)
	return p, seen(t, p, "^(mapped|failed)", how)
}

// seen waits for a line of the child and returns the address in it.
func seen(t *testing.T, p *lab.Process, line, how string) netip.AddrPort {
	t.Helper()
	words := strings.Fields(p.WaitLine(line, 30*time.Second))
	if len(words) < 3 || words[1] != how {
		t.Fatalf("%v", words)
	}
	return netip.MustParseAddrPort(words[2])
}

// reach sends a datagram from outside and waits until it comes back.
func (h *house) reach(t *testing.T, to netip.AddrPort) {
	t.Helper()
	var conn *net.UDPConn
	if err := h.peer.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lab.Eventually(t, 10*time.Second, "a datagram from outside to "+to.String(), func() error {
		if err := conn.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			return err
		}
		_, _ = conn.Write([]byte("hello"))
		b := make([]byte, 10)
		n, err := conn.Read(b)
		if err == nil && string(b[:n]) != "hello" {
			err = fmt.Errorf("%q came back", b[:n])
		}
		return err
	})
}

func (h *house) mapped(t *testing.T) bool {
	return strings.Contains(h.router.Run(t, "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"), "dnat")
}

// end ends the child and sees that nothing is left on the router.
func (h *house) end(t *testing.T, p *lab.Process) {
	t.Helper()
	if !h.mapped(t) {
		t.Error("the router maps nothing")
	}
	p.Signal(unix.SIGTERM)
	p.WaitLine("^ended", 10*time.Second)
	if h.mapped(t) {
		t.Error("the router still maps after the end")
	}
}

// TestMiniupnpd maps through the real thing by each protocol.
func TestMiniupnpd(t *testing.T) {
	t.Parallel()
	for how, options := range map[string]string{
		PCP:    "enable_natpmp=yes\nenable_upnp=no\n",
		NATPMP: "enable_natpmp=yes\nenable_upnp=no\n",
		UPnP:   "enable_natpmp=no\nenable_upnp=yes\n",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options)
			server := h.serve(t)
			p, at := h.start(t, how)
			if at.Addr() != address(outerAddr) {
				t.Errorf("mapped at %v", at)
			}
			h.reach(t, at)
			if how == PCP {
				h.restart(t, server)
				h.reach(t, at)
			}
			h.end(t, p)
		})
	}
}

// TestPinhole opens the router for IPv6, where the host inside has an address of the Internet and the router's is link-local.
func TestPinhole(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "enable_natpmp=yes\nenable_upnp=no\n")
	h.router.Run(t, "ip", "address", "add", "2a00:100::1/64", "dev", "lan0")
	h.router.Run(t, "ip", "address", "add", "2a00:200::1/64", "dev", "lan1")
	h.inside.Run(t, "ip", "address", "add", "2a00:100::7/64", "dev", "lan0")
	h.peer.Run(t, "ip", "address", "add", "2a00:200::7/64", "dev", "lan0")
	h.peer.Run(t, "ip", "route", "add", "2a00:100::/64", "via", "2a00:200::1")
	local := strings.Fields(h.router.Run(t, "ip", "-6", "-oneline", "address", "show", "dev", "lan0", "scope", "link"))[3]
	h.inside.Run(t, "ip", "-6", "route", "replace", "default", "via", netip.MustParsePrefix(local).Addr().String(), "dev", "lan0")
	h.serve(t)
	p, _ := h.start(t, PCP)
	at := seen(t, p, `^mapped pcp \[2a00:100::7\]`, PCP)
	h.reach(t, at)
	h.end(t, p)
	if left := h.router.Run(t, "nft", "list", "chain", "inet", "filter", "miniupnpd"); strings.Contains(left, "accept") {
		t.Errorf("left open: %s", left)
	}
}

// restart restarts the server without its mappings, and waits until the child has mapped again.
func (h *house) restart(t *testing.T, server *lab.Process) {
	t.Helper()
	// RFC 6887 section 8.5 tells a clock that starts anew from one that is late only after a few seconds.
	lived := time.NewTimer(5 * time.Second)
	<-lived.C
	server.Stop()
	h.router.Rules(t, rules)
	if h.mapped(t) {
		t.Fatal("still mapped")
	}
	h.serve(t)
	lab.Eventually(t, 40*time.Second, "mapped again", func() error {
		if !h.mapped(t) {
			return errors.New("not mapped")
		}
		return nil
	})
}
