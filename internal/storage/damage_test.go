package storage

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/coord-kv/coord/internal/vfs"
)

// image is a directory's files and manifest, to be damaged and opened again and again.
type image struct {
	files  map[string][]byte
	values map[string][]byte
	want   modelState
	synced uint64 // entries up to here were acknowledged
}

// smallDir makes a directory with every kind of file: three files of the log, a checkpoint in the middle, and behind the synced
// part of the log one record that is not.
func smallDir(t testing.TB) image {
	d := newDisk()
	s := founded(t, d)
	must(t, s.Append(hardState(1, 2, 0), entries(1, 3, 1, 200), true))
	must(t, s.Append(nil, entries(4, 6, 1, 200), true))
	must(t, s.Append(hardState(2, 2, 6), entries(6, 8, 2, 200), true))
	info, err := checkpointAt(s, 5, 1)
	must(t, err)
	must(t, s.CommitCheckpoint(info, 0, ChunkChange{Add: []Chunk{{ChunkInfo{Seq: 1, First: 3, Last: 50}, []byte("events")}}}))
	must(t, s.Quiet())
	must(t, s.Append(nil, entries(9, 9, 2, 20), false))
	d.crash(nil)
	img := image{files: map[string][]byte{}, values: d.manifest.values, synced: 8}
	for _, name := range fileNames(t, d.mem) {
		img.files[name] = readFile(t, d.mem, path.Join(testDir, name))
	}
	all := append(append(entries(1, 5, 1, 200), entries(6, 8, 2, 200)...), entries(9, 9, 2, 20)...)
	img.want = modelState{entries: all, term: 2, vote: 2, commit: 6, checkpoint: Position{5, 1}, history: []uint64{50}}
	return img
}

func (img image) disk(t testing.TB) *disk {
	d := newDisk()
	must(t, d.mem.MkdirAll(testDir))
	for name, content := range img.files {
		writeFile(t, d.mem, path.Join(testDir, name), content)
	}
	d.manifest.made, d.manifest.values = true, maps.Clone(img.values)
	return d
}

// with returns the image with one file exchanged; nil removes it.
func (img image) with(file string, content []byte) image {
	img.files = maps.Clone(img.files)
	if img.files[file] = content; content == nil {
		delete(img.files, file)
	}
	return img
}

// outcome opens the image, and says in one word what came of it; a wrong answer fails the test.
func (img image) outcome(t testing.TB, what, damaged string) string {
	t.Helper()
	s, r, err := img.disk(t).open()
	if err == nil {
		defer s.Close()
		var content string
		if content, err = loadCheckpoint(s); err == nil {
			return img.accepted(t, what, r, content)
		}
	}
	var corrupt *CorruptError
	var refused *RefusedError
	switch {
	case errors.As(err, &corrupt):
		if !strings.HasSuffix(corrupt.File, damaged) {
			t.Errorf("%s: the error is about %s: %v", what, corrupt.File, err)
		}
		return "corrupt"
	case errors.As(err, &refused):
		if !strings.Contains(refused.Path, damaged) {
			t.Errorf("%s: the error is about %s: %v", what, refused.Path, err)
		}
		return "refused"
	}
	t.Errorf("%s: an error of no kind: %v", what, err)
	return ""
}

// accepted makes sure that what was acknowledged is there unchanged, and that anything less was told.
func (img image) accepted(t testing.TB, what string, r *Recovered, content string) string {
	t.Helper()
	want, word := img.want, "whole"
	if r.Cut.Bytes > 0 {
		word = "cut"
	}
	if last := r.Base.Index + uint64(len(r.Entries)); last == img.synced {
		want.entries = want.entries[:last] // the entry behind may be lost without a trace
	}
	if err := want.differs(r, content); err != nil {
		t.Errorf("%s: silently wrong: %v", what, err)
	}
	return word
}

// TestEveryFlippedByte damages each byte of each file in three ways.
func TestEveryFlippedByte(t *testing.T) {
	img := smallDir(t)
	counts := map[string]int{}
	for name, content := range img.files {
		for at := 0; at < len(content); at += stride(name, at) {
			for _, mask := range []byte{1 << (at % 8), 0xff} {
				bad := append([]byte(nil), content...)
				bad[at] ^= mask
				word := img.with(name, bad).outcome(t, fmt.Sprintf("%s, byte %d ^ %02x", name, at, mask), name)
				counts[kindOf(name)+" "+word]++
			}
		}
	}
	for _, must := range []string{"wal corrupt", "wal cut", "checkpoint corrupt", "watermark whole", "wal refused"} {
		if counts[must] == 0 {
			t.Errorf("no flip gave %q: %v", must, counts)
		}
	}
	if counts["checkpoint whole"]+counts["checkpoint cut"] > 0 {
		t.Errorf("a damaged checkpoint was accepted: %v", counts)
	}
}

