package coord

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
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
