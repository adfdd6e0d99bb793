package coord

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coord-kv/coord/coord/internal/dialing"
	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// engine keeps one connection to the service, for a Client or for a Session, and moves what is under way from one
// connection to the next. It has one goroutine as long as it lives, which connects and reads, and another one as long
// as it is connected, which writes.
type engine struct {
	cfg  *config
	life context.Context // ends with the engine; its cause says why
	end  context.CancelCauseFunc
	done chan struct{} // closed when the engine's goroutines have ended

	wake  chan struct{} // there may be something to send; has room for one
	heard atomic.Int64  // when the member last gave a sign of life, in nanoseconds since born
	born  time.Time

	open   *frame.Open // how to open the session; nil for a Client
	states chan State  // of a session: the latest that nobody has taken yet; closed with the engine

	mu       sync.Mutex
	p        *pipeline
	ended    error         // set once
	link     link          // nil while there is none
	joined   chan struct{} // closed at the first connection
	demand   int           // callers that wait for joined
	hello    time.Time     // when the first frame of this connection was sent
	probed   time.Time     // when the member was last asked for a sign of life
	pinged   time.Time     // when the last sign of life of the session was sent
	held     time.Time     // nothing is sent before: something was refused
	leaving  time.Time     // when to leave the member at the latest, since it says so; zero if it doesn't
	failures int           // in a row, without an answer in between
	trouble  error         // the last one
	failed   string        // address that failed last
	cluster  uint64        // that was last connected to
	seen     op.Zxid       // the newest position that an answer of it has shown

	// Of a session.
	session op.SessionID
	nonce   uint64    // of the attachment under way; kept until it is answered, so that a late answer is of the same one
	nonced  time.Time // when it was first sent
	lease   lease
	expiry  *time.Timer
	phase   Phase
}

const (
	// clientSilence is how long a member may say nothing while a Client waits for it, before it is asked for a sign of
	// life, and again before it is left.
	clientSilence = 5 * time.Second
	clientWrite   = 15 * time.Second
	// batchBytes is what is put into one message, unless a frame alone is longer.
	batchBytes = 64 << 10
	dialTime   = 3 * time.Second
	helloTime  = 10 * time.Second
	leaveTime  = 2 * time.Second
)

// newEngine starts an engine. values are those that the session's context has.
func newEngine(values context.Context, cfg *config, open *frame.Open) *engine {
	life, end := context.WithCancelCause(context.WithoutCancel(values))
	e := &engine{
		cfg: cfg, life: life, end: end, open: open, born: time.Now(), done: make(chan struct{}), joined: make(chan struct{}),
		wake: make(chan struct{}, 1), states: make(chan State, 1), p: newPipeline(open != nil), phase: Suspended,
	}
	go e.run()
	return e
}

func (e *engine) alive() { e.heard.Store(int64(time.Since(e.born))) }

func (e *engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run connects as long as a connection is wanted.
func (e *engine) run() {
	defer close(e.done)
	defer close(e.states)
	for e.life.Err() == nil {
		if !e.wanted() {
			select {
			case <-e.wake:
			case <-e.life.Done():
			}
			continue
		}
		if l := e.connect(); l != nil {
			e.serve(l)
		}
	}
}

func (e *engine) wanted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.session != 0 || e.demand > 0 || e.p.busy()
}

// connect tries every address once, after a pause that grows with the failures. It returns nil if none was good.
func (e *engine) connect() link {
	e.mu.Lock()
	failures, failed := e.failures, e.failed
	e.mu.Unlock()
	if failures > 0 && !e.sleep(backoff(failures, e.patience(), e.cfg.float)) {
		return nil
	}
	var errs []error
	for _, t := range e.cfg.finder.round(e.life, failed) {
		l, err := e.try(t)
		if err == nil {
			return l
		}
		if e.life.Err() != nil {
			return nil
		}
		if ends(err) {
			e.fail(err)
			return nil
		}
		errs = append(errs, err)
		e.cfg.log.Debug("couldn't connect", "endpoint", t.endpoint.String(), "addr", t.addr, "err", err)
	}
	e.outOfReach(errs)
	return nil
}

