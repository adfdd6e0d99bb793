package sim

import (
	"fmt"
	"time"
)

// network is the streams between the members: from each to each other one for what is urgent and one for bulk, as package
// peer keeps them. Within a stream frames arrive whole, in order and at most once, until it breaks; then some of the last
// are lost, and both ends hear of it, each in its own time.
type network struct {
	w       *world
	streams [][][2]*stream // by sender, receiver and class
	cut     [][]bool       // by sender and receiver: nothing gets through
}

// classes of streams.
const (
	urgent = iota
	bulk
)

// What package peer does by default.
const (
	silence    = 5 * time.Second // without a sign a stream is given up
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	maxQueue   = 4096 // frames
)

// stream is one direction of one class between two members, through all its incarnations.
type stream struct {
	n           *network
	from, to    *member
	class       int
	incarnation int
	open        bool // it carries frames
	dialling    bool
	sending     bool // its sender believes that it is open
	receiving   bool // so does its receiver
	flight      []*frame
	last        time.Duration // when the newest frame will arrive
	pumping     bool
	clogged     time.Duration // nothing arrives before then
	backoff     time.Duration
	delivered   []*frame // the last few of this incarnation
	ends        [2]*life // who opened it
}

type frame struct {
	at      time.Duration
	kind    uint8
	payload []byte
}

func (n *network) connect(members []*member) {
	n.streams = make([][][2]*stream, len(members))
	n.cut = make([][]bool, len(members))
	for i, a := range members {
		n.streams[i] = make([][2]*stream, len(members))
		n.cut[i] = make([]bool, len(members))
		for j, b := range members {
			for class := range 2 {
				n.streams[i][j][class] = &stream{n: n, from: a, to: b, class: class}
			}
		}
	}
}

// all calls f with every stream.
func (n *network) all(f func(*stream)) {
	for i := range n.streams {
		for j := range n.streams[i] {
			if i != j {
				f(n.streams[i][j][urgent])
				f(n.streams[i][j][bulk])
			}
		}
	}
}

// between calls f with the four streams between two members.
func (n *network) between(a, b *member, f func(*stream)) {
	for class := range 2 {
		f(n.streams[a.index][b.index][class])
		f(n.streams[b.index][a.index][class])
	}
}

func (s *stream) String() string {
	return fmt.Sprintf("%v->%v/%d.%d", s.from, s.to, s.class, s.incarnation)
}

// cutOff reports whether a connection can't be made, which takes both directions.
func (s *stream) cutOff() bool {
	cut := s.n.cut
	return cut[s.from.index][s.to.index] || cut[s.to.index][s.from.index]
}

// dial opens the stream as soon as both members live and reach each other.
func (s *stream) dial() {
	if s.dialling {
		return
	}
	s.dialling = true
	s.backoff = min(max(minBackoff, 2*s.backoff), maxBackoff)
	s.n.w.after(s.n.w.between(s.backoff/2, s.backoff), func() {
		s.dialling = false
		switch {
		case s.open || s.sending || s.from.life == nil:
		case s.to.life == nil || s.cutOff():
			s.dial()
		default:
			s.begin()
		}
	})
}

// begin opens the stream. A receiver that still believes in the one before hears of its end first.
func (s *stream) begin() {
	s.hear(s.incarnation, 1)
	ends := [2]*life{s.from.life, s.to.life}
	if ends != s.ends {
		s.delivered = nil
	}
	s.incarnation++
	s.open, s.sending, s.receiving, s.flight, s.backoff, s.ends = true, true, true, nil, 0, ends
	s.last = s.n.w.now
	s.n.w.note("stream %v begins", s)
	if s.n.w.profile.Duplicates && s.n.w.chance(50) {
		s.repeat()
	}
	s.delivered = nil
}

// repeat delivers some of the last frames of the incarnation before once more.
func (s *stream) repeat() {
	for _, f := range s.delivered {
		if s.n.w.chance(30) {
			s.n.w.count.Duplicates++
			s.push(f.kind, f.payload)
		}
	}
}

// send takes a frame from the sender; false if it knows that there is no stream, or too much waits.
func (s *stream) send(kind uint8, payload []byte) bool {
	if !s.sending || len(s.flight) >= maxQueue || s.n.w.chance(s.n.w.profile.FullQueue) {
		return false
	}
	if s.open {
		s.push(kind, payload)
	}
	return true
}

