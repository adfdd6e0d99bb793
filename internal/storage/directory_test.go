package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coord-kv/coord/internal/vfs"
)

// real returns options for a directory on the real disk.
func real(dir string) Options { return Options{Dir: dir, SegmentBytes: 4096} }

func openReal(dir string) error {
	s, _, err := Open(real(dir))
	if err == nil {
		err = s.Close()
	}
	return err
}

// TestDirectoriesThatAreRefused shows for each what the error says, which must name the place and what to do next.
func TestDirectoriesThatAreRefused(t *testing.T) {
	cases := []struct {
		name string
		make func(t *testing.T, dir string)
		want []string // in the error
	}{
		{"open to others", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o755)) }, []string{"0755", "chmod 700"}},
		{"file open to others", func(t *testing.T, dir string) {
			must(t, openReal(dir))
			must(t, os.Chmod(filepath.Join(dir, manifestName), 0o644))
		}, []string{manifestName, "0644", "chmod 600"}},
		{"foreign file", func(t *testing.T, dir string) { put(t, dir, "notes.txt") }, []string{"notes.txt", "none of coord's", "a directory of its own"}},
		{"foreign temporary file", func(t *testing.T, dir string) { put(t, dir, "notes.tmp") }, []string{"notes.tmp"}},
		{"foreign hidden file", func(t *testing.T, dir string) { put(t, dir, ".profile") }, []string{".profile"}},
		{"foreign directory", func(t *testing.T, dir string) { must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700)) }, []string{"sub"}},
		{"symbolic link", func(t *testing.T, dir string) {
			must(t, os.Symlink("/dev/null", filepath.Join(dir, segmentFile(1))))
		}, []string{segmentFile(1), "not a regular file"}},
		{"in use", func(t *testing.T, dir string) {
			s, _, err := Open(real(dir))
			must(t, err)
			t.Cleanup(func() { s.Close() })
		}, []string{"another process", "stop it"}},
		{"empty manifest", func(t *testing.T, dir string) { put(t, dir, manifestName) }, []string{manifestName, "meta page", "replace this member"}},
		{"manifest is no database", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, manifestName), bytes.Repeat([]byte("x"), 65536), 0o600))
		}, []string{manifestName, "replace this member"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			must(t, os.Mkdir(dir, 0o700))
			c.make(t, dir)
			before := names(t, dir)
			err := openReal(dir)
			if err == nil {
				t.Fatal("it was opened")
			}
			for _, want := range append(c.want, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error doesn't say %q: %v", want, err)
				}
			}
			if after := names(t, dir); c.name != "empty manifest" && c.name != "manifest is no database" && after != before {
				t.Errorf("files before: %s; after: %s", before, after)
			}
		})
	}
}

func put(t *testing.T, dir, name string) {
	must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
}

func names(t *testing.T, dir string) string {
	entries, err := os.ReadDir(dir)
	must(t, err)
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.Name() + " ")
	}
	return b.String()
}

func TestDirectoriesThatAreAccepted(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "data")
	must(t, openReal(deep))
	if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with mode %v, %v", info.Mode(), err)
	}
	must(t, os.Mkdir(filepath.Join(deep, "lost+found"), 0o755))
	must(t, openReal(deep))
	link := filepath.Join(root, "link")
	must(t, os.Symlink(deep, link))
	must(t, openReal(link))
	file := filepath.Join(root, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if err := openReal(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as data directory: %v", err)
	}
}

// TestLeftoversAreRemoved makes one of each file that never got its name.
func TestLeftoversAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	must(t, openReal(dir))
	before := names(t, dir)
	for _, name := range []string{segmentFile(3), markName, manifestName, reserveName, receiveName, checkpointFile(7, [32]byte{})} {
		put(t, dir, name+tempSuffix)
	}
	must(t, openReal(dir))
	if after := names(t, dir); after != before {
		t.Errorf("files before: %s; after: %s", before, after)
	}
}

