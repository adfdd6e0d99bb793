package watch

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coord-kv/coord/op"
)

// small has chunks of one transaction each, about 25 bytes, in the tests below.
var small = Limits{ChunkBytes: 1, MemoryBytes: 200, TotalBytes: 1000}

func fill(h *History, n int) {
	for range n {
		publish(h, "/a")
	}
}

func TestWithoutArchiveMemoryIsAllThereIs(t *testing.T) {
	h := New(small, nil, 0, 0)
	fill(h, 100)
	h.Durable(50)
	if s := h.Stats(); s.MemoryBytes > 200 || s.Bytes != s.MemoryBytes || s.Events < 4 || s.Oldest != 100-op.Zxid(s.Events) {
		t.Errorf("%+v", s)
	}
	_, err := h.Subscribe(everything, h.Oldest()-1)
	wantCode(t, err, op.HistoryGone)
	events, _ := takeAll(t, subscribe(t, h, everything, h.Oldest()))
	if len(events) != h.Stats().Events {
		t.Errorf("got %d events of %d", len(events), h.Stats().Events)
	}
}

func TestChunksLeaveMemoryOnceDurable(t *testing.T) {
	d := newDisk()
	h := New(small, d, 0, 0)
	for range 25 {
		publish(h, "/a")
		d.save(h)
	}
	s := h.Stats()
	if s.MemoryBytes > 200 || s.Bytes < 500 || s.Oldest != 0 || s.Events != 25 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	events, pos := takeAll(t, subscribe(t, h, everything, 0))
	if len(events) != 25 || pos != 25 || d.reads == 0 {
		t.Errorf("got %d events up to %d, with %d reads", len(events), pos, d.reads)
	}
}

func TestTotalLimitDropsTheOldest(t *testing.T) {
	d := newDisk()
	h := New(small, d, 0, 0)
	for range 200 {
		publish(h, "/a")
		d.save(h)
	}
	s := h.Stats()
	if s.Bytes > 1000 || s.Bytes < 900 || s.Oldest != op.Zxid(200-s.Events) {
		t.Errorf("%+v", s)
	}
	if len(d.chunks) != s.Chunks {
		t.Errorf("%d chunks are kept and %d stored", s.Chunks, len(d.chunks))
	}
	if events, _ := takeAll(t, subscribe(t, h, everything, s.Oldest)); len(events) != s.Events {
		t.Errorf("got %d events of %d", len(events), s.Events)
	}
}

// Memory grows to twice its limit while the archive does not keep up; then history goes, and all before it.
func TestSlowArchive(t *testing.T) {
	d := newDisk()
	h := New(small, d, 0, 0)
	fill(h, 8)
	d.save(h)
	var most int
	for range 50 {
		publish(h, "/a")
		most = max(most, h.Stats().MemoryBytes)
	}
	s := h.Stats()
	if most < 350 || most > 400 || s.Lost == 0 || s.Oldest != op.Zxid(58-s.Events) || s.MemoryBytes != s.Bytes {
		t.Errorf("at most %d bytes, %+v", most, s)
	}
	d.save(h)
	if s := h.Stats(); s.MemoryBytes > 200 {
		t.Errorf("after it has caught up: %+v", s)
	}
	if events, _ := takeAll(t, subscribe(t, h, everything, s.Oldest)); len(events) != s.Events {
		t.Errorf("got %d events of %d", len(events), s.Events)
	}
}

func TestTransactionLargerThanEverything(t *testing.T) {
	h := New(small, newDisk(), 0, 0)
	fill(h, 5)
	paths := strings.Split(strings.Repeat(" /a", 500)[1:], " ")
	s := subscribe(t, h, everything, 5)
	publish(h, paths...)
	_, _, err := s.Take(1)
	wantCode(t, err, op.HistoryGone)
	if s := h.Stats(); s.Events != 0 || s.Bytes != 0 || s.Oldest != 6 {
		t.Errorf("%+v", s)
	}
	publish(h, "/b")
	events, _ := takeAll(t, subscribe(t, h, everything, 6))
	want(t, events, "7 /b")
}

