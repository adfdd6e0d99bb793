package api

import "sync/atomic"

// room is memory that large answers share while their clients take them. Without a bound, clients that ask for much and
// read nothing would fill all of it: their answers are kept until WriteTimeout.
type room struct {
	limit int64 // in bytes
	held  atomic.Int64
}

// largeAnswer is from how many bytes on an answer takes room. What smaller ones take is bounded by their number.
const largeAnswer = 64 << 10

// take reports whether there is room for n bytes, and takes it until free is called.
func (r *room) take(n int) (free func(), ok bool) {
	if n < largeAnswer {
		return func() {}, true
	}
	if r.held.Add(int64(n)) > r.limit {
		r.held.Add(int64(-n))
		return nil, false
	}
	return func() { r.held.Add(int64(-n)) }, true
}
