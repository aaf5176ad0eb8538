package wireguard

import (
	"testing"
	"time"
)

func TestSessionEndsAtRejectAfterTime(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	last := start.Add(RejectAfterTime - 1)
	talk(t, last, a, b)
	talk(t, last, b, a)
	late := a.transport(last, []byte("0123456789abcdef"))
	end := start.Add(RejectAfterTime)
	if _, _, ok := b.receive(end, late); ok {
		t.Error("a message was accepted beyond the session's end")
	}
	if k, todo := a.Send(end, false); k != nil || todo != Initiate {
		t.Errorf("sending beyond the session's end: key pair %v, todo %b", k, todo)
	}
}

func TestSessionEndsAtRejectAfterMessages(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	a.current.counter.Store(RejectAfterMessages - 1)
	now := start.Add(2 * RekeyTimeout)
	talk(t, now, a, b)
	if k, todo := a.Send(now, false); k != nil || todo != Initiate {
		t.Errorf("sending beyond the last message: key pair %v, todo %b", k, todo)
	}
	// Even a train begun before the end is refused by the receiver beyond it.
	var s Sealer
	m := make([]byte, TransportOverhead)
	s.Seal(a.current, m, nil)
	if _, _, ok := b.receive(now, m); ok {
		t.Error("a counter beyond the last was accepted")
	}
}

func TestRekeyAfterMessagesWhoeverInitiated(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	now := start.Add(2 * RekeyTimeout)
	for name, x := range map[string]*end{"initiator": a, "responder": b} {
		x.current.counter.Store(RekeyAfterMessages)
		if k, todo := x.Send(now, false); k == nil || todo != 0 {
			t.Errorf("%s at the limit: todo %b", name, todo)
		}
		x.current.counter.Store(RekeyAfterMessages + 1)
		if k, todo := x.Send(now, false); k == nil || todo != Initiate {
			t.Errorf("%s above the limit: todo %b", name, todo)
		}
	}
}

func TestOnlyTheInitiatorRekeysAfterTime(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	if _, todo := a.Send(start.Add(RekeyAfterTime-1), false); todo != 0 {
		t.Errorf("initiator before RekeyAfterTime: todo %b", todo)
	}
	if _, todo := b.Send(start.Add(RekeyAfterTime+10*time.Second), false); todo != 0 {
		t.Errorf("responder after RekeyAfterTime: todo %b", todo)
	}
	if k, todo := a.Send(start.Add(RekeyAfterTime), false); k == nil || todo != Initiate {
		t.Errorf("initiator at RekeyAfterTime: todo %b", todo)
	}
}

// A receiver that sends nothing asks for a new session in time too (§6.2).
func TestInitiatorRekeysOnReceivingShortlyBeforeTheEnd(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	at := start.Add(RejectAfterTime - KeepaliveTimeout - RekeyTimeout)
	for _, c := range []struct {
		now  time.Time
		want Todo
	}{{at.Add(-1), 0}, {at, Initiate}, {at.Add(1), 0}} {
		if _, todo, ok := a.receive(c.now, b.transport(c.now, make([]byte, 16))); !ok || todo != c.want {
			t.Errorf("%v after the start: todo %b, want %b", c.now.Sub(start), todo, c.want)
		}
	}
	b2, a2 := newEnds(t, setup{}, setup{})
	handshake(t, start, a2, b2) // the other way round: b2 responds
	if _, todo, ok := b2.receive(at, a2.transport(at, make([]byte, 16))); !ok || todo != 0 {
		t.Errorf("the responder asks too: todo %b", todo)
	}
}

