package op

import (
	"slices"
	"sync"
	"time"

	"github.com/coord-kv/coord/op/wire"
)

// FormatVersion is that of log entries. A member that meets a higher one stops: it never skips what it cannot read.
const FormatVersion = 1

// decoder adds to a wire.Reader how deep transactions nest: they don't, so that hostile input can't recurse.
type decoder struct {
	wire.Reader
	inTxn bool
	auth  []Identity // of the request before
}

func newDecoder(b []byte) *decoder { return &decoder{Reader: *wire.NewReader(b)} }

// Append appends the batch's encoding.
func (x *Batch) Append(b []byte) []byte {
	b = AppendBatchHeader(b, x.Wall, x.Age, len(x.Requests))
	for _, r := range x.Requests {
		b = r.Append(b)
	}
	return b
}

// AppendBatchHeader appends what stands before the n requests of a batch, so that requests that are encoded already can
// be put behind it as they are.
func AppendBatchHeader(b []byte, wall Time, age uint64, n int) []byte {
	b = append(b, FormatVersion)
	b = wire.Int(b, int64(wall))
	b = wire.Uint(b, age)
	return wire.Uint(b, uint64(n))
}

// DecodeBatch reads a log entry. The batch aliases p. An error other than ErrFormat means that p is damaged.
func DecodeBatch(p []byte) (*Batch, error) {
	d := newDecoder(p)
	if v := d.Byte(); d.Err() == nil && v != FormatVersion {
		return nil, &FormatError{Version: v}
	}
	x := &Batch{Wall: Time(d.Int()), Age: d.Uint()}
	requests := make([]Request, d.Count(minRequestBytes))
	x.Requests = make([]*Request, len(requests))
	for i := range requests {
		x.Requests[i] = &requests[i]
		requests[i].decode(d)
	}
	return x, d.Done()
}

// FormatError reports a log entry written by a newer version of coord.
type FormatError struct{ Version uint8 }

func (e *FormatError) Error() string {
	return "the log entry has a format that only a newer version of coord reads"
}

const minRequestBytes = 9

// Append appends the tag's encoding.
func (t Tag) Append(b []byte) []byte {
	return wire.Uint(wire.Uint(wire.Uint(b, t.Member), t.Boot), t.Call)
}

// Append appends the request's encoding: the tag, then the body.
func (x *Request) Append(b []byte) []byte { return x.AppendBody(x.Tag.Append(b)) }

// AppendBody appends all of the request but its tag, so that a caller can encode it before the tag is known.
func (x *Request) AppendBody(b []byte) []byte {
	b = wire.Uint(b, uint64(x.Session))
	b = wire.Uint(b, x.Seq)
	if x.Seq != 0 {
		b = wire.Uint(b, x.Epoch)
		b = wire.Uint(b, x.Ack)
	}
	b = wire.Bool(b, x.Key != nil)
	if x.Key != nil {
		b = wire.String(b, x.Key.Principal)
		b = wire.String(b, x.Key.Key)
		b = wire.Fixed(b, x.Key.Hash[:])
	}
	b = wire.Uint(b, uint64(len(x.Auth)))
	for _, id := range x.Auth {
		b = wire.String(wire.String(b, id.Scheme), id.ID)
	}
	return appendOp(b, x.Op)
}

// DecodeRequest reads what Append wrote; the request aliases p.
func DecodeRequest(p []byte) (*Request, error) {
	d := newDecoder(p)
	x := new(Request)
	x.decode(d)
	return x, d.Done()
}

func (x *Request) decode(d *decoder) {
	x.Tag = Tag{d.Uint(), d.Uint(), d.Uint()}
	x.Session, x.Seq = SessionID(d.Uint()), d.Uint()
	if x.Seq != 0 {
		x.Epoch, x.Ack = d.Uint(), d.Uint()
	}
	if d.Bool() {
		x.Key = &Key{Principal: d.String(), Key: d.String()}
		d.Fixed(x.Key.Hash[:])
	}
	x.Auth = d.identities()
	x.Op = decodeOp(d)
}

// identities reads who a caller is. Requests that stand together are often of the same one: then they share a list.
func (d *decoder) identities() []Identity {
	n := d.Count(2)
	if n == 0 {
		return nil
	}
	list, shared := d.auth, true
	if len(list) != n {
		list, shared = make([]Identity, n), false
	}
	for i := range list {
		id := Identity{d.StringLike(list[i].Scheme), d.StringLike(list[i].ID)}
		if shared && id != list[i] {
			list, shared = slices.Clone(list), false
		}
		if !shared {
			list[i] = id
		}
	}
	d.auth = list
	return list
}

