package storage

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/coord-kv/coord/internal/vfs"
)

var someHeader = Header{
	ClusterID: 1, Position: Position{64, 3}, Zxid: 99, Digest: [16]byte{1, 2}, ConfState: voters(1, 2, 3), Meta: []byte("level 4"),
}

func checkpointBytes(t testing.TB, h *Header, content []byte) ([]byte, *Info) {
	t.Helper()
	var b bytes.Buffer
	info, err := writeCheckpoint(&b, h, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	must(t, err)
	return b.Bytes(), info
}

func TestCheckpointStream(t *testing.T) {
	for _, size := range []int{0, 1, blockSize - 1, blockSize, blockSize + 1, 3*blockSize + 7} {
		content := make([]byte, size)
		seeded := rand.NewChaCha8([32]byte{1})
		seeded.Read(content)
		b, info := checkpointBytes(t, &someHeader, content)
		if info.Size != int64(len(b)) {
			t.Errorf("content of %d: the size is %d, and the info says %d", size, len(b), info.Size)
		}
		stream := io.MultiReader(iotest.HalfReader(bytes.NewReader(b)), strings.NewReader("what follows"))
		r, err := NewCheckpointReader(stream, "x")
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		if !bytes.Equal(got, content) {
			t.Errorf("content of %d bytes came back as %d others", size, len(got))
		}
		if h := r.Header(); !bytes.Equal(h.appendTo(nil), someHeader.appendTo(nil)) {
			t.Errorf("the header came back as %+v", h)
		}
		if r.Info().Sum != info.Sum || r.Info().Size != info.Size {
			t.Errorf("read as %d bytes of %x, written as %d of %x", r.Info().Size, r.Info().Sum, info.Size, info.Sum)
		}
		if rest, _ := io.ReadAll(stream); string(rest) != "what follows" {
			t.Errorf("the reader took %d bytes behind the checkpoint", len("what follows")-len(rest))
		}
	}
}

// TestCheckpointHandsOutNothingUnverified damages a block and sees only the blocks before it.
func TestCheckpointHandsOutNothingUnverified(t *testing.T) {
	b, _ := checkpointBytes(t, &someHeader, bytes.Repeat([]byte("x"), 3*blockSize))
	b[len(b)-trailerSize-blockSize-100] ^= 1 // in the second block
	r, err := NewCheckpointReader(bytes.NewReader(b), "x")
	must(t, err)
	got, err := io.ReadAll(r)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || len(got) != blockSize {
		t.Errorf("%d bytes and %v; want the first block and an error", len(got), err)
	}
	if corrupt.Offset < blockSize || corrupt.Offset > 2*blockSize {
		t.Errorf("the error is about byte %d", corrupt.Offset)
	}
}

// TestCheckpointBlocksCannotBeMoved exchanges two whole blocks, leaves one out, and doubles one.
func TestCheckpointBlocksCannotBeMoved(t *testing.T) {
	content := append(bytes.Repeat([]byte("a"), blockSize), bytes.Repeat([]byte("b"), blockSize)...)
	b, _ := checkpointBytes(t, &someHeader, content)
	n := blockFrame + blockSize
	first := len(b) - trailerSize - 2*n
	head, one, two, tail := b[:first], b[first:first+n], b[first+n:first+2*n], b[first+2*n:]
	for name, parts := range map[string][][]byte{
		"exchanged": {head, two, one, tail},
		"left out":  {head, one, tail},
		"doubled":   {head, one, one, two, tail},
	} {
		r, err := NewCheckpointReader(bytes.NewReader(bytes.Join(parts, nil)), "x")
		must(t, err)
		if _, err = io.Copy(io.Discard, r); err == nil {
			t.Errorf("a block %s was not noticed", name)
		}
	}
}

func TestCheckpointErrorsOfOthersPassThrough(t *testing.T) {
	boom := errors.New("boom")
	d := newDisk()
	s := founded(t, d)
	must(t, s.Append(nil, entries(1, 2, 1, 10), true))
	h := Header{Position: Position{1, 1}}
	_, err := s.WriteCheckpoint(h, nil, func(io.Writer) error { return boom })
	if !errors.Is(err, boom) || errors.Is(err, ErrDisk) {
		t.Errorf("an error of the content: %v", err)
	}
	var paced int
	_, err = s.WriteCheckpoint(h, func(n int) error { paced += n; return boom }, func(w io.Writer) error { return nil })
	if !errors.Is(err, boom) || errors.Is(err, ErrDisk) || paced == 0 {
		t.Errorf("an error of the pace: %v", err)
	}
	paced = 0
	info, err := s.WriteCheckpoint(h, func(n int) error { paced += n; return nil }, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 100_000))
		return err
	})
	must(t, err)
	if int64(paced) != info.Size {
		t.Errorf("paced %d of %d bytes", paced, info.Size)
	}
	if _, err := NewCheckpointReader(iotest.ErrReader(boom), "x"); !errors.Is(err, boom) {
		t.Errorf("an error below a reader: %v", err)
	}
	if _, err := NewCheckpointWriter(io.Discard, &Header{Meta: make([]byte, maxHeader)}); err == nil {
		t.Error("an oversized header was written")
	}
	if names := strings.Join(fileNames(t, d.mem), " "); strings.Contains(names, tempSuffix) {
		t.Errorf("something was left behind: %s", names)
	}
}

