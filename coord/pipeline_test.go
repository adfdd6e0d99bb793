package coord

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// pipe is a pipeline by hand: requests have names, and what is sent is told in words.
type pipe struct {
	t     *testing.T
	p     *pipeline
	calls map[string]*call
	ids   map[string]uint64
}

func newPipe(t *testing.T) *pipe {
	x := &pipe{t, newPipeline(true), map[string]*call{}, map[string]uint64{}}
	x.attach(1)
	return x
}

func (x *pipe) attach(next uint64) {
	x.p.attached(&frame.Welcome{NextSeq: next, Requests: 100, Message: 1 << 20})
}

func (x *pipe) write(names ...string) {
	for _, n := range names {
		x.calls[n] = &call{o: &op.Delete{Path: "/" + n}, done: make(chan answer, 1)}
		x.p.add(x.calls[n])
	}
}

// sends checks what is sent now: names with their numbers, and what is acknowledged.
func (x *pipe) sends(want string) {
	x.t.Helper()
	var got []string
	d := frame.FromClient(x.p.take(nil, 1<<20))
	for {
		f, err := d.Next()
		if err == io.EOF {
			break
		}
		w := f.(*frame.Write)
		name := w.Op.(*op.Delete).Path[1:]
		x.ids[name] = w.ID
		got = append(got, fmt.Sprintf("%s=%d ack %d", name, w.Seq, w.Ack))
	}
	if s := strings.Join(got, ", "); s != want {
		x.t.Errorf("it sends %q, not %q", s, want)
	}
}

// replies answers a request.
func (x *pipe) replies(name string, want verdict, err *op.Error) {
	x.t.Helper()
	if v := x.p.reply(&frame.Reply{ID: x.ids[name], Result: &op.Result{Err: err}}); v != want {
		x.t.Errorf("after the answer to %s it says %d, not %d", name, v, want)
	}
}

// answered checks whether a call has its answer, and which.
func (x *pipe) answered(name string, code op.Code) {
	x.t.Helper()
	select {
	case a := <-x.calls[name].done:
		if code == op.OK && a.err != nil || code != op.OK && a.result != nil && a.result.Err == nil {
			x.t.Errorf("%s is answered %v, not %s", name, a.err, code)
		}
	default:
		x.t.Errorf("%s has no answer", name)
	}
}

// Numbers are not given out anew before everything behind a refusal has been answered.
func TestRefusalWaitsForThoseBehind(t *testing.T) {
	x := newPipe(t)
	x.write("a", "b", "c")
	x.sends("a=1 ack 1, b=2 ack 1, c=3 ack 1")
	x.replies("a", fine, op.Errorf(op.Overloaded, ""))
	x.write("d")
	x.sends("")
	x.replies("b", fine, op.Errorf(op.OutOfOrder, ""))
	x.sends("")
	x.replies("c", pause, op.Errorf(op.OutOfOrder, ""))
	x.sends("a=1 ack 1, b=2 ack 1, c=3 ack 1, d=4 ack 1")
	for _, n := range []string{"a", "b"} {
		x.replies(n, fine, nil)
		x.answered(n, op.OK)
	}
	x.write("e")
	x.sends("e=5 ack 3")
}

// What nobody waits for any more still has its number while it is under way.
func TestOrphanKeepsItsNumber(t *testing.T) {
	x := newPipe(t)
	x.write("a", "b")
	x.sends("a=1 ack 1, b=2 ack 1")
	if !x.p.abandon(x.calls["b"]) {
		t.Error("what was sent can't happen any more")
	}
	x.replies("a", fine, op.Errorf(op.Overloaded, ""))
	x.write("c")
	x.sends("") // b may still be admitted as 2
	x.replies("b", pause, op.Errorf(op.OutOfOrder, ""))
	x.sends("a=1 ack 1, c=2 ack 1")
}

// What was refused for good gives its number to the next.
func TestRefusedForGood(t *testing.T) {
	x := newPipe(t)
	x.write("a", "b")
	x.sends("a=1 ack 1, b=2 ack 1")
	x.replies("a", fine, op.Errorf(op.Denied, ""))
	x.replies("b", fine, op.Errorf(op.OutOfOrder, ""))
	x.answered("a", op.Denied)
	x.sends("b=1 ack 1")
	if x.p.abandon(x.calls["b"]); len(x.p.ordered) != 1 {
		t.Error("it is not under way")
	}
}

// On a new connection what was decided is asked for under its number, and the rest follows from the next one.
func TestAttachmentTellsWhatWasDecided(t *testing.T) {
	x := newPipe(t)
	x.write("a", "b", "c", "d")
	x.sends("a=1 ack 1, b=2 ack 1, c=3 ack 1, d=4 ack 1")
	x.p.detached(errDown)
	x.sends("a=1 ack 1, b=2 ack 1, c=3 ack 1, d=4 ack 1") // what would be, were there a connection
	x.p.detached(errDown)
	x.p.abandon(x.calls["b"])
	x.attach(4)
	x.sends("a=1 ack 1, c=3 ack 1, d=4 ack 1")
	x.replies("a", fine, nil)
	x.write("e")
	x.sends("e=5 ack 3")
	x.p.detached(errDown)
	x.p.abandon(x.calls["d"]) // surely not done, as far as the next attachment tells
	x.attach(4)
	x.sends("c=3 ack 3, e=4 ack 3")
}

// An unknown outcome is found out over another connection.
func TestUnknownIsAskedAgain(t *testing.T) {
	x := newPipe(t)
	x.write("a", "b")
	x.sends("a=1 ack 1, b=2 ack 1")
	x.replies("a", move, &op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown})
	x.p.detached(errLeft)
	x.attach(2)
	x.sends("a=1 ack 1, b=2 ack 1")
}
