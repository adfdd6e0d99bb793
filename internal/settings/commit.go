package settings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coord-kv/coord/internal/recipe/attempt"
	"github.com/coord-kv/coord/op"
)

// Change is what a commit does to a configuration.
type Change struct {
	Values  map[string]*string // nil deletes the key
	Replace bool               // keys that Values doesn't have are deleted
	Author  string             // for people, up to 512 bytes
	Comment string             // for people, up to 512 bytes
	If      *op.Cond           // what the application's node must be at; nil for whatever there is
	Keys    []string           // of a rollback: these alone go back; nil for all

	rolledBack int64
}

// Committed is what has come of a commit.
type Committed struct {
	Version
	Node op.Stat // of the application: its ETag is for the next Change.If
	Zxid op.Zxid
}

// Commit makes a change, all of it or nothing, as a new version, and returns that. What changes nothing makes no version;
// then it is the one that there is. The error is a *Conflict if Change.If doesn't hold, or what is
// wrong with the change: bad_request, bad_path, too_large, denied, quota_exceeded.
func (s *Settings) Commit(ctx context.Context, app string, x Change) (Committed, error) {
	if err := CheckApp(app); err != nil {
		return Committed{}, err
	}
	if err := x.check(); err != nil {
		return Committed{}, err
	}
	res, err := attempt.Do(ctx, s.conn, func() ([]op.Op, error) { return s.plan(ctx, op.Join(Dir, app), x) })
	if err != nil {
		return Committed{}, err
	}
	done := res.Results[len(res.Results)-1]
	return Committed{versionOf(done.Data, done.Stat), *done.Stat, res.Zxid}, nil
}

func (x *Change) check() error {
	for _, note := range []string{x.Author, x.Comment} {
		if len(note) > maxNote || !utf8.ValidString(note) {
			return op.Errorf(op.BadRequest, "an author or comment must be UTF-8 text of at most %d bytes", maxNote)
		}
	}
	for key, value := range x.Values {
		if err := checkName(key); err != nil {
			return err
		}
		if value != nil && !utf8.ValidString(*value) {
			return op.Errorf(op.BadRequest, "the value of %s is not UTF-8 text", key)
		}
	}
	return nil
}

// Rollback makes the values what they were at a version, as a new version; Values and Replace of the change are not looked
// at. See Commit; a version that isn't kept is no_node.
func (s *Settings) Rollback(ctx context.Context, app string, number int64, x Change) (Committed, error) {
	old, err := s.At(ctx, app, number, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return Committed{}, err
	}
	x.Values, x.Replace = make(map[string]*string, len(old.Values)), x.Keys == nil
	for key, value := range old.Values {
		if x.Replace || slices.Contains(x.Keys, key) {
			x.Values[key] = &value
		}
	}
	for _, key := range x.Keys {
		if _, had := old.Values[key]; !had {
			x.Values[key] = nil
		}
	}
	if x.Replace {
		x.rolledBack = number
	}
	return s.Commit(ctx, app, x)
}

// plan reads what the change is to be made to, and returns the operations that make it. The last one reads the
// application's node as it is then.
func (s *Settings) plan(ctx context.Context, dir string, x Change) ([]op.Op, error) {
	c, err := s.read(ctx, dir, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return nil, err
	}
	p := &plan{dir: dir, now: c, values: maps.Clone(c.Values)}
	if err := c.meets(dir, x.If); err != nil {
		return nil, attempt.Refuse(err)
	}
	if no := cmp.Or(p.change(x), p.fits()); no != nil {
		return nil, attempt.Refuse(no)
	}
	version := &op.Get{Path: dir}
	if len(p.ops) == 0 && c.Number > 0 {
		return []op.Op{&op.Check{Path: dir, If: c.cond()}, version}, nil
	}
	if p.acl, err = s.aclOf(ctx, c, dir); err != nil {
		return nil, err
	}
	if p.kept, err = s.kept(ctx, dir, op.ReadOptions{Level: op.Eventual, MinZxid: c.Zxid}); err != nil {
		return nil, err
	}
	return append(p.all(x), version), nil
}

// meets checks the caller's condition. That it still holds when the transaction is decided follows from the condition of
// the transaction itself.
func (c *current) meets(dir string, cond *op.Cond) error {
	if cond == nil {
		return nil
	}
	exists := c.Node.Czxid != 0
	e := &op.Error{Outcome: op.Decided, Path: dir, Zxid: c.Zxid}
	switch {
	case cond.Absent && exists:
		e.Code, e.Stat = op.NodeExists, &c.Node
	case cond.Absent:
		return nil
	case !exists:
		e.Code = op.NoNode
	case cond.Version != op.AnyVersion && cond.Version != c.Node.Version, cond.Mzxid != 0 && c.Node.Mzxid > cond.Mzxid:
		e.Code, e.Stat = op.BadVersion, &c.Node
	default:
		return nil
	}
	if e.Stat != nil {
		e.Detail = fmt.Sprintf("%s is at version %d", op.Base(dir), c.Number)
	}
	return &Conflict{e, c.Number}
}

// Conflict is the error of a change whose condition doesn't hold: bad_version, node_exists or no_node.
type Conflict struct {
	Err    *op.Error
	Number int64 // of the newest version; 0 if there is none
}

// Error is that of Err.
func (e *Conflict) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *Conflict) Unwrap() error { return e.Err }

