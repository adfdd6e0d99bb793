package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

// modelState is what a store may be found to hold.
type modelState struct {
	base               Position
	entries            []*pb.Entry
	term, vote, commit uint64
	checkpoint         Position
	history            []uint64 // the last zxid of each chunk
}

func (m modelState) last() uint64 { return m.base.Index + uint64(len(m.entries)) }

func (m modelState) replaced(es []*pb.Entry) modelState {
	keep := es[0].GetIndex() - m.base.Index - 1
	m.entries = append(slices.Clone(m.entries[:keep]), es...)
	return m
}

func (m modelState) termOf(index uint64) uint64 {
	if index == m.base.Index {
		return m.base.Term
	}
	return m.entries[index-m.base.Index-1].GetTerm()
}

// differs says in what a recovered store is not this state. It may lack entries up to the checkpoint, and nothing else.
func (m modelState) differs(r *Recovered, content string) error {
	at, want := Position{}, ""
	if r.Checkpoint != nil {
		at = r.Checkpoint.Position
	}
	if m.checkpoint != (Position{}) {
		want = contentAt(m.checkpoint.Index, m.checkpoint.Term)
	}
	hs := [3]uint64{r.HardState.GetTerm(), r.HardState.GetVote(), r.HardState.GetCommit()}
	last := r.Base.Index + uint64(len(r.Entries))
	switch {
	case at != m.checkpoint || content != want:
		return fmt.Errorf("checkpoint %v, want %v", at, m.checkpoint)
	case hs != [3]uint64{m.term, m.vote, max(m.commit, at.Index)}:
		return fmt.Errorf("hard state %v, want %d %d %d", hs, m.term, m.vote, m.commit)
	case last != m.last():
		return fmt.Errorf("the log ends at %d, want %d", last, m.last())
	case r.Base.Index > at.Index:
		return fmt.Errorf("the log goes on from %d, and the checkpoint is of %d", r.Base.Index, at.Index)
	}
	var history []uint64
	for _, c := range r.Chunks {
		history = append(history, c.Last)
	}
	if !slices.Equal(history, m.history) {
		return fmt.Errorf("history up to %v, want %v", history, m.history)
	}
	for _, e := range r.Entries {
		if e.GetIndex() <= m.base.Index {
			continue
		}
		if w := m.entries[e.GetIndex()-m.base.Index-1]; w.GetTerm() != e.GetTerm() || w.GetIndex() != e.GetIndex() || !bytes.Equal(w.GetData(), e.GetData()) {
			return fmt.Errorf("entry %d is %q@%d, want %q@%d", e.GetIndex(), e.GetData(), e.GetTerm(), w.GetData(), w.GetTerm())
		}
	}
	return nil
}

// workload drives a store at random as raft may, and knows what a crash may leave.
type workload struct {
	t      testing.TB
	d      *disk
	s      *Store
	rng    *rand.Rand
	states []modelState // the oldest that may be found, and all since
	boots  [2]uint64    // the boot number is one of these
	failed error        // of the step that failed
}

func newWorkload(t testing.TB, d *disk, seed int) *workload {
	return &workload{t: t, d: d, s: founded(t, d), rng: seeded(seed), states: make([]modelState, 1)}
}

func (w *workload) now() modelState { return w.states[len(w.states)-1] }

// will notes that the next state may be found from now on.
func (w *workload) will(m modelState) { w.states = append(w.states, m) }

// durable notes that nothing older may be found any more.
func (w *workload) durable() { w.states = w.states[len(w.states)-1:] }

// run does steps until one fails.
func (w *workload) run(steps int) {
	for range steps {
		if w.failed = w.step(); w.failed != nil {
			return
		}
	}
}

// step does something, and does it again when that is allowed.
func (w *workload) step() error {
	do := w.choose()
	err := do()
	if err != nil && !errors.Is(err, ErrDisk) && !errors.Is(err, errDead) {
		err = do()
	}
	return err
}

func (w *workload) choose() func() error {
	m := w.now()
	switch k := w.rng.IntN(20); {
	case k < 12:
		return w.append()
	case k < 14:
		return w.quiet
	case k < 17 && m.commit > m.checkpoint.Index:
		return w.checkpoint()
	case k < 18:
		return w.install()
	case k < 19:
		return w.boot
	default:
		return func() error { return w.s.SavePeers(map[uint64]Peer{1: {Boot: 1, Acked: m.commit}}) }
	}
}

