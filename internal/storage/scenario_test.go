package storage

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/coord-kv/coord/internal/vfs"
)

// TestScenarios runs testdata/*.txt. Each command shows, in order, what it did to the disk, and what came of it: so the order on
// which durability rests is text that a change of it must change.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, file string) {
		sc := &scenario{t: t, d: newDisk()}
		datadriven.RunTest(t, file, func(t *testing.T, td *datadriven.TestData) string {
			sc.t = t
			result := sc.run(td)
			if sc.quiet {
				sc.d.takeTrace()
			}
			return strings.Join(append(sc.d.takeTrace(), result), "\n")
		})
	})
}

type scenario struct {
	t       *testing.T
	d       *disk
	s       *Store
	quiet   bool // no trace
	held    *CheckpointFile
	info    *Info
	history []ChunkInfo // staged with it
}

func (sc *scenario) run(td *datadriven.TestData) string {
	u := func(name string, otherwise uint64) uint64 {
		td.MaybeScanArgs(sc.t, name, &otherwise)
		return otherwise
	}
	var err error
	switch td.Cmd {
	case "trace":
		sc.quiet = td.HasArg("off")
	case "open":
		sc.d.segment = int64(u("segment", 1024))
		return sc.open()
	case "found":
		must(sc.t, sc.s.Identify(testMember, "a"))
		err = sc.s.Found(testCluster, voters(testMember))
	case "boot":
		n, err := sc.s.NextBoot()
		return result(err, fmt.Sprintf("boot %d", n))
	case "append":
		var state = hardState(u("term", 1), u("vote", 0), u("commit", 0))
		if !td.HasArg("commit") {
			state = nil
		}
		es := entries(u("first", 1), u("last", 0), u("term", 1), int(u("size", 10)))
		err = sc.s.Append(state, es, !td.HasArg("nosync"))
	case "quiet":
		err = sc.s.Quiet()
	case "write-checkpoint":
		sc.info, err = checkpointAt(sc.s, u("index", 0), u("term", 1))
	case "commit-checkpoint":
		var change ChunkChange
		if td.HasArg("chunk") {
			seq := u("chunk", 0)
			change.Add = []Chunk{{ChunkInfo: ChunkInfo{Seq: seq, First: seq * 10, Last: seq*10 + 9}, Data: []byte("events")}}
		}
		if td.HasArg("drop") {
			change.Drop = []uint64{u("drop", 0)}
		}
		err = sc.s.CommitCheckpoint(sc.info, u("keep", 1<<60), change)
	case "receive":
		info, content := snapshotFor(sc.t, u("index", 0), u("term", 1))
		chunk := Chunk{ChunkInfo: ChunkInfo{First: 1, Last: 2, Events: 2}, Data: []byte("events")}
		sc.info, sc.history, err = receiveWithHistory(sc.s, info, content, chunk)
	case "discard":
		err = sc.s.Discard(sc.info, sc.history)
	case "install":
		err = sc.s.InstallSnapshot(hardState(u("term", 1), 0, sc.info.Index), sc.info, sc.history)
	case "hold":
		sc.held, err = sc.s.OpenCheckpoint()
	case "read-held":
		r, err := sc.held.Reader()
		must(sc.t, err)
		b, err := io.ReadAll(r)
		return result(err, fmt.Sprintf("%.20s...", b))
	case "whole":
		err = sc.s.Whole()
	case "reserve":
		err = sc.s.Reserve(int64(u("bytes", 0)))
	case "free":
		sc.d.mem.SetFree(int64(u("bytes", 0)))
	case "stats":
		return fmt.Sprintf("%+v", sc.s.Stats())
	case "close":
		err = sc.s.Close()
	case "kill":
		sc.d.crash(nil)
	case "crash":
		sc.d.crash(seeded(int(u("seed", 0))))
	case "fail":
		sc.fail(td)
	case "flip":
		var file string
		td.ScanArgs(sc.t, "file", &file)
		err = sc.d.mem.Flip(testDir+"/"+file, int64(u("at", 0)), 1)
	case "remove":
		var file string
		td.ScanArgs(sc.t, "file", &file)
		must(sc.t, sc.d.mem.Remove(testDir+"/"+file))
		err = sc.d.mem.SyncDir(testDir)
	case "ls":
		return strings.Join(fileNames(sc.t, sc.d.mem), "\n")
	default:
		td.Fatalf(sc.t, "unknown command %s", td.Cmd)
	}
	return result(err, "ok")
}

func result(err error, fine string) string {
	switch {
	case err == nil:
		return fine
	case errors.Is(err, ErrDisk):
		return "FATAL: " + err.Error()
	default:
		return "error: " + err.Error()
	}
}

// fail makes the nth operation of a kind fail, on a file whose name begins with file.
func (sc *scenario) fail(td *datadriven.TestData) {
	var kind, file string
	n, err := int64(1), syscall.EIO
	td.ScanArgs(sc.t, "op", &kind)
	td.MaybeScanArgs(sc.t, "file", &file)
	td.MaybeScanArgs(sc.t, "nth", &n)
	if td.HasArg("nospace") {
		err = syscall.ENOSPC
	}
	sc.d.setHook(vfs.Nth(n, vfs.Fault{Err: err, After: td.HasArg("after")}, func(op vfs.Op) bool {
		return string(op.Kind) == kind && strings.HasPrefix(op.Name, testDir+"/"+file) || op.Kind == opCommit && kind == "commit"
	}))
}

func (sc *scenario) open() string {
	s, r, err := sc.d.open()
	if err != nil {
		return result(err, "")
	}
	sc.s = s
	var b strings.Builder
	if r.Fresh {
		return "fresh"
	}
	fmt.Fprintf(&b, "member %x of cluster %x, boot %d\n", r.Identity.MemberID, r.Identity.ClusterID, r.Boot)
	fmt.Fprintf(&b, "hard state: term %d vote %d commit %d\n", r.HardState.GetTerm(), r.HardState.GetVote(), r.HardState.GetCommit())
	fmt.Fprintf(&b, "log: after %d@%d: %s\n", r.Base.Index, r.Base.Term, show(r.Entries))
	content, err := loadCheckpoint(s)
	fmt.Fprintf(&b, "checkpoint: %s\n", result(err, fmt.Sprintf("%.20s", content)))
	for _, c := range r.Chunks {
		fmt.Fprintf(&b, "chunk %d: %d to %d\n", c.Seq, c.First, c.Last)
	}
	if r.Cut.Bytes > 0 {
		fmt.Fprintf(&b, "cut %d bytes from %s at %d: %s\n", r.Cut.Bytes, r.Cut.File, r.Cut.Offset, r.Cut.Reason)
	}
	if r.Torn {
		b.WriteString("torn\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}
