package peer

import (
	"slices"
	"sync"
)

// queue holds the frames of one outgoing stream between Send and the connection. It is closed while no stream stands.
type queue struct {
	limit QueueLimit
	ready chan struct{} // holds a token while frames may be waiting

	mu     sync.Mutex
	open   bool
	frames []Frame
	bytes  int // of the frames waiting and of those taken and not released, so that the limit bounds the memory
	count  int // likewise
}

func newQueue(limit QueueLimit) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1)}
}

// push says whether the frame was taken. It never blocks.
func (q *queue) push(f Frame) bool {
	size := frameHeader + len(f.Payload)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.count >= q.limit.Frames || q.bytes+size > q.limit.Bytes {
		return false
	}
	q.frames = append(q.frames, f)
	q.bytes += size
	q.count++
	if len(q.frames) == 1 {
		signal(q.ready)
	}
	return true
}

// take moves the frames that come next, up to about one write's worth, to the end of batch. They count until released.
func (q *queue) take(batch []Frame) []Frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.frames) && (n == 0 || size < writeSize) {
		size += frameHeader + len(q.frames[n].Payload)
		n++
	}
	batch = append(batch, q.frames[:n]...)
	q.frames = slices.Delete(q.frames, 0, n)
	return batch
}

// release gives back the room of a batch that was written, and drops its payloads.
func (q *queue) release(batch []Frame) {
	size := 0
	for _, f := range batch {
		size += frameHeader + len(f.Payload)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= size
	q.count -= len(batch)
	clear(batch)
}

// start opens an empty queue. stop closes it and says how many frames were in it.
func (q *queue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = true
}

func (q *queue) stop() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	lost := q.count
	q.open, q.frames, q.bytes, q.count = false, nil, 0, 0
	return lost
}

// signal leaves a token in a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