// ends reports whether an answer to hello says that this session is no more.
func ends(err error) bool {
	return errors.Is(err, ErrSessionExpired) || errors.Is(err, &Error{Code: op.NoSession})
}

// outOfReach notes that no address was good. Where all of them refuse who asks, asking again is useless for whoever
// begins; a session that stands goes on trying as long as it lives.
func (e *engine) outOfReach(errs []error) {
	why := fmt.Errorf("couldn't reach any member: %w", errors.Join(errs...))
	final := !slices.ContainsFunc(errs, func(err error) bool {
		return !errors.Is(err, ErrDenied) && !errors.Is(err, ErrUnauthenticated)
	})
	e.mu.Lock()
	e.failures++
	e.trouble = why
	fresh := isOpen(e.joined)
	e.mu.Unlock()
	e.cfg.log.Warn("no member can be reached", "err", why)
	if final && fresh && len(errs) > 0 {
		e.fail(why)
	}
}

func isOpen(ch chan struct{}) bool {
	select {
	case <-ch:
		return false
	default:
		return true
	}
}

// patience bounds the pauses of a session, which has no more time than its timeout.
func (e *engine) patience() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == 0 {
		return backoffCap
	}
	return e.lease.ttl / 8
}

func (e *engine) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.life.Done():
		return false
	}
}

// try connects to one address and greets it.
func (e *engine) try(t target) (link, error) {
	if t.err != nil {
		return nil, fmt.Errorf("%s: %w", t.endpoint, t.err)
	}
	connecting, greeting := dialTime, helloTime
	if e.isSession() {
		connecting = min(dialTime, max(e.lease.ttl/6, 500*time.Millisecond))
		greeting = max(e.lease.ttl/3, time.Second)
	}
	ctx, cancel := context.WithTimeout(e.life, connecting)
	defer cancel()
	l, err := e.cfg.dial(dialing.For(ctx, e.sessionName), t, e.alive)
	if err != nil {
		return nil, err
	}
	if err := e.greet(l, t, greeting); err != nil {
		l.close()
		return nil, fmt.Errorf("%s: %w", t.endpoint, err)
	}
	return l, nil
}

func (e *engine) isSession() bool { return e.sessionName() != "" }

// sessionName returns the id of the session, "" if there is none yet.
func (e *engine) sessionName() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == 0 {
		return ""
	}
	return e.session.String()
}

// greet says hello and takes the answer in.
func (e *engine) greet(l link, t target, limit time.Duration) error {
	timer := time.AfterFunc(limit, l.close)
	defer timer.Stop()
	defer context.AfterFunc(e.life, l.close)()
	sent := time.Now()
	if err := l.write(frame.Append(nil, e.greeting()), limit); err != nil {
		return err
	}
	w, err := e.welcome(l)
	if err != nil {
		return err
	}
	if !timer.Stop() {
		return errors.New("it didn't answer in time")
	}
	e.attach(l, t, w, sent)
	return nil
}

// greeting returns the frame to begin a connection with.
func (e *engine) greeting() *frame.Hello {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := &frame.Hello{ID: e.p.id(), Client: clientName, Credentials: e.cfg.credentials}
	switch {
	case e.session != 0:
		if e.nonce == 0 {
			e.nonce, e.nonced = newNonce(), time.Now()
		}
		h.Resume = &frame.Resume{Session: e.session, Secret: e.open.Secret, Nonce: e.nonce}
	case e.open != nil:
		open := *e.open
		h.Open = &open
		if e.open.Identity != "" {
			e.open.ProofSecret = e.open.Secret // if the answer is lost, there may be such a session
		}
	}
	return h
}

const clientName = "coord-go"

func newNonce() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// welcome waits for the answer to hello.
func (e *engine) welcome(l link) (*frame.Welcome, error) {
	message, err := l.read()
	if err != nil {
		return nil, err
	}
	f, err := frame.FromServer(message).Next()
	if err != nil {
		return nil, err
	}
	switch f := f.(type) {
	case *frame.Welcome:
		return f, nil
	case *frame.Failed:
		return nil, f.Err
	case *frame.SessionEnded:
		return nil, f.Err
	}
	return nil, fmt.Errorf("it answered hello by %s", f.Kind())
}