// aclOf returns the access control list for new nodes of the application: that of its node, nil for the open one.
func (s *Settings) aclOf(ctx context.Context, c *current, dir string) ([]op.ACL, error) {
	if c.Node.Czxid == 0 {
		return nil, nil
	}
	res, err := s.conn.Read(ctx, &op.GetACL{Path: dir}, op.ReadOptions{Level: op.Eventual, MinZxid: c.Zxid})
	switch {
	case errors.Is(err, &op.Error{Code: op.NoNode}):
		return nil, nil // it is gone, which the transaction finds out
	case err != nil:
		return nil, err
	case slices.Equal(res.ACL, op.OpenACL):
		return nil, nil
	}
	masked := func(a op.ACL) bool { return a.Scheme == "digest" && strings.HasSuffix(a.ID, ":x") }
	if slices.ContainsFunc(res.ACL, masked) {
		return nil, attempt.Refuse(&op.Error{
			Code: op.Denied, Outcome: op.Refused, Path: dir,
			Detail: "a commit gives new nodes the access control list of " + dir +
				", and to see that takes the permission to administer it",
		})
	}
	return res.ACL, nil
}

// plan is a commit that is being made.
type plan struct {
	dir          string
	now          *current
	values       map[string]string // as they will be
	set, deleted int
	ops          []op.Op
	acl          []op.ACL
	kept         []keptVersion
}

// change plans the operations on the keys, in their order.
func (p *plan) change(x Change) *op.Error {
	want := make(map[string]*string, len(x.Values))
	maps.Copy(want, x.Values)
	if x.Replace {
		for key := range p.now.Values {
			if _, given := want[key]; !given {
				want[key] = nil
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if p.now.others[key] && want[key] != nil {
			return &op.Error{
				Code: op.NodeExists, Outcome: op.Refused, Path: op.Join(p.dir, key),
				Detail: "there is a node of that name that is no value: it is no text, has children, or can't be read",
			}
		}
		p.put(key, want[key])
	}
	return nil
}

func (p *plan) put(key string, value *string) {
	old, exists := p.now.Values[key]
	path := op.Join(p.dir, key)
	switch {
	case value == nil && exists:
		p.deleted++
		p.ops = append(p.ops, &op.Delete{Path: path, If: p.now.keys[key]})
		delete(p.values, key)
	case value == nil, exists && old == *value:
	case exists:
		p.set++
		p.ops = append(p.ops, &op.Set{Path: path, Data: []byte(*value), If: p.now.keys[key]})
		p.values[key] = *value
	default:
		p.set++
		p.ops = append(p.ops, &op.Create{Path: path, Data: []byte(*value)})
		p.values[key] = *value
	}
}

func (p *plan) fits() *op.Error {
	if n := len(p.values); n > MaxKeys {
		return &op.Error{Code: op.TooLarge, Path: p.dir, Limit: MaxKeys, Have: int64(n)}
	}
	n := 0
	for key, value := range p.values {
		n += len(key) + len(value)
	}
	if n > MaxBytes {
		return &op.Error{Code: op.TooLarge, Path: p.dir, Limit: MaxBytes, Have: int64(n)}
	}
	if n := len(encode(p.values)); n > maxEncoded {
		return &op.Error{
			Code: op.TooLarge, Path: p.dir, Limit: maxEncoded, Have: int64(n),
			Detail: "control characters take six bytes each in the history",
		}
	}
	return nil
}

// all returns all operations that write the new version. What is deleted comes first, so that a quota has room for what is
// added.
func (p *plan) all(x Change) []op.Op {
	values := encode(p.values)
	rec := record{
		Version: p.now.Number + 1, Author: x.Author, Comment: x.Comment, Set: p.set, Deleted: p.deleted,
		RolledBack: x.rolledBack, Bytes: int64(len(values)),
	}
	if n := len(p.kept); n > 0 { // the data of the application's node was overwritten by hand
		rec.Version = max(rec.Version, p.kept[n-1].Number+1)
	}
	ops := append(p.forget(rec.Bytes), p.app(encode(rec)))
	if !p.now.has {
		ops = append(ops, &op.Create{Path: historyOf(p.dir)})
	}
	ops = append(ops, p.ops...)
	path := versionPath(p.dir, rec.Version)
	ops = append(ops, &op.Create{Path: path, Data: encode(rec)}, &op.Create{Path: op.Join(path, valuesName), Data: values})
	p.guard(ops)
	return ops
}

// app writes the application's node, on which all commits meet.
func (p *plan) app(data []byte) op.Op {
	if p.now.Node.Czxid == 0 {
		return &op.Create{Path: p.dir, Data: data, Parents: true}
	}
	return &op.Set{Path: p.dir, Data: data, If: p.now.cond()}
}

// cond holds as long as nobody else has committed.
func (c *current) cond() op.Cond { return op.Cond{Version: c.Node.Version, Mzxid: c.Node.Mzxid} }

// forget deletes the oldest versions, so that with one more of so many bytes there are no more than are kept.
func (p *plan) forget(bytes int64) []op.Op {
	count := len(p.kept) + 1
	for _, k := range p.kept {
		bytes += k.bytes
	}
	var ops []op.Op
	for _, k := range p.kept {
		if count <= KeptCount && bytes <= KeptBytes {
			break
		}
		ops = append(ops, &op.Delete{Path: k.path, If: op.Always, Recursive: true})
		count--
		bytes -= k.bytes
	}
	return ops
}

// guard gives new nodes the application's access control list.
func (p *plan) guard(ops []op.Op) {
	for _, o := range ops {
		if create, ok := o.(*op.Create); ok {
			create.ACL = p.acl
		}
	}
}
