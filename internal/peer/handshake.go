package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// connect dials the peer for one role and shakes hands. The connection that it returns closes when ctx ends, until stop is called.
func (p *peer) connect(ctx context.Context, r role) (conn net.Conn, theirs Identity, stop func() bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, p.net.cfg.DialTimeout)
	defer cancel()
	conn, err = p.net.cfg.Dial(dialing, p.addr)
	if err != nil {
		return nil, Identity{}, nil, fmt.Errorf("couldn't dial %s: %w", p.addr, err)
	}
	tune(conn)
	stop = closeOn(ctx, conn)
	theirs, err = p.greet(conn, r)
	if err != nil {
		stop()
		conn.Close()
		return nil, Identity{}, nil, fmt.Errorf("couldn't open the %v stream to %s: %w", r, p.addr, err)
	}
	return conn, theirs, stop, nil
}

// greet is the dialler's half of the handshake: it says who speaks to whom, and believes the answer only if it is the same in reverse.
func (p *peer) greet(conn net.Conn, r role) (Identity, error) {
	if err := conn.SetDeadline(time.Now().Add(p.net.cfg.HandshakeTimeout)); err != nil {
		return Identity{}, err
	}
	mine := greeting{role: r, from: p.self, to: p.id, last: p.net.cfg.Last(), torn: p.net.cfg.Torn}
	if err := send(conn, openGreeting, mine.encode()); err != nil {
		return Identity{}, err
	}
	body, err := expect(conn, openWelcome)
	if err != nil {
		return Identity{}, err
	}
	theirs, err := p.believe(body, r)
	if err != nil {
		_ = refuse(conn, err.Error()) // for the other's log; this one says it too
		return Identity{}, err
	}
	if err := send(conn, openConfirm, nil); err != nil {
		return Identity{}, err
	}
	return theirs.from, conn.SetDeadline(time.Time{})
}

func (p *peer) believe(body []byte, r role) (greeting, error) {
	g, err := decodeGreeting(body)
	switch {
	case err != nil:
		return greeting{}, err
	case g.role != r || g.to != p.self.Member || g.from.Cluster != p.self.Cluster || g.from.Member != p.id:
		return greeting{}, fmt.Errorf("asked for the %v role of member %x of cluster %x, welcomed to the %v role by %v",
			r, p.id, p.self.Cluster, g.role, g.from)
	}
	return g, p.outdated(g)
}

// admit takes an accepted connection through its handshake, and serves it until it ends.
func (n *Network) admit(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer closeOn(ctx, conn)()
	tune(conn)
	n.lobby.enter(conn)
	p, g, err := n.question(conn)
	n.lobby.leave(conn)
	switch {
	case err == io.EOF: // left without a word, as port checks do
	case ctx.Err() != nil:
	case errors.Is(err, errUnfounded):
		n.log.Debug("refused a connection on the peer port", "remote", conn.RemoteAddr().String(), "error", err)
	case err != nil:
		n.stranger(conn, err)
	case p == nil: // a first-start question, answered
	case g.role == roleSnapshot:
		p.receiveSnapshot(ctx, conn)
	default:
		p.receive(conn, Class(g.role), g.from.Boot)
	}
}

// question is the acceptor's half of the handshake. It returns no peer if the connection asked a first-start question.
func (n *Network) question(conn net.Conn) (*peer, greeting, error) {
	if err := conn.SetDeadline(time.Now().Add(n.cfg.HandshakeTimeout)); err != nil {
		return nil, greeting{}, err
	}
	o, err := readOpening(conn)
	if err != nil {
		return nil, greeting{}, err
	}
	if o.version == protocolVersion && o.kind == openMeet {
		return nil, greeting{}, n.answerMeet(conn, o.body)
	}
	p, g, err := n.recognise(o)
	if err != nil {
		_ = refuse(conn, err.Error()) // for the other's log; this one says it too
		return nil, greeting{}, err
	}
	welcome := greeting{role: g.role, from: p.self, to: p.id, last: n.cfg.Last(), torn: n.cfg.Torn}
	if err := send(conn, openWelcome, welcome.encode()); err != nil {
		return nil, greeting{}, err
	}
	if _, err := expect(conn, openConfirm); err != nil {
		return nil, greeting{}, fmt.Errorf("%v did not confirm: %w", g.from, err)
	}
	return p, g, conn.SetDeadline(time.Time{})
}

