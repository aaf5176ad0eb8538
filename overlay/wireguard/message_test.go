package wireguard

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	wgdevice "golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tai64n"
)

func TestPublishedConstants(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"Rekey-After-Messages", uint64(RekeyAfterMessages), uint64(wgdevice.RekeyAfterMessages)},
		{"Reject-After-Messages", uint64(RejectAfterMessages), uint64(wgdevice.RejectAfterMessages)},
		{"Rekey-After-Time", RekeyAfterTime, wgdevice.RekeyAfterTime},
		{"Reject-After-Time", RejectAfterTime, wgdevice.RejectAfterTime},
		{"Rekey-Attempt-Time", RekeyAttemptTime, wgdevice.RekeyAttemptTime},
		{"Rekey-Timeout", RekeyTimeout, wgdevice.RekeyTimeout},
		{"Keepalive-Timeout", KeepaliveTimeout, wgdevice.KeepaliveTimeout},
		{"cookie lifetime", CookieLifetime, wgdevice.CookieRefreshTime},
		{"jitter", RekeyJitter, wgdevice.RekeyTimeoutJitterMaxMs * time.Millisecond},
		{"initiation interval", InitiationInterval, wgdevice.HandshakeInitationRate},
		{"padding", PaddingMultiple, wgdevice.PaddingMultiple},
		{"initiation", InitiationSize, wgdevice.MessageInitiationSize},
		{"response", ResponseSize, wgdevice.MessageResponseSize},
		{"cookie reply", CookieReplySize, wgdevice.MessageCookieReplySize},
		{"transport header", TransportHeaderSize, wgdevice.MessageTransportHeaderSize},
		{"transport overhead", TransportOverhead, wgdevice.MessageTransportSize},
		{"construction", "Noise_IKpsk2_" + string(suite.Name()), wgdevice.NoiseConstruction},
		{"prologue", prologue, wgdevice.WGIdentifier},
		{"mac1 label", labelMAC1, wgdevice.WGLabelMAC1},
		{"cookie label", labelCookie, wgdevice.WGLabelCookie},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	// The paper's own numbers, should the reference ever drift.
	if RekeyAfterTime != 120*time.Second || RejectAfterTime != 180*time.Second || WindowSize < 8192 {
		t.Error("constants differ from the paper's")
	}
}

func TestTypeOfNeedsTypeAndLength(t *testing.T) {
	for length := range 200 {
		for kind := range uint32(8) {
			b := make([]byte, length)
			if length >= 4 {
				binary.LittleEndian.PutUint32(b, kind)
			}
			want := TypeNone
			switch {
			case kind == 1 && length == 148, kind == 2 && length == 92, kind == 3 && length == 64, kind == 4 && length >= 32:
				want = MessageType(kind)
			}
			if got := TypeOf(b); got != want {
				t.Errorf("type word %d, %d bytes: got %d, want %d", kind, length, got, want)
			}
		}
	}
	// The three bytes after the type are reserved: zero.
	for i := 1; i < 4; i++ {
		b := make([]byte, InitiationSize)
		b[0], b[i] = 1, 1
		if got := TypeOf(b); got != TypeNone {
			t.Errorf("reserved byte %d set: got %d", i, got)
		}
	}
}

func TestPadded(t *testing.T) {
	for _, c := range []struct{ n, limit, want int }{
		{0, 1280, 0}, {1, 1280, 16}, {16, 1280, 16}, {17, 1280, 32}, {1279, 1280, 1280}, {1280, 1280, 1280},
		{1281, 1280, 1281}, {5000, 1280, 5000}, // larger than the limit already: nothing is added
		{1400, 1418, 1408}, {1415, 1418, 1418}, {1418, 1418, 1418}, // a limit that is no multiple
	} {
		if got := Padded(c.n, c.limit); got != c.want {
			t.Errorf("Padded(%d, %d) = %d, want %d", c.n, c.limit, got, c.want)
		}
	}
}

func TestTimestampsOrderAndCarryFeatures(t *testing.T) {
	const step = 1 << 24 // ns
	base := time.Unix(1_800_000_000, 0)
	times := []time.Time{base.Add(-time.Hour), base.Add(-1), base, base.Add(step), base.Add(2 * step), base.Add(999_999_999), base.Add(time.Second), base.AddDate(50, 0, 0)}
	for i, earlier := range times {
		for j, later := range times {
			for _, f := range []Features{0, FeatureNative, FeatureNative | FeatureAES} {
				x, y := newTimestamp(earlier, 0), newTimestamp(later, f)
				if got := y.after(x); got != (j > i) {
					t.Errorf("%v after %v: %v", later, earlier, got)
				}
				if y.features() != f {
					t.Errorf("features %b come back as %b", f, y.features())
				}
			}
		}
	}
	// What differs within the whitened bits only is the same time, whatever it offers.
	if newTimestamp(base.Add(step-1), FeatureAES).after(newTimestamp(base, 0)) || newTimestamp(base, 0xff).after(newTimestamp(base, 0)) {
		t.Error("bits that carry no time made a timestamp newer")
	}
}

func TestTimestampIsTAI64N(t *testing.T) {
	got := newTimestamp(time.Unix(1, 0), 0)
	if want := "400000000000000b00000000"; hex.EncodeToString(got[:]) != want {
		t.Errorf("one second after the epoch is %x, want %s", got, want)
	}
	reference := Timestamp(tai64n.Now())
	if reference.features() != 0 {
		t.Errorf("a stock timestamp offers %b", reference.features())
	}
	stock, ours := tai64n.Timestamp(newTimestamp(time.Unix(5, 1<<24), FeatureNative)), tai64n.Timestamp(newTimestamp(time.Unix(5, 0), 0xff))
	if !stock.After(ours) {
		t.Error("the reference orders our timestamps otherwise")
	}
}

func FuzzReadInitiation(f *testing.F) {
	a, b := newEnds(f, setup{}, setup{})
	m := a.initiation(f, start)
	f.Add(m)
	f.Add(m[:100])
	f.Fuzz(func(t *testing.T, d []byte) {
		if TypeOf(d) != TypeInitiation {
			return
		}
		in, err := b.local.ReadInitiation(d)
		if err == nil && (in.Remote.Check() != nil || in.Remote.IsZero()) {
			t.Fatalf("an initiation from the impossible key %s was taken", in.Remote)
		}
	})
}
