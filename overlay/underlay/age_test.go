package underlay

import (
	"testing"
	"time"
)

// What waits in the kernel says for how long when it is read. The kernel begins to look at the clock some time after the first socket of the host asked for
// it; until then it says when a datagram was read.
func TestAge(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		const waits = 30 * time.Millisecond
		a, b := listen(t, network), listen(t, network)
		for begun := time.Now(); ; {
			train := Message{Buf: randomBytes(5000), Segment: 1000, Remote: b.at(network)}
			sent := time.Now()
			send(t, a, train)
			time.Sleep(waits)
			ms := room(4)
			n, err := b.ReadBatch(ms)
			took := time.Since(sent)
			if err != nil {
				t.Fatal(err)
			}
			late := false
			for _, m := range ms[:n] {
				late = late || m.Age < waits
				if m.Age > took || m.Age < waits && time.Since(begun) > 5*time.Second {
					t.Fatalf("read %v after it was sent, it says %v; it waited for at least %v", took, m.Age, waits)
				}
			}
			if !late {
				return
			}
		}
	})
}
