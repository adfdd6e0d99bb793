package storage

import (
	"errors"
	"fmt"
	"math"
	"path"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/vfs"
)

// wal writes the log. One goroutine at a time.
type wal struct {
	fs       vfs.FS
	dir      string
	ids      ids
	capacity int64 // of a file, in bytes
	*latch
	now     func() time.Duration
	observe func(time.Duration)
	release func() bool // gives up the space reserve; false when there is none

	mark *markFile

	// The file that is being written.
	f      vfs.File
	size   int64  // preallocated
	off    int64  // where the next record goes
	synced int64  // what is durable
	crc    uint32 // of the last record
	buf    []byte // records on their way to off

	files []walFile // all of them, the current one last
	last  Position  // of the last entry
	first uint64    // the log has the entries above this one
	state *pb.HardState

	stats LogStats
}

// walFile is what is known of one file of the log.
type walFile struct {
	seq  uint64
	max  uint64 // highest index of any entry in it; 0 if none
	size int64  // preallocated bytes
}

// LogStats counts what the log did since it was opened, and what it is.
type LogStats struct {
	Files   int    // files in use
	Bytes   int64  // space that they take
	Appends uint64 // calls that wrote something
	Written uint64 // bytes handed to the disk, marks included
	Syncs   uint64 // syncs of log and mark
}

// start makes the first file of a log that begins at base, and the watermark beside it.
func (w *wal) start(seq uint64, base Position, state *pb.HardState) error {
	w.state, w.last, w.first = state, base, base.Index
	name := path.Join(w.dir, markName)
	if err := createMark(w.fs, name, watermark{ids: w.ids, seq: seq, off: segmentStart}); err != nil {
		return err
	}
	if err := w.create(&segmentHeader{ids: w.ids, seq: seq, base: base, state: state}, w.capacity); err != nil {
		return err
	}
	mark, err := openMark(w.fs, name)
	w.mark = mark
	return err
}

// resume goes on behind what was read. The directory is synced first: a process that ended between making a file and
// syncing its name has left a name that a power loss can still take away, and with it all that is written under it from
// now on. What stands above the mark is written again before anything counts on it: a process whose
// sync failed may have left it in the kernel's memory only, where it reads well and no later sync reaches it.
func (w *wal) resume(r *replay) error {
	w.files, w.state, w.last, w.first = r.files, r.state, r.last(), r.base.Index
	if err := syncFailed(w.fs.SyncDir(w.dir)); err != nil {
		return w.fatal(fmt.Errorf("couldn't sync %s: %w", w.dir, err))
	}
	f, err := w.fs.Open(w.current())
	if err != nil {
		return err
	}
	w.f, w.size = f, int64(len(r.buf))
	w.off, w.synced, w.crc = r.tail.end, r.durable, r.tail.crc
	if r.tail.used <= r.durable {
		return nil
	}
	torn := r.buf[r.tail.end:r.tail.used]
	clear(torn)
	if _, err := f.WriteAt(r.buf[r.durable:r.tail.used], r.durable); err != nil {
		return w.fatal(fmt.Errorf("couldn't write the end of %s anew: %w", w.current(), err))
	}
	w.synced = 0 // else a tail that only was cut would count as synced
	if err := w.sync(); err != nil {
		return err
	}
	return w.quiet()
}

// append writes entries and state (nil: unchanged), durably if sync is set. Either may be absent.
// Entries replace those of the same and higher indexes. A state alone that need not be durable, which tells how far the log
// is decided, goes out with what comes next, or with quiet: somebody waits for the answer behind it.
func (w *wal) append(state *pb.HardState, entries []*pb.Entry, sync bool) error {
	if err := w.check(); err != nil {
		return err
	}
	if err := w.checkEntries(entries); err != nil {
		return err
	}
	for rest := entries; len(rest) > 0; {
		var err error
		if rest, err = w.addEntries(rest); err != nil {
			return err
		}
	}
	if state != nil {
		if err := w.add(kindState, func(b []byte) []byte { return appendHardState(b, state) }); err != nil {
			return err
		}
		w.state = hardState(state.GetTerm(), state.GetVote(), state.GetCommit())
	}
	if len(entries) == 0 && !sync {
		return nil
	}
	return w.finish(sync)
}

