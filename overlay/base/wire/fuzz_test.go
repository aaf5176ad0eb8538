package wire

import (
	"bytes"
	"testing"
)

// clear zeroes what of a datagram is reserved and not looked at, so that it can be compared with what it is written as.
func clearReserved(b []byte) []byte {
	b = bytes.Clone(b)
	copy(b[2:4], []byte{0, 0})
	switch Type(b[0]) {
	case TypeHello:
		clear(b[4+NonceLen:])
	case TypeCookie, TypeRegister, TypeWelcome:
	case TypeRelayed:
		clear(b[8:12])
		b[1] = 0
	default:
		b[1] = 0
	}
	return b
}

// What is accepted is written as it was read.
func FuzzDatagram(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var again []byte
		var err error
		switch typ := TypeOf(b); typ {
		case 0:
			return
		case TypeHello:
			var h Hello
			h, err = ParseHello(b)
			again = h.Append(nil)
		case TypeCookie:
			var c Cookie
			c, err = ParseCookie(b)
			again = c.Append(nil)
		case TypeRegister:
			var r RegisterHeader
			var noise []byte
			r, noise, err = ParseRegister(b)
			again = append(r.Append(nil), noise...)
		case TypeWelcome:
			var w WelcomeHeader
			var noise []byte
			w, noise, err = ParseWelcome(b)
			again = append(w.Append(nil), noise...)
		case TypeControl, TypeBaseControl:
			var c ControlHeader
			var sealed []byte
			c, sealed, err = ParseControl(b)
			again = append(c.Append(nil), sealed...)
		case TypeRelay:
			session, token, channel, ok := ParseRelay(b)
			if !ok {
				t.Fatal("TypeOf and ParseRelay do not agree")
			}
			again = bytes.Clone(b)
			PutRelay(again, session, token, channel)
		case TypeRelayed:
			index, channel, ok := ParseRelayed(b)
			if !ok {
				t.Fatal("TypeOf and ParseRelayed do not agree")
			}
			again = bytes.Clone(b)
			PutRelayed(again, index, channel)
		case TypeFilterProbe:
			var p FilterProbe
			p, err = ParseFilterProbe(b)
			again = p.Append(nil)
		case TypeUnknown:
			var u Unknown
			u, err = ParseUnknown(b)
			again = u.Append(nil)
		default:
			t.Fatalf("type %v", typ)
		}
		if err == nil && !bytes.Equal(again, clearReserved(b)) {
			t.Errorf("%x is written as\n%x", b, again)
		}
		if u, ok := UnknownTo(b); ok && len(u.Append(nil)) > len(b) {
			t.Errorf("%d bytes get a longer answer", len(b))
		}
		if !bytes.Equal(before, b) {
			t.Error("the input was changed")
		}
	})
}

// The plaintext of a control datagram: every message of it, and every body.
func FuzzMessages(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, again := b, []byte(nil)
		for len(rest) > 0 {
			m, next, err := NextMessage(rest)
			if err != nil {
				return
			}
			again = m.Append(again)
			body, err := rewrite(m)
			switch {
			case err != nil:
			case m.Kind == KindPeer:
				// Seven bits of its flags are reserved.
				if want := bytes.Clone(m.Body); !bytes.Equal(body, append(append(want[:4:4], want[4]&1), want[5:]...)) {
					t.Errorf("%v %x is written as\n%x", m.Kind, m.Body, body)
				}
			case m.Kind.Known() && !bytes.Equal(body, m.Body):
				t.Errorf("%v %x is written as\n%x", m.Kind, m.Body, body)
			}
			rest = next
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x is written as\n%x", b, again)
		}
	})
}

type body interface{ Append([]byte) []byte }

func rewrite(m Message) ([]byte, error) {
	var v body = Close{}
	var err error
	switch m.Kind {
	case KindPing:
		v, err = ParsePing(m.Body)
	case KindPong:
		v, err = ParsePong(m.Body)
	case KindRecord:
		v, err = ParseRecord(m.Body)
	case KindInterest:
		v, err = ParseInterest(m.Body)
	case KindUninterest:
		v, err = ParseUninterest(m.Body)
	case KindPeer:
		v, err = ParsePeer(m.Body)
	case KindDrain:
		v, err = ParseDrain(m.Body)
	case KindFilterTest:
		v, err = ParseFilterTest(m.Body)
	case KindClose:
		v, err = ParseClose(m.Body)
	}
	return v.Append(nil), err
}

// The sealed payloads of the handshake.
func FuzzPayloads(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseWelcomePayload(b); err == nil && !bytes.Equal(p.Append(nil), b) {
			t.Errorf("welcome %x is written as\n%x", b, p.Append(nil))
		}
		if p, err := ParseRegisterPayload(b); err == nil {
			again := p.Append(nil)
			if again[1] = b[1]; !bytes.Equal(again, b) {
				t.Errorf("register %x is written as\n%x", b, again)
			}
		}
	})
}
