package underlay

import (
	"testing"
	"time"
)

// What waits in the kernel says for how long when it is read.
func TestAge(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		const waits = 30 * time.Millisecond
		a, b := listen(t, network), listen(t, network)
		train := Message{Buf: randomBytes(5000), Segment: 1000, Remote: b.at(network)}
		began := time.Now()
		send(t, a, train)
		time.Sleep(waits)
		ms := room(4)
		n, err := b.ReadBatch(ms)
		took := time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms[:n] {
			if m.Age < waits || m.Age > took {
				t.Errorf("read %v after it was sent, it says %v; it waited for at least %v", took, m.Age, waits)
			}
		}
	})
}
