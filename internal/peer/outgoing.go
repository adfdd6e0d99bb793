package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/time/rate"
)

// outgoing keeps one stream to a peer, dialling anew whenever it breaks.
type outgoing struct {
	peer  *peer
	class Class
	queue *queue
	wake  chan struct{} // holds a token when the peer has just contacted us: dial now

	// Of the goroutine in run.
	complain rate.Sometimes
	backoff  time.Duration
	broken   time.Time // since when there has been no stream
}

// patience is for how long a missing stream is no news: members start one after the other, and networks hiccup.
const patience = 3 * time.Second

func newOutgoing(p *peer, class Class) *outgoing {
	return &outgoing{
		peer:     p,
		class:    class,
		queue:    newQueue(p.net.cfg.queueLimit(class)),
		wake:     make(chan struct{}, 1),
		complain: rate.Sometimes{Interval: complaintEvery},
	}
}

func (o *outgoing) run(ctx context.Context) {
	o.broken = time.Now()
	for ctx.Err() == nil {
		lasted, err := o.connectAndServe(ctx)
		if ctx.Err() != nil {
			return
		}
		if lasted > 0 {
			o.broken = time.Now()
		}
		o.tell(err)
		o.wait(ctx, lasted)
	}
}

func (o *outgoing) tell(err error) {
	missing := time.Since(o.broken)
	if missing < patience {
		o.peer.log.Debug("no stream to peer", "class", o.class.String(), "error", err)
		return
	}
	o.complain.Do(func() {
		o.peer.log.Warn("no stream to peer", "class", o.class.String(), "for", missing.Round(time.Second), "error", err)
	})
}

// wait lets a time pass before the next attempt that doubles with each, jittered by half so that members that lost each other at the
// same moment don't meet in step. A stream that lasted starts it again from the lowest; one that breaks as soon as it stands does not.
// A peer that contacts us is dialled at once, but never sooner than the lowest: else two members could wake each other without end.
func (o *outgoing) wait(ctx context.Context, lasted time.Duration) {
	low, high := o.peer.net.cfg.MinBackoff, o.peer.net.cfg.MaxBackoff
	if lasted > high {
		o.backoff = 0
	}
	o.backoff = min(max(low, 2*o.backoff), high)
	pause(ctx, jitter(low))
	t := time.NewTimer(jitter(o.backoff - low))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-o.wake:
		o.backoff = 0
	}
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// connectAndServe returns how long the stream stood, 0 if it never did, and why it doesn't stand now.
func (o *outgoing) connectAndServe(ctx context.Context) (time.Duration, error) {
	conn, theirs, stop, err := o.peer.connect(ctx, role(o.class))
	if err != nil {
		return 0, err
	}
	defer stop()
	s := &stream{lane: lane{class: o.class, outgoing: true}, conn: conn, boot: theirs.Boot, done: make(chan struct{})}
	if !o.peer.enter(s) {
		conn.Close()
		return 0, errors.New(o.peer.older(theirs.Boot))
	}
	stood := time.Now()
	err = o.serve(conn)
	o.peer.drops.Add(uint64(o.queue.stop()))
	close(s.done)
	o.peer.leave(s)
	return time.Since(stood), fmt.Errorf("stream broke: %w", err)
}

// serve writes what Send queues and listens to the answers, until either fails. It returns the failure that came first.
func (o *outgoing) serve(conn net.Conn) error {
	w := o.peer.wire(conn)
	var silence error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		silence = o.listen(w)
		conn.Close() // ends a write that waits
	}()
	err := o.write(w, ended)
	conn.Close()
	<-ended
	if err == nil || closedHere(err) {
		return silence
	}
	return err
}

// write returns the error that ended the writing, or nil if the listening ended first.
func (o *outgoing) write(conn *wire, ended <-chan struct{}) error {
	w := bufio.NewWriterSize(conn, bufferSize)
	ping := time.NewTicker(o.peer.net.cfg.PingInterval)
	defer ping.Stop()
	var batch []Frame
	err := o.ping(w)
	for err == nil {
		select {
		case <-ended:
			return nil
		case <-o.queue.ready:
			batch, err = o.drain(w, batch)
		case <-ping.C:
			err = o.ping(w)
		}
	}
	return err
}

// drain writes until nothing waits, and flushes once: many small frames are one system call.
func (o *outgoing) drain(w *bufio.Writer, batch []Frame) ([]Frame, error) {
	for {
		batch = o.queue.take(batch[:0])
		if len(batch) == 0 {
			return batch, w.Flush()
		}
		for _, f := range batch {
			if err := writeFrame(w, f.Kind, f.Payload); err != nil {
				return batch, err
			}
		}
		o.queue.release(batch)
	}
}

// ping sends this process's age, which comes back: the round trip needs no memory of what was sent.
func (o *outgoing) ping(w *bufio.Writer) error {
	age := binary.BigEndian.AppendUint64(nil, uint64(time.Since(o.peer.net.began)))
	if err := writeFrame(w, kindPing, age); err != nil {
		return err
	}
	return w.Flush()
}

// listen reads the answers of the other side until there are no more. Nothing else comes back on an outgoing stream.
func (o *outgoing) listen(conn *wire) error {
	frames := newFrameReader(conn, 8)
	for {
		f, err := frames.next()
		switch {
		case err != nil:
			return err
		case f.Kind != kindPong:
			return fmt.Errorf("peer: frame of kind %#x as an answer", f.Kind)
		case len(f.Payload) == 8:
			o.measure(time.Duration(binary.BigEndian.Uint64(f.Payload)))
		}
	}
}

func (o *outgoing) measure(sent time.Duration) {
	rtt := time.Since(o.peer.net.began) - sent
	if o.class != Urgent || rtt <= 0 || rtt > time.Hour {
		return
	}
	o.peer.rtt.Store(int64(rtt))
	if observe := o.peer.net.cfg.RoundTrip; observe != nil {
		observe(o.peer.id, rtt)
	}
}
