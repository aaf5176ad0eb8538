package ros

import (
	"testing"
	"testing/synctest"
)

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		gate := make(chan bool)
		q := &queue[int]{depth: 4, bytes: 10, run: func(i int) { <-gate; got = append(got, i) }}
		check := func(want ...int) {
			t.Helper()
			for range want {
				gate <- true
				synctest.Wait()
			}
			if len(got) != len(want) {
				t.Fatalf("%v, want %v", got, want)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%v, want %v", got, want)
				}
			}
			got = nil
		}
		push := func(items ...int) {
			for _, i := range items {
				q.push(i, 1)
			}
			synctest.Wait()
		}
		push(0)
		push(1, 2, 3, 4, 5)
		check(0, 2, 3, 4, 5)
		for round := range 10 { // the array is used again
			push(0)
			push(1, 2, 3)
			check(0, 1, 2, 3)
			if c := cap(q.items); c > 16 {
				t.Fatalf("round %d: room for %d", round, c)
			}
		}
		push(0)
		q.push(1, 6)
		q.push(2, 6) // too many bytes together
		q.push(3, 100)
		check(0, 3)
		push(0)
		for i := range 4 {
			if !q.offer(i, 1) {
				t.Error("refused")
			}
		}
		if q.offer(9, 1) {
			t.Error("not refused")
		}
		check(0, 0, 1, 2, 3)
		push(0)
		push(1)
		q.close()
		push(2)
		if q.offer(3, 1) {
			t.Error("a closed queue takes more")
		}
		check(0)
		if q.drops() != 5 {
			t.Errorf("%d dropped", q.drops())
		}
	})
}
