// Package session is the leader's bookkeeping of which sessions are alive. A [Tracker] is told what has been decided of
// sessions and which keep-alives were heard; it says whose time is up. It has no goroutine and no clock: time is the
// number of calls of Tick, so that the same calls always give the same answers. It is not safe for concurrent use.
//
// # Guarantees
//
// A deadline comes more than the timeout after the last keep-alive was heard, and at most one tick later than that, with
// the timeout rounded up to ticks. For one that another member heard, the time that its report took and the fraction of
// a tick that is cut off its age come on top. This holds provided that Tick is never called sooner than a tick after the
// call before. After a delay, ticks are late and are not made up for: deadlines then come later, never earlier.
//
// A session whose expiry has been proposed is not alive any more as far as Heard is concerned, until it is certain that
// the proposal has no effect.
//
// # What its owner must do
//
//   - Feed it what was received before it ticks: the whole inbox, then one Tick. A leader that was stalled then hears
//     the keep-alives that waited, instead of expiring everybody who sent one.
//   - Keep ticks at least a tick apart: set the timer anew after each, because a ticker that fires on time after having
//     fired late makes a session expire up to a tick too early.
//   - Propose an expiry only after a round of the quorum that began when the deadline had passed already: take Now when
//     the round begins and ask Due with that when it has ended. A leader that was deposed in the meantime thus expires
//     nobody, and keep-alives that arrived during the round count.
//   - Confirm a keep-alive to its sender only if Heard said true, and only after a round that began later. Otherwise a
//     deposed leader promises life to the dead.
//   - Reset it after the first committed entry of a new term.
//
// Deadlines are rounded up to a tick and a new leader gives everybody a full timeout, as ZooKeeper does
// (server/ExpiryQueue.java, server/SessionTrackerImpl.java).
package session

import (
	"iter"
	"time"

	"github.com/coord-kv/coord/op"
)

// slots is the size of the wheel in ticks. A session with a longer timeout is looked at once a revolution.
const slots = 1024

// Tracker knows a deadline for each session. Entries lie in a timing wheel (Varghese and Lauck 1987) under the deadline
// that they had when they were put there; a keep-alive only notes the later one, and the entry moves when its slot
// comes up. So a keep-alive costs a map lookup, and a tick costs the entries of one slot.
type Tracker struct {
	tick     time.Duration
	now      int64
	sessions map[op.SessionID]*entry
	wheel    [slots]list
	late     list // deadline passed, expiry not proposed; by the time at which that came about
}

// entry is one session. It is in the wheel, or in late, or, while its expiry is proposed, in no list.
type entry struct {
	id       op.SessionID
	epoch    uint64
	timeout  time.Duration
	heard    int64 // tick of the latest sign of life
	deadline int64 // tick at which its time is up; at or after the slot in which it lies
	proposed bool  // an expiry under this epoch may be on its way

	in         *list
	prev, next *entry
}

// NewTracker returns a Tracker without sessions. The length of a tick only serves to count timeouts in ticks.
func NewTracker(tick time.Duration) *Tracker {
	if tick <= 0 {
		panic("session: a tick without length")
	}
	return &Tracker{tick: tick, sessions: make(map[op.SessionID]*entry)}
}

// Reset forgets everything and gives each of the sessions its full timeout: what a new leader, who has heard nothing
// yet, does after the first entry of its term has been committed and everything before it applied. Time goes on.
func (t *Tracker) Reset(sessions iter.Seq[op.Expiry]) {
	now := t.now
	*t = *NewTracker(t.tick)
	t.now = now
	for s := range sessions {
		t.Changed(s.Session, s.Epoch, s.Timeout)
	}
}

// Changed notes that a session has been opened, attached, or given another timeout, in the order in which that was
// decided. It is a sign of life. A deadline never moves closer by it: the owner was told the one before, and only a
// keep-alive heard later says that it knows of a shorter timeout.
//
// A new epoch voids an expiry proposed before. Another timeout does too, but that counts only once the proposal is
// known to have failed: the timeout could be changed back before it is decided.
func (t *Tracker) Changed(id op.SessionID, epoch uint64, timeout time.Duration) {
	e := t.sessions[id]
	if e == nil {
		e = &entry{id: id}
		t.sessions[id] = e
	}
	if e.epoch != epoch {
		e.proposed = false
	}
	e.epoch, e.timeout, e.heard = epoch, timeout, t.now
	t.setDeadline(e, max(e.deadline, t.deadlineAfter(t.now, timeout)))
}

