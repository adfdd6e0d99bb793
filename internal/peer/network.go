package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Network is this member's end of the streams to and from all others. Its methods are safe for concurrent use.
type Network struct {
	cfg     Config
	log     *slog.Logger
	began   time.Time
	cluster atomic.Pointer[cluster] // nil until the cluster is known

	lobby    lobby
	refused  atomic.Uint64
	complain rate.Sometimes // about strangers
}

// cluster is what a Network knows once it belongs to one. It is never changed.
type cluster struct {
	self  Identity
	peers map[uint64]*peer
}

// New returns a Network that does nothing until Serve and Run are called.
func New(cfg Config) (*Network, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Network{
		cfg:      cfg,
		log:      cfg.Logger,
		began:    time.Now(),
		lobby:    lobby{max: cfg.MaxPending},
		complain: seldom(),
	}
	if cfg.Self.Cluster == 0 {
		return n, nil
	}
	return n, n.Join(cfg.Self.Cluster, cfg.Addrs)
}

// Join makes a Network that was made without a cluster a part of one. It comes before Run, and at most once.
func (n *Network) Join(id uint64, addrs map[uint64]string) error {
	if id == 0 {
		return errors.New("peer: a cluster's id can't be 0")
	}
	c := &cluster{self: n.cfg.Self, peers: make(map[uint64]*peer)}
	c.self.Cluster = id
	for member, addr := range addrs {
		switch {
		case member == c.self.Member:
		case member == 0 || addr == "":
			return fmt.Errorf("peer: member %x at address %q can't be reached", member, addr)
		default:
			c.peers[member] = newPeer(n, c.self, member, addr)
		}
	}
	if !n.cluster.CompareAndSwap(nil, c) {
		return errors.New("peer: already part of a cluster")
	}
	return nil
}

// Serve accepts the connections of others until ctx ends, which it reports as nil. It closes ln, breaks the streams that it accepted,
// and returns once no handler call made for one of them is under way.
func (n *Network) Serve(ctx context.Context, ln net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("couldn't accept from other members: %w", err)
		case err != nil: // mostly: out of file descriptors, which passes
			n.log.Error("couldn't accept from other members", "error", err)
			pause(ctx, time.Second)
		default:
			conns.Go(func() { n.admit(ctx, conn) })
		}
	}
}

// Run dials the other members and keeps the streams to them until ctx ends, which it reports as nil. It returns once no handler call
// made for one of them is under way.
func (n *Network) Run(ctx context.Context) error {
	c := n.cluster.Load()
	if c == nil {
		return errors.New("peer: not part of a cluster yet")
	}
	var streams sync.WaitGroup
	for _, p := range c.peers {
		for _, class := range classes {
			streams.Go(func() { p.out[class].run(ctx) })
		}
	}
	streams.Wait()
	return nil
}

// Send hands a frame to the stream of that class to another member, and says whether it was taken: not if no stream stands, or if
// the frames that wait have reached QueueLimit. A frame that was taken arrives unless the stream breaks. It never blocks. The payload
// belongs to the Network from then on. A kind above MaxKind, or a payload above MaxFrame, is the caller's mistake and panics.
func (n *Network) Send(to uint64, class Class, kind uint8, payload []byte) bool {
	if kind > MaxKind || len(payload) > n.cfg.MaxFrame {
		panic(fmt.Sprintf("peer: Send of kind %d with %d bytes", kind, len(payload)))
	}
	p := n.peer(to)
	if p == nil {
		return false
	}
	if !p.out[class].queue.push(Frame{Kind: kind, Payload: payload}) {
		p.drops.Add(1)
		return false
	}
	return true
}

func (n *Network) peer(id uint64) *peer {
	if c := n.cluster.Load(); c != nil {
		return c.peers[id]
	}
	return nil
}

// Stats is a moment's figures.
type Stats struct {
	Peers   []PeerStats // by id
	Refused uint64      // accepted connections that were closed before they became anything
	Pending int         // accepted connections that have not said who they are
}

// PeerStats are the figures of one other member. Bytes count everything on its connections, in both directions of each, and only grow.
type PeerStats struct {
	ID            uint64
	Up            bool   // a stream to or from it stands
	Boot          uint64 // the highest boot number seen, 0 if none
	SentBytes     uint64
	ReceivedBytes uint64
	Drops         uint64        // frames that Send refused, or that were waiting when their stream broke
	RTT           time.Duration // of the newest ping, 0 if none was answered yet
}

// Stats returns the figures of now.
func (n *Network) Stats() Stats {
	s := Stats{Refused: n.refused.Load(), Pending: n.lobby.size()}
	if c := n.cluster.Load(); c != nil {
		for _, p := range c.peers {
			s.Peers = append(s.Peers, p.stats())
		}
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return s
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// seldom lets the first few log lines of a kind through, and then one now and then: what others can cause, they can cause often.
func seldom() rate.Sometimes { return rate.Sometimes{First: 5, Interval: complaintEvery} }
