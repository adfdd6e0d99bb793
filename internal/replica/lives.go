package replica

import (
	"cmp"
	"slices"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
	"github.com/coord-kv/coord/session"
)

// KeepAlive is a sign of life of a session that was heard by this member.
type KeepAlive struct {
	Session op.SessionID
	Done    func(error) // when a leader has confirmed it, or the session has ended; nil if nobody waits

	// Timeout is told, after Done without an error, what the session's timeout is in a state that is not older than the
	// confirmation: this member may not know yet that it has been shortened. Nil if nobody asks.
	Timeout func(time.Duration, error)

	at   uint64     // Clock.Mono
	next *KeepAlive // of its pulse
}

// TimeLeft asks how long a session has to live unless it gives another sign of life.
type TimeLeft struct {
	Session op.SessionID
	Done    func(time.Duration, error)

	ticks int
}

// What is kept of keep-alives and questions under way.
const (
	maxReports   = 256     // reports to a leader that may be unconfirmed
	maxLivesWait = 1 << 18 // signs of life and questions waiting
	expiryBatch  = 256     // sessions ended by one request: its ephemeral nodes all go at one zxid
	reapBatch    = 1000    // container and TTL nodes deleted by one request
	reapEvery    = 20      // ticks
	askTicks     = 40      // after which a question to the leader is given up
)

// errEnded answers a sign of life of a session that is no more.
var errEnded = &op.Error{Code: op.SessionExpired, Outcome: op.Decided, Detail: "the session has ended"}

// lives carries signs of life to the leader's tracker and back their confirmation, and proposes expiries and reaping.
//
// A sign of life is confirmed only by a round that began after the leader had heard it: otherwise a deposed leader,
// which can believe in itself for a whole election timeout after its successor has begun to expire sessions, would
// promise life to the dead. What is unconfirmed is reported again, once a tick, to whoever leads then.
type lives struct {
	c       *Core
	tracker *session.Tracker // of a leader

	heard   map[op.SessionID]pulse // not confirmed
	waiting int
	reports map[uint64][]heard // what each report told, by session
	next    uint64             // number of the last report or question, ever
	asks    map[uint64]*TimeLeft

	follows map[op.SessionID][]*Follow

	pendingRound livesRound // for the next round, on a leader
	sinceReap    int
}

// pulse is what is not confirmed of one session. Who waits is linked, the latest first.
type pulse struct {
	at    uint64 // newest
	waits *KeepAlive
}

// heard is the newest sign of life of a session.
type heard struct {
	session op.SessionID
	at      uint64
}

// livesRound is what one round of a leader confirms and backs.
type livesRound struct {
	confirms []confirm
	began    int64 // the tracker's tick when the round began
}

type confirm struct {
	to, report uint64
	sessions   []op.SessionID
}

func (l *lives) init(c *Core, t *session.Tracker) {
	l.c, l.tracker, l.next = c, t, c.firstNumber()
	l.heard = map[op.SessionID]pulse{}
	l.reports = map[uint64][]heard{}
	l.asks = map[uint64]*TimeLeft{}
	l.follows = map[op.SessionID][]*Follow{}
}

// KeepAlive takes a sign of life.
func (c *Core) KeepAlive(k *KeepAlive) {
	l := &c.lives
	if !c.machine.Alive(k.Session) && !c.halt.halted() {
		l.finish(k, errEnded)
		return
	}
	if l.waiting >= maxLivesWait {
		l.finish(k, op.Errorf(op.Overloaded, "too many keep-alives wait for a leader"))
		return
	}
	p := l.heard[k.Session]
	k.at, p.at = c.now.Mono, c.now.Mono
	if k.Done != nil {
		k.next, p.waits = p.waits, k
		l.waiting++
	}
	l.heard[k.Session] = p
}

func (l *lives) finish(k *KeepAlive, err error) {
	if k.Done != nil {
		l.c.answer(func() { k.Done(err) })
	}
}

// turn does what happens once a tick, after everything that had arrived was taken in: report, and count the tick.
func (l *lives) turn() {
	if !l.c.ticked {
		return
	}
	if len(l.heard) > 0 && l.c.lead != 0 && (!l.c.isLeader() || l.c.leading) {
		l.report()
	}
	if l.c.leading {
		l.tracker.Tick()
	}
	if l.c.leading && !l.c.halt.halted() {
		l.reap()
	}
}

