package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// phone is a host that runs the reference implementation of WireGuard, which knows nothing of hnet.
type phone struct {
	*lab.Host
	t       *testing.T
	id      *identity.Identity
	address netip.Addr
}

const phonePort = 51820

// newPhone starts wireguard-go with a key of its own and the address that 'hnet id KEY' gives for it.
func newPhone(t *testing.T, h *lab.Host, robot *fleet.Robot) *phone {
	t.Helper()
	p := &phone{Host: h, t: t, id: identity.FromSeed([32]byte{1, 2, 3})}
	var id api.ID
	robot.JSON(&id, "id", p.key())
	p.address = id.Address
	command := h.Command(context.Background(), fleet.Binary(t, "wireguard"), "-f", "wg0")
	command.Env = append(os.Environ(), "WG_PROCESS_FOREGROUND=1", "LOG_LEVEL=error")
	daemon := h.StartCmd(t, command)
	lab.Eventually(t, 5*time.Second, "wireguard-go's socket", func() error {
		select {
		case <-daemon.Done():
			t.Fatalf("wireguard-go ended:\n%s", daemon.Output())
		default:
		}
		return p.try("get=1\n\n")
	})
	private := p.id.PrivateKey()
	p.uapi(fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=%d\n\n", hex.EncodeToString(private[:]), phonePort))
	h.Run(t, "ip", "addr", "add", p.address.String()+"/128", "dev", "wg0")
	h.Run(t, "ip", "link", "set", "wg0", "mtu", "1280", "up")
	h.Run(t, "ip", "-6", "route", "add", identity.Prefix.String(), "dev", "wg0")
	return p
}

func (p *phone) key() string { return p.id.PublicKey().String() }

// try sends one configuration to wireguard-go's socket.
func (p *phone) try(request string) error {
	c, err := net.Dial("unix", p.Path("/run/wireguard/wg0.sock"))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, request)
	for scanner := bufio.NewScanner(c); scanner.Scan(); {
		if code, ok := strings.CutPrefix(scanner.Text(), "errno="); ok {
			if code != "0" {
				return fmt.Errorf("wireguard-go answers errno %s", code)
			}
			return nil
		}
	}
	return fmt.Errorf("wireguard-go does not answer")
}

func (p *phone) uapi(request string) {
	p.t.Helper()
	if err := p.try(request); err != nil {
		p.t.Fatal(err)
	}
}

// knows makes the robot the one peer of the phone, which forgets what it had with it; endpoint and psk may be empty.
func (p *phone) knows(robot *fleet.Robot, endpoint string, psk []byte) {
	p.t.Helper()
	var id api.ID
	robot.JSON(&id, "id")
	key, err := base64.StdEncoding.DecodeString(id.WireGuard)
	if err != nil {
		p.t.Fatal(err)
	}
	lines := fmt.Sprintf("set=1\nreplace_peers=true\npublic_key=%s\nallowed_ip=%s/128\n", hex.EncodeToString(key), robot.Address)
	if endpoint != "" {
		lines += "endpoint=" + endpoint + "\n"
	}
	if psk != nil {
		lines += "preshared_key=" + hex.EncodeToString(psk) + "\n"
	}
	p.uapi(lines + "\n")
}

// pings checks that robot and phone hear each other, beginning with one of them, with packets of all kinds of sizes.
func (p *phone) pings(robot *fleet.Robot, phoneFirst bool) {
	p.t.Helper()
	fromPhone := func(args ...string) {
		p.t.Helper()
		if out, code := finish(p.t, p.Host, "ping", append(args, "-n", "-6", "-c1", "-W2", robot.Address.String())...); code != 0 {
			p.t.Fatalf("the phone does not reach the robot:\n%s", out)
		}
	}
	fromRobot := func(args ...string) {
		p.t.Helper()
		if out, code := ping(robot, p.address, append(args, "-c1", "-W2")...); code != 0 {
			p.t.Fatalf("the robot does not reach the phone:\n%s", out)
		}
	}
	if phoneFirst {
		fromPhone()
	}
	fromRobot()
	for _, size := range []string{"0", "1", "1200", "1232", "1233", "3000", "20000"} {
		fromPhone("-s", size)
		fromRobot("-s", size)
	}
}

