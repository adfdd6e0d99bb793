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

const noAnswerRoom = "large answers that their clients are slow to take use up the room for them"

// take returns how much of the room n bytes have taken, to be given back, and whether there was room for them.
func (r *room) take(n int) (taken int64, ok bool) {
	if n < largeAnswer {
		return 0, true
	}
	if r.held.Add(int64(n)) > r.limit {
		r.give(int64(n))
		return 0, false
	}
	return int64(n), true
}

func (r *room) give(taken int64) { r.held.Add(-taken) }