func (l *lives) report() {
	l.next++
	told := make([]heard, 0, len(l.heard))
	for id, p := range l.heard {
		told = append(told, heard{id, p.at})
	}
	slices.SortFunc(told, func(a, b heard) int { return cmp.Compare(a.session, b.session) })
	l.reports[l.next] = told
	delete(l.reports, l.next-maxReports)
	if l.c.isLeader() {
		l.hear(l.c.cfg.Self, l.next, l.entries(told))
		return
	}
	l.c.send(l.c.lead, true, FrameReport, appendReport(nil, l.next, l.entries(told)))
}

// sign is one entry of a report.
type sign struct {
	session op.SessionID
	ago     uint64 // milliseconds
}

func (l *lives) entries(told []heard) []sign {
	signs := make([]sign, len(told))
	for i, h := range told {
		signs[i] = sign{h.session, l.c.now.Mono - h.at}
	}
	return signs
}

func appendReport(b []byte, report uint64, signs []sign) []byte {
	b = wire.Uint(b, report)
	for _, s := range signs {
		b = wire.Uint(wire.Uint(b, uint64(s.session)), s.ago)
	}
	return b
}

func (l *lives) reported(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	report := r.Uint()
	var signs []sign
	for r.Len() > 0 && r.Err() == nil {
		signs = append(signs, sign{op.SessionID(r.Uint()), r.Uint()})
	}
	if r.Err() == nil && l.c.leading {
		l.hear(from, report, signs)
	}
	return r.Err()
}

// hear takes a report on a leader. Sessions that it doesn't know, or whose expiry has been proposed, are left out of
// what will be confirmed.
func (l *lives) hear(from, report uint64, signs []sign) {
	c := confirm{from, report, make([]op.SessionID, 0, len(signs))}
	for _, s := range signs {
		left, _ := l.tracker.Left(s.session)
		if !l.tracker.Heard(s.session, l.ticks(s.ago)) {
			continue
		}
		c.sessions = append(c.sessions, s.session)
		if l.c.cfg.Beaten != nil {
			l.measure(s, left)
		}
	}
	if len(c.sessions) > 0 {
		l.pendingRound.confirms = append(l.pendingRound.confirms, c)
	}
}

// measure tells what the session had left when the sign of life was given, unless that had been reported before. The tick
// that its timeout was padded with isn't counted.
func (l *lives) measure(s sign, before int64) {
	if after, _ := l.tracker.Left(s.session); after > before {
		ticks := max(before+int64(l.ticks(s.ago))-1, 0)
		l.c.cfg.Beaten(time.Duration(ticks) * l.c.cfg.Tick)
	}
}

// ticks rounds down: a sign of life then counts as a little younger, so its session lives a little longer.
func (l *lives) ticks(ms uint64) uint32 {
	return uint32(min(ms/uint64(l.c.cfg.Tick.Milliseconds()), 1<<31))
}

// wantRound reports whether a leader needs a round for keep-alives or expiries.
func (l *lives) wantRound() bool {
	return len(l.pendingRound.confirms) > 0 || l.tracker.Overdue() > 0
}

func (l *lives) beginRound() *livesRound {
	r := l.pendingRound
	r.began = l.tracker.Now()
	l.pendingRound = livesRound{}
	return &r
}

// abandonRound puts the confirmations off; what is due is found again.
func (l *lives) abandonRound(r *livesRound) {
	if l.c.leading {
		l.pendingRound.confirms = append(r.confirms, l.pendingRound.confirms...)
	}
}

// endRound sends the confirmations and proposes the expiries that the round backs, unless a sign of life came first.
func (l *lives) endRound(r *livesRound) {
	if !l.c.leading {
		return
	}
	for _, c := range r.confirms {
		if c.to == l.c.cfg.Self {
			l.confirmed(c.report, c.sessions)
		} else {
			l.c.send(c.to, true, FrameConfirm, appendConfirm(nil, c))
		}
	}
	if l.c.halt.halted() {
		return // it may take somebody for dead whose sign of life, or whose change of timeout, it doesn't know
	}
	if due := l.tracker.Due(r.began, expiryBatch); len(due) > 0 {
		l.tracker.Proposed(due)
		for _, e := range due {
			e.Timeout -= l.c.cfg.Tick
			l.c.requests.own(&op.Expire{Sessions: []op.Expiry{e}})
		}
	}
}

