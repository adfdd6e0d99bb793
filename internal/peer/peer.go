package peer

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// peer is another member as this one sees it.
type peer struct {
	net  *Network
	self Identity
	id   uint64
	addr string
	log  *slog.Logger
	out  [Bulk + 1]*outgoing // by class

	received atomic.Uint64
	sent     atomic.Uint64
	drops    atomic.Uint64
	rtt      atomic.Int64 // nanoseconds
	boot     atomic.Uint64
	up       atomic.Bool
	complain rate.Sometimes // about streams that it opened and that ended

	// news orders everything that the Handler hears of this peer, other than what it receives. It guards streams, and the writing of
	// boot and up. It is held during the Handler's calls.
	news    sync.Mutex
	streams map[lane]*stream

	transfer  chan struct{} // holds a token while the Handler has a snapshot of this peer
	transfers sync.Mutex
	replace   func() // ends the newest transfer; guarded by transfers
}

// lane names a place in which at most one stream stands.
type lane struct {
	class    Class
	outgoing bool
}

// stream is one connection in one lane, from its handshake to its end.
type stream struct {
	lane
	conn net.Conn
	boot uint64        // of the member at the other end
	done chan struct{} // closed once it takes no frame from Send and hands none to the Handler any more
}

func newPeer(n *Network, self Identity, id uint64, addr string) *peer {
	p := &peer{
		net:      n,
		transfer: make(chan struct{}, 1),
		replace:  func() {},
		self:     self,
		id:       id,
		addr:     addr,
		log:      n.log.With("peer", idString(id)),
		streams:  make(map[lane]*stream),
		complain: seldom(),
	}
	p.boot.Store(n.cfg.Boots[id])
	for _, class := range classes {
		p.out[class] = newOutgoing(p, class)
	}
	return p
}

// enter makes s the stream of its lane, and tells. The one before it, and all of an earlier boot of the other member, end first: so
// the Handler never hears the old after the new. It says no to a stream of an earlier boot than one that was seen.
func (p *peer) enter(s *stream) bool {
	p.news.Lock()
	defer p.news.Unlock()
	if s.boot < p.boot.Load() {
		return false
	}
	if s.boot > p.boot.Load() {
		p.endAll()
		p.boot.Store(s.boot)
	}
	if old := p.streams[s.lane]; old != nil {
		p.end(old)
	}
	first := len(p.streams) == 0 && !p.up.Swap(true)
	p.streams[s.lane] = s
	if first {
		p.log.Info("peer is up", "boot", s.boot)
		p.net.cfg.Handler.PeerUp(p.id, s.boot)
	}
	if s.outgoing {
		p.out[s.class].queue.start()
		p.net.cfg.Handler.StreamUp(p.id, s.class)
	}
	return true
}

// leave takes s out of its lane, unless a newer one has pushed it out, and tells.
func (p *peer) leave(s *stream) {
	p.news.Lock()
	defer p.news.Unlock()
	if p.streams[s.lane] != s {
		return
	}
	p.end(s)
	p.downIfLast()
}

// endAll ends what stands of an earlier boot.
func (p *peer) endAll() {
	for _, s := range p.streams {
		p.end(s)
	}
	p.downIfLast()
}

func (p *peer) end(s *stream) {
	s.conn.Close()
	<-s.done
	delete(p.streams, s.lane)
	p.net.cfg.Handler.StreamDown(p.id, s.class)
}

func (p *peer) downIfLast() {
	if len(p.streams) > 0 || !p.up.Swap(false) {
		return
	}
	p.log.Info("peer is down", "boot", p.boot.Load())
	p.net.cfg.Handler.PeerDown(p.id)
}

func (p *peer) wire(conn net.Conn) *wire {
	cfg := &p.net.cfg
	return &wire{Conn: conn, silence: cfg.SilenceTimeout, stall: cfg.WriteTimeout, received: &p.received, sent: &p.sent}
}

func (p *peer) stats() PeerStats {
	return PeerStats{
		ID:            p.id,
		Up:            p.up.Load(),
		Boot:          p.boot.Load(),
		SentBytes:     p.sent.Load(),
		ReceivedBytes: p.received.Load(),
		Drops:         p.drops.Load(),
		RTT:           time.Duration(p.rtt.Load()),
	}
}