func (n *Network) answerMeet(conn net.Conn, body []byte) error {
	theirs, err := decodeIntroduction(body)
	if err != nil {
		_ = refuse(conn, err.Error())
		return err
	}
	mine := n.cfg.Handler.Meet(theirs)
	if err := mine.validate(); err != nil {
		_ = refuse(conn, "this member can't introduce itself")
		return err
	}
	return send(conn, openMeet, mine.encode())
}

// recognise returns the peer that an opening greets from, or why it is let in no further.
func (n *Network) recognise(o opening) (*peer, greeting, error) {
	if o.version != protocolVersion || o.kind != openGreeting {
		return nil, greeting{}, fmt.Errorf("this member speaks version %d of the protocol and expects a greeting, not type %d of version %d",
			protocolVersion, o.kind, o.version)
	}
	g, err := decodeGreeting(o.body)
	if err != nil {
		return nil, greeting{}, err
	}
	p, err := n.find(g)
	return p, g, err
}

// errUnfounded is no news: of the members that found a cluster one is always the first, and calls the others too early.
var errUnfounded = errors.New("not part of a cluster yet")

func (n *Network) find(g greeting) (*peer, error) {
	c := n.cluster.Load()
	if c == nil {
		return nil, fmt.Errorf("this is member %x (%q), %w; you asked for member %x of cluster %x",
			n.cfg.Self.Member, n.cfg.Self.Name, errUnfounded, g.to, g.from.Cluster)
	}
	if g.from.Cluster != c.self.Cluster || g.to != c.self.Member {
		return nil, fmt.Errorf("this is %v; you asked for member %x of cluster %x", c.self, g.to, g.from.Cluster)
	}
	p := c.peers[g.from.Member]
	if p == nil {
		return nil, fmt.Errorf("this is %v, which knows no member %x (%q)", c.self, g.from.Member, g.from.Name)
	}
	return p, p.outdated(g)
}

// outdated refuses a member that comes with less than it had: it would vote against what it has acknowledged. While a stream to
// it stands it is the member that was there before, and what it acknowledges meanwhile may overtake its greeting. One that knows
// what happened to it is welcome: it votes with care, and to shut it out could leave a cluster that lost power without a majority.
func (p *peer) outdated(g greeting) error {
	boot := p.boot.Load()
	if g.from.Boot < boot {
		return errors.New(p.older(g.from.Boot))
	}
	if g.from.Boot == boot && p.up.Load() {
		return nil
	}
	if g.torn {
		p.net.cfg.Lost(p.id, g.last)
	}
	if acked := p.net.cfg.Acked(p.id); g.last < acked {
		return fmt.Errorf("member %x (%q) comes with a log up to entry %d and had acknowledged entry %d: its data directory is an older copy, or has lost what was written; replace this member",
			p.id, g.from.Name, g.last, acked)
	}
	return nil
}

func (p *peer) older(boot uint64) string {
	return fmt.Sprintf("member %x comes with boot number %d after %d was seen: an earlier process, or an older copy of its data directory",
		p.id, boot, p.boot.Load())
}

// stranger counts and sometimes logs a connection that came to nothing.
func (n *Network) stranger(conn net.Conn, err error) {
	n.refused.Add(1)
	n.complain.Do(func() {
		n.log.Warn("refused a connection on the peer port", "remote", conn.RemoteAddr().String(), "error", err, "refused", n.refused.Load())
	})
}

func idString(id uint64) string { return strconv.FormatUint(id, 16) }
