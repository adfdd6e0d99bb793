package member

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// Disk makes a data directory what a replica needs of one.
type Disk struct {
	Store *storage.Store
	Pace  func(bytes int) error // called before each write of a checkpoint; nil writes at full speed

	// Reserve is how many bytes are set aside for log and manifest to go on when the file system is full; 0 for none.
	Reserve int64

	size atomic.Int64 // bytes of the current checkpoint

	mu      sync.Mutex
	stored  map[uint64]storage.ChunkInfo // the chunks of history in the manifest, by number
	first   uint64                       // index of the first log entry needed
	sending int                          // snapshots that are open
	partial *storage.Incoming            // a checkpoint whose transfer broke; nil for none
}

// NewDisk returns the Disk of a store that has just been opened.
func NewDisk(s *storage.Store, r *storage.Recovered) *Disk {
	d := &Disk{Store: s, stored: map[uint64]storage.ChunkInfo{}}
	for _, c := range r.Chunks {
		d.stored[c.Seq] = c
	}
	if r.Checkpoint != nil {
		d.size.Store(r.Checkpoint.Size)
	}
	return d
}

// Append adds to the log.
func (d *Disk) Append(hs *raftpb.HardState, entries []*raftpb.Entry, sync bool) error {
	return d.Store.Append(hs, entries, sync)
}

// Quiet makes the log durable in a tick without appends.
func (d *Disk) Quiet() error { return d.Store.Quiet() }

// Whole remembers that the log, whose end was cut, is whole again.
func (d *Disk) Whole() error { return d.Store.Whole() }

// Free returns the bytes that the member has left: what it has set aside counts, and what its next checkpoint will take
// doesn't, for the one before it goes only when that stands.
func (d *Disk) Free() int64 {
	n, err := d.Store.Free()
	if err != nil {
		return replica.UnknownSpace
	}
	size := d.size.Load()
	return n - size - size/4 + min(d.Store.Reserved(), math.MaxInt64-n)
}

// KeepReserve sets the reserve aside, or again after it was used, once there is at least as much room beyond it. The
// store gives it up by itself when there is none left.
func (d *Disk) KeepReserve() error {
	if d.Reserve == 0 || d.Store.Reserved() > 0 || d.Free() < 2*d.Reserve {
		return nil
	}
	return unlessFull(d.Store.Reserve(d.Reserve))
}

// WriteCheckpoint writes the cut and makes it current together with the event history up to it.
func (d *Disk) WriteCheckpoint(cut *replica.Cut, h *watch.History) (size int64, err, fatal error) {
	size, err = d.writeCheckpoint(cut, h)
	return size, err, errors.Join(unlessFull(err), d.KeepReserve())
}

func (d *Disk) writeCheckpoint(cut *replica.Cut, h *watch.History) (int64, error) {
	info, err := d.Store.WriteCheckpoint(storage.Header{
		Position: storage.Position{Index: cut.Index, Term: cut.Term}, Zxid: uint64(cut.Zxid), Digest: cut.Digest, ConfState: cut.Conf,
	}, d.Pace, func(w io.Writer) error {
		_, err := cut.View.WriteTo(w)
		return err
	})
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	change, last := d.history(h, cut.Zxid)
	if err := d.Store.CommitCheckpoint(info, d.first, change); err != nil {
		return 0, errors.Join(err, d.Store.Discard(info, nil))
	}
	d.changed(change)
	d.size.Store(info.Size)
	d.dropPartial(info.Index + 1)
	h.Durable(last)
	return info.Size, nil
}

// unlessFull returns err unless it is about space, or about a checkpoint that a snapshot has overtaken: those do no harm.
func unlessFull(err error) error {
	if errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrUnreachable) {
		return nil
	}
	return err
}

// history returns what has to change in the manifest for it to hold the sealed history up to a zxid. What goes out of the
// history stays in the manifest while a snapshot is being sent with it.
func (d *Disk) history(h *watch.History, upTo op.Zxid) (change storage.ChunkChange, last uint64) {
	all, keep := h.Sealed(0)
	for _, c := range all {
		if c.Last > upTo {
			break
		}
		last = c.Seq
		if _, ok := d.stored[c.Seq]; !ok && c.Bytes != nil {
			change.Add = append(change.Add, toStored(c))
		}
	}
	if d.sending > 0 {
		return change, last
	}
	for seq := range d.stored {
		if seq < keep {
			change.Drop = append(change.Drop, seq)
		}
	}
	return change, last
}