// TestLongCheckpointIsSyncedInSteps: the log's syncs must never wait for a whole checkpoint.
func TestLongCheckpointIsSyncedInSteps(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	d.takeTrace()
	_, err := s.WriteCheckpoint(Header{}, nil, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 3*syncStride))
		return err
	})
	must(t, err)
	syncs := 0
	for _, op := range d.takeTrace() {
		if strings.HasPrefix(op, "sync ") {
			syncs++
		}
	}
	if syncs != 4 {
		t.Errorf("%d syncs for %d strides", syncs, 3)
	}
}

// TestReceiveInPieces breaks off and goes on, and refuses what doesn't fit.
func TestReceiveInPieces(t *testing.T) {
	info, content := snapshotFor(t, 100, 3)
	d := newDisk()
	s := founded(t, d)
	in, err := s.Receive(info)
	must(t, err)
	if _, err := s.Receive(info); !errors.Is(err, errReceiving) {
		t.Errorf("two at once: %v", err)
	}
	half := len(content) / 2
	_, err = in.Write(content[:half])
	must(t, err)
	if _, err := in.Finish(); err == nil {
		t.Error("half a checkpoint was accepted")
	}
	if in.Offset() != int64(half) {
		t.Errorf("going on at %d, want %d", in.Offset(), half)
	}
	_, err = in.Write(content[half:])
	must(t, err)
	if _, err := in.Write([]byte{0}); err == nil {
		t.Error("more than announced was accepted")
	}
	got, err := in.Finish()
	must(t, err)
	if got.File == "" || got.Sum != info.Sum {
		t.Errorf("finished as %+v", got)
	}
	in.Abort()
	if _, err := in.Write(nil); !errors.Is(err, errEnded) {
		t.Errorf("writing after the end: %v", err)
	}
	must(t, s.InstallSnapshot(hardState(3, 0, 100), got, nil))
	if text, err := loadCheckpoint(s); err != nil || text != contentAt(100, 3) {
		t.Errorf("installed %.30q, %v", text, err)
	}
	if err := s.InstallSnapshot(nil, got, nil); err == nil {
		t.Error("the same snapshot was installed twice")
	}
}

