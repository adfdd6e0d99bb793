package watch

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/coord-kv/coord/op"
	"pgregory.net/rapid"
)

// The model is a list of all events there ever were, and a position for each stream. Whatever happens to the history —
// chunks of any size, moved to the archive or not, dropped, restored, replaced — what a stream takes must be exactly the
// events of that list that match, from its position to the one it says it has reached.
type model struct {
	limits  Limits
	disk    *disk
	history *History
	events  []op.Event
	current op.Zxid
	streams []*modelStream
	saved   op.Zxid // the checkpoint
}

type modelStream struct {
	*Stream
	pos  op.Zxid
	dead bool
}

func TestAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{limits: Limits{
			ChunkBytes:  rapid.SampledFrom([]int{1, 40, 200, 2000}).Draw(t, "chunk"),
			MemoryBytes: rapid.SampledFrom([]int{100, 400, 10000}).Draw(t, "memory"),
			TotalBytes:  rapid.SampledFrom([]int{300, 1000, 100000}).Draw(t, "total"),
			MaxStreams:  5,
		}, disk: newDisk()}
		m.history = New(m.limits, m.disk, 0, 0)
		t.Repeat(map[string]func(*rapid.T){
			"publish":   m.publish,
			"publish2":  m.publish,
			"publish3":  m.publish,
			"subscribe": m.subscribe,
			"take":      m.take,
			"take2":     m.take,
			"close":     m.close,
			"save":      func(*rapid.T) { m.disk.save(m.history) },
			"cut":       m.cut,
			"restart":   m.restart,
			"install":   m.install,
			"":          m.check,
		})
	})
}

var (
	anyPath = rapid.SampledFrom([]string{"/", "/a", "/a/b", "/a/b/c", "/ab", "/a/d", "/e"})
	anyType = rapid.SampledFrom([]op.EventType{op.Created, op.Changed, op.Deleted, op.ACLChanged})
	anyACL  = rapid.SampledFrom([]*op.ACLRef{openToAll, openToAll, openToAll, secret})
	anyAuth = rapid.SampledFrom([][]op.Identity{nil, {{Scheme: "digest", ID: "ann:x"}}})
)

func (m *model) publish(t *rapid.T) {
	start := len(m.events)
	for range rapid.IntRange(0, 4).Draw(t, "transactions") {
		m.current += op.Zxid(rapid.SampledFrom([]int{1, 1, 1, 5}).Draw(t, "step"))
		for range rapid.IntRange(1, 4).Draw(t, "events") {
			m.events = append(m.events, op.Event{
				Zxid: m.current, Type: anyType.Draw(t, "type"), Kind: op.NodeKind(rapid.IntRange(0, 3).Draw(t, "kind")),
				Path: anyPath.Draw(t, "path"), Version: rapid.Int32().Draw(t, "version"), ACL: anyACL.Draw(t, "acl"),
			})
		}
	}
	m.current += op.Zxid(rapid.IntRange(0, 2).Draw(t, "beyond"))
	m.history.Publish(m.events[start:len(m.events):len(m.events)], m.current)
}

func (m *model) subscribe(t *rapid.T) {
	f := Filter{
		Path: anyPath.Draw(t, "path"), Scope: Scope(rapid.IntRange(0, 2).Draw(t, "scope")),
		Types: Types(rapid.SampledFrom([]int{0, 0, 2, 10, 30}).Draw(t, "types")), Auth: anyAuth.Draw(t, "auth"),
	}
	from := op.Zxid(rapid.Uint64Range(0, uint64(m.current)+1).Draw(t, "from"))
	if rapid.Bool().Draw(t, "now") {
		from = m.current
	}
	s, err := m.history.Subscribe(f, from)
	expected := op.OK
	switch {
	case from > m.current:
		expected = op.FutureZxid
	case from < m.history.Oldest():
		expected = op.HistoryGone
	case len(m.streams) == m.limits.MaxStreams:
		expected = op.Overloaded
	}
	if err == nil && expected == op.OK {
		m.streams = append(m.streams, &modelStream{Stream: s, pos: from})
	} else if err == nil || err.(*op.Error).Code != expected {
		t.Fatalf("subscribing from %d: %v, want %s", from, err, expected)
	}
}

func (m *model) pick(t *rapid.T) (int, *modelStream) {
	if len(m.streams) == 0 {
		t.Skip("no stream")
	}
	i := rapid.IntRange(0, len(m.streams)-1).Draw(t, "stream")
	return i, m.streams[i]
}

