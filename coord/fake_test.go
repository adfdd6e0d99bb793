package coord

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// service is a stand-in for a cluster: it admits sequenced requests as the state machine does, remembers what took
// effect, and does to connections whatever its faults say. Its nodes are one list of the paths that were created.
type service struct {
	mu      sync.Mutex
	rng     *rand.Rand
	ttl     time.Duration
	zxid    op.Zxid
	next    uint64 // sequence number
	epoch   uint64
	nonce   uint64
	results map[uint64]*op.Result
	keys    map[string]*op.Result
	applied []string // paths created, in order
	session op.SessionID
	ended   bool
	down    bool // nobody can connect
	silent  bool // nothing is answered
	conns   map[*fakeLink]bool
	watches []*fakeWatch
	hellos  int

	// What goes wrong, in percent of the requests.
	cutBefore, cutAfter, refuse, unknown, lag int
}

type fakeWatch struct {
	l     *fakeLink
	id    uint64
	pos   op.Zxid
	await bool // it ends with an answer
}

func newService(seed uint64) *service {
	return &service{
		rng: rand.New(rand.NewPCG(seed, 1)), ttl: 15 * time.Second, next: 1, results: map[uint64]*op.Result{},
		keys: map[string]*op.Result{}, conns: map[*fakeLink]bool{}, zxid: 100,
	}
}

// client returns a Client of the service that doesn't dial.
func (s *service) client() *Client {
	cfg := &config{counters: newCounters(), float: s.float, dial: s.dial, log: noLog()}
	e, _ := parseEndpoint("fake", false)
	cfg.finder = &finder{configured: []endpoint{e}, float: s.float}
	return &Client{tree: tree{newEngine(context.Background(), cfg, nil)}, cfg: cfg}
}

func (s *service) float() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64()
}

var errDown = errors.New("connection refused")

func (s *service) dial(_ context.Context, _ target, alive func()) (link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errDown
	}
	l := &fakeLink{
		s: s, alive: alive, toServer: make(chan []byte), toClient: make(chan []byte, 1024), gone: make(chan struct{}),
	}
	s.conns[l] = true
	go l.serve()
	return l, nil
}

// fakeLink is one connection.
type fakeLink struct {
	s        *service
	alive    func()
	toServer chan []byte
	toClient chan []byte
	gone     chan struct{}
	once     sync.Once
	epoch    uint64
}

func (l *fakeLink) write(m []byte, _ time.Duration) error {
	select {
	case l.toServer <- slices.Clone(m):
		return nil
	case <-l.gone:
		return io.ErrClosedPipe
	}
}

func (l *fakeLink) read() ([]byte, error) {
	select {
	case m := <-l.toClient:
		return m, nil
	case <-l.gone:
		return nil, io.EOF
	}
}

func (l *fakeLink) ping(time.Duration) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if !l.s.silent {
		l.alive()
	}
	return nil
}

func (l *fakeLink) close() { l.once.Do(func() { close(l.gone) }) }

func (l *fakeLink) serve() {
	defer func() {
		l.s.mu.Lock()
		defer l.s.mu.Unlock()
		delete(l.s.conns, l)
		l.s.watches = slices.DeleteFunc(l.s.watches, func(w *fakeWatch) bool { return w.l == l })
	}()
	for {
		select {
		case m := <-l.toServer:
			d := frame.FromClient(m)
			for {
				f, err := d.Next()
				if err != nil {
					break
				}
				l.s.mu.Lock()
				l.s.handle(l, f)
				l.s.mu.Unlock()
			}
		case <-l.gone:
			return
		}
	}
}

// send delivers a frame, unless the connection is broken: after one that was not delivered comes no other.
func (l *fakeLink) send(f frame.Frame) {
	if l.s.silent || l.isGone() {
		return
	}
	select {
	case l.toClient <- frame.Append(nil, f):
	case <-l.gone:
	}
}

func (l *fakeLink) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

func (s *service) chance(percent int) bool { return s.rng.IntN(100) < percent }

