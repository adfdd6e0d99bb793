package api

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/op"
)

// jsonConn is a client of the JSON form.
type jsonConn struct {
	t  testing.TB
	ws *websocket.Conn
}

// said is what a server says, as far as these tests look.
type said struct {
	ID       int
	OK       *struct{ Session, Secret, Token, Term, Lock string }
	Error    *struct{ Code, Detail string }
	Progress *struct{ Position int }
	Lock     *struct{ Name, Token, Lost string }
	Goaway   *struct{ Reason string }
}

func (f *fixture) dialJSON(hello string) (*jsonConn, said) {
	f.t.Helper()
	c := &jsonConn{f.t, f.dial(wsJSON)}
	c.send(hello)
	return c, c.next()
}

func (c *jsonConn) send(messages ...string) {
	c.t.Helper()
	for _, m := range messages {
		if err := c.ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *jsonConn) read() (s said, err error) {
	c.ws.SetReadDeadline(time.Now().Add(wsPatience))
	_, p, err := c.ws.ReadMessage()
	if err == nil {
		err = json.Unmarshal(p, &s)
	}
	return s, err
}

func (c *jsonConn) next() said {
	c.t.Helper()
	s, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// ask sends a request and returns its answer; progress is left out.
func (c *jsonConn) ask(message string) said {
	c.t.Helper()
	c.send(message)
	for {
		if s := c.next(); s.Progress == nil {
			return s
		}
	}
}

const sessionHello = `{"id":1,"op":"hello","session":{"ttl":"2m"}}`

// A waiter whose connection dies is gone at once, and whoever waits behind it moves up. What the connection held stays with
// the session.
func TestWebSocketWaiterDies(t *testing.T) {
	f := newFixture(t)
	a, _ := f.dialJSON(sessionHello)
	if g := a.ask(`{"id":2,"op":"lock","name":"x","owner":"a"}`); g.OK == nil {
		t.Fatalf("got %+v", g)
	}
	b, _ := f.dialJSON(sessionHello)
	b.send(`{"id":2,"op":"lock","name":"x","owner":"b"}`)
	b.next()
	c, _ := f.dialJSON(sessionHello)
	c.send(`{"id":2,"op":"lock","name":"x","owner":"c"}`)
	if p := c.next(); p.Progress == nil || p.Progress.Position != 2 {
		t.Fatalf("got %+v", p)
	}
	b.ws.NetConn().(*net.TCPConn).SetLinger(0) // as when its process is killed
	b.ws.NetConn().Close()
	if p := c.next(); p.Progress == nil || p.Progress.Position != 1 {
		t.Errorf("got %+v", p)
	}
	a.ws.Close()
	f.idle(1)
	if r := f.must("GET", "/v1/locks/x", ""); !strings.Contains(string(r.body), `"owner":"a"`) || strings.Contains(string(r.body), `"owner":"b"`) {
		t.Errorf("got %s", r.body)
	}
}

// What a wait is told that is over, and how many contests a connection may have.
func TestWebSocketContestLimits(t *testing.T) {
	f := newFixture(t)
	a, _ := f.dialJSON(sessionHello)
	b, _ := f.dialJSON(sessionHello)
	a.ask(`{"id":2,"op":"lock","name":"x"}`)
	if e := b.ask(`{"id":2,"op":"lock","name":"x","wait":"1ms"}`); e.Error == nil || e.Error.Code != "lock_held" {
		t.Errorf("got %+v", e)
	}
	for i := range wsContests - 1 {
		if g := a.ask(fmt.Sprintf(`{"id":3,"op":"lock","name":"l%d"}`, i)); g.OK == nil {
			t.Fatalf("lock %d: %+v", i, g.Error)
		}
	}
	if e := a.ask(`{"id":3,"op":"lock","name":"more"}`); e.Error == nil || e.Error.Code != "overloaded" {
		t.Errorf("got %+v", e)
	}
	if r := a.ask(`{"id":3,"op":"unlock","name":"l0"}`); r.Error != nil {
		t.Errorf("got %+v", r.Error)
	}
	if r := a.ask(`{"id":3,"op":"lock","name":"l0"}`); r.Error != nil {
		t.Errorf("got %+v", r.Error)
	}
	if r := a.ask(`{"id":3,"op":"get","path":"/locks"}`); r.Error != nil {
		t.Errorf("got %+v", r)
	}
	a.ask(`{"id":3,"op":"bye"}`)
	if g := b.ask(`{"id":3,"op":"lock","name":"x"}`); g.OK == nil {
		t.Errorf("got %+v", g)
	}
	b.ws.Close()
	f.idle(0)
	if n := f.s.watches.Load(); n != 0 {
		t.Errorf("%d contests are left", n)
	}
}

// A server that drains ends the waits and nothing else: what is held can be taken up at another member.
func TestWebSocketContestDrain(t *testing.T) {
	f := newFixture(t)
	a, _ := f.dialJSON(sessionHello)
	a.ask(`{"id":2,"op":"lock","name":"x"}`)
	b, _ := f.dialJSON(sessionHello)
	b.send(`{"id":2,"op":"lock","name":"x"}`)
	b.next()
	f.s.StartDraining()
	drained, asked := false, false
	for !drained || !asked {
		switch s := b.next(); {
		case s.Goaway != nil:
			asked = true
		case s.Error != nil && s.Error.Code == "draining":
			drained = true
		default:
			t.Fatalf("got %+v", s)
		}
	}
	if s := a.next(); s.Goaway == nil {
		t.Errorf("got %+v", s)
	}
	if s := a.ask(`{"id":3,"op":"unlock","name":"x"}`); s.OK == nil {
		t.Errorf("got %+v", s)
	}
}

// A resumed session gives up the place of a waiter that its member could not take out of the line any more.
func TestWebSocketTakesUp(t *testing.T) {
	f := newFixture(t)
	a, _ := f.dialJSON(sessionHello)
	a.ask(`{"id":2,"op":"lock","name":"x","owner":"a"}`)
	b, w := f.dialJSON(sessionHello)
	b.ws.Close()
	f.idle(1)
	var id op.SessionID
	if err := id.UnmarshalText([]byte(w.OK.Session)); err != nil {
		t.Fatal(err)
	}
	f.m.Do(t.Context(), &op.Request{Session: id, Op: &op.Create{ // as it is left when its member crashes
		Path: "/locks/x/_c_00000000-0000-4000-8000-000000000000-lock-", Data: []byte(`{"owner":"b"}`), Kind: op.Ephemeral, Sequence: true,
	}})
	c, _ := f.dialJSON(fmt.Sprintf(`{"id":1,"op":"hello","session":{"resume":%q,"secret":%q}}`, w.OK.Session, w.OK.Secret))
	c.send(`{"id":2,"op":"lock","name":"x","owner":"b"}`)
	if p := c.next(); p.Progress == nil || p.Progress.Position != 1 {
		t.Errorf("got %+v", p)
	}
	a.ask(`{"id":3,"op":"unlock","name":"x"}`)
	if g := c.next(); g.OK == nil || g.OK.Lock != "x" {
		t.Errorf("got %+v", g)
	}
}

// Credentials that come beside the subprotocol are those of the connection.
func TestWebSocketBearer(t *testing.T) {
	f := newFixture(t)
	f.m.Do(t.Context(), &op.Request{Op: &op.Create{
		Path: "/mine", Data: []byte("x"), ACL: []op.ACL{{Perms: op.AllPerm, Scheme: "digest", ID: digestOf("ann", "a")}},
	}})
	for protocol, want := range map[string]string{wsJSON: "denied", wsJSON + ", coord.bearer.YW5uOmE": ""} {
		c := &jsonConn{t, f.dial(protocol)}
		c.send(`{"id":1,"op":"hello"}`)
		c.next()
		code := ""
		if s := c.ask(`{"id":2,"op":"get","path":"/mine"}`); s.Error != nil {
			code = s.Error.Code
		}
		if code != want {
			t.Errorf("%s: %q", protocol, code)
		}
	}
}

// oddNames are names that somebody may try. Those that are possible must work as any other does.
var oddNames = []struct {
	name string
	ok   bool
}{
	{"nightly", true}, {"at-least", true}, {"t-0000000001", true}, {"with space", true}, {"ünïcödé", true}, {"锁", true},
	{"%2F", true}, {"?wait=1", true}, {"#", true}, {"&", true}, {`"`, true}, {`\`, true}, {"..x", true}, {"-", true},
	{"lock-0000000001", true}, {"__lock__", true}, {"{}", true}, {"renew", true}, {"e\u0301", true},
	{"", false}, {"/", false}, {"..", false}, {".", false}, {"a/b", false}, {"//", false}, {"/a/", false}, {"\x00", false},
	{"a\nb", false}, {"\x7f", false}, {"\u0085", false}, {"\ufffe", false}, {"🔒", false}, {strings.Repeat("x", 20_000), false},
	{strings.Repeat("/a", 600), false},
}

// TestOddNames: whatever a lock or election is called, over HTTP, over a connection and in Go the same are possible, and the
// others a bad_path or bad_request that changes nothing.
func TestOddNames(t *testing.T) {
	f := newFixture(t)
	c, _ := f.dialJSON(sessionHello)
	for _, n := range oddNames {
		if _, err := recipe.Dir(recipe.LocksDir, n.name); (err == nil) != n.ok {
			t.Errorf("%.40q in Go: %v", n.name, err)
		}
		quoted, _ := json.Marshal(n.name)
		for _, verb := range []string{"lock", "campaign"} {
			s := c.ask(fmt.Sprintf(`{"id":2,"op":%q,"name":%s}`, verb, quoted))
			switch {
			case n.ok && s.OK == nil:
				t.Errorf("%s %.40q over a connection: %+v", verb, n.name, s.Error)
			case !n.ok && (s.Error == nil || s.Error.Code != "bad_request"):
				t.Errorf("%s %.40q over a connection: %+v", verb, n.name, s)
			}
		}
		if n.ok {
			c.ask(fmt.Sprintf(`{"id":2,"op":"unlock","name":%s}`, quoted))
			c.ask(fmt.Sprintf(`{"id":2,"op":"resign","name":%s}`, quoted))
		}
		f.tryOddName(n.name, n.ok)
	}
	locks := f.must("GET", "/v1/locks", "")
	if strings.Contains(string(locks.body), `"holders":[{`) {
		t.Errorf("something is held: %.200s", locks.body)
	}
}

// tryOddName takes and gives back a lock over HTTP.
func (f *fixture) tryOddName(name string, ok bool) {
	f.t.Helper()
	target := locksURL + "/" + escapeAll(name)
	if len(name) > 1000 {
		target = locksURL + "/" + name
	}
	r := f.handshake("POST " + target + "?ttl=10s")
	switch {
	case !ok && (r.StatusCode < 400 || r.StatusCode >= 500):
		f.t.Errorf("%.40q over HTTP: %s", name, r.Status)
	case !ok:
		return
	case r.StatusCode != 201:
		f.t.Errorf("%.40q over HTTP: %s\n%s", name, r.Status, r.body)
		return
	}
	var g struct{ Session, Secret string }
	json.Unmarshal(r.body, &g)
	r = f.handshake("DELETE " + target + "\nCoord-Session: " + g.Session + "\nCoord-Session-Secret: " + g.Secret)
	if r.StatusCode != 200 {
		f.t.Errorf("%.40q back over HTTP: %s\n%s", name, r.Status, r.body)
	}
}

// escapeAll escapes every byte, so that nothing has a meaning but that of the name.
func escapeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}
