package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func captured(t testing.TB) (list [][]byte) {
	t.Helper()
	files, err := filepath.Glob("../../ros_pkg/rtps/wire/testdata/captured/*.bin")
	if err != nil || len(files) < 20 {
		t.Fatal("captured datagrams are missing:", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// FuzzPacket: any packets, in either direction, do nothing but be counted.
func FuzzPacket(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(make([]byte, tun.HeaderLen), ip6(robotA, self, userPort, b), ip4(userPort, b))
	}
	f.Fuzz(func(t *testing.T, header, one, two []byte) {
		s := newSim(t)
		for _, b := range [][]byte{one, two, one} {
			s.i.Inbound(s.now, robotA, b)
			if len(header) >= tun.HeaderLen {
				s.i.Outbound(s.now, robotA, append(header[:tun.HeaderLen:tun.HeaderLen], b...))
			} else {
				s.i.Outbound(s.now, robotA, header)
			}
			s.after(time.Second)
		}
		s.w.Snapshot(s.now)
		checkBounds(t, s.w)
	})
}

// FuzzMessage: what the full parser makes of a message is what is counted of it.
func FuzzMessage(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := wire.NewReader(b)
		if err != nil {
			return
		}
		type key struct {
			g wire.GUID
			n wire.SequenceNumber
		}
		samples, requests, submessages := map[key]bool{}, uint64(0), 0
		for sub, ok := r.Next(); ok; sub, ok = r.Next() {
			switch sub := sub.(type) {
			case *wire.Data:
				if !sub.Writer.Builtin() {
					samples[key{wire.GUID{Prefix: r.Source().Prefix, Entity: sub.Writer}, sub.SN}] = true
				}
			case *wire.DataFrag, *wire.Gap:
				return // they have rules of their own
			case *wire.AckNack:
				if !sub.Writer.Builtin() && sub.Set.Len() > 0 {
					requests++
				}
			case *wire.NackFrag:
				if !sub.Writer.Builtin() && sub.Set.Len() > 0 {
					requests++
				}
			}
			submessages++
		}
		if r.Err() != nil || r.Skipped() > 0 || submessages > maxSubmessages/2 {
			return
		}
		s := newSim(t)
		s.in(robotA, b)
		var total Flow
		for _, p := range s.w.Snapshot(s.now).Peers {
			for _, row := range p.Topics {
				total.Bytes += row.Rx.Bytes
				total.Requests += row.Rx.Requests
				if row.Kind != Discovery {
					total.Samples += row.Rx.Samples
				}
			}
		}
		if total.Bytes != uint64(s.size) || total.Samples > uint64(len(samples)) || total.Requests != requests {
			t.Fatalf("%+v, want %d bytes, %d samples, %d requests", total, s.size, len(samples), requests)
		}
	})
}

// FuzzAnnouncement: any payload of discovery is read or not.
func FuzzAnnouncement(f *testing.F) {
	for _, d := range []*wire.Data{sedp(prefix(1), writerID, "rt/a", "T"), sedp(prefix(1), readerID, "rt/a", "T")} {
		f.Add(d.Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := readAnnouncement(b)
		if ok && (a.guid.IsZero() || a.topic == "" || a.typ == "" || len(a.topic) > maxNameLen || len(a.typ) > maxNameLen) {
			t.Fatalf("%+v", a)
		}
		rosName(a.topic, a.typ)
	})
}