// attach begins to use a connection.
func (e *engine) attach(l link, t target, w *frame.Welcome, sent time.Time) {
	e.cfg.finder.learn(w.Endpoints)
	e.alive()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil {
		return
	}
	e.link, e.hello, e.probed, e.pinged, e.leaving, e.held = l, sent, sent, sent, time.Time{}, time.Time{}
	e.cfg.counters.connections.Add(1)
	e.failed = t.addr // where not to begin when it breaks
	proven := sent
	if e.nonce != 0 {
		proven = e.nonced // the attachment may have been decided long before it was answered
	}
	e.nonce = 0
	e.knowCluster(w)
	e.seen = max(e.seen, w.Zxid)
	e.p.attached(w)
	if e.open != nil {
		e.session = w.Session
		e.lease.begun(proven, w.TTL)
		e.watchExpiry()
		e.tellPhase()
	}
	if isOpen(e.joined) {
		close(e.joined)
	}
	e.cfg.log.Debug("connected", "endpoint", t.endpoint.String(), "member", w.Member, "session", w.Session)
}

// knowCluster ends what waits for answers of another cluster than the one that is there now, at the same endpoints: its
// positions and its answers mean nothing here, and waiting for a position of it would last for ever.
func (e *engine) knowCluster(w *frame.Welcome) {
	before := e.cluster
	e.cluster = w.Cluster
	if before == 0 || before == w.Cluster {
		return
	}
	e.cfg.log.Warn("another cluster is there than before", "cluster", w.Cluster, "before", before)
	e.seen = 0
	e.p.end(&Error{Code: op.ClusterChanged, Detail: "at these endpoints there is another cluster than before"})
}

// serve uses a connection until it breaks.
func (e *engine) serve(l link) {
	stop := context.AfterFunc(e.life, l.close)
	defer stop()
	quit := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { e.write(l, quit) })
	err := e.read(l)
	l.close()
	close(quit)
	writer.Wait()
	e.detach(err)
}

func (e *engine) detach(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link = nil; e.ended != nil {
		return
	}
	e.failures++
	e.trouble = fmt.Errorf("the connection broke: %w", err)
	e.p.detached(e.trouble)
	if e.open != nil {
		e.tellPhase()
	}
	e.cfg.log.Info("connection lost", "err", err, "session", e.session)
}

// errLeft is why a connection ends that is left for another member.
var errLeft = errors.New("the member can't serve now")

// read takes what arrives until the connection breaks.
func (e *engine) read(l link) error {
	for {
		message, err := l.read()
		if err != nil {
			return err
		}
		e.alive()
		if err := e.take(message); err != nil {
			return err
		}
	}
}

// take handles the frames of one message. An error ends the connection.
func (e *engine) take(message []byte) error {
	d := frame.FromServer(message)
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.ended == nil {
		f, err := d.Next()
		if err == io.EOF {
			e.signal() // room for more requests
			return nil
		}
		if err == nil {
			err = e.handle(f)
		}
		if err != nil {
			return err
		}
	}
	return e.ended
}

// handle takes one frame in. The caller holds e.mu.
func (e *engine) handle(f frame.Frame) error {
	switch f := f.(type) {
	case *frame.Reply:
		e.seen = max(e.seen, f.Info.Zxid)
		if f.Result != nil {
			e.seen = max(e.seen, f.Result.Zxid)
			e.forgetPosition(f.Result.Err)
		}
		return e.follow(e.p.reply(f), f.Result)
	case *frame.Pong:
		e.lease.confirmed(f.ID, f.TTL)
		e.failures = 0
		e.tellPhase()
	case *frame.Failed:
		return e.refused(f)
	case *frame.SessionEnded:
		return e.sessionEnded(f)
	case *frame.Goaway:
		e.cfg.finder.learn(f.Endpoints)
		e.leaving = time.Now().Add(leaveTime)
	case *frame.Welcome:
		return errors.New("the member said welcome twice")
	default:
		return e.watchFrame(f)
	}
	return nil
}

