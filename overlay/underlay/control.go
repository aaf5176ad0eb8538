package underlay

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlLen is the room for control messages of one datagram: packet info (40
// bytes with its header), the time (32 bytes), traffic class, segment size and
// TTL (24 bytes each).
const controlLen = 144

// mostAge is the longest that a datagram is believed to have waited to be read.
const mostAge = 10 * time.Second

// A control holds control messages, aligned for their headers.
type control [controlLen / 8]uint64

func (c *control) bytes() *[controlLen]byte { return (*[controlLen]byte)(unsafe.Pointer(c)) }

// put adds a control message at off, a multiple of 8, and returns the room for
// its data and the offset behind it.
func (c *control) put(off, level, kind, size int) (data []byte, next int) {
	b := c.bytes()[off : off+unix.CmsgSpace(size)]
	clear(b)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):unix.CmsgLen(size)], off + unix.CmsgSpace(size)
}

// encode writes what a datagram is to be sent with and returns the length;
// segment 0 = not a train.
func (c *control) encode(ipv6 bool, local Source, tos, ttl byte, segment int) (n int) {
	var data []byte
	if local != (Source{}) {
		if ipv6 {
			data, n = c.put(n, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
			if local.Addr.IsValid() {
				addr := local.Addr.As16()
				copy(data, addr[:])
			}
			binary.NativeEndian.PutUint32(data[16:], local.Interface)
		} else {
			data, n = c.put(n, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
			binary.NativeEndian.PutUint32(data, local.Interface)
			if addr := local.Addr.Unmap(); addr.Is4() {
				v4 := addr.As4()
				copy(data[4:], v4[:]) // ipi_spec_dst
			}
		}
	}
	if tos != 0 {
		level, kind := unix.IPPROTO_IP, unix.IP_TOS
		if ipv6 {
			level, kind = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		data, n = c.put(n, level, kind, 4)
		binary.NativeEndian.PutUint32(data, uint32(tos))
	}
	if ttl != 0 {
		level, kind := unix.IPPROTO_IP, unix.IP_TTL
		if ipv6 {
			level, kind = unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT
		}
		data, n = c.put(n, level, kind, 4)
		binary.NativeEndian.PutUint32(data, uint32(ttl))
	}
	if segment != 0 {
		data, n = c.put(n, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(segment))
	}
	return n
}

// decode reads what a datagram came with into m; length is that of the control
// messages, now the time in nanoseconds since 1970.
func (c *control) decode(m *Message, length int, now int64) {
	m.Local, m.TOS, m.TTL, m.Segment, m.Age = Source{}, 0, 0, 0, 0
	b := c.bytes()[:min(length, controlLen)]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if uint64(h.Len) < unix.SizeofCmsghdr || uint64(h.Len) > uint64(len(b)) {
			return
		}
		data := b[unix.CmsgLen(0):h.Len]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// ipi_spec_dst is an address of this host even where the datagram
			// was sent to a group or by broadcast.
			m.Local = Source{netip.AddrFrom4([4]byte(data[4:8])), binary.NativeEndian.Uint32(data)}
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			m.Local.Interface = binary.NativeEndian.Uint32(data[16:])
			if addr := netip.AddrFrom16([16]byte(data)); !addr.IsMulticast() {
				m.Local.Addr = addr
			}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			m.TOS = data[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			m.TOS = byte(binary.NativeEndian.Uint32(data))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS_NEW && len(data) >= 16:
			at := int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
			// A clock that was set meanwhile says nothing.
			if age := time.Duration(now - at); age > 0 && age < mostAge {
				m.Age = age
			}
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			m.Segment = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			m.TTL = byte(binary.NativeEndian.Uint32(data))
		}
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
}
