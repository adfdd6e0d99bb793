package op

import "github.com/coord-kv/coord/op/wire"

// The results of sequenced and keyed requests are part of the state, so they have a canonical encoding too.

// Append appends the stat's encoding.
func (s *Stat) Append(b []byte) []byte {
	for _, z := range [...]Zxid{s.Czxid, s.Mzxid, s.Pzxid} {
		b = wire.Uint(b, uint64(z))
	}
	b = wire.Int(wire.Int(b, int64(s.Ctime)), int64(s.Mtime))
	for _, v := range [...]int32{s.Version, s.Cversion, s.Aversion} {
		b = wire.Int(b, int64(v))
	}
	b = wire.Uint(b, uint64(s.EphemeralOwner))
	b = wire.Int(wire.Int(b, int64(s.DataLength)), int64(s.NumChildren))
	return appendMillis(append(b, byte(s.Kind)), s.TTL)
}

func decodeStat(d *decoder) *Stat {
	return &Stat{
		Czxid: Zxid(d.Uint()), Mzxid: Zxid(d.Uint()), Pzxid: Zxid(d.Uint()), Ctime: Time(d.Int()), Mtime: Time(d.Int()),
		Version: d.Int32(), Cversion: d.Int32(), Aversion: d.Int32(), EphemeralOwner: SessionID(d.Uint()),
		DataLength: d.Int32(), NumChildren: d.Int32(), Kind: NodeKind(d.small(uint8(numNodeKinds), "node kind")), TTL: d.millis(),
	}
}

// Append appends the error's encoding.
func (e *Error) Append(b []byte) []byte {
	b = wire.String(append(b, byte(e.Code), byte(e.Outcome)), e.Path)
	b = wire.Int(wire.Uint(b, uint64(e.Zxid)), int64(e.Index))
	if b = wire.Bool(b, e.Stat != nil); e.Stat != nil {
		b = e.Stat.Append(b)
	}
	b = wire.Uint(wire.Int(wire.Int(b, e.Limit), e.Have), uint64(e.Oldest))
	return wire.String(b, e.Detail)
}

// DecodeError takes what Append appended.
func DecodeError(r *wire.Reader) *Error { return decodeWith(r, decodeError) }

func decodeError(d *decoder) *Error {
	e := &Error{
		Code: Code(d.small(uint8(numCodes), "code")), Outcome: Outcome(d.small(uint8(Unknown)+1, "outcome")),
		Path: d.String(), Zxid: Zxid(d.Uint()), Index: d.Int32(),
	}
	if d.Bool() {
		e.Stat = decodeStat(d)
	}
	e.Limit, e.Have, e.Oldest, e.Detail = d.Int(), d.Int(), Zxid(d.Uint()), d.String()
	return e
}

// AppendNodes appends the encoding of a list of nodes.
func AppendNodes(b []byte, nodes []Node) []byte {
	b = wire.Uint(b, uint64(len(nodes)))
	for i := range nodes {
		b = nodes[i].Stat.Append(wire.Bytes(wire.String(b, nodes[i].Path), nodes[i].Data))
	}
	return b
}

// DecodeNodes takes what AppendNodes appended; the nodes' data alias the reader's buffer.
func DecodeNodes(r *wire.Reader) []Node { return decodeWith(r, decodeNodes) }

func decodeNodes(d *decoder) []Node {
	n := d.Count(15)
	if n == 0 {
		return nil
	}
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{d.String(), d.Bytes(), *decodeStat(d)}
	}
	return nodes
}

func (x *RankInfo) append(b []byte) []byte {
	for _, v := range [...]int32{x.Position, x.Exclusive, x.Len} {
		b = wire.Int(b, int64(v))
	}
	b = wire.String(wire.Uint(b, uint64(x.Token)), x.Predecessor)
	return wire.String(wire.String(b, x.Writer), x.First)
}

func decodeRank(d *decoder) *RankInfo {
	return &RankInfo{d.Int32(), d.Int32(), d.Int32(), Zxid(d.Uint()), d.String(), d.String(), d.String()}
}

func (x *SessionInfo) append(b []byte) []byte {
	b = wire.Uint(wire.Uint(b, uint64(x.ID)), x.Epoch)
	return wire.Int(wire.Uint(b, x.NextSeq), x.Timeout)
}

func decodeSession(d *decoder) *SessionInfo {
	return &SessionInfo{SessionID(d.Uint()), d.Uint(), d.Uint(), d.Int()}
}

// Bits of the byte that says which parts of a result follow.
const (
	hasErr = 1 << iota
	hasStat
	hasRank
	hasSession
	hasMore
	hasElse
	hasResults
)

func (x *Result) parts() byte {
	var bits byte
	set := func(bit byte, has bool) {
		if has {
			bits |= bit
		}
	}
	set(hasErr, x.Err != nil)
	set(hasStat, x.Stat != nil)
	set(hasRank, x.Rank != nil)
	set(hasSession, x.Session != nil)
	set(hasMore, x.More)
	set(hasElse, x.Else)
	set(hasResults, x.Results != nil)
	return bits
}

// Append appends the result's encoding.
func (x *Result) Append(b []byte) []byte {
	b = wire.Uint(append(b, x.parts()), uint64(x.Zxid))
	b = wire.Bytes(wire.String(b, x.Path), x.Data)
	b = AppendACL(AppendNodes(b, x.Nodes), x.ACL)
	b = wire.Int(b, x.Count)
	if x.Err != nil {
		b = x.Err.Append(b)
	}
	if x.Stat != nil {
		b = x.Stat.Append(b)
	}
	if x.Rank != nil {
		b = x.Rank.append(b)
	}
	if x.Session != nil {
		b = x.Session.append(b)
	}
	if x.Results != nil {
		b = wire.Uint(b, uint64(len(x.Results)))
		for i := range x.Results {
			b = x.Results[i].Append(b)
		}
	}
	return b
}

// DecodeResult reads what Append wrote; the result aliases p.
func DecodeResult(p []byte) (*Result, error) {
	d := newDecoder(p)
	x := new(Result)
	x.decode(d)
	return x, d.Done()
}

// DecodeResultFrom takes one result off the front of the reader, whose buffer it aliases.
func DecodeResultFrom(r *wire.Reader) *Result {
	return decodeWith(r, func(d *decoder) *Result {
		x := new(Result)
		x.decode(d)
		return x
	})
}

func (x *Result) decode(d *decoder) {
	bits := d.Byte()
	x.Zxid, x.Path, x.Data = Zxid(d.Uint()), d.String(), d.Bytes()
	x.Nodes, x.ACL, x.Count = decodeNodes(d), DecodeACL(&d.Reader), d.Int()
	if bits&hasErr != 0 {
		x.Err = decodeError(d)
	}
	if bits&hasStat != 0 {
		x.Stat = decodeStat(d)
	}
	if bits&hasRank != 0 {
		x.Rank = decodeRank(d)
	}
	if bits&hasSession != 0 {
		x.Session = decodeSession(d)
	}
	x.More, x.Else = bits&hasMore != 0, bits&hasElse != 0
	if bits&hasResults == 0 {
		if bits>>7 != 0 {
			d.Fail("unknown part of a result")
		}
		return
	}
	if d.inTxn || bits>>7 != 0 {
		d.Fail("a result inside a result inside a result")
		return
	}
	d.inTxn = true
	x.Results = make([]Result, d.Count(7))
	for i := range x.Results {
		x.Results[i].decode(d)
	}
	d.inTxn = false
}
