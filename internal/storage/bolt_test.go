package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolterrors "go.etcd.io/bbolt/errors"
)

// TestManifests holds both manifests to the same behaviour.
func TestManifests(t *testing.T) {
	for name, opener := range map[string]ManifestOpener{"bolt": OpenBolt, "mem": NewMemManifest().Open} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := opener(dir, false); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("opening none: %v", err)
			}
			m, err := opener(dir, true)
			must(t, err)
			must(t, m.Commit(map[string][]byte{"b": []byte("2"), "a/1": []byte("1"), "a/2": {}, "c": bytes.Repeat([]byte("x"), 100_000)}, nil))
			must(t, m.Commit(map[string][]byte{"b": []byte("3")}, []string{"c", "none"}))
			must(t, m.Close())
			m, err = opener(dir, false)
			must(t, err)
			if got := scan(t, m, ""); got != "a/1=1 a/2= b=3 " {
				t.Errorf("it holds %s", got)
			}
			if got := scan(t, m, "a/"); got != "a/1=1 a/2= " {
				t.Errorf("under a/ it holds %s", got)
			}
			if v, err := m.Get("b"); string(v) != "3" || err != nil {
				t.Errorf("b is %q, %v", v, err)
			}
			if v, err := m.Get("c"); v != nil || err != nil {
				t.Errorf("what was dropped is %q, %v", v, err)
			}
			boom := errors.New("boom")
			if err := m.Scan("", func(string, []byte) error { return boom }); !errors.Is(err, boom) {
				t.Errorf("a scan that is ended: %v", err)
			}
			if m.Size() <= 0 {
				t.Error("it takes no space")
			}
			must(t, m.Close())
		})
	}
}

func scan(t *testing.T, m Manifest, prefix string) string {
	var b strings.Builder
	must(t, m.Scan(prefix, func(key string, value []byte) error {
		fmt.Fprintf(&b, "%s=%s ", key, value)
		return nil
	}))
	return b.String()
}

// TestBoltFileAppearsWhole: a start that ends in the middle leaves nothing that the next one stumbles over.
func TestBoltFileAppearsWhole(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, manifestName+tempSuffix), []byte("half a database"), 0o600))
	s, _, err := Open(Options{Dir: privateDir(t, dir), SegmentBytes: 4096})
	must(t, err)
	must(t, s.Close())
}

func privateDir(t testing.TB, dir string) string {
	must(t, os.Chmod(dir, 0o700))
	return dir
}

// TestBoltInUse: a tool that looks into the file must not hang the start.
func TestBoltInUse(t *testing.T) {
	dir := t.TempDir()
	m, err := OpenBolt(dir, true)
	must(t, err)
	defer m.Close()
	_, err = OpenBolt(dir, false)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a file in use: %v", err)
	}
}

// TestBoltDamage flips bits all over a real file. bbolt itself returns wrong or missing values for a third of such files; with the
// values' own checksums each is refused, or holds what it held.
func TestBoltDamage(t *testing.T) {
	dir := t.TempDir()
	good := boltFile(t, dir)
	want := boltValues(t, dir)
	name := filepath.Join(dir, manifestName)
	rng := seeded(1)
	refused := 0
	for range 150 {
		bad := bytes.Clone(good)
		at := rng.IntN(len(bad))
		bad[at] ^= 1 << rng.IntN(8)
		must(t, os.WriteFile(name, bad, 0o600))
		got, err := tryBoltValues(dir)
		var corrupt *CorruptError
		switch {
		case errors.As(err, &corrupt):
			refused++
			if corrupt.File != name {
				t.Fatalf("byte %d: the error is about %s", at, corrupt.File)
			}
		case err != nil:
			t.Fatalf("byte %d: an error of no kind: %v", at, err)
		case !maps.Equal(got, want):
			t.Fatalf("byte %d: silently wrong", at)
		}
	}
	if refused == 0 {
		t.Error("no flip was noticed: the test looks at nothing")
	}
}

