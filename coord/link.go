package coord

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// link is one connection to a member. One goroutine reads, one writes; close may be called by anybody and wakes both.
type link interface {
	write(message []byte, limit time.Duration) error // limit is how long the other side may take nothing
	read() ([]byte, error)                           // valid until the next read
	ping(limit time.Duration) error                  // asks the other side for a sign of life below the protocol
	close()
}

const (
	wsPath = "/v1/ws"
	// maxMessage bounds what a message of a server may be long: pages and events have at most a few MiB.
	maxMessage = 64 << 20
)

type socket struct {
	ws  *websocket.Conn
	buf []byte
}

// dialWebSocket connects to a member. alive is called when the other side shows a sign of life below the protocol.
func (c *config) dialWebSocket(ctx context.Context, t target, alive func()) (link, error) {
	d := websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.dialer(ctx, network, t.addr)
		},
		TLSClientConfig: c.tls,
		Subprotocols:    []string{frame.Subprotocol},
		ReadBufferSize:  32 << 10,
		WriteBufferSize: 32 << 10,
	}
	scheme := "ws"
	if t.secure {
		scheme = "wss"
	}
	header := http.Header{}
	if c.header != "" {
		header.Set("Authorization", c.header)
	}
	ws, resp, err := d.DialContext(ctx, scheme+"://"+t.authority()+wsPath, header)
	if err != nil {
		return nil, upgradeError(t, resp, err)
	}
	if got := ws.Subprotocol(); got != frame.Subprotocol {
		ws.Close()
		return nil, op.Errorf(op.Unsupported, "%s doesn't speak %s", t.endpoint, frame.Subprotocol)
	}
	s := &socket{ws: ws}
	ws.SetReadLimit(maxMessage)
	ws.SetPongHandler(func(string) error { alive(); return nil })
	answer := ws.PingHandler()
	ws.SetPingHandler(func(text string) error { alive(); return answer(text) })
	return s, nil
}

// upgradeError says why a member didn't take the connection: what it answered, if it is one, else what failed.
func upgradeError(t target, resp *http.Response, err error) error {
	if resp == nil {
		return fmt.Errorf("%s: %w", t.endpoint, err)
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	resp.Body.Close()
	var problem struct{ Code, Detail string }
	if json.Unmarshal(body, &problem) == nil {
		if code, ok := op.CodeOf(problem.Code); ok {
			return op.Errorf(code, "%s: %s", t.endpoint, problem.Detail)
		}
	}
	return fmt.Errorf("%s: no coord member answers there: HTTP status %d", t.endpoint, resp.StatusCode)
}

func (s *socket) write(message []byte, limit time.Duration) error {
	s.ws.SetWriteDeadline(time.Now().Add(limit))
	return s.ws.WriteMessage(websocket.BinaryMessage, message)
}

func (s *socket) ping(limit time.Duration) error {
	return s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(limit))
}

var errNotBinary = errors.New("the member sent a text message")

func (s *socket) read() ([]byte, error) {
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.BinaryMessage {
		return nil, errNotBinary
	}
	s.buf, err = readInto(s.buf[:0], r)
	return s.buf, err
}

// readInto is io.ReadAll into a buffer that is used again, unless a large message has blown it up.
func readInto(b []byte, r io.Reader) ([]byte, error) {
	if cap(b) == 0 || cap(b) > 1<<20 {
		b = make([]byte, 0, 32<<10)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func (s *socket) close() { s.ws.Close() }
