// Package wire is the canonical binary notation of the log, the checkpoint and the event history.
//
// Every value has exactly one encoding: integers are minimal varints, booleans are 0 or 1, byte strings are
// length-prefixed. Equal values therefore have equal bytes on every member, so that encodings can be hashed and
// compared, and a decoder accepts nothing that an encoder would not write.
//
// Encoding appends to a slice. Decoding goes through a Reader, whose first error sticks: decode everything, then ask
// Err once. A Reader never allocates more than its input holds, so hostile input costs no more memory than its length.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed encoding")

// Uint appends v as a minimal varint.
func Uint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// Int appends v zigzag-coded, so that small negative numbers stay small.
func Int(b []byte, v int64) []byte { return binary.AppendVarint(b, v) }

// Bool appends one byte, 0 or 1.
func Bool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// String appends the length of s and its bytes.
func String(b []byte, s string) []byte { return append(Uint(b, uint64(len(s))), s...) }

// Bytes appends p so that nil and empty stay different: 0 is nil, n+1 announces n bytes.
func Bytes(b []byte, p []byte) []byte {
	if p == nil {
		return Uint(b, 0)
	}
	return append(Uint(b, uint64(len(p))+1), p...)
}

// Fixed appends p without a length.
func Fixed(b []byte, p []byte) []byte { return append(b, p...) }

// Reader takes values off the front of a buffer. Its zero value reads an empty one.
type Reader struct {
	buf []byte
	err error
}

// NewReader returns a Reader of b. What Bytes returns aliases b.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Err returns the first error met, or nil.
func (r *Reader) Err() error { return r.err }

// Len returns the number of bytes left.
func (r *Reader) Len() int { return len(r.buf) }

// Done returns Err, or an error if bytes are left over.
func (r *Reader) Done() error {
	if r.err == nil && len(r.buf) > 0 {
		r.Fail("%d bytes left over", len(r.buf))
	}
	return r.err
}

// Fail makes the reader fail with ErrMalformed and the reason, unless it has failed before.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
		r.buf = nil
	}
}

// Uint takes a minimal varint.
func (r *Reader) Uint() uint64 {
	if len(r.buf) > 0 && r.buf[0] < 0x80 { // as most are
		v := r.buf[0]
		r.buf = r.buf[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(r.buf)
	if n <= 0 || n != uvarintLen(v) {
		r.Fail("bad varint")
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func uvarintLen(v uint64) int { return max(1, (bits.Len64(v)+6)/7) }

// Int takes a zigzag-coded varint.
func (r *Reader) Int() int64 {
	u := r.Uint()
	return int64(u>>1) ^ -int64(u&1)
}

// Int32 takes a zigzag-coded varint that fits 32 bits.
func (r *Reader) Int32() int32 {
	v := r.Int()
	if v != int64(int32(v)) {
		r.Fail("%d does not fit 32 bits", v)
	}
	return int32(v)
}

// Byte takes one byte.
func (r *Reader) Byte() byte {
	if len(r.buf) == 0 {
		r.Fail("truncated")
		return 0
	}
	v := r.buf[0]
	r.buf = r.buf[1:]
	return v
}

// Bool takes one byte, which must be 0 or 1.
func (r *Reader) Bool() bool {
	v := r.Byte()
	if v > 1 {
		r.Fail("bad boolean %d", v)
	}
	return v == 1
}

// String takes a length-prefixed string.
func (r *Reader) String() string { return string(r.take(r.Uint())) }

// StringLike is String, and makes no copy of a string that is like s: it returns s then.
func (r *Reader) StringLike(s string) string {
	p := r.take(r.Uint())
	if string(p) == s {
		return s
	}
	return string(p)
}

// Bytes takes what Bytes appended; the result aliases the buffer.
func (r *Reader) Bytes() []byte {
	n := r.Uint()
	if n == 0 {
		return nil
	}
	p := r.take(n - 1)
	return p[:len(p):len(p)]
}

// Fixed fills p.
func (r *Reader) Fixed(p []byte) { copy(p, r.take(uint64(len(p)))) }

// Count takes the length of a list whose items are at least itemBytes (1 or more) long each, and refuses one that the
// rest of the buffer cannot hold, so that the caller may allocate that many.
func (r *Reader) Count(itemBytes int) int {
	n := r.Uint()
	if n > uint64(len(r.buf)/itemBytes) {
		r.Fail("a list of %d items in %d bytes", n, len(r.buf))
		return 0
	}
	return int(n)
}

func (r *Reader) take(n uint64) []byte {
	if n > uint64(len(r.buf)) {
		r.Fail("%d bytes wanted, %d left", n, len(r.buf))
		return []byte{}
	}
	p := r.buf[:n]
	r.buf = r.buf[n:]
	return p
}
