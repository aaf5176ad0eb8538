// Package caller finds out who sent a datagram to this host from this host, as far as the kernel can tell: whose sockets are bound to the port it
// came from.
//
// That is enough to tell this host's users apart, and a stranger from all of them. It relies on what kernels drop: packets from a network with a source of
// 127.0.0.0/8 or ::1, and over IPv4 with any source that is an address of this host. Over IPv6 nothing of the kind is dropped, so that there a source
// address proves nothing unless the interface does.
package caller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Origin is where a datagram came from, as the kernel says.
type Origin struct {
	From      netip.AddrPort // source
	Interface int            // index of the interface that it came in at, or, sent on this host, would have gone out of
	Own       bool           // there was no datagram: this process asked itself
}

// Interface is one of this host's.
type Interface struct {
	Index     int
	Name      string
	Loopback  bool
	Addresses []netip.Addr
}

// Socket is a UDP socket of this host.
type Socket struct {
	Port uint16
	UID  uint32
}

// User is what is known of a user.
type User struct {
	Name   string   // "" = it has none
	Groups []string // by name
}

// System is what a [Judge] asks the kernel and the user database. Every question is asked anew for each request.
type System interface {
	Interfaces() ([]Interface, error)
	Sockets() ([]Socket, error)
	User(uid uint32) User
	// AcceptsOwn tells whether the kernel takes IPv4 packets from a network that come from this host's own addresses (sysctl accept_local).
	AcceptsOwn(name string) bool
	// Nobody is the user that stands for all users that cannot be told in this user namespace.
	Nobody() uint32
}

// Judge decides whose requests are obeyed: root's, one user's, and a group's members'.
type Judge struct {
	System System
	UID    uint32 // the user
	Group  string
	Device string // the overlay's interface: what comes out of it was authenticated
}

// Permit returns nil if a request with this origin is to be obeyed, otherwise the reason why not, for the one who asked.
func (j *Judge) Permit(o Origin) error {
	if o.Own {
		return nil
	}
	if !o.From.IsValid() {
		return fmt.Errorf("it is not known where this request came from; %s", j.who())
	}
	from := netip.AddrPortFrom(o.From.Addr().Unmap().WithZone(""), o.From.Port())
	if err := j.local(from.Addr(), o.Interface); err != nil {
		return err
	}
	users, err := j.owners(from.Port())
	if err != nil {
		return fmt.Errorf("cannot tell whose socket this request came from: %w; %s", err, j.who())
	}
	if len(users) == 0 {
		return fmt.Errorf("the socket that this request came from (%s) is gone; %s", from, j.who())
	}
	for _, uid := range users {
		if err := j.permitUser(uid, len(users) > 1); err != nil {
			return err
		}
	}
	return nil
}

// local returns nil if a datagram with this source was surely sent on this host.
func (j *Judge) local(a netip.Addr, index int) error {
	if a.IsLoopback() {
		return nil
	}
	interfaces, err := j.System.Interfaces()
	if err != nil {
		return fmt.Errorf("cannot tell this host's addresses: %w; %s", err, j.who())
	}
	var home, arrival *Interface // that has the address; that the datagram came in at
	for i := range interfaces {
		in := &interfaces[i]
		if slices.Contains(in.Addresses, a) {
			home = in
		}
		if in.Index == index {
			arrival = in
		}
	}
	if home == nil {
		return fmt.Errorf("this request came from %s, which is not this host; %s", a, j.who())
	}
	if arrival != nil && arrival.Loopback {
		return nil
	}
	if a.Is4() {
		if arrival != nil && !j.System.AcceptsOwn(arrival.Name) {
			return nil
		}
	} else if identity.Prefix.Contains(a) && home.Name == j.Device && arrival == home {
		return nil
	}
	return fmt.Errorf("this request came from %s, an address of this host's that others in its network can forge; ask over IPv4 or over the loopback interface", a)
}

// owners are the users of all sockets with a port. Whoever may bind one address can send from any other of this host's, so all of them may have sent.
func (j *Judge) owners(port uint16) (users []uint32, err error) {
	sockets, err := j.System.Sockets()
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		if s.Port == port && !slices.Contains(users, s.UID) {
			users = append(users, s.UID)
		}
	}
	slices.Sort(users)
	return users, nil
}

func (j *Judge) permitUser(uid uint32, shared bool) error {
	if uid == 0 {
		return nil
	}
	if uid == j.System.Nobody() {
		return fmt.Errorf("the user who sent this request cannot be told from others here (user namespace); %s", j.who())
	}
	if uid == j.UID {
		return nil
	}
	user := j.System.User(uid)
	if slices.Contains(user.Groups, j.Group) {
		return nil
	}
	who := fmt.Sprintf("user %d", uid)
	if user.Name != "" {
		who = "user " + user.Name
	}
	if shared {
		return fmt.Errorf("this request came from a port that %s uses too, who may not change anything; %s", who, j.who())
	}
	return fmt.Errorf("%s may not change anything; %s", who, j.who())
}

// who says who may.
func (j *Judge) who() string {
	names := []string{"root"}
	if j.UID != 0 {
		name := j.System.User(j.UID).Name
		if name == "" {
			name = fmt.Sprint("user ", j.UID)
		}
		names = append(names, name)
	}
	return fmt.Sprintf("only %s and members of group %s may, on this host (sudo usermod -aG %s USER), unless the node is started with allow_remote_management",
		strings.Join(names, ", "), j.Group, j.Group)
}
