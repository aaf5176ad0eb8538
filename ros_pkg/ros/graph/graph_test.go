package graph

import (
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func guid(p byte, e wire.EntityID) wire.GUID {
	return wire.GUID{Prefix: wire.GuidPrefix{1, 0x10, p}, Entity: e}
}

func example(p byte) Info {
	return Info{Participant: guid(p, wire.EntityParticipant), Nodes: []Node{
		{Namespace: "/", Name: "talker", Readers: []wire.GUID{guid(p, 0x104)}, Writers: []wire.GUID{guid(p, 0x203), guid(p, 0x303)}},
		{Namespace: "/fleet/a", Name: "listener"},
	}}
}

func TestInfo(t *testing.T) {
	want := example(7)
	for _, layout := range []Layout{Iron, Humble} {
		payload := want.Append(nil, layout)
		for _, guess := range []Layout{Iron, Humble} {
			got, found, err := Parse(payload, want.Participant.Prefix, guess)
			if err != nil || found != layout || !reflect.DeepEqual(got, want) {
				t.Errorf("layout %d, guessed %d: found %d, %v\n%+v", layout, guess, found, err, got)
			}
			if _, _, err := Parse(payload, wire.GuidPrefix{9}, guess); err == nil {
				t.Error("a participant told about another")
			}
			for n := range payload {
				if layout == Humble && 24 <= n && n < 28 {
					continue // the zeros behind the GUID are then a count of no nodes
				}
				if got, _, err := Parse(payload[:n], want.Participant.Prefix, guess); err == nil {
					t.Fatalf("cut to %d bytes: %+v", n, got)
				}
			}
		}
		padded := append(payload[:len(payload):len(payload)], 0, 0, 0)
		if _, _, err := Parse(padded, want.Participant.Prefix, layout); err != nil {
			t.Error("padding:", err)
		}
	}
	both := want.Both()
	for _, layout := range []Layout{Iron, Humble} {
		if got := Pick(both, layout); hex.EncodeToString(got) != hex.EncodeToString(want.Append(nil, layout)) {
			t.Errorf("layout %d picked from both: %x", layout, got)
		}
	}
	if Pick([]byte{255, 255, 255, 127}, Iron) != nil || Pick(nil, Humble) != nil {
		t.Error("something was picked from nothing")
	}
}

// A participant without nodes has the same beginning in both layouts: what is behind it decides.
func TestEmptyInfo(t *testing.T) {
	want := Info{Participant: guid(1, wire.EntityParticipant)}
	for _, layout := range []Layout{Iron, Humble} {
		for _, guess := range []Layout{Iron, Humble} {
			got, found, err := Parse(want.Append(nil, layout), want.Participant.Prefix, guess)
			if err != nil || found != layout || len(got.Nodes) != 0 {
				t.Errorf("layout %d, guessed %d: found %d, %+v, %v", layout, guess, found, got, err)
			}
		}
	}
}

func TestBadNames(t *testing.T) {
	info := example(1)
	info.Nodes = append(info.Nodes, Node{Namespace: "relative", Name: "x"}, Node{Namespace: "/", Name: "not a name"}, Node{Namespace: "/", Name: ""})
	got, _, err := Parse(info.Append(nil, Iron), info.Participant.Prefix, Iron)
	if err != nil || len(got.Nodes) != 2 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestUserData(t *testing.T) {
	data := []byte("enclave=/a;typehash=RIHS01_00;serviceid=;")
	for key, want := range map[string]string{"enclave": "/a", "typehash": "RIHS01_00", "serviceid": ""} {
		if got, ok := UserData(data, key); !ok || got != want {
			t.Errorf("%s: %q %v", key, got, ok)
		}
	}
	if _, ok := UserData(data, "a"); ok {
		t.Error("a key was found that is not there")
	}
	if LayoutOf(data) != Iron || LayoutOf([]byte("enclave=/;")) != Humble || LayoutOf(nil) != Humble {
		t.Error("layouts")
	}
}

func TestBook(t *testing.T) {
	var b Book
	one, two := example(1), example(2)
	if !b.Set(two) || !b.Set(one) {
		t.Fatal("no room")
	}
	var names []string
	for _, e := range b.Nodes() {
		names = append(names, e.Full())
	}
	if want := []string{"/fleet/a/listener", "/fleet/a/listener", "/talker", "/talker"}; !reflect.DeepEqual(names, want) {
		t.Errorf("%v", names)
	}
	if e, ok := b.Owners()[guid(2, 0x203)]; !ok || e.Name != "talker" || e.Participant != two.Participant.Prefix {
		t.Errorf("%+v %v", e, ok)
	}
	// Nobody owns another's endpoints.
	one.Nodes[1].Writers = []wire.GUID{guid(2, 0x203)}
	b.Set(one)
	if e := b.Owners()[guid(2, 0x203)]; e.Participant != two.Participant.Prefix {
		t.Errorf("%+v", e)
	}
	if !b.Remove(one.Participant.Prefix) || b.Remove(one.Participant.Prefix) || len(b.Nodes()) != 2 {
		t.Error("removal")
	}
	b.Remove(two.Participant.Prefix)
	if b.cost != 0 {
		t.Errorf("%d left", b.cost)
	}
	for i := range maxParticipants + 10 {
		info := Info{Participant: wire.GUID{Prefix: wire.GuidPrefix{1, byte(i), byte(i >> 8)}}}
		if room := b.Set(info); room != (i < maxParticipants) {
			t.Fatalf("participant %d: %v", i, room)
		}
	}
}

func FuzzParse(f *testing.F) {
	info := example(1)
	f.Add(info.Append(nil, Iron), true)
	f.Add(info.Append(nil, Humble), false)
	f.Add([]byte{0, 1, 0, 0}, true)
	f.Fuzz(func(t *testing.T, payload []byte, iron bool) {
		guess := Humble
		if iron {
			guess = Iron
		}
		var from wire.GuidPrefix
		if len(payload) >= 16 {
			copy(from[:], payload[4:])
		}
		info, layout, err := Parse(payload, from, guess)
		if err != nil {
			return
		}
		var b Book
		if b.Set(info) {
			b.Owners()
		}
		again, _, err := Parse(info.Append(nil, layout), from, layout)
		if err != nil || !reflect.DeepEqual(again, info) {
			t.Errorf("%v\n%+v\n%+v", err, info, again)
		}
	})
}
