package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/replica"
	"github.com/coord-kv/coord/internal/storage"
)

// What a member does beside its loop: it writes checkpoints, and sends and receives them.

// job runs f as a coroutine that other events may interrupt wherever it calls pause, and that stops there when the
// process ends.
func (l *life) job(f func(pause func(time.Duration) error)) {
	var next func() (time.Duration, bool)
	next, stop := iter.Pull(func(yield func(time.Duration) bool) {
		f(func(d time.Duration) error {
			if !yield(d) {
				return errDead
			}
			return nil
		})
	})
	var step func()
	step = func() {
		if d, ok := next(); ok {
			l.after(d, step)
		}
	}
	l.jobs = append(l.jobs, stop)
	l.after(0, step)
}

// pace is called before each write of a checkpoint. It is set while a job writes one.
func (l *life) pace(int) error {
	if l.pausing == nil {
		return nil
	}
	return l.pausing(l.m.disk.latency(true))
}

// checkpoint writes a cut.
func (l *life) checkpoint(cut *replica.Cut) {
	l.job(func(pause func(time.Duration) error) {
		l.pausing = pause
		size, err, fatal := l.disk.WriteCheckpoint(cut, l.core.History())
		l.pausing = nil
		if l.dead {
			return
		}
		l.w.note("%v has written the checkpoint of entry %d: %d bytes, %v, %v", l.m, cut.Index, size, err, fatal)
		if fatal != nil {
			l.after(0, func() { l.diskFailed(fatal) }) // which ends this job too
			return
		}
		l.checkpointed(cut.Index, size, err)
	})
}

func (l *life) checkpointed(index uint64, size int64, err error) {
	l.input(func() {
		l.core.CutDone(index, size, err)
		if err == nil {
			l.w.count.Checkpoints++
			l.disk.Compact(l.core.FirstIndex())
		}
	})
}

var errBroken = errors.New("the connection broke")

// sendSnapshot streams the current checkpoint to another member and reports how that ended.
func (l *life) sendSnapshot(to *member, m replica.Message) {
	receiver := to.life
	l.job(func(pause func(time.Duration) error) {
		err := l.transfer(to, receiver, m, pause)
		if l.dead {
			return
		}
		l.w.note("%v has sent the snapshot of entry %d to %v: %v", l.m, m.Index, to, err)
		l.input(func() { l.core.SnapshotSent(m.To, err) })
	})
}

func (l *life) transfer(to *member, receiver *life, m replica.Message, pause func(time.Duration) error) error {
	f, err := l.store.OpenCheckpoint()
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Info.Index != m.Index {
		return fmt.Errorf("the checkpoint is of entry %d by now, not %d", f.Info.Index, m.Index)
	}
	if err := l.cross(to, receiver, pause); err != nil {
		return err
	}
	in, err := receiver.receiveSnapshot(f.Info, m.Payload, io.NewSectionReader(f, 0, f.Info.Size), func() error { return l.cross(to, receiver, pause) })
	if err != nil {
		return err
	}
	var verdict error
	done := false
	receiver.input(func() { verdict, done = receiver.core.Receive(l.m.id, in), true })
	for !done {
		if err := l.cross(to, receiver, pause); err != nil {
			return err
		}
	}
	return verdict
}

// cross waits for a piece of a transfer to arrive.
func (l *life) cross(to *member, receiver *life, pause func(time.Duration) error) error {
	if err := pause(l.w.between(l.w.profile.DelayHigh, 10*l.w.profile.DelayHigh)); err != nil {
		return err
	}
	cut := l.w.net.cut
	if receiver == nil || receiver.dead || cut[l.m.index][to.index] || cut[to.index][l.m.index] || l.w.chance(l.w.profile.BreakTransfer) {
		l.w.count.TransferBreaks++
		return errBroken
	}
	return nil
}

// receiveSnapshot takes a checkpoint in pieces, checks and loads it.
func (l *life) receiveSnapshot(info *storage.Info, payload []byte, r io.Reader, next func() error) (*replica.Install, error) {
	info, err := storage.ParseInfo(info.Append(nil))
	if err != nil {
		return nil, err
	}
	in := &replica.Install{Message: new(raftpb.Message)}
	if err := proto.Unmarshal(payload, in.Message); err != nil {
		return nil, err
	}
	incoming, err := l.store.Receive(info)
	if err != nil {
		return nil, err
	}
	defer incoming.Abort()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	for piece := range slices.Chunk(content, len(content)/3+1) {
		if _, err := incoming.Write(piece); err != nil {
			return nil, err
		}
		if err := next(); err != nil {
			return nil, err
		}
	}
	if in.Machine, err = loadState(content, info); err != nil {
		return nil, err
	}
	in.Content, err = incoming.Finish()
	return in, err
}

func loadState(content []byte, info *storage.Info) (*fsm.Machine, error) {
	c, err := storage.NewCheckpointReader(bytes.NewReader(content), "snapshot")
	if err != nil {
		return nil, err
	}
	m, err := fsm.Restore(c)
	if err != nil {
		return nil, err
	}
	if m.Digest() != fsm.Digest(info.Digest) {
		return nil, errors.New("the snapshot is not the state that its header names")
	}
	return m, nil
}
