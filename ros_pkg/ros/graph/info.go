package graph

import (
	"errors"
	"fmt"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common_humble"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// MaxInfo is the longest payload that is read, in bytes: some forty thousand endpoints.
const MaxInfo = 1 << 20

// Layout is how many bytes a GID takes in ros_discovery_info.
type Layout int

// The layouts in use. A reader of one that gets the other crashes, shows nodes that are not, or allocates gigabytes.
const (
	Iron   Layout = 16 // Iron and later
	Humble Layout = 24 // Humble and earlier: 8 zero bytes behind the GUID
)

// Node is a node and the GUIDs of its endpoints.
type Node struct {
	Namespace, Name  string
	Readers, Writers []wire.GUID
}

// Full is the node's full name.
func (n *Node) Full() string { return names.Join(n.Namespace, n.Name) }

// Info is what a participant tells of its nodes.
type Info struct {
	Participant wire.GUID
	Nodes       []Node
}

// Append appends the payload, encapsulation included, to dst.
func (i *Info) Append(dst []byte, layout Layout) []byte {
	if layout == Humble {
		m := rmw_dds_common_humble.ParticipantEntitiesInfo{GID: humbleGID(i.Participant)}
		for _, n := range i.Nodes {
			e := rmw_dds_common_humble.NodeEntitiesInfo{NodeNamespace: n.Namespace, NodeName: n.Name}
			for _, g := range n.Readers {
				e.ReaderGIDSeq = append(e.ReaderGIDSeq, humbleGID(g))
			}
			for _, g := range n.Writers {
				e.WriterGIDSeq = append(e.WriterGIDSeq, humbleGID(g))
			}
			m.NodeEntitiesInfoSeq = append(m.NodeEntitiesInfoSeq, e)
		}
		return cdr.AppendMarshal(dst, &m)
	}
	m := rmw_dds_common.ParticipantEntitiesInfo{GID: ironGID(i.Participant)}
	for _, n := range i.Nodes {
		e := rmw_dds_common.NodeEntitiesInfo{NodeNamespace: n.Namespace, NodeName: n.Name}
		for _, g := range n.Readers {
			e.ReaderGIDSeq = append(e.ReaderGIDSeq, ironGID(g))
		}
		for _, g := range n.Writers {
			e.WriterGIDSeq = append(e.WriterGIDSeq, ironGID(g))
		}
		m.NodeEntitiesInfoSeq = append(m.NodeEntitiesInfoSeq, e)
	}
	return cdr.AppendMarshal(dst, &m)
}

func ironGID(g wire.GUID) rmw_dds_common.Gid { return rmw_dds_common.Gid{Data: g.Bytes()} }

func humbleGID(g wire.GUID) (h rmw_dds_common_humble.Gid) {
	b := g.Bytes()
	copy(h.Data[:], b[:])
	return h
}

// Parse reads a payload that participant from sent, in either layout, of which guess is tried first. Nodes with impossible names are left
// out.
func Parse(payload []byte, from wire.GuidPrefix, guess Layout) (Info, Layout, error) {
	if len(payload) > MaxInfo {
		return Info{}, 0, fmt.Errorf("ros_discovery_info of %d bytes: at most %d are read", len(payload), MaxInfo)
	}
	info, err := parse(payload, from, guess)
	if err == nil {
		return info, guess, nil
	}
	other := Humble + Iron - guess
	if info, err2 := parse(payload, from, other); err2 == nil {
		return info, other, nil
	}
	return Info{}, 0, fmt.Errorf("ros_discovery_info: %w", err)
}

var (
	errTail   = errors.New("bytes are left behind the message")
	errSender = errors.New("it is about another participant than its sender")
	errGID    = errors.New("not a GID of this layout")
)

func parse(payload []byte, from wire.GuidPrefix, layout Layout) (Info, error) {
	d, err := cdr.NewDecoder(payload)
	if err != nil {
		return Info{}, err
	}
	var m message
	if layout == Humble {
		err = m.humble(d)
	} else {
		err = m.iron(d)
	}
	switch {
	case err != nil:
		return Info{}, err
	case d.Remaining() > 3: // payloads are padded to 4 bytes
		return Info{}, errTail
	case m.info.Participant.Prefix != from:
		return Info{}, errSender
	}
	return m.info, nil
}

// message collects what both generated types hold.
type message struct{ info Info }

func (m *message) iron(d *cdr.Decoder) error {
	var in rmw_dds_common.ParticipantEntitiesInfo
	in.UnmarshalCDR(d)
	if err := d.Err(); err != nil {
		return err
	}
	m.info.Participant = wire.GUIDFrom(in.GID.Data)
	for i := range in.NodeEntitiesInfoSeq {
		e := &in.NodeEntitiesInfoSeq[i]
		n := Node{Namespace: e.NodeNamespace, Name: e.NodeName}
		for _, g := range e.ReaderGIDSeq {
			n.Readers = append(n.Readers, wire.GUIDFrom(g.Data))
		}
		for _, g := range e.WriterGIDSeq {
			n.Writers = append(n.Writers, wire.GUIDFrom(g.Data))
		}
		m.add(n)
	}
	return nil
}

func (m *message) humble(d *cdr.Decoder) error {
	var in rmw_dds_common_humble.ParticipantEntitiesInfo
	in.UnmarshalCDR(d)
	if err := d.Err(); err != nil {
		return err
	}
	if [8]byte(in.GID.Data[16:]) != [8]byte{} {
		return errGID
	}
	m.info.Participant = wire.GUIDFrom([16]byte(in.GID.Data[:16]))
	for i := range in.NodeEntitiesInfoSeq {
		e := &in.NodeEntitiesInfoSeq[i]
		n := Node{Namespace: e.NodeNamespace, Name: e.NodeName}
		for _, g := range e.ReaderGIDSeq {
			n.Readers = append(n.Readers, wire.GUIDFrom([16]byte(g.Data[:16])))
		}
		for _, g := range e.WriterGIDSeq {
			n.Writers = append(n.Writers, wire.GUIDFrom([16]byte(g.Data[:16])))
		}
		m.add(n)
	}
	return nil
}

func (m *message) add(n Node) {
	if names.Node(n.Name) == nil && names.Namespace(n.Namespace) == nil {
		m.info.Nodes = append(m.info.Nodes, n)
	}
}

// Both is one sample for readers of both layouts: a u32 length, the payload for [Iron] of that length, and that for [Humble].
func (i *Info) Both() []byte {
	b := i.Append(make([]byte, 4), Iron)
	n := len(b) - 4
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return i.Append(b, Humble)
}

// Pick returns the payload of one layout from what [Info.Both] made.
func Pick(both []byte, layout Layout) []byte {
	if len(both) < 4 {
		return nil
	}
	n := int(both[0]) | int(both[1])<<8 | int(both[2])<<16 | int(both[3])<<24
	if n < 0 || n > len(both)-4 {
		return nil
	}
	if layout == Humble {
		return both[4+n:]
	}
	return both[4 : 4+n : 4+n]
}
