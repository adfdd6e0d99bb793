package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/vfs"
)

const testDir = "/data"

var errDead = errors.New("the process is dead")

// disk is a member's disk in memory: a file system that crashes and a manifest that survives it. It shows what is done to it.
type disk struct {
	mem      *vfs.Mem
	manifest *MemManifest
	segment  int64

	mu    sync.Mutex
	hook  vfs.Hook // nil: none; sees commits of the manifest too, as the kind opCommit
	trace []string // every operation that changes something
}

const opCommit vfs.Kind = "commit"

func newDisk() *disk {
	return &disk{mem: vfs.NewMem(), manifest: NewMemManifest(), segment: 1 << 10}
}

func seeded(n int) *rand.Rand { return rand.New(rand.NewPCG(uint64(n), 1)) }

// see records an operation and asks the hook about it.
func (d *disk) see(op vfs.Op, text string) vfs.Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	var fault vfs.Fault
	if d.hook != nil {
		fault = d.hook(op)
	}
	if op.Changes() {
		if fault.Err != nil {
			text += " FAILS"
		}
		d.trace = append(d.trace, text)
	}
	return fault
}

func (d *disk) takeTrace() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.trace
	d.trace = nil
	return t
}

func (d *disk) setHook(h vfs.Hook) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = h
}

func (d *disk) options() Options {
	return Options{
		FS:           vfs.Hooked(d.mem, func(op vfs.Op) vfs.Fault { return d.see(op, op.String()) }),
		Dir:          testDir,
		Manifest:     d.openManifest,
		SegmentBytes: d.segment,
		Logger:       slog.New(slog.DiscardHandler),
	}
}

func (d *disk) open() (*Store, *Recovered, error) { return Open(d.options()) }

// crash is a power loss, or only the end of the process.
func (d *disk) crash(rng *rand.Rand) {
	d.setHook(nil)
	if rng == nil {
		d.mem.Kill()
		return
	}
	d.mem.Crash(rng)
}

// dieAt lets nothing happen from the nth changing operation on, which itself takes effect if after is set.
func dieAt(n int, after bool) vfs.Hook {
	seen := 0
	return func(op vfs.Op) vfs.Fault {
		if op.Changes() {
			seen++
		}
		if seen < n {
			return vfs.Fault{}
		}
		return vfs.Fault{Err: errDead, After: after && seen == n && op.Changes()}
	}
}

func (d *disk) openManifest(dir string, create bool) (Manifest, error) {
	m, err := d.manifest.Open(dir, create)
	if err != nil {
		return nil, err
	}
	return hookedManifest{m, d}, nil
}

type hookedManifest struct {
	Manifest
	d *disk
}

func (m hookedManifest) Commit(set map[string][]byte, drop []string) error {
	var names []string
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if key != totalKey {
			names = append(names, key)
		}
	}
	for _, key := range drop {
		names = append(names, "-"+key)
	}
	fault := m.d.see(vfs.Op{Kind: opCommit}, "commit "+strings.Join(names, " "))
	if fault.Err != nil && !fault.After {
		return fault.Err
	}
	if err := m.Manifest.Commit(set, drop); err != nil {
		return err
	}
	return fault.Err
}

const (
	testMember  = 0xa1
	testCluster = 0xc1
)

// founded opens a store in a new directory and makes it a member's.
func founded(t testing.TB, d *disk) *Store {
	t.Helper()
	s, r, err := d.open()
	must(t, err)
	if !r.Fresh {
		t.Fatal("a new directory is not fresh")
	}
	must(t, s.Identify(testMember, "a"))
	must(t, s.Found(testCluster, voters(testMember)))
	return s
}

func reopened(t testing.TB, d *disk) (*Store, *Recovered) {
	t.Helper()
	s, r, err := d.open()
	must(t, err)
	return s, r
}

func voters(ids ...uint64) *pb.ConfState { return &pb.ConfState{Voters: ids} }

// entry has data that tells index and term, padded to size.
func entry(index, term uint64, size int) *pb.Entry {
	data := []byte(fmt.Sprintf("%d@%d", index, term))
	for len(data) < size {
		data = append(data, '.')
	}
	return &pb.Entry{Index: new(index), Term: new(term), Type: new(pb.EntryNormal), Data: data}
}

func entries(first, last, term uint64, size int) (es []*pb.Entry) {
	for i := first; i <= last; i++ {
		es = append(es, entry(i, term, size))
	}
	return es
}

// show lists entries as ranges of one term.
func show(es []*pb.Entry) string {
	var parts []string
	for i := 0; i < len(es); {
		j := i
		for j+1 < len(es) && es[j+1].GetTerm() == es[i].GetTerm() {
			j++
		}
		parts = append(parts, fmt.Sprintf("%d-%d@%d", es[i].GetIndex(), es[j].GetIndex(), es[i].GetTerm()))
		i = j + 1
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, " ")
}

// checkpointAt writes a checkpoint whose content tells its position.
func checkpointAt(s *Store, index, term uint64) (*Info, error) {
	h := Header{Position: Position{index, term}, Zxid: index * 10, ConfState: voters(testMember), Meta: []byte("meta")}
	return s.WriteCheckpoint(h, nil, func(w io.Writer) error {
		_, err := io.WriteString(w, contentAt(index, term))
		return err
	})
}

func contentAt(index, term uint64) string {
	return strings.Repeat(fmt.Sprintf("state after %d@%d;", index, term), 20)
}

// loadCheckpoint reads the current checkpoint as the state machine would; none gives "".
func loadCheckpoint(s *Store) (string, error) {
	c, err := s.OpenCheckpoint()
	if errors.Is(err, ErrNoCheckpoint) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer c.Close()
	r, err := c.Reader()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

// snapshotFor returns a checkpoint file of another member of the cluster, as bytes and description.
func snapshotFor(t testing.TB, index, term uint64) (*Info, []byte) {
	t.Helper()
	d := newDisk()
	s := founded(t, d)
	info, err := checkpointAt(s, index, term)
	must(t, err)
	f, err := d.mem.Open(testDir + "/" + info.File)
	must(t, err)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size))
	must(t, err)
	info.File = ""
	return info, b
}

// receive takes a snapshot into a store.
func receive(s *Store, info *Info, content []byte) (*Info, error) {
	info, _, err := receiveWithHistory(s, info, content)
	return info, err
}

func receiveWithHistory(s *Store, info *Info, content []byte, history ...Chunk) (*Info, []ChunkInfo, error) {
	in, err := s.Receive(info)
	if err != nil {
		return nil, nil, err
	}
	defer in.Abort()
	if _, err := in.Write(content); err != nil {
		return nil, nil, err
	}
	for _, c := range history {
		if err := in.Stage([]Chunk{c}); err != nil {
			return nil, nil, err
		}
	}
	got, err := in.Finish()
	return got, in.Staged(), err
}

func readFile(t testing.TB, m *vfs.Mem, name string) []byte {
	t.Helper()
	f, buf, err := openWhole(m, name, nil)
	must(t, err)
	f.Close()
	return buf
}

// writeFile replaces a file's content, durably.
func writeFile(t testing.TB, m *vfs.Mem, name string, content []byte) {
	t.Helper()
	if err := m.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := m.Create(name)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(content, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, m.SyncDir(testDir))
}

func fileNames(t testing.TB, m *vfs.Mem) (names []string) {
	t.Helper()
	infos, err := m.List(testDir)
	must(t, err)
	for _, i := range infos {
		names = append(names, i.Name)
	}
	return names
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
