package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Recovered is what a data directory held when it was opened. The receiver may keep it; the store doesn't.
type Recovered struct {
	Fresh    bool // the directory is nobody's yet: Identify comes next
	Identity Identity
	Boot     uint64 // the number of the last life

	// Raft starts from these. Before the first checkpoint, ConfState is the one that the log begins with.
	HardState *pb.HardState
	ConfState *pb.ConfState
	Base      Position    // the entry before Entries
	Entries   []*pb.Entry // all that the log has, some of which may be below the checkpoint

	Checkpoint *Info // nil: none yet; its content is read by OpenCheckpoint

	Newest Conf            // by SaveConf; of index 0 if there was none
	Peers  map[uint64]Peer // by SavePeers
	Chunks []ChunkInfo     // those whose first event is not after the checkpoint, in order

	Cut  Cut  // what was cut from the end of the log
	Torn bool // something was cut, now or at an earlier start, and Whole has not been called since
}

// Open opens a data directory, or makes it. What a crash leaves behind is repaired; what no crash can leave behind is a
// CorruptError, and what must not be used a RefusedError, and then nothing is changed.
func Open(o Options) (*Store, *Recovered, error) {
	o = o.filled()
	if err := prepareDir(o.FS, o.Dir); err != nil {
		return nil, nil, err
	}
	lock, err := lockDir(o.FS, o.Dir)
	if err != nil {
		return nil, nil, err
	}
	s := &Store{fs: o.FS, dir: o.Dir, log: o.Logger, opt: o, lock: lock}
	r, err := s.recover()
	if err != nil {
		s.abandon()
		return nil, nil, explain(o.Dir, err)
	}
	return s, r, nil
}

// explain adds to damage what to do about it.
func explain(dir string, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		return fmt.Errorf("couldn't open the data directory: %w; nothing in it was changed: keep %s, and replace this member, or restore a backup if it is the only one", err, dir)
	}
	return fmt.Errorf("couldn't open the data directory: %w", err)
}

// abandon gives up what a failed Open holds.
func (s *Store) abandon() {
	if s.wal != nil {
		s.wal.closeFiles()
	}
	if s.values != nil {
		s.values.m.Close()
	}
	s.lock.Close()
}

// listing is what stands in the directory, by kind.
type listing struct {
	segments    []string
	checkpoints []string
	mark        bool
	reserve     int64
}

// list also removes what never got its name.
func (s *Store) list() (listing, error) {
	var l listing
	infos, err := s.fs.List(s.dir)
	if err != nil {
		return l, err
	}
	for _, i := range infos {
		switch {
		case strings.HasSuffix(i.Name, tempSuffix):
			if err := s.fs.Remove(s.path(i.Name)); err != nil {
				return l, fmt.Errorf("couldn't remove what was never completed: %w", err)
			}
		case segmentName.MatchString(i.Name):
			l.segments = append(l.segments, i.Name)
		case checkpointName.MatchString(i.Name):
			l.checkpoints = append(l.checkpoints, i.Name)
		case i.Name == markName:
			l.mark = true
		case i.Name == reserveName:
			l.reserve = i.Size
		}
	}
	return l, nil
}

func (s *Store) recover() (*Recovered, error) {
	files, err := s.list()
	if err != nil {
		return nil, err
	}
	s.reserved.Store(files.reserve)
	if err := s.openManifest(files); err != nil {
		return nil, err
	}
	r, err := s.readFacts()
	if err != nil {
		return nil, err
	}
	if s.identity.ClusterID == 0 {
		return r, s.recoverUnfounded(files)
	}
	if err := s.recoverLog(r, files); err != nil {
		return nil, err
	}
	return r, s.dropLaterChunks(r)
}

func (s *Store) openManifest(files listing) error {
	empty := len(files.segments) == 0 && len(files.checkpoints) == 0 && !files.mark
	m, err := s.opt.Manifest(s.dir, empty)
	if errors.Is(err, fs.ErrNotExist) {
		return &RefusedError{s.path(manifestName), "the file is missing, and the member's log is here",
			"put it back together with the files that it belongs to, or replace this member"}
	}
	if err != nil {
		return err
	}
	s.values, err = openValues(m, s.dir, &s.latch)
	if err != nil {
		m.Close()
		return err
	}
	s.values.measure = s.opt.measureCommit
	return nil
}