// checkEntries refuses what could not be read back.
func (w *wal) checkEntries(entries []*pb.Entry) error {
	for i, e := range entries {
		switch {
		case e.GetIndex() != entries[0].GetIndex()+uint64(i), e.GetIndex() <= w.first, e.GetIndex() > w.last.Index+1+uint64(i):
			panic(fmt.Sprintf("storage: entry %d appended to a log of %d to %d", e.GetIndex(), w.first+1, w.last.Index))
		case len(e.GetData()) > maxRecord/2:
			return fmt.Errorf("couldn't append entry %d: its %d bytes are more than %d", e.GetIndex(), len(e.GetData()), maxRecord/2)
		}
	}
	return nil
}

// addEntries adds a record with the first entries, and returns those that it leaves.
func (w *wal) addEntries(entries []*pb.Entry) ([]*pb.Entry, error) {
	var rest []*pb.Entry
	err := w.add(kindEntries, func(b []byte) []byte {
		b, rest = appendEntries(b, entries)
		return b
	})
	if err != nil {
		return nil, err
	}
	done := entries[:len(entries)-len(rest)]
	end := done[len(done)-1]
	w.last = Position{end.GetIndex(), end.GetTerm()}
	f := &w.files[len(w.files)-1]
	f.max = max(f.max, w.last.Index)
	return rest, nil
}

// add puts a record into the buffer. One that doesn't fit into the file goes to the next.
func (w *wal) add(kind recordKind, fill func([]byte) []byte) error {
	start := len(w.buf)
	crc := w.crc
	w.buf, w.crc = appendRecord(w.buf, w.crc, kind, w.synced, fill)
	if w.off+int64(len(w.buf)) <= w.size {
		return nil
	}
	rec := w.buf[start:]
	w.buf, w.crc = w.buf[:start], crc
	if err := w.roll(int64(len(rec))); err != nil {
		w.buf = w.buf[:0]
		return err
	}
	w.buf = append(w.buf, rec...)
	w.crc = seal(w.buf, w.crc, kind, w.synced)
	return nil
}

// finish hands the buffered records to the disk.
func (w *wal) finish(sync bool) error {
	if err := w.flush(); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return w.sync()
}

func (w *wal) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.moveMark(); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.buf, w.off); err != nil {
		return w.fatal(fmt.Errorf("couldn't append to %s: %w", w.current(), err))
	}
	w.stats.Appends++
	w.stats.Written += uint64(len(w.buf))
	w.off += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// sync makes durable what has been handed to the disk. The mark follows later, like a state: see moveMark.
func (w *wal) sync() error {
	if w.synced == w.off {
		return nil
	}
	if err := w.timed(w.f.Sync); err != nil {
		return w.fatal(fmt.Errorf("couldn't sync %s: %w", w.current(), err))
	}
	w.synced = w.off
	return nil
}

func (w *wal) timed(sync func() error) error {
	w.stats.Syncs++
	if w.observe == nil || w.now == nil {
		return sync()
	}
	begin := w.now()
	err := sync()
	w.observe(w.now() - begin)
	return err
}

// moveMark writes how far the log is durable, before anything is written above that, and in a quiet time.
func (w *wal) moveMark() error {
	if w.mark.last.seq == w.seq() && w.mark.last.off == w.synced {
		return nil
	}
	if err := w.mark.write(w.seq(), w.synced); err != nil {
		return w.fatal(fmt.Errorf("couldn't write the watermark: %w", err))
	}
	w.stats.Written += markSize
	return nil
}

// quiet makes durable what is written, and then the mark, so that a power loss in a quiet time is never taken for damage.
func (w *wal) quiet() error {
	if err := w.check(); err != nil {
		return err
	}
	if err := w.finish(true); err != nil {
		return err
	}
	if err := w.moveMark(); err != nil {
		return err
	}
	if !w.mark.dirty {
		return nil
	}
	if err := w.timed(w.mark.sync); err != nil {
		return w.fatal(fmt.Errorf("couldn't sync the watermark: %w", err))
	}
	return nil
}

// roll goes on in a new file that has room for a record of need bytes. What is buffered goes to the old one, which is durable
// to its end before the new one exists: so damage of any file but the last is never the trace of a power loss.
func (w *wal) roll(need int64) error {
	if err := w.finish(true); err != nil {
		return err
	}
	return w.next(w.last, max(w.capacity, segmentStart+need))
}