func TestOldSessionStillReceivesAcrossARekey(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	now := start.Add(RekeyAfterTime)
	inFlight := [][]byte{a.transport(now, make([]byte, 16)), b.transport(now, make([]byte, 16))}
	response, err := b.respond(now, a.initiation(t, now))
	if err != nil {
		t.Fatal(err)
	}
	// The responder sends with the old session until the new one is confirmed.
	old := b.current
	if k, _ := b.Send(now, false); k != old {
		t.Error("the responder changed over before the confirmation")
	}
	if _, err := a.Complete(now, response); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := a.receive(now, inFlight[1]); !ok {
		t.Error("the initiator lost what was in flight")
	}
	confirm := a.transport(now, nil)
	if _, todo, ok := b.receive(now, confirm); !ok || todo&Flush == 0 {
		t.Error("not confirmed")
	}
	if _, _, ok := b.receive(now, inFlight[0]); !ok {
		t.Error("the responder lost what was in flight")
	}
	talk(t, now, a, b)
	talk(t, now, b, a)
	if len(a.indices.live) != 2 || len(b.indices.live) != 2 {
		t.Errorf("%d and %d indices live, want the current and the previous session's", len(a.indices.live), len(b.indices.live))
	}
}

func TestTwoHandshakesThatCross(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	fromA, fromB := a.initiation(t, start), b.initiation(t, start)
	toA, err := b.respond(start, fromA)
	if err != nil {
		t.Fatal(err)
	}
	toB, err := a.respond(start, fromB)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Complete(start, toA); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Complete(start, toB); err != nil {
		t.Fatal(err)
	}
	talk(t, start, a, b)
	talk(t, start, b, a)
	// Each is the initiator of its own session. They must not cross again and again: at 120 s at most one of them asks.
	if a.current.rekeyAfter == b.current.rekeyAfter {
		t.Error("both rekey at the same moment")
	}
	for _, x := range []*end{a, b} {
		if r := x.current.rekeyAfter; r < RekeyAfterTime || r > RekeyAfterTime+2*RekeyTimeout {
			t.Errorf("rekey after %v", r)
		}
	}
}

func TestNoInitiationWhileThePeersIsUnderWay(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	if _, err := b.respond(start, a.initiation(t, start)); err != nil {
		t.Fatal(err)
	}
	// b now has data of its own, and the session is not confirmed yet.
	if k, todo := b.Send(start.Add(time.Millisecond), false); k != nil || todo != 0 {
		t.Errorf("key pair %v, todo %b: the handshakes would cross", k, todo)
	}
	// The confirmation is lost: b asks by itself, soon with one of our own, after RekeyTimeout with a stock peer.
	if next := b.Next().Sub(start); next <= 0 || next > time.Second {
		t.Errorf("asks a native peer after %v", next)
	}
	c := newEnd(t, testIdentity(1), testIdentity(2), setup{})
	d := newEnd(t, testIdentity(2), testIdentity(1), setup{})
	if _, err := d.respond(start, c.initiation(t, start)); err != nil {
		t.Fatal(err)
	}
	d.features = 0 // as a stock peer
	d.Send(start.Add(time.Millisecond), false)
	if next := d.Next().Sub(start); next < RekeyTimeout || next > RekeyTimeout+RekeyJitter {
		t.Errorf("asks a stock peer after %v", next)
	}
}

func TestRetransmissionAndGivingUp(t *testing.T) {
	for name, c := range map[string]struct {
		native  bool
		atLeast int
	}{"stock": {false, 18}, "native": {true, 22}} {
		t.Run(name, func(t *testing.T) {
			a, _ := newEnds(t, setup{native: c.native}, setup{})
			if _, todo := a.Send(start, false); todo != Initiate {
				t.Fatalf("todo %b", todo)
			}
			a.initiation(t, start)
			sent, last := 1, start
			for {
				now := a.Next()
				todo := a.Tick(now)
				if todo == GiveUp {
					if now.Sub(start) < RekeyAttemptTime {
						t.Errorf("gave up after %v", now.Sub(start))
					}
					break
				}
				if todo != Initiate {
					t.Fatalf("todo %b", todo)
				}
				gap := now.Sub(last)
				if !c.native && (gap < RekeyTimeout || gap > RekeyTimeout+RekeyJitter) {
					t.Errorf("retransmission %d after %v", sent, gap)
				}
				if c.native && sent == 1 && gap > 500*time.Millisecond {
					t.Errorf("first retransmission to a native peer after %v", gap)
				}
				a.initiation(t, now)
				sent, last = sent+1, now
			}
			if sent != c.atLeast+1 {
				t.Errorf("%d initiations, want %d", sent, c.atLeast+1)
			}
			if !a.Next().IsZero() || len(a.indices.live) != 0 {
				t.Errorf("next timer %v, %d indices after giving up", a.Next(), len(a.indices.live))
			}
		})
	}
}

