package replica

import (
	"slices"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// forwarder takes a member's requests to the leader, each once.
//
// The frames of one term form a chain: each names its own number and that of the frame before it. The leader takes a
// frame only if it continues the chain that it has taken; otherwise it answers which frame it took last. So a frame that
// is lost, or refused because the leader is full, makes the leader refuse all that follow it, and their order holds.
// While the chain is broken nothing is forwarded: the member asks, once a tick, until an answer covers everything that
// it has sent, and then sends again what was not taken.
type forwarder struct {
	q      *requests
	number uint64  // of the last frame or question, ever; those of each boot are above those of all before it
	chain  []taken // frames of this term that may not have been taken, oldest first
	last   uint64  // number of the last frame of the chain, 0 at its beginning
	broken bool
	hold   bool // the stream was full; wait for the next tick

	heads map[uint64]uint64 // on a leader: the last frame taken in this term from each member
}

// taken is one frame.
type taken struct {
	number, prev uint64
	calls        []uint64
}

func (f *forwarder) init(q *requests) {
	f.q = q
	f.number = q.c.firstNumber()
	f.heads = map[uint64]uint64{}
}

func (f *forwarder) leaderChanged() {
	f.chain, f.last, f.broken, f.hold = nil, 0, false, false
	clear(f.heads)
}

// turn sends one frame of unsent calls. It sends no more than one a turn: if it doesn't fit into the stream's queue,
// nothing behind it may overtake it.
func (f *forwarder) turn() {
	if f.broken || f.hold || len(f.q.unsent) == 0 {
		return
	}
	c := f.q.c
	t := taken{number: f.number + 1, prev: f.last}
	payload := wire.Uint(wire.Uint(wire.Uint(nil, c.term), t.number), t.prev)
	var room [tagBytes]byte
	for len(payload) < maxEntryBytes && len(t.calls) < maxEntryCount {
		k := f.q.take()
		if k == nil {
			break
		}
		tag := k.Request.Tag.Append(room[:0])
		payload = append(append(wire.Uint(payload, uint64(len(tag)+len(k.Body))), tag...), k.Body...)
		t.calls = append(t.calls, k.id)
	}
	if len(t.calls) == 0 {
		return
	}
	f.number, f.last = t.number, t.number
	f.chain = append(f.chain, t)
	c.send(c.lead, false, FrameForward, payload)
}

// NotSent says that a message of the last Turn could not be handed to the network. Only forwarded requests need that:
// they wait for the next tick. Everything else is repeated by whoever needs it.
func (c *Core) NotSent(m Message) {
	f := &c.requests.forward
	if n := len(f.chain); m.Kind == FrameForward && n > 0 {
		t := f.chain[n-1]
		f.chain, f.last, f.hold = f.chain[:n-1], t.prev, true
		f.q.unsend(t.calls)
	}
}

// tick asks what was taken if that is in doubt, and forgets frames that have been answered.
func (f *forwarder) tick() {
	f.hold = false
	f.chain = slices.DeleteFunc(f.chain, func(t taken) bool {
		return !slices.ContainsFunc(t.calls, func(id uint64) bool { return f.q.pending[id] != nil })
	})
	if c := f.q.c; f.broken && c.lead != 0 && !c.isLeader() {
		f.number++
		c.send(c.lead, false, FrameProbe, wire.Uint(wire.Uint(nil, c.term), f.number))
	}
}

// StreamBroken says that a bulk stream to or from a member broke: frames that were handed to the network may be lost.
func (c *Core) StreamBroken(id uint64) {
	if f := &c.requests.forward; id == c.lead && len(f.chain) > 0 {
		f.broken = true
	}
}

// received takes, on a leader, a frame of requests of another member.
func (f *forwarder) received(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	term, number, prev := r.Uint(), r.Uint(), r.Uint()
	items, err := decodeForwarded(from, r)
	c := f.q.c
	switch {
	case err != nil:
		return err
	case !c.isLeader() || term != c.term:
		// It was meant for another leadership. Its member will find out by itself.
	case prev != f.heads[from] || f.q.handing > 0 || f.q.queueBytes >= maxQueueBytes:
		f.tell(from, number)
	default:
		f.heads[from] = number
		for _, it := range items {
			f.q.enqueue(it)
		}
	}
	return nil
}

// decodeForwarded reads and checks requests of another member. Only those that a client can make may be forwarded.
func decodeForwarded(from uint64, r *wire.Reader) ([]item, error) {
	var items []item
	for r.Len() > 0 && r.Err() == nil {
		raw := make([]byte, min(r.Uint(), uint64(r.Len())+1))
		r.Fixed(raw)
		if r.Err() != nil {
			break
		}
		req, err := op.DecodeRequest(raw)
		switch {
		case err != nil:
			return nil, err
		case req.Op.Verb().Internal() || req.Tag.Member != from || req.Tag.Call == 0:
			return nil, op.Errorf(op.BadRequest, "a forwarded %s of call %d of member %x", req.Op.Verb(), req.Tag.Call, req.Tag.Member)
		}
		items = append(items, item{raw: raw})
	}
	return items, r.Err()
}

func (f *forwarder) probed(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	term, number := r.Uint(), r.Uint()
	if err := r.Done(); err != nil || !f.q.c.isLeader() || term != f.q.c.term {
		return err
	}
	f.tell(from, number)
	return nil
}

// tell says, as of the frame or question of that number, which frame was taken last.
func (f *forwarder) tell(to, number uint64) {
	c := f.q.c
	c.send(to, true, FrameTaken, wire.Uint(wire.Uint(wire.Uint(nil, c.term), number), f.heads[to]))
}

// told takes the leader's answer. It covers only what was sent up to its number.
func (f *forwarder) told(from uint64, payload []byte) error {
	r := wire.NewReader(payload)
	term, number, last := r.Uint(), r.Uint(), r.Uint()
	if err := r.Done(); err != nil || from != f.q.c.lead || term != f.q.c.term {
		return err
	}
	var back []uint64
	f.chain = slices.DeleteFunc(f.chain, func(t taken) bool {
		refused := t.number > last && t.number <= number
		if refused {
			back = append(back, t.calls...)
		}
		return refused
	})
	f.q.unsend(back)
	f.hold = true
	if f.broken = number != f.number; !f.broken {
		f.last = last
	}
	return nil
}
