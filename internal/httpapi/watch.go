package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coord-kv/coord/op"
)

// Scope says which nodes a watch is about.
type Scope int

// The scopes.
const (
	ScopeNode     Scope = iota // the node alone
	ScopeChildren              // the node and those directly below it
	ScopeSubtree               // the node and everything below it
)

// WatchOptions say where a watch begins and what it is about.
type WatchOptions struct {
	Scope   Scope
	Since   *op.Zxid      // begin after this position; nil for now
	Connect time.Duration // limit of the first connection; later ones are tried for ever. 0 means no limit
	Lost    func(error)   // called when the connection has broken and is made anew; nil for nobody
}

// Message is one message of a watch: the events of one transaction, or none if it is a bookmark, which only says that
// everything up to Zxid has been sent.
type Message struct {
	Zxid   op.Zxid `json:"zxid"`
	Events []Event `json:"events"`
}

// Event is one change of one node. It has the node's data if the node was still as the event left it.
type Event struct {
	Zxid    op.Zxid `json:"zxid"`
	Type    string  `json:"type"`
	Path    string  `json:"path"`
	Kind    string  `json:"kind"`
	Version int32   `json:"version"`
	Value
	Raw json.RawMessage `json:"-"` // as it was sent
}

// UnmarshalJSON reads an event and keeps it as it was sent.
func (e *Event) UnmarshalJSON(b []byte) error {
	type plain Event
	if err := json.Unmarshal(b, (*plain)(e)); err != nil {
		return err
	}
	e.Raw = bytes.Clone(b)
	return nil
}

// Watch yields what happens to the node at path, every transaction once and in order, until ctx ends. A connection that
// breaks or falls silent is made anew, to whichever endpoint answers, and goes on where the last one ended. The first
// message is a bookmark with the position at which the watch begins.
//
// It ends with an error if the first connection fails, and at any time if the position is lost: history_gone or
// cluster_changed. When ctx ends, it ends without.
func (c *Client) Watch(ctx context.Context, path string, o WatchOptions) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		w := &watcher{c: c, path: path, o: o}
		if o.Since != nil {
			w.pos, w.began = *o.Since, true
		}
		for limit := o.Connect; ; limit = 0 {
			s, err := w.connect(ctx, limit)
			if err == nil {
				err = w.follow(ctx, s, yield)
				s.close()
			} else if ctx.Err() == nil {
				err = &ended{err}
			}
			end, final := errors.AsType[*ended](err)
			switch {
			case ctx.Err() != nil || err == errStopped:
				return
			case final:
				yield(nil, end.error)
				return
			case o.Lost != nil:
				o.Lost(err)
			}
		}
	}
}

// errStopped says that nobody wants to know more.
var errStopped = errors.New("stopped")

// ended is an error that no new connection mends.
type ended struct{ error }

// watcher is a watch over all its connections.
type watcher struct {
	c     *Client
	path  string
	o     WatchOptions
	pos   op.Zxid // everything up to here has been yielded
	began bool    // pos is known
	shown bool    // the first message was yielded
}

// stream is one connection of a watch.
type stream struct {
	resp   *http.Response
	cancel context.CancelFunc
}

func (s *stream) close() {
	s.cancel()
	s.resp.Body.Close()
}

func (w *watcher) request() *Request {
	q := url.Values{}
	switch w.o.Scope {
	case ScopeNode:
		q.Set("recursive", "false")
	case ScopeChildren:
		q.Set("children", "")
	}
	if w.began {
		q.Set("since", strconv.FormatUint(uint64(w.pos), 10))
	}
	return &Request{
		Method: "GET", Path: nodeURL(watchURL, w.path), Query: q, Header: http.Header{"Accept": {"text/event-stream"}},
	}
}