// forgetPosition forgets what was seen before the cluster was restored from a backup, once that has been told.
func (e *engine) forgetPosition(err *op.Error) {
	if err != nil && err.Code == op.ClusterChanged {
		e.seen = 0
	}
}

func (e *engine) follow(v verdict, r *op.Result) error {
	switch v {
	case move:
		return fmt.Errorf("%w: %w", errLeft, r.Err)
	case pause:
		e.failures++
		e.held = time.Now().Add(backoff(e.failures, backoffCap, e.cfg.float))
		return nil
	}
	e.failures = 0
	if e.open != nil && r != nil && r.Err != nil && r.Err.Code == op.SessionExpired {
		e.failLocked(sessionOver())
	}
	return nil
}

func sessionOver() *Error {
	return &Error{Code: op.SessionExpired, Outcome: Decided, Detail: "the session has ended"}
}

func (e *engine) refused(f *frame.Failed) error {
	if s := e.p.subs[f.ID]; s != nil {
		e.endWatch(s, s.pos, f.Err)
		return nil
	}
	if f.ID == 0 {
		return f.Err
	}
	if ends(f.Err) && e.open != nil {
		e.failLocked(f.Err)
	}
	return nil // of a ping: the next one may be confirmed
}

// sessionEnded is told that the session has ended, or that it is attached elsewhere: by an attempt of this client to
// connect that it had given up, since nobody else knows the secret. Then it is attached anew.
func (e *engine) sessionEnded(f *frame.SessionEnded) error {
	if f.Err != nil && f.Err.Code == op.Superseded || e.open == nil {
		return f.Err
	}
	e.failLocked(sessionOver())
	return f.Err
}

func (e *engine) watchFrame(f frame.Frame) error {
	switch f := f.(type) {
	case *frame.Watching:
		if s := e.p.subs[f.Watch]; s != nil {
			s.watching(f)
		}
	case *frame.Initial:
		if s := e.p.subs[f.Watch]; s != nil {
			s.state(f)
		}
	case *frame.Events:
		e.seen = max(e.seen, f.Pos)
		if s := e.p.subs[f.Watch]; s != nil && s.events(f) {
			e.dropWatch(s)
			s.paused = true
		}
	case *frame.Bookmark:
		if s := e.p.subs[f.Watch]; s != nil {
			s.bookmark(f.Pos)
		}
	case *frame.Ended:
		if s := e.p.subs[f.Watch]; s != nil {
			e.endWatch(s, f.Pos, f.Err)
		}
	}
	return nil
}

// dropWatch ends a watch at the server.
func (e *engine) dropWatch(s *subscription) {
	if s.id != 0 {
		delete(e.p.subs, s.id)
		e.p.unwatch = append(e.p.unwatch, s.id)
		s.id = 0
	}
	e.p.waiting = slices.DeleteFunc(e.p.waiting, func(x *subscription) bool { return x == s })
	e.signal()
}

// endWatch takes the end of a watch by the server: it is begun again where it was, after a pause, unless err says that
// this is of no use.
func (e *engine) endWatch(s *subscription, pos op.Zxid, err *op.Error) {
	delete(e.p.subs, s.id)
	s.id = 0
	if !transient(err.Code) {
		s.fail(err)
		return
	}
	if s.placed {
		s.pos = max(s.pos, pos)
	}
	s.detached()
	e.p.waiting = append(e.p.waiting, s)
	e.failures++
	e.held = time.Now().Add(backoff(e.failures, backoffCap, e.cfg.float))
}

// write sends what there is to send until the connection breaks.
func (e *engine) write(l link, quit chan struct{}) {
	limit := e.writeLimit()
	var buf []byte
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if cap(buf) > 16*batchBytes {
			buf = nil
		}
		message, probe, wait := e.outgoing(buf[:0])
		buf = message
		if wait < 0 || probe && l.ping(limit) != nil || len(message) > 0 && l.write(message, limit) != nil {
			l.close()
			return
		}
		if len(message) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-e.wake:
		case <-timer.C:
		case <-quit:
			return
		}
	}
}

