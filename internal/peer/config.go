package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Identity says who a member is. It is spoken in every greeting; none of its numbers may be zero once the cluster is founded.
type Identity struct {
	Cluster uint64 // 0 until the cluster is founded or joined: the Network then answers first-start questions only
	Member  uint64 // random, never reused
	Boot    uint64 // grows with every start of the member's process
	Name    string // for people, at most 255 bytes
}

func (id Identity) String() string {
	return fmt.Sprintf("member %x (%q) of cluster %x", id.Member, id.Name, id.Cluster)
}

// Class is the kind of stream that a frame travels on. Frames of different classes overtake each other.
type Class uint8

const (
	Urgent Class = 1 + iota // small and never late: heartbeats, votes, their answers, keep-alive reports and confirmations
	Bulk                    // large: log entries, forwarded requests
)

var classes = [...]Class{Urgent, Bulk}

func (c Class) String() string {
	switch c {
	case Urgent:
		return "urgent"
	case Bulk:
		return "bulk"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// Frame is the unit of a stream.
type Frame struct {
	Kind    uint8  // 0 to MaxKind
	Payload []byte // belongs to whoever receives the frame
}

// MaxKind is the highest Kind that a frame may have; those above are the package's own.
const MaxKind = 0xEF

// Handler is told what arrives. Calls about different members are concurrent. For one member, PeerUp, PeerDown, StreamUp and
// StreamDown come one at a time, and Receive one at a time for each class. No call is made once Run and Serve have returned.
type Handler interface {
	// Receive takes a frame over. While it blocks, its stream stands still. More says that the next frame is there already.
	Receive(from uint64, f Frame, more bool)

	// Snapshot takes one transfer from another member, on a goroutine of its own. The sender is told what it returns: nil for
	// accepted, else the error's text. At most one transfer from each member is under way; ctx ends when a newer one replaces it.
	Snapshot(ctx context.Context, from uint64, t *Transfer) error

	// PeerUp says that the first stream to or from a member stands, and its boot number. PeerDown says that the last one broke.
	// A member that comes back with a higher boot number goes down first.
	PeerUp(id, boot uint64)
	PeerDown(id uint64)

	// StreamUp says that Send to this member and class is possible. StreamDown says that a stream of this class, to or from the
	// member, broke: frames sent either way may be lost.
	StreamUp(id uint64, class Class)
	StreamDown(id uint64, class Class)

	// Meet answers a member that starts for the first time with what this member is now. m is a claim by an unknown.
	Meet(m Introduction) Introduction
}

// QueueLimit bounds the frames that wait for, or are in, the writing of one stream.
type QueueLimit struct {
	Bytes  int
	Frames int
}

// Config describes a Network. Self, Handler and (with Self.Cluster) Addrs are required; the zero value of the rest means the default.
type Config struct {
	Self    Identity
	Addrs   map[uint64]string // member id to host:port, resolved anew at each dial; an entry of this member itself is ignored
	Boots   map[uint64]uint64 // highest boot number known of each member, from before this start; may be nil
	Handler Handler

	// Last returns the index of the last entry of this member's log, and Acked one up to which another member is known to have
	// stored the log at some time. A member that comes with less has lost some of it, and is refused. Both may be nil.
	Last  func() uint64
	Acked func(id uint64) uint64

	// Torn says that this member knows that its log lost its end, and votes with care: others let it in with what it has left. They
	// are told by Lost, for what it had before means nothing from then on. Lost may be nil.
	Torn bool
	Lost func(id, last uint64)

	Logger *slog.Logger
	Dial   Dial

	// RoundTrip, if set, is called with each measured round trip of a ping on an Urgent stream.
	RoundTrip func(id uint64, d time.Duration)

	MaxFrame         int           // payload bytes, default 8 MiB; the same on all members
	UrgentQueue      QueueLimit    // for each peer, default 1 MiB and 4,096
	BulkQueue        QueueLimit    // for each peer, default 32 MiB and 4,096
	MaxSnapshot      int64         // bytes of one transfer, default 64 GiB
	MaxPending       int           // accepted connections that have not said who they are, default 256; the oldest gives way
	DialTimeout      time.Duration // default 2 s
	HandshakeTimeout time.Duration // from accepting or dialling to the greeting's answer, default 5 s
	WriteTimeout     time.Duration // for each 256 KiB to leave, default 5 s
	PingInterval     time.Duration // default 1 s
	SilenceTimeout   time.Duration // a connection on which nothing arrives for so long is dead, default 5 s, at least 3 pings
	MinBackoff       time.Duration // between attempts to dial, default 50 ms, doubling, jittered
	MaxBackoff       time.Duration // default 2 s
}

// Dial opens a connection to host:port.
type Dial func(ctx context.Context, addr string) (net.Conn, error)

// Limits that are not configurable, because both sides must agree on them or because nobody needs to.
const (
	maxName        = 255       // bytes of a member's name
	maxAddr        = 512       // bytes of an address in an introduction
	maxMembers     = 64        // in a list or a set of voters
	maxReason      = 1 << 10   // bytes of a refusal or verdict in words
	maxHeader      = 1 << 20   // bytes of a snapshot's header
	chunkSize      = 256 << 10 // bytes of a snapshot in one frame
	writeSize      = 256 << 10 // bytes under one write deadline
	bufferSize     = 64 << 10  // of each connection's reader and writer
	firstAlloc     = 1 << 20   // bytes allocated on the word of a length alone: a full batch of log entries
	complaintEvery = 10 * time.Second
	meetTimeout    = 5 * time.Second
)

func (c Config) withDefaults() Config {
	setDefault(&c.Logger, slog.New(slog.DiscardHandler))
	setDefault(&c.MaxFrame, 8<<20)
	setDefault(&c.UrgentQueue, QueueLimit{Bytes: 1 << 20, Frames: 4096})
	setDefault(&c.BulkQueue, QueueLimit{Bytes: 32 << 20, Frames: 4096})
	setDefault(&c.MaxSnapshot, 64<<30)
	setDefault(&c.MaxPending, 256)
	setDefault(&c.DialTimeout, 2*time.Second)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.WriteTimeout, 5*time.Second)
	setDefault(&c.PingInterval, time.Second)
	setDefault(&c.SilenceTimeout, 5*time.Second)
	setDefault(&c.MinBackoff, 50*time.Millisecond)
	setDefault(&c.MaxBackoff, 2*time.Second)
	if c.Last == nil {
		c.Last = func() uint64 { return 0 }
	}
	if c.Acked == nil {
		c.Acked = func(uint64) uint64 { return 0 }
	}
	if c.Lost == nil {
		c.Lost = func(uint64, uint64) {}
	}
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	switch {
	case c.Self.Member == 0 || c.Self.Boot == 0:
		return errors.New("peer: Self needs a member id and a boot number")
	case len(c.Self.Name) > maxName:
		return fmt.Errorf("peer: the name has %d bytes, at most %d are allowed", len(c.Self.Name), maxName)
	case c.Handler == nil:
		return errors.New("peer: Handler is required")
	case c.MaxFrame < 0 || int64(c.MaxFrame) > 1<<31-1:
		return fmt.Errorf("peer: MaxFrame %d is out of range", c.MaxFrame)
	case c.BulkQueue.Bytes < c.MaxFrame+frameHeader || c.BulkQueue.Frames < 1 || c.UrgentQueue.Frames < 1:
		return errors.New("peer: the queues must hold at least one frame, and the bulk queue the largest")
	case c.SilenceTimeout < 3*c.PingInterval:
		return fmt.Errorf("peer: SilenceTimeout %v is below three times PingInterval %v", c.SilenceTimeout, c.PingInterval)
	case c.MaxBackoff < c.MinBackoff:
		return fmt.Errorf("peer: MaxBackoff %v is below MinBackoff %v", c.MaxBackoff, c.MinBackoff)
	}
	return c.validatePositive()
}

func (c Config) validatePositive() error {
	for _, d := range []time.Duration{c.DialTimeout, c.HandshakeTimeout, c.WriteTimeout, c.PingInterval, c.MinBackoff} {
		if d < 0 {
			return fmt.Errorf("peer: a duration of %v is negative", d)
		}
	}
	if c.MaxPending < 0 || c.MaxSnapshot < 0 || c.UrgentQueue.Bytes < 0 {
		return errors.New("peer: a limit is negative")
	}
	return nil
}

func (c Config) queueLimit(class Class) QueueLimit {
	if class == Urgent {
		return c.UrgentQueue
	}
	return c.BulkQueue
}
