package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
	"pgregory.net/rapid"
)

// The model keeps every sign of life and works the deadline out from them when it is asked.
type model struct {
	now      int64
	sessions map[op.SessionID]*modelSession
}

type modelSession struct {
	epoch    uint64
	timeout  int64 // ticks
	changed  int64 // tick of the last change
	standing int64 // deadline before it
	reports  []int64
	proposed bool
}

// deadline: if something was heard after the last change, what the latest of that says; else whichever is later of what
// stood before the change and what the change says.
func (s *modelSession) deadline() int64 {
	var latest int64 = -1
	for _, at := range s.reports {
		if at > s.changed {
			latest = max(latest, at)
		}
	}
	if latest >= 0 {
		return latest + 1 + s.timeout
	}
	return max(s.standing, s.changed+1+s.timeout)
}

func (m *model) due(by int64) []op.SessionID {
	var ids []op.SessionID
	for id, s := range m.sessions {
		if s.deadline() <= min(by, m.now) && !s.proposed {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestAgainstModel(t *testing.T) {
	const tick = time.Second
	rapid.Check(t, func(t *rapid.T) {
		tracker, m := NewTracker(tick), &model{sessions: make(map[op.SessionID]*modelSession)}
		anyID := func() op.SessionID { return op.SessionID(rapid.IntRange(1, 6).Draw(t, "id")) }
		expiryOf := func(id op.SessionID) op.Expiry {
			s := m.sessions[id]
			return op.Expiry{Session: id, Epoch: s.epoch, Timeout: time.Duration(s.timeout) * tick}
		}
		propose := func(due []op.Expiry) {
			tracker.Proposed(due)
			for _, x := range due {
				m.sessions[x.Session].proposed = true
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				id, timeout := anyID(), int64(rapid.SampledFrom([]int{1, 5, 20, 1022, 1023, 1024, 3000}).Draw(t, "timeout"))
				s := m.sessions[id]
				if s == nil {
					s = &modelSession{}
					m.sessions[id] = s
				} else {
					s.standing = s.deadline()
				}
				s.timeout, s.changed = timeout, m.now
				if rapid.Bool().Draw(t, "attach") {
					s.epoch++
					s.proposed = false
				}
				tracker.Changed(id, s.epoch, time.Duration(timeout)*tick)
			},
			"end": func(*rapid.T) {
				id := anyID()
				delete(m.sessions, id)
				tracker.Ended(id)
			},
			"heard": func(t *rapid.T) {
				id, ago := anyID(), rapid.SampledFrom([]uint32{0, 0, 0, 1, 3, 30}).Draw(t, "ago")
				s := m.sessions[id]
				alive := s != nil && !s.proposed
				if alive {
					s.reports = append(s.reports, m.now-int64(ago))
				}
				if got := tracker.Heard(id, ago); got != alive {
					t.Fatalf("heard %d: %v", id, got)
				}
			},
			"tick": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 1, 1, 4, 1000, 1025}).Draw(t, "ticks") {
					m.now++
					tracker.Tick()
				}
			},
			"round": func(t *rapid.T) {
				by := m.now - int64(rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "ago"))
				due := tracker.Due(by, rapid.IntRange(0, 6).Draw(t, "max"))
				for _, x := range due {
					if x != expiryOf(x.Session) || !slices.Contains(m.due(by), x.Session) {
						t.Fatalf("due by %d: %+v, want one of %v", by, x, m.due(by))
					}
				}
				if rapid.Bool().Draw(t, "propose") {
					propose(due)
				}
			},
			"unpropose": func(t *rapid.T) {
				id := anyID()
				if s := m.sessions[id]; s != nil {
					x := expiryOf(id)
					if rapid.Bool().Draw(t, "of an older epoch") {
						x.Epoch--
					} else {
						s.proposed = false
					}
					tracker.Unproposed([]op.Expiry{x})
				}
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
					return
				}
				ids := slices.Sorted(func(yield func(op.SessionID) bool) {
					for id := range m.sessions {
						if !yield(id) {
							return
						}
					}
				})
				tracker.Reset(func(yield func(op.Expiry) bool) {
					for _, id := range ids {
						if !yield(expiryOf(id)) {
							return
						}
					}
				})
				for id, s := range m.sessions {
					m.sessions[id] = &modelSession{epoch: s.epoch, timeout: s.timeout, changed: m.now}
				}
			},
			"": func(t *rapid.T) {
				all := tracker.Due(m.now, 100)
				ids := make([]op.SessionID, len(all))
				for i, x := range all {
					ids[i] = x.Session
				}
				slices.Sort(ids)
				if want := m.due(m.now); !slices.Equal(ids, want) || tracker.Overdue() != len(want) {
					t.Fatalf("due %v, want %v", ids, want)
				}
				if tracker.Len() != len(m.sessions) || tracker.Now() != m.now {
					t.Fatalf("%d sessions at %d, want %d at %d", tracker.Len(), tracker.Now(), len(m.sessions), m.now)
				}
				for id, s := range m.sessions {
					if left, ok := tracker.Left(id); !ok || left != max(s.deadline()-m.now, 0) {
						t.Fatalf("session %d has %d left, want until %d at %d", id, left, s.deadline(), m.now)
					}
				}
			},
		})
	})
}

