package fsm

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// Digest is the fingerprint of a state: the sum modulo 2^128 of the hashes of its records. Equal states have equal digests whatever
// the order in which they came about; it finds faults, not forgers.
type Digest [16]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// sum is a number of 128 bits: the hash of a record, or the sum of such.
type sum struct{ hi, lo uint64 }

func (s *sum) add(x sum) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, x.lo, 0)
	s.hi, _ = bits.Add64(s.hi, x.hi, carry)
}

func (s *sum) sub(x sum) {
	var borrow uint64
	s.lo, borrow = bits.Sub64(s.lo, x.lo, 0)
	s.hi, _ = bits.Sub64(s.hi, x.hi, borrow)
}

func (s sum) digest() (d Digest) {
	binary.BigEndian.PutUint64(d[:], s.hi)
	binary.BigEndian.PutUint64(d[8:], s.lo)
	return d
}

// The first bits of the fraction of pi.
const (
	pi0 = 0x243f6a8885a308d3
	pi1 = 0x13198a2e03707344
	pi2 = 0xa4093822299f31d0
	pi3 = 0x082efa98ec4e6c89
)

// hash is that of a record with its tag. It multiplies in two lanes, each of which takes in every word, so that a word that happens
// to silence one lane is still seen by the other. It is fixed for ever by the test's vectors: members compare its sums.
func hash(tag byte, record []byte) sum { return begin(tag).absorb(record).end() }

// begin, absorb and end are hash in steps, for a record in several pieces.
func begin(tag byte) sum { return sum{pi0 ^ uint64(tag), pi1} }

func (h sum) absorb(b []byte) sum {
	x, y := h.hi, h.lo^uint64(len(b))
	for ; len(b) >= 16; b = b[16:] {
		v, w := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		x, y = mix(x^v, w^pi2), mix(y^w, v^pi3)
	}
	if len(b) > 0 {
		var last [16]byte
		copy(last[:], b)
		v, w := binary.LittleEndian.Uint64(last[:]), binary.LittleEndian.Uint64(last[8:])
		x, y = mix(x^v, w^pi2), mix(y^w, v^pi3)
	}
	return sum{x, y}
}

func (h sum) end() sum { return sum{mix(h.hi^pi1, h.lo^pi3), mix(h.lo^pi0, h.hi^pi2)} }

func mix(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}
