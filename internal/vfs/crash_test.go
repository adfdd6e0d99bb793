package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func seeded(n int) *rand.Rand { return rand.New(rand.NewPCG(uint64(n), 7)) }

// TestMemAgainstBytes compares a file with a plain slice under random writes and truncations.
func TestMemAgainstBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, err := NewMem().Create("/a")
		if err != nil {
			t.Fatal(err)
		}
		var model []byte
		for range rapid.IntRange(1, 20).Draw(t, "ops") {
			off := rapid.IntRange(0, 3*pageSize).Draw(t, "off")
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0:
				err = f.Truncate(int64(off))
				model = resized(model, off)
			case 1:
				err = f.Preallocate(int64(off))
				model = resized(model, max(off, len(model)))
			case 2:
				err = f.Sync()
			default:
				p := bytes.Repeat([]byte{byte(off) | 1}, rapid.IntRange(1, 2*pageSize).Draw(t, "len"))
				_, err = f.WriteAt(p, int64(off))
				model = resized(model, max(off+len(p), len(model)))
				copy(model[off:], p)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(model)+1)
		if n, err := f.ReadAt(got, 0); n != len(model) || err != io.EOF || !bytes.Equal(got[:n], model) {
			t.Fatalf("the file differs from its model (%d of %d bytes, %v)", n, len(model), err)
		}
	})
}

func resized(b []byte, n int) []byte {
	r := make([]byte, n)
	copy(r, b)
	return r
}

// TestCrashKeepsSectorVersions writes three sectors three times and sees every mixture of whole sectors, and nothing else.
func TestCrashKeepsSectorVersions(t *testing.T) {
	seen := make(map[string]int)
	for seed := range 4000 {
		m := NewMem()
		f, _ := m.Create("/a")
		for i, fill := range []string{"0", "1", "2"} {
			write(t, f, 0, strings.Repeat(fill, 3*SectorSize))
			if i == 0 {
				must(t, f.Sync())
				must(t, m.SyncDir("/"))
			}
		}
		m.Crash(seeded(seed))
		g, err := m.Open("/a")
		must(t, err)
		got := read(t, g)
		key := ""
		for s := range 3 {
			part := got[s*SectorSize : (s+1)*SectorSize]
			if strings.Trim(part, part[:1]) != "" {
				t.Fatalf("seed %d: a sector is torn", seed)
			}
			key += part[:1]
		}
		seen[key]++
	}
	if len(seen) != 27 {
		t.Errorf("saw %d of the 27 mixtures: %v", len(seen), seen)
	}
}

func TestCrashKeepsWhatIsSynced(t *testing.T) {
	for seed := range 200 {
		m := NewMem()
		f, _ := m.Create("/a")
		write(t, f, 0, "durable")
		must(t, f.Sync())
		must(t, m.SyncDir("/"))
		must(t, f.Preallocate(100_000))
		write(t, f, 50_000, "maybe")
		m.Crash(seeded(seed))
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("a handle outlived the crash: %v", err)
		}
		g, err := m.Open("/a")
		must(t, err)
		got := read(t, g)
		if !strings.HasPrefix(got, "durable") {
			t.Fatalf("seed %d: lost what was synced", seed)
		}
		if rest := strings.Trim(got[7:], "\x00"); rest != "" && rest != "maybe" {
			t.Fatalf("seed %d: invented %q", seed, rest)
		}
		if n := len(got); n != 7 && n != 100_000 {
			t.Fatalf("seed %d: a size that never was: %d", seed, n)
		}
	}
}

// TestCrashUndoesNames shows each outcome of a file that replaces another without a SyncDir.
func TestCrashUndoesNames(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range 300 {
		m := NewMem()
		put(t, m, "/a", "old")
		must(t, m.SyncDir("/"))
		put(t, m, "/a.tmp", "new")
		must(t, m.Rename("/a.tmp", "/a"))
		m.Crash(seeded(seed))
		outcome := ""
		for _, name := range []string{"/a", "/a.tmp"} {
			if f, err := m.Open(name); err == nil {
				outcome += name + "=" + read(t, f) + " "
			}
		}
		seen[outcome] = true
	}
	for _, want := range []string{"/a=old ", "/a=old /a.tmp=new ", "/a=new "} {
		if !seen[want] {
			t.Errorf("never saw %q", want)
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("saw the impossible: %v", seen)
	}
}

func put(t *testing.T, m *Mem, name, text string) {
	t.Helper()
	f := create(t, m, name)
	write(t, f, 0, text)
	must(t, f.Sync())
}

func TestCrashIsDeterministic(t *testing.T) {
	state := func() string {
		m := NewMem()
		for i := range 20 {
			f, _ := m.Create(fmt.Sprintf("/%d", i))
			write(t, f, int64(i)*100, strings.Repeat("x", 5000))
			if i%3 == 0 {
				must(t, m.SyncDir("/"))
			}
		}
		m.Crash(seeded(4))
		var b strings.Builder
		infos, _ := m.List("/")
		for _, info := range infos {
			f, _ := m.Open("/" + info.Name)
			fmt.Fprintln(&b, info, read(t, f))
		}
		return b.String()
	}
	if first := state(); first != state() {
		t.Error("the same seed left different disks")
	}
}

func TestKillKeepsEverythingButHandles(t *testing.T) {
	m := NewMem()
	l, err := m.Lock("/LOCK")
	must(t, err)
	f := create(t, m, "/a")
	write(t, f, 0, "unsynced")
	m.Kill()
	if err := f.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a handle outlived its process: %v", err)
	}
	g, err := m.Open("/a")
	must(t, err)
	if got := read(t, g); got != "unsynced" {
		t.Errorf("the file reads %q", got)
	}
	l2, err := m.Lock("/LOCK")
	must(t, err)
	must(t, l.Close())
	if _, err := m.Lock("/LOCK"); !errors.Is(err, ErrLocked) {
		t.Error("the dead holder released the lock of the living one")
	}
	must(t, l2.Close())
}