func TestContactIsLimitedAndBeginsAnew(t *testing.T) {
	a, _ := newEnds(t, setup{}, setup{})
	if todo := a.Contact(start); todo != Initiate {
		t.Fatalf("todo %b", todo)
	}
	a.initiation(t, start)
	a.attempts = 7
	now := start.Add(ContactInterval / 2)
	if todo := a.Contact(now); todo != 0 {
		t.Error("two initiations within ContactInterval")
	}
	if a.Next() != start.Add(ContactInterval) || a.attempts != 0 {
		t.Errorf("the second comes after %v, attempts %d", a.Next().Sub(start), a.attempts)
	}
	if todo := a.Tick(a.Next()); todo != Initiate {
		t.Errorf("todo %b when it is due", todo)
	}
}

func TestKeepaliveTimers(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	// Data that is not answered makes a keepalive after KeepaliveTimeout, and one only.
	now := start.Add(time.Second)
	b.receive(now, a.transport(now, make([]byte, 16)))
	if next := b.Next(); next != now.Add(KeepaliveTimeout) {
		t.Fatalf("keepalive after %v", next.Sub(now))
	}
	if todo := b.Tick(now.Add(KeepaliveTimeout)); todo != Keepalive {
		t.Fatalf("todo %b", todo)
	}
	b.transport(now.Add(KeepaliveTimeout), nil)
	if b.timers.keepalive.set() {
		t.Error("a second keepalive is due")
	}
	// More data while one is due asks for another after it.
	now = start.Add(30 * time.Second)
	b.receive(now, a.transport(now, make([]byte, 16)))
	b.receive(now, a.transport(now, make([]byte, 16)))
	b.Tick(now.Add(KeepaliveTimeout))
	if b.timers.keepalive.at != now.Add(2*KeepaliveTimeout) {
		t.Error("the second keepalive is missing")
	}
	// Sending anything makes both needless.
	b.transport(now.Add(KeepaliveTimeout), make([]byte, 16))
	if b.timers.keepalive.set() || b.timers.keepaliveAgain {
		t.Error("a keepalive after an answer")
	}
	// A keepalive is not answered: two idle ends fall silent.
	c, d := newEnds(t, setup{}, setup{})
	handshake(t, start, c, d)
	d.receive(now, c.transport(now, nil))
	if d.timers.keepalive.set() {
		t.Error("a keepalive for a keepalive")
	}
}

func TestUnansweredDataStartsAHandshake(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	now := start.Add(20 * time.Second)
	a.transport(now, make([]byte, 16))
	at := a.Next()
	if d := at.Sub(now) - KeepaliveTimeout - RekeyTimeout; d < 0 || d > RekeyJitter {
		t.Fatalf("due after %v", at.Sub(now))
	}
	if todo := a.Tick(at); todo != Initiate {
		t.Fatalf("todo %b", todo)
	}
	// Any authentic answer calls it off.
	a.transport(at, make([]byte, 16))
	a.receive(at, b.transport(at, nil))
	if a.timers.unanswered.set() {
		t.Error("an answer did not stop the timer")
	}
}

