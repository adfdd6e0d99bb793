package check

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// Moment is a place in the order of everything that happened, and the time.
type Moment struct {
	Order int64         // from 1; 0 is never
	At    time.Duration // since the beginning
}

// Never reports whether the moment has not come.
func (m Moment) Never() bool { return m.Order == 0 }

// History is the record of one run.
type History struct {
	Log      []Entry // all that was decided, from index 1 without gaps
	Calls    []*Call
	Watches  []*Watch // the streams of one watcher stand in their order
	Promises []Promise
	Lives    []Life
	Digests  []Digest
	Finals   []Final
	Recovery Recovery

	Turns     []*Turn    // of locks and elections
	Sightings []Sighting // those of one observer stand in their order
	Small     Small      // of the small recipes
	Configs   Configs    // of configurations
}

// Entry is one entry of the committed log.
type Entry struct {
	Index, Term uint64
	Data        []byte // an encoded op.Batch, or empty
	Applied     Moment // by the first member that did
}

// Call is one request of a client, with all attempts at it, or one read.
type Call struct {
	Client   int
	Start    Moment
	End      Moment          // Never if no answer came
	Request  *op.Request     // of a read its Op alone
	Attempts []Attempt       // of a write
	Result   *op.Result      // the answer in the end, nil if there was none
	Read     *op.ReadOptions // nil for a write
	Info     op.ReadInfo
}

// Attempt is one time that a request was sent.
type Attempt struct {
	Tag    op.Tag
	Result *op.Result // nil if the client stopped waiting
}

// Decided reports whether the client knows the decision.
func (c *Call) Decided() bool {
	return c.Result != nil && (c.Result.Err == nil || c.Result.Err.Outcome == op.Decided)
}

// Refused reports whether the client knows that nothing was done.
func (c *Call) Refused() bool {
	return c.Result != nil && c.Result.Err != nil && c.Result.Err.Outcome == op.Refused
}

// String names the call in a complaint.
func (c *Call) String() string {
	s := fmt.Sprintf("client %d: %s", c.Client, Describe(c.Request.Op))
	if c.Request.Seq != 0 {
		s += fmt.Sprintf(" (%v #%d)", c.Request.Session, c.Request.Seq)
	}
	return fmt.Sprintf("%s at %v", s, c.Start.At)
}

// Describe shows an operation in one line.
func Describe(o op.Op) string {
	switch x := o.(type) {
	case *op.Txn:
		return fmt.Sprintf("txn(if %s, then %s, else %s)", describe(x.If), describe(x.Then), describe(x.Else))
	case *op.Create:
		suffix := ""
		if x.Sequence {
			suffix = "#"
		}
		return fmt.Sprintf("create(%s %s%s = %q)", x.Kind, x.Path, suffix, x.Data)
	case *op.Set:
		return fmt.Sprintf("set(%s = %q if %+v)", x.Path, x.Data, x.If)
	case *op.OpenSession:
		return fmt.Sprintf("open_session(%v %q)", x.Timeout, x.Identity)
	case *op.Attach:
		return fmt.Sprintf("attach(%v nonce %x)", x.Session, x.Nonce)
	}
	return o.Verb().String() + strings.TrimPrefix(fmt.Sprintf("%+v", o), "&")
}

func describe(ops []op.Op) []string {
	var parts []string
	for _, o := range ops {
		parts = append(parts, Describe(o))
	}
	return parts
}

// Decision is one request of the log and what Namespace makes of it.
type Decision struct {
	Entry   *Entry
	Request *op.Request
	Result  op.Result
	Events  []op.Event
	Fresh   bool // it took a zxid
}

// Replay decides the log anew on an empty Namespace. Each decision is yielded right after it was taken.
func (h *History) Replay(ns *Namespace) iter.Seq[*Decision] {
	return func(yield func(*Decision) bool) {
		for i := range h.Log {
			e := &h.Log[i]
			if len(e.Data) == 0 {
				continue
			}
			batch, err := op.DecodeBatch(e.Data)
			if err != nil {
				panic(fmt.Sprintf("check: entry %d can't be decoded: %v", e.Index, err))
			}
			ns.Begin(batch.Wall, batch.Age)
			for _, r := range batch.Requests {
				before := ns.zxid
				res, events := ns.Do(r)
				if !yield(&Decision{e, r, res, events, ns.zxid != before}) {
					return
				}
			}
		}
	}
}

// Checker is one promise.
type Checker struct {
	Name  string
	Check func(*History) error
}

// Checkers returns all of them.
func Checkers() []Checker {
	return []Checker{
		{"replicas", Replicas},
		{"zxids", Zxids},
		{"answers", Answers},
		{"durable", Durable},
		{"once", Once},
		{"reads", Reads},
		{"linearizable", Linearizable},
		{"sequences", Sequences},
		{"fencing", Fencing},
		{"registers", Registers},
		{"grants", Grants},
		{"exclusion", Exclusion},
		{"tokens", Tokens},
		{"fair", Fair},
		{"kept", Kept},
		{"delayed", Delayed},
		{"late", Late},
		{"sightings", Sightings},
		{"queues", Queues},
		{"counters", Counters},
		{"barriers", Barriers},
		{"gates", Gates},
		{"latches", Latches},
		{"members", Members},
		{"groups", Groups},
		{"periods", Periods},
		{"configurations", Configurations},
		{"watch", Watches},
		{"sessions", Sessions},
		{"expiry", Expiry},
		{"ephemerals", Ephemerals},
		{"state", States},
		{"recovery", Recovered},
		{"remembered", Remembered},
	}
}
