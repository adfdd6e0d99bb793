package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/coord-kv/coord/internal/check"
	"github.com/coord-kv/coord/internal/recipe"
	"github.com/coord-kv/coord/internal/registry"
	"github.com/coord-kv/coord/op"
)

// Report is what came of a run.
type Report struct {
	Profile Profile
	Count   Counters
	Trace   uint64 // hash of everything that happened
	Lines   int
	Failed  error // what must not happen and did, nil if all is well
}

// What a healed cluster may take, in simulated time.
const (
	recoveryBound = 30 * time.Second
	expiryBound   = 5 * time.Second
	restTime      = 25 * time.Second // for sessions to end and watchers to catch up
)

// Run plays the history of a profile and judges it. The trace is written to out, unless that is nil. Randomness that
// raft draws from crypto/rand is the caller's to seed.
func Run(p Profile, out io.Writer) Report {
	w := newWorld(p, out)
	defer func() {
		for _, t := range w.tasks {
			t.stop()
		}
	}()
	w.populate()
	w.run(p.Active, nil)
	w.calm()
	w.recover()
	w.finish()
	r := Report{Profile: p, Count: w.count, Trace: w.trace.sum.Sum64(), Lines: w.trace.lines, Failed: w.failed}
	for _, c := range check.Checkers() {
		if r.Failed != nil {
			break
		}
		if err := c.Check(w.history); err != nil {
			r.Failed = fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return r
}

func (w *world) populate() {
	r := rand.New(rand.NewPCG(w.profile.Seed, 1))
	for i := range w.profile.Members {
		m := &member{w: w, index: i, id: r.Uint64() | 1, entries: map[uint64]*raftpb.Entry{}, drift: (r.Float64() - 0.5) / 5000}
		m.disk = newDisk(w)
		w.members = append(w.members, m)
	}
	w.net.connect(w.members)
	for _, m := range w.members {
		w.after(w.between(0, 100*time.Millisecond), m.start)
	}
	w.spawn(func(t *task) {
		c := w.newClient(t, 0)
		for {
			res := c.write(&op.Request{Op: &op.Create{Path: "/queue"}})
			if res != nil && (res.Err == nil || res.Err.Code == op.NodeExists) {
				return
			}
			c.move()
		}
	})
	for id := range w.profile.Clients {
		w.spawn(func(t *task) { w.newClient(t, 1+3*id).wander() })
		w.spawn(func(t *task) { w.newClient(t, 2+3*id).hold() })
		if id < 2 {
			w.spawn(func(t *task) { w.newClient(t, 3+3*id).follow() })
		}
	}
	for id := range w.profile.Contenders {
		w.spawn(func(t *task) { w.newClient(t, 500+id).contend() })
	}
	if w.profile.Contenders > 0 {
		w.spawn(func(t *task) { w.newClient(t, 600).observe() })
	}
	for id := range w.profile.Workers {
		w.spawn(func(t *task) { w.newClient(t, 700+id).work() })
		w.spawn(func(t *task) { w.newClient(t, 750+id).keepSchedules() })
	}
	if w.profile.Workers > 0 {
		w.spawn(func(t *task) { w.newClient(t, 800).attend() })
	}
	for id := range w.profile.Providers {
		w.spawn(func(t *task) { w.newClient(t, 850+id).provide() })
	}
	if w.profile.Providers > 0 {
		w.spawn(func(t *task) { w.newClient(t, 900).discover(registry.Query{}) })
		w.spawn(func(t *task) { w.newClient(t, 901).discover(registry.Query{Passing: true}) })
	}
	for id := range w.profile.Configurers {
		w.spawn(func(t *task) { w.newClient(t, 950+id).configure() })
	}
	if w.profile.Configurers > 0 {
		one, two := &bound{id: 980}, &bound{id: 982}
		w.spawn(func(t *task) { w.newClient(t, 980).bind(one) })
		w.spawn(func(t *task) { w.newClient(t, 981).bind(one) })
		w.spawn(func(t *task) { w.newClient(t, 982).bind(two) })
	}
	w.spawn(w.trouble)
}

// recover waits for the members to agree, and probes them.
func (w *world) recover() {
	rec := &w.history.Recovery
	rec.Bound, rec.Expiry = recoveryBound, expiryBound
	w.run(w.now+recoveryBound, w.equal)
	if !w.equal() {
		return
	}
	rec.Equal = w.moment()
	for i, m := range w.members {
		w.spawn(func(t *task) {
			c := &client{task: t, id: 1000 + i, at: m}
			path := fmt.Sprintf("/probe%d", i)
			key := &op.Key{Principal: "world", Key: path} // so that it is repeated when its answer is lost
			if res := c.write(&op.Request{Op: &op.Create{Path: path}, Key: key}); res != nil && res.Err == nil {
				rec.Probed = w.moment()
			}
		})
	}
	w.run(w.now+restTime, nil)
}

// equal reports whether all members live, know the same leader, have applied the same, and have the right state.
func (w *world) equal() bool {
	first := w.members[0].life
	for _, m := range w.members {
		l := m.life
		if l == nil || first == nil || l.core.Leader() == 0 || l.core.Leader() != first.core.Leader() || l.core.Applied() != first.core.Applied() || l.turning || m.flipped {
			return false
		}
	}
	return true
}

// finish records how the members ended.
func (w *world) finish() {
	h := w.history
	h.Recovery.End = w.moment()
	w.count.Decisions = len(h.Log)
	for _, m := range w.members {
		if m.life == nil {
			continue
		}
		s := m.life.core.Machine()
		f := check.Final{Member: m.id, Index: m.life.core.Applied(), Zxid: s.Zxid()}
		for after, more := "", true; more && w.failed == nil; {
			res := s.Read(&op.Subtree{Path: "/", After: after}, []op.Identity{{Scheme: "super"}})
			if more = res.More && len(res.Nodes) > 0; more {
				after = res.Nodes[len(res.Nodes)-1].Path
			}
			f.Nodes = append(f.Nodes, res.Nodes...)
		}
		for s := range s.Sessions(0) {
			f.Sessions = append(f.Sessions, s.ID)
		}
		h.Finals = append(h.Finals, f)
	}
	w.countDelays()
	for _, e := range h.Log {
		if b, err := op.DecodeBatch(e.Data); len(e.Data) > 0 && err == nil {
			for _, r := range b.Requests {
				if r.Op.Verb() == op.VerbExpire {
					w.count.Expired++
				}
			}
		}
	}
}

// countDelays counts the locks that a holder has left closed, and those that the same owner has opened by taking them.
func (w *world) countDelays() {
	for d := range w.history.Replay(check.NewNamespace()) {
		for _, e := range d.Events {
			dir, name := path.Split(e.Path)
			switch {
			case e.Kind != op.TTL || !strings.HasPrefix(dir, recipe.LocksDir+"/") || !strings.Contains(name, "lock-") && !strings.Contains(name, "__WRIT__"):
			case e.Type == op.Changed:
				w.count.Delayed++
			case e.Type == op.Deleted && d.Request.Session != 0 && holds(d.Request.Op):
				w.count.Spared++
			}
		}
	}
}

// holds reports whether an operation is granted a lock, after it has waited.
func holds(o op.Op) bool {
	x, ok := o.(*op.Txn)
	return ok && slices.ContainsFunc(x.Then, func(o op.Op) bool { return o.Verb() == op.VerbHolder })
}