func TestKeysAreErasedAndAHandshakeUnderWayIsNot(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	end := start.Add(3 * RejectAfterTime)
	// Just before the end there is data again, and nobody answers at first.
	before := end.Add(-time.Second)
	if _, todo := a.Send(before, false); todo != Initiate {
		t.Fatalf("todo %b", todo)
	}
	m := a.initiation(t, before)
	if todo := a.Tick(end); todo != Down {
		t.Fatalf("todo %b at the keys' end", todo)
	}
	if a.current != nil || !a.LastHandshake().IsZero() || len(a.indices.live) != 1 {
		t.Errorf("%d indices live after erasing, want the handshake's", len(a.indices.live))
	}
	if _, ok := a.Handshaking(); !ok {
		t.Error("the handshake under way was forgotten")
	}
	response, err := b.respond(end, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Complete(end, response); err != nil {
		t.Errorf("its response was refused: %v", err)
	}
}

// TestPostpone: an initiation that finds no way takes no index, is repeated as one that was sent, and given up like it.
func TestPostpone(t *testing.T) {
	for _, native := range []bool{false, true} {
		a, _ := newEnds(t, setup{}, setup{})
		a.cfg.Native = native
		now := start
		if _, todo := a.Send(now, false); todo != Initiate {
			t.Fatalf("todo %b", todo)
		}
		a.Postpone(now)
		for attempt := 1; ; attempt++ {
			if got, ok := a.Handshaking(); got != attempt-1 || !ok {
				t.Fatalf("handshaking: %d, %v at attempt %d", got, ok, attempt)
			}
			if _, todo := a.Send(now, false); todo != 0 {
				t.Fatalf("todo %b while one is postponed", todo)
			}
			at := a.Next()
			if gap := at.Sub(now); gap > RekeyTimeout+RekeyJitter || gap < RekeyTimeout && !native {
				t.Fatalf("again after %v", gap)
			}
			now = at
			todo := a.Tick(now)
			if todo == GiveUp {
				if attempt != a.maxAttempts()+1 {
					t.Errorf("given up after %d attempts", attempt)
				}
				break
			}
			if todo != Initiate {
				t.Fatalf("todo %b", todo)
			}
			a.Postpone(now)
		}
		if _, ok := a.Handshaking(); ok || !a.Next().IsZero() || len(a.indices.live) != 0 {
			t.Errorf("after giving up: handshaking %v, next %v, %d indices", ok, a.Next(), len(a.indices.live))
		}
		// A way shows itself: nothing was sent, so nothing has to be waited for.
		if todo := a.Contact(now); todo != Initiate {
			t.Errorf("todo %b on contact", todo)
		}
	}
}

func TestForgetLeavesNothing(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	handshake(t, start, a, b)
	now := start.Add(RekeyAfterTime)
	a.initiation(t, now)
	if _, err := a.respond(now, b.initiation(t, now)); err != nil {
		t.Fatal(err)
	}
	a.Forget()
	if len(a.indices.live) != 0 || !a.Next().IsZero() || a.Session(now) != nil {
		t.Errorf("%d indices, next timer %v", len(a.indices.live), a.Next())
	}
	if k, todo := a.Send(now, false); k != nil || todo != Initiate {
		t.Errorf("key pair %v, todo %b after Forget", k, todo)
	}
}

// noRoom is an index table that is full.
type noRoom struct{}

func (noRoom) New() (uint32, bool)   { return 0, false }
func (noRoom) Bind(uint32, *Keypair) {}
func (noRoom) Free(uint32)           {}

func TestFullIndexTableIsTriedAgain(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	b.cfg.Indices = noRoom{}
	if m, err := b.Initiation(start); m != nil || err != nil {
		t.Fatalf("%d bytes, %v", len(m), err)
	}
	if b.Next() != start.Add(RekeyTimeout) {
		t.Errorf("tried again after %v", b.Next().Sub(start))
	}
	if m, err := b.respond(start, a.initiation(t, start)); m != nil || err != nil {
		t.Errorf("responded with %d bytes, %v", len(m), err)
	}
}