// TestFailedSyncIsNotHealedByAnother shows the trap for which storage never retries a sync.
func TestFailedSyncIsNotHealedByAnother(t *testing.T) {
	for _, rewrite := range []bool{false, true} {
		lost := 0
		for seed := range 100 {
			m := NewMem()
			fsys := Hooked(m, Nth(1, Fault{Err: syscall.EIO}, func(op Op) bool { return op.Kind == OpSync }))
			f := create(t, fsys, "/a")
			must(t, m.SyncDir("/"))
			must(t, f.Preallocate(SectorSize))
			write(t, f, 0, "x")
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			if rewrite {
				write(t, f, 0, "x")
			}
			must(t, f.Sync())
			m.Crash(seeded(seed))
			g, err := m.Open("/a")
			must(t, err)
			if got := read(t, g); got == "" || got[0] != 'x' {
				lost++
			}
		}
		if rewrite && lost > 0 || !rewrite && lost == 0 {
			t.Errorf("written anew: %v; lost in %d of 100 crashes", rewrite, lost)
		}
	}
}

func TestFlip(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/a")
	write(t, f, 0, "abc")
	must(t, m.Flip("/a", 1, 0x03))
	if got := read(t, f); got != "aac" {
		t.Errorf("flipped to %q", got)
	}
	if err := m.Flip("/a", 3, 1); err == nil {
		t.Error("flipped a byte past the end")
	}
	if err := m.Flip("/none", 0, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("flip of no file: %v", err)
	}
}

func TestSpaceRunsOut(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/a")
	write(t, f, 0, strings.Repeat("x", 1000))
	m.SetFree(500)
	must(t, f.Preallocate(1400))
	write(t, f, 1200, strings.Repeat("y", 200))
	if n, err := m.Free("/"); n != 100 || err != nil {
		t.Errorf("free: %d, %v; want 100", n, err)
	}
	_, err := f.WriteAt(make([]byte, 101), 1400)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing beyond the space: %v", err)
	}
	if err := f.Truncate(2000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("growing beyond the space: %v", err)
	}
	must(t, m.Remove("/a"))
	if n, _ := m.Free("/"); n != 1500 {
		t.Errorf("after the removal %d are free; want 1500", n)
	}
	m.SetFree(-1)
	if n, _ := m.Free("/"); n != unlimited {
		t.Errorf("without a limit %d are free", n)
	}
}

// TestEveryOperationCanFail fails each kind of operation before and after its effect.
func TestEveryOperationCanFail(t *testing.T) {
	use := map[Kind]func(FS, File) error{
		OpCreate:      func(h FS, _ File) error { _, err := h.Create("/d/new"); return err },
		OpOpen:        func(h FS, _ File) error { _, err := h.Open("/d/a"); return err },
		OpRead:        func(_ FS, f File) error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		OpWrite:       func(_ FS, f File) error { _, err := f.WriteAt([]byte("new"), 0); return err },
		OpSync:        func(_ FS, f File) error { return f.Sync() },
		OpTruncate:    func(_ FS, f File) error { return f.Truncate(1) },
		OpPreallocate: func(_ FS, f File) error { return f.Preallocate(99) },
		OpSize:        func(_ FS, f File) error { _, err := f.Size(); return err },
		OpClose:       func(_ FS, f File) error { return f.Close() },
		OpRename:      func(h FS, _ File) error { return h.Rename("/d/a", "/d/b") },
		OpRemove:      func(h FS, _ File) error { return h.Remove("/d/a") },
		OpList:        func(h FS, _ File) error { _, err := h.List("/d"); return err },
		OpStat:        func(h FS, _ File) error { _, err := h.Stat("/d/a"); return err },
		OpMkdir:       func(h FS, _ File) error { return h.MkdirAll("/d/e") },
		OpSyncDir:     func(h FS, _ File) error { return h.SyncDir("/d") },
		OpLock:        func(h FS, _ File) error { _, err := h.Lock("/d/LOCK"); return err },
		OpFree:        func(h FS, _ File) error { _, err := h.Free("/d"); return err },
	}
	disk := func(m *Mem) string {
		infos, _ := m.List("/d")
		s := fmt.Sprint(infos)
		if f, err := m.Open("/d/a"); err == nil {
			s += read(t, f)
		}
		return s
	}
	for kind, do := range use {
		changes := (Op{Kind: kind}).Changes() && kind != OpSync && kind != OpSyncDir
		for _, after := range []bool{false, true} {
			m := NewMem()
			must(t, m.MkdirAll("/d"))
			f := create(t, m, "/d/a")
			write(t, f, 0, "old")
			h := Hooked(m, Nth(1, Fault{syscall.EIO, after}, func(op Op) bool { return op.Kind == kind }))
			f = hookedFile{h.(hooked), "/d/a", f}
			before := disk(m)
			if err := do(h, f); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s, after %v: error %v", kind, after, err)
			}
			if took := disk(m) != before; took != (after && changes) {
				t.Errorf("%s, after %v: took effect: %v", kind, after, took)
			}
			if err := do(h, f); errors.Is(err, syscall.EIO) {
				t.Errorf("%s failed twice", kind)
			}
		}
	}
}
