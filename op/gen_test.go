package op

import (
	"reflect"
	"time"

	"pgregory.net/rapid"
)

// Values are generated from the types themselves, so a field that is added and not encoded is noticed.

var valueConfig = rapid.MakeConfig{
	Types: map[reflect.Type]*rapid.Generator[any]{
		reflect.TypeFor[string]():        anyString.AsAny(),
		reflect.TypeFor[[]byte]():        rapid.OneOf(rapid.Just[[]byte](nil), rapid.SliceOfN(rapid.Byte(), 0, 20)).AsAny(),
		reflect.TypeFor[[]ACL]():         rapid.OneOf(rapid.Just[[]ACL](nil), rapid.SliceOfN(anyACL, 0, 3)).AsAny(),
		reflect.TypeFor[time.Duration](): anyDuration.AsAny(),
		reflect.TypeFor[NodeKind]():      rapid.Map(rapid.ByteMax(byte(numNodeKinds)-1), func(b byte) NodeKind { return NodeKind(b) }).AsAny(),
		reflect.TypeFor[Code]():          rapid.Map(rapid.ByteMax(byte(numCodes)-1), func(b byte) Code { return Code(b) }).AsAny(),
		reflect.TypeFor[Outcome]():       rapid.Map(rapid.ByteMax(byte(Unknown)), func(b byte) Outcome { return Outcome(b) }).AsAny(),
		reflect.TypeFor[[]Identity]():    orNil(rapid.SliceOfN(rapid.Make[Identity](), 1, 3)).AsAny(),
		reflect.TypeFor[[]Expiry]():      rapid.SliceOfN(anyExpiry, 0, 3).AsAny(),
		reflect.TypeFor[[]string]():      rapid.SliceOfN(anyString, 0, 3).AsAny(),
	},
}

var (
	anyString   = rapid.OneOf(rapid.SampledFrom([]string{"", "/", "/a/b"}), rapid.String())
	anyACL      = rapid.Make[ACL]()
	anyDuration = rapid.Map(rapid.Int64Range(-1<<43, 1<<43), func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond })
	anyExpiry   = rapid.Custom(func(t *rapid.T) Expiry {
		return Expiry{SessionID(rapid.Uint64().Draw(t, "id")), rapid.Uint64().Draw(t, "epoch"), anyDuration.Draw(t, "timeout")}
	})
	anyOp      = rapid.Custom(func(t *rapid.T) Op { return drawOp(t, Verbs()) })
	anyRequest = rapid.Custom(drawRequest)
	anyBatch   = rapid.Custom(func(t *rapid.T) *Batch {
		return &Batch{Time(rapid.Int64().Draw(t, "wall")), rapid.Uint64().Draw(t, "age"), rapid.SliceOfN(anyRequest, 0, 3).Draw(t, "requests")}
	})
	anyResult = rapid.Custom(func(t *rapid.T) *Result {
		x := drawResult(t)
		if rapid.Bool().Draw(t, "of a transaction") {
			x.Results = rapid.SliceOfN(rapid.Custom(drawResult), 0, 3).Draw(t, "results")
		}
		return &x
	})
)

func orNil[S ~[]E, E any](g *rapid.Generator[S]) *rapid.Generator[S] {
	return rapid.OneOf(rapid.Just[S](nil), g)
}

func drawOp(t *rapid.T, verbs []Verb) Op {
	x := newOp(rapid.SampledFrom(verbs).Draw(t, "verb"))
	if txn, ok := x.(*Txn); ok {
		inside := rapid.Custom(func(t *rapid.T) Op { return drawOp(t, innerVerbs()) })
		branch := orNil(rapid.SliceOfN(inside, 1, 3))
		*txn = Txn{branch.Draw(t, "if"), branch.Draw(t, "then"), branch.Draw(t, "else")}
		return txn
	}
	draw(t, x)
	return x
}

func innerVerbs() (verbs []Verb) {
	for _, v := range Verbs() {
		if v.InTxn() {
			verbs = append(verbs, v)
		}
	}
	return verbs
}

// draw fills the struct that x points to.
func draw(t *rapid.T, x Op) {
	switch x := x.(type) {
	case *Create:
		*x = value[Create](t)
	case *Set:
		*x = value[Set](t)
	case *Delete:
		*x = value[Delete](t)
	case *Check:
		*x = value[Check](t)
	case *SetACL:
		*x = value[SetACL](t)
	case *SetQuota:
		*x = value[SetQuota](t)
	case *Get:
		*x = value[Get](t)
	case *Exists:
		*x = value[Exists](t)
	case *Children:
		*x = value[Children](t)
	case *Subtree:
		*x = value[Subtree](t)
	case *GetACL:
		*x = value[GetACL](t)
	case *Rank:
		*x = value[Rank](t)
	case *Holder:
		*x = value[Holder](t)
	case *Term:
		*x = value[Term](t)
	case *Lead:
		*x = value[Lead](t)
	case *OpenSession:
		*x = value[OpenSession](t)
	case *Attach:
		*x = value[Attach](t)
	case *SetTimeout:
		*x = value[SetTimeout](t)
	case *CloseSession:
		*x = value[CloseSession](t)
	case *Expire:
		*x = value[Expire](t)
	case *Reap:
		*x = value[Reap](t)
	case *SetLevel:
		*x = value[SetLevel](t)
	case *SetLimits:
		*x = value[SetLimits](t)
	default:
		t.Fatalf("no values of %T", x)
	}
}

func value[V any](t *rapid.T) V {
	return rapid.MakeCustom[V](valueConfig).Draw(t, reflect.TypeFor[V]().Name())
}

func drawRequest(t *rapid.T) *Request {
	x := &Request{
		Tag: value[Tag](t), Session: value[SessionID](t), Auth: value[[]Identity](t),
		Op: anyOp.Draw(t, "op"),
	}
	if rapid.Bool().Draw(t, "sequenced") {
		x.Seq, x.Epoch, x.Ack = rapid.Uint64Min(1).Draw(t, "seq"), value[uint64](t), value[uint64](t)
	}
	if rapid.Bool().Draw(t, "keyed") {
		key := value[Key](t)
		x.Key = &key
	}
	return x
}

// drawResult returns one that is not of a transaction.
func drawResult(t *rapid.T) Result {
	x := Result{
		Zxid: value[Zxid](t), Path: anyString.Draw(t, "path"), Data: value[[]byte](t), More: value[bool](t),
		ACL: value[[]ACL](t), Count: value[int64](t), Else: value[bool](t),
		Nodes: orNil(rapid.SliceOfN(rapid.MakeCustom[Node](valueConfig), 1, 2)).Draw(t, "nodes"),
	}
	if value[bool](t) {
		x.Err = new(value[Error](t))
	}
	if value[bool](t) {
		x.Stat = new(value[Stat](t))
	}
	if value[bool](t) {
		x.Rank = new(value[RankInfo](t))
	}
	if value[bool](t) {
		x.Session = new(value[SessionInfo](t))
	}
	return x
}
