package pace

import (
	"bytes"
	"testing"
	"time"
)

func TestReportOnTheWire(t *testing.T) {
	r := Report{Counter: 1<<40 + 5, Bytes: 1<<50 + 7, Packets: 1<<31 + 1, Held: 1500 * time.Microsecond, At: 90 * time.Hour}
	b := AppendReport([]byte{6}, r)
	if len(b) != 1+ReportLen {
		t.Fatalf("%d bytes", len(b))
	}
	got, err := ParseReport(append(b[1:], 1, 2, 3))
	if err != nil || got != r {
		t.Fatalf("%+v, %v; want %+v", got, err, r)
	}
	if _, err := ParseReport(b[2:]); err == nil {
		t.Fatal("a short report was taken")
	}
	low, err := ParseReport(AppendReport(nil, Report{Held: -5, At: -5}))
	if err != nil || low.Held != 0 || low.At != 0 {
		t.Fatalf("%+v, %v", low, err)
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(AppendReport(nil, Report{Counter: 1, Bytes: 2, Packets: 3, Held: 4 * time.Microsecond, At: time.Second}))
	f.Add(bytes.Repeat([]byte{0xff}, ReportLen+1))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		if r.Held < 0 || r.At < 0 {
			t.Fatalf("%+v", r)
		}
		if again, err := ParseReport(AppendReport(nil, r)); err != nil || again != r {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
		c := New()
		now := time.Unix(0, 0)
		for i := range uint64(20) {
			c.Sent(now, r.Counter-10+i, 1400)
			c.Report(now.Add(50*time.Millisecond), r)
			r.Bytes += 1400
			r.At += 20 * time.Millisecond
			now = now.Add(20 * time.Millisecond)
		}
	})
}

func TestReceiver(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var r Receiver
	// Little in a second is not worth a report.
	for i := range 20 {
		r.Arrived(at(i*500), uint64(i), 1000, 1)
		if report, ok := r.Due(at(i * 500)); ok {
			t.Fatalf("due after %d packets: %+v", i+1, report)
		}
	}
	// Much is, once in 20 ms.
	due := 0
	for i := range 1000 {
		now := at(20000 + i)
		r.Arrived(now, uint64(20+i), 1400, 1)
		if report, ok := r.Due(now); ok {
			due++
			if report.Counter != uint64(20+i) || report.Held != 0 || report.Packets != uint32(21+i) || report.Bytes != uint64(20*1000+(i+1)*1400) || report.At != now.Sub(start) {
				t.Fatalf("%+v after packet %d", report, i)
			}
		}
	}
	if due < 45 || due > 50 {
		t.Fatalf("%d reports in a second", due)
	}
	// What was overtaken does not count as the newest, and Held tells how old that is.
	r.Arrived(at(30000), 5000, 20000, 1)
	r.Arrived(at(30007), 4990, 1400, 1)
	if report, ok := r.Due(at(30007)); !ok || report.Counter != 5000 || report.Held != 7*time.Millisecond {
		t.Fatalf("%+v, %v", report, ok)
	}
	// A new session counts anew.
	for i := range 200 {
		r.Arrived(at(31000+i), uint64(i), 1400, 1)
	}
	if report, ok := r.Due(at(31200)); !ok || report.Counter != 199 {
		t.Fatalf("%+v, %v", report, ok)
	}
}

func TestLog(t *testing.T) {
	var l sentLog
	for i := range uint64(5000) {
		if anew := l.add(time.Duration(i)*3*time.Millisecond, i*10, 1000); anew {
			t.Fatal("the counter began anew for nothing")
		}
	}
	if at, bytes, ok := l.find(45005); !ok || at != 4501*3*time.Millisecond || bytes != 4501*1000+500 {
		t.Fatalf("%v, %d, %v", at, bytes, ok)
	}
	for _, counter := range []uint64{0, 100, 49991, 1 << 60} {
		if _, _, ok := l.find(counter); ok {
			t.Errorf("counter %d was found", counter)
		}
	}
	if l.count != logMost || len(l.ring) != logMost {
		t.Errorf("%d entries of %d", l.count, len(l.ring))
	}
	// Overtaken by another goroutine's train.
	if l.add(15001*time.Millisecond, 49980, 1000) {
		t.Error("an overtaken train was taken for a new session")
	}
	if !l.add(15002*time.Millisecond, 3, 1000) {
		t.Error("a new session was not seen")
	}
	if _, _, ok := l.find(49990); ok {
		t.Error("the session before is still known")
	}
}

func TestSmallest(t *testing.T) {
	var s smallest
	for i := range 600 {
		value := 50 * time.Millisecond
		if i == 100 {
			value = 40 * time.Millisecond
		}
		s.add(time.Duration(i)*time.Second, value)
		want := 50 * time.Millisecond
		if i >= 100 && i < 220 {
			want = 40 * time.Millisecond
		}
		if s.value != want && (i < 210 || i > 230) {
			t.Fatalf("%v after %d s, want %v", s.value, i, want)
		}
	}
}
