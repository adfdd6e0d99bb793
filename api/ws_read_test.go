package api

import (
	"bytes"
	"sync"
	"testing"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// Reads of one message that are answered where they are taken are answered in their order, and each once, however much that
// is; and what else there is to send isn't lost among them.
func TestWebSocketReadsAtOnce(t *testing.T) {
	inBubble(t, Limits{}, func(f *bubble) {
		f.m.apply(&op.Request{Op: &op.Create{Path: "/a", Data: bytes.Repeat([]byte("x"), 1000)}})
		b := f.wsDial(frame.Subprotocol)
		b.open()
		b.send(&frame.Watch{ID: 2, Path: "/a"})
		next[*frame.Watching](b)
		now := op.ReadOptions{Level: op.Eventual}
		const reads = 300 // ten times what goes into one message
		var all []frame.Frame
		for i := range reads {
			all = append(all, &frame.Read{ID: uint64(10 + i), Options: now, Op: &op.Get{Path: "/a"}})
		}
		all = append(all, &frame.Write{ID: 3, Seq: 1, Op: put("/a", "y")}, &frame.Read{ID: 4, Options: now, Op: &op.Get{Path: "/none"}})
		var sending sync.WaitGroup
		sending.Go(func() { b.send(all...) }) // the other way of the pipe fills up meanwhile
		id, written, told, missed := uint64(10), false, false, false
		for id < 10+reads || !written || !told || !missed {
			x, err := b.read()
			if err != nil {
				t.Fatalf("after %d reads: %v", id-10, err)
			}
			switch x := x.(type) {
			case *frame.Events:
				told = true
			case *frame.Reply:
				switch {
				case x.ID == 3 && x.Result.Err == nil:
					written = true
				case x.ID == 4 && x.Result.Err != nil && x.Result.Err.Code == op.NoNode:
					missed = true
				case x.ID == id && len(x.Result.Data) == 1000:
					id++
				default:
					t.Fatalf("after %d reads: %+v", id-10, x)
				}
			}
		}
		sending.Wait()
		b.ws.Close()
	})
}

// A read whose id is that of a request under way ends the connection, though it could be answered at once.
func TestWebSocketReadUnderAnIDInUse(t *testing.T) {
	inBubble(t, Limits{}, func(f *bubble) {
		b := f.wsDial(frame.Subprotocol)
		b.open()
		f.m.tell(func() { f.m.silent = true })
		b.send(&frame.Write{ID: 2, Seq: 1, Op: put("/a", "1")}, &frame.Read{ID: 2, Options: op.ReadOptions{Level: op.Eventual}, Op: &op.Get{Path: "/"}})
		if code := b.closed(); code != frame.CloseProtocol {
			t.Errorf("closed with %d", code)
		}
	})
}