// expired says that an expiry has been applied. Sessions that it didn't end, because it was void, count as before.
func (l *lives) expired(x *op.Expire) {
	if l.c.leading {
		padded := slices.Clone(x.Sessions)
		for i := range padded {
			padded[i].Timeout = l.padded(padded[i].Timeout)
		}
		l.tracker.Unproposed(padded)
	}
}

// padded is the timeout that the tracker counts: a tick more than what the session was promised. A ticker may hold one
// tick while the loop is busy, and then give it right before the next.
func (l *lives) padded(timeout time.Duration) time.Duration { return timeout + l.c.cfg.Tick }

func appendConfirm(b []byte, c confirm) []byte {
	b = wire.Uint(b, c.report)
	for _, id := range c.sessions {
		b = wire.Uint(b, uint64(id))
	}
	return b
}

func (l *lives) confirmFrame(payload []byte) error {
	r := wire.NewReader(payload)
	report := r.Uint()
	var ids []op.SessionID
	for r.Len() > 0 && r.Err() == nil {
		ids = append(ids, op.SessionID(r.Uint()))
	}
	if r.Err() == nil {
		l.confirmed(report, ids)
	}
	return r.Err()
}

// confirmed answers those whose sign of life a report carried, all at once. It looks for ids in the order in which the
// report had them.
func (l *lives) confirmed(report uint64, ids []op.SessionID) {
	told := l.reports[report]
	delete(l.reports, report)
	sure := make([]*KeepAlive, 0, len(ids))
	for _, id := range ids {
		for len(told) > 0 && told[0].session < id {
			told = told[1:]
		}
		if len(told) == 0 || told[0].session != id {
			continue
		}
		sure = l.confirm(told[0], sure)
	}
	if len(sure) == 0 {
		return
	}
	l.c.answer(func() {
		for _, k := range sure {
			k.Done(nil)
		}
	})
	l.tellTimeouts(sure)
}

// confirm appends to sure who waits for that sign of life of a session, or an earlier one.
func (l *lives) confirm(h heard, sure []*KeepAlive) []*KeepAlive {
	p, ok := l.heard[h.session]
	if !ok {
		return sure
	}
	late := &p.waits
	for *late != nil && (*late).at > h.at {
		late = &(*late).next
	}
	for k := *late; k != nil; k = k.next {
		l.waiting--
		sure = append(sure, k)
	}
	*late = nil
	if p.at <= h.at {
		delete(l.heard, h.session)
	} else {
		l.heard[h.session] = p
	}
	return sure
}

// tellTimeouts tells those who ask what the timeouts are, by one read for all.
func (l *lives) tellTimeouts(sure []*KeepAlive) {
	if !slices.ContainsFunc(sure, func(k *KeepAlive) bool { return k.Timeout != nil }) {
		return
	}
	l.c.Read(&Read{Options: op.ReadOptions{Level: op.Linearizable}, Done: func(v *fsm.View, _ op.ReadInfo, err error) {
		for _, k := range sure {
			if k.Timeout != nil {
				k.tellTimeout(v, err)
			}
		}
	}})
}

func (k *KeepAlive) tellTimeout(v *fsm.View, err error) {
	if err != nil {
		k.Timeout(0, err)
	} else if s, alive := v.Session(k.Session); alive {
		k.Timeout(s.Timeout, nil)
	} else {
		k.Timeout(0, errEnded)
	}
}

// lead gives every session a full timeout: this member has begun to lead and doesn't know who was heard before.
func (l *lives) lead() {
	l.tracker.Reset(func(yield func(op.Expiry) bool) {
		for s := range l.c.machine.Sessions(0) {
			if !yield(op.Expiry{Session: s.ID, Epoch: s.Epoch, Timeout: l.padded(s.Timeout)}) {
				return
			}
		}
	})
}

