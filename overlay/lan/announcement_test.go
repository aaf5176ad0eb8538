package lan

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

func TestAnnouncementRoundTrip(t *testing.T) {
	id := identity.FromSeed(seed(1))
	for _, count := range []int{0, 1, 15, 16} {
		for _, length := range []int{1, 200, MaxRecord} {
			want := announcement{
				number: 0x01020304, instance: [8]byte{1, 2, 3}, nonce: nonce{4, 5, 6}, key: id.SigningKey(),
				count: count, record: bytes.Repeat([]byte{7}, length),
			}
			for i := range count {
				want.echoes[i] = echo{nonce{8, byte(i)}, i%3 == 0}
			}
			b := want.marshal(id.Sign)
			got, ok := parse(b)
			if !ok || len(b) != Size || !got.verify() {
				t.Fatalf("%d echoes, record of %d: not accepted", count, length)
			}
			want.raw = b
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(announcement{}, echo{})); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	f := newForger(t, 1)
	for name, change := range map[string]func(b []byte){
		"another type":            func(b []byte) { b[0]++ },
		"another version":         func(b []byte) { b[1]++ },
		"reserved byte":           func(b []byte) { b[reservedOffset] = 1 },
		"no record":               func(b []byte) { b[lengthOffset], b[lengthOffset+1] = 0, 0; clear(b[recordOffset:signatureOffset]) },
		"record too long":         func(b []byte) { b[lengthOffset], b[lengthOffset+1] = (MaxRecord+1)>>8, (MaxRecord+1)&255 },
		"padding":                 func(b []byte) { b[signatureOffset-1] = 1 },
		"zero nonce":              func(b []byte) { clear(b[nonceOffset:keyOffset]) },
		"too many echoes":         func(b []byte) { b[echoCountOffset] = MaxEchoes + 1 },
		"zero echo":               func(b []byte) { b[echoCountOffset] = 3 },
		"echo beyond the count":   func(b []byte) { b[echoesOffset+8*2] = 1 },
		"proven beyond the count": func(b []byte) { b[provenOffset+1] = 4 },
	} {
		b := f.announce(echo{nonce{1}, true}, echo{nonce{2}, true})
		if _, ok := parse(b); !ok {
			t.Fatal("the unchanged announcement is refused")
		}
		change(b)
		if _, ok := parse(b); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parse(b)
		if !ok {
			return
		}
		again := a.marshal(func([]byte) []byte { return b[signatureOffset:] })
		if !bytes.Equal(b, again) {
			t.Errorf("accepted\n%x\nbut that is written as\n%x", b, again)
		}
		// Whatever parses must do no harm in the machine, echo or no echo.
		id := identity.FromSeed(seed(1))
		m := machine(t, 1, id)
		now := time.Unix(1000, 0)
		m.SetInterfaces(now, testInterfaces())
		m.HandleDatagram(now, 1, from4(2), b)
		m.Tick(now)
	})
}

func BenchmarkStrangerFlood(b *testing.B) {
	id := identity.FromSeed(seed(1))
	m := NewMachine(id, "hnet0", systemRandom{})
	now := time.Unix(1000, 0)
	m.SetInterfaces(now, testInterfaces())
	f := &forger{id: id, instance: [8]byte{1}, nonce: nonce{1}, record: make([]byte, 300)}
	d := f.announce()
	b.SetBytes(Size)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(10 * time.Microsecond)
		d[keyOffset] = byte(i)
		d[instanceOffset+1] = byte(i >> 8)
		m.HandleDatagram(now, 1, from4(i&0xffff), d)
	}
}
