package storage

import (
	"bytes"
	"errors"
	"io"
	"math"
	"path"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// FuzzSegment: any bytes are a file of the log with an intact beginning, or an error. What is read can be written again and is
// then read the same.
func FuzzSegment(f *testing.F) {
	img := smallDir(f)
	for name, content := range img.files {
		if kindOf(name) == "wal" {
			f.Add(content)
			f.Add(content[:len(content)/2])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSegment("x", b)
		if err != nil {
			return
		}
		if s.end > int64(len(b)) || s.used < s.end || s.end < segmentStart {
			t.Fatalf("%d bytes end at %d and are used up to %d", len(b), s.end, s.used)
		}
		again, crc := newSegment(s.header)
		r := &replay{files: make([]walFile, 1), base: s.header.base, state: s.header.state}
		for _, rec := range s.records {
			_ = r.applyRecord(rec)
			again, crc = appendRecord(again, crc, rec.kind, rec.synced, func(b []byte) []byte { return append(b, rec.payload...) })
		}
		if !bytes.Equal(again, b[:s.end]) {
			t.Fatal("what was read is written otherwise")
		}
		for i, e := range r.entries {
			if e.GetIndex() != r.base.Index+1+uint64(i) {
				t.Fatalf("entry %d stands behind %d others after %d", e.GetIndex(), i, r.base.Index)
			}
		}
	})
}

// FuzzEntries reads payloads that nobody would write.
func FuzzEntries(f *testing.F) {
	b, _ := appendEntries(nil, entries(5, 8, 3, 20))
	f.Add(b)
	b, _ = appendEntries(nil, []*pb.Entry{{Index: new(uint64(1)), Term: new(uint64(1)), Type: new(pb.EntryConfChangeV2)}})
	f.Add(b)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := parseEntries(b)
		if err != nil {
			return
		}
		again, rest := appendEntries(nil, es)
		if rest != nil {
			return // more than goes into one record
		}
		back, err := parseEntries(again)
		if err != nil || show(back) != show(es) {
			t.Fatalf("%s came back as %s, %v", show(es), show(back), err)
		}
	})
}

// FuzzMark: a watermark is what was written, or nothing.
func FuzzMark(f *testing.F) {
	w := watermark{count: 3, ids: ids{1, 2}, seq: 7, off: 4096}
	two := make([]byte, markStride+markSize)
	copy(two, w.encode())
	w.count++
	copy(two[markStride:], w.encode())
	f.Add(two)
	f.Add(two[:markSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseMarks("x", b)
		if err != nil {
			return
		}
		if !bytes.Contains(b, w.encode()) {
			t.Fatalf("%+v stands nowhere in the file", w)
		}
	})
}

// FuzzCheckpoint: a reader hands out a content and io.EOF only for bytes that a writer writes for that content.
func FuzzCheckpoint(f *testing.F) {
	for _, content := range []string{"", "state", string(bytes.Repeat([]byte("x"), blockSize+3))} {
		b, _ := checkpointBytes(f, &someHeader, []byte(content))
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewCheckpointReader(bytes.NewReader(b), "x")
		if err != nil {
			return
		}
		content, err := io.ReadAll(r)
		var corrupt *CorruptError
		if err != nil {
			if !errors.As(err, &corrupt) || corrupt.Offset > int64(len(b)) {
				t.Fatalf("%d bytes: %v", len(b), err)
			}
			return
		}
		if r.Info().Size > int64(len(b)) || int64(len(content)) > r.Info().Size {
			t.Fatalf("%d bytes of content from %d", len(content), len(b))
		}
	})
}

// FuzzManifestValues: a manifest that holds any bytes, correctly summed, under any key opens or is an error.
func FuzzManifestValues(f *testing.F) {
	img := smallDir(f)
	for key, value := range img.values {
		if key != totalKey {
			f.Add(key, value[4:])
		}
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if key == totalKey {
			return
		}
		d := img.disk(t)
		m, err := d.manifest.Open(testDir, false)
		must(t, err)
		v, err := openValues(m, testDir, new(latch))
		must(t, err)
		must(t, v.commit(map[string][]byte{key: value}, nil))
		if got, err := v.get(key); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("the value came back as %q, %v", got, err)
		}
		s, _, err := d.open()
		if err == nil {
			_, _ = loadCheckpoint(s)
			must(t, s.Close())
		}
	})
}

// FuzzValue reads framed values of any bytes.
func FuzzValue(f *testing.F) {
	f.Add("boot", frameValue("boot", encodeBoot(3)))
	f.Add("", []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, key string, framed []byte) {
		value, _, err := parseValue(key, framed)
		if err == nil && !bytes.Equal(frameValue(key, value), framed) {
			t.Fatal("what was read is framed otherwise")
		}
	})
}

// FuzzInfo reads what a peer says it is about to send.
func FuzzInfo(f *testing.F) {
	_, info := checkpointBytes(f, &someHeader, []byte("state"))
	f.Add(info.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := ParseInfo(b)
		if err != nil {
			return
		}
		again, err := ParseInfo(i.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), i.Append(nil)) || i.Size < 0 {
			t.Fatalf("%+v came back as %+v, %v", i, again, err)
		}
	})
}

// TestHugeNumbersInTheLog writes, with correct checksums, what only damage or malice would.
func TestHugeNumbersInTheLog(t *testing.T) {
	put := func(kind recordKind, payload []byte) error {
		d := newDisk()
		must(t, founded(t, d).Close())
		name := path.Join(testDir, segmentFile(1))
		b := readFile(t, d.mem, name)
		seg, err := parseSegment(name, b)
		must(t, err)
		rec, _ := appendRecord(nil, seg.crc, kind, seg.end, func(b []byte) []byte { return append(b, payload...) })
		copy(b[seg.end:], rec)
		writeFile(t, d.mem, name, b)
		_, _, err = d.open()
		return err
	}
	huge, _ := appendEntries(nil, []*pb.Entry{{Index: new(uint64(math.MaxUint64)), Term: new(uint64(1))}})
	gap, _ := appendEntries(nil, entries(2, 2, 1, 1))
	cases := map[string]struct {
		kind    recordKind
		payload []byte
	}{
		"an entry of index 2^64-1":     {kindEntries, huge},
		"a gap":                        {kindEntries, gap},
		"no entry":                     {kindEntries, []byte{1}},
		"a commit beyond the log":      {kindState, appendHardState(nil, hardState(1, 1, 99))},
		"a short hard state":           {kindState, []byte{1, 2, 3}},
		"a kind that nobody knows":     {99, nil},
		"a header in the middle":       {kindHeader, nil},
		"a void with a payload":        {kindVoid, []byte{1}},
		"an install with half a place": {kindInstall, []byte{1}},
	}
	for name, c := range cases {
		var corrupt *CorruptError
		if err := put(c.kind, c.payload); !errors.As(err, &corrupt) || corrupt.Offset != segmentStart && name != "a commit beyond the log" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
