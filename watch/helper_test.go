package watch

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/coord-kv/coord/op"
)

var openToAll = &op.ACLRef{ID: 1, List: op.OpenACL}

// change returns an event that everybody may see.
func change(z op.Zxid, path string) op.Event {
	return op.Event{Zxid: z, Type: op.Changed, Path: path, Version: int32(z), ACL: openToAll}
}

// publish publishes one transaction that changes those paths, at the next zxid, and returns that.
func publish(h *History, paths ...string) op.Zxid {
	z := h.Current() + 1
	events := make([]op.Event, len(paths))
	for i, p := range paths {
		events[i] = change(z, p)
	}
	h.Publish(events, z)
	return z
}

func subscribe(t testing.TB, h *History, f Filter, from op.Zxid) *Stream {
	t.Helper()
	s, err := h.Subscribe(f, from)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everything is the filter of a stream that nothing escapes.
var everything = Filter{Path: op.Root, Scope: Subtree}

// takeAll takes until the stream has reached the end of the history.
func takeAll(t testing.TB, s *Stream) ([]op.Event, op.Zxid) {
	t.Helper()
	var all []op.Event
	for {
		events, pos, err := s.Take(100)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events...)
		if pos >= s.h.Current() {
			return all, pos
		}
	}
}

// brief returns "zxid path" of every event, the form in which tests state what they want.
func brief(events []op.Event) string {
	words := make([]string, len(events))
	for i, ev := range events {
		words[i] = fmt.Sprintf("%d %s", ev.Zxid, ev.Path)
	}
	return strings.Join(words, ", ")
}

func want(t testing.TB, events []op.Event, text string) {
	t.Helper()
	if got := brief(events); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}

func wantCode(t testing.TB, err error, code op.Code) {
	t.Helper()
	if !errors.Is(err, &op.Error{Code: code}) {
		t.Errorf("got error %v, want %v", err, code)
	}
}

func signalled(s *Stream) bool {
	select {
	case <-s.Ready():
		return true
	default:
		return false
	}
}

// disk is an Archive in memory, written as the checkpoint writer does it.
type disk struct {
	mu     sync.Mutex
	chunks map[uint64][]byte
	reads  int
	fail   error
}

func newDisk() *disk { return &disk{chunks: make(map[uint64][]byte)} }

func (d *disk) Chunk(seq uint64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if b, ok := d.chunks[seq]; ok && d.fail == nil {
		return b, nil
	}
	return nil, errors.Join(d.fail, fmt.Errorf("no chunk %d", seq))
}

// save stores what has been sealed, deletes what is not kept, and reports it durable.
func (d *disk) save(h *History) {
	d.mu.Lock()
	var last uint64
	for seq := range d.chunks {
		last = max(last, seq)
	}
	fresh, keep := h.Sealed(last)
	for _, c := range fresh {
		d.chunks[c.Seq] = c.Bytes
		last = c.Seq
	}
	for seq := range d.chunks {
		if seq < keep {
			delete(d.chunks, seq)
		}
	}
	d.mu.Unlock()
	h.Durable(last)
}

// stored returns the chunks as a starting member finds them.
func (d *disk) stored(t interface {
	Helper()
	Fatal(...any)
}, withBytes bool) []Chunk {
	t.Helper()
	var all []Chunk
	for seq := uint64(0); len(all) < len(d.chunks); seq++ {
		b, ok := d.chunks[seq]
		if !ok {
			continue
		}
		c, err := ParseChunk(seq, b)
		if err != nil {
			t.Fatal(err)
		}
		if !withBytes {
			c.Bytes = nil
		}
		all = append(all, c)
	}
	return all
}

func sameEvents(a, b []op.Event) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}
