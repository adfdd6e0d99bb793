package storage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chain is the checksum of p when the checksum of what comes before it is prev.
func chain(prev uint32, p []byte) uint32 { return crc32.Update(prev, castagnoli, p) }

var errMalformed = errors.New("malformed value")

// decoder takes a value apart. After the first thing that doesn't fit it returns zeros, and done says so.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns a part of the value itself.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, n)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *decoder) fail() { d.b, d.bad = nil, true }

// done reports whether everything fitted and nothing is left.
func (d *decoder) done() error {
	if d.bad || len(d.b) > 0 {
		return errMalformed
	}
	return nil
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func appendIDs(b []byte, ids []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint64(b, id)
	}
	return b
}

func (d *decoder) ids() []uint64 {
	n := d.uvarint()
	if n > uint64(len(d.b)/8) {
		d.fail()
		return nil
	}
	var ids []uint64
	for range n {
		ids = append(ids, d.u64())
	}
	return ids
}

// appendConf encodes a configuration; nil is encoded as the empty one.
func appendConf(b []byte, cs *pb.ConfState) []byte {
	for _, ids := range [][]uint64{cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext()} {
		b = appendIDs(b, ids)
	}
	if cs.GetAutoLeave() {
		return append(b, 1)
	}
	return append(b, 0)
}

func (d *decoder) conf() *pb.ConfState {
	cs := &pb.ConfState{Voters: d.ids(), Learners: d.ids(), VotersOutgoing: d.ids(), LearnersNext: d.ids()}
	switch d.take(1)[0] {
	case 0:
	case 1:
		cs.AutoLeave = new(true)
	default:
		d.fail()
	}
	return cs
}

func cloneConf(cs *pb.ConfState) *pb.ConfState {
	c := &pb.ConfState{
		Voters:         slices.Clone(cs.GetVoters()),
		Learners:       slices.Clone(cs.GetLearners()),
		VotersOutgoing: slices.Clone(cs.GetVotersOutgoing()),
		LearnersNext:   slices.Clone(cs.GetLearnersNext()),
	}
	if cs.GetAutoLeave() {
		c.AutoLeave = new(true)
	}
	return c
}

func appendHardState(b []byte, hs *pb.HardState) []byte {
	b = binary.LittleEndian.AppendUint64(b, hs.GetTerm())
	b = binary.LittleEndian.AppendUint64(b, hs.GetVote())
	return binary.LittleEndian.AppendUint64(b, hs.GetCommit())
}

func (d *decoder) hardState() *pb.HardState {
	return hardState(d.u64(), d.u64(), d.u64())
}

func hardState(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}
