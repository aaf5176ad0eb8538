package wireguard

// Window is the anti-replay window over a key pair's counters (§5.4.6, RFC 6479): a ring of bits that a new highest counter moves on.
// The zero value is ready.
type Window struct {
	next uint64 // one more than the highest counter seen
	ring [windowWords]uint64
}

// The word that the highest counter lies in is only partly within the window, so that one word more than its width is needed; the next power of
// two makes the position a mask.
const (
	windowWords = WindowSize / 64 * 2
	windowMask  = windowWords - 1
)

// Fresh reports, without changing anything, whether the counter could still be accepted.
func (w *Window) Fresh(counter uint64) bool {
	if counter >= RejectAfterMessages {
		return false
	}
	if counter >= w.next {
		return true
	}
	if w.next-counter > WindowSize {
		return false
	}
	return w.ring[counter/64&windowMask]&(1<<(counter%64)) == 0
}

// Accept marks the counter of an authenticated packet as seen; false says that it was seen before or is too old.
func (w *Window) Accept(counter uint64) bool {
	if !w.Fresh(counter) {
		return false
	}
	word := counter / 64
	if counter >= w.next {
		from := uint64(0)
		if w.next > 0 {
			from = (w.next-1)/64 + 1
		}
		if word >= from+windowWords {
			w.ring = [windowWords]uint64{}
		} else {
			for i := from; i <= word; i++ {
				w.ring[i&windowMask] = 0
			}
		}
		w.next = counter + 1
	}
	w.ring[word&windowMask] |= 1 << (counter % 64)
	return true
}