// TestFilesThatDontBelongTogether exchanges, removes and stamps files of a good directory.
func TestFilesThatDontBelongTogether(t *testing.T) {
	img := smallDir(t)
	other := otherDir(t)
	wal := func(n uint64) string { return segmentFile(n) }
	var first, last uint64
	var checkpoint string
	for name := range img.files {
		if m := segmentName.FindStringSubmatch(name); m != nil {
			var seq uint64
			for _, c := range m[1] {
				seq = seq*10 + uint64(c-'0')
			}
			if first == 0 || seq < first {
				first = seq
			}
			last = max(last, seq)
		}
		if checkpointName.MatchString(name) {
			checkpoint = name
		}
	}
	if last-first < 2 {
		t.Fatalf("the directory has files %d to %d of the log; the test needs three", first, last)
	}
	newer := func(name string, at int) []byte {
		b := append([]byte(nil), img.files[name]...)
		binary.LittleEndian.PutUint32(b[at:], 2)
		return b
	}
	newerMark := func() []byte {
		b := append([]byte(nil), img.files[markName]...)
		for at := 0; at <= markStride; at += markStride {
			slot := b[at : at+markSize]
			binary.LittleEndian.PutUint32(slot[4:], 2)
			binary.LittleEndian.PutUint32(slot, chain(0, slot[4:]))
		}
		return b
	}
	withValues := func(values map[string][]byte) image {
		changed := img
		changed.values = values
		return changed
	}
	cases := []struct {
		name  string
		img   image
		about string // the file that the error names
		want  string
	}{
		{"the first files of the log are missing", img.with(wal(first), nil).with(wal(first+1), nil), wal(first + 2), "missing"},
		{"a middle file of the log is missing", img.with(wal(first+1), nil), wal(first + 2), "missing"},
		{"the last file of the log is missing", img.with(wal(last), nil), wal(last), "missing"},
		{"all files of the log are missing", img.with(wal(1), nil).with(wal(2), nil).with(wal(3), nil).with(wal(4), nil), "wal-", "no file"},
		{"the watermark is missing", img.with(markName, nil), markName, "missing"},
		{"the checkpoint is missing", img.with(checkpoint, nil), checkpoint, "missing"},
		{"the first file is empty", img.with(wal(first), []byte{}), wal(first), "ends within its header"},
		{"the last file is empty", img.with(wal(last), []byte{}), wal(last), "ends within its header"},
		{"the checkpoint is empty", img.with(checkpoint, []byte{}), checkpoint, "0 bytes"},
		{"the watermark is empty", img.with(markName, []byte{}), markName, "neither"},
		{"two files exchanged", img.with(wal(first), img.files[wal(last)]).with(wal(last), img.files[wal(first)]), wal(first), "under another name"},
		{"the watermark of another member", img.with(markName, other.files[markName]), markName, "belongs to member"},
		{"a file of another member's log", img.with(wal(first), other.files[wal(1)]), wal(first), "belongs to member"},
		{"the manifest of another member", withValues(other.values), markName, "belongs to member"},
		{"another checkpoint", img.with(checkpoint, other.checkpoint(t)), checkpoint, ""},
		{"a fresh manifest", withValues(nil), "", "knows of no cluster"},
		{"a newer log", img.with(wal(last), newer(wal(last), 8)), wal(last), "format is 2"},
		{"a newer checkpoint", img.with(checkpoint, newer(checkpoint, 8)), checkpoint, "format is 2"},
		{"a newer watermark", img.with(markName, newerMark()), markName, "format is 2"},
		{"a newer manifest", withValues(newerManifest(t, img)), manifestName, "format is 2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := c.img.disk(t)
			before := strings.Join(fileNames(t, d.mem), " ")
			_, _, err := d.open()
			if err == nil {
				t.Fatal("it was opened")
			}
			var corrupt *CorruptError
			var refused *RefusedError
			if !errors.As(err, &corrupt) && !errors.As(err, &refused) {
				t.Errorf("an error of no kind: %v", err)
			}
			if text := err.Error(); !strings.Contains(text, path.Join(testDir, c.about)) || !strings.Contains(text, c.want) {
				t.Errorf("the error doesn't name %s and say %q: %v", c.about, c.want, err)
			}
			if after := strings.Join(fileNames(t, d.mem), " "); after != before {
				t.Errorf("files before: %s; after: %s", before, after)
			}
			if _, err := d.mem.Lock(path.Join(testDir, lockName)); err != nil {
				t.Errorf("the refused directory stays locked: %v", err)
			}
		})
	}
}

