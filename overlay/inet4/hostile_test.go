package inet4

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// claim has a peer say that it has an address.
func claim(t *testing.T, m *Machine, now time.Time, peer, a netip.Addr, v Verdict) {
	t.Helper()
	own, _ := m.Address()
	msg := Message{Own: a, Known: own, Verdict: v, Settled: true, Moment: uint32(now.UnixMilli())}
	if v == NetworkClash {
		msg.Clash = netip.PrefixFrom(own, 0).Masked()
	}
	if err := m.Receive(now, peer, msg.Append(nil)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAPeerCannotTake(t *testing.T) {
	now := start
	m := New(now, Config{Self: overlay(9, 1), Ranges: DefaultRanges})
	m.SetNetworks(now, []Network{
		{prefix("192.168.1.0/24"), "eth0"}, {prefix("198.19.44.0/24"), "eth1"}, {prefix("198.19.44.1/32"), "the gateway"}, {prefix("198.18.7.7/32"), "a Base"},
	})
	own, _ := m.Address()
	honest := overlay(9, 2)
	theirs := netip.MustParseAddr("198.19.200.20")
	m.Up(now, honest)
	claim(t, m, now, honest, theirs, Used)
	if m.Peers()[honest] != theirs {
		t.Fatal("an honest peer is not used")
	}
	lowest := netip.MustParseAddr("fc94::1") // every rule is in its favour
	for i, s := range []string{
		"0.0.0.1", "127.0.0.1", "10.0.0.1", "192.168.1.1", "192.168.1.7", "8.8.8.8", "224.0.0.1", "239.255.0.1", "255.255.255.255", "169.254.1.1",
		"198.19.44.1", "198.19.44.9", "198.18.7.7", "198.19.0.0", "198.19.255.255", "198.19.3.255", "198.20.0.1", theirs.String(),
	} {
		now = now.Add(2 * changeEach)
		claim(t, m, now, lowest, netip.MustParseAddr(s), Used)
		if got, used := m.Peers()[lowest]; used {
			t.Errorf("%d: the peer could take %v", i, got)
		}
		if m.Peers()[honest] != theirs {
			t.Errorf("%d: the honest peer lost its address", i)
		}
	}
	if a, _ := m.Address(); a != own {
		t.Errorf("the own address changed from %v to %v", own, a)
	}
	claim(t, m, now.Add(24*time.Hour), lowest, own, Used)
	if a, _ := m.Address(); a == own || m.Peers()[lowest] == a {
		t.Errorf("after a clash with an older node: own %v, theirs %v", a, m.Peers()[lowest])
	}
}

// TestChaser: a peer that claims whatever this node has, and says that it must move, moves it causedBurst times and then once an hour.
func TestChaser(t *testing.T) {
	now := start
	m := New(now, Config{Self: overlay(9, 1), Ranges: DefaultRanges})
	m.SetNetworks(now, nil)
	chaser := netip.MustParseAddr("fc94::1")
	moves, messages := 0, 0
	last, _ := m.Address()
	hours := 10
	for range hours * 3600 {
		now = now.Add(time.Second)
		claim(t, m, now, chaser, last, Move)
		claim(t, m, now, chaser, last, NetworkClash)
		m.Tick(now)
		messages += len(m.Outgoing())
		if a, _ := m.Address(); a != last {
			moves++
			last = a
		}
		if !last.IsValid() {
			t.Fatal("it has no address any more")
		}
	}
	if limit := causedBurst + hours + 1; moves > limit {
		t.Errorf("it was moved %d times in %d hours, %d at the most", moves, hours, limit)
	}
	if limit := hours*3600 + replyBurst; messages > limit {
		t.Errorf("%d answers", messages)
	}
}

// TestManyChasers: all peers together move this node movesBurst times, then once every movesEach.
func TestManyChasers(t *testing.T) {
	now := start
	m := New(now, Config{Self: overlay(9, 1), Ranges: DefaultRanges})
	m.SetNetworks(now, nil)
	moves := 0
	last, _ := m.Address()
	for range 3600 {
		now = now.Add(time.Second)
		for i := range 20 {
			claim(t, m, now, overlay(10, i), last, Move)
			if a, _ := m.Address(); a != last {
				moves++
				last = a
			}
		}
	}
	if limit := movesBurst + int(time.Hour/movesEach) + 1; moves > limit {
		t.Errorf("it was moved %d times in an hour, %d at the most", moves, limit)
	}
}

// TestInstigator: a peer that claims another's address again and again has it told to move a few times only.
func TestInstigator(t *testing.T) {
	now := start
	m := New(now, Config{Self: overlay(9, 1), Ranges: DefaultRanges})
	m.SetNetworks(now, nil)
	victim, thief := overlay(9, 2), netip.MustParseAddr("fc94::1")
	m.Up(now, victim)
	address := func(i int) netip.Addr {
		a, _ := Candidate(victim, DefaultRanges[0], i)
		return a
	}
	claim(t, m, now, victim, address(0), Used)
	told, at := 0, 0
	for range 36000 {
		now = now.Add(time.Second)
		claim(t, m, now, thief, address(at), Used)
		for _, o := range m.Outgoing() {
			if o.Peer == victim && o.Message.Verdict == Move && o.Message.Known == address(at) {
				told++
				at++
				claim(t, m, now, victim, address(at), Used)
			}
		}
	}
	if limit := causedBurst + 10 + 1; told > limit {
		t.Errorf("the victim was told to move %d times in ten hours, %d at the most", told, limit)
	}
	if m.Peers()[victim] != address(at) {
		t.Error("the victim has no address any more")
	}
}

// TestNetworkOfOneToldToMove: who is still served until it moves is not, once this host has its address itself.
func TestNetworkOfOneToldToMove(t *testing.T) {
	now := start
	m := New(now, Config{Self: overlay(9, 1), Ranges: DefaultRanges})
	m.SetNetworks(now, nil)
	holder, other, a := overlay(9, 2), netip.MustParseAddr("fc94::1"), netip.MustParseAddr("198.19.77.7")
	claim(t, m, now, holder, a, Used)
	claim(t, m, now, other, a, Used)
	if m.Peers()[holder] != a || len(m.Peers()) != 1 {
		t.Fatalf("who was there first is not served: %v", m.Peers())
	}
	m.SetNetworks(now, []Network{{prefix("198.19.77.0/24"), "eth0"}})
	if len(m.Peers()) != 0 {
		t.Errorf("the LAN's address is a peer's: %v", m.Peers())
	}
}

func TestBounds(t *testing.T) {
	now := start
	m := New(now, Config{Self: overlay(9, 1), Ranges: DefaultRanges})
	m.SetNetworks(now, nil)
	for i := range maxPeers + 500 {
		m.Up(now, overlay(11, i))
	}
	if len(m.peers) > maxPeers {
		t.Errorf("%d peers", len(m.peers))
	}
	m.Outgoing()
	for i := range maxPeers {
		m.Forget(now, overlay(11, i))
	}
	if len(m.peers) != 0 || len(m.holders) != 0 || !m.Next().IsZero() {
		t.Errorf("left: %d peers, %d holders", len(m.peers), len(m.holders))
	}
}

// FuzzParse: what is read is written the same, and nothing else is needed of a message.
func FuzzParse(f *testing.F) {
	f.Add(Message{Own: netip.MustParseAddr("198.19.1.2"), Answer: true}.Append(nil))
	f.Add(Message{Own: netip.MustParseAddr("198.19.1.2"), Known: netip.MustParseAddr("198.19.3.4"), Verdict: NetworkClash, Clash: prefix("198.19.0.0/20"), Echo: Move, Settled: true}.Append(nil))
	f.Add([]byte{Type})
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(msg.Append(nil))
		if err != nil || again != msg {
			t.Fatalf("%+v became %+v (%v)", msg, again, err)
		}
	})
}