func (l *lives) leaderChanged() {
	l.pendingRound = livesRound{}
	l.reports = map[uint64][]heard{}
	for _, n := range sortedKeys(l.asks) {
		l.c.askAgain(n, l.asks[n])
	}
}

// changed follows what the state machine has done to a session. Those who follow it know its end by then; see tellEnd.
func (l *lives) changed(s fsm.SessionChange) {
	if s.Ended {
		l.ended(s.ID)
	} else {
		l.changedTo(s)
	}
	switch {
	case !l.c.leading:
	case s.Ended:
		l.tracker.Ended(s.ID)
	default:
		l.tracker.Changed(s.ID, s.Epoch, l.padded(s.Timeout))
	}
}

// installed drops signs of life of sessions that have ended behind a snapshot, and tells those who follow one.
func (l *lives) installed() {
	for id := range l.heard {
		if !l.c.machine.Alive(id) {
			l.ended(id)
		}
	}
	l.tellAll()
}

func (l *lives) ended(id op.SessionID) {
	p := l.heard[id]
	delete(l.heard, id)
	for k := p.waits; k != nil; k = k.next {
		l.waiting--
		l.finish(k, errEnded)
	}
}

// reap proposes the deletion of container and TTL nodes that are due.
func (l *lives) reap() {
	if l.sinceReap++; l.sinceReap < reapEvery {
		return
	}
	l.sinceReap = 0
	extra := uint64(0)
	if last := l.c.requests.lastBatch; last != 0 {
		extra = l.c.now.Mono - last
	}
	if paths := l.c.machine.Due(extra, reapBatch); len(paths) > 0 {
		l.c.requests.own(&op.Reap{Paths: paths})
	}
}

// tick gives up questions that nobody answers.
func (l *lives) tick() {
	for _, n := range sortedKeys(l.asks) {
		a := l.asks[n]
		if a.ticks++; a.ticks > askTicks {
			delete(l.asks, n)
			l.c.answer(func() { a.Done(0, op.Errorf(op.NoLeader, "no leader answered")) })
		}
	}
}

// TimeLeft asks the leader.
func (c *Core) TimeLeft(a *TimeLeft) {
	if len(c.lives.asks) >= maxLivesWait {
		c.answer(func() { a.Done(0, op.Errorf(op.Overloaded, "too many questions wait for a leader")) })
		return
	}
	c.lives.next++
	c.askAgain(c.lives.next, a)
}

func (c *Core) askAgain(n uint64, a *TimeLeft) {
	c.lives.asks[n] = a
	switch {
	case c.leading && !c.halt.halted():
		left, ok := c.timeLeft(a.Session)
		c.lives.told(n, left, ok)
	case c.lead != 0 && !c.isLeader():
		c.send(c.lead, true, FrameAsk, wire.Uint(wire.Uint(nil, n), uint64(a.Session)))
	}
}

func (c *Core) timeLeft(id op.SessionID) (ms uint64, ok bool) {
	ticks, ok := c.lives.tracker.Left(id)
	return uint64(ticks) * uint64(c.cfg.Tick.Milliseconds()), ok
}

func (l *lives) asked(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	n, id := r.Uint(), op.SessionID(r.Uint())
	if err := r.Done(); err != nil || !l.c.leading || l.c.halt.halted() {
		return err
	}
	left, ok := l.c.timeLeft(id)
	l.c.send(from, true, FrameTold, wire.Bool(wire.Uint(wire.Uint(nil, n), left), ok))
	return nil
}

func (l *lives) toldFrame(payload []byte) error {
	r := wire.NewReader(payload)
	n, left, ok := r.Uint(), r.Uint(), r.Bool()
	if err := r.Done(); err != nil {
		return err
	}
	l.told(n, left, ok)
	return nil
}

func (l *lives) told(n, ms uint64, ok bool) {
	a := l.asks[n]
	if a == nil {
		return
	}
	delete(l.asks, n)
	l.c.answer(func() {
		if !ok {
			a.Done(0, &op.Error{Code: op.NoSession, Outcome: op.Decided, Detail: "there is no such session, or it has ended"})
			return
		}
		a.Done(time.Duration(ms)*time.Millisecond, nil)
	})
}