// otherDir is the small directory of another member of the same cluster.
func otherDir(t testing.TB) image {
	d := newDisk()
	s, _, err := d.open()
	must(t, err)
	must(t, s.Identify(testMember+1, "b"))
	must(t, s.Found(testCluster, voters(testMember, testMember+1)))
	must(t, s.Append(hardState(1, 0, 9), entries(1, 9, 1, 10), true))
	info, err := checkpointAt(s, 9, 1)
	must(t, err)
	must(t, s.CommitCheckpoint(info, 0, ChunkChange{}))
	must(t, s.Close())
	img := image{files: map[string][]byte{}, values: d.manifest.values}
	for _, name := range fileNames(t, d.mem) {
		img.files[name] = readFile(t, d.mem, path.Join(testDir, name))
	}
	return img
}

func (img image) checkpoint(t testing.TB) []byte {
	for name, content := range img.files {
		if checkpointName.MatchString(name) {
			return content
		}
	}
	t.Fatal("no checkpoint")
	return nil
}

// newerManifest stamps the identity with the next version, as that version's own store would.
func newerManifest(t testing.TB, img image) map[string][]byte {
	d := img.disk(t)
	m, err := d.manifest.Open(testDir, false)
	must(t, err)
	v, err := openValues(m, testDir, new(latch))
	must(t, err)
	identity, err := v.get(identityKey)
	must(t, err)
	identity = append([]byte(nil), identity...)
	binary.LittleEndian.PutUint32(identity, manifestVersion+1)
	must(t, v.commit(map[string][]byte{identityKey: append(identity, "and more"...)}, nil))
	return d.manifest.values
}

// TestManifestMissing stands apart because nothing may be made in its place.
func TestManifestMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	s, _, err := Open(real(dir))
	must(t, err)
	must(t, s.Identify(testMember, "a"))
	must(t, s.Found(testCluster, voters(testMember)))
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(dir, manifestName)))
	before := names(t, dir)
	err = openReal(dir)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("without a manifest: %v", err)
	}
	if after := names(t, dir); after != before {
		t.Errorf("files before: %s; after: %s", before, after)
	}
}

// TestFilesBehindALostRemoval: the disk forgot one of two removals, which leaves a gap that is none.
func TestFilesBehindALostRemoval(t *testing.T) {
	d := newDisk()
	s := founded(t, d)
	for i := uint64(1); i <= 20; i++ {
		must(t, s.Append(hardState(1, 0, i), entries(i, i, 1, 100), true))
	}
	first := readFile(t, d.mem, path.Join(testDir, segmentFile(1)))
	info, err := checkpointAt(s, 20, 1)
	must(t, err)
	must(t, s.CommitCheckpoint(info, 1<<60, ChunkChange{}))
	must(t, s.Close())
	writeFile(t, d.mem, path.Join(testDir, segmentFile(1)), first)
	s, r := reopened(t, d)
	defer s.Close()
	if r.Base.Index+uint64(len(r.Entries)) != 20 {
		t.Errorf("the log ends at %d+%d", r.Base.Index, len(r.Entries))
	}
	if files := strings.Join(fileNames(t, d.mem), " "); strings.Contains(files, segmentFile(1)) {
		t.Errorf("the stray file is still there: %s", files)
	}
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	d := newDisk()
	must(t, founded(t, d).Close())
	d.setHook(vfs.Nth(1, vfs.Fault{Err: os.ErrPermission}, func(op vfs.Op) bool { return op.Kind == vfs.OpLock }))
	_, _, err := d.open()
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "must belong to the user") {
		t.Errorf("a directory of another user: %v", err)
	}
}
