package api

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// TestWebSocketScenarios plays conversations in the JSON form: what is sent, and what comes, up to the answer to a ping,
// which is sent behind it. Commands besides those of TestScenarios:
//
//	connect a                        opens connection a
//	send a                           the messages of a, one a line, answered one by one
//	request a                        the messages of a, not answered yet
//	read a n                         the next n messages of a
//	events a n                       the next n events of a, however they are put into messages
//	closed a                         what a says until it is closed, and how
//
// In messages $SECRET and $SESSION stand for those that any connection was given last.
func TestWebSocketScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/ws", func(t *testing.T, path string) {
		f := newFixture(t, func(c *Config) {
			c.Limits.Bookmark = time.Hour
			c.Limits.ConnWatches = 3
			c.Super = digestOf("root", "toor")
		})
		w := &wsScenario{fixture: f, conns: map[string]*websocket.Conn{}}
		datadriven.RunTest(t, path, w.command)
	})
}

type wsScenario struct {
	*fixture
	conns           map[string]*websocket.Conn
	secret, session string
}

func (w *wsScenario) command(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "connect" {
		w.conns[d.CmdArgs[0].Key] = w.dial(wsJSON)
		return ""
	}
	if !slices.Contains([]string{"send", "request", "read", "events", "closed"}, d.Cmd) {
		return w.fixture.command(t, d)
	}
	var out strings.Builder
	conn := w.conns[d.CmdArgs[0].Key]
	if conn == nil {
		d.Fatalf(t, "no connection %s", d.CmdArgs[0].Key)
	}
	switch d.Cmd {
	case "send", "request":
		for line := range strings.Lines(d.Input) {
			line = strings.NewReplacer("$SECRET", w.secret, "$SESSION", w.session).Replace(strings.TrimSpace(line))
			if err := conn.WriteMessage(websocket.TextMessage, []byte(line)); err != nil {
				d.Fatalf(t, "%v", err)
			}
			if d.Cmd == "send" {
				out.WriteString(w.next(t, d, conn))
			}
		}
	case "read":
		var n int
		fmt.Sscan(d.CmdArgs[1].Key, &n)
		for range n {
			out.WriteString(w.next(t, d, conn))
		}
	case "events":
		var n int
		fmt.Sscan(d.CmdArgs[1].Key, &n)
		for n > 0 {
			var m struct{ Events []json.RawMessage }
			if err := json.Unmarshal([]byte(w.next(t, d, conn)), &m); err != nil || len(m.Events) == 0 {
				d.Fatalf(t, "%v, %+v", err, m)
			}
			for _, e := range m.Events {
				fmt.Fprintf(&out, "%s\n", e)
			}
			n -= len(m.Events)
		}
	case "closed":
		for {
			conn.SetReadDeadline(time.Now().Add(wsPatience))
			_, p, err := conn.ReadMessage()
			if err != nil {
				fmt.Fprintf(&out, "%v\n", err)
				break
			}
			out.WriteString(w.mask(string(p)))
		}
	}
	return out.String()
}

// wsPatience is how long a test waits for what must come: longer than anything that is tested takes.
const wsPatience = 10 * time.Minute

func (w *wsScenario) next(t *testing.T, d *datadriven.TestData, conn *websocket.Conn) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(wsPatience))
	_, p, err := conn.ReadMessage()
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return w.mask(string(p))
}

var (
	shownSecret  = regexp.MustCompile(`"secret":"([A-Za-z0-9_-]{22})"`)
	shownSession = regexp.MustCompile(`"session":"(s-[0-9a-f]+)"`)
	shownOldest  = regexp.MustCompile(`"oldest":"\d+"`) // as of a moment ago
	wsDull       = regexp.MustCompile(`"(type|title|status|instance|zk_code|leader|hint|retryable|outcome|retry_after)":("(\\.|[^"\\])*"|[a-z0-9-]+),?`)
)

