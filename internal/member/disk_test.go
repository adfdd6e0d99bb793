package member

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/internal/vfs"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

const (
	testDir     = "/data"
	testCluster = 0xc1
)

// site is a member's disk in memory, and what a replica keeps on it: a log, a state, and its events.
type site struct {
	t        testing.TB
	id       uint64
	limits   watch.Limits
	mem      *vfs.Mem
	manifest *counted
	store    *storage.Store
	disk     *Disk
	replica.Start
}

// counted is a manifest that counts the chunks that are read from it.
type counted struct {
	*storage.MemManifest
	reads int
}

func (c *counted) open(dir string, create bool) (storage.Manifest, error) {
	_, err := c.Open(dir, create)
	return c, err
}

func (c *counted) Get(key string) ([]byte, error) {
	if strings.HasPrefix(key, "chunk/") {
		c.reads++
	}
	return c.MemManifest.Get(key)
}

func newSite(t testing.TB, id uint64, limits watch.Limits) *site {
	s := &site{t: t, id: id, limits: limits, mem: vfs.NewMem(), manifest: &counted{MemManifest: storage.NewMemManifest()}}
	s.open()
	return s
}

func (s *site) open() {
	s.t.Helper()
	store, found, err := storage.Open(storage.Options{FS: s.mem, Dir: testDir, Manifest: s.manifest.open, SegmentBytes: 4 << 10})
	must(s.t, err)
	if found.Fresh {
		found.HardState, found.ConfState = &raftpb.HardState{}, conf(s.id)
		must(s.t, store.Identify(s.id, "test"))
		must(s.t, store.Found(testCluster, found.ConfState))
	}
	s.store, s.disk = store, NewDisk(store, found)
	s.Start, err = Load(store, found, s.limits)
	must(s.t, err)
}

// crash ends the process, and the machine with it, and starts it again.
func (s *site) crash() {
	s.t.Helper()
	s.mem.Crash(rand.New(rand.NewPCG(1, 2)))
	s.open()
}

func conf(id uint64) *raftpb.ConfState { return &raftpb.ConfState{Voters: []uint64{id}} }

// write appends and applies entries of one request each.
func (s *site) write(n int) {
	s.t.Helper()
	for range n {
		s.Index, s.Term = s.Index+1, 1
		e := &raftpb.Entry{Index: new(s.Index), Term: new(uint64(1))}
		must(s.t, s.disk.Append(&raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(s.Index)}, []*raftpb.Entry{e}, true))
		done := s.Machine.Apply(&op.Batch{Requests: []*op.Request{{Op: &op.Create{Path: fmt.Sprintf("/%s%d", strings.Repeat("n", 40), s.Index)}}}})
		s.History.Publish(done.Events, s.Machine.Zxid())
	}
}

func (s *site) cut() *replica.Cut {
	s.History.Cut()
	m := s.Machine
	return &replica.Cut{Index: s.Index, Term: s.Term, Conf: conf(s.id), View: m.View(), Zxid: m.Zxid(), Digest: m.Digest()}
}

func (s *site) checkpoint() {
	s.t.Helper()
	_, err, fatal := s.disk.WriteCheckpoint(s.cut(), s.History)
	must(s.t, errors.Join(err, fatal))
}

// snapshot opens the snapshot of the newest checkpoint, and returns its header.
func (s *site) snapshot() (*Snapshot, []byte) {
	s.t.Helper()
	snap, err := s.disk.OpenSnapshot(s.Index)
	must(s.t, err)
	s.t.Cleanup(func() { snap.Close() })
	typ := raftpb.MsgSnap
	msg, err := proto.Marshal(&raftpb.Message{Type: &typ, Snapshot: &raftpb.Snapshot{
		Metadata: &raftpb.SnapshotMetadata{Index: new(s.Index), Term: new(s.Term), ConfState: conf(s.id)},
	}})
	must(s.t, err)
	return snap, snap.Header(msg)
}

