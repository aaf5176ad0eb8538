package caller

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// fake is a host: lo, eth0 (192.0.2.1, 2001:db8::1) and hnet0 (fc94::1).
type fake struct {
	sockets    []Socket
	err        error
	acceptsOwn bool
}

func (f *fake) Interfaces() ([]Interface, error) {
	address := func(s string) []netip.Addr {
		var out []netip.Addr
		for word := range strings.FieldsSeq(s) {
			out = append(out, netip.MustParseAddr(word))
		}
		return out
	}
	return []Interface{
		{1, "lo", true, address("127.0.0.1 ::1")},
		{2, "eth0", false, address("192.0.2.1 2001:db8::1 fe80::1")},
		{3, "hnet0", false, address("fc94::1")},
	}, f.err
}

func (f *fake) Sockets() ([]Socket, error) { return f.sockets, f.err }

func (f *fake) User(uid uint32) User {
	return map[uint32]User{
		0: {"root", []string{"root"}}, 1000: {"ann", []string{"ann", "hnet"}}, 1001: {"bob", []string{"bob"}}, 1002: {"robot", nil},
	}[uid]
}

func (f *fake) AcceptsOwn(name string) bool { return f.acceptsOwn }

func (f *fake) Nobody() uint32 { return 65534 }

func TestPermit(t *testing.T) {
	sockets := []Socket{{1, 0}, {2, 1000}, {3, 1001}, {4, 1002}, {5, 0}, {5, 1001}, {6, 1000}, {6, 0}, {7, 65534}, {8, 4321}}
	for _, test := range []struct {
		name  string
		from  string
		index int
		fake  fake
		want  string // part of the reason; "" = permitted
	}{
		{name: "root", from: "127.0.0.1:1", index: 1},
		{name: "member", from: "127.0.0.1:2", index: 1},
		{name: "own user", from: "127.0.0.1:4", index: 1},
		{name: "another user", from: "127.0.0.1:3", index: 1, want: "user bob may not change anything; only root, robot and members of group hnet may"},
		{name: "user without a name", from: "127.0.0.1:8", index: 1, want: "user 4321 may not"},
		{name: "port shared with one who may not", from: "127.0.0.1:5", index: 1, want: "a port that user bob uses too"},
		{name: "port shared by those who may", from: "127.0.0.1:6", index: 1},
		{name: "nobody", from: "127.0.0.1:7", index: 1, want: "user namespace"},
		{name: "gone", from: "127.0.0.1:9", index: 1, want: "is gone"},
		{name: "IPv6 loopback", from: "[::1]:1", index: 1},
		{name: "mapped", from: "[::ffff:127.0.0.1]:2", index: 1},

		{name: "another host", from: "192.0.2.7:1", index: 2, want: "192.0.2.7, which is not this host"},
		{name: "another host, over IPv6", from: "[2001:db8::7]:1", index: 2, want: "not this host"},
		{name: "a peer", from: "[fc94::2]:1", index: 3, want: "not this host"},
		{name: "own address", from: "192.0.2.1:1", index: 2},
		{name: "own address by lo", from: "192.0.2.1:1", index: 1},
		{name: "own address, another user", from: "192.0.2.1:3", index: 2, want: "bob"},
		{name: "own address where the kernel drops no forged ones", from: "192.0.2.1:1", index: 2, fake: fake{acceptsOwn: true}, want: "can forge"},
		{name: "the same by lo", from: "192.0.2.1:1", index: 1, fake: fake{acceptsOwn: true}},
		{name: "own address at an interface that is gone", from: "192.0.2.1:1", index: 9, want: "can forge"},
		{name: "own IPv6 address", from: "[2001:db8::1]:1", index: 2, want: "can forge"},
		{name: "own IPv6 address by lo", from: "[2001:db8::1]:1", index: 1},
		{name: "link-local", from: "[fe80::1%eth0]:1", index: 2, want: "can forge"},
		{name: "own overlay address", from: "[fc94::1]:1", index: 3},
		{name: "own overlay address from the LAN", from: "[fc94::1]:1", index: 2, want: "can forge"},
		{name: "own overlay address by lo", from: "[fc94::1]:1", index: 1},

		{name: "the kernel does not tell", from: "127.0.0.1:1", index: 1, fake: fake{err: errors.New("no SOCK_DIAG")}, want: "no SOCK_DIAG"},
		{name: "no addresses", from: "192.0.2.1:1", index: 2, fake: fake{err: errors.New("no netlink")}, want: "no netlink"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.fake.sockets = sockets
			j := &Judge{System: &test.fake, UID: 1002, Group: "hnet", Device: "hnet0"}
			err := j.Permit(Origin{From: netip.MustParseAddrPort(test.from), Interface: test.index})
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("want a reason with %q, got: %v", test.want, err)
			}
		})
	}
	j := &Judge{System: &fake{}, Group: "hnet"}
	if err := j.Permit(Origin{}); err == nil {
		t.Error("a request from nowhere was permitted")
	}
	if err := j.Permit(Origin{Own: true}); err != nil {
		t.Errorf("this process may not: %v", err)
	}
}

func TestParseProc(t *testing.T) {
	text := `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  411: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 1234 2 0000000000000000 0
 1234: 00000000000000000000000000000000:1D04 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4321 2 0000000000000000 0
`
	list, err := parseProc([]byte(text))
	if err != nil || len(list) != 2 || list[0] != (Socket{53, 101}) || list[1] != (Socket{7428, 1000}) {
		t.Errorf("got %v, %v", list, err)
	}
	for _, bad := range []string{"head\n1: x 0 07 0 0 0 1\n", "head\n1: 0:zz 0 07 0 0 0 1\n", "head\nshort\n", "head\n1: 0:0035 0 07 0 0 0 root\n"} {
		if list, err := parseProc([]byte(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, list)
		}
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add([]byte("head\n  411: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 1234 2 0 0\n"))
	f.Add([]byte("head\n1: 0:zz 0 07 0 0 0 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseProc(text)
		if err != nil && list != nil {
			t.Errorf("both %v and %v", list, err)
		}
	})
}
