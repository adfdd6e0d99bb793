package api

import (
	"strings"

	"github.com/coord-kv/coord/op"
)

// appendResults appends the results of a transaction's operations.
func appendResults(b []byte, ops []op.Op, results []op.Result) []byte {
	b = append(b, '[')
	for i := range results {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"op":`...), ops[i].Verb().String())
		b = append(appendMembers(b, ops[i], &results[i]), '}')
	}
	return append(b, ']')
}

// appendMembers appends what there is to say of the result of o to a JSON object that has a member already.
func appendMembers(b []byte, o op.Op, r *op.Result) []byte {
	switch x := o.(type) {
	case *op.Get:
		b = appendValue(append(b, ','), "data", r.Data)
	case *op.Exists:
		b = appendBool(append(b, ','), "exists", r.Stat != nil)
	case *op.Children:
		b = appendChildren(b, x, r)
	case *op.Subtree:
		b = appendNodes(append(b, `,"nodes":`...), r.Nodes)
		b = appendNext(b, r, whole)
	case *op.GetACL:
		b = appendACL(append(b, `,"acl":`...), r.ACL)
	case *op.Rank:
		b = appendRank(append(b, `,"rank":`...), r.Rank)
	case *op.Delete:
		b = appendInt(append(b, ','), "deleted", r.Count)
	case *op.Create:
		b = appendString(append(b, `,"path":`...), r.Path)
	}
	if r.Stat != nil {
		b = appendStat(append(b, `,"stat":`...), r.Stat)
	}
	return b
}

func appendBool(b []byte, name string, v bool) []byte {
	b = append(append(append(b, '"'), name...), `":`...)
	if v {
		return append(b, "true"...)
	}
	return append(b, "false"...)
}

// appendNext appends where to go on, if there is more: the name or path to send as "after".
func appendNext(b []byte, r *op.Result, of func(path string) string) []byte {
	if n := len(r.Nodes); r.More && n > 0 {
		b = appendString(append(b, `,"next":`...), of(r.Nodes[n-1].Path))
	}
	return b
}

func whole(path string) string { return path }

func appendChildren(b []byte, o *op.Children, r *op.Result) []byte {
	b = append(b, `,"children":[`...)
	for i := range r.Nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendChild(b, o, &r.Nodes[i])
	}
	return appendNext(append(b, ']'), r, op.Base)
}

// appendChild appends one child. One that the caller may not read comes without data and stat: its name is its parent's to
// tell, the rest is not.
func appendChild(b []byte, o *op.Children, n *op.Node) []byte {
	b = appendString(append(b, `{"name":`...), op.Base(n.Path))
	if n.Stat == (op.Stat{}) {
		return append(b, '}')
	}
	if o.WithData {
		b = appendValue(append(b, ','), "data", n.Data)
	}
	if o.WithStat {
		b = appendStat(append(b, `,"stat":`...), &n.Stat)
	}
	return append(b, '}')
}

func appendNodes(b []byte, nodes []op.Node) []byte {
	b = append(b, '[')
	for i := range nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendNode(b, &nodes[i])
	}
	return append(b, ']')
}

// appendACL appends an access control list. Ids come from ZooKeeper clients too, and need not be text.
func appendACL(b []byte, list []op.ACL) []byte {
	b = append(b, '[')
	for i, a := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"scheme":`...), strings.ToValidUTF8(a.Scheme, "\ufffd"))
		b = appendString(append(b, `,"id":`...), strings.ToValidUTF8(a.ID, "\ufffd"))
		b = append(appendString(append(b, `,"perms":`...), a.Perms.String()), '}')
	}
	return append(b, ']')
}

func appendRank(b []byte, r *op.RankInfo) []byte {
	b = append(appendInt(append(b, '{'), "position", int64(r.Position)), ',')
	b = append(appendInt(b, "exclusive", int64(r.Exclusive)), ',')
	b = append(appendInt(b, "len", int64(r.Len)), ',')
	b = appendZxid(b, "token", r.Token)
	b = appendString(append(b, `,"predecessor":`...), r.Predecessor)
	b = appendString(append(b, `,"writer":`...), r.Writer)
	return append(appendString(append(b, `,"first":`...), r.First), '}')
}
