package cdr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

// unhex reads hexadecimal digits; spaces are for the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each vector was laid out by hand from XTypes 1.3, clause 7.4.1: little endian, big endian, and the calls that write and read it.
var vectors = []struct {
	name   string
	le, be string
	write  func(*Encoder)
	read   func(*testing.T, *Decoder)
}{
	{
		"numbers align to their size", "01 000000 78563412 ff 00 3412 00000000 0807060504030201", "01 000000 12345678 ff 00 1234 00000000 0102030405060708",
		func(e *Encoder) {
			e.Bool(true)
			e.Uint32(0x12345678)
			e.Int8(-1)
			e.Uint16(0x1234)
			e.Uint64(0x0102030405060708)
		},
		func(t *testing.T, d *Decoder) {
			equal(t, d.Bool(), true)
			equal(t, d.Uint32(), 0x12345678)
			equal(t, d.Int8(), -1)
			equal(t, d.Uint16(), 0x1234)
			equal(t, d.Uint64(), 0x0102030405060708)
		},
	},
	{
		"floats and negative numbers", "0000c03f 00000000 000000000000 00c0 feff 0000 fdffffff fcffffffffffffff", "3fc00000 00000000 c000 000000000000 fffe 0000 fffffffd fffffffffffffffc",
		func(e *Encoder) {
			e.Float32(1.5)
			e.Float64(-2)
			e.Int16(-2)
			e.Int32(-3)
			e.Int64(-4)
		},
		func(t *testing.T, d *Decoder) {
			equal(t, d.Float32(), 1.5)
			equal(t, d.Float64(), -2)
			equal(t, d.Int16(), -2)
			equal(t, d.Int32(), -3)
			equal(t, d.Int64(), -4)
		},
	},
	{
		"a string counts its NUL and leaves what follows to align", "03000000 616200 00 01000000 00 07", "00000003 616200 00 00000001 00 07",
		func(e *Encoder) {
			e.String("ab")
			e.String("")
			e.Uint8(7)
		},
		func(t *testing.T, d *Decoder) {
			equal(t, d.String(), "ab")
			s := "old"
			d.StringTo(&s)
			equal(t, s, "")
			equal(t, d.Uint8(), 7)
		},
	},
	{
		"a sequence of doubles aligns behind its count", "02000000 00000000 000000000000f03f 0000000000000040", "00000002 00000000 3ff0000000000000 4000000000000000",
		func(e *Encoder) {
			e.SequenceLen(2)
			e.Float64s([]float64{1, 2})
		},
		func(t *testing.T, d *Decoder) {
			equal(t, d.SequenceLen(8), 2)
			var v [2]float64
			d.Float64s(v[:])
			equal(t, v, [2]float64{1, 2})
		},
	},
	{
		"an empty sequence of doubles does not align", "00000000 05", "00000000 05",
		func(e *Encoder) {
			e.SequenceLen(0)
			e.Float64s(nil)
			e.Uint8(5)
		},
		func(t *testing.T, d *Decoder) {
			d.Float64s(make([]float64, d.SequenceLen(8)))
			equal(t, d.Uint8(), 5)
		},
	},
	{
		"arrays of every size", "0100 ff 00 0200 0300 04000000 05000000 0600000000000000 0000e040", "0100 ff 00 0002 0003 00000004 00000005 0000000000000006 40e00000",
		func(e *Encoder) {
			e.Bools([]bool{true, false})
			e.Int8s([]int8{-1})
			e.Uint16s([]uint16{2})
			e.Int16s([]int16{3})
			e.Uint32s([]uint32{4})
			e.Int32s([]int32{5})
			e.Uint64s([]uint64{6})
			e.Float32s([]float32{7})
		},
		func(t *testing.T, d *Decoder) {
			b, i8, u16, i16 := make([]bool, 2), make([]int8, 1), make([]uint16, 1), make([]int16, 1)
			d.Bools(b)
			d.Int8s(i8)
			d.Uint16s(u16)
			d.Int16s(i16)
			equal(t, b[0], true)
			equal(t, b[1], false)
			equal(t, i8[0], -1)
			equal(t, u16[0], 2)
			equal(t, i16[0], 3)
			u32, i32, u64, f32 := make([]uint32, 1), make([]int32, 1), make([]uint64, 1), make([]float32, 1)
			d.Uint32s(u32)
			d.Int32s(i32)
			d.Uint64s(u64)
			d.Float32s(f32)
			equal(t, u32[0], 4)
			equal(t, i32[0], 5)
			equal(t, u64[0], 6)
			equal(t, f32[0], 7)
		},
	},
	{
		"a wide string has four bytes a unit and no NUL", "03000000 f6000000 3dd80000 00de0000 01", "00000003 000000f6 0000d83d 0000de00 01",
		func(e *Encoder) {
			e.WString("ö😀")
			e.Uint8(1)
		},
		func(t *testing.T, d *Decoder) {
			equal(t, d.WString(), "ö😀")
			equal(t, d.Uint8(), 1)
		},
	},
	{
		"no fields", "00", "00",
		func(e *Encoder) { e.Empty() },
		func(t *testing.T, d *Decoder) { d.Empty() },
	},
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			for _, before := range []string{"", "x", "abcdefg"} { // the buffer's own length is no part of the alignment
				e := NewEncoder([]byte(before))
				v.write(e)
				want := append([]byte{0, 1, 0, 0}, unhex(t, v.le)...)
				if !bytes.Equal(e.Payload(), want) {
					t.Errorf("wrote %x\nwant  %x", e.Payload(), want)
				}
				if !bytes.Equal(e.Buffer(), append([]byte(before), want...)) || e.Len() != len(want) {
					t.Errorf("behind %q: buffer %x, length %d", before, e.Buffer(), e.Len())
				}
			}
			for header, body := range map[string]string{"00010000": v.le, "00000000": v.be, "00010003": v.le + "000000"} {
				d, err := NewDecoder(unhex(t, header+body))
				if err != nil {
					t.Fatal(err)
				}
				v.read(t, d)
				if d.Err() != nil {
					t.Errorf("%s: %v", header, d.Err())
				}
				if left := d.Remaining(); left != 3*strings.Count(header, "3") {
					t.Errorf("%s: %d bytes left", header, left)
				}
			}
			// Every shorter input is an error or, cut inside nothing, reads as zero; never a panic.
			whole := unhex(t, "00010000"+v.le)
			for n := range len(whole) - 1 {
				if d, err := NewDecoder(whole[:n]); err == nil {
					v.read(new(testing.T), d)
					if d.Err() == nil && v.name != "no fields" {
						t.Errorf("%d of %d bytes read without error", n, len(whole))
					}
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	bound := func(n int) func(*Decoder) { return func(d *Decoder) { var s string; d.StringMax(&s, n) } }
	tests := []struct {
		name, payload string
		read          func(*Decoder)
		want          error
	}{
		{"nothing", "", nil, ErrShort},
		{"half a header", "0001", nil, ErrShort},
		{"parameter list", "00030000", nil, ErrEncapsulation},
		{"XCDR2", "00070000", nil, ErrEncapsulation},
		{"delimited XCDR2", "00090000", nil, ErrEncapsulation},
		{"bool of 2", "00010000 02", func(d *Decoder) { d.Bool() }, ErrValue},
		{"bools of 2", "00010000 02", func(d *Decoder) { d.Bools(make([]bool, 1)) }, ErrValue},
		{"string without NUL", "00010000 02000000 6161", func(d *Decoder) { _ = d.String() }, ErrValue},
		{"string longer than the message", "00010000 ffffffff 6100", func(d *Decoder) { _ = d.String() }, ErrLength},
		{"string beyond its bound", "00010000 04000000 61616100", bound(2), ErrBound},
		{"string at its bound", "00010000 04000000 61616100", bound(3), nil},
		{"string of length 0", "00010000 00000000", bound(0), nil},
		{"sequence longer than the message", "00010000 ffffffff 0000000000000000", func(d *Decoder) { d.SequenceLen(1) }, ErrLength},
		{"sequence that overflows", "00010000 00000020 0000000000000000", func(d *Decoder) { d.SequenceLen(math.MaxInt32) }, ErrLength},
		{"sequence one too long", "00010000 02000000 000000000000000000000000000000", func(d *Decoder) { d.SequenceLen(8) }, ErrLength},
		{"sequence beyond its bound", "00010000 02000000 0000", func(d *Decoder) { d.SequenceLenMax(1, 1) }, ErrBound},
		{"wide string longer than the message", "00010000 02000000 61000000", func(d *Decoder) { d.WString() }, ErrLength},
		{"wide string of a wider unit", "00010000 01000000 00000100", func(d *Decoder) { d.WString() }, ErrValue},
		{"wide string beyond its bound", "00010000 01000000 61000000", func(d *Decoder) { var s string; d.WStringMax(&s, 0) }, ErrBound},
		{"array longer than the message", "00010000 0000", func(d *Decoder) { d.Uint64s(make([]uint64, 1)) }, ErrShort},
		{"bytes longer than the message", "00010000 0000", func(d *Decoder) { d.Bytes(make([]byte, 3)) }, ErrShort},
		{"padding that is not there", "00010000 00", func(d *Decoder) { d.Uint8(); d.Uint16() }, ErrShort},
		{"alignment beyond the end", "00010000 00", func(d *Decoder) { d.Uint8(); d.Align(8) }, ErrShort},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := NewDecoder(unhex(t, test.payload))
			if err == nil && test.read != nil {
				test.read(d)
				err = d.Err()
			}
			if !errors.Is(err, test.want) || (err != nil) != (test.want != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil && d != nil { // the error sticks and what follows is zero
				v, n := []uint32{1}, []byte{1}
				d.Uint32s(v)
				d.Bytes(n)
				if d.Uint64() != 0 || d.String() != "" || d.WString() != "" || d.SequenceLen(1) != 0 || d.Bool() || v[0] != 0 || n[0] != 0 {
					t.Error("read something after an error")
				}
				if d.Err() != err {
					t.Error("the error changed")
				}
			}
		})
	}
}

func TestSurrogates(t *testing.T) {
	d, err := NewDecoder(unhex(t, "00010000 04000000 3dd80000 61000000 00de0000 3dd80000"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, d.WString(), "\ufffda\ufffd\ufffd")
	equal(t, d.Err(), nil)
	equal(t, d.Remaining(), 0)
}

func TestBounds(t *testing.T) {
	e := NewEncoder(nil)
	e.StringMax("abc", 3)
	e.WStringMax("a😀", 3)
	if e.SequenceLenMax(3, 3) != 3 || e.Err() != nil {
		t.Fatal(e.Err())
	}
	for _, test := range []struct {
		in, want string
		max      int
	}{{"abcd", "abc", 3}, {"abö", "ab", 3}, {"a😀", "a", 4}, {"\xff\xfe\xfd", "\xff", 1}, {"\x80\x80\x80\x80\x80", "", 2}} {
		e := NewEncoder(nil)
		e.StringMax(test.in, test.max)
		d, err := NewDecoder(e.Payload())
		if err != nil {
			t.Fatal(err)
		}
		if got := d.String(); len(got) > test.max || !strings.HasPrefix(test.in, got) || len(got) < len(test.want)-3 || d.Err() != nil || e.Err() == nil {
			t.Errorf("StringMax(%q, %d) wrote %q, error %v", test.in, test.max, got, e.Err())
		}
	}
	e = NewEncoder(nil)
	e.WStringMax("a😀b", 2)
	if want := unhex(t, "00010000 01000000 61000000"); !bytes.Equal(e.Payload(), want) || e.Err() == nil {
		t.Errorf("wrote %x, error %v", e.Payload(), e.Err())
	}
	e = NewEncoder(nil)
	if n := e.SequenceLenMax(4, 3); n != 3 || e.Err() == nil {
		t.Errorf("%d elements, error %v", n, e.Err())
	}
	e.Reset(nil)
	equal(t, e.Err(), nil)
}

func TestResize(t *testing.T) {
	s := [][]byte{make([]byte, 10), make([]byte, 20)}
	s = Resize(s, 1)
	s = Resize(s, 2)
	equal(t, len(s[1]), 20)
	s = Resize(s[:0], 5)
	equal(t, len(s), 5)
	equal(t, len(s[1]), 20) // kept, though the array moved
	if n := testing.AllocsPerRun(10, func() { s = Resize(Resize(s, 1), 5) }); n != 0 {
		t.Errorf("shrinking and growing again allocates %v times", n)
	}
	if Resize([]int(nil), 0) != nil {
		t.Error("nil became something")
	}
}

// FuzzDecoder runs a script of reads, the first bytes of the input, over the rest.
func FuzzDecoder(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte{0, 4, 1, 2, 7}, unhex(f, "00010000"+v.le))
		f.Add([]byte{10, 10, 0}, unhex(f, "00000000"+v.be))
	}
	f.Fuzz(func(t *testing.T, script, payload []byte) {
		d, err := NewDecoder(payload)
		if err != nil {
			return
		}
		for _, op := range script {
			failed, left := d.Err() != nil, d.Remaining()
			switch op % 18 {
			case 0:
				d.Bool()
			case 1:
				d.Uint8()
			case 2:
				d.Uint16()
			case 3:
				d.Int32()
			case 4:
				d.Uint64()
			case 5:
				d.Float32()
			case 6:
				d.Float64()
			case 7:
				if s := d.String(); len(s) > len(payload) {
					t.Fatalf("string of %d bytes from %d", len(s), len(payload))
				}
			case 8:
				if s := d.WString(); len(s) > len(payload) {
					t.Fatalf("wide string of %d bytes from %d", len(s), len(payload))
				}
			case 9:
				d.Bytes(make([]byte, op))
			case 10:
				size := 1 + int(op)/18
				if n := d.SequenceLen(size); n*size > d.Remaining() {
					t.Fatalf("%d elements of %d bytes, %d left", n, size, d.Remaining())
				}
			case 11:
				d.Float64s(make([]float64, op/18))
			case 12:
				d.Bools(make([]bool, op/18))
			case 13:
				d.Int16s(make([]int16, op/18))
			case 14:
				d.Align(1 << (op / 18 % 4))
			case 15:
				var s string
				if d.StringMax(&s, int(op)); len(s) > int(op) {
					t.Fatal("a string beyond its bound")
				}
			case 16:
				d.Empty()
			case 17:
				d.Uint32s(make([]uint32, op/18))
			}
			if d.Remaining() > left || d.Remaining() < 0 || failed && d.Err() == nil {
				t.Fatalf("%d bytes left after %d, error %v", d.Remaining(), left, d.Err())
			}
		}
	})
}
