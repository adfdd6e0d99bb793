package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/coord-kv/coord/op"
)

// Schedule is something that is run once in each period, as all agree who run it.
type Schedule struct {
	Dir        string
	Every      time.Duration
	AtMostOnce bool
}

// Run is a run that somebody was told to have begun.
type Run struct {
	Of      *Schedule
	Client  int
	Session op.SessionID
	Token   op.Zxid
	Told    Moment
	Lost    Moment // when the client stopped to believe in its session
	Over    Moment // when it had done its work, and said so
	Failed  bool   // what it said
	Acked   bool   // it was told that this is recorded
}

func (r *Run) String() string {
	return fmt.Sprintf("client %d in %v, told that it runs %s with the token %d", r.Client, r.Session, r.Of.Dir, r.Token)
}

// Skip is an answer that there is nothing to do, from the state that Zxid names.
type Skip struct {
	Of      *Schedule
	Client  int
	Running bool // somebody runs it; else it was run in this period
	Zxid    op.Zxid
}

// ran is a run as the log has it.
type ran struct {
	token   op.Zxid
	session op.SessionID
	age     uint64 // of the state when it began
	ended   bool   // with a record
	failed  bool
}

// counts reports whether nothing may be begun in the period of this run.
func (r *ran) counts(s *Schedule) bool { return r.ended && !r.failed || s.AtMostOnce && !r.failed }

// Periods checks that nothing is begun in the period of a run that was finished, or with AtMostOnce of one that was begun,
// unless it had failed; that whoever was told that it runs it had begun it, in its session, and nobody else did before it
// had done its work or stopped to believe in its session; that what it said of the end is recorded; and that whoever was
// told that there is nothing to do was told so in a state in which that was right.
func Periods(h *History) error {
	runs, skips := map[string][]*ran{}, map[op.Zxid][]*Skip{}
	schedules := map[string]*Schedule{}
	for _, s := range h.Small.Schedules {
		schedules[s.Dir] = s
	}
	for _, s := range h.Small.Skips {
		skips[s.Zxid] = append(skips[s.Zxid], s)
	}
	ns := NewNamespace()
	for d := range h.Replay(ns) {
		for _, e := range d.Events {
			s := schedules[op.Parent(e.Path)]
			if s == nil || op.Base(e.Path) != "run" {
				continue
			}
			if e.Type == op.Created {
				r := &ran{token: e.Zxid, session: ns.nodes[e.Path].owner, age: ns.age}
				if err := r.mayBegin(s, runs[s.Dir]); err != nil {
					return err
				}
				runs[s.Dir] = append(runs[s.Dir], r)
			} else if e.Type == op.Deleted {
				ns.ends(runs[s.Dir], d.Events, s.Dir+"/last")
			}
		}
		if d.Fresh {
			for _, s := range skips[ns.Zxid()] {
				if err := ns.skips(s, runs[s.Of.Dir]); err != nil {
					return err
				}
			}
		}
	}
	return h.runs(runs)
}

func (r *ran) mayBegin(s *Schedule, before []*ran) error {
	for _, o := range before {
		if over := o.age + uint64(s.Every.Milliseconds()); o.counts(s) && r.age < over {
			return fmt.Errorf("%s was begun at zxid %d, %d ms before the period was over of its run %d", s.Dir, r.token, over-r.age, o.token)
		}
	}
	return nil
}

// ends takes in the end of the last run, which has a record if that was written with it.
func (n *Namespace) ends(runs []*ran, events []op.Event, record string) {
	if !slices.ContainsFunc(events, func(e op.Event) bool { return e.Path == record }) || len(runs) == 0 {
		return
	}
	r := runs[len(runs)-1]
	var last struct {
		Token  op.Zxid
		Failed bool
	}
	if err := json.Unmarshal(n.nodes[record].data, &last); err == nil && last.Token == r.token {
		r.ended, r.failed = true, last.Failed
	}
}

// skips checks in the state of an answer that it is right.
func (n *Namespace) skips(s *Skip, runs []*ran) error {
	running := !n.missing(s.Of.Dir + "/run")
	what := fmt.Sprintf("client %d was told at zxid %d that %s", s.Client, s.Zxid, s.Of.Dir)
	switch {
	case s.Running && !running:
		return fmt.Errorf("%s is run, and nobody ran it", what)
	case !s.Running && (len(runs) == 0 || !runs[len(runs)-1].counts(s.Of) || n.missing(s.Of.Dir+"/period")):
		return fmt.Errorf("%s was run in this period, and it wasn't", what)
	}
	return nil
}

// runs checks what clients were told against the log.
func (h *History) runs(logged map[string][]*ran) error {
	var told []*Run
	for _, r := range h.Small.Runs {
		i := slices.IndexFunc(logged[r.Of.Dir], func(o *ran) bool { return o.token == r.Token && o.session == r.Session })
		if i < 0 {
			return fmt.Errorf("%v, which was never begun", r)
		}
		in := logged[r.Of.Dir][i]
		switch {
		case !r.Lost.Never() && r.Lost.Order < r.Told.Order:
			return fmt.Errorf("%v at %v, after its session was lost at %v", r, r.Told.At, r.Lost.At)
		case r.Acked && (!in.ended || in.failed != r.Failed):
			return fmt.Errorf("%v, and that its end is recorded, which it isn't", r)
		}
		for _, o := range told {
			if o.Of == r.Of && o.during(r) {
				return fmt.Errorf("%v at %v, while it was run by client %d since %v", r, r.Told.At, o.Client, o.Told.At)
			}
		}
		told = append(told, r)
	}
	return nil
}

// during reports whether the client still believed in its run when another one was told of its own, or the other way round.
func (r *Run) during(o *Run) bool { return r.believes(o.Told) || o.believes(r.Told) }

func (r *Run) believes(at Moment) bool {
	end := r.Over
	if end.Never() || !r.Lost.Never() && r.Lost.Order < end.Order {
		end = r.Lost
	}
	return r.Told.Order < at.Order && (end.Never() || at.Order < end.Order)
}
