package wire

import (
	"fmt"
	"slices"
)

// MessageKind is the kind of a ParticipantMessageData (9.6.2.1).
type MessageKind [4]byte

// Kinds that assert the liveliness of a participant's writers.
var (
	AutomaticLiveliness = MessageKind{0, 0, 0, 1}
	ManualLiveliness    = MessageKind{0, 0, 0, 2}
)

// ParticipantMessage is ParticipantMessageData (8.4.13.5, 9.6.2.1): a participant says that its writers live.
type ParticipantMessage struct {
	Prefix GuidPrefix
	Kind   MessageKind
	Data   []byte // at most 128 bytes, of no meaning for liveliness
}

const maxMessageData = 128

// ParseParticipantMessage reads the payload of a DATA(m). The result keeps nothing of it.
func ParseParticipantMessage(payload []byte) (ParticipantMessage, error) {
	var m ParticipantMessage
	r := in{}
	if len(payload) < 4 || payload[0] != 0 || payload[1] > EncapsulationCDRLE {
		return m, fmt.Errorf("participant message: encapsulation: %w", ErrMalformed)
	}
	r.b, r.big = payload[4:], payload[1] == EncapsulationCDRBE
	m.Prefix = r.prefix()
	copy(m.Kind[:], r.take(4))
	m.Data = r.octets()
	if r.bad || len(m.Data) > maxMessageData {
		return ParticipantMessage{}, fmt.Errorf("participant message: %w", ErrMalformed)
	}
	m.Data = slices.Clone(m.Data)
	return m, nil
}

// Append writes the payload of a DATA(m), little endian, encapsulation included.
func (m *ParticipantMessage) Append(dst []byte) []byte {
	w := out{b: append(dst, 0, EncapsulationCDRLE, 0, 0)}
	w.b = append(w.b, m.Prefix[:]...)
	w.b = append(w.b, m.Kind[:]...)
	data := m.Data[:min(len(m.Data), maxMessageData)]
	w.u32(uint32(len(data)))
	w.b = append(w.b, data...)
	return w.b
}

// KeyHash is the key of the message's instance: prefix and kind (9.6.3.8: as they are, being 16 bytes).
func (m *ParticipantMessage) KeyHash() (h [16]byte) {
	copy(h[:], m.Prefix[:])
	copy(h[12:], m.Kind[:])
	return h
}