func (s *service) handle(l *fakeLink, f frame.Frame) {
	if l.isGone() {
		return
	}
	switch f := f.(type) {
	case *frame.Hello:
		s.hello(l, f)
	case *frame.Write:
		s.write(l, f)
	case *frame.Read:
		if s.chance(s.cutBefore) {
			l.close()
			return
		}
		l.send(&frame.Reply{ID: f.ID, Info: op.ReadInfo{Zxid: s.zxid}, Result: &op.Result{Zxid: s.zxid, Stat: &op.Stat{}}})
	case *frame.Watch:
		s.watch(l, f, nil)
	case *frame.Await:
		s.watch(l, &frame.Watch{ID: f.ID, Path: f.Path, Start: frame.FromSince, Since: f.Since}, f.Op)
	case *frame.Unwatch:
		s.watches = slices.DeleteFunc(s.watches, func(w *fakeWatch) bool { return w.l == l && w.id == f.Watch })
		l.send(&frame.Reply{ID: f.ID, Result: &op.Result{}})
	case *frame.Ping:
		l.send(&frame.Pong{ID: f.ID, TTL: s.ttl})
	case *frame.Bye:
		if s.chance(5 * s.cutBefore) {
			l.close()
			return
		}
		if s.ended = true; s.chance(5 * s.cutAfter) {
			l.close()
			return
		}
		l.send(&frame.Reply{ID: f.ID, Result: &op.Result{}})
	}
}

func (s *service) hello(l *fakeLink, f *frame.Hello) {
	s.hellos++
	w := &frame.Welcome{ID: f.ID, Zxid: s.zxid, Message: 1 << 20, Requests: 64, Watches: 100, TTL: s.ttl}
	switch {
	case s.ended && f.Resume != nil:
		l.send(&frame.Failed{ID: f.ID, Err: &op.Error{Code: op.SessionExpired, Outcome: op.Decided}})
		return
	case f.Resume != nil:
		if f.Resume.Nonce != s.nonce {
			s.nonce = f.Resume.Nonce
			s.epoch++
		}
	case f.Open != nil:
		s.zxid++
		s.session, s.epoch, s.next = op.SessionID(s.zxid), 1, 1
	}
	if f.Open != nil || f.Resume != nil {
		w.Session, w.Epoch, w.NextSeq, l.epoch = s.session, s.epoch, s.next, s.epoch
	}
	l.send(w)
}

func (s *service) write(l *fakeLink, f *frame.Write) {
	refusal := func(code op.Code) {
		l.send(&frame.Reply{ID: f.ID, Result: &op.Result{Err: op.Errorf(code, "a fault")}})
	}
	switch {
	case s.chance(s.cutBefore):
		l.close()
		return
	case s.chance(s.refuse) && (f.Seq == 0 || f.Seq >= s.next): // what was decided is never refused
		refusal(op.Overloaded)
		return
	case s.chance(s.unknown):
		if s.chance(50) {
			s.decide(l, f)
		}
		l.send(&frame.Reply{ID: f.ID, Result: &op.Result{Err: &op.Error{Code: op.OutcomeUnknown, Outcome: op.Unknown}}})
		return
	}
	res := s.decide(l, f)
	if s.chance(s.cutAfter) {
		l.close()
		return
	}
	l.send(&frame.Reply{ID: f.ID, Info: op.ReadInfo{Zxid: res.Zxid}, Result: res})
}

// decide is what the state machine does.
func (s *service) decide(l *fakeLink, f *frame.Write) *op.Result {
	if f.Seq != 0 {
		for n := range s.results {
			if n < f.Ack {
				delete(s.results, n)
			}
		}
		res, ok := s.results[f.Seq]
		switch {
		case s.ended:
			return &op.Result{Err: &op.Error{Code: op.SessionExpired, Outcome: op.Decided}}
		case ok:
			return res
		case f.Seq < s.next:
			return &op.Result{Err: &op.Error{Code: op.OutOfOrder, Outcome: op.Unknown}}
		case l.epoch != s.epoch:
			return &op.Result{Err: op.Errorf(op.Superseded, "an old attachment")}
		case f.Seq > s.next:
			return &op.Result{Err: op.Errorf(op.OutOfOrder, "%d is next", s.next)}
		}
	}
	if f.Key != "" && s.keys[f.Key] != nil {
		return s.keys[f.Key]
	}
	res := s.apply(f.Op)
	if f.Seq != 0 {
		s.results[f.Seq] = res
		s.next++
	}
	if f.Key != "" {
		s.keys[f.Key] = res
	}
	return res
}