func (s *stream) push(kind uint8, payload []byte) {
	w := s.n.w
	delay := w.between(w.profile.DelayLow, w.profile.DelayHigh)
	if s.class == bulk {
		delay += time.Duration(len(payload)) * 10 * time.Nanosecond
	}
	s.last = max(w.now+delay, s.last+time.Microsecond)
	s.flight = append(s.flight, &frame{s.last, kind, payload})
	s.pump()
}

// pump delivers what has arrived.
func (s *stream) pump() {
	if s.pumping || len(s.flight) == 0 {
		return
	}
	s.pumping = true
	s.n.w.after(max(s.flight[0].at, s.clogged)-s.n.w.now, func() {
		s.pumping = false
		for len(s.flight) > 0 && s.flight[0].at <= s.n.w.now && s.clogged <= s.n.w.now {
			if s.n.cut[s.from.index][s.to.index] {
				return // it goes on when the cut is healed
			}
			f := s.flight[0]
			s.flight = s.flight[1:]
			s.deliver(f)
		}
		s.pump()
	})
}

func (s *stream) deliver(f *frame) {
	if s.to.life == nil || s.to.life != s.ends[1] {
		return
	}
	s.delivered = append(s.delivered, f)
	if len(s.delivered) > 8 {
		s.delivered = s.delivered[1:]
	}
	s.to.life.receive(s.from.id, f)
}

// snap breaks the stream. Of what is on its way, the beginning may still arrive.
func (s *stream) snap(senderHears, receiverHears time.Duration) {
	if !s.open {
		return
	}
	w := s.n.w
	s.open = false
	s.flight = s.flight[:w.rng.IntN(len(s.flight)+1)]
	w.count.StreamBreaks++
	w.note("stream %v breaks, %d frames are still on their way", s, len(s.flight))
	incarnation := s.incarnation
	w.after(senderHears, func() { s.hear(incarnation, 0) })
	w.after(receiverHears, func() { s.hear(incarnation, 1) })
}

// hear tells one end, 0 the sender's and 1 the receiver's, that an incarnation is broken, unless it knows.
func (s *stream) hear(incarnation, end int) {
	believes, other := &s.sending, s.to
	if end == 1 {
		believes, other = &s.receiving, s.from
	}
	if s.incarnation != incarnation || !*believes {
		return
	}
	*believes = false
	if end == 1 {
		s.flight = nil
	}
	if l := s.ends[end]; !l.dead {
		l.streamDown(other, s.class)
	}
	if end == 0 {
		s.dial()
	}
}

// up reports whether a member believes that some stream to or from another one stands.
func (n *network) up(self, other *member) bool {
	up := false
	n.between(self, other, func(s *stream) {
		up = up || s.from == self && s.sending || s.to == self && s.receiving
	})
	return up
}

// started lets a member that has begun to live dial all others, and be dialled.
func (n *network) started(m *member) {
	for _, other := range n.w.members {
		if other != m {
			n.between(m, other, func(s *stream) {
				s.backoff = 0
				if !s.cutOff() {
					s.hear(s.incarnation, 0)
				}
				if !s.sending && s.from.life != nil {
					s.dial()
				}
			})
		}
	}
}

// ended breaks the streams of a member whose process has ended. Its sockets are closed if its machine lives; else the
// others hear nothing any more, and find out by that.
func (n *network) ended(m *member, closed bool) {
	for _, other := range n.w.members {
		if other == m {
			continue
		}
		hears := n.w.between(silence/2, silence)
		if closed && !n.cut[m.index][other.index] {
			hears = n.w.between(time.Millisecond, 20*time.Millisecond)
		}
		n.between(m, other, func(s *stream) {
			if s.from == m {
				s.snap(0, hears)
			} else {
				s.snap(hears, 0)
			}
		})
	}
}

// sever cuts the way from one member to another. What is on it waits, and if that lasts the streams break.
func (n *network) sever(a, b *member) {
	if n.cut[a.index][b.index] {
		return
	}
	n.cut[a.index][b.index] = true
	n.w.note("cut %v->%v", a, b)
	n.between(a, b, func(s *stream) {
		incarnation := s.incarnation
		n.w.after(n.w.between(silence*4/5, silence), func() {
			if s.incarnation == incarnation && s.cutOff() {
				s.snap(n.w.between(0, 200*time.Millisecond), n.w.between(0, 200*time.Millisecond))
			}
		})
	})
}

// heal lets everything through again.
func (n *network) heal() {
	for i := range n.cut {
		clear(n.cut[i])
	}
	n.w.note("network healed")
	n.all(func(s *stream) {
		s.clogged = 0
		s.pump()
	})
}
