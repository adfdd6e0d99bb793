package fsm

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/coord-kv/coord/op"
)

// Members compare digests, so these numbers are for ever.
func TestHashIsFrozen(t *testing.T) {
	for _, c := range []struct {
		tag    byte
		record string
		want   string
	}{
		{0, "", "9fba1ff54595c433b568f28cc908dd44"},
		{1, "", "7af2a8beb4d3a5c66c4fd26750e45aaf"},
		{1, "a", "0b70e4b6571049bb9fc575b3cac3f7b1"},
		{1, "0123456789abcdef", "bb862e1d82ef650fb68787d8dd04d6dd"},
		{1, "0123456789abcdefg", "554b638804f16a0f4e8fe4ec0308cf94"},
		{2, "the quick brown fox jumps over the lazy dog", "aa0f077ab448be63ad1478fb6fe1a0c2"},
	} {
		if got := hash(c.tag, []byte(c.record)).digest().String(); got != c.want {
			t.Errorf("%d %q: %s, not %s", c.tag, c.record, got, c.want)
		}
	}
}

func TestDigestIsFrozen(t *testing.T) {
	m := New()
	if got, want := m.Digest().String(), "27787ade407b0f703fdba25e7b6d16b5"; got != want {
		t.Errorf("genesis: %s, not %s", got, want)
	}
	m.Apply(&op.Batch{Wall: 1_700_000_000_000, Age: 7, Requests: []*op.Request{
		{Op: &op.OpenSession{Secret: op.Hash{1}, Name: "n", Identity: "i", Metadata: []byte("m")}},
		{Session: 1, Epoch: 1, Seq: 1, Op: &op.Create{Path: "/a/n-", Data: []byte("x"), Sequence: true, Kind: op.Ephemeral, Parents: true}},
		{Session: 1, Op: &op.Lead{Dir: "/a", Node: "n-0000000000", Data: bytes.Repeat([]byte("long"), 100)}},
		{Key: &op.Key{Principal: "p", Key: "k"}, Op: &op.SetQuota{Path: "/a", Quota: op.Quota{HardCount: 9}}},
		{Op: &op.SetACL{Path: "/a", ACL: readWrite, Version: op.AnyVersion}},
	}})
	if got, want := m.Digest().String(), "118a42221bf86367ebd1470e9d92aaaf"; got != want {
		t.Errorf("a bit of everything: %s, not %s", got, want)
	}
}

// A hash in pieces depends on where the pieces end; flipping any bit flips about half of the result.
func TestHashMixes(t *testing.T) {
	if begin(1).absorb([]byte("ab")).absorb([]byte("c")).end() == begin(1).absorb([]byte("a")).absorb([]byte("bc")).end() {
		t.Error("where a piece ends makes no difference")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 8, 15, 16, 17, 100} {
		record := make([]byte, n)
		for i := range record {
			record[i] = byte(rnd.Uint32())
		}
		base, flips := hash(3, record), 0
		for bit := range 8 * n {
			record[bit/8] ^= 1 << (bit % 8)
			h := hash(3, record)
			record[bit/8] ^= 1 << (bit % 8)
			d := bits.OnesCount64(base.hi^h.hi) + bits.OnesCount64(base.lo^h.lo)
			if d < 32 || d > 96 {
				t.Errorf("%d bytes: bit %d flips %d of 128", n, bit, d)
			}
			flips += d
		}
		if mean := flips / (8 * n); mean < 58 || mean > 70 {
			t.Errorf("%d bytes: a bit flips %d of 128 on average", n, mean)
		}
	}
}

// Short records of few values, such as counters, have no two equal halves of a hash.
func TestHashOfSimilarRecords(t *testing.T) {
	seen := map[uint64]bool{}
	for i := range 100_000 {
		h := hash(tagNode, []byte{byte(i), byte(i >> 8), byte(i >> 16), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		if seen[h.hi] || seen[h.lo] {
			t.Fatalf("record %d collides", i)
		}
		seen[h.hi], seen[h.lo] = true, true
	}
}

func TestSumGoesBothWays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var s sum
	var terms []sum
	for range 1000 {
		x := sum{rnd.Uint64(), rnd.Uint64()}
		terms = append(terms, x)
		s.add(x)
	}
	rnd.Shuffle(len(terms), func(i, j int) { terms[i], terms[j] = terms[j], terms[i] })
	for _, x := range terms {
		s.sub(x)
	}
	if s != (sum{}) {
		t.Errorf("what is left is %x", s)
	}
}
