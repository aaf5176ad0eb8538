package path

import (
	"fmt"
	"testing"
	"time"
)

// twofold returns a robot with Wi-Fi and LTE, and a peer with one public address, that have talked directly for a while.
func twofold(t *testing.T, wifi *natKind) (w *world, robot, peer *host, on *bool) {
	t.Helper()
	w = newWorld(t, 1)
	robot, peer = w.pair(wifi, nil, 1)
	robot.addSpare(3, portRestricted)
	robot.both, peer.both = map[int]bool{}, map[int]bool{}
	on = new(bool)
	*on = true
	w.meet(robot, peer, on)
	if !w.run(3*time.Second, func() bool { return robot.kindNow() == Direct && peer.kindNow() == Direct }) {
		t.Fatal("never direct")
	}
	w.run(20*time.Second, nil)
	return w, robot, peer, on
}

func (h *host) bestIs(t *testing.T, s *simSocket) {
	t.Helper()
	if key, kind, _, _ := h.m.Best(); key.Carrier != s {
		t.Errorf("%s is on %v %v", h.name, kind, key)
	}
}

// TestSpareCostsNothing: an uplink kept for need carries nothing, not even probes, while the other lives.
func TestSpareCostsNothing(t *testing.T) {
	w, robot, peer, _ := twofold(t, &portRestricted)
	w.run(5*time.Minute, nil)
	if robot.bySpare != 0 {
		t.Errorf("%d datagrams by the spare uplink", robot.bySpare)
	}
	robot.bestIs(t, robot.main)
	if _, _, _, ok := peer.m.Backup(); ok {
		t.Error("a path for copies without copies")
	}
}

// TestCopiesOutliveACut cuts each path in turn, silently, and either side sends everything twice: nothing may be lost, and the choice may not flap.
func TestCopiesOutliveACut(t *testing.T) {
	for _, sender := range []string{"robot", "peer", "both"} {
		for _, cut := range []string{"wifi", "lte", "wifi inward", "lte inward"} {
			if sender != "both" && len(cut) > 4 {
				continue
			}
			t.Run(fmt.Sprint(sender, " ", cut), func(t *testing.T) {
				w, robot, peer, _ := twofold(t, &portRestricted)
				robot.copies, peer.copies = sender != "peer", sender != "robot"
				w.run(5*time.Second, nil)
				for _, h := range []*host{robot, peer} {
					key, _, _, ok := h.m.Backup()
					if h.copies && !ok {
						t.Fatalf("%s has no second path", h.name)
					}
					if best, _, _, _ := h.m.Best(); ok && best == key {
						t.Fatalf("%s has one path twice", h.name)
					}
				}
				robot.bestIs(t, robot.main)
				if key, _, _, _ := robot.m.Best(); key != (Key{robot.main, peer.observed()}) {
					t.Fatalf("on %v", key)
				}
				if !peer.copies && !peer.m.Copied(w.time()) || !robot.copies && !robot.m.Copied(w.time()) {
					t.Error("who gets copies does not know")
				}
				firstR, firstP := robot.number, peer.number
				external := robot.nats[0].external
				if cut[:3] == "lte" {
					external = robot.spare.uplink.nat.external
				}
				w.drop = func(p *datagram) bool {
					return p.dst.Addr() == external || len(cut) < 5 && p.src.Addr() == external
				}
				w.run(20*time.Second, nil)
				w.drop = nil
				w.run(40*time.Second, nil)
				check := func(from, to *host, first int) {
					for n := first; n < from.number-5; n++ { // the last are on their way
						if from.copies && !to.both[n] {
							t.Fatalf("%d of %s was lost", n-first, from.name)
						}
					}
				}
				check(robot, peer, firstR)
				check(peer, robot, firstP)
				robot.bestIs(t, robot.main)
				if key, _, _, _ := peer.m.Best(); key.Remote.Addr() != robot.nats[0].external {
					t.Errorf("the peer sends to %v", key)
				}
			})
		}
	}
}

// TestCopiesStayWhereRoutingTurns: the robot loses its Wi-Fi and its routing turns to LTE, on which the peer's copies come. They must not move to the
// relay, which still leads to the Wi-Fi.
func TestCopiesStayWhereRoutingTurns(t *testing.T) {
	w, _, peer, _ := twofold(t, &portRestricted)
	peer.copies = true
	w.run(5*time.Second, nil)
	lte, kind, _, ok := peer.m.Backup()
	if !ok || kind != Direct {
		t.Fatalf("copies go by %v %v", kind, lte)
	}
	peer.m.Asked(w.time(), lte, Direct, 0)
	peer.m.Tick(w.time())
	best, _, _, _ := peer.m.Best()
	if second, kind, _, _ := peer.m.Backup(); best != lte && second != lte {
		t.Errorf("copies go by %v %v from now on", kind, second)
	}
}

// TestSpareEndsWithCopies: 30 s after the last packet sent twice the spare uplink is silent again.
func TestSpareEndsWithCopies(t *testing.T) {
	w, robot, peer, _ := twofold(t, nil)
	peer.copies = true
	w.run(10*time.Second, nil)
	if robot.bySpare == 0 {
		t.Fatal("the spare uplink is not used")
	}
	peer.copies = false
	w.run(45*time.Second, nil)
	robot.bySpare = 0
	w.run(5*time.Minute, nil)
	if robot.bySpare != 0 {
		t.Errorf("%d datagrams by the spare uplink", robot.bySpare)
	}
}

// TestSpareInNeed: when Wi-Fi and the relay die, LTE takes over, and gives back when Wi-Fi works again, in both directions.
func TestSpareInNeed(t *testing.T) {
	w, robot, peer, _ := twofold(t, &portRestricted)
	external := robot.nats[0].external
	w.drop = func(p *datagram) bool { return p.dst.Addr() == external || p.src.Addr() == external }
	robot.relays[0].down = true
	robot.gap, peer.gap = 0, 0
	w.run(20*time.Second, nil)
	robot.bestIs(t, robot.spare)
	if gap := max(robot.gap, peer.gap); gap > 6*time.Second {
		t.Errorf("traffic stopped for %v", gap)
	}
	w.drop = nil
	robot.relays[0].down = false
	w.run(2*time.Minute, nil)
	robot.bestIs(t, robot.main)
	if key, _, _, _ := peer.m.Best(); key.Remote.Addr() != external {
		t.Errorf("the peer sends to %v", key)
	}
}

// TestRename: the host's routing goes from one uplink to the other and back, with the path by the first still alive.
func TestRename(t *testing.T) {
	w, robot, peer, _ := twofold(t, nil)
	peer.copies = true
	w.run(5*time.Second, nil)
	remote := peer.observed()
	main, spare := Key{robot.main, remote}, Key{robot.spare, remote}
	was := robot.m.find(main)
	robot.m.Rename(w.time(), main, Key{"elsewhere", remote})
	robot.m.Rename(w.time(), spare, main)
	robot.m.Rename(w.time(), Key{"elsewhere", remote}, spare)
	if robot.m.find(spare) != was || robot.m.best != was {
		t.Error("the path that carries traffic is another")
	}
	// Who takes the place of the one in use carries the traffic at once.
	other := robot.m.find(main)
	robot.m.Rename(w.time(), main, spare)
	if robot.m.best != other || robot.m.find(main) != nil || robot.m.find(spare) != other {
		t.Error("the traffic was lost with the path that had to go")
	}
	robot.m.Rename(w.time(), main, spare)
	if robot.m.best != other {
		t.Error("renaming what is not there changed something")
	}
}
