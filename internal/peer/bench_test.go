package peer

import (
	"fmt"
	"testing"
)

// BenchmarkRoundTrip sends one small frame there and back over TCP on loopback, as a heartbeat and its answer go.
func BenchmarkRoundTrip(b *testing.B) {
	tcp := newLoopback()
	back := make(chan struct{}, 1)
	near, far := config(1, 1, 2), config(2, 1, 1)
	near.Handler, far.Handler = newQuiet(), newQuiet()
	farNode := make(chan *node, 1)
	near.Handler.(*quiet).receive = func(uint64, Frame) { back <- struct{}{} }
	var other *node
	far.Handler.(*quiet).receive = func(from uint64, f Frame) {
		if other == nil {
			other = <-farNode
		}
		other.Send(from, Urgent, f.Kind, f.Payload)
	}
	n := startWith(b, tcp, far)
	farNode <- n
	a := startWith(b, tcp, near)
	<-near.Handler.(*quiet).urgent
	<-far.Handler.(*quiet).urgent
	payload := make([]byte, 50)
	for b.Loop() {
		a.Send(2, Urgent, 1, payload)
		<-back
	}
}

// BenchmarkThroughput sends frames of one size as fast as the queue takes them.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			tcp := newLoopback()
			near, far := config(1, 1, 2), config(2, 1, 1)
			near.Handler, far.Handler = newQuiet(), newQuiet()
			window := make(chan struct{}, 2000)
			if size == 1<<20 {
				window = make(chan struct{}, 20)
			}
			far.Handler.(*quiet).receive = func(uint64, Frame) { <-window }
			startWith(b, tcp, far)
			a := startWith(b, tcp, near)
			<-near.Handler.(*quiet).bulk
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				window <- struct{}{}
				if !a.Send(2, Bulk, 1, payload) {
					b.Fatal("dropped")
				}
			}
		})
	}
}

// quiet is a Handler that records nothing.
type quiet struct {
	recorder
	receive      func(uint64, Frame)
	urgent, bulk chan struct{} // closed when the outgoing stream stands
}

func newQuiet() *quiet { return &quiet{urgent: make(chan struct{}), bulk: make(chan struct{})} }

func (q *quiet) Receive(from uint64, f Frame, _ bool) { q.receive(from, f) }
func (q *quiet) PeerUp(uint64, uint64)                {}
func (q *quiet) PeerDown(uint64)                      {}
func (q *quiet) StreamDown(uint64, Class)             {}
func (q *quiet) StreamUp(_ uint64, class Class) {
	close(map[Class]chan struct{}{Urgent: q.urgent, Bulk: q.bulk}[class])
}