func (w *workload) append() func() error {
	m := w.now()
	var es []*pb.Entry
	var hs *pb.HardState
	sync := w.rng.IntN(3) > 0
	if w.rng.IntN(5) > 0 {
		if w.rng.IntN(4) == 0 {
			m.term++
		}
		m.term = max(m.term, 1)
		first := m.last() + 1
		if low := max(m.commit, m.base.Index); w.rng.IntN(4) == 0 && first > low+1 {
			first = low + 1 + w.rng.Uint64N(first-low-1)
			m.term++
		}
		es = entries(first, first+w.rng.Uint64N(4), m.term, w.rng.IntN(300))
	}
	var withEntries, after modelState
	withEntries = w.now()
	if es != nil {
		withEntries = withEntries.replaced(es)
	}
	after = withEntries
	if es == nil || w.rng.IntN(3) > 0 {
		after.term, after.vote = m.term, w.rng.Uint64N(3)
		after.commit = m.commit + w.rng.Uint64N(after.last()-m.commit+1)
		hs = hardState(after.term, after.vote, after.commit)
	}
	return func() error {
		w.will(withEntries)
		w.will(after)
		err := w.s.Append(hs, es, sync)
		if err == nil && sync {
			w.durable()
		}
		return err
	}
}

func (w *workload) quiet() error {
	err := w.s.Quiet()
	if err == nil {
		w.durable()
	}
	return err
}

func (w *workload) checkpoint() func() error {
	m := w.now()
	index := m.checkpoint.Index + 1 + w.rng.Uint64N(m.commit-m.checkpoint.Index)
	m.checkpoint = Position{index, m.termOf(index)}
	keep := w.rng.Uint64N(index + 10)
	return func() error {
		info, err := checkpointAt(w.s, m.checkpoint.Index, m.checkpoint.Term)
		if err != nil {
			return err
		}
		w.will(m)
		if err = w.s.CommitCheckpoint(info, keep, ChunkChange{}); err == nil {
			w.durable()
		}
		return err
	}
}

func (w *workload) install() func() error {
	m := w.now()
	held := m
	m.term = max(m.term, 1) + w.rng.Uint64N(2)
	m.base = Position{m.last() + 1 + w.rng.Uint64N(5), m.term}
	m.entries, m.checkpoint, m.commit = nil, m.base, m.base.Index
	var chunks []Chunk
	m.history = nil
	for i := range w.rng.Uint64N(3) {
		last := m.base.Index + i // so that it tells whose it is
		chunks = append(chunks, Chunk{ChunkInfo: ChunkInfo{First: 1, Last: last}, Data: fmt.Appendf(nil, "events up to %d", last)})
		m.history = append(m.history, last)
	}
	held.term, held.vote, held.commit = m.term, m.vote, min(held.last(), m.commit)
	return func() error {
		info, content := snapshotFor(w.t, m.base.Index, m.base.Term)
		got, history, err := receiveWithHistory(w.s, info, content, chunks...)
		if err != nil {
			return err
		}
		w.will(held)
		w.will(m)
		if err = w.s.InstallSnapshot(hardState(m.term, m.vote, m.commit), got, history); err == nil {
			w.durable()
		}
		return err
	}
}

func (w *workload) boot() error {
	w.boots[1] = w.boots[0] + 1
	n, err := w.s.NextBoot()
	if err == nil {
		w.boots = [2]uint64{n, n}
	}
	return err
}

// recoverAndCheck opens the store and makes sure that it holds one of the states that it may.
func (w *workload) recoverAndCheck(what string) {
	w.t.Helper()
	s, r, err := w.d.open()
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	content, err := loadCheckpoint(s)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	if r.Boot < w.boots[0] || r.Boot > w.boots[1] {
		w.t.Fatalf("%s: boot number %d, want one of %v", what, r.Boot, w.boots)
	}
	w.boots = [2]uint64{r.Boot, r.Boot}
	var why error
	for _, m := range slices.Backward(w.states) {
		if why = m.differs(r, content); why == nil {
			w.s, w.states = s, []modelState{m}
			return
		}
	}
	w.t.Fatalf("%s: none of %d states fits; the oldest: %v", what, len(w.states), why)
}

// checkOn makes sure that the recovered store works, and that what it then does is found by the next.
func (w *workload) checkOn(what string) {
	w.t.Helper()
	w.run(6)
	if w.failed != nil {
		w.t.Fatalf("%s, and then: %v", what, w.failed)
	}
	if err := w.s.Close(); err != nil {
		w.t.Fatalf("%s, and then Close: %v", what, err)
	}
	w.durable()
	w.recoverAndCheck(what + ", and on, and closed")
	must(w.t, w.s.Close())
}
