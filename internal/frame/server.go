package frame

import (
	"time"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
)

// What servers send.

// Welcome answers Hello. Without a session Session, Epoch, NextSeq and TTL are 0.
type Welcome struct {
	ID        uint64
	Session   op.SessionID
	Epoch     uint64        // of this attachment
	NextSeq   uint64        // requests below it are decided: asked again, they get their first answer
	TTL       time.Duration // as granted. The session lives that long at least, counted from when Hello was first sent
	Zxid      op.Zxid       // of the state here
	Oldest    op.Zxid       // watches can resume from here on
	Member    string        // who serves
	Cluster   uint64        // positions of another cluster mean nothing here
	KeyWindow time.Duration // how long the answer to an idempotency key is kept
	Message   uint64        // bytes that a message to the server may have; a longer one ends the connection
	Requests  uint64        // that may be under way on this connection; the server reads no further until one is answered
	Watches   uint64        // that may stand on this connection
	Endpoints []string      // URLs of members, as far as the server knows them
}

// Reply answers Write, Read, Unwatch and Bye.
type Reply struct {
	ID     uint64
	Info   op.ReadInfo // of a read; of a write its Zxid alone
	Result *op.Result  // with Err if it was refused, the answer is no, or its outcome is unknown
}

// Watching answers Watch: everything after Pos will come. With FromInitial, Pos is the state whose Initial frames
// follow.
type Watching struct {
	Watch uint64
	Pos   op.Zxid
}

// Initial is one part of the state that a watch begins with, in path order. A node that doesn't exist has none.
type Initial struct {
	Watch uint64
	Pos   op.Zxid // of the state
	Nodes []op.Node
	More  bool // further parts follow
}

// Event is a change, with the node's data if they were asked for, are still as the change left them, and had room.
type Event struct {
	op.Event      // without ACL
	HasData  bool // else see for yourself: either they have changed again, with an event of its own, or they are large
	Data     []byte
}

// Events are whole transactions in order, all after the watch's last position. Pos is the new one.
type Events struct {
	Watch  uint64
	Pos    op.Zxid
	Events []Event
}

// Bookmark says that everything up to Pos has been sent. It comes now and then while nothing happens.
type Bookmark struct {
	Watch uint64
	Pos   op.Zxid
}

// Ended says that the watch has ended; the connection and other watches go on. Everything up to Pos was sent, so that a
// new watch can begin there, except with history_gone, whose Oldest is where watches can begin.
type Ended struct {
	Watch uint64
	Pos   op.Zxid
	Err   *op.Error
}

// Pong says that the leader has confirmed a sign of life that was heard when the Ping of that ID had arrived: the
// session lives at least TTL, counted from when that Ping was sent. It may stay away for as long as there is no leader.
// Without a session it comes at once.
type Pong struct {
	ID  uint64
	TTL time.Duration
}

// Failed says that Hello, Watch or Ping was refused; with ID 0, why the server closes the connection.
type Failed struct {
	ID  uint64
	Err *op.Error
}

// SessionEnded is the last frame of a connection whose session has ended (session_expired) or was resumed on another
// connection (superseded).
type SessionEnded struct {
	Session op.SessionID
	Err     *op.Error
}

// Goaway asks the client to go on at another member. Requests under way are still answered, for a while.
type Goaway struct {
	Reason    string
	Endpoints []string
}

// Kind returns the frame's kind; the others are alike.
func (*Welcome) Kind() Kind      { return KindWelcome }
func (*Reply) Kind() Kind        { return KindReply }
func (*Watching) Kind() Kind     { return KindWatching }
func (*Initial) Kind() Kind      { return KindInitial }
func (*Events) Kind() Kind       { return KindEvents }
func (*Bookmark) Kind() Kind     { return KindBookmark }
func (*Ended) Kind() Kind        { return KindEnded }
func (*Pong) Kind() Kind         { return KindPong }
func (*Failed) Kind() Kind       { return KindFailed }
func (*SessionEnded) Kind() Kind { return KindSessionEnded }
func (*Goaway) Kind() Kind       { return KindGoaway }

func (x *Welcome) append(b []byte) []byte {
	for _, v := range [...]uint64{x.ID, uint64(x.Session), x.Epoch, x.NextSeq} {
		b = wire.Uint(b, v)
	}
	b = wire.Uint(wire.Uint(appendMillis(b, x.TTL), uint64(x.Zxid)), uint64(x.Oldest))
	b = appendMillis(wire.Uint(wire.String(b, x.Member), x.Cluster), x.KeyWindow)
	for _, v := range [...]uint64{x.Message, x.Requests, x.Watches} {
		b = wire.Uint(b, v)
	}
	return appendStrings(b, x.Endpoints)
}

func (x *Welcome) decode(r *wire.Reader) {
	x.ID, x.Session, x.Epoch, x.NextSeq = r.Uint(), op.SessionID(r.Uint()), r.Uint(), r.Uint()
	x.TTL, x.Zxid, x.Oldest = millis(r), op.Zxid(r.Uint()), op.Zxid(r.Uint())
	x.Member, x.Cluster, x.KeyWindow = r.String(), r.Uint(), millis(r)
	x.Message, x.Requests, x.Watches = r.Uint(), r.Uint(), r.Uint()
	x.Endpoints = stringsOf(r)
}

