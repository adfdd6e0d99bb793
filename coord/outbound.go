package coord

import (
	"time"

	"github.com/coord-kv/coord/internal/frame"
)

// What an engine sends, and when it asks for a sign of life.

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
