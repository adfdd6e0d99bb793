package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
	"github.com/coord-kv/coord/watch"
)

// A snapshot on its way is a checkpoint file, and behind it the event history up to it: chunks in their packed form, oldest
// first, each behind its length in four bytes. Its header, in the notation of op/wire:
//
//	message  bytes, raft's
//	info     bytes, storage.Info of the checkpoint
//	count    uint, of the chunks
//	bytes    uint, that they take, with their lengths
const lengthBytes = 4

// What history may come with a snapshot, whatever the sender's limits are. A sender with more leaves out the oldest.
const (
	maxHistoryChunks = 1 << 16
	maxHistoryBytes  = 512 << 20
	maxChunkBytes    = 4 << 20 // four times what one request may add to a chunk
	stageBytes       = 4 << 20 // of chunks in one commit
)

// Snapshot is a checkpoint and its event history as bytes to send. It belongs to one goroutine, until Close.
type Snapshot struct {
	Info *storage.Info
	Size int64

	d      *Disk
	file   *storage.CheckpointFile
	chunks []storage.ChunkInfo
	ends   []int64 // of each chunk
	last   int     // the chunk in packed
	packed []byte  // with its length; nil for none yet
}

// OpenSnapshot opens the current checkpoint, which must be that of the entry. Until Close no history is dropped.
func (d *Disk) OpenSnapshot(index uint64) (*Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.Store.OpenCheckpoint()
	if err != nil {
		return nil, err
	}
	if f.Info.Index != index {
		f.Close()
		return nil, fmt.Errorf("the checkpoint is of entry %d by now, not %d", f.Info.Index, index)
	}
	s := &Snapshot{Info: f.Info, Size: f.Info.Size, d: d, file: f, chunks: d.historyUpTo(f.Info.Zxid)}
	for _, c := range s.chunks {
		s.Size += lengthBytes + int64(c.Size)
		s.ends = append(s.ends, s.Size)
	}
	d.sending++
	return s, nil
}

// historyUpTo returns the chunks of the manifest that, back from a zxid, follow each other without a gap; oldest first.
func (d *Disk) historyUpTo(zxid uint64) (run []storage.ChunkInfo) {
	all := make([]storage.ChunkInfo, 0, len(d.stored))
	for _, c := range d.stored {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b storage.ChunkInfo) int {
		if a.Seq > b.Seq {
			return -1
		}
		return 1
	})
	bytes := 0
	for _, c := range all {
		if c.Last != zxid {
			continue
		}
		if bytes += lengthBytes + c.Size; bytes > maxHistoryBytes || len(run) == maxHistoryChunks {
			break
		}
		run, zxid = append(run, c), c.First-1
	}
	slices.Reverse(run)
	return run
}

// Header returns what goes ahead of the snapshot, with raft's message in it.
func (s *Snapshot) Header(message []byte) []byte {
	b := wire.Bytes(wire.Bytes(nil, message), s.Info.Append(nil))
	return wire.Uint(wire.Uint(b, uint64(len(s.chunks))), uint64(s.Size-s.Info.Size))
}

// Chunks returns how many chunks of history the snapshot has.
func (s *Snapshot) Chunks() int { return len(s.chunks) }

// ReadAt reads bytes of the snapshot, at best from its beginning to its end: a chunk is read once then.
func (s *Snapshot) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := s.read(p[done:], off+int64(done))
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// read reads within the file, or within one chunk.
func (s *Snapshot) read(p []byte, off int64) (int, error) {
	if off < s.Info.Size {
		return s.file.ReadAt(p[:min(int64(len(p)), s.Info.Size-off)], off)
	}
	i, _ := slices.BinarySearch(s.ends, off+1)
	if i == len(s.ends) {
		return 0, io.EOF
	}
	if s.packed == nil || s.last != i {
		if err := s.load(i); err != nil {
			return 0, err
		}
	}
	return copy(p, s.packed[off-(s.ends[i]-int64(len(s.packed))):]), nil
}

