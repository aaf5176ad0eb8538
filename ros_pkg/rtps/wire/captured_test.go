package wire

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/captured/*.txt anew")

// captured are datagrams of Cyclone DDS 0.10.2 and Fast DDS 2.9.1.
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/captured/*.bin")
	if err != nil || len(files) < 20 {
		t.Fatal("captured datagrams are missing:", files, err)
	}
	list := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list[strings.TrimSuffix(filepath.Base(f), ".bin")] = b
	}
	return list
}

// keep copies a submessage out of the reader, and the slices that a caller may compare.
func keep(s Submessage) Submessage {
	v := reflect.New(reflect.TypeOf(s).Elem())
	v.Elem().Set(reflect.ValueOf(s).Elem())
	return v.Interface().(Submessage)
}

// describe writes what a message means, one line for each submessage and one for what a payload or a list means.
func describe(t *testing.T, b []byte) string {
	t.Helper()
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	r, err := NewReader(b)
	if err != nil {
		t.Fatal(err)
	}
	line("%v %v %v", r.Header().Version, r.Header().Vendor, r.Header().Prefix)
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		switch s := s.(type) {
		case *Data:
			line("DATA reader=%v writer=%v sn=%d content=%d payload=%d", s.Reader, s.Writer, s.SN, s.Content, len(s.Payload))
			q, err := ParseInlineQoS(s.InlineQoS)
			if err != nil {
				t.Error(err)
			}
			if !s.InlineQoS.Empty() {
				line("  %+v", q)
			}
			for _, d := range discovery(t, s, &q) {
				line("  %+v", d)
			}
		case *DataFrag:
			line("DATA_FRAG reader=%v writer=%v sn=%d first=%d n=%d size=%d of=%d key=%v payload=%d count=%d offset=%d", s.Reader, s.Writer, s.SN,
				s.FirstFragment, s.Fragments, s.FragmentSize, s.SampleSize, s.Key, len(s.Payload), s.FragmentCount(), s.Offset())
		default:
			line("%v %+v", s.ID(), reflect.ValueOf(s).Elem().Interface())
		}
	}
	if r.Err() != nil {
		t.Error(r.Err())
	}
	line("skipped=%d", r.Skipped())
	return out.String()
}

// discovery parses what the built-in writer's payload is, writes it again and sees that it means the same.
func discovery(t *testing.T, d *Data, q *InlineQoS) []any {
	t.Helper()
	if d.Content != DataContent {
		switch d.Writer {
		case EntitySPDPWriter:
			g, ok := EndedGUID(d, q, PIDParticipantGUID)
			return []any{g, ok}
		case EntitySEDPPublicationsWriter, EntitySEDPSubscriptionsWriter:
			g, ok := EndedGUID(d, q, PIDEndpointGUID)
			return []any{g, ok}
		}
		return nil
	}
	switch d.Writer {
	case EntitySPDPWriter:
		v, err := ParseParticipant(d.Payload)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseParticipant(v.Append(nil))
		again.Unknown = v.Unknown
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("written again: %v\n%+v\n%+v", err, v, again)
		}
		return []any{v}
	case EntitySEDPPublicationsWriter, EntitySEDPSubscriptionsWriter:
		writer := d.Writer == EntitySEDPPublicationsWriter
		v, err := ParseEndpoint(d.Payload, writer)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseEndpoint(v.Append(nil), writer)
		again.Unknown, again.TypeInformation = v.Unknown, v.TypeInformation
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("written again: %v\n%+v\n%+v", err, v, again)
		}
		return []any{v}
	case EntityParticipantMessageWriter:
		v, err := ParseParticipantMessage(d.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseParticipantMessage(v.Append(nil)); err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("written again: %v\n%+v\n%+v", err, v, again)
		}
		return []any{v}
	}
	return nil
}

// rebuild writes every submessage of a message into another.
func rebuild(t testing.TB, b []byte, big bool) []byte {
	t.Helper()
	r, err := NewReader(b)
	if err != nil {
		t.Fatal(err)
	}
	w := NewBuilder(nil, r.Header())
	w.BigEndian = big
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		w.Add(s)
	}
	if w.Err() != nil {
		t.Fatal(w.Err())
	}
	return w.Bytes()
}

// TestCaptured reads datagrams of real implementations and compares what they mean with the text beside them, then
// writes them again in both byte orders, with the same meaning.
func TestCaptured(t *testing.T) {
	for name, b := range captured(t) {
		t.Run(name, func(t *testing.T) {
			got := describe(t, b)
			golden := filepath.Join("testdata", "captured", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, big := range []bool{false, true} {
				again := describe(t, rebuild(t, b, big))
				if i := strings.LastIndex(got, "skipped="); again != got[:i]+"skipped=0\n" {
					t.Errorf("written again, big endian %v: got\n%s\nwant\n%s", big, again, got)
				}
			}
		})
	}
}
