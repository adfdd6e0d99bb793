package api

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/session"
	"github.com/coord-kv/coord/watch"
)

// member is a cluster of one, without consensus and disks: the real state machine, event history and session tracker
// behind one mutex. What goes wrong in a cluster can be made to go wrong here.
type member struct {
	mu      sync.Mutex
	machine *fsm.Machine
	history *watch.History
	tracker *session.Tracker
	wall    op.Time
	age     uint64 // to be added with the next batch
	shown   shown
	follows map[*follower]bool
	changed chan struct{} // closed and replaced whenever shown changes
	metrics *Metrics      // nil: nobody counts

	// Trouble, changed with tell.
	status   op.Status
	refuse   *op.Error // answers every Do and every linearizable read
	silent   bool      // Do takes effect and never answers
	starting bool      // no state is fresh enough for anybody
	lagging  bool      // what is applied is not shown: eventual reads see an old state
	unproven bool      // keep-alives are never confirmed
	hurried  bool      // what would go on until a request's time is over ends at once, as if it were
	asked    int       // how often the status was asked for
}

// shown is what this member serves reads from.
type shown struct {
	view *fsm.View
	zxid op.Zxid
}

const tick = 100 * time.Millisecond

func newMember() *member {
	m := &member{
		machine: fsm.New(), tracker: session.NewTracker(tick), wall: 1_700_000_000_000, changed: make(chan struct{}),
		follows: make(map[*follower]bool),
		status: op.Status{
			Cluster: 0xc1, Member: 1, Name: "n1", Boot: 1, Ready: true, Leader: 1, Term: 3, Role: "leader", Uptime: time.Minute,
			Members: []op.MemberStatus{
				{ID: 1, Name: "n1", PeerAddr: "127.0.0.1:7071", Self: true, Leader: true, Up: true},
				{ID: 2, Name: "n2", PeerAddr: "127.0.0.2:7071", Up: true, Lag: 2, RTT: time.Millisecond, Sent: 9},
			},
		},
	}
	m.history = watch.New(watch.Limits{ChunkBytes: 256, TotalBytes: 2048}, nil, 0, 0)
	m.shown = shown{m.machine.View(), 0}
	return m
}

// tell changes the member while nobody looks.
func (m *member) tell(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	m.show()
}

// apply decides requests as one batch and publishes what came of it.
func (m *member) apply(rs ...*op.Request) []op.Result {
	done := m.machine.Apply(&op.Batch{Wall: m.wall, Age: m.age, Requests: rs})
	m.age = 0
	m.wall++
	for _, s := range done.Sessions {
		if s.Ended {
			m.tracker.Ended(s.ID)
		} else {
			m.tracker.Changed(s.ID, s.Epoch, s.Timeout)
		}
		for f := range m.follows {
			if f.id == s.ID {
				f.told(s)
			}
		}
	}
	if m.metrics != nil {
		m.metrics.Applied(m.machine.Zxid())
		for _, t := range done.Turns {
			m.metrics.Turn(t, m.wall, true)
		}
	}
	m.history.Publish(done.Events, m.machine.Zxid())
	m.show()
	return done.Results
}

func (m *member) show() {
	if m.lagging {
		return
	}
	m.shown = shown{m.machine.View(), m.machine.Zxid()}
	close(m.changed)
	m.changed = make(chan struct{})
}

// pass lets time pass: on the age clock, and tick by tick for the sessions.
func (m *member) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age += uint64(d / time.Millisecond)
	for range d / tick {
		m.tracker.Tick()
		if due := m.tracker.Due(m.tracker.Now(), 100); len(due) > 0 {
			m.tracker.Proposed(due)
			m.apply(&op.Request{Op: &op.Expire{Sessions: due}})
		}
	}
}

func (m *member) Do(ctx context.Context, r *op.Request) *op.Result {
	m.mu.Lock()
	if m.refuse != nil {
		defer m.mu.Unlock()
		return &op.Result{Err: m.refuse}
	}
	// The log stands in between: what the state machine gets has been encoded and decoded.
	batch, err := op.DecodeBatch((&op.Batch{Requests: []*op.Request{r}}).Append(nil))
	if err != nil {
		panic(err)
	}
	res := m.apply(batch.Requests...)[0]
	silent, over := m.silent, m.over(ctx)
	m.mu.Unlock()
	if silent {
		<-over
		return &op.Result{Err: &op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown}}
	}
	return &res
}

func (m *member) View(ctx context.Context, o op.ReadOptions) (*fsm.View, op.ReadInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o.MinZxid > m.machine.Zxid() {
		return nil, op.ReadInfo{}, &op.Error{Code: op.FutureZxid}
	}
	if o.Level == op.Linearizable && m.refuse != nil {
		return nil, op.ReadInfo{}, m.refuse
	}
	for m.behind(o) {
		if err := m.wait(ctx); err != nil {
			return nil, op.ReadInfo{}, err
		}
	}
	return m.shown.view, op.ReadInfo{Level: o.Level, Zxid: m.shown.zxid, Staleness: 12 * time.Millisecond}, nil
}

