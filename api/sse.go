package api

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/coord-kv/coord/op"
)

// An event stream (HTML standard, 9.2) has one message per transaction, whose id is the zxid. When an EventSource connects
// again, it sends the last id that it got, and continues there.

// serveEvents writes messages until the client goes, the server drains, or history is gone. lost says that the position
// that the client has sent can't be continued; it is told in a message, since an EventSource shows no status to its page.
func (w *watching) serveEvents(lost error) error {
	h := w.c.w.Header()
	h["Content-Type"] = []string{"text/event-stream"}
	h["X-Accel-Buffering"] = []string{"no"} // nginx would hold messages back
	w.setPosition()
	w.c.replied = true
	w.c.w.WriteHeader(http.StatusOK)
	if lost != nil {
		return w.send(w.appendReset([]byte("retry: 1000\n\n"), lost))
	}
	start := w.c.s.now()
	defer func() { w.c.waited = w.c.s.now().Sub(start) }()
	return w.stopped(w.follow())
}

// follow writes the initial state and then what happens.
func (w *watching) follow() error {
	if err := w.send([]byte("retry: 1000\n\n")); err != nil {
		return err
	}
	if err := w.sendInitial(); err != nil {
		return err
	}
	bookmark := time.NewTicker(w.c.s.limits.Bookmark)
	defer bookmark.Stop()
	for quiet, ending := false, false; ; {
		sent, err := w.sendEvents()
		switch {
		case sent:
			bookmark.Reset(w.c.s.limits.Bookmark)
		case err == nil && (quiet || ending):
			err = w.send(w.appendBookmark(nil))
		}
		if err != nil || ending {
			return err
		}
		quiet = false
		select {
		case <-w.stream.Ready():
		case <-bookmark.C:
			quiet = true
		case <-w.c.s.draining:
			ending = true
		case <-w.c.r.Context().Done():
			return nil
		}
	}
}

// stopped counts the clients that were too slow. Whatever ended the stream, there is nobody to tell.
func (w *watching) stopped(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.c.s.metrics.slowConsumers.Inc()
	case errors.Is(err, &op.Error{Code: op.Overloaded}): // counted by itself
	case err != nil && w.c.r.Context().Err() == nil:
		w.c.s.log.Warn("an event stream broke off", "request", w.c.id(), "error", err)
	}
	return nil
}

// sendInitial sends the initial state in pages; only the last one has an id, so that a client that loses its connection
// in between begins anew.
func (w *watching) sendInitial() error {
	for page := w.page; page != nil; {
		b := appendZxid([]byte("event: initial\ndata: {"), "zxid", w.pos)
		w.c.s.backlog.do(len(page.Nodes), func() { b = appendNodes(append(b, `,"nodes":`...), page.Nodes) })
		b = append(appendBool(append(b, ','), "more", page.More), "}\n"...)
		if !page.More {
			w.state, w.page = nil, nil
			return w.send(appendID(b, w.pos))
		}
		if err := w.send(append(b, '\n')); err != nil {
			return err
		}
		var err error
		if page, err = w.readPage(page.Nodes[len(page.Nodes)-1].Path); err != nil {
			return err
		}
	}
	return nil
}

// sendEvents sends what there is, and reports whether that was anything. When history is gone it says so, and returns
// the error.
func (w *watching) sendEvents() (bool, error) {
	var events []op.Event
	var b []byte
	var err error
	w.c.s.backlog.do(w.behind, func() {
		if events, err = w.take(); err == nil && len(events) > 0 {
			b = w.showing(events).appendChanges(nil, events)
		}
	})
	w.behind = len(events)
	if positionLost(err) {
		w.c.s.metrics.slowConsumers.Inc()
		return true, errors.Join(err, w.send(w.appendReset(nil, err)))
	}
	if err != nil || len(events) == 0 {
		return false, err
	}
	err = w.send(b)
	if err == nil {
		w.c.s.metrics.delivered(events[0].Zxid, w.live)
	}
	return true, err
}

// appendChanges appends a message for each transaction.
func (s *showing) appendChanges(b []byte, events []op.Event) []byte {
	for len(events) > 0 {
		n := transaction(events)
		b = s.appendChange(b, events[:n])
		events = events[n:]
	}
	return b
}

// transaction returns how many of the events, from the first on, belong to one transaction.
func transaction(events []op.Event) int {
	n := 1
	for n < len(events) && events[n].Zxid == events[0].Zxid {
		n++
	}
	return n
}

func (s *showing) appendChange(b []byte, events []op.Event) []byte {
	b = appendZxid(append(b, "event: change\ndata: {"...), "zxid", events[0].Zxid)
	b = s.appendEvents(append(b, `,"events":`...), events)
	return appendID(append(b, "}\n"...), events[0].Zxid)
}

// appendBookmark says that everything up to the position has been sent.
func (w *watching) appendBookmark(b []byte) []byte {
	b = appendZxid(append(b, "event: bookmark\ndata: {"...), "zxid", w.pos)
	return appendID(append(b, "}\n"...), w.pos)
}

// appendReset says that the client must begin anew. Its empty id makes an EventSource forget the position, so that it
// begins again with what its URL says instead of running into the same reset.
func (w *watching) appendReset(b []byte, err error) []byte {
	b = append(append(b, "event: reset\nid\ndata: "...), marshal(newProblem(err, false))...)
	return append(b, '\n')
}

// appendID ends a message with its id.
func appendID(b []byte, z op.Zxid) []byte {
	return append(strconv.AppendUint(append(b, "id: "...), uint64(z), 10), '\n', '\n')
}

// send writes messages and sees to it that they leave. If there is no room for them, the stream ends: its client comes
// again with its position, and has missed nothing.
func (w *watching) send(b []byte) error {
	taken, ok := w.c.s.answers.take(len(b))
	if !ok {
		return w.c.overloaded(noAnswerRoom)
	}
	defer w.c.s.answers.give(taken)
	w.allowWrite()
	if _, err := w.c.w.Write(b); err != nil {
		return err
	}
	return http.NewResponseController(w.c.w).Flush()
}