func TestUnreadableArchive(t *testing.T) {
	d := newDisk()
	h := New(small, d, 0, 0)
	for range 20 {
		publish(h, "/a")
		d.save(h)
	}
	s := subscribe(t, h, everything, 0)
	want(t, first(s.Take(1)), "1 /a")

	d.fail = errors.New("the disk is on fire")
	if _, _, err := s.Take(1); !errors.Is(err, d.fail) {
		t.Fatalf("got %v", err)
	}
	d.fail = nil
	want(t, first(s.Take(1)), "2 /a")

	other := d.chunks[5]
	good := d.chunks[3]
	for name, bad := range map[string][]byte{"another chunk": other, "a cut one": good[:len(good)-1], "nothing": nil} {
		d.chunks[3] = bad
		if events, _, err := s.Take(1); err == nil {
			t.Errorf("%s: no error but %s", name, brief(events))
		}
	}
	d.chunks[3] = good
	want(t, first(s.Take(1)), "3 /a")

	// What was found before the bad chunk comes first.
	d.chunks[5] = nil
	want(t, first(s.Take(10)), "4 /a")
	if _, _, err := s.Take(10); err == nil {
		t.Error("no error")
	}
}

// The archive may delete a chunk while a stream is about to read it.
func TestChunkDroppedWhileRead(t *testing.T) {
	d := &dropping{disk: newDisk()}
	h := New(small, d, 0, 0)
	for range 20 {
		publish(h, "/a")
		d.save(h)
	}
	d.meanwhile = func() { fill(h, 100); d.save(h) }
	_, _, err := subscribe(t, h, everything, 0).Take(1)
	wantCode(t, err, op.HistoryGone)
}

type dropping struct {
	*disk
	meanwhile func()
}

func (d *dropping) Chunk(seq uint64) ([]byte, error) {
	d.meanwhile()
	return d.disk.Chunk(seq)
}

func TestCutMakesTheChunksComplete(t *testing.T) {
	h := New(Limits{}, newDisk(), 0, 0)
	last := func() op.Zxid {
		fresh, _ := h.Sealed(0)
		if len(fresh) == 0 {
			return 0
		}
		return fresh[len(fresh)-1].Last
	}
	h.Cut()
	if last() != 0 {
		t.Error("a chunk of nothing")
	}
	fill(h, 3)
	h.Publish(nil, 7)
	h.Cut()
	if last() != 7 {
		t.Errorf("complete up to %d, want 7", last())
	}
	h.Cut()
	if n := h.Stats().Chunks; n != 1 {
		t.Errorf("%d chunks after cutting twice in the same place", n)
	}
	h.Publish(nil, 9)
	h.Cut()
	if last() != 9 || h.Stats().Chunks != 2 {
		t.Error("positions without events are not in a chunk")
	}
}

func TestRestore(t *testing.T) {
	for _, withBytes := range []bool{false, true} {
		d := newDisk()
		before := New(Limits{ChunkBytes: 60, MemoryBytes: 200}, d, 0, 0)
		fill(before, 20)
		before.Publish(nil, 22)
		before.Cut()
		fill(before, 10)
		d.save(before)

		h, err := Restore(Limits{MemoryBytes: 200}, d, 0, d.stored(t, withBytes), 22)
		if err != nil {
			t.Fatal(err)
		}
		if s := h.Stats(); s.Oldest != 0 || s.Current != 22 || s.Events != 20 || s.MemoryBytes > 200 {
			t.Errorf("%+v", s)
		}
		fill(h, 12) // the log, from the checkpoint on, and more
		d.save(h)
		events, pos := takeAll(t, subscribe(t, h, everything, 2))
		if len(events) != 30 || pos != 34 || events[17].Zxid != 20 || events[18].Zxid != 23 {
			t.Errorf("up to %d: %s", pos, brief(events))
		}
		again, err := Restore(Limits{}, d, 0, d.stored(t, true), 22)
		if err != nil || again.Stats().Events != 20 {
			t.Errorf("restored once more from the same checkpoint: %v, %+v", err, again.Stats())
		}
	}
}

