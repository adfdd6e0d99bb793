package peer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

func encodeFrame(t testing.TB, kind uint8, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := errors.Join(writeFrame(w, kind, parts...), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFrameOfEverySizeComesBack(t *testing.T) {
	var wire []byte
	sizes := []int{0, 1, 8, firstAlloc - 1, firstAlloc, firstAlloc + 1, 3 * firstAlloc, 1 << 20}
	for i, size := range sizes {
		payload := bytes.Repeat([]byte{byte(i)}, size)
		wire = append(wire, encodeFrame(t, uint8(i), payload[:size/2], payload[size/2:])...)
	}
	frames := newFrameReader(bytes.NewReader(wire), 8<<20)
	for i, size := range sizes {
		f, err := frames.next()
		if err != nil || f.Kind != uint8(i) || !bytes.Equal(f.Payload, bytes.Repeat([]byte{byte(i)}, size)) {
			t.Fatalf("frame %d of %d bytes came back as kind %d with %d bytes: %v", i, size, f.Kind, len(f.Payload), err)
		}
	}
	if _, err := frames.next(); err != io.EOF {
		t.Fatalf("after the last frame: %v", err)
	}
}

func TestFrameLayoutIsFrozen(t *testing.T) {
	got := encodeFrame(t, 7, []byte("abc"))
	want := []byte{0, 0, 0, 3, 7, 0x8B, 0x34, 0x26, 0x79, 'a', 'b', 'c'}
	if !bytes.Equal(got, want) {
		t.Fatalf("got % x, want % x", got, want)
	}
}

func TestFrameTruncatedAnywhereIsAnError(t *testing.T) {
	whole := encodeFrame(t, 1, []byte("some payload"))
	for n := range whole {
		_, err := newFrameReader(bytes.NewReader(whole[:n]), 100).next()
		if n == 0 && err != io.EOF || n > 0 && err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestFrameWithAnyBitFlippedIsAnError(t *testing.T) {
	whole := encodeFrame(t, 1, []byte("some payload"))
	for bit := range len(whole) * 8 {
		damaged := bytes.Clone(whole)
		damaged[bit/8] ^= 1 << (bit % 8)
		if f, err := newFrameReader(bytes.NewReader(damaged), 100).next(); err == nil {
			t.Errorf("bit %d flipped: %v", bit, f)
		}
	}
}

// greedless fails if anyone makes room for more than twice what it has delivered.
type greedless struct {
	t    *testing.T
	left int
	gave int
}

func (g *greedless) Read(p []byte) (int, error) {
	if len(p) > max(firstAlloc, bufferSize, 2*g.gave) {
		g.t.Fatalf("%d bytes were made room for after %d had come", len(p), g.gave)
	}
	n := min(len(p), g.left, 1000)
	if n == 0 {
		return 0, io.EOF
	}
	g.left -= n
	g.gave += n
	return n, nil
}

func TestPromisedLengthCostsNothing(t *testing.T) {
	for _, arrives := range []int{0, 10, 100_000, 1_000_000} {
		if _, err := readGrowing(&greedless{t: t, left: arrives}, 8<<20); err != io.ErrUnexpectedEOF {
			t.Errorf("%d of 8 MiB: %v", arrives, err)
		}
	}
	head := append(binary.BigEndian.AppendUint32(nil, 101), 0, 0, 0, 0, 0)
	if _, err := newFrameReader(bytes.NewReader(head), 100).next(); err == nil || err == io.ErrUnexpectedEOF {
		t.Errorf("a length above the limit: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(encodeFrame(f, 1, []byte("hello")))
	f.Add(append(encodeFrame(f, kindPing, make([]byte, 8)), encodeFrame(f, 0)...))
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, wire []byte) {
		frames := newFrameReader(bytes.NewReader(wire), 8<<20)
		var again []byte
		for {
			fr, err := frames.next()
			if err != nil {
				break
			}
			again = append(again, encodeFrame(t, fr.Kind, fr.Payload)...)
		}
		if !bytes.HasPrefix(wire, again) {
			t.Fatalf("read frames that were not there: % x", again)
		}
	})
}
