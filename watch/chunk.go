package watch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// A chunk in its packed form, in the notation of op/wire:
//
//	format   1 byte, chunkFormat
//	first    uint, the first zxid that it covers
//	span     uint, the last zxid that it covers less first
//	count    uint, the number of events
//	events   count times:
//	  step     uint, zxid less that of the event before; of the first event, less first
//	  what     1 byte, kind in the upper four bits, type in the lower
//	  path     string
//	  version  int
//	  acl      uint, which of the chunk's lists, from 0 in order of first use; the first use is followed by
//	    id       uint
//	    list     as op.AppendACL writes it
//	checksum 4 bytes, CRC32C of all before, big endian
//
// Paths are not compressed against each other: they could be, but then a few bytes would stand for a long path, and a
// chunk could cost many times its size to decode.

const (
	chunkFormat   = 1
	checksumBytes = 4
	minEventBytes = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Chunk is a closed part of the history: all events from zxid First to Last, both included, or the news that there are
// none.
type Chunk struct {
	Seq         uint64 // its number on this member, rising with the zxid
	First, Last op.Zxid
	Events      int    // how many it holds
	Size        int    // of its packed form, in bytes
	Bytes       []byte // the packed form, not to be changed; nil if it is only in the Archive
}

// ParseChunk returns the Chunk with that packed form, which it keeps, after checking checksum and header. The error
// wraps wire.ErrMalformed.
func ParseChunk(seq uint64, packed []byte) (Chunk, error) {
	c, _, err := openChunk(packed)
	c.Seq = seq
	return c, err
}

// CheckChunk is ParseChunk for a chunk that comes from elsewhere, and has no number yet: it checks the events too.
func CheckChunk(packed []byte) (Chunk, error) {
	c, _, err := unpack(packed)
	return c, err
}

// openChunk checks and reads all but the events, at which it leaves the reader.
func openChunk(packed []byte) (Chunk, *wire.Reader, error) {
	body := len(packed) - checksumBytes
	if body < 0 || binary.BigEndian.Uint32(packed[body:]) != crc32.Checksum(packed[:body], castagnoli) {
		return Chunk{}, nil, fmt.Errorf("%w: wrong checksum of a history chunk", wire.ErrMalformed)
	}
	r := wire.NewReader(packed[:body])
	if v := r.Byte(); v != chunkFormat {
		r.Fail("unknown format %d of a history chunk", v)
	}
	c := Chunk{First: op.Zxid(r.Uint()), Size: len(packed), Bytes: packed}
	span := op.Zxid(r.Uint())
	c.Last = c.First + span
	if c.Last < span {
		r.Fail("a history chunk beyond the last zxid")
	}
	c.Events = r.Count(minEventBytes)
	return c, r, r.Err()
}

// unpack returns the events of a packed chunk.
func unpack(packed []byte) (Chunk, []op.Event, error) {
	c, r, err := openChunk(packed)
	if err != nil {
		return Chunk{}, nil, err
	}
	u := unpacker{Reader: r, zxid: c.First, last: c.Last, ids: make(map[uint64]bool)}
	events := make([]op.Event, c.Events)
	for i := range events {
		events[i] = u.event()
	}
	return c, events, r.Done()
}

type unpacker struct {
	*wire.Reader
	zxid, last op.Zxid
	acls       []*op.ACLRef
	ids        map[uint64]bool // of acls
}

func (u *unpacker) event() op.Event {
	step := op.Zxid(u.Uint())
	if step > u.last-u.zxid {
		u.Fail("an event beyond the end of its chunk")
		return op.Event{}
	}
	u.zxid += step
	what := u.Byte()
	ev := op.Event{Zxid: u.zxid, Type: op.EventType(what & 15), Kind: op.NodeKind(what >> 4)}
	if ev.Type < op.Created || ev.Type > op.ACLChanged || ev.Kind > op.TTL {
		u.Fail("an event of type %d on a node of kind %d", what&15, what>>4)
	}
	ev.Path, ev.Version, ev.ACL = u.String(), u.Int32(), u.acl()
	return ev
}

func (u *unpacker) acl() *op.ACLRef {
	i := u.Uint()
	switch n := uint64(len(u.acls)); {
	case i < n:
		return u.acls[i]
	case i > n:
		u.Fail("ACL %d of %d", i, n)
		return nil
	}
	id := u.Uint()
	if u.ids[id] {
		u.Fail("ACL %d for the second time", id)
	}
	ref := &op.ACLRef{ID: id, List: op.DecodeACL(u.Reader)}
	u.acls = append(u.acls, ref)
	u.ids[id] = true
	return ref
}

// packer builds the events part of a chunk.
type packer struct {
	first op.Zxid // that the chunk covers
	zxid  op.Zxid // of the event packed last; first before that
	count int
	buf   []byte
	acls  map[uint64]uint64 // position of each list by its id
}

// reset makes p empty, for a chunk that begins at first.
func (p *packer) reset(first op.Zxid) {
	p.first, p.zxid, p.count, p.buf = first, first, 0, p.buf[:0]
	if p.acls == nil {
		p.acls = make(map[uint64]uint64)
	}
	clear(p.acls)
}

func (p *packer) add(ev *op.Event) {
	p.buf = wire.Uint(p.buf, uint64(ev.Zxid-p.zxid))
	p.buf = append(p.buf, byte(ev.Kind)<<4|byte(ev.Type))
	p.buf = wire.String(p.buf, ev.Path)
	p.buf = wire.Int(p.buf, int64(ev.Version))
	p.addACL(ev.ACL)
	p.zxid = ev.Zxid
	p.count++
}

func (p *packer) addACL(ref *op.ACLRef) {
	i, known := p.acls[ref.ID]
	if !known {
		i = uint64(len(p.acls))
		p.acls[ref.ID] = i
	}
	p.buf = wire.Uint(p.buf, i)
	if !known {
		p.buf = op.AppendACL(wire.Uint(p.buf, ref.ID), ref.List)
	}
}

// seal returns the chunk that covers what was added and reaches up to last.
func (p *packer) seal(seq uint64, last op.Zxid) Chunk {
	const headerBytes = 1 + 3*binary.MaxVarintLen64
	b := make([]byte, 0, headerBytes+len(p.buf)+checksumBytes)
	b = append(b, chunkFormat)
	b = wire.Uint(b, uint64(p.first))
	b = wire.Uint(b, uint64(last-p.first))
	b = wire.Uint(b, uint64(p.count))
	b = append(b, p.buf...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return Chunk{Seq: seq, First: p.first, Last: last, Events: p.count, Size: len(b), Bytes: b}
}