// FuzzMachine: whatever peers say, the addresses in use stay within the rules.
func FuzzMachine(f *testing.F) {
	f.Add(uint64(1), []byte("any words"))
	f.Fuzz(func(t *testing.T, seed uint64, b []byte) {
		rng := rand.New(rand.NewPCG(seed, 2))
		r := prefix("198.19.0.0/27")
		networks := []Network{{prefix("198.19.0.8/30"), "eth0"}}
		m := New(start, Config{Self: overlay(seed, 0), Ranges: []netip.Prefix{r}})
		m.SetNetworks(start, networks)
		now := start
		for i := 0; i < 400; i++ {
			now = now.Add(time.Duration(rng.IntN(100)) * time.Second)
			peer := overlay(seed, 1+rng.IntN(20))
			switch rng.IntN(8) {
			case 0:
				m.Up(now, peer)
			case 1:
				m.Down(peer)
			case 2:
				m.Forget(now, peer)
			case 3:
				m.Tick(now)
			case 4:
				if len(b) > 0 {
					_ = m.Receive(now, peer, b)
				}
			default:
				own, _ := m.Address()
				msg := Message{Own: netip.AddrFrom4([4]byte{198, 19, 0, byte(rng.IntN(34))}), Known: own, Verdict: Verdict(rng.IntN(8)), Moment: uint32(now.UnixMilli()), Settled: rng.IntN(2) == 0, Answer: rng.IntN(2) == 0}
				if !own.IsValid() {
					msg.Verdict = Unjudged
				}
				if msg.Verdict == NetworkClash {
					msg.Clash = netip.PrefixFrom(own, rng.IntN(33)).Masked()
				}
				if err := m.Receive(now, peer, msg.Append(nil)); err != nil {
					t.Fatal(err)
				}
			}
			own, _ := m.Address()
			seen := map[netip.Addr]bool{own: true}
			for p, a := range m.Peers() {
				if seen[a] || !isHost(a, r) || networks[0].Prefix.Contains(a) {
					t.Fatalf("peer %v has %v; own %v, all %v", p, a, own, m.Peers())
				}
				seen[a] = true
			}
			if len(m.Outgoing()) > 20 {
				t.Fatal("more messages than peers")
			}
		}
	})
}
