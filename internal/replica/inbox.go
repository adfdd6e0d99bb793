package replica

import "sync"

// maxInbox is how many inputs may wait for the loop. Clients beyond it are refused; streams of other members wait,
// because a frame that is dropped in the middle of a stream would break its order.
const maxInbox = 1 << 16

// inbox hands inputs to whoever drives the core: one mutex, one slice, swapped whole, so that everything that waited is one batch.
type inbox struct {
	mu     sync.Mutex
	room   sync.Cond // signalled when everything has been taken
	items  []any
	spare  []any
	closed bool
	wake   chan struct{} // has room for one
}

func (b *inbox) init() {
	b.room.L = &b.mu
	b.wake = make(chan struct{}, 1)
}

// put adds an input without waiting; false means that there is no room or no loop any more. The loop is not woken: who
// puts something drives the core on, or calls signal, or can wait for the next tick.
func (b *inbox) put(in any) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok := !b.closed && len(b.items) < maxInbox
	if ok {
		b.items = append(b.items, in)
	}
	return ok
}

// putWait is put, but waits for room; false means that there is no loop any more.
func (b *inbox) putWait(in any) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && len(b.items) >= maxInbox {
		b.room.Wait()
	}
	if b.closed {
		return false
	}
	b.items = append(b.items, in)
	return true
}

// waits reports whether there is something to take.
func (b *inbox) waits() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) > 0
}

// signal wakes the loop.
func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns everything that waits. The slice is valid until the next take.
func (b *inbox) take() []any {
	b.mu.Lock()
	items := b.items
	clear(b.spare)
	b.items, b.spare = b.spare[:0], items
	b.room.Broadcast()
	b.mu.Unlock()
	return items
}

func (b *inbox) close() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.room.Broadcast()
	items := b.items
	b.items = nil
	return items
}
