package coord

import (
	"slices"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// pipeline is what a client has under way at the service: requests and watches, from when somebody asks until they
// are answered, over as many connections as it takes. It decides what is sent when, and what an answer or its absence
// means. It has no goroutine, no lock, no clock and no connection; its engine has those.
//
// The requests of a session are ordered: each write has a number, the state machine admits them in that order alone,
// and keeps each answer until it is acknowledged. So all that were not answered are asked again under their numbers
// on the next connection, and are done once. Others are asked again if they can't do harm: reads, writes with a key,
// and what was not sent yet. A write without number and key whose connection breaks has an unknown outcome.
//
// A refusal consumes no number. What was sent behind the refused request is refused with it, so the numbers are given
// out anew from there, but not before everything behind it has been answered: else one of the old requests could be
// admitted under a number that has been given to a new one.
type pipeline struct {
	session bool // writes without a key are ordered
	lastID  uint64

	ordered []*call // unanswered, in the order of asking; the first `sent` of them are under way on this connection
	sent    int
	next    uint64 // number of the next ordered request that is sent
	floor   uint64 // those below it were decided before this connection
	refused bool   // one of those under way has been refused: nothing is sent behind it

	free  []*call          // not ordered, to be sent
	bye   *call            // to be sent when nothing else waits; nothing is added once it is there
	calls map[uint64]*call // under way on this connection, by id, ordered ones included

	subs    map[uint64]*subscription // standing or asked for on this connection, by id
	waiting []*subscription          // to be asked for
	unwatch []uint64                 // to be ended on this connection

	room    int // requests that may be under way on this connection
	message int // bytes that a message may have
}

// window is how many ordered requests may be under way: well below what the state machine allows.
const window = 512

// call is one request.
type call struct {
	id      uint64 // on this connection; 0 while it is not under way
	o       op.Op
	seq     uint64 // of an ordered request that has been sent
	key     string
	ordered bool
	read    *op.ReadOptions // nil for a write
	tried   bool            // it may stand in a log: it was sent, and not refused
	orphan  bool            // nobody waits for it
	refusal *op.Error       // of an ordered request, waiting for those behind it
	done    chan answer     // has room for one
}

type answer struct {
	result *op.Result
	info   op.ReadInfo
	err    error
}

func newPipeline(session bool) *pipeline {
	return &pipeline{session: session, next: 1, calls: map[uint64]*call{}, subs: map[uint64]*subscription{}}
}

func (p *pipeline) id() uint64 {
	p.lastID++
	return p.lastID
}

// busy reports whether anything is under way or waits.
func (p *pipeline) busy() bool {
	return len(p.ordered)+len(p.free)+len(p.calls)+len(p.subs)+len(p.waiting) > 0
}

// idle reports whether no answer is expected on this connection.
func (p *pipeline) idle() bool { return len(p.calls) == 0 }

func (p *pipeline) add(c *call) {
	if c.ordered = p.session && c.read == nil && c.key == ""; c.ordered {
		p.ordered = append(p.ordered, c)
		return
	}
	p.free = append(p.free, c)
}

// abandon says that nobody waits for c any more, and returns whether it may have been done or may be yet. An ordered
// request that is under way is kept until it is answered: as long as it may be admitted, no other may get its number.
// It is never sent again, so its caller may change its data.
func (p *pipeline) abandon(c *call) (unknown bool) {
	unknown = c.tried && c.read == nil && c.refusal == nil
	if i := slices.Index(p.ordered, c); i >= 0 && i < p.sent {
		c.orphan = true
		return unknown
	}
	p.forget(c)
	return unknown
}

// forget takes a call that isn't an ordered one under way out of everything.
func (p *pipeline) forget(c *call) {
	delete(p.calls, c.id)
	p.free = slices.DeleteFunc(p.free, func(x *call) bool { return x == c })
	p.ordered = slices.DeleteFunc(p.ordered, func(x *call) bool { return x == c })
}

// take appends the frames that may be sent now to b, until it has so many bytes.
func (p *pipeline) take(b []byte, bytes int) []byte {
	for len(p.unwatch) > 0 && len(b) < bytes {
		b = frame.Append(b, &frame.Unwatch{ID: p.id(), Watch: p.unwatch[0]})
		p.unwatch = p.unwatch[1:]
	}
	for len(p.waiting) > 0 && len(b) < bytes {
		s := p.waiting[0]
		p.waiting = p.waiting[1:]
		s.id = p.id()
		p.subs[s.id] = s
		b = frame.Append(b, s.request())
	}
	for len(p.free) > 0 && len(p.calls) < p.room && len(b) < bytes {
		c := p.free[0]
		p.free = p.free[1:]
		b = p.send(b, c)
	}
	for p.sent < len(p.ordered) && !p.refused && p.sent < window && len(p.calls) < p.room && len(b) < bytes {
		b = p.sendOrdered(b, p.ordered[p.sent])
	}
	if p.bye != nil && p.bye.id == 0 && len(p.ordered)+len(p.free)+len(p.calls) == 0 {
		p.bye.id = p.id()
		p.calls[p.bye.id] = p.bye
		b = frame.Append(b, &frame.Bye{ID: p.bye.id})
	}
	return b
}

func (p *pipeline) sendOrdered(b []byte, c *call) []byte {
	fresh := c.seq == 0
	if fresh {
		c.seq = p.next
	}
	before := len(b)
	if b = p.send(b, c); len(b) == before {
		p.ordered = slices.Delete(p.ordered, p.sent, p.sent+1)
		return b
	}
	if fresh {
		p.next++
	}
	p.sent++
	return b
}

// send appends the call's frame, or answers the call if its frame is longer than the server takes.
func (p *pipeline) send(b []byte, c *call) []byte {
	before := len(b)
	c.id = p.id()
	if c.read != nil {
		b = frame.Append(b, &frame.Read{ID: c.id, Options: *c.read, Op: c.o})
	} else {
		b = frame.Append(b, &frame.Write{ID: c.id, Seq: c.seq, Ack: p.ack(c.seq), Key: c.key, Op: c.o})
	}
	if have := len(b) - before; have > p.message {
		c.id = 0
		c.finish(answer{err: &Error{Code: op.TooLarge, Limit: int64(p.message), Have: int64(have)}})
		return b[:before]
	}
	p.calls[c.id], c.tried = c, true
	return b
}

// ack returns the lowest number that has no answer yet.
func (p *pipeline) ack(seq uint64) uint64 {
	if seq == 0 || p.sent == 0 {
		return seq
	}
	return p.ordered[0].seq
}

func (c *call) finish(a answer) {
	if !c.orphan {
		c.done <- a
	}
}

// verdict says what its engine must do after an answer.
type verdict uint8

const (
	fine  verdict = iota
	pause         // something was refused that may be asked again: wait a little before sending more
	move          // this member can't serve now, or an outcome must be found out: go on over another connection
)

// reply takes an answer.
func (p *pipeline) reply(f *frame.Reply) verdict {
	c := p.calls[f.ID]
	if c == nil || f.Result == nil {
		return fine // abandoned, or of an unwatch
	}
	delete(p.calls, f.ID)
	err := f.Result.Err
	switch {
	case c.ordered:
		return p.replyOrdered(c, f)
	case err != nil && transient(err.Code) && (err.Outcome == op.Refused || c.read != nil):
		c.id, c.tried = 0, c.tried && c.key != "" // an earlier attempt with the key may have been done
		p.free = append(p.free, c)
		return again(err)
	case err != nil && err.Outcome == op.Unknown && c.key != "":
		c.id = 0
		p.free = append(p.free, c)
		return move
	}
	c.finish(answerOf(f))
	return fine
}

func answerOf(f *frame.Reply) answer {
	a := answer{result: cloneResult(f.Result), info: f.Info}
	if a.result.Err != nil {
		a.err = a.result.Err
	}
	return a
}

func (p *pipeline) replyOrdered(c *call, f *frame.Reply) verdict {
	c.id = 0
	err := f.Result.Err
	switch {
	case err != nil && err.Outcome == op.Unknown:
		return move // it is asked again under its number
	case err != nil && err.Outcome == op.Refused:
		c.refusal, p.refused = err, true
		return p.settle()
	}
	i := slices.Index(p.ordered[:p.sent], c)
	p.ordered = slices.Delete(p.ordered, i, i+1)
	p.sent--
	c.finish(answerOf(f))
	if p.refused {
		return p.settle()
	}
	return fine
}

// settle gives numbers out anew once everything that was under way behind a refusal has been answered.
func (p *pipeline) settle() verdict {
	under := p.ordered[:p.sent]
	if slices.ContainsFunc(under, func(c *call) bool { return c.refusal == nil }) {
		return fine
	}
	p.refused, p.sent = false, 0
	if len(under) == 0 {
		return fine
	}
	if under[0].seq < p.floor {
		return move // it keeps its number
	}
	first := under[0].refusal
	p.next = under[0].seq
	p.rejectFrom(0)
	if transient(first.Code) {
		return again(first)
	}
	if behind(first.Code) {
		return move // only another attachment can tell the next number
	}
	return fine
}

// rejectFrom answers those from ordered[from] on that were refused for good. The others, which were refused with them
// or have surely not been done, get new numbers when they are sent.
func (p *pipeline) rejectFrom(from int) {
	keep := p.ordered[:from:from]
	for _, c := range p.ordered[from:] {
		why := c.refusal
		c.refusal, c.tried, c.seq = nil, false, 0
		switch {
		case why != nil && !transient(why.Code) && !behind(why.Code):
			c.finish(answer{err: why})
		case !c.orphan:
			keep = append(keep, c)
		}
	}
	p.ordered = keep
}

// behind reports whether a request was refused for what stood before it, or for its attachment, not for itself.
func behind(c op.Code) bool { return c == op.OutOfOrder || c == op.Superseded }

// transient reports whether a request that was refused with that code may be asked again as it is.
func transient(c op.Code) bool {
	switch c {
	case op.Overloaded, op.RateLimited, op.NoLeader, op.NoQuorum, op.Starting, op.Draining, op.Timeout,
		op.ReconfigInProgress:
		return true
	}
	return false
}

func again(err *op.Error) verdict {
	if err.Code == op.Overloaded || err.Code == op.RateLimited {
		return pause
	}
	return move
}

// attached says that a connection stands, by which the session admits next as the next number.
func (p *pipeline) attached(w *frame.Welcome) {
	p.room, p.message = int(min(max(w.Requests, 1), 1<<20)), int(min(w.Message, 1<<30))
	if !p.session {
		return
	}
	p.next, p.floor = w.NextSeq, w.NextSeq
	decided := 0 // those are asked again for their answers
	for decided < len(p.ordered) && p.ordered[decided].seq != 0 && p.ordered[decided].seq < w.NextSeq {
		p.ordered[decided].refusal = nil
		decided++
	}
	p.rejectFrom(decided)
}

// detached says that the connection has broken, because of why. What can't be asked again is answered.
func (p *pipeline) detached(why error) {
	for _, id := range sortedIDs(p.calls) {
		c := p.calls[id]
		c.id = 0
		switch {
		case c.ordered, c == p.bye:
		case c.read != nil || c.key != "":
			p.free = append(p.free, c)
		default:
			c.finish(answer{err: interrupt("", true, why, nil)})
		}
	}
	clear(p.calls)
	p.sent, p.refused = 0, false
	p.ordered = slices.DeleteFunc(p.ordered, func(c *call) bool { return c.orphan })
	for _, id := range sortedIDs(p.subs) {
		s := p.subs[id]
		s.id = 0
		s.detached()
		p.waiting = append(p.waiting, s)
	}
	clear(p.subs)
	p.unwatch = nil
}

func sortedIDs[T any](m map[uint64]T) []uint64 {
	ids := make([]uint64, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// end answers everything: the client or its session has ended, or the cluster is another one.
func (p *pipeline) end(why error) {
	all := slices.Concat(p.ordered, p.free)
	for _, id := range sortedIDs(p.calls) {
		if c := p.calls[id]; !c.ordered && c != p.bye {
			all = append(all, c)
		}
	}
	for _, c := range all {
		c.finish(answer{err: interrupt("", c.tried && c.read == nil, why, nil)})
	}
	for _, id := range sortedIDs(p.subs) {
		p.subs[id].fail(why)
	}
	for _, s := range p.waiting {
		s.fail(why)
	}
	last := p.lastID
	*p = *newPipeline(p.session)
	p.lastID = last
}

// cloneResult returns a copy of what aliases the message.
func cloneResult(r *op.Result) *op.Result {
	c := *r
	cloneBytes(&c)
	for i := range c.Results {
		cloneBytes(&c.Results[i])
	}
	return &c
}

func cloneBytes(r *op.Result) {
	r.Data = slices.Clone(r.Data)
	for i := range r.Nodes {
		r.Nodes[i].Data = slices.Clone(r.Nodes[i].Data)
	}
}