func (x *Reply) append(b []byte) []byte {
	b = append(wire.Uint(b, x.ID), byte(x.Info.Level))
	b = wire.Int(wire.Uint(b, uint64(x.Info.Zxid)), int64(x.Info.Staleness))
	return x.Result.Append(b)
}

func (x *Reply) decode(r *wire.Reader) {
	x.ID = r.Uint()
	x.Info = op.ReadInfo{Level: level(r), Zxid: op.Zxid(r.Uint()), Staleness: time.Duration(r.Int())}
	x.Result = op.DecodeResultFrom(r)
}

func (x *Watching) append(b []byte) []byte { return wire.Uint(wire.Uint(b, x.Watch), uint64(x.Pos)) }
func (x *Watching) decode(r *wire.Reader)  { x.Watch, x.Pos = r.Uint(), op.Zxid(r.Uint()) }

func (x *Initial) append(b []byte) []byte {
	b = op.AppendNodes(wire.Uint(wire.Uint(b, x.Watch), uint64(x.Pos)), x.Nodes)
	return wire.Bool(b, x.More)
}

func (x *Initial) decode(r *wire.Reader) {
	x.Watch, x.Pos, x.Nodes, x.More = r.Uint(), op.Zxid(r.Uint()), op.DecodeNodes(r), r.Bool()
}

// eventBytes is the least that an event takes.
const eventBytes = 6

func (x *Events) append(b []byte) []byte {
	b = wire.Uint(wire.Uint(wire.Uint(b, x.Watch), uint64(x.Pos)), uint64(len(x.Events)))
	last := op.Zxid(0)
	for i := range x.Events {
		b = x.Events[i].append(b, last)
		last = x.Events[i].Zxid
	}
	return b
}

// append appends the event; zxids stand as what they are more than the one before.
func (e *Event) append(b []byte, last op.Zxid) []byte {
	b = append(wire.Uint(b, uint64(e.Zxid-last)), byte(e.Type), byte(e.Kind))
	b = wire.Bool(wire.Int(wire.String(b, e.Path), int64(e.Version)), e.HasData)
	if e.HasData {
		b = wire.Bytes(b, e.Data)
	}
	return b
}

func (x *Events) decode(r *wire.Reader) {
	x.Watch, x.Pos = r.Uint(), op.Zxid(r.Uint())
	n := r.Count(eventBytes)
	if n == 0 {
		return
	}
	x.Events = make([]Event, n)
	last := op.Zxid(0)
	for i := range x.Events {
		x.Events[i].decode(r, last)
		last = x.Events[i].Zxid
	}
}

func (e *Event) decode(r *wire.Reader, last op.Zxid) {
	e.Zxid = last + op.Zxid(r.Uint())
	if e.Zxid < last {
		r.Fail("a zxid above 2^64")
	}
	e.Type = op.EventType(small(r, uint8(op.ACLChanged)+1, "event"))
	e.Kind = op.NodeKind(small(r, uint8(op.TTL)+1, "node kind"))
	if e.Path, e.Version = r.String(), r.Int32(); e.Type == 0 {
		r.Fail("an event of no type")
	}
	if e.HasData = r.Bool(); e.HasData {
		e.Data = r.Bytes()
	}
}

func (x *Bookmark) append(b []byte) []byte { return wire.Uint(wire.Uint(b, x.Watch), uint64(x.Pos)) }
func (x *Bookmark) decode(r *wire.Reader)  { x.Watch, x.Pos = r.Uint(), op.Zxid(r.Uint()) }

func (x *Ended) append(b []byte) []byte {
	return x.Err.Append(wire.Uint(wire.Uint(b, x.Watch), uint64(x.Pos)))
}
func (x *Ended) decode(r *wire.Reader) {
	x.Watch, x.Pos, x.Err = r.Uint(), op.Zxid(r.Uint()), op.DecodeError(r)
}

func (x *Pong) append(b []byte) []byte { return appendMillis(wire.Uint(b, x.ID), x.TTL) }
func (x *Pong) decode(r *wire.Reader)  { x.ID, x.TTL = r.Uint(), millis(r) }

func (x *Failed) append(b []byte) []byte { return x.Err.Append(wire.Uint(b, x.ID)) }
func (x *Failed) decode(r *wire.Reader)  { x.ID, x.Err = r.Uint(), op.DecodeError(r) }

func (x *SessionEnded) append(b []byte) []byte { return x.Err.Append(wire.Uint(b, uint64(x.Session))) }
func (x *SessionEnded) decode(r *wire.Reader) {
	x.Session, x.Err = op.SessionID(r.Uint()), op.DecodeError(r)
}

func (x *Goaway) append(b []byte) []byte { return appendStrings(wire.String(b, x.Reason), x.Endpoints) }
func (x *Goaway) decode(r *wire.Reader)  { x.Reason, x.Endpoints = r.String(), stringsOf(r) }

func appendStrings(b []byte, list []string) []byte {
	b = wire.Uint(b, uint64(len(list)))
	for _, s := range list {
		b = wire.String(b, s)
	}
	return b
}

func stringsOf(r *wire.Reader) []string {
	n := r.Count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.String()
	}
	return list
}
