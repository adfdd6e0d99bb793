package check

import (
	"fmt"

	"github.com/coord-kv/coord/op"
)

// Answers checks that every answer that was decided is one that the log, decided anew, gives to the same attempt; or, to a
// repetition that never reached the log because its member knew the answer, the first one given. An attempt stands in the log
// more than once if its member has sent it again, because a snapshot took the place of the entry that had the answer: then
// each answer is that of the first, unless nothing keeps it any more, as after the end of the session.
func Answers(h *History) error {
	byTag, first := answers(h)
	for _, c := range h.Calls {
		for _, a := range c.Attempts {
			if a.Result == nil || a.Result.Err != nil && a.Result.Err.Outcome == op.Unknown {
				continue
			}
			if err := answered(c, a, byTag, first); err != nil {
				return err
			}
		}
	}
	return nil
}

// onceID is what makes repetitions of a request one request: its sequence number or its key.
type onceID struct {
	session op.SessionID
	seq     uint64
	key     keyID
}

func idOf(r *op.Request) (onceID, bool) {
	switch {
	case r.Seq != 0:
		return onceID{session: r.Session, seq: r.Seq}, true
	case r.Key != nil:
		return onceID{key: keyID{r.Key.Principal, r.Key.Key}}, true
	}
	return onceID{}, false
}

// answers decides the log, and returns the decisions by the attempt that asked for them and, of what is done only once,
// the first that took effect.
func answers(h *History) (byTag map[op.Tag][]*Decision, first map[onceID]*Decision) {
	byTag, first = map[op.Tag][]*Decision{}, map[onceID]*Decision{}
	for d := range h.Replay(NewNamespace()) {
		if d.Request.Tag.Call == 0 {
			continue
		}
		byTag[d.Request.Tag] = append(byTag[d.Request.Tag], d)
		if id, ok := idOf(d.Request); ok && d.Fresh && first[id] == nil {
			first[id] = d
		}
	}
	return byTag, first
}

func answered(c *Call, a Attempt, byTag map[op.Tag][]*Decision, first map[onceID]*Decision) error {
	decided := byTag[a.Tag]
	refused := a.Result.Err != nil && a.Result.Err.Outcome == op.Refused
	if id, _ := idOf(c.Request); len(decided) == 0 && !refused && first[id] != nil {
		decided = []*Decision{first[id]}
	}
	if len(decided) == 0 && !refused {
		return fmt.Errorf("%v was answered with zxid %d, but is not in the log", c, a.Result.Zxid)
	}
	var wrong error
	for _, d := range decided {
		diff := differ(a.Result, &d.Result)
		switch {
		case refused && d.Fresh:
			return fmt.Errorf("%v was refused with %s, but is in the log with zxid %d", c, code(a.Result), d.Result.Zxid)
		case refused:
		case diff == "":
			return nil
		case wrong == nil:
			wrong = fmt.Errorf("%v was answered with %s, by entry %d of the log", c, diff, d.Entry.Index)
		}
	}
	return wrong
}
