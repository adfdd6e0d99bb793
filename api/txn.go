package api

import (
	"fmt"
	"math"
	"net/http"

	"github.com/coord-kv/coord/op"
)

func (s *Server) txnRoutes() []route {
	return []route{{method: "POST", pattern: "/v1/txn", name: "txn", body: jsonBody, serve: (*call).txn}}
}

// txn does all of "ops" or nothing, if all of "checks" hold; else all of "else" or nothing.
func (c *call) txn() error {
	t, err := readTxn(c.body)
	if err != nil {
		return err
	}
	res, err := c.do(t)
	if err != nil {
		return err
	}
	ops, branch := t.Then, "ops"
	if res.Else {
		ops, branch = t.Else, "else"
	}
	b := appendZxid([]byte{'{'}, "zxid", res.Zxid)
	b = appendString(append(b, `,"branch":`...), branch)
	b = appendResults(append(b, `,"results":`...), ops, res.Results)
	c.respondBytes(http.StatusOK, append(b, '}', '\n'))
	return nil
}

func readTxn(body []byte) (*op.Txn, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	t := o.txn()
	return t, o.finish()
}

// txn reads a transaction. One that would do nothing is refused: whatever was meant to be in it has been lost on the way.
func (o *object) txn() *op.Txn {
	t := &op.Txn{If: o.checks("checks"), Then: o.ops("ops"), Else: o.ops("else")}
	if len(t.If)+len(t.Then)+len(t.Else) == 0 {
		o.faults.whole = &fieldError{"ops", "has no operation, and there are neither checks nor else: the transaction would do nothing"}
	}
	return t
}

// located returns the error of res and, for a transaction, which operation of it failed. n checks stood before its own.
func located(res *op.Result, o op.Op, n int) error {
	t, ok := o.(*op.Txn)
	if !ok || res.Err.Path == "" {
		return res.Err
	}
	at, i := "checks", int(res.Err.Index)
	if i >= len(t.If) {
		at, i = "ops", i-len(t.If)-n
		if res.Else {
			at = "else"
		}
	}
	if i < 0 {
		return res.Err
	}
	return &httpError{what: res.Err, at: fmt.Sprintf("%s[%d]", at, i)}
}

// checks reads an array of conditions. Those that don't say what they are are of the verb check.
func (o *object) checks(name string) []op.Op {
	return o.verbs(name, "check", "check, holder or term", func(verb string) func(*object) op.Op {
		if verb == "check" || verb == "holder" || verb == "term" {
			return opReaders[verb]
		}
		return nil
	})
}

// ops reads an array of operations.
func (o *object) ops(name string) []op.Op {
	return o.verbs(name, "", "an operation, such as create, set, delete, check or get",
		func(verb string) func(*object) op.Op { return opReaders[verb] })
}

func (o *object) verbs(name, def, allowed string, reader func(verb string) func(*object) op.Op) []op.Op {
	var list []op.Op
	o.list(name, func(e *object) {
		verb := e.text("op")
		if verb == "" {
			verb = def
		}
		if read := reader(verb); read != nil {
			list = append(list, read(e))
			return
		}
		e.fault("op", "must be %s", allowed)
		clear(e.fields)
	})
	return list
}

// opReaders reads the operations that may stand in a transaction, by the names of their verbs.
var opReaders = map[string]func(*object) op.Op{
	"create": func(o *object) op.Op {
		return &op.Create{
			Path: o.path("path"), Data: o.value("data"), Kind: o.kind("kind"), Sequence: o.flag("sequence"),
			TTL: o.duration("ttl"), ACL: o.acl("acl"), Parents: o.flag("parents"), Replace: o.flag("replace"),
		}
	},
	"set": func(o *object) op.Op {
		return &op.Set{Path: o.path("path"), Data: o.value("data"), If: o.cond()}
	},
	"delete": func(o *object) op.Op {
		return &op.Delete{Path: o.path("path"), If: o.cond(), Recursive: o.flag("recursive")}
	},
	"check": func(o *object) op.Op {
		x := &op.Check{Path: o.path("path"), If: o.cond()}
		if o.flag("absent") {
			if x.If != op.Always {
				o.fault("absent", "can't be given together with version or if_match")
			}
			x.If = op.Cond{Absent: true}
		}
		return x
	},
	"set_acl": func(o *object) op.Op {
		return &op.SetACL{Path: o.path("path"), ACL: o.acl("acl"), Version: o.int32("version", op.AnyVersion, op.AnyVersion)}
	},
	"set_quota": func(o *object) op.Op { return &op.SetQuota{Path: o.path("path"), Quota: o.quota()} },
	"get":       func(o *object) op.Op { return &op.Get{Path: o.path("path")} },
	"exists":    func(o *object) op.Op { return &op.Exists{Path: o.path("path")} },
	"children": func(o *object) op.Op {
		return &op.Children{
			Path: o.path("path"), After: o.text("after"), Limit: o.int32("limit", 0, 0), WithData: o.flag("with_data"),
			WithStat: o.flag("with_stat"),
		}
	},
	"subtree": func(o *object) op.Op {
		return &op.Subtree{
			Path: o.path("path"), After: o.text("after"), Depth: o.int32("depth", 0, 0), Limit: o.int32("limit", 0, 0),
		}
	},
	"get_acl": func(o *object) op.Op { return &op.GetACL{Path: o.path("path")} },
	"rank": func(o *object) op.Op {
		if o.has("of") {
			return &op.Rank{Of: o.int32("of", 1, 0)}
		}
		return &op.Rank{Path: o.path("path")}
	},
	"holder": func(o *object) op.Op {
		return &op.Holder{Dir: o.dir("dir", locksDir), Token: o.token("token"), Rule: op.Rule{
			Shared: o.flag("shared"), Slots: int32(o.number("slots", 0, math.MaxInt32, 0)),
		}}
	},
	"term": func(o *object) op.Op { return &op.Term{Dir: o.dir("dir", electionsDir), Token: o.token("token")} },
	"lead": func(o *object) op.Op {
		return &op.Lead{Dir: o.dir("dir", electionsDir), Node: o.require("node"), Data: o.value("data")}
	},
}

// path reads a node's path. Whether it is a good one is for the state machine to say, as its place is in the order of
// errors; only a slash is asked for, because without one something else was meant.
func (o *object) path(name string) string {
	p := o.require(name)
	if p != "" && p[0] != '/' {
		o.fault(name, "must be a path: it begins with a slash")
	}
	return p
}

// dir reads the directory of a lock or election: a name in base, or a path.
func (o *object) dir(name, base string) string {
	dir, err := recipeDir(base, o.require(name))
	if err != nil {
		o.fault(name, "must be a name or a path")
	}
	return dir
}

func (o *object) token(name string) op.Zxid {
	if !o.has(name) {
		o.fault(name, "is required")
	}
	return o.zxid(name)
}

func (o *object) kind(name string) (k op.NodeKind) {
	s := o.text(name)
	if s != "" && k.UnmarshalText([]byte(s)) != nil {
		o.fault(name, "must be persistent, ephemeral, container or ttl")
	}
	return k
}