// mask shows a message as scenarios do: without stats, and without those members of problems that follow from the code.
func (w *wsScenario) mask(p string) string {
	if m := shownSecret.FindStringSubmatch(p); m != nil {
		w.secret = m[1]
		p = strings.Replace(p, m[1], "…", 1)
	}
	if m := shownSession.FindStringSubmatch(p); m != nil {
		w.session = m[1]
	}
	if before, after, ok := strings.Cut(p, `{"type":"urn:`); ok {
		p = before + wsDull.ReplaceAllString(`{"type":"urn:`+after, "")
	}
	p = shownOldest.ReplaceAllString(strings.ReplaceAll(p, ",}", "}"), `"oldest":"…"`)
	for _, m := range masks[1:] {
		p = m.re.ReplaceAllString(p, m.to)
	}
	return p + "\n"
}

// dial connects in that subprotocol.
func (f *fixture) dial(subprotocol string, headers ...string) *websocket.Conn {
	f.t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	d := websocket.Dialer{Subprotocols: []string{subprotocol}, HandshakeTimeout: wsPatience}
	conn, _, err := d.Dial("ws://"+f.addr+"/v1/ws", h)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return conn
}

// binConn is a client of the binary form.
type binConn struct {
	t       testing.TB
	ws      *websocket.Conn
	decoder *frame.Decoder
}

func (f *fixture) dialBin() *binConn {
	return &binConn{t: f.t, ws: f.dial(frame.Subprotocol)}
}

// send sends frames in one message.
func (b *binConn) send(frames ...frame.Frame) {
	b.t.Helper()
	var p []byte
	for _, f := range frames {
		p = frame.Append(p, f)
	}
	b.ws.SetWriteDeadline(time.Now().Add(wsPatience))
	if err := b.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		b.t.Fatal(err)
	}
}

// read returns the next frame, or the error with which the connection has ended.
func (b *binConn) read() (frame.Frame, error) {
	for {
		if b.decoder != nil {
			if f, err := b.decoder.Next(); err == nil {
				return f, nil
			}
		}
		b.ws.SetReadDeadline(time.Now().Add(wsPatience))
		_, p, err := b.ws.ReadMessage()
		if err != nil {
			return nil, err
		}
		b.decoder = frame.FromServer(p)
	}
}

// next returns the next frame, which must be an F.
func next[F frame.Frame](b *binConn) F {
	b.t.Helper()
	f, err := b.read()
	if err != nil {
		b.t.Fatal(err)
	}
	x, ok := f.(F)
	if !ok {
		b.t.Fatalf("a %s came: %+v", f.Kind(), f)
	}
	return x
}

// open says hello and opens a session.
func (b *binConn) open() *frame.Welcome {
	b.t.Helper()
	b.send(&frame.Hello{ID: 1, Open: &frame.Open{Secret: []byte(binSecret), TTL: binTTL}})
	return next[*frame.Welcome](b)
}

const (
	binSecret = "0123456789abcdef"
	binTTL    = 2 * time.Minute // longer than any pause of the machine
)

// plain says hello without a session.
func (b *binConn) plain() *frame.Welcome {
	b.t.Helper()
	b.send(&frame.Hello{ID: 1})
	return next[*frame.Welcome](b)
}

// closed reads until the connection has ended, and returns the code.
func (b *binConn) closed() int {
	b.t.Helper()
	for {
		if _, err := b.read(); err != nil {
			if e, ok := err.(*websocket.CloseError); ok {
				return e.Code
			}
			b.t.Fatal(err)
		}
	}
}

func put(path, data string) op.Op {
	return &op.Create{Path: path, Data: []byte(data), Replace: true, Parents: true}
}

// wsOver does the handshake over a connection.
func wsOver(conn net.Conn, subprotocol string) (*websocket.Conn, error) {
	d := websocket.Dialer{
		NetDial:      func(string, string) (net.Conn, error) { return conn, nil },
		Subprotocols: []string{subprotocol},
	}
	ws, _, err := d.Dial("ws://localhost/v1/ws", nil)
	return ws, err
}