// connect makes a connection, within limit if that is not 0.
func (w *watcher) connect(ctx context.Context, limit time.Duration) (*stream, error) {
	within, r := ctx, w.request()
	if limit > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	var s *stream
	err := w.c.try(within, r, func(base string, limit time.Duration) (err error) {
		s, err = w.c.open(ctx, base, r, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !w.began {
		w.pos, w.began = zxidHeader(s.resp.Header, "Coord-Watch-Position"), true
	}
	return s, nil
}

// open sends a request whose answer is a stream. limit is about the time until it begins.
func (c *Client) open(ctx context.Context, base string, r *Request, limit time.Duration) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(limit, cancel)
	start := time.Now()
	resp, err := c.send(ctx, base, r)
	if err != nil && !late.Stop() {
		if _, ok := errors.AsType[*unconnectedError](err); ok {
			err = &unconnectedError{context.DeadlineExceeded}
		} else {
			err = context.DeadlineExceeded
		}
	}
	c.trace(base, r, resp, err, time.Since(start))
	if err != nil {
		cancel()
		return nil, err
	}
	if !late.Stop() {
		cancel()
		resp.Body.Close()
		return nil, context.DeadlineExceeded
	}
	return &stream{resp, cancel}, nil
}

// follow yields what comes over one connection until it breaks.
func (w *watcher) follow(ctx context.Context, s *stream, yield func(*Message, error) bool) error {
	if !w.shown {
		w.shown = true
		if !yield(&Message{Zxid: w.pos}, nil) {
			return errStopped
		}
	}
	silent := time.AfterFunc(w.c.cfg.Idle, s.cancel)
	defer silent.Stop()
	for in := newEventReader(s.resp.Body); ; {
		name, data, err := in.next()
		if err != nil {
			return err
		}
		silent.Stop() // while it is dealt with; the program behind may take its time
		m, err := message(name, data)
		if err != nil {
			return err
		}
		if m != nil {
			if !yield(m, nil) {
				return errStopped
			}
			w.pos = m.Zxid
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		silent.Reset(w.c.cfg.Idle)
	}
}

// message reads a message. It returns nil for one of a kind that it doesn't know.
func message(name string, data []byte) (*Message, error) {
	switch name {
	case "change", "bookmark":
		m := new(Message)
		if err := json.Unmarshal(data, m); err != nil {
			return nil, fmt.Errorf("couldn't read a message of the kind %s: %w", name, err)
		}
		return m, nil
	case "reset":
		e := new(Error)
		if err := json.Unmarshal(data, e); err != nil {
			return nil, fmt.Errorf("couldn't read a reset: %w", err)
		}
		return nil, &ended{e}
	}
	return nil, nil
}

// maxMessage is the longest message taken: a transaction of 10,000 nodes with 4 MiB of data, and more than that.
const maxMessage = 64 << 20

// eventReader reads an event stream (HTML standard, 9.2).
type eventReader struct{ in *bufio.Reader }

func newEventReader(r interface{ Read([]byte) (int, error) }) *eventReader {
	return &eventReader{bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next message that has data. One that the stream breaks off in is not returned: it comes again,
// whole, over the next connection.
func (r *eventReader) next() (name string, data []byte, err error) {
	for size := 0; ; {
		line, err := r.line(maxMessage - size)
		if err != nil {
			return "", nil, err
		}
		size += len(line)
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch {
		case len(line) == 0 && data != nil:
			return name, data, nil
		case len(line) == 0:
			name, size = "", 0
		case string(field) == "event":
			name = string(value)
		case string(field) == "data" && data == nil:
			data = append([]byte{}, value...)
		case string(field) == "data":
			data = append(append(data, '\n'), value...)
		}
	}
}

// line reads a line of up to limit bytes, without its end.
func (r *eventReader) line(limit int) ([]byte, error) {
	var whole []byte
	for {
		part, err := r.in.ReadSlice('\n')
		if len(whole)+len(part) > limit {
			return nil, fmt.Errorf("a message is longer than %d bytes", maxMessage)
		}
		whole = append(whole, part...)
		switch {
		case err == bufio.ErrBufferFull:
		case err != nil:
			return nil, err
		default:
			return bytes.TrimRight(whole, "\r\n"), nil
		}
	}
}
