package wire

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

// value is one of what the notation knows, written and read.
type value struct {
	name  string
	write func([]byte) []byte
	read  func(*Reader) bool // whether it is what was written
}

func values() []value {
	var all []value
	for _, v := range []uint64{0, 1, 127, 128, 1<<14 - 1, 1 << 14, math.MaxUint32, 1 << 63, math.MaxUint64} {
		all = append(all, value{"uint", func(b []byte) []byte { return Uint(b, v) }, func(r *Reader) bool { return r.Uint() == v }})
	}
	for _, v := range []int64{0, -1, 1, 63, -64, 64, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		all = append(all, value{"int", func(b []byte) []byte { return Int(b, v) }, func(r *Reader) bool { return r.Int() == v }})
	}
	for _, v := range []int32{0, -1, math.MaxInt32, math.MinInt32} {
		all = append(all, value{"int32", func(b []byte) []byte { return Int(b, int64(v)) }, func(r *Reader) bool { return r.Int32() == v }})
	}
	for _, v := range []bool{false, true} {
		all = append(all, value{"bool", func(b []byte) []byte { return Bool(b, v) }, func(r *Reader) bool { return r.Bool() == v }})
	}
	for _, v := range []string{"", "a", "\x00\xff", string(make([]byte, 300))} {
		all = append(all, value{"string", func(b []byte) []byte { return String(b, v) }, func(r *Reader) bool { return r.String() == v }})
		for _, like := range []string{v, "a", v + "a"} {
			all = append(all, value{"string like", func(b []byte) []byte { return String(b, v) }, func(r *Reader) bool { return r.StringLike(like) == v }})
		}
	}
	for _, v := range [][]byte{nil, {}, {0}, make([]byte, 300)} {
		all = append(all, value{"bytes", func(b []byte) []byte { return Bytes(b, v) }, func(r *Reader) bool {
			got := r.Bytes()
			return bytes.Equal(got, v) && (got == nil) == (v == nil)
		}})
	}
	return append(all, value{"fixed", func(b []byte) []byte { return Fixed(b, []byte("0123")) }, func(r *Reader) bool {
		var got [4]byte
		r.Fixed(got[:])
		return string(got[:]) == "0123"
	}})
}

// What is written is read, alone and among others, and a beginning of it never is.
func TestValuesComeBack(t *testing.T) {
	var whole []byte
	for _, v := range values() {
		b := v.write(nil)
		r := NewReader(b)
		if !v.read(r) || r.Done() != nil {
			t.Errorf("%s %x: %v", v.name, b, r.Done())
		}
		for n := range b {
			r := NewReader(b[:n])
			v.read(r)
			if !errors.Is(r.Done(), ErrMalformed) {
				t.Errorf("%s: %x is read although %x was written", v.name, b[:n], b)
			}
		}
		whole = v.write(whole)
	}
	r := NewReader(whole)
	for _, v := range values() {
		if !v.read(r) {
			t.Fatalf("%s among others: %v", v.name, r.Err())
		}
	}
	if err := r.Done(); err != nil {
		t.Error(err)
	}
}

// What no encoder would write is refused, so that equal values have equal bytes.
func TestOneEncoding(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		read func(*Reader)
	}{
		"a varint with a leading zero":     {[]byte{0x80, 0x00}, func(r *Reader) { r.Uint() }},
		"a long varint of one":             {[]byte{0x81, 0x80, 0x00}, func(r *Reader) { r.Uint() }},
		"a varint beyond 64 bits":          {bytes.Repeat([]byte{0xff}, 10), func(r *Reader) { r.Uint() }},
		"a varint of eleven bytes":         {append(bytes.Repeat([]byte{0x80}, 10), 1), func(r *Reader) { r.Uint() }},
		"a boolean of two":                 {[]byte{2}, func(r *Reader) { r.Bool() }},
		"33 bits":                          {Int(nil, math.MaxInt32+1), func(r *Reader) { r.Int32() }},
		"33 bits below zero":               {Int(nil, math.MinInt32-1), func(r *Reader) { r.Int32() }},
		"a string longer than the rest":    {[]byte{5, 'a'}, func(r *Reader) { _ = r.String() }},
		"bytes longer than memory":         {Uint(nil, math.MaxUint64), func(r *Reader) { r.Bytes() }},
		"a list longer than the rest":      {append(Uint(nil, 3), 0, 0), func(r *Reader) { r.Count(1) }},
		"a list of items that can't be in": {append(Uint(nil, 2), 0, 0, 0), func(r *Reader) { r.Count(2) }},
		"more than was asked for":          {[]byte{1, 1}, func(r *Reader) { r.Byte() }},
	} {
		r := NewReader(c.b)
		c.read(r)
		if err := r.Done(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The first error sticks: what is read after it is zero, and nothing is left.
func TestFirstErrorSticks(t *testing.T) {
	r := NewReader([]byte{2, 1, 1, 'x'})
	r.Bool()
	first := r.Err()
	if r.Byte() != 0 || r.Uint() != 0 || r.Int() != 0 || r.Bool() || r.String() != "" || len(r.Bytes()) != 0 || r.Count(1) != 0 || r.Len() != 0 {
		t.Error("something is read after an error")
	}
	if r.Done() != first || first == nil {
		t.Errorf("%v became %v", first, r.Done())
	}
}

// What Bytes returns can't be appended to over what follows.
func TestBytesAreCapped(t *testing.T) {
	b := append(Bytes(nil, []byte("ab")), 'c')
	r := NewReader(b)
	_ = append(r.Bytes(), 'X')
	if got := r.Byte(); got != 'c' {
		t.Errorf("what follows is %q now", got)
	}
}

// FuzzReader reads any input as any sequence of values. What can be read is, written again, the input.
func FuzzReader(f *testing.F) {
	var whole []byte
	for _, v := range values() {
		whole = v.write(whole)
	}
	f.Add([]byte("uuiibbssyyff"), whole)
	f.Add([]byte("ubsyc"), []byte{1, 1, 1, 'a', 2, 'b', 1, 0})
	f.Add([]byte("u"), []byte{0x80, 0x00})
	f.Add([]byte("y"), bytes.Repeat([]byte{0xff}, 9))
	f.Fuzz(func(t *testing.T, kinds, b []byte) {
		r := NewReader(b)
		var again []byte
		for _, k := range kinds {
			switch k {
			case 'u':
				again = Uint(again, r.Uint())
			case 'i':
				again = Int(again, r.Int())
			case 'n':
				again = Int(again, int64(r.Int32()))
			case 'b':
				again = Bool(again, r.Bool())
			case 's':
				again = String(again, r.String())
			case 'y':
				again = Bytes(again, r.Bytes())
			case 'f':
				var p [3]byte
				r.Fixed(p[:])
				again = Fixed(again, p[:])
			case 'c':
				n := r.Count(1)
				if n > r.Len() {
					t.Fatalf("a list of %d items in %d bytes", n, r.Len())
				}
				again = Uint(again, uint64(n))
			}
			if r.Err() != nil {
				if !errors.Is(r.Err(), ErrMalformed) || r.Len() != 0 {
					t.Fatalf("%v, %d bytes left", r.Err(), r.Len())
				}
				return
			}
		}
		if want := b[:len(b)-r.Len()]; !bytes.Equal(again, want) {
			t.Errorf("%x was read from %x", again, want)
		}
	})
}