// TestBoltTruncated cuts the file at every page, where reading what is mapped faults.
func TestBoltTruncated(t *testing.T) {
	dir := t.TempDir()
	good := boltFile(t, dir)
	want := boltValues(t, dir)
	for n := 0; n < len(good); n += 4096 {
		must(t, os.WriteFile(filepath.Join(dir, manifestName), good[:n], 0o600))
		got, err := tryBoltValues(dir)
		var corrupt *CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			t.Fatalf("cut to %d bytes: an error of no kind: %v", n, err)
		}
		if err == nil && !maps.Equal(got, want) {
			t.Fatalf("cut to %d bytes: silently wrong", n)
		}
	}
}

// TestBoltLostMeta: with either meta page damaged, or of an older commit than a disk acknowledged, bbolt opens an older state.
func TestBoltLostMeta(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, manifestName)
	good := boltFile(t, dir)
	metas := func(b []byte) [][]byte { return [][]byte{b[:4096], b[4096:8192]} }
	commits := 0
	for _, page := range []int{0, 1} {
		bad := bytes.Clone(good)
		metas(bad)[page][boltPageHeader+boltTxidAt]++
		must(t, os.WriteFile(name, bad, 0o600))
		if _, err := OpenBolt(dir, false); err == nil {
			t.Errorf("meta page %d was damaged, and the file was opened", page)
		}
		must(t, os.WriteFile(name, good, 0o600))
		m, err := OpenBolt(dir, false)
		must(t, err)
		for range 3 {
			must(t, m.Commit(map[string][]byte{"x": {byte(commits)}}, nil))
			commits++
		}
		must(t, m.Close())
		lost, err := os.ReadFile(name)
		must(t, err)
		copy(metas(lost)[page], metas(good)[page])
		must(t, os.WriteFile(name, lost, 0o600))
		if _, err := OpenBolt(dir, false); err == nil {
			t.Errorf("a write of meta page %d was lost, and the file was opened", page)
		}
	}
}

// boltFile makes a manifest with branch pages and overflow pages, and returns the file's content.
func boltFile(t *testing.T, dir string) []byte {
	m, err := OpenBolt(dir, true)
	must(t, err)
	v, err := openValues(m, dir, new(latch))
	must(t, err)
	for n := range uint64(6) {
		set := map[string][]byte{bootKey: encodeBoot(n)}
		var change ChunkChange
		for seq := n * 40; seq < n*40+40; seq++ {
			change.Add = append(change.Add, Chunk{ChunkInfo{Seq: seq, First: seq, Last: seq}, bytes.Repeat([]byte{byte(seq)}, int(seq)*20)})
		}
		if n > 1 {
			change.Drop = []uint64{n, n * 3}
		}
		drop := change.put(set)
		must(t, v.commit(set, drop))
	}
	must(t, m.Close())
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	must(t, err)
	return b
}

func boltValues(t *testing.T, dir string) map[string]string {
	got, err := tryBoltValues(dir)
	must(t, err)
	if len(got) < 400 {
		t.Fatalf("only %d values", len(got))
	}
	return got
}

func tryBoltValues(dir string) (map[string]string, error) {
	m, err := OpenBolt(dir, false)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	v, err := openValues(m, dir, new(latch))
	if err != nil {
		return nil, err
	}
	got := make(map[string]string)
	for _, key := range v.keys("") {
		value, err := v.get(key)
		if err != nil {
			return nil, err
		}
		got[key] = string(value)
	}
	return got, nil
}

// TestBoltCommitThatFails: whatever goes wrong in a commit is fatal for the store.
func TestBoltCommitThatFails(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(Options{Dir: privateDir(t, dir), SegmentBytes: 4096})
	must(t, err)
	must(t, s.Identify(testMember, "a"))
	must(t, s.values.m.(*boltManifest).db.Close())
	if _, err := s.NextBoot(); !errors.Is(err, ErrDisk) || !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		t.Errorf("a commit that failed: %v", err)
	}
	if err := s.SavePeers(nil); !errors.Is(err, ErrDisk) {
		t.Errorf("the call after it: %v", err)
	}
	s.Close()
}
