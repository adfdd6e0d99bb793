package check

import (
	"fmt"
	"testing"
	"time"

	"github.com/coord-kv/coord/op"
)

// nightly is a story about something at /n that is run once in ten seconds, each of which is one decision: client 1 has run
// it, and client 2 was told so.
type nightly struct {
	*story
	of   *Schedule
	run  *Run
	skip *Skip
}

func newNightly(t *testing.T) *nightly {
	n := &nightly{story: newStory(t), of: &Schedule{Dir: "/n", Every: 10 * time.Second}}
	n.h.Small.Schedules = []*Schedule{n.of}
	n.create("/n", "")
	n.run = n.begins(1)
	n.skips(2, true)
	n.ends(n.run, false)
	n.skip = n.skips(2, false)
	n.accepts()
	return n
}

func (n *nightly) begins(client int) *Run {
	id := n.open(client)
	ops := []op.Op{
		&op.Create{Path: "/n/period", Kind: op.TTL, TTL: n.of.Every}, &op.Create{Path: "/n/run", Kind: op.Ephemeral},
	}
	if !n.ns.missing("/n/period") {
		ops = append([]op.Op{&op.Delete{Path: "/n/period", If: op.Always}}, ops...)
	}
	token := n.do(client, &op.Request{Session: id, Op: &op.Txn{Then: ops}}).Result.Zxid
	r := &Run{Of: n.of, Client: client, Session: id, Token: token, Told: n.now()}
	n.h.Small.Runs = append(n.h.Small.Runs, r)
	return r
}

func (n *nightly) ends(r *Run, failed bool) {
	r.Over, r.Failed, r.Acked = n.now(), failed, true
	n.write(r.Client, &op.Txn{Then: []op.Op{
		&op.Delete{Path: "/n/run", If: op.Always},
		&op.Create{Path: "/n/last", Data: fmt.Appendf(nil, `{"token":"%d","failed":%t}`, r.Token, failed), Replace: true},
	}})
}

func (n *nightly) dies(r *Run) {
	r.Lost = n.now()
	n.do(r.Client, &op.Request{Session: r.Session, Op: &op.CloseSession{Session: r.Session}})
}

func (n *nightly) skips(client int, running bool) *Skip {
	s := &Skip{Of: n.of, Client: client, Running: running, Zxid: n.ns.Zxid()}
	n.h.Small.Skips = append(n.h.Small.Skips, s)
	return s
}

// wait is as many decisions as there are seconds.
func (n *nightly) wait(seconds int) {
	for range seconds {
		n.set("/n", "")
	}
}

func TestPeriods(t *testing.T) {
	for why, doctor := range map[string]func(n *nightly){
		"before the period was over of its run":        func(n *nightly) { n.begins(2) },
		"which was never begun":                        func(n *nightly) { n.run.Token++ },
		"client 1 in s-63, told that it runs /n":       func(n *nightly) { n.run.Session = 0x63 },
		"after its session was lost at":                func(n *nightly) { n.run.Lost = Moment{n.run.Told.Order - 1, 0} },
		"and that its end is recorded, which it isn't": func(n *nightly) { n.run.Failed = true },
		"is run, and nobody ran it":                    func(n *nightly) { n.skip.Running = true },
		"in this period, and it wasn't":                func(n *nightly) { n.skip.Zxid-- },
		"while it was run by client 1 since": func(n *nightly) {
			n.wait(10)
			n.run.Over = Moment{}
			n.begins(2)
		},
	} {
		n := newNightly(t)
		doctor(n)
		n.rejects(Periods, why)
	}

	// It may be begun again after the period; in it, what has failed, and what somebody began who died.
	n := newNightly(t)
	n.wait(8)
	r := n.begins(2)
	n.ends(r, true)
	r = n.begins(1)
	n.dies(r)
	r = n.begins(2)
	n.ends(r, false)
	n.accepts()

	// Not so if it is to be done at most once.
	n = newNightly(t)
	n.of.AtMostOnce = true
	n.wait(8)
	n.dies(n.begins(1))
	n.skips(2, false)
	n.accepts()
	n.begins(2)
	n.rejects(Periods, "before the period was over of its run")
}
