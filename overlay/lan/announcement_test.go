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
			for _, notice := range []bool{false, true} {
				wantSize := map[bool]int{false: Size, true: 60 + 8*count + length + 64}[notice]
				want.notice = notice
				b := want.marshal(id.Sign)
				got, ok := parse(b)
				if !ok || len(b) != wantSize || !got.verify() {
					t.Fatalf("%d echoes, record of %d, notice %v: not accepted", count, length, notice)
				}
				want.raw = b
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(announcement{}, echo{})); diff != "" {
					t.Error(diff)
				}
				want.raw = nil
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	f := newForger(t, 1)
	for name, change := range map[string]func(b []byte){
		"another type":        func(b []byte) { b[0]++ },
		"another version":     func(b []byte) { b[1]++ },
		"unknown flag":        func(b []byte) { b[flagsOffset] = 2 },
		"notice with padding": func(b []byte) { b[flagsOffset] = flagNotice },
		"no record": func(b []byte) {
			b[lengthOffset], b[lengthOffset+1] = 0, 0
			clear(b[echoesOffset+16 : Size-signatureLength])
		},
		"record too long":         func(b []byte) { b[lengthOffset], b[lengthOffset+1] = (MaxRecord+1)>>8, (MaxRecord+1)&255 },
		"padding":                 func(b []byte) { b[Size-signatureLength-1] = 1 },
		"zero nonce":              func(b []byte) { clear(b[nonceOffset:keyOffset]) },
		"too many echoes":         func(b []byte) { b[echoCountOffset] = MaxEchoes + 1 },
		"zero echo":               func(b []byte) { clear(b[echoesOffset+8 : echoesOffset+16]) },
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
	f.notice = true
	notice := f.announce(echo{nonce{1}, true})
	if _, ok := parse(notice); !ok {
		t.Fatal("the unchanged notice is refused")
	}
	for n := range notice {
		if _, ok := parse(notice[:n]); ok {
			t.Errorf("a notice cut to %d bytes is accepted", n)
		}
	}
	if _, ok := parse(append(bytes.Clone(notice), 0)); ok {
		t.Error("a notice with a byte too many is accepted")
	}
	notice[flagsOffset] = 0
	if _, ok := parse(notice); ok {
		t.Error("an announcement without padding is accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parse(b)
		if !ok {
			return
		}
		again := a.marshal(func([]byte) []byte { return b[len(b)-signatureLength:] })
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
	m := NewMachine(id, "hnet0", false, systemRandom{})
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
