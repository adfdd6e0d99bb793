package frame

import (
	"time"

	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/op/wire"
	"github.com/coord-kv/coord/watch"
)

// What clients send. ID is the client's own number for a request, above 0, and not that of another one under way; what
// answers the request carries it.

// Hello is the first frame of a connection and comes only once. It opens a session, resumes one, or does neither.
type Hello struct {
	ID          uint64
	Client      string // program and version, for people; at most op.MaxLabel bytes
	Credentials string // "user:password" as in HTTP Basic; "" for none
	Open        *Open
	Resume      *Resume // not with Open
}

// Open asks for a new session. If the answer is lost, its client asks again with the Secret as ProofSecret too: under
// an Identity that takes the place of the session that may have been opened.
type Open struct {
	Secret      []byte        // 16 random bytes, which only its owner knows
	TTL         time.Duration // 0: what the server finds right
	Name        string        // for people
	Identity    string        // of the instance, for takeover; "" for none
	ProofSecret []byte        // of the session of that identity to take over; nil for none
	Metadata    []byte
}

// Resume binds a session to this connection. The connection that had it is closed.
type Resume struct {
	Session op.SessionID
	Secret  []byte
	// Nonce is a random number above 0. The same one again is the same attachment, so that a Hello whose answer was lost
	// can be sent once more; TTL in Welcome then counts from when it was sent first.
	Nonce uint64
}

// Write asks for a change, at most once if it has a Seq or a Key. Requests in a session without Seq take effect in any
// order.
type Write struct {
	ID  uint64
	Seq uint64 // in a session: the next of its sequence numbers, from 1; 0 for none
	Ack uint64 // with Seq: the lowest number whose answer the client doesn't have; results below it are dropped
	Key string // an idempotency key, not with Seq; "" for none
	Op  op.Op
}

// Read asks for one reading operation.
type Read struct {
	ID      uint64
	Options op.ReadOptions
	Op      op.Op // get, exists, children, subtree, get_acl or rank
}

// Start says where a watch begins.
type Start uint8

// Where a watch begins.
const (
	FromNow     Start = iota // at a state as fresh as Options asks
	FromSince                // after Since, which is a position of this history
	FromInitial              // with that state itself, and then what changes in it
	numStarts
)

// Watch asks for the changes of a node, or of those below it too. Its ID is the watch's number as long as it stands.
type Watch struct {
	ID      uint64
	Path    string
	Scope   watch.Scope
	Types   watch.Types // none means all
	Start   Start
	Since   op.Zxid        // with FromSince
	Options op.ReadOptions // with FromNow and FromInitial
	Data    bool           // show the data of created and changed nodes
}

// Await asks for one reading operation, to be answered when something has happened after Since that a watch would tell: from
// a state that has it. It may be answered for nothing, but never too late. It is ended as a watch is, and has an answer then
// that it was.
type Await struct {
	ID    uint64
	Path  string
	Scope watch.Scope
	Types watch.Types // none means all
	Since op.Zxid     // a position of this history
	Op    op.Op       // get, exists, children, subtree, get_acl or rank
}

// Unwatch ends a watch. Events that were under way may still arrive before its Reply.
type Unwatch struct{ ID, Watch uint64 }

// Ping asks whether the session lives: see Pong.
type Ping struct{ ID uint64 }

// Bye ends the session, if there is one, and then the connection.
type Bye struct{ ID uint64 }

// Kind returns the frame's kind; the others are alike.
func (*Hello) Kind() Kind   { return KindHello }
func (*Write) Kind() Kind   { return KindWrite }
func (*Read) Kind() Kind    { return KindRead }
func (*Watch) Kind() Kind   { return KindWatch }
func (*Unwatch) Kind() Kind { return KindUnwatch }
func (*Ping) Kind() Kind    { return KindPing }
func (*Bye) Kind() Kind     { return KindBye }
func (*Await) Kind() Kind   { return KindAwait }

const (
	helloPlain = iota
	helloOpen
	helloResume
)

func (x *Hello) append(b []byte) []byte {
	b = wire.String(wire.String(wire.Uint(b, x.ID), x.Client), x.Credentials)
	switch {
	case x.Open != nil:
		return x.Open.append(append(b, helloOpen))
	case x.Resume != nil:
		return x.Resume.append(append(b, helloResume))
	}
	return append(b, helloPlain)
}

func (x *Hello) decode(r *wire.Reader) {
	x.ID, x.Client, x.Credentials = r.Uint(), r.String(), r.String()
	switch what := r.Byte(); what {
	case helloPlain:
	case helloOpen:
		x.Open = decodeOpen(r)
	case helloResume:
		x.Resume = &Resume{op.SessionID(r.Uint()), r.Bytes(), r.Uint()}
	default:
		r.Fail("a hello of kind %d", what)
	}
}