func (m *model) take(t *rapid.T) {
	_, s := m.pick(t)
	maxEvents := rapid.IntRange(1, 10).Draw(t, "max")
	events, pos, err := s.Take(maxEvents)
	if err != nil {
		if err.(*op.Error).Code != op.HistoryGone || s.pos >= m.history.Oldest() && !s.dead {
			t.Fatalf("at %d, with history from %d: %v", s.pos, m.history.Oldest(), err)
		}
		s.dead = true
		return
	}
	if s.dead {
		t.Fatal("it came back from the dead")
	}
	if expected := m.between(&s.filter, s.pos, pos); !sameEvents(events, expected) {
		t.Fatalf("from %d to %d: got %s, want %s", s.pos, pos, brief(events), brief(expected))
	}
	if pos < s.pos || len(events) > 0 && pos < events[len(events)-1].Zxid || pos > m.current {
		t.Fatalf("position %d after %d", pos, s.pos)
	}
	s.pos = pos
	if pos < m.current && !signalled(s.Stream) {
		t.Fatalf("at %d of %d, and not signalled", pos, m.current)
	}
}

// between returns the events after the one position, up to the other, that match.
func (m *model) between(f *Filter, after, upTo op.Zxid) []op.Event {
	var out []op.Event
	for _, ev := range m.events {
		if ev.Zxid > after && ev.Zxid <= upTo && f.Types.has(ev.Type) && op.Permits(ev.ACL.List, f.Auth, op.Read) &&
			(ev.Path == f.Path || f.Scope == Children && op.Parent(ev.Path) == f.Path || f.Scope == Subtree && op.Within(ev.Path, f.Path)) {
			out = append(out, ev)
		}
	}
	return out
}

func (m *model) close(t *rapid.T) {
	i, s := m.pick(t)
	s.Close()
	m.streams = append(m.streams[:i], m.streams[i+1:]...)
}

func (m *model) cut(*rapid.T) {
	m.history.Cut()
	m.disk.save(m.history)
	m.saved = m.current
}

// restart loses what the archive does not have; the log replays what came after the checkpoint. Streams do not survive.
func (m *model) restart(t *rapid.T) {
	for _, s := range m.streams {
		s.Close()
	}
	m.streams = nil
	stored := m.disk.stored(t, rapid.Bool().Draw(t, "bytes"))
	h, err := Restore(m.limits, m.disk, 0, stored, m.saved)
	if err != nil {
		t.Fatal(err)
	}
	var replay []op.Event
	for _, ev := range m.events {
		if ev.Zxid > m.saved {
			replay = append(replay, ev)
		}
	}
	h.Publish(replay, m.current)
	m.history = h
	if rapid.Bool().Draw(t, "delete what is not in use") {
		inUse, _ := h.Sealed(0)
		maps.DeleteFunc(m.disk.chunks, func(seq uint64, _ []byte) bool {
			return !slices.ContainsFunc(inUse, func(c Chunk) bool { return c.Seq == seq })
		})
	}
}

// install replaces the history by one that another member has packed, from some position on.
func (m *model) install(t *rapid.T) {
	from := op.Zxid(rapid.Uint64Range(0, uint64(m.current)).Draw(t, "from"))
	ahead := op.Zxid(rapid.IntRange(0, 3).Draw(t, "ahead"))
	other := New(Limits{ChunkBytes: 60}, nil, 0, from)
	var events []op.Event
	for _, ev := range m.events {
		if ev.Zxid > from {
			events = append(events, ev)
		}
	}
	m.current += ahead
	other.Publish(events, m.current)
	other.Cut()
	chunks, _ := other.Sealed(0)
	if err := m.history.Replace(0, chunks, m.current); err != nil {
		t.Fatal(err)
	}
	m.disk.chunks = make(map[uint64][]byte)
	for _, c := range chunks {
		m.disk.chunks[c.Seq] = c.Bytes
	}
	m.saved = m.current
	for _, s := range m.streams {
		if s.pos < from && !signalled(s.Stream) && !s.dead {
			quiet := len(m.between(&s.filter, s.pos, m.current-ahead)) == 0
			if !quiet {
				t.Fatalf("at %d of history from %d on, and not signalled", s.pos, from)
			}
		}
	}
}

func (m *model) check(t *rapid.T) {
	s := m.history.Stats()
	if s.Current != m.current || s.Oldest > m.current || s.Oldest != m.history.Oldest() {
		t.Fatalf("at %d: %+v", m.current, s)
	}
	kept := 0
	for _, ev := range m.events {
		if ev.Zxid > s.Oldest {
			kept++
		}
	}
	if s.Events != kept {
		t.Fatalf("%d events, want %d: %+v", s.Events, kept, s)
	}
	if n := s.Streams[0] + s.Streams[1] + s.Streams[2]; n != len(m.streams) || s.Behind > n {
		t.Fatalf("%d streams: %+v", len(m.streams), s)
	}
	if open := m.limits.ChunkBytes + 500; s.Bytes > m.limits.TotalBytes+open || s.MemoryBytes > 2*m.limits.MemoryBytes+open {
		t.Fatalf("limits %+v: %+v", m.limits, s)
	}
	if err := m.contiguous(); err != nil {
		t.Fatal(err)
	}
}

func (m *model) contiguous() error {
	list, _ := m.history.Sealed(0)
	next := m.history.Oldest() + 1
	for _, c := range list {
		if c.First != next {
			return fmt.Errorf("chunk %d begins at %d, want %d", c.Seq, c.First, next)
		}
		next = c.Last + 1
	}
	return nil
}
