package engine

import (
	"net/netip"
	"testing"
	"time"
)

func TestQuota(t *testing.T) {
	now := time.Now()
	victim, friend := netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("192.0.2.1")
	var q quota
	q.heard(now, friend)
	sent, free := 0, 0
	for i := range 10 * 600 { // ten minutes, ten attempts a second
		at := now.Add(time.Duration(i) * 100 * time.Millisecond)
		if q.take(at, victim) {
			sent++
		}
		if q.take(at, friend) {
			free++
		}
	}
	if sent > quotaBurst+10*quotaPerMinute || sent < 9*quotaPerMinute {
		t.Errorf("%d datagrams to a stranger in ten minutes", sent)
	}
	if free != 6000 {
		t.Errorf("%d of 6000 datagrams to an address that answered", free)
	}
	if q.take(now.Add(heardFor+time.Minute), friend); q.addresses[friend].tokens >= quotaBurst {
		t.Error("an address that answered long ago has no limit")
	}

	a := victim
	for range 2 * maxQuotas {
		a = a.Next()
		q.take(now.Add(10*time.Minute), a)
	}
	if len(q.addresses) > maxQuotas {
		t.Errorf("%d addresses, %d at most", len(q.addresses), maxQuotas)
	}
	if !q.take(now.Add(2*time.Hour), a.Next()) {
		t.Error("the table stays full")
	}
}

func TestQuotaHasRoomForAFleet(t *testing.T) {
	now := time.Now()
	var q quota
	a := netip.MustParseAddr("192.0.2.1")
	for range maxQuotas {
		a = a.Next()
		q.heard(now, a)
	}
	for range 100 {
		a = a.Next()
		if !q.take(now.Add(time.Minute), a) {
			t.Fatal("nothing may go to one more peer while many answer")
		}
	}
	if len(q.addresses) > maxQuotas {
		t.Errorf("%d addresses, %d at most", len(q.addresses), maxQuotas)
	}
}
