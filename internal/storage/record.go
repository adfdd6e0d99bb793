package storage

import (
	"encoding/binary"
	"fmt"
	"math"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A record is the unit of the log:
//
//	crc u32 | length u32 | synced u64 | kind u8 | payload
//
// crc is the CRC32C of the crc of the record before it and of all that follows. Because the chain goes through the stored crc,
// a record can be recognised as genuine even when the one before it is damaged. synced is the offset in the same file below
// which everything was durable when the record was written. Numbers are little-endian. A header of zeros ends the log.
const recordHeader = 4 + 4 + 8 + 1

// maxRecord bounds a record's payload in bytes. It is far above the largest request, so that only damage can exceed it.
const maxRecord = 1 << 30

// batchTarget is the payload size at which a batch of entries is continued in another record.
const batchTarget = 1 << 20

type recordKind uint8

const (
	kindHeader  recordKind = 1 // the first of a file, see segmentHeader
	kindEntries recordKind = 2 // consecutive entries; they replace those of the same and higher indexes
	kindState   recordKind = 3 // a HardState
	kindInstall recordKind = 4 // index and term of a snapshot that is being installed
	kindVoid    recordKind = 5 // the install before it didn't come to be
)

type record struct {
	kind    recordKind
	synced  int64
	payload []byte
	crc     uint32
	end     int64 // offset behind it
}

// appendRecord appends a record with the payload that fill appends.
func appendRecord(b []byte, prev uint32, kind recordKind, synced int64, fill func([]byte) []byte) ([]byte, uint32) {
	start := len(b)
	b = append(b, make([]byte, recordHeader)...)
	b = fill(b)
	return b, seal(b[start:], prev, kind, synced)
}

// seal completes the header of a record whose payload stands, and returns its crc.
func seal(rec []byte, prev uint32, kind recordKind, synced int64) uint32 {
	binary.LittleEndian.PutUint32(rec[4:], uint32(len(rec)-recordHeader))
	binary.LittleEndian.PutUint64(rec[8:], uint64(synced))
	rec[16] = byte(kind)
	crc := recordSum(prev, rec)
	binary.LittleEndian.PutUint32(rec, crc)
	return crc
}

func recordSum(prev uint32, rec []byte) uint32 {
	var p [4]byte
	binary.LittleEndian.PutUint32(p[:], prev)
	return chain(chain(0, p[:]), rec[4:])
}

// parseRecord reads the record at off. The record is returned as far as its frame goes even when the error says that its
// checksum is wrong; end is 0 when there is no frame to follow.
func parseRecord(buf []byte, off int64, prev uint32) (record, error) {
	rest := buf[off:]
	if len(rest) < recordHeader {
		return record{}, fmt.Errorf("the file ends within a record's header")
	}
	n := int64(binary.LittleEndian.Uint32(rest[4:]))
	if n > maxRecord || n > int64(len(rest)-recordHeader) {
		return record{}, fmt.Errorf("a record of %d bytes doesn't fit", n)
	}
	rec := rest[:recordHeader+n]
	r := record{
		kind:    recordKind(rec[16]),
		synced:  int64(binary.LittleEndian.Uint64(rec[8:])),
		payload: rec[recordHeader:],
		crc:     binary.LittleEndian.Uint32(rec),
		end:     off + int64(len(rec)),
	}
	if recordSum(prev, rec) != r.crc {
		return r, fmt.Errorf("a record's checksum doesn't match")
	}
	return r, nil
}

// Entries are encoded as the first one's index and, for each, term, type, length and data.

// appendEntries appends the payload of a record that holds the first entries, and returns those that must go into another one.
func appendEntries(b []byte, entries []*pb.Entry) ([]byte, []*pb.Entry) {
	start := len(b)
	b = binary.AppendUvarint(b, entries[0].GetIndex())
	for i, e := range entries {
		if i > 0 && len(b)-start+len(e.GetData()) > batchTarget {
			return b, entries[i:]
		}
		b = binary.AppendUvarint(b, e.GetTerm())
		b = append(b, byte(e.GetType()))
		b = appendBytes(b, e.GetData())
	}
	return b, nil
}

// parseEntries copies the entries out of a payload.
func parseEntries(p []byte) ([]*pb.Entry, error) {
	d := decoder{b: p}
	index := d.uvarint()
	var entries []*pb.Entry
	for len(d.b) > 0 {
		e := &pb.Entry{Term: new(d.uvarint()), Type: new(entryType(&d)), Index: new(index)}
		if data := d.bytes(); len(data) > 0 {
			e.Data = append([]byte(nil), data...)
		}
		entries = append(entries, e)
		index++
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	if len(entries) == 0 || entries[0].GetIndex() == 0 || index == 0 || entries[0].GetIndex() > math.MaxInt64 {
		return nil, errMalformed
	}
	return entries, nil
}

func entryType(d *decoder) pb.EntryType {
	t := pb.EntryType(d.take(1)[0])
	if _, ok := pb.EntryType_name[int32(t)]; !ok {
		d.fail()
	}
	return t
}