func (s *Snapshot) load(i int) error {
	c := s.chunks[i]
	packed, err := s.d.Store.Chunk(c.Seq)
	if err == nil && len(packed) != c.Size {
		err = errors.New("a snapshot was installed in its place")
	}
	if err != nil {
		return fmt.Errorf("couldn't read history chunk %d: %w", c.Seq, err)
	}
	s.packed = append(binary.BigEndian.AppendUint32(nil, uint32(c.Size)), packed...)
	s.last = i
	return nil
}

// Close gives the snapshot up.
func (s *Snapshot) Close() error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.sending--
	return s.file.Close()
}

// Arrival is a snapshot on its way in, in order: a peer.Transfer.
type Arrival interface {
	// ResumeAt comes before the first Read and says at which offset the bytes should begin.
	ResumeAt(offset int64) error
	// Read returns io.EOF at the end of what was offered. Any other error means that the connection broke.
	Read(p []byte) (int, error)
}

// header is a snapshot's, parsed.
type header struct {
	message *raftpb.Message
	info    *storage.Info
	count   uint64 // of chunks
	bytes   uint64 // of history
}

func parseHeader(b []byte, size int64) (h header, err error) {
	r := wire.NewReader(b)
	msg, info := r.Bytes(), r.Bytes()
	h.count, h.bytes = r.Uint(), r.Uint()
	if err = r.Done(); err != nil {
		return h, err
	}
	h.message = new(raftpb.Message)
	if err = proto.Unmarshal(msg, h.message); err != nil {
		return h, err
	}
	if h.info, err = storage.ParseInfo(info); err != nil {
		return h, err
	}
	switch {
	case h.info.Index != h.message.GetSnapshot().GetMetadata().GetIndex():
		return h, errors.New("it names two entries")
	case h.count > maxHistoryChunks || h.bytes > maxHistoryBytes:
		return h, fmt.Errorf("%d chunks of history with %d bytes are too many: %d and %d are the limits",
			h.count, h.bytes, maxHistoryChunks, maxHistoryBytes)
	case size != h.info.Size+int64(h.bytes):
		return h, fmt.Errorf("%d bytes are offered, and %d of them described", size, h.info.Size+int64(h.bytes))
	}
	return h, nil
}

// received is what an Install carries for the disk: a complete checkpoint file, and its staged history.
type received struct {
	info    *storage.Info
	history []storage.ChunkInfo
}

// Receive takes a snapshot of size bytes, checks all of it, and returns it loaded and durable; it doesn't count before
// Install, and Discard takes it away. When the connection breaks, what has arrived of the checkpoint is kept, as long as
// the process lives, and the next transfer of the same checkpoint goes on behind it. One at a time can be received.
func (d *Disk) Receive(head []byte, size int64, from Arrival) (*replica.Install, error) {
	h, err := parseHeader(head, size)
	if err != nil {
		return nil, fmt.Errorf("couldn't read a snapshot's header: %w", err)
	}
	a := &arriving{header: h, disk: d, from: from}
	if a.in, err = d.beginReceiving(h.info); err != nil {
		return nil, err
	}
	in, err := a.receive()
	if err == nil {
		return in, nil
	}
	if a.broke {
		d.keepPartial(a.in)
	} else {
		a.in.Abort()
	}
	return nil, fmt.Errorf("couldn't receive a snapshot: %w", err)
}

// beginReceiving goes on with what was broken off, if it was this checkpoint.
func (d *Disk) beginReceiving(info *storage.Info) (*storage.Incoming, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.partial; in != nil && in.Of(info) {
		d.partial = nil
		return in, nil
	}
	d.dropPartial(math.MaxUint64) // the next leader may have an older checkpoint, and never that one
	return d.Store.Receive(info)
}

func (d *Disk) keepPartial(in *storage.Incoming) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.Offset() == 0 || in.Unstage() != nil {
		in.Abort()
		return
	}
	d.partial = in
}

// dropPartial gives up what was broken off, if it is of an entry before index. The caller holds d.mu.
func (d *Disk) dropPartial(index uint64) {
	if d.partial != nil && d.partial.Index() < index {
		d.partial.Abort()
		d.partial = nil
	}
}

// arriving is one transfer seen from its receiver. It reads the checkpoint behind what is there of it.
type arriving struct {
	header
	disk  *Disk
	in    *storage.Incoming
	from  Arrival
	asked bool // where to begin
	broke bool // the connection
}

