package storage

import (
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"
)

// TestFacts writes every fact and reads it back, on the real disk.
func TestFacts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	open := func() (*Store, *Recovered) {
		s, r, err := Open(Options{Dir: dir, SegmentBytes: 4096})
		must(t, err)
		return s, r
	}
	s, r := open()
	if !r.Fresh || r.Identity.MemberID != 0 {
		t.Errorf("a new directory is %+v", r.Identity)
	}
	if err := s.Found(1, nil); err == nil {
		t.Error("a member without an id has a cluster")
	}
	if err := s.Append(nil, entries(1, 1, 1, 1), true); !errors.Is(err, errNoCluster) {
		t.Errorf("appending without a cluster: %v", err)
	}
	must(t, s.Identify(5, "five"))
	if err := s.Identify(6, "six"); err == nil {
		t.Error("the directory changed hands")
	}
	must(t, s.Close())

	s, r = open()
	if r.Fresh || r.Identity.MemberID != 5 || r.Identity.Name != "five" || r.Identity.ClusterID != 0 {
		t.Errorf("identified, it is %+v", r.Identity)
	}
	conf := &pb.ConfState{Voters: []uint64{5, 7}, Learners: []uint64{8}, VotersOutgoing: []uint64{5}, LearnersNext: []uint64{9}, AutoLeave: new(true)}
	must(t, s.Found(77, conf))
	if err := s.Found(78, conf); err == nil {
		t.Error("the cluster changed")
	}
	for want := uint64(1); want <= 3; want++ {
		if n, err := s.NextBoot(); n != want || err != nil {
			t.Errorf("boot %d, %v; want %d", n, err, want)
		}
	}
	peers := map[uint64]Peer{7: {Boot: 3, Acked: 1 << 40}, 1 << 63: {Boot: 1}}
	must(t, s.SavePeers(map[uint64]Peer{9: {}}))
	must(t, s.SavePeers(peers))
	must(t, s.SaveConf(Conf{Index: 12, ConfState: voters(1, 2)}))
	must(t, s.Append(hardState(4, 7, 2), entries(1, 3, 4, 10), true))
	must(t, s.Close())

	s, r = open()
	defer s.Close()
	if r.Identity.ClusterID != 77 || r.Identity.ConfState.Equivalent(conf) != nil || !r.Identity.ConfState.GetAutoLeave() {
		t.Errorf("founded, it is %+v", r.Identity)
	}
	if err := r.ConfState.Equivalent(conf); err != nil {
		t.Errorf("raft would start from %v", err)
	}
	if r.Boot != 3 || !maps.Equal(r.Peers, peers) || r.Newest.Index != 12 || !slices.Equal(r.Newest.ConfState.Voters, []uint64{1, 2}) {
		t.Errorf("boot %d, peers %v, newest configuration %v", r.Boot, r.Peers, r.Newest)
	}
	if r.HardState.GetTerm() != 4 || r.HardState.GetVote() != 7 || r.HardState.GetCommit() != 2 || show(r.Entries) != "1-3@4" {
		t.Errorf("%v and %s", r.HardState, show(r.Entries))
	}
}

// TestChunks: what begins after the checkpoint is made anew by replay, so a start drops it.
func TestChunks(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	chunk := func(seq, first, last uint64) Chunk {
		return Chunk{ChunkInfo{Seq: seq, First: first, Last: last}, []byte{byte(seq)}}
	}
	must(t, s.CommitChunks(ChunkChange{Add: []Chunk{chunk(1, 1, 20), chunk(2, 21, 39)}}))
	must(t, s.Append(hardState(1, 0, 4), entries(1, 4, 1, 1), true))
	info, err := checkpointAt(s, 4, 1) // zxid 40
	must(t, err)
	must(t, s.CommitCheckpoint(info, 0, ChunkChange{Add: []Chunk{chunk(3, 40, 45)}, Drop: []uint64{1}}))
	must(t, s.CommitChunks(ChunkChange{Add: []Chunk{chunk(4, 46, 50)}}))
	for seq, want := range map[uint64]string{1: "", 2: "\x02", 4: "\x04", 9: ""} {
		if b, err := s.Chunk(seq); string(b) != want || err != nil {
			t.Errorf("chunk %d is %q, %v", seq, b, err)
		}
	}
	must(t, s.Close())
	s, r := reopened(t, d)
	defer s.Close()
	want := []ChunkInfo{{2, 21, 39, 1, 0}, {3, 40, 45, 1, 0}}
	if !slices.Equal(r.Chunks, want) {
		t.Errorf("after the start there are %v", r.Chunks)
	}
	if b, err := s.Chunk(4); b != nil || err != nil {
		t.Errorf("the chunk after the checkpoint is %q, %v", b, err)
	}
}

