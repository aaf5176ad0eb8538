package pace

import "time"

// When a Report is due. 50 a second of some 100 bytes tell enough of a path of 60 ms; the threshold in bytes keeps that below 1.3 % of what
// is reported on, and an idle path (less than 8 kB in a second) silent.
const (
	reportEvery  = 20 * time.Millisecond
	reportBytes  = 8 << 10
	reportWithin = time.Second
	// A session's counter that goes back by more than the replay window, or does not advance for resetPackets, began anew.
	resetBy      = 8192
	resetPackets = 64
)

// Receiver counts what arrives on one path and says when its sender should hear of it. The zero Receiver is ready. It belongs to one goroutine or lock.
type Receiver struct {
	began   time.Time // of the receiver's clock
	since   time.Time // of the bytes that are not reported
	last    time.Time // of the last Report
	at      time.Time // of the arrival of the highest counter
	highest uint64
	bytes   uint64
	packets uint32
	pending uint64 // bytes that are not reported
	behind  int    // packets since the counter advanced
}

// Arrived counts datagrams that arrived together and were opened: counter is the highest of them, bytes counts what the sender's Sent counts. Copies
// that came by another path as well count too, so it is called before the replay window drops them.
func (r *Receiver) Arrived(now time.Time, counter uint64, bytes, packets int) {
	if bytes <= 0 || packets <= 0 {
		return
	}
	if r.began.IsZero() {
		r.began, r.highest, r.at = now, counter, now
	}
	if r.pending == 0 || now.Sub(r.since) > reportWithin && r.pending < reportBytes {
		r.pending, r.since = 0, now
	}
	switch {
	case counter >= r.highest:
		r.highest, r.at, r.behind = counter, now, 0
	case counter+resetBy < r.highest || r.behind >= resetPackets:
		r.highest, r.at, r.behind = counter, now, 0
	default:
		r.behind += packets
	}
	r.bytes += uint64(bytes)
	r.packets += uint32(packets)
	r.pending += uint64(bytes)
}

// Anew says that what arrives from now on counts from zero again: a new session. Without it that is found out after some packets.
func (r *Receiver) Anew() { r.highest, r.behind = 0, 0 }

// Due returns the Report to be sent now, back the way that the datagrams came, and counts it as sent; ok is false while none is due. It is asked after
// Arrived; nothing needs a timer.
func (r *Receiver) Due(now time.Time) (report Report, ok bool) {
	if r.pending < reportBytes || !r.last.IsZero() && now.Sub(r.last) < reportEvery {
		return Report{}, false
	}
	r.last, r.pending = now, 0
	return Report{Counter: r.highest, Bytes: r.bytes, Packets: r.packets, Held: now.Sub(r.at), At: r.at.Sub(r.began)}, true
}