// next begins a new file whose entries go on from base.
func (w *wal) next(base Position, size int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	h := &segmentHeader{ids: w.ids, seq: w.seq() + 1, prevEnd: w.off, prevCRC: w.crc, base: base, state: w.state}
	old := w.f
	err := w.create(h, size)
	if isFull(err) && w.release() {
		err = w.create(h, size)
	}
	if err != nil {
		return w.judge(fmt.Errorf("couldn't go on in a new file of the log: %w", err))
	}
	old.Close()
	if err := w.moveMark(); err != nil {
		return err
	}
	return w.quiet()
}

// create makes a file of the log, durably with its name, and goes on in it. Nothing is changed if it fails.
func (w *wal) create(h *segmentHeader, size int64) error {
	b, crc := newSegment(h)
	name := path.Join(w.dir, segmentFile(h.seq))
	err := createFile(w.fs, name, func(f vfs.File) error {
		if err := f.Preallocate(size); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
		return syncFailed(w.timed(f.Sync))
	})
	if err != nil {
		return err
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return syncFailed(err)
	}
	f, err := w.fs.Open(name)
	if err != nil {
		return err
	}
	w.f, w.size, w.off, w.synced, w.crc = f, size, int64(len(b)), int64(len(b)), crc
	w.files = append(w.files, walFile{seq: h.seq, size: size})
	w.stats.Written += uint64(len(b))
	return nil
}

// reaches makes sure that the log goes on from a checkpoint at index, and durably so.
func (w *wal) reaches(index uint64) error {
	if index < w.first || index > w.last.Index {
		return fmt.Errorf("%w: the checkpoint is of entry %d, the log goes on from %d to %d", ErrUnreachable, index, w.first, w.last.Index)
	}
	return w.finish(true)
}

// install writes that a snapshot is about to take the log's place. The state's commit is held back to what the log reaches, for
// the snapshot may yet fail to come.
func (w *wal) install(state *pb.HardState, at Position) error {
	if err := w.check(); err != nil {
		return err
	}
	held := hardState(state.GetTerm(), state.GetVote(), min(state.GetCommit(), w.last.Index))
	if err := w.add(kindState, func(b []byte) []byte { return appendHardState(b, held) }); err != nil {
		return err
	}
	w.state = held
	if err := w.add(kindInstall, at.appendTo); err != nil {
		return err
	}
	return w.finish(true)
}

// void takes back an install that a crash kept from taking place.
func (w *wal) void() error {
	if err := w.add(kindVoid, func(b []byte) []byte { return b }); err != nil {
		return err
	}
	return w.finish(true)
}

// restart goes on in a new file behind the snapshot that was installed. It returns the files that no longer count.
func (w *wal) restart(state *pb.HardState, at Position) ([]string, error) {
	w.state = hardState(state.GetTerm(), state.GetVote(), max(state.GetCommit(), at.Index))
	w.last, w.first = at, at.Index
	err := w.next(at, w.capacity)
	if errors.Is(err, ErrNoSpace) {
		return nil, nil // the old file serves too: what follows the snapshot's record goes on from it
	}
	if err != nil {
		return nil, err
	}
	return w.drop(math.MaxUint64), nil
}

// drop forgets the oldest files that have no entry above index, and returns their names, for the caller to remove in this order.
func (w *wal) drop(index uint64) (names []string) {
	for len(w.files) > 1 && w.files[0].max <= index {
		names = append(names, path.Join(w.dir, segmentFile(w.files[0].seq)))
		w.first = max(w.first, w.files[0].max)
		w.files = w.files[1:]
	}
	return names
}

func (w *wal) seq() uint64 { return w.files[len(w.files)-1].seq }

func (w *wal) current() string { return path.Join(w.dir, segmentFile(w.seq())) }

func (w *wal) snapshotStats() LogStats {
	s := w.stats
	s.Files = len(w.files)
	for _, f := range w.files {
		s.Bytes += f.size
	}
	return s
}

// close makes everything durable. It may be called once.
func (w *wal) close() error {
	err := w.quiet()
	w.closeFiles()
	return err
}

func (w *wal) closeFiles() {
	if w.f != nil {
		w.f.Close()
	}
	if w.mark != nil {
		w.mark.f.Close()
	}
}