func TestImpossibleAppendsPanic(t *testing.T) {
	for name, es := range map[string][]*pb.Entry{
		"a gap before":       entries(6, 6, 1, 1),
		"a gap within":       {entry(4, 1, 1), entry(6, 1, 1)},
		"not above the base": entries(3, 3, 1, 1),
		"index zero":         entries(0, 0, 1, 1),
		"backwards":          {entry(5, 1, 1), entry(4, 1, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			s := founded(t, newDisk())
			info, content := snapshotFor(t, 3, 1)
			got, err := receive(s, info, content)
			must(t, err)
			must(t, s.InstallSnapshot(nil, got, nil))
			must(t, s.Append(nil, entries(4, 4, 1, 1), true))
			defer func() {
				if recover() == nil {
					t.Error("it was written")
				}
			}()
			_ = s.Append(nil, es, true)
		})
	}
}

func TestClosedStore(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	must(t, s.Close())
	must(t, s.Close())
	if err := s.Append(nil, nil, true); !errors.Is(err, ErrClosed) || errors.Is(err, ErrDisk) {
		t.Errorf("appending to a closed store: %v", err)
	}
	if _, err := s.NextBoot(); !errors.Is(err, ErrClosed) {
		t.Errorf("booting a closed store: %v", err)
	}
}

func TestStatsAndObserver(t *testing.T) {
	var now time.Duration
	var seen []time.Duration
	d := newDisk()
	o := d.options()
	o.Now = func() time.Duration { now += time.Millisecond; return now }
	o.ObserveSync = func(d time.Duration) { seen = append(seen, d) }
	s, _, err := Open(o)
	must(t, err)
	must(t, s.Identify(testMember, "a"))
	must(t, s.Found(testCluster, nil))
	seen = nil
	before := s.Stats()
	must(t, s.Append(nil, entries(1, 1, 1, 100), true))
	must(t, s.Reserve(5000))
	info, err := checkpointAt(s, 1, 1)
	must(t, err)
	must(t, s.CommitCheckpoint(info, 0, ChunkChange{}))
	after := s.Stats()
	if after.Log.Syncs != before.Log.Syncs+1 || after.Log.Appends != before.Log.Appends+1 || len(seen) != 1 || seen[0] != time.Millisecond {
		t.Errorf("one append: %+v, then %+v; observed %v", before.Log, after.Log, seen)
	}
	if after.Log.Written < before.Log.Written+100 || after.Log.Bytes != 1024 || after.Log.Files != 1 {
		t.Errorf("log: %+v", after.Log)
	}
	if after.Reserved != 5000 || after.Checkpoint != info.Size || after.Manifest <= before.Manifest {
		t.Errorf("after all: %+v", after)
	}
}

// TestCheckpointsBesideAppends runs the loop and the checkpoint writer as a member does, on the real disk.
func TestCheckpointsBesideAppends(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	o := Options{Dir: dir, SegmentBytes: 4096}
	s, _, err := Open(o)
	must(t, err)
	must(t, s.Identify(testMember, "a"))
	must(t, s.Found(testCluster, voters(testMember)))
	const last = 300
	done := make(chan uint64, last)
	g, _ := errgroup.WithContext(context.Background())
	g.Go(func() error {
		defer close(done)
		for i := uint64(1); i <= last; i++ {
			if err := s.Append(hardState(1, 0, i), entries(i, i, 1, 100), i%3 == 0); err != nil {
				return err
			}
			done <- i
			s.Stats()
		}
		return s.Quiet()
	})
	g.Go(func() error {
		for i := range done {
			if i%16 != 0 {
				continue
			}
			info, err := checkpointAt(s, i, 1)
			if err == nil {
				err = s.CommitCheckpoint(info, i-8, ChunkChange{Add: []Chunk{{ChunkInfo{Seq: i}, []byte("x")}}, Drop: []uint64{i - 32}})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		for range 50 {
			c, err := s.OpenCheckpoint()
			if errors.Is(err, ErrNoCheckpoint) {
				continue
			}
			if err != nil {
				return err
			}
			r, err := c.Reader()
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err == nil {
				_, err = s.Chunk(c.Info.Index)
			}
			if err := errors.Join(err, c.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, g.Wait())
	must(t, s.Close())
	s, r, err := Open(o)
	must(t, err)
	defer s.Close()
	if r.Base.Index+uint64(len(r.Entries)) != last || r.Checkpoint.Index != last/16*16 || r.Base.Index == 0 || r.Cut.Bytes != 0 {
		t.Errorf("log after %d of %d entries, checkpoint %d, cut %v", r.Base.Index, len(r.Entries), r.Checkpoint.Index, r.Cut)
	}
}