// Ended notes that a session has ended, however that came about.
func (t *Tracker) Ended(id op.SessionID) {
	if e := t.sessions[id]; e != nil {
		e.leave()
		delete(t.sessions, id)
	}
}

// Heard notes a keep-alive that some member heard that many ticks ago, rounded down. It returns whether the session is
// alive as far as is known here: false for an unknown session and for one whose expiry has been proposed, in which case
// the keep-alive must never be confirmed to its sender. One that is older than another heard already changes nothing.
func (t *Tracker) Heard(id op.SessionID, agoTicks uint32) bool {
	e := t.sessions[id]
	if e == nil || e.proposed {
		return false
	}
	if at := t.now - int64(agoTicks); at > e.heard {
		e.heard = at
		t.setDeadline(e, t.deadlineAfter(at, e.timeout))
	}
	return true
}

// Tick moves time on by one.
func (t *Tracker) Tick() {
	t.now++
	for e := t.wheel[t.now%slots].takeAll(); e != nil; {
		next := e.next
		e.in, e.prev, e.next = nil, nil, nil
		t.place(e)
		e = next
	}
}

// Now returns the number of ticks so far.
func (t *Tracker) Now() int64 { return t.now }

// Due returns up to that many sessions whose deadline had passed at the tick by, that have not been heard of since, and
// whose expiry has not been proposed; the longest overdue first, but for those that come back by Unproposed. It changes
// nothing.
func (t *Tracker) Due(by int64, most int) []op.Expiry {
	var due []op.Expiry
	for e := t.late.first; e != nil && len(due) < most; e = e.next {
		if e.deadline <= by {
			due = append(due, op.Expiry{Session: e.id, Epoch: e.epoch, Timeout: e.timeout})
		}
	}
	return due
}

// Overdue returns how many sessions Due would return now if it were asked for all.
func (t *Tracker) Overdue() int { return t.late.len }

// Proposed notes that the expiry of these sessions, as Due named them, has been proposed.
func (t *Tracker) Proposed(due []op.Expiry) {
	for _, x := range due {
		if e := t.sessions[x.Session]; e != nil && e.epoch == x.Epoch {
			e.proposed = true
			e.leave()
		}
	}
}

// Unproposed notes that such a proposal was dropped, surely and for good, or that it has been applied. Those of its
// sessions that still live — it was void, or ended only a part of them — have the deadline that they had.
func (t *Tracker) Unproposed(due []op.Expiry) {
	for _, x := range due {
		if e := t.sessions[x.Session]; e != nil && e.epoch == x.Epoch && e.proposed {
			e.proposed = false
			t.place(e)
		}
	}
}

// Len returns the number of sessions.
func (t *Tracker) Len() int { return len(t.sessions) }

// Left returns how many ticks a session has until its deadline, 0 if it has passed, and whether it is known.
func (t *Tracker) Left(id op.SessionID) (ticks int64, ok bool) {
	e := t.sessions[id]
	if e == nil {
		return 0, false
	}
	return max(e.deadline-t.now, 0), true
}

// deadlineAfter returns the first tick that is certainly more than the timeout after anything that happened between the
// tick at and the next.
func (t *Tracker) deadlineAfter(at int64, timeout time.Duration) int64 {
	ticks := int64(timeout / t.tick)
	if timeout%t.tick != 0 {
		ticks++
	}
	return at + 1 + ticks
}

// setDeadline gives an entry its deadline. In the wheel it stays where it is if it comes up there early enough.
func (t *Tracker) setDeadline(e *entry, deadline int64) {
	stays := e.in != nil && e.in != &t.late && deadline >= e.deadline
	e.deadline = deadline
	if !stays && !e.proposed {
		t.place(e)
	}
}

// place puts an entry where its deadline says.
func (t *Tracker) place(e *entry) {
	e.leave()
	if e.deadline <= t.now {
		t.late.push(e)
	} else {
		t.wheel[e.deadline%slots].push(e)
	}
}

// list is a queue of entries from whose middle one can be taken.
type list struct {
	first, last *entry
	len         int
}

func (l *list) push(e *entry) {
	e.in, e.prev, e.next = l, l.last, nil
	if l.last == nil {
		l.first = e
	} else {
		l.last.next = e
	}
	l.last = e
	l.len++
}

// takeAll empties the list and returns what was its first entry, still linked to the others.
func (l *list) takeAll() *entry {
	first := l.first
	*l = list{}
	return first
}

// leave takes an entry out of its list, if it is in one.
func (e *entry) leave() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	l.len--
	e.in, e.prev, e.next = nil, nil, nil
}
