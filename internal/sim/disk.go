package sim

import (
	"errors"
	"time"

	"github.com/coord-kv/coord/internal/storage"
	"github.com/coord-kv/coord/internal/vfs"
)

// disk is what of a member survives its process. It has its moods.
type disk struct {
	w        *world
	fs       *vfs.Mem
	manifest *storage.MemManifest

	low, high time.Duration // how long a sync takes
	slowUntil time.Duration // until then, it takes as long as slow says
	slow      time.Duration
}

func newDisk(w *world) *disk {
	return &disk{w: w, fs: vfs.NewMem(), manifest: storage.NewMemManifest(), low: w.profile.SyncLow, high: w.profile.SyncHigh}
}

// latency returns how long the next write takes.
func (d *disk) latency(sync bool) time.Duration {
	switch {
	case d.w.now < d.slowUntil:
		return d.w.between(d.slow/2, d.slow)
	case sync:
		return d.w.between(d.low, d.high)
	}
	return 10 * time.Microsecond
}

var (
	errDead = errors.New("the process has ended")
	errDisk = errors.New("input/output error")
)

// grip is a process's hold on its disk. It can be told to end the process in the middle of what it does, or to fail.
type grip struct {
	d       *disk
	dead    bool
	dieIn   int   // with counting: operations until the process ends
	err     error // with counting: what the last of them gets instead; nil ends the process
	counts  bool
	touched int // operations so far that could change something
}

// hook is called before each operation on a file.
func (g *grip) hook(o vfs.Op) vfs.Fault {
	return g.fault(o.Changes())
}

func (g *grip) fault(changes bool) vfs.Fault {
	if g.dead {
		return vfs.Fault{Err: errDead}
	}
	if !changes {
		return vfs.Fault{}
	}
	g.touched++
	if !g.counts {
		return vfs.Fault{}
	}
	if g.dieIn--; g.dieIn > 0 {
		return vfs.Fault{}
	}
	g.counts = false
	if g.err != nil {
		return vfs.Fault{Err: g.err}
	}
	g.dead = true
	return vfs.Fault{Err: errDead, After: g.d.w.chance(50)}
}

// doom ends the process after so many more operations. With an error the process lives to see that.
func (g *grip) doom(operations int, err error) { g.counts, g.dieIn, g.err = true, operations, err }

// options of a store that this process opens.
func (g *grip) options(segment int64) storage.Options {
	return storage.Options{
		FS: vfs.Hooked(g.d.fs, g.hook), Dir: "/data", SegmentBytes: segment,
		Manifest: func(dir string, create bool) (storage.Manifest, error) {
			m, err := g.d.manifest.Open(dir, create)
			return &gripManifest{m, g}, err
		},
	}
}

// gripManifest commits as a whole, or not, when the process ends.
type gripManifest struct {
	storage.Manifest
	g *grip
}

func (m *gripManifest) Commit(set map[string][]byte, drop []string) error {
	fault := m.g.fault(true)
	if fault.Err != nil && !fault.After {
		return fault.Err
	}
	if err := m.Manifest.Commit(set, drop); err != nil {
		return err
	}
	return fault.Err
}