// In real time: ticks come at least a tick apart, on time or late by anything. A session is due more than its timeout
// after the last keep-alive was heard, by whichever member, and at most a tick later if the leader heard it itself and
// its ticks are on time.
func TestNeverBeforeTheTimeout(t *testing.T) {
	const tick = 100 * time.Millisecond
	random := rand.New(rand.NewPCG(1, 2))
	upTo := func(limit time.Duration) time.Duration { return time.Duration(random.Int64N(int64(limit) + 1)) }
	for run := range 4000 {
		lateness := []time.Duration{0, tick / 2, 20 * tick}[run%3]
		timeout := time.Second + tick*time.Duration(random.IntN(20))
		tracker := NewTracker(tick)
		tracker.Changed(1, 1, timeout)
		now, next := time.Duration(0), tick
		step := func() {
			tracker.Tick()
			now, next = next, next+tick+upTo(lateness)
		}
		for range 4 + random.IntN(6) {
			step()
		}

		arrived := now + upTo(next-now-1)
		age := upTo(3 * tick)
		if run%2 == 0 {
			age = 0
		}
		tracker.Heard(1, uint32(age/tick))
		for tracker.Overdue() == 0 {
			step()
		}
		switch lasted := now - (arrived - age); {
		case lasted <= timeout:
			t.Fatalf("run %d: due after %v, the timeout is %v", run, lasted, timeout)
		case lasted > timeout+tick && lateness == 0 && age == 0:
			t.Fatalf("run %d: due only after %v, the timeout is %v", run, lasted, timeout)
		}
	}
}

func TestTickNeedsALength(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewTracker(0)
}

// A tick of a leader with 100,000 sessions, each of which is heard of three times per timeout of 30 s.
func BenchmarkTick(b *testing.B) {
	tracker, ids := crowd()
	perTick := len(ids) / 100
	next := 0
	for b.Loop() {
		for range perTick {
			tracker.Heard(ids[next%len(ids)], 0)
			next++
		}
		tracker.Tick()
		if tracker.Overdue() > 0 {
			b.Fatal("somebody expired")
		}
	}
	b.ReportMetric(float64(perTick), "reports/op")
}

func BenchmarkHeard(b *testing.B) {
	tracker, ids := crowd()
	for i := 0; b.Loop(); i++ {
		tracker.Heard(ids[i%len(ids)], 1)
	}
}

// All 100,000 sessions expire at once.
func BenchmarkMassExpiry(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		tracker, ids := crowd()
		b.StartTimer()
		for range 301 {
			tracker.Tick()
		}
		for left := len(ids); left > 0; {
			due := tracker.Due(tracker.Now(), 1000)
			tracker.Proposed(due)
			left -= len(due)
		}
	}
}

func crowd() (*Tracker, []op.SessionID) {
	tracker := NewTracker(100 * time.Millisecond)
	ids := make([]op.SessionID, 100_000)
	for i := range ids {
		ids[i] = op.SessionID(i + 1)
		tracker.Changed(ids[i], 1, 30*time.Second)
	}
	if tracker.Len() != len(ids) {
		panic(fmt.Sprint(tracker.Len()))
	}
	return tracker, ids
}