// install makes what was received the state.
func (s *site) install(in *replica.Install) {
	s.t.Helper()
	must(s.t, s.disk.Install(in))
	s.Machine, s.Index, s.Term = in.Machine, in.Message.GetSnapshot().GetMetadata().GetIndex(), in.Message.GetSnapshot().GetMetadata().GetTerm()
	must(s.t, s.History.Replace(s.Machine.Floor(), in.History, s.Machine.Zxid()))
}

// events returns all events after a position.
func (s *site) events(from op.Zxid) []string {
	s.t.Helper()
	stream, err := s.History.Subscribe(watch.Filter{Path: "/", Scope: watch.Subtree}, from)
	must(s.t, err)
	defer stream.Close()
	var all []string
	for pos := from; pos < s.History.Current(); {
		events, at, err := stream.Take(100)
		must(s.t, err)
		for _, e := range events {
			all = append(all, fmt.Sprint(e.Zxid, " ", e.Type, " ", e.Path))
		}
		pos = at
	}
	return all
}

// files returns what stands in the directory besides what always does.
func (s *site) files() (names []string) {
	infos, err := s.mem.List(testDir)
	must(s.t, err)
	for _, i := range infos {
		if !strings.HasPrefix(i.Name, "wal-") && i.Name != "watermark" && i.Name != "LOCK" {
			names = append(names, i.Name)
		}
	}
	return names
}

