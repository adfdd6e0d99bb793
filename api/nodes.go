package api

import (
	"math"
	"net/http"
	"strings"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
)

const nodesURL = "/v1/nodes"

func (s *Server) nodeRoutes() []route {
	const pattern = nodesURL + "/{path...}"
	return []route{
		{method: "GET", pattern: pattern, name: "read", serve: (*call).readNode},
		{method: "PUT", pattern: pattern, name: "put", body: rawBody, serve: (*call).putNode},
		{method: "POST", pattern: pattern, name: "create", body: rawBody, serve: (*call).createSequence},
		{method: "DELETE", pattern: pattern, name: "delete", serve: (*call).deleteNode},
	}
}

// maxPage is how many nodes one listing may have; the state machine may give fewer, by their size.
const maxPage = 10_000

// readNode serves GET and HEAD: the node itself, or with ?children, ?depth, ?acl or ?quota what these name.
func (c *call) readNode() error {
	switch {
	case c.q.has("children"):
		return c.readChildren()
	case c.q.has("depth"):
		return c.readSubtree()
	case c.q.has("acl"):
		return c.readACL()
	case c.q.has("quota"):
		return c.readQuota()
	}
	raw, o := wantsRaw(&c.q, c.r.Header), &op.Get{Path: c.arg}
	res, err := c.read(o)
	if err != nil {
		return err
	}
	c.setETag(res.Stat)
	switch {
	case c.unchanged(res.Stat):
		c.replied = true
		c.w.WriteHeader(http.StatusNotModified)
	case raw:
		c.respondRaw(res.Data)
	default:
		c.respondRead(o, res)
	}
	return nil
}

// respondRaw writes a node's bytes so that no browser takes them for a page of this server.
func (c *call) respondRaw(data []byte) {
	h := c.w.Header()
	h["Content-Disposition"], h["Content-Security-Policy"] = attachment, sandbox
	c.write(http.StatusOK, octets, data)
}

// read reads o from a state that is as fresh as the caller asks.
func (c *call) read(o op.Op) (*op.Result, error) {
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	return c.readFrom(v, o)
}

func (c *call) readFrom(v *fsm.View, o op.Op) (*op.Result, error) {
	res := v.Read(o, c.auth)
	if res.Err != nil {
		return nil, res.Err
	}
	return &res, nil
}

// readChildren lists children in byte order; next, if there is one, is the name to go on after.
func (c *call) readChildren() error {
	c.q.choose("children")
	o := &op.Children{
		Path: c.arg, WithStat: c.q.flag("stat", false), WithData: c.q.flag("data", false), After: c.q.text("after"),
		Limit: int32(c.q.number("limit", 1, maxPage, maxPage)),
	}
	return c.list(o)
}

// list answers with what o lists.
func (c *call) list(o op.Op) (err error) {
	v, err := c.view()
	if err != nil {
		return err
	}
	var body []byte
	c.s.backlog.do(listed(v, o), func() {
		var res *op.Result
		if res, err = c.readFrom(v, o); err == nil {
			body = c.appendRead(o, res)
		}
	})
	if err == nil {
		c.respondBytes(http.StatusOK, body)
	}
	return err
}

// statBytes is about how long an answer is besides its path and data.
const statBytes = 448

// respondRead writes what o has read of the node that the request names.
func (c *call) respondRead(o op.Op, res *op.Result) {
	c.respondBytes(http.StatusOK, c.appendRead(o, res))
}

func (c *call) appendRead(o op.Op, res *op.Result) []byte {
	b := make([]byte, 0, statBytes+len(c.arg)+len(res.Data))
	b = appendString(append(b, `{"path":`...), c.arg)
	return append(appendMembers(b, o, res), '}', '\n')
}

// readSubtree lists a node and what is below it, in path order; next, if there is one, is the path to go on after.
func (c *call) readSubtree() error {
	o := &op.Subtree{
		Path: c.arg, Depth: int32(c.q.number("depth", 0, op.MaxDepth, 0)), After: c.q.text("after"),
		Limit: int32(c.q.number("limit", 1, maxPage, maxPage)),
	}
	return c.list(o)
}

func (c *call) readACL() error {
	c.q.choose("acl")
	o := &op.GetACL{Path: c.arg}
	res, err := c.read(o)
	if err != nil {
		return err
	}
	c.respondRead(o, res)
	return nil
}

