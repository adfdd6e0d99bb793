package storage

import (
	"encoding/binary"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
)

// logVersion is the format of the log that this code writes, and the newest that it reads.
const logVersion = 1

var logMagic = [8]byte{'c', 'o', 'o', 'r', 'd', 'l', 'o', 'g'}

// preamble is the size of a file's magic and version, which stand before its first record.
const preamble = 8 + 4

// ids name the member that a file belongs to.
type ids struct{ cluster, member uint64 }

// Position is a place in raft's log.
type Position struct{ Index, Term uint64 }

func (p Position) appendTo(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, p.Index), p.Term)
}

func (d *decoder) position() Position { return Position{d.u64(), d.u64()} }

// segmentHeader is the payload of the first record of each file of the log. It makes a file that is missing, exchanged, or of
// another member show at its neighbours.
type segmentHeader struct {
	ids
	seq     uint64        // number of the file
	prevEnd int64         // where the file before it ended
	prevCRC uint32        // its last record's crc
	base    Position      // the last entry before this file
	state   *pb.HardState // as it was when this file began
}

const segmentHeaderSize = 8 + 8 + 8 + 8 + 4 + 16 + 24

// segmentStart is where the records behind the header begin.
const segmentStart = preamble + recordHeader + segmentHeaderSize

func (h *segmentHeader) appendTo(b []byte) []byte {
	for _, v := range []uint64{h.cluster, h.member, h.seq, uint64(h.prevEnd)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, h.prevCRC)
	return appendHardState(h.base.appendTo(b), h.state)
}

func parseSegmentHeader(p []byte) (*segmentHeader, error) {
	d := decoder{b: p}
	h := &segmentHeader{
		ids:     ids{d.u64(), d.u64()},
		seq:     d.u64(),
		prevEnd: int64(d.u64()),
		prevCRC: d.u32(),
		base:    d.position(),
		state:   d.hardState(),
	}
	return h, d.done()
}

// newSegment returns the first bytes of a file of the log, and the crc that its records go on from.
func newSegment(h *segmentHeader) ([]byte, uint32) {
	b := binary.LittleEndian.AppendUint32(logMagic[:], logVersion)
	return appendRecord(b, chain(0, b), kindHeader, 0, h.appendTo)
}

// segment is what stands in one file of the log.
type segment struct {
	header  *segmentHeader
	records []record // all that are intact, without the header
	end     int64    // behind the last of them
	crc     uint32   // of the last of them
	damage  string   // what is wrong at end; empty when the log simply ends there
	mark    int64    // the highest offset that any record calls durable, those behind the damage included
	used    int64    // behind the last byte that isn't zero
}

// parseSegment takes a file apart. The error is about the beginning of the file, without which it can't be read at all.
func parseSegment(name string, buf []byte) (*segment, error) {
	if len(buf) < segmentStart {
		return nil, &CorruptError{name, int64(len(buf)), "the file ends within its header"}
	}
	if [8]byte(buf) != logMagic {
		return nil, &CorruptError{name, 0, "it doesn't begin as a log does"}
	}
	first, err := parseRecord(buf, preamble, chain(0, buf[:preamble]))
	if v := binary.LittleEndian.Uint32(buf[8:]); v != logVersion {
		return nil, &RefusedError{name, fmt.Sprintf("its format is %d, and this program knows only %d", v, logVersion),
			"start the version of coord that wrote it, or a newer one; if that is this one, the file is damaged at byte 8"}
	}
	if err != nil {
		return nil, &CorruptError{name, preamble, err.Error()}
	}
	if first.kind != kindHeader {
		return nil, &CorruptError{name, preamble, fmt.Sprintf("the first record is of kind %d", first.kind)}
	}
	h, err := parseSegmentHeader(first.payload)
	if err != nil {
		return nil, &CorruptError{name, preamble, "the file's header is " + err.Error()}
	}
	s := &segment{header: h, end: first.end, crc: first.crc, mark: first.end}
	s.parseRecords(buf)
	return s, nil
}

func (s *segment) parseRecords(buf []byte) {
	s.used = int64(len(buf))
	for s.used > s.end && buf[s.used-1] == 0 {
		s.used--
	}
	for !endOfLog(buf, s.end) {
		r, err := parseRecord(buf, s.end, s.crc)
		if err != nil {
			s.damage = err.Error()
			s.followDamage(buf, r)
			return
		}
		s.records = append(s.records, r)
		s.end, s.crc = r.end, r.crc
		s.mark = max(s.mark, r.synced)
	}
	if s.used > s.end {
		s.damage = "a record is missing"
	}
	s.used = max(s.used, s.end) // a record may end with zeros
}

// followDamage looks at the records behind a damaged one, as long as their frames can be followed, for what they know to be durable.
func (s *segment) followDamage(buf []byte, bad record) {
	for prev := bad; prev.end > 0 && !endOfLog(buf, prev.end); {
		next, err := parseRecord(buf, prev.end, prev.crc)
		if err == nil {
			s.mark = max(s.mark, next.synced)
		}
		prev = next
	}
}

// endOfLog reports whether no record begins at off: the header's place holds zeros, or is cut short by the end of the file.
func endOfLog(buf []byte, off int64) bool {
	for _, b := range buf[off:min(int64(len(buf)), off+recordHeader)] {
		if b != 0 {
			return false
		}
	}
	return true
}
