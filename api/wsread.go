package api

import (
	"bytes"
	"sync"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// Reads: answered where they are taken, if a state is there that is fresh enough; else when there is one.

func isRead(v op.Verb) bool { return v >= op.VerbGet && v <= op.VerbRank }

// isCheck reports whether what a transaction would check can be asked by itself, of a state.
func isCheck(v op.Verb) bool { return v == op.VerbCheck || v == op.VerbHolder || v == op.VerbTerm }

// isAsked reports whether an operation is one that a read may have.
func isAsked(v op.Verb) bool { return isRead(v) || isCheck(v) }

// readNow answers a read at once, if there is a state for it and nobody else sends. Then nothing is kept of it, and it
// counts for nothing but what it takes of the buffer.
func (c *wsConn) readNow(f *frame.Read) bool {
	if !isAsked(f.Op.Verb()) {
		return false
	}
	start := c.arrived()
	v, info, err, ok := c.s.backend.ViewNow(c.atLeastSeen(f.Options))
	// The session is looked at after the state has been found: see sessionOver.
	if !ok || err != nil || !c.sendsAtOnce(f.ID) {
		return false
	}
	r := &c.write.now
	*r = wsRequest{frame: f, op: f.Op, start: start, view: v, info: info}
	c.appendDone(r)
	*r = wsRequest{}
	if c.write.frames++; len(c.write.buf) >= wsFlush {
		c.pause()
		c.resume()
	}
	return true
}

func (c *wsConn) startRead(r *wsRequest, f *frame.Read) {
	if !isAsked(f.Op.Verb()) {
		c.finishWith(r, op.Errorf(op.BadRequest, "%s is not a read", f.Op.Verb()))
		return
	}
	r.op = f.Op
	c.viewLater(r, f.Options)
}

// atLeastSeen says what Sequential means: not older than what this connection has shown.
func (c *wsConn) atLeastSeen(o op.ReadOptions) op.ReadOptions {
	if o.Level == op.Sequential {
		o.MinZxid = max(o.MinZxid, op.Zxid(c.seen.Load()))
	}
	return o
}

// viewLater finds a state for the request.
func (c *wsConn) viewLater(r *wsRequest, o op.ReadOptions) {
	o = c.atLeastSeen(o)
	c.read.handed = c.read.handed || o.Level != op.Eventual
	c.view(r, o)
}

// view has the request answered from a state as fresh as o asks, and reports whether there is none yet.
func (c *wsConn) view(r *wsRequest, o op.ReadOptions) (later bool) {
	abandon := c.s.backend.ViewLater(o, func(v *fsm.View, info op.ReadInfo, err error) {
		r.view, r.info, r.err = v, info, err
		c.finish(r)
	})
	if abandon != nil {
		c.abandonable(r, abandon)
	}
	return abandon != nil
}

func (c *wsConn) appendRead(r *wsRequest, o op.Op) error {
	if over := c.sessionOver(); over != nil {
		r.err = over
	}
	if r.err != nil {
		err := unwrap(readError(r.err)).what
		c.appendReply(r, op.ReadInfo{}, &op.Result{Err: err})
		return err
	}
	c.s.metrics.ReadDone(r.info, c.s.leaderName() == c.s.name)
	c.show(r.info.Zxid)
	if err := c.appendFound(r, o); err != nil {
		return err
	}
	return nil
}

// found is lent while what was read is appended: it is large, and no longer looked at then.
var found = sync.Pool{New: func() any { return new(op.Result) }}

// appendFound reads and appends what was found, or why nothing was: also if there is no room for it.
func (c *wsConn) appendFound(r *wsRequest, o op.Op) *op.Error {
	res := found.Get().(*op.Result)
	err := c.appendLarge(listed(r.view, o), func() {
		*res = r.view.Read(o, c.read.auth)
		c.appendReply(r, r.info, res)
	})
	if err == nil {
		err = res.Err
	} else {
		c.appendReply(r, op.ReadInfo{}, &op.Result{Err: err})
	}
	*res = op.Result{}
	found.Put(res)
	return err
}

// appendLarge appends what f does, which comes to about so many nodes or events; nothing, if there is no room for it.
func (c *wsConn) appendLarge(size int, f func()) *op.Error {
	from := len(c.write.buf)
	c.s.backlog.do(size, f)
	taken, ok := c.s.answers.take(len(c.write.buf) - from)
	if !ok {
		c.s.metrics.rejected.WithLabelValues("overload").Inc()
		c.write.buf = bytes.Clone(c.write.buf[:from]) // what holds the large one is not kept
		return op.Errorf(op.Overloaded, noAnswerRoom)
	}
	c.write.taken += taken
	return nil
}

// listed returns about how many nodes a read lists: those below a node, or as many as its limit.
func listed(v *fsm.View, o op.Op) int {
	switch o := o.(type) {
	case *op.Children:
		return nodesOf(v, o.Path, o.Limit)
	case *op.Subtree:
		return nodesOf(v, o.Path, o.Limit)
	}
	return 1
}

func nodesOf(v *fsm.View, path string, limit int32) int {
	n := maxPage
	if limit > 0 {
		n = int(limit)
	}
	below, _ := v.Usage(path)
	return min(n, int(below.Nodes))
}
