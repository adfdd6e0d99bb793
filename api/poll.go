package api

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coord-kv/coord/op"
)

// pollWait reads how long a poll waits for an event: ?wait=30s, or Prefer: wait=30 (RFC 7240), which is answered. A
// preference may be brought down to what the server allows; a demand that is too much is refused.
func (c *call) pollWait() time.Duration {
	if s, ok := c.q.take("wait"); ok {
		return c.demandedWait(s)
	}
	wait, ok := preferredWait(c.r.Header["Prefer"])
	if !ok {
		return defaultWait
	}
	wait = min(wait, c.s.limits.PollMax)
	c.w.Header()["Preference-Applied"] = []string{"wait=" + strconv.Itoa(int(wait/time.Second))}
	return wait
}

func (c *call) demandedWait(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > c.s.limits.PollMax {
		c.q.faults.add("wait", `must be a duration from "0s" to %q`, c.s.limits.PollMax)
	}
	return d
}

// preferredWait returns the seconds of the wait preference. What isn't understood is ignored, as preferences are.
func preferredWait(lines []string) (time.Duration, bool) {
	for _, line := range lines {
		for pref := range strings.SplitSeq(line, ",") {
			s, ok := strings.CutPrefix(strings.TrimSpace(pref), "wait=")
			n, err := strconv.ParseUint(s, 10, 31)
			if ok && err == nil {
				return time.Duration(n) * time.Second, true
			}
		}
	}
	return 0, false
}

// servePoll answers with the next events, or when the wait is over with none. In both cases "next" is where to go on: it
// moves on while nothing matches, so that a quiet watch doesn't fall off the end of the history.
func (w *watching) servePoll() error {
	events, err := w.poll()
	if err != nil {
		return err
	}
	w.setPosition()
	w.allowWrite()
	w.c.respondBytes(http.StatusOK, w.appendPoll(nil, events))
	if len(events) > 0 {
		w.c.s.metrics.delivered(events[0].Zxid, w.live)
	}
	return nil
}

func (w *watching) appendPoll(b []byte, events []op.Event) []byte {
	b = append(b, '{')
	if w.page != nil {
		b = append(appendNodes(append(b, `"nodes":`...), w.page.Nodes), ',')
	}
	b = append(b, `"events":`...)
	if len(events) == 0 {
		b = append(b, "[]"...)
	} else {
		show := w.showing(events)
		w.c.s.backlog.do(len(events), func() { b = show.appendEvents(b, events) })
	}
	return append(appendZxid(append(b, ','), "next", w.pos), '}', '\n')
}

// poll returns the next events, none if there are none in time. An initial state is an answer at once.
func (w *watching) poll() ([]op.Event, error) {
	if w.page != nil {
		return nil, w.complete()
	}
	start := w.c.s.now()
	defer func() { w.c.waited = w.c.s.now().Sub(start) }()
	over := time.NewTimer(w.wait)
	defer over.Stop()
	for last := false; ; {
		events, err := w.take()
		if len(events) > 0 {
			return w.coalesce(events), nil
		}
		if err != nil || last {
			return nil, err
		}
		select {
		case <-w.stream.Ready():
		case <-over.C:
			last = true
		case <-w.c.s.draining:
			last = true
		case <-w.c.r.Context().Done():
			last = true
		}
	}
}

// complete refuses an initial state that one answer can't hold.
func (w *watching) complete() error {
	if w.page.More {
		return op.Errorf(op.TooLarge, "the state has more nodes than one answer takes; watch it with Accept: text/event-stream")
	}
	return nil
}

func (w *watching) take() ([]op.Event, error) {
	events, pos, err := w.stream.Take(takeEvents)
	if err == nil {
		w.pos = pos
	}
	return events, err
}

// coalesce waits a little for more events if the caller polls too often.
func (w *watching) coalesce(events []op.Event) []op.Event {
	p, who := &w.c.s.pacer, remoteIP(w.c.r)+w.filter.Path
	defer func() { p.answered(who, w.c.s.now()) }()
	pause := p.pause(who, w.c.s.now())
	if pause <= 0 || len(events) >= takeEvents {
		return events
	}
	select {
	case <-time.After(pause):
	case <-w.c.r.Context().Done():
	}
	more, err := w.take()
	if err != nil { // the next poll meets it again
		return events
	}
	return append(events, more...)
}

// pacer tells who polls more often than 20 times a second, and how long to let them wait for more events. It remembers
// a fixed number of pollers; two that share a place are at worst answered a twentieth of a second late.
type pacer struct {
	seed maphash.Seed
	last [1024]atomic.Int64 // when they were last answered, in Unix nanoseconds
}

const pollInterval = 50 * time.Millisecond

func (p *pacer) place(who string) *atomic.Int64 {
	return &p.last[maphash.String(p.seed, who)%uint64(len(p.last))]
}

// pause returns how long to wait before who is answered.
func (p *pacer) pause(who string, now time.Time) time.Duration {
	since := time.Duration(now.UnixNano() - p.place(who).Load())
	return pollInterval - max(since, 0)
}

func (p *pacer) answered(who string, now time.Time) { p.place(who).Store(now.UnixNano()) }