func (x *Open) append(b []byte) []byte {
	b = appendMillis(wire.Bytes(b, x.Secret), x.TTL)
	b = wire.String(wire.String(b, x.Name), x.Identity)
	return wire.Bytes(wire.Bytes(b, x.ProofSecret), x.Metadata)
}

func decodeOpen(r *wire.Reader) *Open {
	return &Open{
		Secret: r.Bytes(), TTL: millis(r), Name: r.String(), Identity: r.String(),
		ProofSecret: r.Bytes(), Metadata: r.Bytes(),
	}
}

func (x *Resume) append(b []byte) []byte {
	return wire.Uint(wire.Bytes(wire.Uint(b, uint64(x.Session)), x.Secret), x.Nonce)
}

func (x *Write) append(b []byte) []byte {
	b = wire.Uint(wire.Uint(wire.Uint(b, x.ID), x.Seq), x.Ack)
	return op.AppendOp(wire.String(b, x.Key), x.Op)
}

func (x *Write) decode(r *wire.Reader) {
	x.ID, x.Seq, x.Ack, x.Key = r.Uint(), r.Uint(), r.Uint(), r.String()
	x.Op = op.DecodeOp(r)
}

func (x *Read) append(b []byte) []byte {
	return op.AppendOp(appendOptions(wire.Uint(b, x.ID), x.Options), x.Op)
}

func (x *Read) decode(r *wire.Reader) {
	x.ID, x.Options, x.Op = r.Uint(), options(r), op.DecodeOp(r)
}

func (x *Watch) append(b []byte) []byte {
	b = wire.String(wire.Uint(b, x.ID), x.Path)
	b = append(b, byte(x.Scope), byte(x.Types), byte(x.Start))
	b = appendOptions(wire.Uint(b, uint64(x.Since)), x.Options)
	return wire.Bool(b, x.Data)
}

func (x *Watch) decode(r *wire.Reader) {
	x.ID, x.Path = r.Uint(), r.String()
	x.Scope, x.Types = watch.Scope(small(r, uint8(watch.Subtree)+1, "scope")), watch.Types(r.Byte())
	x.Start = Start(small(r, uint8(numStarts), "start"))
	x.Since, x.Options, x.Data = op.Zxid(r.Uint()), options(r), r.Bool()
}

func (x *Await) append(b []byte) []byte {
	b = append(wire.String(wire.Uint(b, x.ID), x.Path), byte(x.Scope), byte(x.Types))
	return op.AppendOp(wire.Uint(b, uint64(x.Since)), x.Op)
}

func (x *Await) decode(r *wire.Reader) {
	x.ID, x.Path = r.Uint(), r.String()
	x.Scope, x.Types = watch.Scope(small(r, uint8(watch.Subtree)+1, "scope")), watch.Types(r.Byte())
	x.Since, x.Op = op.Zxid(r.Uint()), op.DecodeOp(r)
}

func (x *Unwatch) append(b []byte) []byte { return wire.Uint(wire.Uint(b, x.ID), x.Watch) }
func (x *Unwatch) decode(r *wire.Reader)  { x.ID, x.Watch = r.Uint(), r.Uint() }
func (x *Ping) append(b []byte) []byte    { return wire.Uint(b, x.ID) }
func (x *Ping) decode(r *wire.Reader)     { x.ID = r.Uint() }
func (x *Bye) append(b []byte) []byte     { return wire.Uint(b, x.ID) }
func (x *Bye) decode(r *wire.Reader)      { x.ID = r.Uint() }

func appendMillis(b []byte, d time.Duration) []byte { return wire.Int(b, d.Milliseconds()) }

func millis(r *wire.Reader) time.Duration {
	ms := r.Int()
	d := time.Duration(ms) * time.Millisecond
	if d.Milliseconds() != ms {
		r.Fail("a duration of %d ms", ms)
	}
	return d
}

func small(r *wire.Reader, limit uint8, what string) uint8 {
	v := r.Byte()
	if v >= limit {
		r.Fail("%s %d", what, v)
		return 0
	}
	return v
}

func appendOptions(b []byte, o op.ReadOptions) []byte {
	return wire.Uint(appendMillis(append(b, byte(o.Level)), o.Max), uint64(o.MinZxid))
}

func options(r *wire.Reader) op.ReadOptions {
	return op.ReadOptions{Level: level(r), Max: millis(r), MinZxid: op.Zxid(r.Uint())}
}

func level(r *wire.Reader) op.Level { return op.Level(small(r, uint8(op.Eventual)+1, "level")) }
