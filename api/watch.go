package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

func (s *Server) watchRoutes() []route {
	return []route{{
		method: "GET", pattern: "/v1/watch/{path...}", name: "watch", serve: (*call).watch, uncounted: true,
	}}
}

const (
	defaultWait = 30 * time.Second // of a long poll that doesn't say
	takeEvents  = 1000             // events of one answer, unless a transaction has more
	initialPage = 1000             // nodes in one message of an initial state
	answerData  = 4 << 20          // bytes of node data in one answer; events beyond come without
)

// watching is one watch: what it is about, and from begin on its stream.
type watching struct {
	c       *call
	filter  watch.Filter
	since   op.Zxid
	from    string // where since was given; "" for nowhere: begin now
	wait    time.Duration
	initial bool

	state  *fsm.View  // with initial, the state to begin with
	page   *op.Result // and the first page of it
	stream *watch.Stream
	pos    op.Zxid // everything up to here has been delivered
	behind int     // how many events there were the last time, or many if there may be as many now
	live   op.Zxid // what came after it happened while the watch was there
}

// watch serves a long poll, or with Accept: text/event-stream an event stream.
func (c *call) watch() error {
	sse := strings.HasPrefix(c.r.Header.Get("Accept"), "text/event-stream")
	w := c.newWatching(sse)
	defer c.s.watches.Add(-1)
	if c.s.watches.Add(1) > int64(c.s.limits.Watches) {
		return c.overloaded("as many watches are open as this member takes at once")
	}
	if sse && c.s.isDraining() {
		return op.Errorf(op.Draining, "no event stream is begun here any more")
	}
	err := w.begin()
	if err == nil {
		defer w.stream.Close()
		defer c.s.metrics.watching(w.filter.Scope)()
	}
	switch {
	case sse && (err == nil || w.from == lastEventID && positionLost(err)):
		return w.serveEvents(err)
	case err != nil:
		return err
	}
	return w.servePoll()
}

// lastEventID is the header in which an EventSource that connects again says what it has got.
const lastEventID = "Last-Event-ID"

// newWatching reads what the caller wants to watch. Last-Event-ID goes before what the URL says, because an EventSource
// that connects again repeats the URL of its beginning.
func (c *call) newWatching(sse bool) *watching {
	w := &watching{c: c, filter: watch.Filter{Path: c.arg, Scope: c.scope(), Auth: c.auth}}
	w.initial = c.q.flag("initial", false)
	if c.q.has("since") {
		w.from, w.since = "since", c.q.zxid("since")
	}
	if w.initial && w.from != "" {
		c.q.faults.add("initial", "begins with the state as it is, and since with a position; only one can be given")
	}
	if id := c.header("Last-Event-Id"); sse && id != "" {
		w.from, w.initial = lastEventID, false
		if w.since.UnmarshalText([]byte(id)) != nil {
			c.q.faults.add(lastEventID, "must be the id of an event: a decimal number")
		}
	}
	if !sse {
		w.wait = c.pollWait()
	}
	return w
}

// scope reads which nodes are watched: the node and all below, ?children the node and those directly below,
// ?recursive=false the node alone.
func (c *call) scope() watch.Scope {
	if c.q.has("recursive") && c.q.has("children") {
		c.q.faults.add("recursive", "can't be given together with children")
	}
	recursive, children := c.q.flag("recursive", true), c.q.flag("children", false)
	switch {
	case children:
		return watch.Children
	case recursive:
		return watch.Subtree
	}
	return watch.Exact
}

// begin finds the position to begin at, and makes the stream.
func (w *watching) begin() error {
	v, err := w.view()
	if err != nil {
		return err
	}
	w.pos = v.Zxid()
	w.live = w.pos
	if w.from != "" {
		w.pos = w.since
	}
	if w.initial {
		w.state = v
		if w.page, err = w.readPage(""); err != nil {
			return err
		}
	}
	if w.pos < v.Zxid() {
		w.behind = many
	}
	w.stream, err = w.c.s.backend.Watch(w.filter, w.pos)
	if w.from != "" {
		w.c.s.metrics.resumed(err, w.pos == v.Zxid())
	}
	return err
}

// view returns the state at which the watch begins: one as fresh as the caller asks, or one that has reached the position
// that the caller goes on from, which proves that the position is none of another history.
func (w *watching) view() (*fsm.View, error) {
	o := w.c.readOptions()
	if err := w.c.q.done(); err != nil {
		return nil, err
	}
	if w.from != "" {
		o = op.ReadOptions{Level: op.Eventual, MinZxid: w.since}
	}
	v, info, err := w.c.viewAt(o)
	if err == nil && w.from == "" {
		w.c.setFreshness(info)
	}
	return v, err
}

