package engine

import (
	"encoding/binary"
	"testing"
)

// A packet is taken for judged only if no byte of its header but the length differs.
func TestJudged(t *testing.T) {
	packet := make([]byte, 100)
	for i := range packet {
		packet[i] = byte(i)
	}
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], 60)
	var j judged
	if _, _, ok := j.like(packet); ok {
		t.Error("alike before any packet was judged")
	}
	j.remember(packet)
	if length, next, ok := j.like(packet); !ok || length != 100 || next != packet[6] {
		t.Errorf("the same packet: %d, %d, %v", length, next, ok)
	}
	for i := range ipv6HeaderLen {
		for bit := range 8 {
			other := append([]byte(nil), packet...)
			other[i] ^= 1 << bit
			if _, _, ok := j.like(other); ok && i != 4 && i != 5 {
				t.Errorf("alike, with another bit %d of byte %d", bit, i)
			}
		}
	}
	for length, want := range map[int]bool{0: true, 59: true, 60: true, 61: false, 0xffff: false} {
		other := append([]byte(nil), packet...)
		binary.BigEndian.PutUint16(other[4:], uint16(length))
		if got, _, ok := j.like(other); ok != want || ok && got != ipv6HeaderLen+length {
			t.Errorf("payload length %d: %d, %v", length, got, ok)
		}
	}
	if _, _, ok := j.like(packet[:99]); ok {
		t.Error("alike, but shorter than it says")
	}
	if _, _, ok := j.like(packet[:ipv6HeaderLen-1]); ok {
		t.Error("alike, without a header")
	}
	j.forget()
	if _, _, ok := j.like(packet); ok {
		t.Error("alike after it was forgotten")
	}
}
