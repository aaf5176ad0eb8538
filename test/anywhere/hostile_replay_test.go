package anywhere

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// TestReplay sends again, from where they came and from elsewhere, what a Base and its clients said to each other.
func TestReplay(t *testing.T) {
	t.Parallel()
	v := newBesieged(t)
	// All that a registration consists of, and what is relayed.
	capture := v.bases[0].Capture(t, "lan0")
	e, _ := v.robot(v.net.Site("yard", internet.Symmetric), "robot5")
	fleet.Trust(v.c, e)
	e.Hnet("ping", v.c.Address.String(), "-c", "3", "-i", "100ms")
	v.c.Hnet("ping", v.d.Address.String(), "-c", "3", "-i", "100ms")
	var all []lab.Packet
	types := make(map[wire.Type]int)
	for _, f := range capture.Stop() {
		p := f.Decode()
		if kind := wire.TypeOf(p.Payload); p.Kind == lab.UDP && p.Src.Is4() && kind != 0 && len(p.Payload) == p.PayloadLen {
			all = append(all, p)
			types[kind]++
		}
	}
	for _, kind := range []wire.Type{wire.TypeHello, wire.TypeCookie, wire.TypeRegister, wire.TypeWelcome, wire.TypeControl, wire.TypeBaseControl, wire.TypeRelay, wire.TypeRelayed} {
		if types[kind] == 0 {
			t.Fatalf("no %v was captured: %v", kind, types)
		}
	}
	robots := []*fleet.Robot{v.a, v.b, v.c, v.d, e}
	lines := make([]int, len(robots))
	for i, r := range robots {
		lines[i] = strings.Count(r.Daemon.Output(), "\n")
	}
	back := v.stranger.Capture(t, "lan0")
	f := newForger(t, v.stranger.Host)
	in, out, n := 0, 0, 0
	lost := loss(t, append(v.pairs(), [2]*fleet.Robot{v.c, e}), func() {
		for range 20 {
			for _, p := range all {
				to := netip.AddrPortFrom(p.Dst, p.DstPort)
				f.add(netip.AddrPortFrom(p.Src, p.SrcPort), to, p.Payload)
				f.add(netip.AddrPortFrom(p.Src, p.SrcPort+1), to, p.Payload)
				f.add(v.ownEndpoint(), to, p.Payload)
				in += ipUDP + len(p.Payload)
				if n += 3; n%60 == 0 {
					f.flush()
					time.Sleep(20 * time.Millisecond)
				}
			}
		}
		f.flush()
	})
	t.Logf("%d datagrams of %d kinds were sent %d times", len(all), len(types), n)
	for _, frame := range back.Stop() {
		if p := frame.Decode(); !frame.Out && p.Kind == lab.UDP {
			out += frame.Len - 14
		}
	}
	if out > in {
		t.Errorf("%d bytes from elsewhere were answered with %d", in, out)
	}
	for i, pair := range []string{"direct", "relayed", "newly relayed"} {
		if lost[i] >= 0.01 {
			t.Errorf("the %s tunnel lost %.2f %%", pair, 100*lost[i])
		}
	}
	for i, r := range robots {
		var s api.Status
		r.JSON(&s, "status")
		if len(s.Bases) != 1 || s.Bases[0].State != api.BaseRegistered {
			t.Errorf("%s: %+v", r.Name(), s.Bases)
		}
		if said := strings.Count(r.Daemon.Output(), "\n") - lines[i]; said > 10 {
			t.Errorf("%s wrote %d lines", r.Name(), said)
		}
	}
	pathWithin(t, v.c, v.d, 5*time.Second, api.PathRelayUDP)
	pathWithin(t, e, v.c, 5*time.Second, api.PathRelayUDP)
}

// TestImpostor puts another Base in the place of the one that is configured, by UDP and by TLS.
func TestImpostor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "base1", "base2")
	genuine, impostor := w.bases[0], w.bases[1]
	config := fmt.Sprintf("bases:\n  - {host: base2, address: \"%s\"}\n", genuine.Address)
	byUDP := fleet.Start(t, w.net.Site("home", internet.PortRestricted).Host("robot1").Host, config)
	byTLS := fleet.Start(t, w.net.Site("office", internet.HTTPSOnly).Host("robot2").Host, config)
	// Over UDP the first answer tells; what a TLS connection fails of, 'hnet doctor' says.
	line := byUDP.Daemon.WaitLine("level=WARN.*"+impostor.Address.String(), 20*time.Second)
	for _, r := range []*fleet.Robot{byUDP, byTLS} {
		lab.Eventually(t, 20*time.Second, r.Name()+" says what is wrong", func() error {
			if r == byTLS {
				line, _ = r.TryHnet("doctor")
			}
			for _, want := range []string{impostor.Address.String(), genuine.Address.String(), "correct the Base's host or address in the configuration"} {
				if !strings.Contains(line, want) {
					return fmt.Errorf("no %q in: %s", want, line)
				}
			}
			return nil
		})
		if out, code := r.TryHnet("wait", "base", "--timeout", "1s"); code == 0 {
			t.Errorf("%s is registered with an impostor:\n%s", r.Name(), out)
		}
	}
}
