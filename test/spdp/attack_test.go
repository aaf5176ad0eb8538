package spdp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// asAttacker as first argument makes this test binary a program that speaks for others' participants: the second is its
// own address, the third that of the host with the participants, the fourth how many there are.
const asAttacker = "as-attacker"

// attack asks the participants of a host who they are, and tells each that the others have ended.
func attack(own, victim netip.Addr, count int) error {
	conn, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 7490)))
	if err != nil {
		return err
	}
	defer conn.Close()
	here := []wire.Locator{wire.LocatorFrom(netip.AddrPortFrom(own, 7490))}
	me := wire.GuidPrefix{6, 6, 6, 6}
	d := wire.ParticipantData{
		GUID: wire.GUID{Prefix: me, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: wire.VendorCyclone,
		Builtin: wire.HasSPDPWriter | wire.HasSPDPReader, Lease: 100 * time.Second, MetatrafficUnicast: here, DefaultUnicast: here, HasDomainID: true,
	}
	header := wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: me}
	b := wire.NewBuilder(nil, header)
	b.Data(&wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	at := map[wire.GuidPrefix]netip.AddrPort{}
	buf := make([]byte, 65536)
	for until := time.Now().Add(patience); len(at) < count; {
		if time.Now().After(until) {
			return fmt.Errorf("%d participants answer, not %d", len(at), count)
		}
		for i := range 12 {
			if _, err := conn.WriteToUDPAddrPort(b.Bytes(), netip.AddrPortFrom(victim, uint16(7410+2*i))); err != nil {
				return err
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for len(at) < count {
			n, _, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			} else if err != nil {
				return err
			}
			collect(at, buf[:n], victim)
		}
	}
	fmt.Println("found", len(at))
	for _, forged := range []bool{true, false} {
		for prefix := range at {
			h := header
			if forged { // in its name; else in the attacker's own, about it
				h.Prefix = prefix
			}
			guid := wire.GUID{Prefix: prefix, Entity: wire.EntityParticipant}
			qos := wire.AppendInlineQoS(nil, wire.InlineQoS{KeyHash: guid.Bytes(), HasKeyHash: true, Status: wire.StatusDisposed | wire.StatusUnregistered})
			for _, payload := range [][]byte{wire.AppendKey(nil, wire.PIDParticipantGUID, guid), nil} { // for Cyclone DDS, for Fast DDS
				end := wire.Data{Reader: wire.EntitySPDPReader, Writer: wire.EntitySPDPWriter, SN: 1 << 20, InlineQoS: wire.ParameterList{Bytes: qos}}
				if payload != nil {
					end.Content, end.Payload = wire.KeyContent, payload
				}
				b := wire.NewBuilder(nil, h)
				b.Data(&end)
				for other, to := range at {
					if other == prefix {
						continue
					}
					if _, err := conn.WriteToUDPAddrPort(b.Bytes(), to); err != nil {
						return err
					}
				}
			}
		}
	}
	fmt.Println("told")
	return nil
}

// collect takes the participants of a host from an announcement.
func collect(at map[wire.GuidPrefix]netip.AddrPort, b []byte, host netip.Addr) {
	r, err := wire.NewReader(b)
	if err != nil {
		return
	}
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		d, ok := s.(*wire.Data)
		if !ok || d.Writer != wire.EntitySPDPWriter {
			continue
		}
		p, err := wire.ParseParticipant(d.Payload)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(p.MetatrafficUnicast, func(l wire.Locator) bool {
			a, ok := l.AddrPort()
			return ok && a.Addr() == host
		})
		if i >= 0 && p.Name != "hnet discovery relay" {
			at[p.GUID.Prefix], _ = p.MetatrafficUnicast[i].AddrPort()
		}
	}
}

// TestForgedEnds: a whitelisted host tells the programs of another that their neighbours on that host have ended. They
// believe it, but for the guard of their daemon.
func TestForgedEnds(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		t.Run(map[bool]string{false: "unguarded", true: "guarded"}[guarded], func(t *testing.T) {
			programs := programs(t)
			l := lab.New(t)
			a, b := l.Host("robot1"), l.Host("robot2")
			l.LAN(lab.Link{}, a, b)
			victim := &robot{fleet.Start(t, a, fmt.Sprintf("dds: {enabled: %v}\n", guarded)), t, programs, nil}
			enemy := &robot{fleet.Start(t, b, "dds: {enabled: false}\n"), t, programs, nil}
			trust(victim, enemy)
			// With the relay in their profiles, those who know each other are known to it.
			victim.profiles(guarded)
			running := map[string]*lab.Process{}
			for _, v := range vendors {
				for i := range 2 {
					n := fmt.Sprintf("%s%d", v, i)
					running[n] = victim.startNamed(n, v, "both", 0, "--rate", "5")
				}
			}
			for _, p := range running {
				matched(t, p, len(running)-1)
			}
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			args := []string{asAttacker, enemy.Address.String(), victim.Address.String(), fmt.Sprint(len(running))}
			enemy.Start(t, exe, args...).WaitLine(`^told$`, patience)
			parted := func() (n int) {
				for _, p := range running {
					n += len(running) - 1 - matchesLeast(p)
				}
				return n
			}
			if guarded {
				more(t, running)
				if n := parted(); n > 0 {
					t.Errorf("%d acquaintances on the host ended", n)
				}
				return
			}
			lab.Eventually(t, patience, "programs that part", func() error {
				if n := parted(); n < len(running) {
					return fmt.Errorf("%d acquaintances ended", n)
				}
				return nil
			})
			t.Logf("without a guard, %d of %d acquaintances on the host ended", parted(), len(running)*(len(running)-1))
		})
	}
}

// matchesLeast is the least number of remote endpoints that a program knew since it knew the most.
func matchesLeast(p *lab.Process) (least int) {
	most := 0
	for line := range lines(p) {
		var now int
		if _, err := fmt.Sscanf(line, "matched %d", &now); err != nil {
			continue
		}
		if now >= most {
			most, least = now, now
		}
		least = min(least, now)
	}
	return least
}