func toStored(c watch.Chunk) storage.Chunk {
	return storage.Chunk{Data: c.Bytes, ChunkInfo: storage.ChunkInfo{
		Seq: c.Seq, First: uint64(c.First), Last: uint64(c.Last), Size: c.Size, Events: c.Events,
	}}
}

func (d *Disk) changed(change storage.ChunkChange) {
	for _, c := range change.Add {
		d.stored[c.Seq] = c.ChunkInfo
	}
	for _, c := range change.Staged {
		d.stored[c.Seq] = c
	}
	for _, seq := range change.Drop {
		delete(d.stored, seq)
	}
}

// Compact says that the log before index is not needed any more; the next checkpoint lets it go.
func (d *Disk) Compact(index uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.first = index
	return nil
}

// Install makes a received snapshot the state and its history the member's, in place of the log or, if that is to be
// kept, in place of the checkpoint alone.
func (d *Disk) Install(in *replica.Install) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := in.Content.(*received)
	if err := d.install(r, in.Keep); err != nil {
		return err
	}
	clear(d.stored)
	d.changed(storage.ChunkChange{Staged: r.history})
	d.size.Store(r.info.Size)
	d.dropPartial(r.info.Index + 1)
	return nil
}

func (d *Disk) install(r *received, keepLog bool) error {
	if !keepLog {
		return d.Store.InstallSnapshot(nil, r.info, r.history)
	}
	return d.Store.CommitCheckpoint(r.info, d.first, storage.ChunkChange{
		Staged: r.history, Drop: slices.Collect(maps.Keys(d.stored)),
	})
}

// Load turns what a data directory held into what a replica begins with. history limits its event history.
func Load(s *storage.Store, r *storage.Recovered, history watch.Limits) (replica.Start, error) {
	start := replica.Start{
		HardState: r.HardState, ConfState: r.ConfState, Base: r.Base.Index, BaseTerm: r.Base.Term, Entries: r.Entries,
		Machine: fsm.New(),
	}
	if r.Checkpoint != nil {
		m, err := loadState(s)
		if err != nil {
			return start, fmt.Errorf("couldn't load the checkpoint %s: %w", r.Checkpoint.File, err)
		}
		start.Machine, start.Index, start.Term = m, r.Checkpoint.Index, r.Checkpoint.Term
	}
	stored, err := loadHistory(s, r.Chunks, cmp.Or(history.MemoryBytes, watch.DefaultMemoryBytes))
	if err != nil {
		return start, fmt.Errorf("couldn't load the event history: %w", err)
	}
	h, err := watch.Restore(history, s, start.Machine.Floor(), stored, start.Machine.Zxid())
	if err != nil {
		return start, fmt.Errorf("couldn't load the event history: %w", err)
	}
	start.History = h
	return start, nil
}

func loadState(s *storage.Store) (*fsm.Machine, error) {
	f, err := s.OpenCheckpoint()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readState(io.NewSectionReader(f, 0, f.Info.Size), f.Info)
}

// readState reads a whole checkpoint file, which must be the one that info describes.
func readState(r io.Reader, info *storage.Info) (*fsm.Machine, error) {
	c, err := storage.NewCheckpointReader(r, info.File)
	if err != nil {
		return nil, err
	}
	m, err := fsm.Restore(c)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, c); err != nil { // checks what stands behind the state
		return nil, err
	}
	if m.Digest() != fsm.Digest(info.Digest) {
		return nil, errors.New("its content is not the state that its header names")
	}
	return m, nil
}

// loadHistory reads the newest chunks, as many as there is room for in memory. The older ones are read when a stream needs
// them.
func loadHistory(s *storage.Store, infos []storage.ChunkInfo, room int) ([]watch.Chunk, error) {
	stored := make([]watch.Chunk, len(infos))
	for i, c := range slices.Backward(infos) {
		stored[i] = watch.Chunk{Seq: c.Seq, First: op.Zxid(c.First), Last: op.Zxid(c.Last), Size: c.Size, Events: c.Events}
		if room -= c.Size; room < 0 {
			continue
		}
		packed, err := s.Chunk(c.Seq)
		if err != nil {
			return nil, err
		}
		stored[i].Bytes = packed
	}
	return stored, nil
}

// pace returns a function that lets so many bytes a second through, and a burst of a fifth of that.
func pace(bytesPerSecond int, sleep func(time.Duration)) func(int) error {
	due := 0
	return func(n int) error {
		if due += n; due >= bytesPerSecond/20 {
			sleep(time.Duration(due) * time.Second / time.Duration(bytesPerSecond))
			due = 0
		}
		return nil
	}
}