func TestPhone(t *testing.T) {
	t.Parallel()
	psk := []byte("thirty-two bytes of great secret")
	for name, test := range map[string]struct {
		addressing lab.Addressing
		robotFirst bool
		psk        []byte
	}{
		"the phone begins":           {lab.Dual, false, nil},
		"the robot begins":           {lab.Dual, true, nil},
		"the phone begins, with PSK": {lab.Dual, false, psk},
		"the robot begins, with PSK": {lab.Dual, true, psk},
		"over IPv6":                  {lab.IPv6Only, false, nil},
		"the robot begins, IPv6":     {lab.IPv6Only, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			ha, hp := l.Host("robot1"), l.Host("phone")
			l.LAN(lab.Link{}, ha, hp, test.addressing)
			a := fleet.Start(t, ha, "")
			p := newPhone(t, hp, a)
			underlay := func(h *lab.Host) netip.Addr {
				if test.addressing == lab.IPv6Only {
					return h.Addr6("lan0")
				}
				return h.Addr4("lan0")
			}
			add := []string{"whitelist", "add", p.key(), "--hostname", "phone"}
			if test.psk != nil {
				a.Write("/etc/hnet/psk", base64.StdEncoding.EncodeToString(test.psk)+"\n")
				add = append(add, "--psk-file", "/etc/hnet/psk")
			}
			if test.robotFirst {
				p.knows(a, "", test.psk)
				a.Hnet(append(add, "--endpoint", netip.AddrPortFrom(underlay(hp), phonePort).String())...)
			} else {
				a.Hnet(add...)
				p.knows(a, netip.AddrPortFrom(underlay(ha), 5582).String(), test.psk)
			}
			capture := a.Capture(t, "lan0")
			p.pings(a, !test.robotFirst)
			for _, f := range capture.Stop() {
				if d := f.Decode(); d.Kind == lab.UDP && d.DstPort != 5583 && !d.Fragment && !d.WireGuard() {
					t.Errorf("a stock client got or sent what is not WireGuard: %s", d)
				}
			}
			if got := strings.TrimSpace(a.Hnet("ip", "phone")); got != p.address.String() {
				t.Errorf("the phone is %s, not %s", got, p.address)
			}
			s, _ := a.Peer(p.address)
			if s.State != api.Connected || s.Endpoint.Port() != phonePort {
				t.Errorf("hnet says of the phone: %+v", s)
			}

			// The phone takes another address, as between Wi-Fi cells: its next packet tells.
			if test.addressing == lab.Dual {
				moved := netip.MustParsePrefix("10.0.1.77/24")
				hp.SetAddr("lan0", moved)
				p.pings(a, true)
				if s, _ := a.Peer(p.address); s.Endpoint.Addr() != moved.Addr() {
					t.Errorf("the phone moved, and the robot sends to %s", s.Endpoint)
				}
			}

			// The robot restarts: it remembers where the phone was, and begins at once.
			s, _ = a.Peer(p.address)
			lab.Eventually(t, 10*time.Second, "the phone's endpoint is stored", func() error {
				if stored := snapshot(t, a.Path(stateDir))["/contacts.json"]; !strings.Contains(stored, s.Endpoint.String()) {
					return fmt.Errorf("contacts.json: %s", stored)
				}
				return nil
			})
			a.Daemon.Kill9()
			a.Restart()
			lab.Eventually(t, 5*time.Second, "the phone after the robot's restart", func() error {
				if out, code := ping(a, p.address, "-c1", "-W1"); code != 0 {
					return fmt.Errorf("%s", out)
				}
				return nil
			})

			// Off the list, it is off the network.
			a.Hnet("whitelist", "rm", "phone")
			if out, code := finish(t, hp, "ping", "-n", "-6", "-c1", "-W0.3", a.Address.String()); code == 0 {
				t.Errorf("the phone still reaches the robot:\n%s", out)
			}
		})
	}
}

// TestPhoneWithWrongSecrets: neither another PSK nor another source address gets anything through.
func TestPhoneWithWrongSecrets(t *testing.T) {
	l := lab.New(t)
	ha, hp := l.Host("robot1"), l.Host("phone")
	l.LAN(lab.Link{}, ha, hp, lab.IPv4Only)
	a := fleet.Start(t, ha, "")
	p := newPhone(t, hp, a)
	a.Write("/etc/hnet/psk", base64.StdEncoding.EncodeToString([]byte("thirty-two bytes of great secret"))+"\n")
	a.Hnet("whitelist", "add", p.key(), "--psk-file", "/etc/hnet/psk")
	endpoint := netip.AddrPortFrom(ha.Addr4("lan0"), 5582).String()
	p.knows(a, endpoint, []byte("thirty-two bytes of small secret"))
	if out, code := finish(t, hp, "ping", "-n", "-6", "-c1", "-W0.5", a.Address.String()); code == 0 {
		t.Fatalf("a wrong PSK got through:\n%s", out)
	}
	a.Hnet("whitelist", "rm", p.address.String())
	a.Hnet("whitelist", "add", p.key())
	p.knows(a, endpoint, make([]byte, 32))
	if out, code := finish(t, hp, "ping", "-n", "-6", "-c1", "-W10", a.Address.String()); code != 0 {
		t.Fatalf("without a PSK on either side the phone does not get through:\n%s", out)
	}
	// With the session up, the phone speaks in another's name.
	received := listenUDP(t, a, netip.AddrPortFrom(a.Address, 7000))
	hp.Run(t, "ip", "addr", "add", "fc94::bad/128", "dev", "wg0")
	for i, from := range []netip.Addr{netip.MustParseAddr("fc94::bad"), p.address} {
		c := listenUDP(t, hp, netip.AddrPortFrom(from, 0))
		if _, err := c.WriteToUDPAddrPort([]byte{byte(i)}, netip.AddrPortFrom(a.Address, 7000)); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 10)
	received.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := received.ReadFromUDPAddrPort(buffer)
	if err != nil || n != 1 || buffer[0] != 1 || from.Addr() != p.address {
		t.Errorf("the first datagram that came in is %v from %v (%v), not the one with the phone's own address", buffer[:n], from, err)
	}
}
