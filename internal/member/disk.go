package member

import (
	"errors"
	"fmt"
	"io"
	"sync"
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

	mu     sync.Mutex
	stored map[uint64]bool // the chunks of history in the manifest
	first  uint64          // index of the first log entry needed
}

// NewDisk returns the Disk of a store that has just been opened.
func NewDisk(s *storage.Store, r *storage.Recovered) *Disk {
	d := &Disk{Store: s, stored: map[uint64]bool{}}
	for _, c := range r.Chunks {
		d.stored[c.Seq] = true
	}
	return d
}

// Append adds to the log.
func (d *Disk) Append(hs *raftpb.HardState, entries []*raftpb.Entry, sync bool) error {
	return d.Store.Append(hs, entries, sync)
}

// Quiet makes the log durable in a tick without appends.
func (d *Disk) Quiet() error { return d.Store.Quiet() }

// Free returns the bytes left on the file system.
func (d *Disk) Free() int64 {
	n, err := d.Store.Free()
	if err != nil {
		return replica.UnknownSpace
	}
	return n
}

// WriteCheckpoint writes the cut and makes it current together with the event history up to it.
func (d *Disk) WriteCheckpoint(cut *replica.Cut, h *watch.History) (size int64, err, fatal error) {
	info, err := d.Store.WriteCheckpoint(storage.Header{
		Position: storage.Position{Index: cut.Index, Term: cut.Term}, Zxid: uint64(cut.Zxid), Digest: cut.Digest, ConfState: cut.Conf,
	}, d.Pace, func(w io.Writer) error {
		_, err := cut.View.WriteTo(w)
		return err
	})
	if err != nil {
		return 0, err, unlessFull(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	change, last := d.history(h, cut.Zxid)
	if err := d.Store.CommitCheckpoint(info, d.first, change); err != nil {
		d.Store.Discard(info)
		return 0, err, unlessFull(err)
	}
	d.changed(change)
	h.Durable(last)
	return info.Size, nil, nil
}

// unlessFull returns err unless it is about space, or about a checkpoint that a snapshot has overtaken: those do no harm.
func unlessFull(err error) error {
	if errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrUnreachable) {
		return nil
	}
	return err
}

// history returns what has to change in the manifest for it to hold the sealed history up to a zxid.
func (d *Disk) history(h *watch.History, upTo op.Zxid) (change storage.ChunkChange, last uint64) {
	all, keep := h.Sealed(0)
	for _, c := range all {
		if c.Last > upTo {
			break
		}
		last = c.Seq
		if !d.stored[c.Seq] && c.Bytes != nil {
			change.Add = append(change.Add, toStored(c))
		}
	}
	for seq := range d.stored {
		if seq < keep {
			change.Drop = append(change.Drop, seq)
		}
	}
	return change, last
}

func toStored(c watch.Chunk) storage.Chunk {
	return storage.Chunk{ChunkInfo: storage.ChunkInfo{Seq: c.Seq, First: uint64(c.First), Last: uint64(c.Last), Size: c.Size}, Data: c.Bytes}
}

func (d *Disk) changed(change storage.ChunkChange) {
	for _, c := range change.Add {
		d.stored[c.Seq] = true
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

// Install makes a received snapshot the state, in place of log and history.
func (d *Disk) Install(in *replica.Install) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	info := in.Content.(*storage.Info)
	var chunks []storage.Chunk
	for _, c := range in.History {
		chunks = append(chunks, toStored(c))
	}
	if err := d.Store.InstallSnapshot(nil, info, chunks); err != nil {
		return err
	}
	clear(d.stored)
	d.changed(storage.ChunkChange{Add: chunks})
	return nil
}

// Load turns what a data directory held into what a replica begins with.
func Load(s *storage.Store, r *storage.Recovered) (replica.Start, error) {
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
	var stored []watch.Chunk
	for _, c := range r.Chunks {
		chunk, err := loadChunk(s, c)
		if err != nil {
			return start, fmt.Errorf("couldn't load the event history: %w", err)
		}
		stored = append(stored, chunk)
	}
	h, err := watch.Restore(watch.Limits{}, s, start.Machine.Floor(), stored, start.Machine.Zxid())
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

func loadChunk(s *storage.Store, c storage.ChunkInfo) (watch.Chunk, error) {
	packed, err := s.Chunk(c.Seq)
	if err != nil {
		return watch.Chunk{}, err
	}
	return watch.ParseChunk(c.Seq, packed)
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
