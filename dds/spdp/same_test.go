package spdp

import (
	"testing"
	"time"
)

// TestSame: a digest that says nothing new has one length, whatever it would list, and is the whole again when it must.
func TestSame(t *testing.T) {
	rate := func(each int) float64 {
		w := newWorld(t, 3)
		w.quick = true
		list := w.populate(each)
		w.run(time.Minute)
		w.must(list, all, "after a minute")
		datagrams, bytes := w.datagrams, w.bytes
		w.run(10 * time.Minute)
		w.must(list, all, "much later")
		if n := w.datagrams - datagrams; n != 3*2*120 {
			t.Errorf("%d datagrams in ten minutes", n)
		}
		return float64(w.bytes-bytes) / 600
	}
	// 80 are more than one digest lists.
	if one, many := rate(1), rate(80); one != many {
		t.Errorf("one participant on a host costs %.1f B/s, eighty %.1f", one, many)
	}
}

// TestRefusedOnce: what cannot be had is not asked for again and again.
func TestRefusedOnce(t *testing.T) {
	w := newWorld(t, 2)
	w.hosts[0].four = fourOf(1) // which the other does not know
	w.populate(1)
	p := w.hosts[0].newProgram(0)
	p.only4 = true
	p.announceAlways()
	w.hosts[1].peers[0].IPv4 = w.hosts[1].four
	w.hosts[1].setPeers()
	w.run(time.Minute)
	before := w.datagrams
	w.run(10 * time.Minute)
	if n := w.datagrams - before; n != 2*120 {
		t.Errorf("%d datagrams in ten minutes", n)
	}
	w.hosts[1].four = fourOf(2)
	w.whitelist()
	q := w.hosts[1].newProgram(0)
	q.only4 = true
	w.hosts[1].m.SetIPv4(w.now, fourOf(2))
	q.announceAlways()
	w.run(digestEvery + time.Second)
	if _, ok := q.known[p.prefix]; !ok {
		t.Error("when it can be had, it is not")
	}
}

// TestChurn: participants come, change, end and are killed, daemons start anew and peers leave the list and come back, on
// a bad path; when it is quiet again, all know all.
func TestChurn(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		churn(t, restarts)
	}
}

func churn(t *testing.T, restarts bool) {
	w := newWorld(t, 4)
	w.loss = 0.15
	list := w.populate(2)
	for range 400 {
		w.run(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
		h := w.hosts[w.rng.IntN(len(w.hosts))]
		p := list[w.rng.IntN(len(list))]
		switch w.rng.IntN(8) {
		case 0, 1, 2:
			if len(h.ports) < 12 {
				list = append(list, h.program(0))
			}
		case 3:
			if !p.ended {
				p.leave()
			}
		case 4:
			if !p.ended {
				p.kill()
			}
		case 5:
			if !p.ended {
				p.user += "."
				p.sn++
				p.announce()
			}
		case 6:
			if w.rng.IntN(4) == 0 && restarts {
				h.stop()
				h.start()
			}
		case 7:
			kept := h.peers
			gone := kept[0]
			h.m.Leave(w.now, gone.Address)
			h.flush()
			w.run(100 * time.Millisecond)
			h.peers = kept[1:]
			h.setPeers()
			w.run(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
			h.peers = kept
			h.setPeers()
		}
	}
	w.loss = 0
	w.run(time.Minute)
	alive := list[:0]
	for _, p := range list {
		if !p.ended {
			alive = append(alive, p)
		}
	}
	w.must(alive, all, "in the end")
	for _, p := range alive {
		for prefix := range p.known {
			found := false
			for _, q := range alive {
				found = found || q.prefix == prefix
			}
			// On the same host it is for their leases to tell, and so it is of what ended while a daemon was away.
			if !found && prefix[3] != p.prefix[3] && !restarts {
				t.Errorf("%v still knows %v", p.prefix, prefix)
			}
		}
		for _, q := range alive {
			if q != p && string(p.known[q.prefix].UserData) != "enclave=/;"+q.user {
				t.Errorf("%v knows an old announcement of %v", p.prefix, q.prefix)
			}
		}
	}
}
