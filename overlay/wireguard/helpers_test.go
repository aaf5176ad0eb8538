package wireguard

import (
	"bytes"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

var start = time.Unix(1_800_000_000, 0)

func testIdentity(n byte) *identity.Identity { return identity.FromSeed([32]byte{n, 9, 9}) }

// indexTable is an Indices that notices leaks and misuse.
type indexTable struct {
	t    testing.TB
	last uint32
	live map[uint32]*Keypair
}

func newIndexTable(t testing.TB, first uint32) *indexTable {
	return &indexTable{t: t, last: first, live: make(map[uint32]*Keypair)}
}

func (x *indexTable) New() (uint32, bool) {
	x.last++
	x.live[x.last] = nil
	return x.last, true
}

func (x *indexTable) Bind(i uint32, k *Keypair) {
	if old, ok := x.live[i]; !ok || old != nil {
		x.t.Errorf("index %d bound, which names no handshake", i)
	}
	x.live[i] = k
}

func (x *indexTable) Free(i uint32) {
	if _, ok := x.live[i]; !ok {
		x.t.Errorf("index %d freed twice", i)
	}
	delete(x.live, i)
}

// end is one of two peers of a test, with all that its owner would keep.
type end struct {
	*Peer
	local   *Local
	id      *identity.Identity
	indices *indexTable
	stamp   time.Time
}

type setup struct {
	psk    PSK
	aes    bool
	native bool
}

func newEnd(t testing.TB, id, remote *identity.Identity, s setup) *end {
	e := &end{id: id, local: NewLocal(id.PrivateKey(), id.PublicKey(), s.aes), indices: newIndexTable(t, uint32(id.PublicKey()[0])<<16), stamp: start}
	e.Peer = NewPeer(PeerConfig{
		Local: e.local, Remote: remote.PublicKey(), PSK: s.psk, Native: s.native, Indices: e.indices,
		Stamp: func() time.Time { e.stamp = e.stamp.Add(1 << 24); return e.stamp },
	})
	return e
}

func newEnds(t testing.TB, a, b setup) (*end, *end) {
	x, y := testIdentity(1), testIdentity(2)
	return newEnd(t, x, y, a), newEnd(t, y, x, b)
}

func (e *end) initiation(t testing.TB, now time.Time) []byte {
	t.Helper()
	m, err := e.Initiation(now)
	if err != nil || len(m) != InitiationSize {
		t.Fatalf("initiation of %d bytes, %v", len(m), err)
	}
	return m
}

// respond reads an initiation as the engine does and answers it.
func (e *end) respond(now time.Time, m []byte) ([]byte, error) {
	in, err := e.local.ReadInitiation(m)
	if err != nil {
		return nil, err
	}
	return e.Respond(now, in)
}

// transport seals a message with the current session, nil if there is none.
func (e *end) transport(now time.Time, plaintext []byte) []byte {
	k, _ := e.Send(now, len(plaintext) == 0)
	if k == nil {
		return nil
	}
	var s Sealer
	m := make([]byte, len(plaintext)+TransportOverhead)
	return m[:s.Seal(k, m, plaintext)]
}

// receive opens a transport message as the engine does; ok says that it was accepted.
func (e *end) receive(now time.Time, m []byte) (plaintext []byte, todo Todo, ok bool) {
	k := e.indices.live[ReceiverIndex(m)]
	if k == nil {
		return nil, 0, false
	}
	var o Opener
	plaintext, ok = o.Open(k, bytes.Clone(m))
	if !ok || !e.Accept(now, k, Counter(m)) {
		return nil, 0, false
	}
	return plaintext, e.Arrived(now, k, len(plaintext) > 0), true
}

// handshake lets a initiate and b respond, with the confirming keepalive.
func handshake(t testing.TB, now time.Time, a, b *end) {
	t.Helper()
	response, err := b.respond(now, a.initiation(t, now))
	if err != nil {
		t.Fatal(err)
	}
	todo, err := a.Complete(now, response)
	if err != nil || todo != Flush|Keepalive {
		t.Fatalf("the initiator's end: todo %b, %v", todo, err)
	}
	if b.Session(now) != nil && b.Session(now).local == b.next.local {
		t.Fatal("the responder sends before the session is confirmed")
	}
	if _, todo, ok := b.receive(now, a.transport(now, nil)); !ok || todo&Flush == 0 {
		t.Fatalf("the confirmation: todo %b, accepted %v", todo, ok)
	}
}

// talk demands that data passes from one end to the other.
func talk(t testing.TB, now time.Time, from, to *end) {
	t.Helper()
	m := from.transport(now, []byte("0123456789abcdef"))
	if m == nil {
		t.Fatal("no session to send with")
	}
	if got, _, ok := to.receive(now, m); !ok || string(got) != "0123456789abcdef" {
		t.Fatalf("got %q, %v", got, ok)
	}
	if _, _, again := to.receive(now, m); again {
		t.Fatal("a replay was accepted")
	}
}