// AppendOp appends the operation's encoding, as it stands in a request: what an idempotency key's hash covers.
func AppendOp(b []byte, o Op) []byte { return appendOp(b, o) }

// DecodeOp takes what AppendOp appended. The operation aliases the reader's buffer; after an error it is not nil but means
// nothing.
func DecodeOp(r *wire.Reader) Op { return decodeWith(r, decodeOp) }

// decodeWith lends the reader to a decoding function of this package.
func decodeWith[V any](r *wire.Reader, decode func(*decoder) V) V {
	d := decoders.Get().(*decoder)
	d.Reader = *r
	v := decode(d)
	*r = d.Reader
	*d = decoder{}
	decoders.Put(d)
	return v
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

func appendOp(b []byte, o Op) []byte { return o.append(append(b, byte(o.Verb()))) }

func decodeOp(d *decoder) Op {
	v := Verb(d.Byte())
	o := newOp(v)
	switch {
	case o == nil:
		d.Fail("unknown verb %d", v)
		return new(Check)
	case d.inTxn && !v.InTxn():
		d.Fail("%s inside a transaction", v)
		return new(Check)
	}
	o.decode(d)
	return o
}

func appendOps(b []byte, ops []Op) []byte {
	b = wire.Uint(b, uint64(len(ops)))
	for _, o := range ops {
		b = appendOp(b, o)
	}
	return b
}

func decodeOps(d *decoder) []Op {
	n := d.Count(2)
	if n == 0 {
		return nil
	}
	ops := make([]Op, n)
	for i := range ops {
		ops[i] = decodeOp(d)
	}
	return ops
}

func appendMillis(b []byte, t time.Duration) []byte { return wire.Int(b, t.Milliseconds()) }

func (d *decoder) millis() time.Duration {
	ms := d.Int()
	if t := time.Duration(ms) * time.Millisecond; t.Milliseconds() == ms {
		return t
	}
	d.Fail("a duration of %d ms", ms)
	return 0
}

func (d *decoder) small(limit uint8, what string) uint8 {
	v := d.Byte()
	if v >= limit {
		d.Fail("%s %d", what, v)
	}
	return v
}

func appendCond(b []byte, c Cond) []byte {
	b = wire.Int(b, int64(c.Version))
	b = wire.Uint(b, uint64(c.Mzxid))
	return wire.Bool(b, c.Absent)
}

func (d *decoder) cond() Cond { return Cond{d.Int32(), Zxid(d.Uint()), d.Bool()} }

// AppendACL appends the encoding of an ACL; nil and empty differ.
func AppendACL(b []byte, acl []ACL) []byte {
	if acl == nil {
		return wire.Uint(b, 0)
	}
	b = wire.Uint(b, uint64(len(acl))+1)
	for _, a := range acl {
		b = wire.String(wire.String(append(b, byte(a.Perms)), a.Scheme), a.ID)
	}
	return b
}

// DecodeACL takes what AppendACL appended.
func DecodeACL(r *wire.Reader) []ACL {
	n := r.Uint()
	if n == 0 {
		return nil
	}
	if n--; n > uint64(r.Len()/3) {
		r.Fail("an ACL of %d entries in %d bytes", n, r.Len())
		return nil
	}
	acl := make([]ACL, n)
	for i := range acl {
		acl[i] = ACL{Perm(r.Byte()), r.String(), r.String()}
	}
	return acl
}

func (x *Create) append(b []byte) []byte {
	b = wire.String(b, x.Path)
	b = wire.Bytes(b, x.Data)
	b = append(b, byte(x.Kind))
	b = wire.Bool(b, x.Sequence)
	b = appendMillis(b, x.TTL)
	b = AppendACL(b, x.ACL)
	b = wire.Bool(b, x.Parents)
	return wire.Bool(b, x.Replace)
}

func (x *Create) decode(d *decoder) {
	x.Path, x.Data, x.Kind = d.String(), d.Bytes(), NodeKind(d.small(uint8(numNodeKinds), "node kind"))
	x.Sequence, x.TTL, x.ACL = d.Bool(), d.millis(), DecodeACL(&d.Reader)
	x.Parents, x.Replace = d.Bool(), d.Bool()
}

func (x *Set) append(b []byte) []byte {
	return appendCond(wire.Bytes(wire.String(b, x.Path), x.Data), x.If)
}
func (x *Set) decode(d *decoder) { x.Path, x.Data, x.If = d.String(), d.Bytes(), d.cond() }

func (x *Delete) append(b []byte) []byte {
	return wire.Bool(appendCond(wire.String(b, x.Path), x.If), x.Recursive)
}
func (x *Delete) decode(d *decoder) { x.Path, x.If, x.Recursive = d.String(), d.cond(), d.Bool() }

func (x *Check) append(b []byte) []byte { return appendCond(wire.String(b, x.Path), x.If) }
func (x *Check) decode(d *decoder)      { x.Path, x.If = d.String(), d.cond() }

func (x *SetACL) append(b []byte) []byte {
	return wire.Int(AppendACL(wire.String(b, x.Path), x.ACL), int64(x.Version))
}
func (x *SetACL) decode(d *decoder) {
	x.Path, x.ACL, x.Version = d.String(), DecodeACL(&d.Reader), d.Int32()
}

func (x *SetQuota) append(b []byte) []byte {
	return AppendQuota(wire.String(b, x.Path), x.Quota)
}
func (x *SetQuota) decode(d *decoder) { x.Path, x.Quota = d.String(), DecodeQuota(&d.Reader) }

// AppendQuota appends the encoding of a quota.
func AppendQuota(b []byte, q Quota) []byte {
	for _, v := range [...]int64{q.SoftCount, q.HardCount, q.SoftBytes, q.HardBytes} {
		b = wire.Int(b, v)
	}
	return b
}

// DecodeQuota takes what AppendQuota appended.
func DecodeQuota(r *wire.Reader) Quota { return Quota{r.Int(), r.Int(), r.Int(), r.Int()} }

func (x *Txn) append(b []byte) []byte {
	return appendOps(appendOps(appendOps(b, x.If), x.Then), x.Else)
}
func (x *Txn) decode(d *decoder) {
	d.inTxn = true
	x.If, x.Then, x.Else = decodeOps(d), decodeOps(d), decodeOps(d)
	d.inTxn = false
}

func (x *Get) append(b []byte) []byte    { return wire.String(b, x.Path) }
func (x *Get) decode(d *decoder)         { x.Path = d.String() }
func (x *Exists) append(b []byte) []byte { return wire.String(b, x.Path) }
func (x *Exists) decode(d *decoder)      { x.Path = d.String() }
func (x *GetACL) append(b []byte) []byte { return wire.String(b, x.Path) }
func (x *GetACL) decode(d *decoder)      { x.Path = d.String() }

func (x *Children) append(b []byte) []byte {
	b = wire.Int(wire.String(wire.String(b, x.Path), x.After), int64(x.Limit))
	return wire.Bool(wire.Bool(b, x.WithData), x.WithStat)
}
func (x *Children) decode(d *decoder) {
	x.Path, x.After, x.Limit, x.WithData, x.WithStat = d.String(), d.String(), d.Int32(), d.Bool(), d.Bool()
}

func (x *Subtree) append(b []byte) []byte {
	b = wire.String(wire.String(b, x.Path), x.After)
	return wire.Int(wire.Int(b, int64(x.Depth)), int64(x.Limit))
}
func (x *Subtree) decode(d *decoder) {
	x.Path, x.After, x.Depth, x.Limit = d.String(), d.String(), d.Int32(), d.Int32()
}

func (x *Rank) append(b []byte) []byte { return wire.Int(wire.String(b, x.Path), int64(x.Of)) }
func (x *Rank) decode(d *decoder)      { x.Path, x.Of = d.String(), d.Int32() }

func (x *Holder) append(b []byte) []byte {
	b = wire.Uint(wire.String(b, x.Dir), uint64(x.Token))
	return wire.Int(wire.Bool(b, x.Rule.Shared), int64(x.Rule.Slots))
}
func (x *Holder) decode(d *decoder) {
	x.Dir, x.Token, x.Rule = d.String(), Zxid(d.Uint()), Rule{d.Bool(), d.Int32()}
}

func (x *Term) append(b []byte) []byte { return wire.Uint(wire.String(b, x.Dir), uint64(x.Token)) }
func (x *Term) decode(d *decoder)      { x.Dir, x.Token = d.String(), Zxid(d.Uint()) }

func (x *Lead) append(b []byte) []byte {
	return wire.Bytes(wire.String(wire.String(b, x.Dir), x.Node), x.Data)
}
func (x *Lead) decode(d *decoder) { x.Dir, x.Node, x.Data = d.String(), d.String(), d.Bytes() }

func (x *OpenSession) append(b []byte) []byte {
	b = appendMillis(wire.Fixed(b, x.Secret[:]), x.Timeout)
	b = wire.String(wire.String(b, x.Name), x.Identity)
	return wire.Bytes(wire.Bool(wire.Fixed(b, x.Proof[:]), x.Lease), x.Metadata)
}
func (x *OpenSession) decode(d *decoder) {
	d.Fixed(x.Secret[:])
	x.Timeout, x.Name, x.Identity = d.millis(), d.String(), d.String()
	d.Fixed(x.Proof[:])
	x.Lease, x.Metadata = d.Bool(), d.Bytes()
}

func (x *Attach) append(b []byte) []byte {
	return wire.Uint(wire.Fixed(wire.Uint(b, uint64(x.Session)), x.Secret[:]), x.Nonce)
}
func (x *Attach) decode(d *decoder) {
	x.Session = SessionID(d.Uint())
	d.Fixed(x.Secret[:])
	x.Nonce = d.Uint()
}

func (x *SetTimeout) append(b []byte) []byte {
	return appendMillis(wire.Uint(b, uint64(x.Session)), x.Timeout)
}
func (x *SetTimeout) decode(d *decoder) { x.Session, x.Timeout = SessionID(d.Uint()), d.millis() }

func (x *CloseSession) append(b []byte) []byte {
	return wire.Bool(wire.Uint(b, uint64(x.Session)), x.Killed)
}
func (x *CloseSession) decode(d *decoder) { x.Session, x.Killed = SessionID(d.Uint()), d.Bool() }

func (x *Expire) append(b []byte) []byte {
	b = wire.Uint(b, uint64(len(x.Sessions)))
	for _, e := range x.Sessions {
		b = appendMillis(wire.Uint(wire.Uint(b, uint64(e.Session)), e.Epoch), e.Timeout)
	}
	return b
}
func (x *Expire) decode(d *decoder) {
	x.Sessions = make([]Expiry, d.Count(3))
	for i := range x.Sessions {
		x.Sessions[i] = Expiry{SessionID(d.Uint()), d.Uint(), d.millis()}
	}
}

func (x *Reap) append(b []byte) []byte {
	b = wire.Uint(b, uint64(len(x.Paths)))
	for _, p := range x.Paths {
		b = wire.String(b, p)
	}
	return b
}
func (x *Reap) decode(d *decoder) {
	x.Paths = make([]string, d.Count(1))
	for i := range x.Paths {
		x.Paths[i] = d.String()
	}
}

func (x *SetLevel) append(b []byte) []byte { return wire.Uint(b, uint64(x.Level)) }
func (x *SetLevel) decode(d *decoder) {
	v := d.Uint()
	if x.Level = uint32(v); uint64(x.Level) != v {
		d.Fail("level %d", v)
	}
}

func (x *SetLimits) append(b []byte) []byte { return x.Limits.Append(b) }
func (x *SetLimits) decode(d *decoder)      { x.Limits.decode(d) }

// fields lists the limits in their encoded order; durations stand as milliseconds.
func (x *Limits) fields() (counts []*int64, times []*time.Duration) {
	return []*int64{
			&x.DataBytes, &x.RequestBytes, &x.TxnOps, &x.ChangedNodes, &x.EventBytes, &x.ReadBytes, &x.Ephemerals,
			&x.Sessions, &x.SeqWindow, &x.SessionResults, &x.AllResults, &x.PrincipalKeys, &x.ACLEntries,
		}, []*time.Duration{
			&x.KeyWindow, &x.SessionMin, &x.SessionMax, &x.ContainerUnused,
		}
}

// Append appends the encoding of the limits.
func (x *Limits) Append(b []byte) []byte {
	counts, times := x.fields()
	for _, c := range counts {
		b = wire.Int(b, *c)
	}
	for _, t := range times {
		b = appendMillis(b, *t)
	}
	return b
}

// DecodeLimits takes what Append appended.
func DecodeLimits(r *wire.Reader) Limits {
	d := decoder{Reader: *r}
	var x Limits
	x.decode(&d)
	*r = d.Reader
	return x
}

func (x *Limits) decode(d *decoder) {
	counts, times := x.fields()
	for _, c := range counts {
		*c = d.Int()
	}
	for _, t := range times {
		*t = d.millis()
	}
}
