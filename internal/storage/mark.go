package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/coord-kv/coord/internal/vfs"
)

// The watermark file says how far the log was known to be durable. Damage of the log below it is corruption, for what stood
// there may have been acknowledged; above it, it is the trace of a power loss.
//
// It has two slots, one page apart and written in turn, so that a torn write leaves the other:
//
//	crc u32 | version u32 | count u64 | cluster u64 | member u64 | file u64 | offset u64
//
// A mark is written after the sync that it tells of, before anything more is, and itself not synced: one that is lost makes
// the older one count.
const (
	markVersion = 1
	markSize    = 4 + 4 + 5*8
	markStride  = 4096
)

// watermark is the content of a slot: everything in the log's files before seq is durable, and in seq what is below off.
type watermark struct {
	count uint64 // the slot with the higher one counts
	ids
	seq uint64
	off int64
}

func (w watermark) encode() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 4, markSize), markVersion)
	for _, v := range []uint64{w.count, w.cluster, w.member, w.seq, uint64(w.off)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	binary.LittleEndian.PutUint32(b, chain(0, b[4:]))
	return b
}

// parseMark reads one slot; ok is false when it is damaged.
func parseMark(slot []byte) (w watermark, version uint32, ok bool) {
	if len(slot) < markSize {
		return w, 0, false
	}
	slot = slot[:markSize]
	d := decoder{b: slot[4:]}
	version = d.u32()
	w = watermark{count: d.u64(), ids: ids{d.u64(), d.u64()}, seq: d.u64(), off: int64(d.u64())}
	return w, version, binary.LittleEndian.Uint32(slot) == chain(0, slot[4:]) && w.off >= 0
}

// parseMarks returns the mark that counts in the file's content. At least one slot is always whole.
func parseMarks(name string, buf []byte) (watermark, error) {
	var best watermark
	found := false
	for at := 0; at <= markStride && at < len(buf); at += markStride {
		w, version, ok := parseMark(buf[at:])
		if ok && version != markVersion {
			return best, &RefusedError{name, fmt.Sprintf("its format is %d, and this program knows only %d", version, markVersion),
				"start the version of coord that wrote it, or a newer one"}
		}
		if ok && (!found || w.count > best.count) {
			best, found = w, true
		}
	}
	if !found {
		return best, &CorruptError{name, 0, "neither of its marks is whole"}
	}
	return best, nil
}

// markFile writes marks.
type markFile struct {
	f     vfs.File
	last  watermark
	dirty bool // last is not synced
}

// createMark makes a watermark file that says w, durably except for its name.
func createMark(fsys vfs.FS, name string, w watermark) error {
	return createFile(fsys, name, func(f vfs.File) error {
		m := markFile{f: f, last: w}
		for range 2 {
			if err := m.write(w.seq, w.off); err != nil {
				return err
			}
		}
		return syncFailed(m.sync())
	})
}

func openMark(fsys vfs.FS, name string) (*markFile, error) {
	f, buf, err := openWhole(fsys, name, nil)
	if err != nil {
		return nil, err
	}
	w, err := parseMarks(name, buf)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &markFile{f: f, last: w}, nil
}

func (m *markFile) write(seq uint64, off int64) error {
	next := m.last
	next.count, next.seq, next.off = next.count+1, seq, off
	if _, err := m.f.WriteAt(next.encode(), int64(next.count%2)*markStride); err != nil {
		return err
	}
	m.last, m.dirty = next, true
	return nil
}

func (m *markFile) sync() error {
	if !m.dirty {
		return nil
	}
	m.dirty = false
	return m.f.Sync()
}