// readPage reads the nodes of the initial state after the path after.
func (w *watching) readPage(after string) (*op.Result, error) {
	return readInitial(w.state, &w.filter, after)
}

// readInitial reads the nodes that the filter means, after the path after, one page of them. That a node doesn't exist is
// no error: it can be watched all the same.
func readInitial(v *fsm.View, f *watch.Filter, after string) (*op.Result, error) {
	var o op.Op = &op.Subtree{Path: f.Path, After: after, Limit: initialPage}
	switch f.Scope {
	case watch.Exact:
		o = &op.Get{Path: f.Path}
	case watch.Children:
		o.(*op.Subtree).Depth = 1
	}
	res := v.Read(o, f.Auth)
	switch {
	case res.Err != nil && res.Err.Code == op.NoNode:
		return new(op.Result), nil
	case res.Err != nil:
		return nil, res.Err
	case res.Stat != nil && f.Scope == watch.Exact:
		res.Nodes = []op.Node{{Path: f.Path, Data: res.Data, Stat: *res.Stat}}
	}
	return &res, nil
}

// positionLost reports whether err says that a watch can't go on from where it was.
func positionLost(err error) bool {
	return errors.Is(err, &op.Error{Code: op.HistoryGone}) || errors.Is(err, &op.Error{Code: op.ClusterChanged})
}

// eventData finds what one answer shows of nodes beside their events, as far as there is room. Data is shown while the node
// is still as the event left it; what has changed again comes with an event of its own.
type eventData struct {
	view *fsm.View // nil if no data is shown
	auth []op.Identity
	room int // in bytes
}

// of returns the data of the event's node, and whether it can be shown.
func (d *eventData) of(ev *op.Event) ([]byte, bool) {
	if d.view == nil || ev.Type != op.Created && ev.Type != op.Changed {
		return nil, false
	}
	res := d.view.Read(&op.Get{Path: ev.Path}, d.auth)
	if res.Err != nil || res.Stat.Mzxid != ev.Zxid || res.Stat.Version != ev.Version || len(res.Data) > d.room {
		return nil, false
	}
	d.room -= len(res.Data)
	return res.Data, true
}

// showing is what one answer shows of events.
type showing struct {
	w    *watching
	data eventData
}

func (w *watching) showing(events []op.Event) *showing {
	return &showing{w, eventData{w.after(events[len(events)-1].Zxid), w.filter.Auth, answerData}}
}

func (s *showing) appendEvents(b []byte, events []op.Event) []byte {
	b = append(b, '[')
	for i := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.appendEvent(b, &events[i])
		s.w.c.s.metrics.watchEvents.WithLabelValues(events[i].Type.String()).Inc()
	}
	return append(b, ']')
}

func (s *showing) appendEvent(b []byte, ev *op.Event) []byte {
	data, ok := s.data.of(ev)
	return appendEvent(b, ev, data, ok)
}

// appendEvent appends an event, with the node's data if hasData says so.
func appendEvent(b []byte, ev *op.Event, data []byte, hasData bool) []byte {
	b = appendZxid(append(b, '{'), "zxid", ev.Zxid)
	b = appendString(append(b, `,"type":`...), ev.Type.String())
	b = appendString(append(b, `,"path":`...), ev.Path)
	b = appendString(append(b, `,"kind":`...), ev.Kind.String())
	b = appendInt(append(b, ','), "version", int64(ev.Version))
	if hasData {
		b = appendValue(append(b, ','), "data", data)
	}
	return append(b, '}')
}

// after returns a state that has reached z. Events are published before the state that they lead to, so this may wait
// for a moment. Nil if there is none in time; the events then come without data.
func (w *watching) after(z op.Zxid) *fsm.View {
	ctx, cancel := w.c.withTimeout()
	defer cancel()
	v, _, err := w.c.s.backend.View(ctx, op.ReadOptions{Level: op.Eventual, MinZxid: z})
	if err != nil {
		return nil
	}
	return v
}

// setPosition says where to go on.
func (w *watching) setPosition() {
	w.c.w.Header()["Coord-Watch-Position"] = []string{strconv.FormatUint(uint64(w.pos), 10)}
	w.c.setZxid(w.pos)
}

// allowWrite gives the next write its time; the deadline that net/http has set may be long over.
func (w *watching) allowWrite() {
	http.NewResponseController(w.c.w).SetWriteDeadline(time.Now().Add(w.c.s.limits.WriteTimeout))
}
