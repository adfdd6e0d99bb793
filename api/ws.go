package api

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// wsJSON is the subprotocol for browsers and people, and what is spoken if none is asked for.
const wsJSON = "coord.v1.json"

// wsBearer begins what a browser offers beside a subprotocol in place of Authorization, which it can't set: a user name, a
// colon and a password follow, as base64url without padding.
const wsBearer = "coord.bearer."

func (s *Server) wsRoutes() []route {
	return []route{{method: "GET", pattern: "/v1/ws", name: "ws", serve: (*call).webSocket, uncounted: true}}
}

// webSocket turns the request into a connection of messages, which is served until it ends.
func (c *call) webSocket() error {
	if err := c.q.done(); err != nil {
		return err
	}
	if err := c.checkUpgrade(); err != nil {
		return err
	}
	if err := c.authenticateBearer(); err != nil {
		return err
	}
	limit := c.s.stateLimits(c.r.Context()).RequestBytes
	ws, err := c.upgrade()
	if err != nil {
		return err
	}
	c.replied = true
	conn := newWSConn(c.s, ws, c.id(), c.auth, limit)
	if !c.s.enterSocket(conn) {
		return ws.Close()
	}
	s, leave := c.s, c.s.gate.upgraded()
	// On a goroutine of its own, whose stack is small: that of the request, its buffers and all that it refers to go with
	// the return: two fifths of what an idle session takes.
	go func() {
		defer s.sockets.leave(conn)
		defer leave()
		conn.serve()
	}()
	return nil
}

// checkUpgrade refuses what is not meant for a WebSocket, or comes from a page of another origin. A GET without Origin is
// no browser's.
func (c *call) checkUpgrade() error {
	if !websocket.IsWebSocketUpgrade(c.r) {
		c.w.Header()["Upgrade"] = []string{"websocket"}
		return statusError(http.StatusUpgradeRequired, op.BadRequest, "this is for WebSocket connections; see docs/websocket.md")
	}
	asPost := *c.r
	asPost.Method = http.MethodPost // a connection may change something, whatever its handshake is called
	if err := c.s.origins.Check(&asPost); err != nil {
		return foreignOrigin("connect", err)
	}
	offered := slices.DeleteFunc(websocket.Subprotocols(c.r), func(p string) bool { return strings.HasPrefix(p, wsBearer) })
	if len(offered) > 0 && !slices.Contains(offered, wsJSON) && !slices.Contains(offered, frame.Subprotocol) {
		return op.Errorf(op.Unsupported, "of the subprotocols offered none is spoken here; they are %s and %s", wsJSON, frame.Subprotocol)
	}
	if c.s.isDraining() {
		return op.Errorf(op.Draining, "no connection is begun here any more")
	}
	return nil
}

// authenticateBearer finds out who the caller has proven to be by what it offers beside a subprotocol.
func (c *call) authenticateBearer() error {
	for _, p := range websocket.Subprotocols(c.r) {
		text, isBearer := strings.CutPrefix(p, wsBearer)
		if !isBearer {
			continue
		}
		plain, err := base64.RawURLEncoding.Strict().DecodeString(text)
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok || user == "" || !utf8.Valid(plain) {
			c.s.metrics.authFailures.WithLabelValues("bad_credentials").Inc()
			return op.Errorf(op.Unauthenticated,
				"behind %s must be a user name, a colon and a password, as base64url without padding", wsBearer)
		}
		c.auth = append(c.auth, c.s.digestIdentities(user, password)...)
	}
	return nil
}

// writeBuffers are lent to connections while they write, so that one that is quiet holds none.
var writeBuffers sync.Pool

// upgrade does the handshake. The smallest buffer for reading is the one for control frames, above that of wsSocket. There is no compression: it makes sizes on the wire tell nothing of what they become.
func (c *call) upgrade() (*websocket.Conn, error) {
	var refused error
	u := websocket.Upgrader{
		HandshakeTimeout: c.s.limits.HeaderTimeout, ReadBufferSize: 1, WriteBufferSize: 4 << 10, WriteBufferPool: &writeBuffers,
		Subprotocols: []string{frame.Subprotocol, wsJSON},
		CheckOrigin:  func(*http.Request) bool { return true }, // checkUpgrade has
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, reason error) {
			refused = statusError(status, op.BadRequest, "%s", reason)
		},
	}
	ws, err := u.Upgrade(socketTaker{c.w}, c.r, http.Header{"Coord-Served-By": c.s.servedBy})
	if refused != nil {
		return nil, refused
	}
	if err != nil {
		c.replied = true // the connection has been taken over and is gone
		return nil, op.Errorf(op.BadRequest, "the handshake broke off: %s", err)
	}
	return ws, nil
}

// What one connection may hold, besides what Limits says.
const (
	wsHeldBytes = 8 << 20          // of messages whose requests are under way; one more may be read
	wsScratch   = 16 << 10         // of a message, which is then copied; longer ones are kept as they were read
	wsShort     = 4 << 10          // bytes of an answer that takes no time to speak of
	wsFlush     = 32 << 10         // bytes of frames that go into one message
	wsSilence   = 20 * time.Second // without a frame from the client, after which it is asked whether it is there
	wsGoodbye   = time.Second      // to answer a close frame
	wsSilences  = 3                // that are borne before the connection is given up
)
