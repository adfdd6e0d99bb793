package sim

import (
	"errors"
	"io"
	"iter"
	"time"

	adapter "github.com/coord-kv/coord/internal/member"
	"github.com/coord-kv/coord/internal/replica"
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
	s, err := l.disk.OpenSnapshot(m.Index)
	if err != nil {
		return err
	}
	defer s.Close()
	next := func() error { return l.cross(to, receiver, pause) }
	if err := next(); err != nil {
		return err
	}
	in, err := receiver.disk.Receive(s.Header(m.Payload), s.Size, &arrival{w: l.w, from: s, next: next})
	if err != nil {
		return err
	}
	var verdict error
	done := false
	receiver.input(func() { verdict, done = receiver.core.Receive(l.m.id, in), true })
	for !done {
		if err := next(); err != nil {
			return err
		}
	}
	if verdict != nil {
		return errors.Join(verdict, receiver.disk.Discard(in))
	}
	return nil
}

// arrival is a snapshot that arrives in three pieces or four.
type arrival struct {
	w     *world
	from  *adapter.Snapshot
	off   int64
	until int64 // what has arrived
	next  func() error
}

func (a *arrival) ResumeAt(offset int64) error {
	if offset > 0 {
		a.w.count.TransferResumes++
	}
	a.off, a.until = offset, offset
	return nil
}

func (a *arrival) Read(p []byte) (int, error) {
	if a.off == a.from.Size {
		return 0, io.EOF
	}
	if a.off == a.until {
		if err := a.next(); err != nil {
			return 0, err
		}
		a.until = min(a.from.Size, a.off+a.from.Size/3+1)
	}
	n, err := a.from.ReadAt(p[:min(int64(len(p)), a.until-a.off)], a.off)
	a.off += int64(n)
	return n, err
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