func (m *member) behind(o op.ReadOptions) bool {
	return m.starting || m.shown.zxid < o.MinZxid || o.Level == op.Linearizable && m.shown.zxid < m.machine.Zxid()
}

// wait waits for another state to be shown. The caller holds mu.
func (m *member) wait(ctx context.Context) error {
	changed, over := m.changed, m.over(ctx)
	m.mu.Unlock()
	defer m.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-over:
		return cmp.Or(ctx.Err(), context.DeadlineExceeded)
	}
}

// over is closed when a request's time is. Only a request that has a limit can be hurried. The caller holds mu.
func (m *member) over(ctx context.Context) <-chan struct{} {
	if _, limited := ctx.Deadline(); limited && m.hurried {
		now := make(chan struct{})
		close(now)
		return now
	}
	return ctx.Done()
}

func (m *member) Watch(f watch.Filter, from op.Zxid) (*watch.Stream, error) {
	return m.history.Subscribe(f, from)
}

func (m *member) KeepAlive(ctx context.Context, id op.SessionID) (time.Duration, error) {
	m.mu.Lock()
	unproven, over := m.unproven, m.over(ctx)
	m.mu.Unlock()
	if unproven {
		<-over
		return 0, cmp.Or(ctx.Err(), context.DeadlineExceeded)
	}
	if err := m.heard(id); err != nil {
		return 0, err
	}
	v, _, err := m.View(ctx, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return 0, err
	}
	s, _ := v.Session(id)
	return s.Timeout, nil
}

func (m *member) heard(id op.SessionID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tracker.Heard(id, 0) {
		return &op.Error{Code: op.SessionExpired}
	}
	return nil
}

func (m *member) TimeLeft(_ context.Context, id op.SessionID) (time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ticks, ok := m.tracker.Left(id)
	if !ok {
		return 0, &op.Error{Code: op.NoSession}
	}
	return time.Duration(ticks) * tick, nil
}

func (m *member) Status() op.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	st := m.status
	st.Zxid, st.Oldest = m.machine.Zxid(), m.history.Oldest()
	st.Staleness = 12 * time.Millisecond
	return st
}

// The ways without a wait. What is refused, silent or unproven is so here too.

func (m *member) DoLater(r *op.Request, done func(*op.Result)) func() bool {
	m.mu.Lock()
	silent := m.silent && m.refuse == nil
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a silent member then answers at once, and nobody is told
	if res := m.Do(ctx, r); !silent {
		done(res)
	}
	return func() bool { return false }
}

func (m *member) ViewLater(o op.ReadOptions, done func(*fsm.View, op.ReadInfo, error)) func() bool {
	ctx, cancel := context.WithCancel(context.Background())
	if o.Level == op.Eventual && o.MinZxid == 0 {
		done(m.View(ctx, o))
		cancel()
		return nil
	}
	go func() { done(m.View(ctx, o)) }()
	return func() bool { cancel(); return true }
}

func (m *member) ViewNow(o op.ReadOptions) (*fsm.View, op.ReadInfo, error, bool) {
	m.mu.Lock()
	waits := o.Level != op.Eventual || o.MinZxid != 0 || m.behind(o)
	m.mu.Unlock()
	if waits {
		return nil, op.ReadInfo{}, nil, false
	}
	v, info, err := m.View(context.Background(), o)
	return v, info, err, true
}

func (m *member) Drive() {}

func (m *member) KeepAliveLater(id op.SessionID, done func(error), timeout func(time.Duration, error)) {
	m.mu.Lock()
	unproven := m.unproven
	m.mu.Unlock()
	if unproven {
		return
	}
	err := m.heard(id)
	done(err)
	if err != nil || timeout == nil {
		return
	}
	m.ViewLater(op.ReadOptions{Level: op.Linearizable}, func(v *fsm.View, _ op.ReadInfo, err error) {
		var s fsm.Session
		if alive := false; err == nil {
			if s, alive = v.Session(id); !alive {
				err = &op.Error{Code: op.SessionExpired}
			}
		}
		timeout(s.Timeout, err)
	})
}

func (m *member) FollowSession(id op.SessionID, told func(fsm.SessionChange)) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &follower{id, told}
	m.follows[f] = true
	s, ok := m.machine.Session(id)
	told(fsm.SessionChange{ID: id, Epoch: s.Epoch, Timeout: s.Timeout, Ended: !ok})
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.follows, f)
	}
}

// follower is who follows a session.
type follower struct {
	id   op.SessionID
	told func(fsm.SessionChange)
}