func (a *arriving) receive() (*replica.Install, error) {
	machine, err := a.state()
	if err != nil {
		return nil, err
	}
	chunks, err := a.history()
	if err != nil {
		return nil, err
	}
	file, err := a.in.Finish()
	if err != nil {
		return nil, err
	}
	staged := a.in.Staged()
	for i := range chunks {
		chunks[i].Seq = staged[i].Seq
	}
	return &replica.Install{Message: a.message, Machine: machine, History: chunks, Content: &received{file, staged}}, nil
}

// state loads the state while the rest of it arrives. What was there before is checked like the rest; if it is damaged
// the transfer begins at 0.
func (a *arriving) state() (*fsm.Machine, error) {
	had := a.in.Offset() > 0
	m, err := readState(io.MultiReader(a.in.Reader(), a), a.info)
	if err == nil || a.asked || !had {
		return m, err
	}
	a.in.Abort()
	if a.in, err = a.disk.Store.Receive(a.info); err != nil {
		return nil, err
	}
	return readState(a, a.info)
}

// Read reads bytes of the checkpoint that weren't there yet, and keeps them.
func (a *arriving) Read(p []byte) (int, error) {
	left := a.info.Size - a.in.Offset()
	if left == 0 {
		return 0, io.EOF
	}
	n, err := a.next(p[:min(int64(len(p)), left)])
	if n > 0 {
		if _, err := a.in.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return n, err
}

// next reads what arrives.
func (a *arriving) next(p []byte) (n int, err error) {
	if !a.asked {
		a.asked = true
		err = a.from.ResumeAt(a.in.Offset())
	}
	if err == nil {
		n, err = a.from.Read(p)
	}
	a.broke = a.broke || err != nil && err != io.EOF
	return n, err
}

func (a *arriving) fill(p []byte) error {
	for len(p) > 0 {
		n, err := a.next(p)
		if p = p[n:]; err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}

// history stages the chunks that follow the checkpoint. Only the newest stay in memory.
func (a *arriving) history() ([]watch.Chunk, error) {
	var chunks []watch.Chunk
	var batch []storage.Chunk
	left, batched := a.bytes, 0
	first, inMemory := 0, 0 // of the chunks in memory
	for range a.count {
		c, err := a.chunk(&left)
		if err != nil {
			return nil, err
		}
		if n := len(chunks); n > 0 && c.First != chunks[n-1].Last+1 {
			return nil, fmt.Errorf("its history goes on at %d after %d", c.First, chunks[n-1].Last)
		}
		chunks, batch = append(chunks, c), append(batch, toStored(c))
		if batched += c.Size; batched >= stageBytes {
			if err := a.in.Stage(batch); err != nil {
				return nil, err
			}
			batch, batched = nil, 0
		}
		for inMemory += c.Size; inMemory > watch.DefaultMemoryBytes && first < len(chunks); first++ {
			inMemory -= chunks[first].Size
			chunks[first].Bytes = nil
		}
	}
	if n := len(chunks); left > 0 || n > 0 && chunks[n-1].Last != op.Zxid(a.info.Zxid) {
		return nil, errors.New("its history doesn't end where its state does")
	}
	return chunks, a.in.Stage(batch)
}

func (a *arriving) chunk(left *uint64) (watch.Chunk, error) {
	var length [lengthBytes]byte
	if err := a.fill(length[:]); err != nil {
		return watch.Chunk{}, err
	}
	n := uint64(binary.BigEndian.Uint32(length[:]))
	if n > maxChunkBytes || n+lengthBytes > *left {
		return watch.Chunk{}, fmt.Errorf("a chunk of history with %d bytes is too long", n)
	}
	*left -= n + lengthBytes
	packed := make([]byte, n)
	if err := a.fill(packed); err != nil {
		return watch.Chunk{}, err
	}
	return watch.CheckChunk(packed)
}

// Discard takes away a received snapshot that is not wanted.
func (d *Disk) Discard(in *replica.Install) error {
	r := in.Content.(*received)
	return d.Store.Discard(r.info, r.history)
}