func TestRestoreTakesTheNewestRun(t *testing.T) {
	chunk := func(seq uint64, first, last op.Zxid) Chunk {
		var p packer
		p.reset(first)
		ev := change(last, fmt.Sprintf("/%d", seq))
		p.add(&ev)
		return p.seal(seq, last)
	}
	for _, c := range []struct {
		name   string
		stored []Chunk
		oldest op.Zxid
		seqs   string
	}{
		{"nothing stored", nil, 30, "[]"},
		{"all", []Chunk{chunk(1, 1, 10), chunk(2, 11, 20), chunk(3, 21, 30)}, 0, "[1 2 3]"},
		{"a gap", []Chunk{chunk(1, 1, 10), chunk(2, 12, 20), chunk(3, 21, 30)}, 11, "[2 3]"},
		{"beyond the checkpoint", []Chunk{chunk(1, 1, 30), chunk(2, 31, 40), chunk(3, 41, 45)}, 0, "[1]"},
		{"short of the checkpoint", []Chunk{chunk(1, 1, 10), chunk(2, 11, 29)}, 30, "[]"},
		{"across the checkpoint", []Chunk{chunk(1, 1, 10), chunk(2, 11, 31)}, 30, "[]"},
		{"left over from before a crash", []Chunk{chunk(1, 1, 10), chunk(2, 11, 15), chunk(3, 16, 25), chunk(4, 11, 30)}, 0, "[1 4]"},
	} {
		h, err := Restore(Limits{}, nil, 0, c.stored, 30)
		if err != nil {
			t.Fatal(err)
		}
		inUse, _ := h.Sealed(0)
		seqs := []uint64{}
		for _, chunk := range inUse {
			seqs = append(seqs, chunk.Seq)
		}
		if h.Oldest() != c.oldest || fmt.Sprint(seqs) != c.seqs {
			t.Errorf("%s: from %d on, chunks %v; want %d, %s", c.name, h.Oldest(), seqs, c.oldest, c.seqs)
		}
		publish(h, "/new")
		h.Cut()
		fresh, _ := h.Sealed(0)
		if got := fresh[len(fresh)-1]; got.First != 31 || len(c.stored) > 0 && got.Seq <= c.stored[len(c.stored)-1].Seq {
			t.Errorf("%s: the next chunk is %d, from %d", c.name, got.Seq, got.First)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	good := pack(1, nil, 30)
	edit := func(change func(c *Chunk)) []Chunk {
		c := good
		change(&c)
		return []Chunk{c}
	}
	damaged := append([]byte(nil), good.Bytes...)
	damaged[2]++
	for name, stored := range map[string][]Chunk{
		"damaged":               edit(func(c *Chunk) { c.Bytes = damaged }),
		"another size":          edit(func(c *Chunk) { c.Size++ }),
		"more events":           edit(func(c *Chunk) { c.Events++ }),
		"another range":         edit(func(c *Chunk) { c.First++ }),
		"from zero":             edit(func(c *Chunk) { c.First = 0 }),
		"backwards":             edit(func(c *Chunk) { c.First = 31 }),
		"same number twice":     {good, good},
		"nowhere":               edit(func(c *Chunk) { c.Bytes = nil }),
		"a good one, then that": {{Seq: 10, First: 1, Last: 1}, good},
	} {
		if _, err := Restore(Limits{}, nil, 0, stored, 30); err == nil {
			t.Errorf("%s: no error", name)
		}
		h := New(Limits{}, nil, 0, 0)
		fill(h, 2)
		if err := h.Replace(0, stored, 30); err == nil || h.Current() != 2 || h.Stats().Events != 2 {
			t.Errorf("%s: replaced in spite of %v", name, err)
		}
	}
	if _, err := Restore(Limits{}, nil, 0, []Chunk{good}, 30); err != nil {
		t.Error(err)
	}
}

func TestReplace(t *testing.T) {
	leader := New(Limits{ChunkBytes: 1}, nil, 0, 0)
	fill(leader, 20)
	chunks, _ := leader.Sealed(5) // from 6 on

	h := New(Limits{}, nil, 0, 0)
	fill(h, 3)
	lost := subscribe(t, h, everything, 3)
	fill(h, 5)
	early := subscribe(t, h, everything, 3)
	behind := subscribe(t, h, everything, 5)
	caughtUp := subscribe(t, h, everything, 8)
	quiet := subscribe(t, h, Filter{Path: "/q"}, 0)
	takeAll(t, quiet)
	closed := subscribe(t, h, everything, 8)
	closed.Close()

	if err := h.Replace(0, chunks, 20); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Stream{lost, early} {
		_, _, err := s.Take(1)
		wantCode(t, err, op.HistoryGone)
	}
	for _, c := range []struct {
		s    *Stream
		from op.Zxid
	}{{behind, 5}, {caughtUp, 8}} {
		if !signalled(c.s) {
			t.Error("no signal")
		}
		events, pos := takeAll(t, c.s)
		if len(events) != int(20-c.from) || events[0].Zxid != c.from+1 || pos != 20 {
			t.Errorf("from %d up to %d: %s", c.from, pos, brief(events))
		}
	}
	if events, pos := takeAll(t, quiet); len(events) > 0 || pos != 20 {
		t.Errorf("the quiet one: %s up to %d", brief(events), pos)
	}
	publish(h, "/q")
	events, _ := takeAll(t, quiet)
	want(t, events, "21 /q")
	h.Cut()
	if fresh, _ := h.Sealed(chunks[len(chunks)-1].Seq); len(fresh) != 1 {
		t.Errorf("%d new chunks", len(fresh))
	}
}

// What a stream has delivered beyond the end of the new history can't be taken back, so that stream ends.
func TestReplaceThatGoesBack(t *testing.T) {
	h := New(Limits{}, nil, 0, 0)
	fill(h, 10)
	waiting := subscribe(t, h, everything, 10)
	behind := subscribe(t, h, everything, 9)
	resumed := subscribe(t, h, everything, 4)
	if err := h.Replace(0, []Chunk{pack(1, nil, 4)}, 4); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Stream{waiting, behind} {
		if !signalled(s) {
			t.Error("no signal")
		}
		_, _, err := s.Take(1)
		wantCode(t, err, op.HistoryGone)
	}
	publish(h, "/again")
	events, _ := takeAll(t, resumed)
	want(t, events, "5 /again")
	if s := h.Stats(); s.Gone != 2 {
		t.Errorf("%+v", s)
	}
}

// The history is replaced while a stream reads from what it replaces.
func TestReplaceWhileRead(t *testing.T) {
	d := &dropping{disk: newDisk()}
	h := New(small, d, 0, 0)
	for range 20 {
		publish(h, "/a")
		d.save(h)
	}
	d.meanwhile = func() {
		if err := h.Replace(0, nil, 2); err != nil {
			t.Error(err)
		}
	}
	s := subscribe(t, h, everything, 0)
	if _, _, err := s.Take(1); err != nil {
		t.Error(err)
	}
	_, _, err := s.Take(1)
	wantCode(t, err, op.HistoryGone)
}

// What the reader has got hold of before Replace is delivered. If that lies beyond the new end, it is the last.
func TestReplaceThatGoesBackWhileRead(t *testing.T) {
	d := &dropping{disk: newDisk()}
	h := New(Limits{ChunkBytes: 60, MemoryBytes: 100}, d, 0, 0)
	for range 200 {
		publish(h, "/a")
		d.save(h)
	}
	d.meanwhile = func() {
		if err := h.Replace(0, []Chunk{pack(1, nil, 1)}, 1); err != nil {
			t.Error(err)
		}
	}
	s := subscribe(t, h, everything, 0)
	want(t, first(s.Take(10)), "1 /a, 2 /a, 3 /a, 4 /a, 5 /a, 6 /a, 7 /a")
	publish(h, "/again")
	_, _, err := s.Take(1)
	wantCode(t, err, op.HistoryGone)
}

// Chunks that come from another member have its numbers; new ones get numbers that none here has ever had.
func TestNumbersAreNotUsedTwice(t *testing.T) {
	d := newDisk()
	h := New(small, d, 0, 0)
	fill(h, 10)
	if err := h.Replace(0, []Chunk{pack(1, nil, 20)}, 20); err != nil {
		t.Fatal(err)
	}
	fill(h, 1)
	if fresh, _ := h.Sealed(9); len(fresh) != 1 || fresh[0].Seq != 11 || fresh[0].First != 21 {
		t.Errorf("got %+v", fresh)
	}
}

// A chunk without bytes among others that have them.
func TestRestoreWithBytesOfSome(t *testing.T) {
	d := newDisk()
	before := New(small, d, 0, 0)
	fill(before, 6)
	d.save(before)
	stored := d.stored(t, true)
	stored[3].Bytes = nil
	h, err := Restore(small, d, 0, stored, 6)
	if err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); s.MemoryBytes != stored[4].Size+stored[5].Size {
		t.Errorf("%+v", s)
	}
	fill(h, 10)
	if s := h.Stats(); s.MemoryBytes > 400 || s.Oldest != 0 {
		t.Errorf("%+v", s)
	}
	if events, _ := takeAll(t, subscribe(t, h, everything, 0)); len(events) != 16 {
		t.Errorf("got %s", brief(events))
	}
}

// Streams that read the same part share what was read; the parts used last stay.
func TestPagesAreShared(t *testing.T) {
	d := newDisk()
	h := New(small, d, 0, 0)
	for range 30 {
		publish(h, "/a")
		d.save(h)
	}
	for range 3 {
		want(t, first(subscribe(t, h, everything, 0).Take(1)), "1 /a")
	}
	if d.reads != 1 {
		t.Errorf("%d reads of one chunk", d.reads)
	}
	read := func(at op.Zxid) {
		if events, _, err := subscribe(t, h, everything, at-1).Take(1); err != nil || events[0].Zxid != at {
			t.Error(brief(events), err)
		}
	}
	for z := op.Zxid(2); z < 12; z++ {
		read(1)
		read(z)
	}
	for z := op.Zxid(11); z > 11-maxPages+1; z-- {
		read(z)
	}
	if d.reads != 11 || len(h.pages) != maxPages {
		t.Errorf("%d reads of 11 chunks, %d pages", d.reads, len(h.pages))
	}
}

func TestFloor(t *testing.T) {
	h := New(Limits{}, nil, 1000, 1000)
	publish(h, "/a")
	for _, c := range []struct {
		from op.Zxid
		code op.Code
	}{{0, op.ClusterChanged}, {999, op.ClusterChanged}, {1000, op.OK}, {1001, op.OK}, {1002, op.FutureZxid}} {
		_, err := h.Subscribe(everything, c.from)
		if c.code == op.OK && err == nil {
			continue
		}
		wantCode(t, err, c.code)
	}
	if err := h.Replace(2000, nil, 2005); err != nil {
		t.Fatal(err)
	}
	_, err := h.Subscribe(everything, 1001)
	wantCode(t, err, op.ClusterChanged)
	_, err = h.Subscribe(everything, 2004)
	wantCode(t, err, op.HistoryGone)
}

func TestImpossiblePublications(t *testing.T) {
	noACL := change(6, "/a")
	noACL.ACL = nil
	for name, c := range map[string]struct {
		events []op.Event
		upTo   op.Zxid
	}{
		"back":                 {nil, 4},
		"event at the present": {[]op.Event{change(5, "/a")}, 6},
		"events out of order":  {[]op.Event{change(7, "/a"), change(6, "/a")}, 7},
		"event beyond the end": {[]op.Event{change(7, "/a")}, 6},
		"event without an ACL": {[]op.Event{noACL}, 6},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			New(Limits{}, nil, 0, 5).Publish(c.events, c.upTo)
		}()
	}
	h := New(Limits{}, nil, 0, 5)
	h.Publish(nil, 5)
	if h.Current() != 5 {
		t.Error("a batch that decided nothing moved on")
	}
}
