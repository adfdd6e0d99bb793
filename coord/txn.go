package coord

import (
	"context"

	"github.com/coord-kv/coord/op"
)

// Txn collects operations that are done together, at one zxid, or not at all. Its methods return it, so that calls
// chain. It is used once, by one goroutine.
type Txn struct {
	t    tree
	txn  op.Txn
	list *[]op.Op // where operations go
	key  string
	err  error
}

// Result is what became of one operation of a transaction.
type Result struct {
	Path    string // of a node created
	Stat    *Stat  // of a node created, set or read; nil if there is none
	Data    []byte // of a node read
	Deleted int64  // nodes deleted
}

// TxnResult is what became of a transaction.
type TxnResult struct {
	Zxid    Zxid
	Else    bool     // a check did not hold, so the operations behind Else were done
	Results []Result // of the operations done, in order
}

// Txn begins a transaction. First come the checks, then what is done if they all hold, then, behind Else, what is done
// otherwise.
func (t tree) Txn() *Txn {
	x := &Txn{t: t}
	x.list = &x.txn.Then
	return x
}

// Check adds a condition: the node exists, and meets IfMatch or IfVersion if one is given.
func (x *Txn) Check(path string, opts ...WriteOption) *Txn {
	x.txn.If = append(x.txn.If, &op.Check{Path: path, If: x.apply(opts).cond})
	return x
}

// CheckAbsent adds the condition that there is no such node.
func (x *Txn) CheckAbsent(path string) *Txn {
	x.txn.If = append(x.txn.If, &op.Check{Path: path, If: op.Cond{Version: op.AnyVersion, Absent: true}})
	return x
}

// Fenced adds the condition that the token is still good.
func (x *Txn) Fenced(t Token) *Txn {
	x.txn.If = append(x.txn.If, t.check())
	return x
}

// IdempotencyKey names the transaction; see the option of that name.
func (x *Txn) IdempotencyKey(key string) *Txn {
	x.key = key
	return x
}

// Create adds the creation of a node. Fenced and IdempotencyKey belong to the whole transaction.
func (x *Txn) Create(path string, data []byte, opts ...CreateOption) *Txn {
	w := writing{}
	for _, o := range opts {
		o.applyCreate(&w)
	}
	x.guard(&w)
	create := w.create
	create.Path, create.Data = path, data
	return x.add(&create)
}

// Set adds the setting of a node's data.
func (x *Txn) Set(path string, data []byte, opts ...WriteOption) *Txn {
	return x.add(&op.Set{Path: path, Data: data, If: x.apply(opts).cond})
}

// Delete adds the deletion of a node.
func (x *Txn) Delete(path string, opts ...WriteOption) *Txn {
	w := x.apply(opts)
	return x.add(&op.Delete{Path: path, If: w.cond, Recursive: w.recursive})
}

// Get adds the reading of a node, as the operations before it have left it.
func (x *Txn) Get(path string) *Txn { return x.add(&op.Get{Path: path}) }

// Else says that the operations that follow are done if one of the checks does not hold. With no Else such a
// transaction fails with the error of the check.
func (x *Txn) Else() *Txn {
	x.list = &x.txn.Else
	return x
}

func (x *Txn) add(o op.Op) *Txn {
	*x.list = append(*x.list, o)
	return x
}

func (x *Txn) apply(opts []WriteOption) *writing {
	w := writingOf(opts)
	x.guard(w)
	return w
}

// guard takes what an option of one operation says about the whole.
func (x *Txn) guard(w *writing) {
	x.txn.If = append(x.txn.If, w.fences...)
	if w.key != "" {
		x.key = w.key
	}
	if w.create.Kind == op.Ephemeral && x.t.e.open == nil {
		x.err = op.Errorf(op.BadRequest, needsSession)
	}
}

// Commit has the transaction decided. The error's Index says which operation failed, from 0: the checks count first.
func (x *Txn) Commit(ctx context.Context) (*TxnResult, error) {
	if x.err != nil {
		return nil, x.err
	}
	a := x.t.e.do(ctx, &call{o: &x.txn, key: x.key})
	if a.err != nil {
		return nil, a.err
	}
	res := &TxnResult{Zxid: a.result.Zxid, Else: a.result.Else}
	for _, r := range a.result.Results {
		res.Results = append(res.Results, Result{r.Path, r.Stat, r.Data, r.Count})
	}
	return res, nil
}