// writeLimit is how long a member may take nothing: not so long that there is no time left to find another one.
func (e *engine) writeLimit() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		return clientWrite
	}
	return min(clientWrite, e.lease.ttl/3)
}

// outgoing returns the next message, empty if there is none, whether to ask the member for a sign of life, and how long
// to wait at most if there is no message; a negative wait ends the connection.
func (e *engine) outgoing(b []byte) (message []byte, probe bool, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	until := func(t time.Time) { wait = min(wait, max(t.Sub(now), 0)) }
	if e.open != nil {
		b = e.pingSession(b, now)
		until(e.pinged.Add(e.lease.interval()))
		e.tellPhase()
	}
	if e.open != nil || e.p.busy() {
		silence := e.silence()
		heard := e.born.Add(time.Duration(e.heard.Load()))
		due := later(heard, e.probed).Add(silence)
		if !now.Before(due) {
			if e.probed.After(heard) {
				return nil, false, -1
			}
			probe, e.probed = true, now
			due = now.Add(silence)
		}
		until(due)
	}
	if !e.leaving.IsZero() {
		if e.p.idle() || !now.Before(e.leaving) {
			return nil, false, -1
		}
		until(e.leaving)
		return b, probe, wait
	}
	if now.Before(e.held) {
		until(e.held)
		return b, probe, wait
	}
	return e.p.take(b, batchBytes), probe, wait
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (e *engine) silence() time.Duration {
	if e.open != nil {
		return min(e.lease.interval(), clientSilence)
	}
	return clientSilence
}

// pingSession appends a sign of life if one is due.
func (e *engine) pingSession(b []byte, now time.Time) []byte {
	if now.Sub(e.pinged) < e.lease.interval() {
		return b
	}
	e.pinged = now
	id := e.p.id()
	e.lease.sent(id, now)
	return frame.Append(b, &frame.Ping{ID: id})
}

// tellPhase tells the session's holder if its phase has changed. The caller holds e.mu.
func (e *engine) tellPhase() {
	state := e.stateLocked()
	if state.Phase == e.phase {
		return
	}
	e.phase = state.Phase
	select {
	case <-e.states:
	default:
	}
	e.states <- state
}

func (e *engine) stateLocked() State {
	s := State{Phase: Connected, Until: e.lease.until}
	switch {
	case e.ended != nil:
		s.Phase, s.Err = Lost, e.ended
	case e.link == nil:
		s.Phase, s.Err = Suspended, e.trouble
	case e.lease.doubtful(time.Now()):
		s.Phase, s.Err = Suspended, errUnconfirmed
	}
	return s
}

var errUnconfirmed = errors.New("the member is connected, but no leader has confirmed the session for a while")

// watchExpiry makes sure that the session is given up when it can't be proven alive any more. The caller holds e.mu.
func (e *engine) watchExpiry() {
	if e.expiry == nil {
		e.expiry = time.AfterFunc(time.Until(e.lease.until), e.expire)
	}
}

func (e *engine) expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil {
		return
	}
	if left := time.Until(e.lease.until); left > 0 {
		e.expiry.Reset(left)
		return
	}
	why := "nothing has confirmed the session in time"
	if e.trouble != nil {
		why += fmt.Sprintf(" (%v)", e.trouble)
	}
	e.failLocked(&Error{Code: op.SessionExpired, Outcome: Unknown, Detail: why})
}

// fail ends the engine and everything in it, because of why.
func (e *engine) fail(why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failLocked(why)
}

func (e *engine) failLocked(why error) {
	if e.ended != nil {
		return
	}
	e.ended = why
	if e.expiry != nil {
		e.expiry.Stop()
	}
	e.tellPhase()
	e.p.end(why)
	e.end(why) // the last: it lets the goroutine go that closes states
}

// close ends the engine and waits for its goroutines.
func (e *engine) close() {
	e.fail(ErrClosed)
	<-e.done
}

