package storage

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/vfs"
)

// replay is what the files of a log amount to.
type replay struct {
	base    Position    // before the first entry
	entries []*pb.Entry // consecutive
	state   *pb.HardState
	pending *Position // a snapshot whose install is the log's last word

	files []walFile
	tail  *segment // the last file
	buf   []byte   // its content

	durable int64 // what of the last file is known to be durable; set by cut
}

// Cut tells of a torn tail: bytes above the watermark that a power loss left behind, and that were removed.
type Cut struct {
	File   string
	Offset int64
	Bytes  int64 // 0: nothing was cut
	Reason string
}

// readLog reads the files of the log that belong together: the last, and those before it without a gap. Files before a gap are
// returned as strays; they are left over from a removal that the disk lost, if the log reaches far enough back without them.
func readLog(fsys vfs.FS, dir string, want ids, names []string) (r *replay, strays []string, err error) {
	seqs, strays := consecutive(names)
	r = &replay{}
	for _, seq := range seqs {
		if err := r.readFile(fsys, path.Join(dir, segmentFile(seq)), seq, want); err != nil {
			return nil, nil, err
		}
	}
	return r, strays, nil
}

// consecutive returns the numbers of the files that end the log, in order, and the names of the others.
func consecutive(names []string) (seqs []uint64, strays []string) {
	slices.Sort(names)
	for _, name := range names {
		seq, err := strconv.ParseUint(segmentName.FindStringSubmatch(name)[1], 10, 64)
		if err != nil {
			panic(err) // 16 digits always fit
		}
		if n := len(seqs); n > 0 && seqs[n-1]+1 != seq {
			for _, old := range seqs {
				strays = append(strays, segmentFile(old))
			}
			seqs = nil
		}
		seqs = append(seqs, seq)
	}
	return seqs, strays
}

func (r *replay) readFile(fsys vfs.FS, name string, seq uint64, want ids) error {
	f, buf, err := openWhole(fsys, name, r.buf)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := parseSegment(name, buf)
	if err != nil {
		return err
	}
	if s.header.ids != want {
		return otherMember(name, s.header.ids, want)
	}
	if s.header.seq != seq {
		return &CorruptError{name, preamble, fmt.Sprintf("it is file %d of the log under another name", s.header.seq)}
	}
	if err := r.join(name, s); err != nil {
		return err
	}
	r.buf, r.tail = buf, s
	r.files = append(r.files, walFile{seq: seq, size: int64(len(buf))})
	return r.apply(name, s)
}

func otherMember(name string, have, want ids) error {
	return &RefusedError{name, fmt.Sprintf("it belongs to member %016x of cluster %016x, and the directory to member %016x of cluster %016x",
		have.member, have.cluster, want.member, want.cluster), "put back the files that belong together"}
}

// join checks that the file goes on where the one before it ends, which was durable before this one was made.
func (r *replay) join(name string, s *segment) error {
	if r.tail == nil {
		r.base, r.state = s.header.base, s.header.state
		return nil
	}
	if prev := r.tail; prev.end != s.header.prevEnd || prev.crc != s.header.prevCRC {
		reason := prev.damage
		if reason == "" {
			reason = fmt.Sprintf("the log ends here, and %s goes on from byte %d", path.Base(name), s.header.prevEnd)
		}
		before := path.Join(path.Dir(name), segmentFile(prev.header.seq))
		return &CorruptError{before, min(prev.end, s.header.prevEnd), reason}
	}
	r.resolve(true)
	r.state = s.header.state
	return nil
}

func (r *replay) apply(name string, s *segment) error {
	off := int64(segmentStart)
	for _, rec := range s.records {
		if err := r.applyRecord(rec); err != nil {
			return &CorruptError{name, off, err.Error()}
		}
		off = rec.end
	}
	return nil
}

func (r *replay) applyRecord(rec record) error {
	r.resolve(rec.kind != kindVoid)
	d := decoder{b: rec.payload}
	switch rec.kind {
	case kindEntries:
		return r.applyEntries(rec.payload)
	case kindState:
		r.state = d.hardState()
	case kindInstall:
		r.pending = new(d.position())
	case kindVoid:
	default:
		return fmt.Errorf("a record of kind %d, which this program doesn't know: start a newer version of coord", rec.kind)
	}
	return d.done()
}

// resolve ends the wait for the outcome of an install. One that took place makes the log begin anew.
func (r *replay) resolve(took bool) {
	if r.pending != nil && took {
		r.base, r.entries = *r.pending, nil
		if r.state.GetCommit() < r.base.Index {
			r.state = hardState(r.state.GetTerm(), r.state.GetVote(), r.base.Index)
		}
	}
	r.pending = nil
}

func (r *replay) applyEntries(payload []byte) error {
	entries, err := parseEntries(payload)
	if err != nil {
		return err
	}
	first, last := entries[0].GetIndex(), entries[len(entries)-1].GetIndex()
	if first > r.last().Index+1 {
		return fmt.Errorf("entry %d follows entry %d", first, r.last().Index)
	}
	f := &r.files[len(r.files)-1]
	f.max = max(f.max, last)
	if first <= r.base.Index {
		// These replaced entries of a file that is gone by now, so what is lacking is the term before them.
		// The first of them takes that place; it is not above the checkpoint, or that file would still be here.
		r.base, r.entries = Position{first, entries[0].GetTerm()}, entries[1:]
		return nil
	}
	r.entries = append(r.entries[:first-r.base.Index-1], entries...)
	return nil
}

func (r *replay) last() Position {
	if n := len(r.entries); n > 0 {
		return Position{r.entries[n-1].GetIndex(), r.entries[n-1].GetTerm()}
	}
	return r.base
}

// term returns the term of the entry at index, if the log knows it.
func (r *replay) term(index uint64) (uint64, bool) {
	switch {
	case index == r.base.Index:
		return r.base.Term, true
	case index < r.base.Index || index > r.last().Index:
		return 0, false
	}
	return r.entries[index-r.base.Index-1].GetTerm(), true
}

// cut decides what the end of the log is: as far as the mark reaches it must be whole, and what is damaged above is torn.
func (r *replay) cut(dir string, mark watermark) (Cut, error) {
	seq, name := r.tail.header.seq, path.Join(dir, segmentFile(r.tail.header.seq))
	if mark.seq > seq {
		return Cut{}, &CorruptError{path.Join(dir, segmentFile(mark.seq)), -1,
			fmt.Sprintf("it is missing, and the watermark says that the log reached its byte %d", mark.off)}
	}
	r.durable = r.tail.mark
	if mark.seq == seq {
		r.durable = max(r.durable, mark.off)
	}
	if r.tail.end < r.durable {
		reason := r.tail.damage
		if reason == "" {
			reason = "the log ends here"
		}
		return Cut{}, &CorruptError{name, r.tail.end, fmt.Sprintf("%s, and it was durable up to byte %d", reason, r.durable)}
	}
	if r.tail.damage == "" {
		return Cut{}, nil
	}
	return Cut{File: name, Offset: r.tail.end, Bytes: r.tail.used - r.tail.end, Reason: r.tail.damage}, nil
}