// TestReceiveRefuses what is damaged on the way, is another checkpoint than announced, or comes from another cluster.
func TestReceiveRefuses(t *testing.T) {
	info, content := snapshotFor(t, 100, 3)
	other, otherContent := snapshotFor(t, 101, 3)
	d := newDisk()
	s := founded(t, d)
	refuse := func(what string, info *Info, content []byte) {
		t.Helper()
		_, err := receive(s, info, content)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for at := range content {
		bad := bytes.Clone(content)
		bad[at] ^= 0x20
		if _, err := receive(s, info, bad); err == nil {
			t.Fatalf("byte %d was damaged on the way", at)
		}
	}
	announced := *info
	announced.Digest[3]++
	refuse("another digest", &announced, content)
	announced = *info
	announced.Sum[3]++
	refuse("another sum", &announced, content)
	announced = *other
	announced.Size = int64(len(content))
	refuse("another checkpoint", &announced, content)
	announced = *info
	announced.Size += 5
	refuse("bytes behind the end", &announced, append(bytes.Clone(content), "extra"...))
	announced = *info
	announced.ClusterID++
	if _, err := s.Receive(&announced); err == nil {
		t.Error("a checkpoint of another cluster was received")
	}
	d.mem.SetFree(int64(len(content)) - 1)
	if _, err := s.Receive(info); !errors.Is(err, ErrNoSpace) {
		t.Errorf("without room: %v", err)
	}
	d.mem.SetFree(-1)
	if _, err := receive(s, other, otherContent); err != nil {
		t.Errorf("a good one after all that: %v", err)
	}
	if names := strings.Join(fileNames(t, d.mem), " "); strings.Contains(names, tempSuffix) {
		t.Errorf("something was left behind: %s", names)
	}
}

func TestReceiveRunsOutOfSpace(t *testing.T) {
	info, content := snapshotFor(t, 100, 3)
	d := newDisk()
	s := founded(t, d)
	in, err := s.Receive(info)
	must(t, err)
	d.mem.SetFree(100)
	if _, err := in.Write(content); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrDisk) {
		t.Fatalf("on a full disk: %v", err)
	}
	d.mem.SetFree(vfs.SectorSize * 8)
	_, err = in.Write(content[in.Offset():])
	must(t, err)
	_, err = in.Finish()
	must(t, err)
}

// TestCommitCheckpointMustBeReached: a slow checkpoint may be overtaken by a snapshot, and a received one lie beyond the log.
func TestCommitCheckpointMustBeReached(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	must(t, s.Append(hardState(1, 0, 8), entries(1, 8, 1, 10), true))
	slow, err := checkpointAt(s, 4, 1)
	must(t, err)
	beyond, content := snapshotFor(t, 9, 1)
	got, err := receive(s, beyond, content)
	must(t, err)
	if err := s.CommitCheckpoint(got, 0, ChunkChange{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a checkpoint beyond the log: %v", err)
	}
	must(t, s.InstallSnapshot(nil, got, nil))
	if err := s.CommitCheckpoint(slow, 0, ChunkChange{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a checkpoint before the log: %v", err)
	}
	must(t, s.Discard(slow, nil))
	must(t, s.Discard(got, nil)) // is current: stays
	must(t, s.Close())
	s, r := reopened(t, d)
	defer s.Close()
	if r.Checkpoint.Index != 9 {
		t.Errorf("the checkpoint is of entry %d", r.Checkpoint.Index)
	}
	if names := strings.Join(fileNames(t, d.mem), " "); strings.Contains(names, slow.File) {
		t.Errorf("the discarded one is still there: %s", names)
	}
}

// TestGoBackToAMajoritysCheckpoint: a member whose state went wrong takes an older checkpoint that its own log reaches.
func TestGoBackToAMajoritysCheckpoint(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	must(t, s.Append(hardState(1, 0, 8), entries(1, 8, 1, 10), true))
	own, err := checkpointAt(s, 8, 1)
	must(t, err)
	must(t, s.CommitCheckpoint(own, 0, ChunkChange{}))
	info, content := snapshotFor(t, 5, 1)
	got, err := receive(s, info, content)
	must(t, err)
	must(t, s.CommitCheckpoint(got, 0, ChunkChange{}))
	must(t, s.Close())
	s, r := reopened(t, d)
	defer s.Close()
	text, err := loadCheckpoint(s)
	if r.Checkpoint.Index != 5 || text != contentAt(5, 1) || err != nil || show(r.Entries) != "1-8@1" || r.HardState.GetCommit() != 8 {
		t.Errorf("checkpoint %d, log %s, commit %d, %v", r.Checkpoint.Index, show(r.Entries), r.HardState.GetCommit(), err)
	}
}