// join waits for the first connection.
func (e *engine) join(ctx context.Context) error {
	e.want(1)
	defer e.want(-1)
	select {
	case <-e.joined:
		return nil
	case <-e.life.Done():
		return context.Cause(e.life)
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		return interrupt("", false, context.Cause(ctx), e.trouble)
	}
}

func (e *engine) want(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.demand += n
	e.signal()
}

// do has a call answered.
func (e *engine) do(ctx context.Context, c *call) answer {
	began := time.Now()
	a := e.await(ctx, c)
	e.cfg.counters.count(c.o.Verb(), a.err, time.Since(began))
	if err, ok := errors.AsType[*Error](a.err); ok {
		err.Path = cmp.Or(err.Path, pathOf(c.o))
	}
	return a
}

func (e *engine) await(ctx context.Context, c *call) answer {
	c.done = make(chan answer, 1)
	if err := e.submit(ctx, c); err != nil {
		return answer{err: err}
	}
	select {
	case a := <-c.done:
		return a
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case a := <-c.done:
		return a
	default:
		return answer{err: interrupt("", e.p.abandon(c), context.Cause(ctx), e.trouble)}
	}
}

func (e *engine) submit(ctx context.Context, c *call) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return interrupt("", false, context.Cause(ctx), nil)
	case e.ended != nil:
		return interrupt("", false, e.ended, nil)
	case e.p.bye != nil:
		return interrupt("", false, ErrClosed, nil)
	}
	if c.read != nil && c.read.Level == op.Sequential {
		c.read.MinZxid = max(c.read.MinZxid, e.seen)
	}
	e.p.add(c)
	e.signal()
	return nil
}

// leave ends the session at the service, once everything that was asked for is answered.
func (e *engine) leave(ctx context.Context) error {
	e.mu.Lock()
	if e.ended != nil {
		e.mu.Unlock()
		return nil
	}
	if e.p.bye == nil {
		e.p.bye = &call{done: make(chan answer, 1)}
		e.signal()
	}
	bye := e.p.bye
	e.mu.Unlock()
	select {
	case a := <-bye.done:
		return a.err
	case <-e.life.Done():
		return nil
	case <-ctx.Done():
		return interrupt("", true, context.Cause(ctx), nil)
	}
}

// position returns the newest position that an answer or an event has shown.
func (e *engine) position() op.Zxid {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}

// subscribe begins a watch.
func (e *engine) subscribe(want frame.Watch) *subscription {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := newSubscription(e, want)
	if e.ended != nil {
		s.fail(interrupt(want.Path, false, e.ended, nil))
		return s
	}
	e.p.waiting = append(e.p.waiting, s)
	e.signal()
	return s
}

func (e *engine) unsubscribe(s *subscription) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.fail(ErrClosed)
	e.dropWatch(s)
}

// takeItem returns the next item of a watch, if there is one, and otherwise the error that has ended it, if one has.
func (e *engine) takeItem(s *subscription) (it item, ok bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(s.items) == 0 {
		s.resume()
		return item{}, false, s.err
	}
	it = s.items[0]
	s.items[0] = item{}
	if s.items = s.items[1:]; len(s.items) == 0 {
		s.items = nil
		s.resume()
	}
	return it, true, nil
}

// resume begins a paused watch again. The caller holds e.mu.
func (s *subscription) resume() {
	s.bytes = 0
	if s.paused && s.err == nil {
		s.paused = false
		s.e.p.waiting = append(s.e.p.waiting, s)
		s.e.signal()
	}
}

// pathOf returns the path that an operation is about, "" if it is about several or none.
func pathOf(o op.Op) string {
	switch x := o.(type) {
	case *op.Create:
		return x.Path
	case *op.Set:
		return x.Path
	case *op.Delete:
		return x.Path
	case *op.SetACL:
		return x.Path
	case *op.Get:
		return x.Path
	case *op.Exists:
		return x.Path
	case *op.Children:
		return x.Path
	case *op.Subtree:
		return x.Path
	case *op.GetACL:
		return x.Path
	case *op.Rank:
		return x.Path
	}
	return ""
}