// readFacts reads all values of the manifest but the chunks' data.
func (s *Store) readFacts() (*Recovered, error) {
	r := &Recovered{HardState: hardState(0, 0, 0), ConfState: &pb.ConfState{}, Newest: Conf{ConfState: &pb.ConfState{}}, Peers: map[uint64]Peer{}}
	if err := s.readIdentity(); err != nil {
		return nil, err
	}
	facts := []struct {
		key   string
		parse func([]byte) error
	}{
		{bootKey, func(b []byte) (err error) { s.boot, err = parseBoot(b); return err }},
		{confKey, func(b []byte) (err error) { r.Newest, err = parseConf(b); return err }},
		{peersKey, func(b []byte) (err error) { r.Peers, err = parsePeers(b); return err }},
		{checkpointKey, func(b []byte) (err error) { s.current, err = parseCheckpoint(b); return err }},
		{tornKey, func([]byte) error { r.Torn = true; return nil }},
	}
	for _, f := range facts {
		if err := s.readFact(f.key, f.parse); err != nil {
			return nil, err
		}
	}
	for _, key := range s.values.keys(chunkInfoPrefix) {
		err := s.readFact(key, func(b []byte) error {
			c, err := parseChunkInfo(b)
			r.Chunks = append(r.Chunks, c)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	r.Identity, r.Boot, r.Checkpoint, r.Fresh = s.identity, s.boot, s.current, s.identity.MemberID == 0
	return r, nil
}

func (s *Store) readFact(key string, parse func([]byte) error) error {
	b, err := s.values.get(key)
	if b == nil || err != nil {
		return err
	}
	if err := parse(b); err != nil {
		return s.values.corrupt(key, "is "+err.Error())
	}
	return nil
}

func (s *Store) readIdentity() error {
	var version uint32
	err := s.readFact(identityKey, func(b []byte) (err error) {
		s.identity, version, err = parseIdentity(b)
		return err
	})
	if err == nil && version > manifestVersion {
		err = &RefusedError{s.values.name, fmt.Sprintf("its format is %d, and this program knows only %d", version, manifestVersion),
			"start the version of coord that wrote it, or a newer one"}
	}
	return err
}

// recoverUnfounded removes what Found left when a crash interrupted it: a log without an entry. Anything more belongs to a
// cluster of which the manifest should know.
func (s *Store) recoverUnfounded(files listing) error {
	strange := slices.Clone(files.checkpoints)
	for _, name := range files.segments {
		f, buf, err := openWhole(s.fs, s.path(name), nil)
		if err != nil {
			return err
		}
		f.Close()
		if seg, err := parseSegment(s.path(name), buf); err != nil || seg.used > segmentStart {
			strange = append(strange, name)
		}
	}
	if len(strange) > 0 {
		return &RefusedError{s.path(strange[0]), "it holds a member's data, and the manifest knows of no cluster",
			"put the files back together that belong together"}
	}
	if files.mark {
		files.segments = append(files.segments, markName)
	}
	for _, name := range files.segments {
		if err := s.fs.Remove(s.path(name)); err != nil {
			return fmt.Errorf("couldn't remove what was never used: %w", err)
		}
	}
	return nil
}

// recoverLog reads everything first, and changes files only when all fits together.
func (s *Store) recoverLog(r *Recovered, files listing) error {
	if !files.mark {
		return &CorruptError{s.path(markName), -1, "it is missing"}
	}
	if len(files.segments) == 0 {
		return &CorruptError{s.path("wal-*.log"), -1, "no file of the log is here"}
	}
	w := s.newWAL(s.identity)
	mark, err := openMark(s.fs, s.path(markName))
	if err != nil {
		return err
	}
	w.mark, s.wal = mark, w
	if mark.last.ids != w.ids {
		return otherMember(s.path(markName), mark.last.ids, w.ids)
	}
	log, strays, err := readLog(s.fs, s.dir, w.ids, files.segments)
	if err != nil {
		return err
	}
	if r.Cut, err = log.cut(s.dir, mark.last); err != nil {
		return err
	}
	void := log.pending != nil && (s.current == nil || s.current.Position != *log.pending)
	log.resolve(!void)
	if err := s.checkReach(log); err != nil {
		return err
	}
	if err := s.checkCheckpoint(); err != nil {
		return err
	}
	s.fill(r, log)
	r.Torn = r.Torn || r.Cut.Bytes > 0
	log.state = r.HardState
	return s.repair(log, r.Cut, void, append(strays, s.unnamed(files.checkpoints)...))
}

// checkReach makes sure that log and checkpoint together leave no gap.
func (s *Store) checkReach(log *replay) error {
	first, last := s.path(segmentFile(log.files[0].seq)), s.path(segmentFile(log.tail.header.seq))
	at := Position{}
	if s.current != nil {
		at = s.current.Position
	}
	term, known := log.term(at.Index)
	switch {
	case at.Index < log.base.Index:
		return &CorruptError{first, preamble, fmt.Sprintf("the log goes on from entry %d, and the checkpoint is of entry %d: files before this one are missing", log.base.Index, at.Index)}
	case at.Index > log.last().Index:
		return &CorruptError{last, log.tail.end, fmt.Sprintf("the log ends with entry %d, and the checkpoint is of entry %d", log.last().Index, at.Index)}
	case known && term != at.Term:
		return &CorruptError{last, -1, fmt.Sprintf("entry %d is of term %d in the log, and of term %d in the checkpoint", at.Index, term, at.Term)}
	case log.state.GetCommit() > log.last().Index:
		return &CorruptError{last, log.tail.end, fmt.Sprintf("the log ends with entry %d, and entry %d is known to be committed", log.last().Index, log.state.GetCommit())}
	}
	return nil
}

// checkCheckpoint makes sure that the current checkpoint is there and begins as it should. Its blocks are verified as they are read.
func (s *Store) checkCheckpoint() error {
	if s.current == nil {
		return nil
	}
	c, err := s.OpenCheckpoint()
	if errors.Is(err, fs.ErrNotExist) {
		return &CorruptError{s.path(s.current.File), -1, "the checkpoint is missing"}
	}
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Reader()
	return err
}

// fill says what raft starts from. Raft panics on a commit index below what is applied, so the checkpoint raises it.
func (s *Store) fill(r *Recovered, log *replay) {
	r.Base, r.Entries, r.ConfState = log.base, log.entries, s.identity.ConfState
	r.HardState = log.state
	if c := s.current; c != nil {
		r.ConfState = c.ConfState
		r.HardState = hardState(log.state.GetTerm(), log.state.GetVote(), max(log.state.GetCommit(), c.Index))
	}
}

// repair brings the files in the order that was read out of them.
func (s *Store) repair(log *replay, cut Cut, void bool, useless []string) error {
	if cut.Bytes > 0 {
		s.cut = cut.Bytes
		if err := s.values.commit(map[string][]byte{tornKey: {}}, nil); err != nil { // before nobody can see it any more
			return err
		}
		s.log.Warn("cut the torn end of the log", "file", cut.File, "offset", cut.Offset, "bytes", cut.Bytes, "reason", cut.Reason)
	}
	if err := s.wal.resume(log); err != nil {
		return err
	}
	if void {
		if err := s.wal.void(); err != nil {
			return err
		}
	}
	for _, name := range useless {
		s.remove(s.path(name))
	}
	return nil
}

// unnamed returns the checkpoint files that the manifest doesn't name.
func (s *Store) unnamed(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(name string) bool {
		return s.current != nil && path.Base(s.current.File) == name
	})
}

// dropLaterChunks drops the history that replay makes anew, and what a snapshot left that never came to be installed. A chunk that
// reaches over the checkpoint stays, for the caller to shorten.
func (s *Store) dropLaterChunks(r *Recovered) error {
	var zxid uint64
	if s.current != nil {
		zxid = s.current.Zxid
	}
	var later ChunkChange
	r.Chunks = slices.DeleteFunc(r.Chunks, func(c ChunkInfo) bool {
		if c.First > zxid {
			later.Drop = append(later.Drop, c.Seq)
		}
		return c.First > zxid
	})
	for _, key := range s.values.keys(chunkPrefix) { // staged, and never installed
		seq := chunkNumber(key, chunkPrefix)
		if _, counts := s.values.sum(chunkInfoKey(seq)); !counts {
			later.Drop = append(later.Drop, seq)
		}
	}
	if later.Drop == nil {
		return nil
	}
	return s.CommitChunks(later)
}
