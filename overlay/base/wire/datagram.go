package wire

import "encoding/binary"

// ControlHeader is what stands in a control datagram in front of the sealed part, and is authenticated with it.
type ControlHeader struct {
	FromBase bool   // the type: TypeBaseControl or TypeControl
	Index    uint32 // the receiver's number of the session
	Counter  uint64 // counts the sender's control datagrams of this session from 0, and is the nonce
}

// Append appends the header, ControlHeaderLen bytes; the sealed part follows.
func (c ControlHeader) Append(dst []byte) []byte {
	t := TypeControl
	if c.FromBase {
		t = TypeBaseControl
	}
	dst = append(dst, byte(t), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, c.Index)
	return binary.BigEndian.AppendUint64(dst, c.Counter)
}

// ParseControl reads the header of a control datagram of either direction; sealed is what is behind it, part of b. It allocates nothing on success.
func ParseControl(b []byte) (c ControlHeader, sealed []byte, err error) {
	t := TypeControl
	if len(b) > 0 && b[0] == byte(TypeBaseControl) {
		t = TypeBaseControl
	}
	if err := check(b, t); err != nil {
		return ControlHeader{}, nil, err
	}
	c = ControlHeader{FromBase: t == TypeBaseControl, Index: binary.BigEndian.Uint32(b[4:]), Counter: binary.BigEndian.Uint64(b[8:])}
	return c, b[ControlHeaderLen:], nil
}

// PutRelay writes the header of a datagram for the Base to relay into the first RelayHeaderLen bytes of b, which must be there.
func PutRelay(b []byte, session, token, channel uint32) {
	_ = b[RelayHeaderLen-1]
	binary.BigEndian.PutUint32(b, uint32(TypeRelay)<<24)
	binary.BigEndian.PutUint32(b[4:], session)
	binary.BigEndian.PutUint32(b[8:], token)
	binary.BigEndian.PutUint32(b[12:], channel)
}

// ParseRelay reads what PutRelay wrote; the relayed datagram is b[RelayHeaderLen:], one byte at the least.
func ParseRelay(b []byte) (session, token, channel uint32, ok bool) {
	if len(b) <= RelayHeaderLen || b[0] != byte(TypeRelay) {
		return 0, 0, 0, false
	}
	return binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:]), true
}

// PutRelayed writes the header of a relayed datagram into the first RelayHeaderLen bytes of b, which must be there. Index and channel are the
// receiving client's own. A Base writes it over the header of PutRelay.
func PutRelayed(b []byte, index, channel uint32) {
	_ = b[RelayHeaderLen-1]
	binary.BigEndian.PutUint32(b, uint32(TypeRelayed)<<24)
	binary.BigEndian.PutUint32(b[4:], index)
	binary.BigEndian.PutUint32(b[8:], 0)
	binary.BigEndian.PutUint32(b[12:], channel)
}

// ParseRelayed reads what PutRelayed wrote; the relayed datagram is b[RelayHeaderLen:], one byte at the least.
func ParseRelayed(b []byte) (index, channel uint32, ok bool) {
	if len(b) <= RelayHeaderLen || b[0] != byte(TypeRelayed) {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[12:]), true
}

// FilterProbe is sent once from the alternate port of a Base at a client's FilterTest.
type FilterProbe struct {
	Nonce [12]byte // of the FilterTest
}

// Append appends the probe, FilterProbeLen bytes.
func (p FilterProbe) Append(dst []byte) []byte {
	return append(append(dst, byte(TypeFilterProbe), 0, 0, 0), p.Nonce[:]...)
}

// ParseFilterProbe reads a filter probe.
func ParseFilterProbe(b []byte) (FilterProbe, error) {
	if err := check(b, TypeFilterProbe); err != nil {
		return FilterProbe{}, err
	}
	return FilterProbe{Nonce: [12]byte(b[4:])}, nil
}

// Unknown says that the Base does not know the session of a control or relay datagram, or not from that endpoint. Nothing of it is authentic, but
// only who saw the datagram can repeat it.
type Unknown struct {
	Session uint32  // that the datagram named
	Echo    [8]byte // the datagram's next 8 bytes: a control datagram's counter; token and channel of a relay datagram
}

// UnknownTo is the answer to a control or relay datagram of a client. ok is false for everything else.
func UnknownTo(datagram []byte) (u Unknown, ok bool) {
	if t := TypeOf(datagram); t != TypeControl && t != TypeRelay {
		return Unknown{}, false
	}
	return Unknown{Session: binary.BigEndian.Uint32(datagram[4:]), Echo: [8]byte(datagram[8:])}, true
}

// Append appends the message, UnknownLen bytes: fewer than any datagram that it answers.
func (u Unknown) Append(dst []byte) []byte {
	dst = append(dst, byte(TypeUnknown), 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(dst, u.Session), u.Echo[:]...)
}

// ParseUnknown reads the message.
func ParseUnknown(b []byte) (Unknown, error) {
	if err := check(b, TypeUnknown); err != nil {
		return Unknown{}, err
	}
	return Unknown{Session: binary.BigEndian.Uint32(b[4:]), Echo: [8]byte(b[8:])}, nil
}
