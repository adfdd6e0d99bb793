package fsm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// FuzzApply takes batches, each with its length, as hostile as they come: two members agree about them, one of which is restarted
// from a checkpoint before each, and what is derived stays right.
func FuzzApply(f *testing.F) {
	for seed := range uint64(12) {
		batches, _ := history(seed, int(1+seed))
		var data []byte
		for _, p := range batches {
			data = wire.Bytes(data, p)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := wire.NewReader(data)
		a, b := New(), New()
		for range 20 {
			p := r.Bytes()
			batch, err := op.DecodeBatch(p)
			if r.Err() != nil || err != nil {
				return
			}
			a.Apply(batch)
			a.View()
			if a.Level() > MaxLevel {
				return // such a member stops
			}
			b.Apply(batch)
			audit(t, a)
			if b = revive(t, b); a.Digest() != b.Digest() {
				t.Fatalf("%s and %s", a.Digest(), b.Digest())
			}
		}
	})
}

// FuzzRestore: what is accepted is what would have been written, and a state that one can go on from.
func FuzzRestore(f *testing.F) {
	f.Add(checkpoint(f, New()))
	f.Add(checkpoint(f, rich(f)))
	batches, _ := history(9, 5)
	f.Fuzz(func(t *testing.T, file []byte) {
		m, err := restore(file)
		if err != nil {
			return
		}
		if !bytes.Equal(checkpoint(t, m), file) {
			t.Fatal("it would have been written otherwise")
		}
		audit(t, m)
		for _, p := range batches {
			m.Apply(decode(t, p))
		}
		audit(t, m)
	})
}

// FuzzRestoreRecords gets past the digest: what is as it should be, that excepted, is a state like any other.
func FuzzRestoreRecords(f *testing.F) {
	for _, m := range []*Machine{New(), rich(f)} {
		all := records(f, checkpoint(f, m))
		f.Add(bytes.Join(all[:len(all)-1], nil))
	}
	batches, _ := history(9, 5)
	f.Fuzz(func(t *testing.T, data []byte) {
		end := append([]byte{tagEnd, 16}, make([]byte, 16)...)
		l := newLoader(io.MultiReader(strings.NewReader(magic), bytes.NewReader(data), bytes.NewReader(end)))
		if err := l.run(); !errors.Is(err, errDigest) {
			return
		}
		m := l.m
		file := checkpoint(t, m)
		back, err := restore(file)
		if err != nil {
			t.Fatal(err)
		}
		if x, y := dump(&m.state), dump(&back.state); x != y {
			t.Fatalf("%s\nand\n%s", x, y)
		}
		audit(t, m)
		for _, p := range batches {
			m.Apply(decode(t, p))
		}
		audit(t, m)
	})
}
