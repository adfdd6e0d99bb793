package peer

import (
	"fmt"
	"net"
)

// receive hands the frames of an accepted stream to the Handler until the stream ends.
func (p *peer) receive(conn net.Conn, class Class, boot uint64) {
	s := &stream{lane: lane{class: class}, conn: conn, boot: boot, done: make(chan struct{})}
	if !p.enter(s) {
		return
	}
	for _, class := range classes {
		signal(p.out[class].wake) // whoever reached us can be reached
	}
	err := p.hand(newAnsweringWire(p.wire(conn), 2*p.net.cfg.PingInterval))
	close(s.done)
	p.leave(s)
	p.complain.Do(func() { p.log.Info("stream from peer ended", "class", class.String(), "error", err) })
}

func (p *peer) hand(conn *answeringWire) error {
	frames := newFrameReader(conn, p.net.cfg.MaxFrame)
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		switch {
		case f.Kind <= MaxKind:
			p.net.cfg.Handler.Receive(p.id, f, frames.more())
		case f.Kind == kindPing && len(f.Payload) == 8:
			err = conn.say(f.Payload)
		default:
			err = fmt.Errorf("peer: frame of kind %#x with %d bytes on a stream", f.Kind, len(f.Payload))
		}
		if err != nil {
			return err
		}
	}
}
