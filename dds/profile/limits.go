package profile

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

const (
	// wantedReceive is what is asked of the kernel for a DDS socket, in bytes, so that the burst of datagrams of a large
	// sample survives until the library takes them.
	wantedReceive = 4 << 20

	// wantedSend is the same for sending, in bytes: a writer then hands over a sample without waiting for the link.
	wantedSend = 1 << 20
)

// Limits are the kernel's bounds on what a program may ask for, in bytes; 0 is not known.
type Limits struct {
	Receive  int // net.core.rmem_max: the receive buffer of a socket
	Send     int // net.core.wmem_max: the send buffer of a socket
	Fragment int // net.ipv6.ip6frag_high_thresh: all half-received IPv6 packets that came in fragments
}

// limitFiles are where the kernel tells its limits, below /proc/sys.
const (
	receiveFile  = "net/core/rmem_max"
	sendFile     = "net/core/wmem_max"
	fragmentFile = "net/ipv6/ip6frag_high_thresh"
)

// ReadLimits reads the limits from the folder /proc/sys; what cannot be read is not known. In a network namespace other
// than the first the two of sockets are hidden by some kernels.
func ReadLimits(sys fs.FS) Limits {
	read := func(name string) int {
		text, err := fs.ReadFile(sys, name)
		if err != nil {
			return 0
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	return Limits{Receive: read(receiveFile), Send: read(sendFile), Fragment: read(fragmentFile)}
}

func (l Limits) receiveBuffer() int { return within(wantedReceive, l.Receive) }

// within is the wanted size or the limit on it. A limit too small for two datagrams is passed over: libraries refuse
// buffers that cannot take one message.
func within(wanted, limit int) int {
	if limit < 2*MaxDatagram || limit > wanted {
		return wanted
	}
	return limit
}

// Advice is a limit that somebody should raise.
type Advice struct {
	Setting string // as sysctl names it
	Value   int    // what it should be, in bytes
	Text    string // what is wrong
}

// Line is what belongs into a file of /etc/sysctl.d.
func (a Advice) Line() string { return fmt.Sprintf("%s=%d", a.Setting, a.Value) }

// AdvisedSettings are all settings that there may be advice on.
var AdvisedSettings = []string{receiveSetting, sendSetting}

const (
	receiveSetting = "net.core.rmem_max"
	sendSetting    = "net.core.wmem_max"
)

// Advice lists what of the known limits is too small for large samples.
func (l Limits) Advice() (list []Advice) {
	add := func(have, wanted int, setting, what string) {
		if have > 0 && have < wanted {
			list = append(list, Advice{setting, wanted, fmt.Sprintf("%s is %d bytes, less than %d: %s", setting, have, wanted, what)})
		}
	}
	add(l.Receive, wantedReceive, receiveSetting, "pieces of large samples (images, point clouds, maps) are lost when they arrive faster than a program takes them")
	add(l.Send, wantedSend, sendSetting, "programs wait, or drop best-effort samples, when they send large ones")
	return list
}
