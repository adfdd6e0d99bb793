package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/coord-kv/coord/op"
)

// Scenarios drive a Tracker with ticks of 100 ms. Sessions are named by number. Commands:
//
//	open 1 10s            decided: session 1 was opened, attached or changed (epoch=2 after the first)
//	end 1                 decided: session 1 has ended
//	reset 1 10s, 2 20s    a new leader takes over, with these sessions
//	heard 1 ago=3         a keep-alive, and whether it may be confirmed
//	tick 5                that many ticks
//	due by=7 max=2        whose expiry may be proposed, after a round that began at that tick
//	propose / unpropose   1 epoch=1
//	show                  all sessions, with the ticks that they have left
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{Tracker: NewTracker(100 * time.Millisecond), known: make(map[op.SessionID]op.Expiry)}
		datadriven.RunTest(t, path, s.run)
	})
}

type scenario struct {
	*Tracker
	known map[op.SessionID]op.Expiry // as last decided
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	switch d.Cmd {
	case "open":
		x := s.parse(t, d)
		s.known[x.Session] = x
		s.Changed(x.Session, x.Epoch, x.Timeout)
		line("%s", s.left(x.Session))
	case "end":
		id := s.parse(t, d).Session
		delete(s.known, id)
		s.Ended(id)
	case "reset":
		s.Reset(func(yield func(op.Expiry) bool) {
			for _, id := range s.ids() {
				if !yield(s.known[id]) {
					return
				}
			}
		})
		line("%d sessions", s.Len())
	case "heard":
		id := s.parse(t, d).Session
		var ago int
		d.MaybeScanArgs(t, "ago", &ago)
		if !s.Heard(id, uint32(ago)) {
			line("must not be confirmed")
		}
		line("%s", s.left(id))
	case "tick":
		n := 1
		if len(d.CmdArgs) > 0 {
			fmt.Sscan(d.CmdArgs[0].Key, &n)
		}
		for range n {
			s.Tick()
		}
		line("now %d, overdue %d", s.Now(), s.Overdue())
	case "due":
		by, most := int(s.Now()), 100
		d.MaybeScanArgs(t, "by", &by)
		d.MaybeScanArgs(t, "max", &most)
		for _, x := range s.Due(int64(by), most) {
			line("session %d epoch %d timeout %v", x.Session, x.Epoch, x.Timeout)
		}
	case "propose":
		s.Proposed([]op.Expiry{s.parse(t, d)})
	case "unpropose":
		s.Unproposed([]op.Expiry{s.parse(t, d)})
	case "show":
		for _, id := range s.ids() {
			line("%s", s.left(id))
		}
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	if out.Len() == 0 {
		return "ok\n"
	}
	return out.String()
}

// parse returns the session that the command names: as it was decided last, but for what the command says.
func (s *scenario) parse(t *testing.T, d *datadriven.TestData) op.Expiry {
	var id uint64
	if _, err := fmt.Sscan(d.CmdArgs[0].Key, &id); err != nil {
		d.Fatalf(t, "no session number: %v", err)
	}
	x, known := s.known[op.SessionID(id)]
	if !known {
		x = op.Expiry{Session: op.SessionID(id), Epoch: 1}
	}
	d.MaybeScanArgs(t, "epoch", &x.Epoch)
	if len(d.CmdArgs) > 1 {
		if timeout, err := time.ParseDuration(d.CmdArgs[1].Key); err == nil {
			x.Timeout = timeout
		}
	}
	return x
}

func (s *scenario) ids() []op.SessionID {
	var ids []op.SessionID
	for id := range s.known {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *scenario) left(id op.SessionID) string {
	ticks, ok := s.Left(id)
	if !ok {
		return fmt.Sprintf("session %d: unknown", id)
	}
	return fmt.Sprintf("session %d: %d ticks left", id, ticks)
}