// chunks counts the chunks of which the manifest has the data.
func (s *site) chunks() (n int) {
	must(s.t, s.manifest.Scan("chunk/", func(string, []byte) error { n++; return nil }))
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errCut = errors.New("the connection broke")

// parcel is a snapshot that arrives, from a sender or as bytes, and breaks off at some offset.
type parcel struct {
	r      io.ReaderAt
	size   int64
	breaks int64 // at this offset; -1 for never
	asked  int64 // where it was asked to begin
	off    int64
}

func (p *parcel) ResumeAt(offset int64) error {
	p.asked, p.off = offset, offset
	return nil
}

func (p *parcel) Read(b []byte) (int, error) {
	end := p.size
	if p.breaks >= 0 {
		end = p.breaks
	}
	switch {
	case p.off == end && end == p.size:
		return 0, io.EOF
	case p.off >= end:
		return 0, errCut
	}
	n, err := p.r.ReadAt(b[:min(int64(len(b)), end-p.off)], p.off)
	p.off += int64(n)
	return n, err
}

// small makes chunks of some events each.
var small = watch.Limits{ChunkBytes: 256, MemoryBytes: 4 << 10}

// The event history travels with a snapshot: who resumes at the receiver, from whatever position the sender's history
// held, gets every event once; also after a restart, and after more was written.
func TestHistoryTravels(t *testing.T) {
	from, to := newSite(t, 1, small), newSite(t, 2, small)
	to.write(3)
	for range 4 {
		from.write(50)
		from.checkpoint()
	}
	snap, head := from.snapshot()
	in, err := to.disk.Receive(head, snap.Size, &parcel{r: snap, size: snap.Size, breaks: -1})
	must(t, err)
	to.install(in)
	check := func(when string) {
		t.Helper()
		for _, z := range []op.Zxid{0, 1, 77, 150, from.Machine.Zxid() - 1} {
			if got, want := to.events(z), from.events(z); len(got) < 1 || !slices.Equal(got, want) {
				t.Errorf("%s there are %d events after %d, want %d", when, len(got), z, len(want))
			}
		}
	}
	check("after the install")
	to.crash()
	check("after a restart")
	from.write(60)
	to.write(60)
	to.checkpoint()
	to.crash()
	check("after more writes")
}

// What goes out of the history while it is being sent is sent nonetheless, and goes with the next checkpoint.
func TestHistoryIsKeptWhileItIsSent(t *testing.T) {
	limits := watch.Limits{ChunkBytes: 256, MemoryBytes: 4 << 10, TotalBytes: 8 << 10}
	from, to := newSite(t, 1, limits), newSite(t, 2, watch.Limits{})
	from.write(100)
	from.checkpoint()
	want := from.events(0)
	snap, head := from.snapshot()
	for range 4 {
		from.write(100)
		from.checkpoint()
	}
	in, err := to.disk.Receive(head, snap.Size, &parcel{r: snap, size: snap.Size, breaks: -1})
	must(t, err)
	to.install(in)
	if got := to.events(0); !slices.Equal(got, want) {
		t.Errorf("there are %d events, want %d", len(got), len(want))
	}
	kept := from.chunks()
	must(t, snap.Close())
	from.write(1)
	from.checkpoint()
	if now := from.chunks(); now >= kept {
		t.Errorf("%d chunks stay of %d when nobody needs them any more", now, kept)
	}
}

// A transfer that broke, wherever it did, goes on there. Its history comes anew.
func TestTransferResumes(t *testing.T) {
	from := newSite(t, 1, small)
	from.write(30)
	from.checkpoint()
	snap, head := from.snapshot()
	for breaks := int64(0); breaks < snap.Size; breaks += 7 {
		to := newSite(t, 2, small)
		if _, err := to.disk.Receive(head, snap.Size, &parcel{r: snap, size: snap.Size, breaks: breaks}); err == nil {
			t.Fatalf("broken at %d, and received", breaks)
		}
		if n := to.chunks(); n > 0 {
			t.Fatalf("broken at %d: %d chunks were left behind", breaks, n)
		}
		again := &parcel{r: snap, size: snap.Size, breaks: -1}
		in, err := to.disk.Receive(head, snap.Size, again)
		must(t, err)
		if want := min(breaks, snap.Info.Size); again.asked != want {
			t.Fatalf("broken at %d: goes on at %d", breaks, again.asked)
		}
		to.install(in)
		if to.Machine.Digest() != from.Machine.Digest() || !slices.Equal(to.events(0), from.events(0)) {
			t.Fatalf("broken at %d: another state or history", breaks)
		}
	}
}

// What arrived of a checkpoint is verified before more is asked for: if it is damaged, the transfer begins anew. Damage
// that shows only in what follows refuses the transfer, and the next one begins anew.
func TestDamagedPartial(t *testing.T) {
	from := newSite(t, 1, watch.Limits{})
	from.write(30)
	from.checkpoint()
	snap, head := from.snapshot()
	for off := range snap.Info.Size {
		to := newSite(t, 2, watch.Limits{})
		breaks := snap.Info.Size - off%2*snap.Info.Size/3
		off %= breaks
		to.disk.Receive(head, snap.Size, &parcel{r: snap, size: snap.Size, breaks: breaks})
		must(t, to.mem.Flip(testDir+"/incoming.ckp.tmp", off, 1<<(off%8)))
		again := &parcel{r: snap, size: snap.Size, breaks: -1}
		in, err := to.disk.Receive(head, snap.Size, again)
		if err != nil && again.asked == breaks && breaks < snap.Info.Size {
			in, err = to.disk.Receive(head, snap.Size, again)
		}
		must(t, err)
		if again.asked != 0 {
			t.Fatalf("damaged at %d: goes on at %d", off, again.asked)
		}
		to.install(in)
		if to.Machine.Digest() != from.Machine.Digest() {
			t.Fatalf("damaged at %d: another state", off)
		}
	}
}

// Another checkpoint than the one that broke off begins at 0, and so does the same after a crash, which leaves nothing.
func TestTransferOfAnother(t *testing.T) {
	from, to := newSite(t, 1, watch.Limits{}), newSite(t, 2, watch.Limits{})
	from.write(30)
	from.checkpoint()
	first, head := from.snapshot()
	breakOff := func() {
		to.disk.Receive(head, first.Size, &parcel{r: first, size: first.Size, breaks: first.Info.Size + 10})
		if got := to.files(); !slices.Equal(got, []string{"incoming.ckp.tmp"}) {
			t.Fatalf("broken off: %v", got)
		}
	}
	breakOff()
	to.crash()
	if got := to.files(); len(got) > 0 || to.chunks() > 0 {
		t.Errorf("a crash leaves %v and %d chunks", got, to.chunks())
	}
	breakOff()
	from.write(30)
	from.checkpoint()
	second, head := from.snapshot()
	p := &parcel{r: second, size: second.Size, breaks: -1}
	in, err := to.disk.Receive(head, second.Size, p)
	must(t, err)
	if p.asked != 0 {
		t.Errorf("another checkpoint goes on at %d", p.asked)
	}
	must(t, to.disk.Discard(in))
	if got := to.files(); len(got) > 0 || to.chunks() > 0 {
		t.Errorf("a discarded snapshot leaves %v and %d chunks", got, to.chunks())
	}
}

// A member that catches up by its log gives up what had arrived of an older snapshot.
func TestPartialIsOvertaken(t *testing.T) {
	from, to := newSite(t, 1, watch.Limits{}), newSite(t, 2, watch.Limits{})
	from.write(30)
	from.checkpoint()
	snap, head := from.snapshot()
	to.disk.Receive(head, snap.Size, &parcel{r: snap, size: snap.Size, breaks: 100})
	to.write(30)
	to.checkpoint()
	if got := to.files(); len(got) != 1 || !strings.HasPrefix(got[0], "checkpoint-") {
		t.Errorf("there are %v", got)
	}
}

// Of a snapshot in which something is wrong nothing stays, and whoever sends it is told.
func TestWrongSnapshots(t *testing.T) {
	from, to := newSite(t, 1, small), newSite(t, 2, small)
	from.write(30)
	from.checkpoint()
	snap, head := from.snapshot()
	whole := make([]byte, snap.Size)
	_, err := snap.ReadAt(whole, 0)
	must(t, err)
	try := func(what string, head, content []byte) {
		t.Helper()
		size := int64(len(content))
		in, err := to.disk.Receive(head, size, &parcel{r: bytes.NewReader(content), size: size, breaks: -1})
		if err == nil {
			t.Fatalf("%s is accepted: %v", what, in)
		}
		if got := to.files(); len(got) > 0 || to.chunks() > 0 {
			t.Fatalf("%s: %v leaves %v and %d chunks", what, err, got, to.chunks())
		}
	}
	for off := range whole {
		damaged := slices.Clone(whole)
		damaged[off] ^= 1 << (off % 8)
		try(fmt.Sprintf("a byte flipped at %d", off), head, damaged)
	}
	for n := range head {
		try(fmt.Sprintf("a header of %d bytes", n), head[:n], whole)
	}
	try("a byte too few", head, whole[:len(whole)-1])
	try("a byte too many", head, append(slices.Clone(whole), 0))
}

// FuzzReceive gives a receiver any header and content: it accepts or refuses, and leaves nothing when it refuses.
func FuzzReceive(f *testing.F) {
	from := newSite(f, 1, small)
	from.write(10)
	from.checkpoint()
	snap, head := from.snapshot()
	whole := make([]byte, snap.Size)
	_, err := snap.ReadAt(whole, 0)
	must(f, err)
	f.Add(head, whole)
	f.Add(head, whole[:len(whole)/2])
	f.Add(head[:len(head)-1], whole)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, head, content []byte) {
		to := newSite(t, 2, small)
		size := int64(len(content))
		in, err := to.disk.Receive(head, size, &parcel{r: bytes.NewReader(content), size: size, breaks: -1})
		if err == nil {
			must(t, to.disk.Discard(in))
		}
		if got := to.files(); len(got) > 0 || to.chunks() > 0 {
			t.Errorf("%v leaves %v and %d chunks", err, got, to.chunks())
		}
	})
}

