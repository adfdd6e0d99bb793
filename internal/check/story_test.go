package check

import (
	"strings"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// story makes a history that is right: each request is decided by a Namespace at once, as an entry of its own. Tests then
// tell one thing wrong.
type story struct {
	t     *testing.T
	h     *History
	ns    *Namespace
	order int64
	calls uint64
}

func newStory(t *testing.T) *story { return &story{t: t, h: &History{}, ns: NewNamespace()} }

// now makes each moment one second.
func (s *story) now() Moment {
	s.order++
	return Moment{s.order, time.Duration(s.order) * time.Second}
}

// attempt sends the request of a call once more and returns the answer without giving it to the client.
func (s *story) attempt(c *Call) *op.Result {
	s.calls++
	r := *c.Request
	r.Tag = op.Tag{Member: 1, Boot: 1, Call: s.calls}
	c.Attempts = append(c.Attempts, Attempt{Tag: r.Tag})
	return s.decide(&r)
}

// decide puts a request into the log.
func (s *story) decide(r *op.Request) *op.Result {
	b := &op.Batch{Wall: op.Time(s.order), Age: 1000, Requests: []*op.Request{r}}
	s.h.Log = append(s.h.Log, Entry{Index: uint64(len(s.h.Log) + 1), Term: 1, Data: b.Append(nil), Applied: s.now()})
	s.ns.Begin(b.Wall, b.Age)
	res, _ := s.ns.Do(r)
	return &res
}

func (s *story) begin(client int, r *op.Request) *Call {
	c := &Call{Client: client, Start: s.now(), Request: r}
	s.h.Calls = append(s.h.Calls, c)
	return c
}

func (s *story) end(c *Call, res *op.Result) {
	c.Result = res
	if n := len(c.Attempts); n > 0 {
		c.Attempts[n-1].Result = res
	}
	c.End = s.now()
}

// do makes a request and gives its client the answer.
func (s *story) do(client int, r *op.Request) *Call {
	c := s.begin(client, r)
	s.end(c, s.attempt(c))
	return c
}

func (s *story) write(client int, o op.Op) *Call { return s.do(client, &op.Request{Op: o}) }

func (s *story) create(path, data string) *Call {
	return s.write(1, &op.Create{Path: path, Data: []byte(data)})
}

func (s *story) set(path, data string) *Call {
	return s.write(1, &op.Set{Path: path, Data: []byte(data), If: op.Always})
}

func (s *story) read(client int, level op.Level, o op.Op) *Call {
	c := s.begin(client, &op.Request{Op: o})
	c.Read = &op.ReadOptions{Level: level}
	res := s.ns.Read(o)
	c.Info = op.ReadInfo{Level: level, Zxid: s.ns.Zxid(), Staleness: -1}
	s.end(c, &res)
	return c
}

func (s *story) open(client int) op.SessionID {
	return s.write(client, &op.OpenSession{Timeout: 10 * time.Second}).Result.Session.ID
}

func (s *story) sequenced(client int, id op.SessionID, seq uint64, o op.Op) *op.Request {
	return &op.Request{Session: id, Epoch: 1, Seq: seq, Op: o}
}

func (s *story) ephemeral(id op.SessionID, path string) *Call {
	return s.do(1, &op.Request{Session: id, Op: &op.Create{Path: path, Kind: op.Ephemeral}})
}

// finish ends the history as it should end.
func (s *story) finish() {
	s.h.Finals = append(s.h.Finals, Final{
		Member: 1, Index: uint64(len(s.h.Log)), Zxid: s.ns.Zxid(), Nodes: s.ns.Nodes(), Sessions: s.ns.Alive(),
	})
}

// rejects checks that a checker finds what is wrong, and says so.
func (s *story) rejects(check func(*History) error, why string) {
	s.t.Helper()
	err := check(s.h)
	switch {
	case err == nil:
		s.t.Errorf("accepted a history in which %q is wrong", why)
	case !strings.Contains(err.Error(), why):
		s.t.Errorf("said %q, not that %q", err, why)
	}
}

// accepts checks that no checker complains.
func (s *story) accepts() {
	s.t.Helper()
	for _, c := range Checkers() {
		if err := c.Check(s.h); err != nil {
			s.t.Errorf("%s: %v", c.Name, err)
		}
	}
}