// putNode creates a node or sets its data. With If-None-Match: * it only creates, with If-Match or ?version it only sets.
// ?acl without a value and ?quota are resources of their own, with JSON bodies.
func (c *call) putNode() error {
	acl, ok := c.q.peek("acl")
	switch {
	case ok && acl == "":
		return c.putACL()
	case c.q.has("quota"):
		return c.putQuota()
	}
	cond, conditional := c.condition()
	only := c.createOnly()
	if conditional && only {
		c.q.faults.add("If-None-Match", "asks for a node that doesn't exist, and If-Match or version for one that does")
	}
	if conditional {
		c.q.none("is for a node that is created, and If-Match or version is for one that exists", creating...)
		return c.put(&op.Set{Path: c.arg, Data: c.data(), If: cond})
	}
	o := c.newCreate(c.arg)
	o.Replace = !only
	return c.put(o)
}

// creating are the parameters that say what kind of node is made.
var creating = []string{"parents", "ephemeral", "ttl", "container", "acl"}

// data returns the body as a node's data: empty, but never null.
func (c *call) data() []byte {
	if c.body == nil {
		return []byte{}
	}
	return c.body
}

// newCreate reads the parameters of creation.
func (c *call) newCreate(path string) *op.Create {
	o := &op.Create{Path: path, Data: c.data(), Parents: c.q.flag("parents", false), ACL: c.q.acl("acl")}
	ephemeral, container, ttl := c.q.flag("ephemeral", false), c.q.flag("container", false), c.q.duration("ttl")
	switch {
	case container && (ephemeral || ttl > 0):
		c.q.faults.add("container", "can't be given together with ephemeral or ttl")
	case ephemeral && c.header("Coord-Session") == "":
		c.q.faults.add("Coord-Session", "is required with ephemeral: the node lives as long as the session")
	case ephemeral:
		o.Kind, o.TTL = op.Ephemeral, ttl
	case container:
		o.Kind = op.Container
	case ttl > 0:
		o.Kind, o.TTL = op.TTL, ttl
	}
	return o
}

// appendWritten appends the answer to a write of one node.
func appendWritten(b []byte, path string, s *op.Stat) []byte {
	b = appendString(append(b, `{"path":`...), path)
	b = appendStat(append(b, `,"stat":`...), s)
	return append(b, "}\n"...)
}

// put does o, a Create or a Set: 201 if it made the node, 200 if it changed it.
func (c *call) put(o op.Op) error {
	res, err := c.do(o)
	if err != nil {
		return err
	}
	path, status := c.arg, http.StatusOK
	if res.Path != "" {
		path = res.Path
	}
	c.setETag(res.Stat)
	if _, creates := o.(*op.Create); creates && res.Stat.Czxid == res.Zxid {
		status = http.StatusCreated
		c.setHeader("Location", nodeURL(nodesURL, path))
	}
	c.respondBytes(status, appendWritten(make([]byte, 0, statBytes+len(path)), path, res.Stat))
	return nil
}

// createSequence makes a child whose name ends in the directory's next number.
func (c *call) createSequence() error {
	prefix, ok := c.q.take("sequence")
	if !ok {
		c.q.faults.add("sequence", "is required: the beginning of the new node's name, such as ?sequence=job-")
	}
	if strings.Contains(prefix, "/") {
		c.q.faults.add("sequence", "is the beginning of a name, so it can't have a slash")
	}
	o := c.newCreate(op.Join(c.arg, prefix))
	o.Sequence = true
	return c.put(o)
}

type deleted struct {
	Path    string `json:"path"`
	Deleted int64  `json:"deleted"`
}

func (c *call) deleteNode() error {
	if c.q.has("quota") {
		return c.deleteQuota()
	}
	cond, conditional := c.condition()
	if !conditional {
		cond = op.Always
	}
	if c.createOnly() {
		c.q.faults.add("If-None-Match", "asks for a node that doesn't exist, which can't be deleted")
	}
	res, err := c.do(&op.Delete{Path: c.arg, If: cond, Recursive: c.q.flag("recursive", false)})
	if err != nil {
		return explain(err, op.BadPath, "%s is always there and can't be deleted", c.arg)
	}
	c.respondJSON(http.StatusOK, deleted{c.arg, res.Count})
	return nil
}

// putACL replaces the access control list, with ?version= if the list must still be the one with that aversion.
func (c *call) putACL() error {
	c.q.choose("acl")
	version := c.q.number("version", -1, math.MaxInt32, -1)
	body, err := parseObject(c.body)
	if err != nil {
		return err
	}
	list := body.acl("acl")
	if list == nil {
		body.fault("acl", "is required")
	}
	if err := body.finish(); err != nil {
		return err
	}
	return c.put(&op.SetACL{Path: c.arg, ACL: list, Version: int32(version)})
}
