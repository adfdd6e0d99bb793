package storage

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/coord-kv/coord/internal/vfs"
)

// TestCrashAtEveryOperation ends the process, or the power, before and after every operation that changes the disk. Whatever was
// acknowledged is there afterwards, and of the rest a beginning.
func TestCrashAtEveryOperation(t *testing.T) {
	lives := 0
	for seed := range 6 {
		for n := 1; ; n++ {
			died := false
			for _, after := range []bool{false, true} {
				for _, power := range []bool{false, true} {
					lives++
					died = crashAt(t, seed, n, after, power)
				}
			}
			if !died {
				break
			}
		}
	}
	if lives < 1000 {
		t.Errorf("only %d crashes: the workload does too little", lives)
	}
}

func crashAt(t *testing.T, seed, n int, after, power bool) (died bool) {
	what := fmt.Sprintf("seed %d, operation %d, after %v, power loss %v", seed, n, after, power)
	d := newDisk()
	w := newWorkload(t, d, seed)
	d.setHook(dieAt(n, after))
	w.run(25)
	w.crash(power)
	// The start after the crash may crash too, at any of its operations.
	d.setHook(dieAt(1+w.rng.IntN(6), after))
	if s, _, err := d.open(); err == nil && w.rng.IntN(2) == 0 {
		s.Close()
	}
	w.crash(power)
	w.recoverAndCheck(what)
	died = w.failed != nil
	w.checkOn(what)
	return died
}

func (w *workload) crash(power bool) {
	if power {
		w.d.crash(w.rng)
	} else {
		w.d.crash(nil)
	}
}

// TestEveryCallCanFail makes every operation fail, reads included, before and after it takes effect. The store either works on
// after the same call is made again, or is poisoned; and in both cases the next start finds what was acknowledged.
func TestEveryCallCanFail(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, after := range []bool{false, true} {
			for seed := range 2 {
				for n := int64(1); failAt(t, seed, n, vfs.Fault{Err: errno, After: after}); n++ {
				}
			}
		}
	}
}

func failAt(t *testing.T, seed int, n int64, fault vfs.Fault) (hit bool) {
	what := fmt.Sprintf("seed %d, operation %d, %v, after %v", seed, n, fault.Err, fault.After)
	d := newDisk()
	w := newWorkload(t, d, seed)
	var op vfs.Op
	d.setHook(vfs.Nth(n, fault, func(o vfs.Op) bool {
		if !hit {
			op = o
		}
		return true
	}))
	inner := d.hook
	d.setHook(func(o vfs.Op) vfs.Fault {
		f := inner(o)
		hit = hit || f.Err != nil
		return f
	})
	w.run(25)
	what += ": " + op.String()
	if w.failed != nil {
		if !errors.Is(w.failed, ErrDisk) {
			t.Fatalf("%s: neither fatal nor harmless: %v", what, w.failed)
		}
		checkPoisoned(t, what, w.s, w.failed)
	} else if hit && op.Kind == vfs.OpSync {
		t.Fatalf("%s: a failed sync went unnoticed", what)
	}
	w.crash(seed%2 == 0)
	w.recoverAndCheck(what)
	w.checkOn(what)
	return hit
}

func checkPoisoned(t *testing.T, what string, s *Store, first error) {
	t.Helper()
	calls := map[string]func() error{
		"Append":           func() error { return s.Append(nil, nil, true) },
		"Quiet":            s.Quiet,
		"NextBoot":         func() error { _, err := s.NextBoot(); return err },
		"SavePeers":        func() error { return s.SavePeers(nil) },
		"SaveConf":         func() error { return s.SaveConf(Conf{}) },
		"CommitChunks":     func() error { return s.CommitChunks(ChunkChange{}) },
		"Chunk":            func() error { _, err := s.Chunk(1); return err },
		"WriteCheckpoint":  func() error { _, err := checkpointAt(s, 1, 1); return err },
		"CommitCheckpoint": func() error { return s.CommitCheckpoint(&Info{}, 0, ChunkChange{}) },
		"OpenCheckpoint":   func() error { _, err := s.OpenCheckpoint(); return err },
		"Receive":          func() error { _, err := s.Receive(&Info{Header: Header{ClusterID: testCluster}}); return err },
		"InstallSnapshot": func() error {
			return s.InstallSnapshot(nil, &Info{Header: Header{Position: Position{1 << 40, 1}}}, nil)
		},
		"Reserve": func() error { return s.Reserve(1) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrDisk) {
			t.Errorf("%s: %s after the fatal error returns %v", what, name, err)
		}
	}
	if err := s.Quiet(); err.Error() != first.Error() {
		t.Errorf("%s: the first error was %q, a later call says %q", what, first, err)
	}
}

// TestFailedSyncIsWrittenAnew follows bytes that a failed sync left in the kernel's memory: the next life finds them there, takes
// them for durable once it has written them again, and they must survive the power loss after that.
func TestFailedSyncIsWrittenAnew(t *testing.T) {
	for seed := range 200 {
		d := newDisk()
		s := founded(t, d)
		must(t, s.Append(hardState(1, 0, 0), entries(1, 1, 1, 10), true))
		d.setHook(vfs.Nth(1, vfs.Fault{Err: syscall.EIO}, func(op vfs.Op) bool { return op.Kind == vfs.OpSync }))
		if err := s.Append(nil, entries(2, 9, 1, 60), true); !errors.Is(err, ErrDisk) {
			t.Fatal(err)
		}
		d.crash(nil)
		_, r := reopened(t, d)
		found := len(r.Entries)
		d.crash(seeded(seed))
		_, r = reopened(t, d)
		if len(r.Entries) < found {
			t.Fatalf("seed %d: %d entries were served, and %d of them survived", seed, found, len(r.Entries))
		}
	}
}

// TestNameIsSyncedLater ends a process between making a file of the log and syncing its name. The next life finds the file and
// writes to it, and what it has acknowledged must survive the power loss after that.
func TestNameIsSyncedLater(t *testing.T) {
	for seed := range 50 {
		d := newDisk()
		d.segment = 1024
		s := founded(t, d)
		d.setHook(vfs.Nth(1, vfs.Fault{Err: syscall.EIO}, func(op vfs.Op) bool { return op.Kind == vfs.OpSyncDir }))
		var err error
		index := uint64(0)
		for err == nil {
			index++
			err = s.Append(hardState(1, 0, 0), entries(index, index, 1, 100), true)
		}
		if !errors.Is(err, ErrDisk) {
			t.Fatal(err)
		}
		d.crash(nil)
		s, r := reopened(t, d)
		next := r.Base.Index + uint64(len(r.Entries)) + 1
		must(t, s.Append(nil, entries(next, next, 1, 100), true))
		must(t, s.Quiet())
		d.crash(seeded(seed))
		if _, r = reopened(t, d); r.Base.Index+uint64(len(r.Entries)) != next {
			t.Fatalf("seed %d: entry %d was acknowledged, and the log ends with %d", seed, next, r.Base.Index+uint64(len(r.Entries)))
		}
	}
}