func (s *service) apply(o op.Op) *op.Result {
	s.zxid++
	create := o.(*op.Create)
	if create.Path == "/bad" {
		return &op.Result{Zxid: s.zxid, Err: &op.Error{Code: op.NodeExists, Outcome: op.Decided, Zxid: s.zxid}}
	}
	s.applied = append(s.applied, create.Path)
	for _, w := range slices.Clone(s.watches) {
		s.deliver(w)
	}
	return &op.Result{Zxid: s.zxid, Path: create.Path, Stat: &op.Stat{Czxid: s.zxid, Mzxid: s.zxid}}
}

// watch begins a watch, or an await of what o reads.
func (s *service) watch(l *fakeLink, f *frame.Watch, o op.Op) {
	w := &fakeWatch{l: l, id: f.ID, pos: s.zxid, await: o != nil}
	switch f.Start {
	case frame.FromSince:
		w.pos = f.Since
	case frame.FromInitial:
		s.initial(w)
	}
	if w.pos == 1 {
		l.send(&frame.Failed{ID: f.ID, Err: &op.Error{Code: op.HistoryGone, Oldest: 100}})
		return
	}
	if !w.await {
		l.send(&frame.Watching{Watch: f.ID, Pos: w.pos})
	}
	s.watches = append(s.watches, w)
	s.deliver(w)
}

func (s *service) initial(w *fakeWatch) {
	for i, path := range s.applied {
		if s.chance(s.cutBefore) {
			w.l.close()
		}
		more := i+1 < len(s.applied)
		w.l.send(&frame.Initial{Watch: w.id, Pos: s.zxid, Nodes: []op.Node{{Path: path}}, More: more})
	}
	if len(s.applied) == 0 {
		w.l.send(&frame.Initial{Watch: w.id, Pos: s.zxid})
	}
}

// deliver sends what the watch hasn't got. The i-th creation has zxid 102+i if nothing else was decided.
func (s *service) deliver(w *fakeWatch) {
	if w.await {
		s.answer(w)
		return
	}
	if s.chance(s.lag) {
		s.watches = slices.DeleteFunc(s.watches, func(x *fakeWatch) bool { return x == w })
		w.l.send(&frame.Ended{Watch: w.id, Pos: w.pos, Err: op.Errorf(op.Overloaded, "the watch lags")})
		return
	}
	from := w.pos
	w.pos = s.zxid
	f := &frame.Events{Watch: w.id, Pos: w.pos}
	for z := max(from+1, 101); z <= w.pos; z++ {
		if i := int(z - 101); i < len(s.applied) {
			f.Events = append(f.Events, frame.Event{
				Event: op.Event{Zxid: z, Type: op.Created, Path: s.applied[i]}, HasData: true, Data: make([]byte, 1000),
			})
		}
	}
	if len(f.Events) > 0 {
		w.l.send(f)
	}
}

// answer answers an await, if something has been created since.
func (s *service) answer(w *fakeWatch) {
	if w.pos >= s.zxid {
		return
	}
	s.watches = slices.DeleteFunc(s.watches, func(x *fakeWatch) bool { return x == w })
	res := &op.Result{Zxid: s.zxid, Stat: &op.Stat{}}
	if s.chance(s.lag) {
		res = &op.Result{Err: op.Errorf(op.Overloaded, "no room for the answer")}
	}
	w.l.send(&frame.Reply{ID: w.id, Info: op.ReadInfo{Zxid: s.zxid}, Result: res})
}

// cut breaks all connections.
func (s *service) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.conns {
		l.close()
	}
}

func (s *service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *service) paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.applied)
}

func count(list []string, path string) (n int) {
	for _, x := range list {
		if x == path {
			n++
		}
	}
	return n
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func name(i, j int) string { return fmt.Sprintf("/%d-%d", i, j) }