// At a start as much history is read as stays in memory; the rest when somebody wants it.
func TestOldHistoryStaysOnDisk(t *testing.T) {
	s := newSite(t, 1, small)
	for range 4 {
		s.write(100)
		s.checkpoint()
	}
	want, stored := s.events(0), s.chunks()
	s.crash()
	if s.manifest.reads = 0; s.History.Stats().MemoryBytes > small.MemoryBytes {
		t.Errorf("%d bytes of history are in memory, of %d", s.History.Stats().MemoryBytes, s.History.Stats().Bytes)
	}
	if got := s.events(0); !slices.Equal(got, want) {
		t.Errorf("there are %d events, want %d", len(got), len(want))
	}
	read := s.manifest.reads
	s.crash()
	if atStart := s.manifest.reads - read; atStart == 0 || atStart > stored/4 || read < stored-atStart {
		t.Errorf("of %d chunks, %d were read at the start, and %d when they were wanted", stored, atStart, read)
	}
}

// The reserve is held while there is room, lets the last checkpoint through when there is none, and is taken again.
func TestReserve(t *testing.T) {
	s := newSite(t, 1, watch.Limits{})
	s.disk.Reserve = 8 << 20
	s.write(10)
	s.mem.SetFree(s.disk.Reserve)
	must(t, s.disk.KeepReserve())
	if got := s.store.Reserved(); got != 0 {
		t.Fatalf("%d bytes are reserved where there is no room", got)
	}
	s.mem.SetFree(4 * s.disk.Reserve)
	before := s.disk.Free()
	must(t, s.disk.KeepReserve())
	if got := s.store.Reserved(); got != s.disk.Reserve || s.disk.Free() != before {
		t.Fatalf("%d bytes are reserved, %d are free after %d", got, s.disk.Free(), before)
	}
	s.mem.SetFree(4 << 10) // for the file itself, not for the manifest's commit
	s.checkpoint()
	if got := s.store.Reserved(); got != 0 {
		t.Fatalf("%d bytes are reserved on a full disk", got)
	}
	s.write(10)
	s.mem.SetFree(0)
	if _, err, fatal := s.disk.WriteCheckpoint(s.cut(), s.History); !errors.Is(err, storage.ErrNoSpace) || fatal != nil {
		t.Fatalf("a checkpoint without any room: %v, %v", err, fatal)
	}
	s.mem.SetFree(4 * s.disk.Reserve)
	s.checkpoint()
	if got := s.store.Reserved(); got != s.disk.Reserve {
		t.Errorf("%d bytes are reserved when there is room again", got)
	}
	s.crash()
	if got := s.store.Reserved(); got != s.disk.Reserve {
		t.Errorf("%d bytes are reserved after a restart", got)
	}
}

// The log goes on in the reserve when the disk is full.
func TestReserveForTheLog(t *testing.T) {
	s := newSite(t, 1, watch.Limits{})
	s.disk.Reserve = 1 << 20
	s.mem.SetFree(4 << 20)
	must(t, s.disk.KeepReserve())
	s.mem.SetFree(0)
	s.write(200) // more than one file of it
	if s.store.Reserved() != 0 {
		t.Error("the reserve is still held")
	}
}

// What the next checkpoint takes is not free.
func TestFreeCountsTheNextCheckpoint(t *testing.T) {
	s := newSite(t, 1, watch.Limits{})
	s.mem.SetFree(16 << 20)
	before := s.disk.Free()
	s.write(50)
	s.checkpoint()
	size := s.store.Stats().Checkpoint
	left, err := s.store.Free()
	must(t, err)
	if got, want := s.disk.Free(), left-size-size/4; got != want || got >= before {
		t.Errorf("%d bytes are free, want %d, before %d", got, want, before)
	}
}