// TestEveryTruncation cuts each file at each length.
func TestEveryTruncation(t *testing.T) {
	img := smallDir(t)
	counts := map[string]int{}
	for name, content := range img.files {
		if name == lockName {
			continue
		}
		for n := 0; n < len(content); n += stride(name, n) {
			word := img.with(name, content[:n:n]).outcome(t, fmt.Sprintf("%s cut to %d bytes", name, n), name)
			counts[kindOf(name)+" "+word]++
		}
	}
	if counts["checkpoint whole"]+counts["checkpoint cut"] > 0 || counts["wal corrupt"] == 0 || counts["wal cut"] == 0 {
		t.Errorf("unexpected outcomes: %v", counts)
	}
}

// stride skips most of the gap between the watermark's two slots.
func stride(file string, at int) int {
	if file == markName && at >= markSize && at < markStride-64 {
		return 61
	}
	return 1
}

func kindOf(file string) string {
	return strings.FieldsFunc(file, func(r rune) bool { return r == '-' || r == '.' })[0]
}

// TestEveryFlippedManifestByte damages each byte of each value, and loses each value.
func TestEveryFlippedManifestByte(t *testing.T) {
	img := smallDir(t)
	try := func(what string, values map[string][]byte) {
		bad := img
		bad.values = values
		d := bad.disk(t)
		s, _, err := d.open()
		if err == nil {
			_, err = s.Chunk(1)
			s.Close()
		}
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.File != path.Join(testDir, manifestName) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for key, value := range img.values {
		for at := range value {
			bad := append([]byte(nil), value...)
			bad[at] ^= 0x10
			values := maps.Clone(img.values)
			values[key] = bad
			try(fmt.Sprintf("%s, byte %d flipped", key, at), values)
		}
		values := maps.Clone(img.values)
		delete(values, key)
		try(key+" lost", values)
	}
}

// TestDamageIsKnownWithoutTheMark takes the watermark back to the beginning, as a power loss may, and damages records that
// later ones know to be durable.
func TestDamageIsKnownWithoutTheMark(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	old := readFile(t, d.mem, path.Join(testDir, markName))
	for i := uint64(1); i <= 5; i++ {
		must(t, s.Append(nil, entries(i, i, 1, 40), true))
	}
	d.crash(nil)
	name := path.Join(testDir, segmentFile(1))
	content := readFile(t, d.mem, name)
	seg, err := parseSegment(name, content)
	must(t, err)
	for i, rec := range seg.records {
		begin := rec.end - int64(len(rec.payload)) - recordHeader
		for at := begin; at < rec.end; at++ {
			inLength := at-begin >= 4 && at-begin < 8
			d := newDisk()
			must(t, d.mem.MkdirAll(testDir))
			bad := append([]byte(nil), content...)
			bad[at] ^= 0x04
			writeFile(t, d.mem, name, bad)
			writeFile(t, d.mem, path.Join(testDir, markName), old)
			d.manifest.made, d.manifest.values = true, foundedValues(t)
			s, r, err := d.open()
			if err == nil {
				s.Close()
			}
			// A damaged length hides what stands behind it, and a damaged checksum makes the next record look damaged too.
			if i < 3 && !inLength && err == nil {
				t.Fatalf("record %d, byte %d: %d entries were accepted", i+1, at, len(r.Entries))
			}
			if err == nil && len(r.Entries) < i {
				t.Fatalf("record %d, byte %d: intact records before it were cut: %d", i+1, at, len(r.Entries))
			}
		}
	}
}

func foundedValues(t testing.TB) map[string][]byte {
	d := newDisk()
	founded(t, d)
	return d.manifest.values
}

// TestHoleIsNotTheEnd loses a whole record in the middle, as a disk does that says it wrote and didn't.
func TestHoleIsNotTheEnd(t *testing.T) {
	img := smallDir(t)
	for name, content := range img.files {
		if kindOf(name) != "wal" {
			continue
		}
		for at := 0; at < len(content); at += vfs.SectorSize / 8 {
			bad := append([]byte(nil), content...)
			clear(bad[at:min(len(bad), at+vfs.SectorSize/8)])
			img.with(name, bad).outcome(t, fmt.Sprintf("%s, 64 bytes at %d lost", name, at), name)
		}
	}
}
