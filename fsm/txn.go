package fsm

import (
	"math"
	"slices"

	"github.com/coord-kv/coord/op"
)

// conditions are what a transaction may ask for before it decides what to do.
var conditions = []op.Verb{op.VerbCheck, op.VerbHolder, op.VerbTerm}

// txn does all of a list of operations or none, at the zxid that the request has taken.
func (m *Machine) txn(c *caller, x *op.Txn, room allowance) op.Result {
	if err := m.checkTxn(x); err != nil {
		return op.Result{Err: err}
	}
	list, otherwise := x.Then, false
	if err := m.firstFalse(c, x.If); err != nil {
		if len(x.Else) == 0 {
			return op.Result{Err: err}
		}
		list, otherwise = x.Else, true
	}
	res := op.Result{Results: make([]op.Result, len(list)), Else: otherwise}
	err := m.atomically(func() *op.Error {
		if err := m.all(c, list, res.Results, room.reads); err != nil {
			err.Index += int32(len(x.If))
			return err
		}
		return m.fits(&res, room.answer)
	})
	if err != nil {
		return op.Result{Err: err, Else: otherwise}
	}
	return res
}

// fits checks whether an answer that is to be kept has its room.
func (m *Machine) fits(res *op.Result, bytes int64) *op.Error {
	if bytes == math.MaxInt64 {
		return nil
	}
	m.stamp(res)
	m.scratch = res.Append(m.scratch[:0])
	if int64(len(m.scratch)) > bytes {
		return &op.Error{Code: op.WindowFull}
	}
	return nil
}

func (m *Machine) checkTxn(x *op.Txn) *op.Error {
	if have := int64(len(x.If) + len(x.Then) + len(x.Else)); have > m.limits.TxnOps {
		return &op.Error{Code: op.TooLarge, Limit: m.limits.TxnOps, Have: have}
	}
	for i, o := range x.If {
		if o == nil || !slices.Contains(conditions, o.Verb()) {
			return &op.Error{Code: op.BadRequest, Index: int32(i)}
		}
	}
	for _, list := range [][]op.Op{x.Then, x.Else} {
		for i, o := range list {
			if o == nil || !o.Verb().InTxn() {
				return &op.Error{Code: op.BadRequest, Index: int32(len(x.If) + i)}
			}
		}
	}
	return nil
}

// firstFalse returns why the first of the checks that doesn't hold doesn't.
func (m *Machine) firstFalse(c *caller, checks []op.Op) *op.Error {
	for i, o := range checks {
		if err := m.read(o, c.auth).Err; err != nil {
			err.Index = int32(i)
			return err
		}
	}
	return nil
}

// all does the operations of a list until one fails. Their reads may be readBytes long together.
func (m *Machine) all(c *caller, list []op.Op, results []op.Result, readBytes int64) *op.Error {
	var read int64
	for i, o := range list {
		res := &results[i]
		if reads(o) {
			*res = m.readIn(o, list, results[:i], c.auth)
			read += size(res)
		} else {
			*res = m.change(c, o)
		}
		if res.Err == nil && read > readBytes {
			res.Err = &op.Error{Code: op.TooLarge, Limit: readBytes, Have: read}
		}
		if res.Err != nil {
			res.Err.Index = int32(i)
			return res.Err
		}
	}
	return nil
}

// readIn runs a read of a list, after those that are done. A rank may ask for the node that one of these has created.
func (m *Machine) readIn(o op.Op, list []op.Op, done []op.Result, auth []op.Identity) op.Result {
	x, ok := o.(*op.Rank)
	if !ok || x.Of == 0 {
		return m.read(o, auth)
	}
	i := int(x.Of) - 1
	if i < 0 || i >= len(done) || list[i].Verb() != op.VerbCreate {
		return fail(op.BadRequest, "")
	}
	return m.rank(done[i].Path, auth)
}

// size returns about how many bytes the result of a read is long.
func size(r *op.Result) int64 {
	const record = 64
	n := record + len(r.Data)
	for i := range r.Nodes {
		n += record + len(r.Nodes[i].Path) + len(r.Nodes[i].Data)
	}
	for _, a := range r.ACL {
		n += len(a.Scheme) + len(a.ID) + 4
	}
	return int64(n)
}
