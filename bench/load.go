package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// operation is what a workload asks for again and again.
type operation int

const (
	opCreate   operation = iota // a new node with 100 bytes
	opSet                       // 100 bytes into one of a thousand nodes
	opGet                       // the cheapest read that the system offers
	opGetFresh                  // a linearizable read; ZooKeeper has none, and answers as always
	opLock                      // take and release an uncontended lock
	opContest                   // take and release one that all want
	opFan                       // change a node that is watched
	opWebGet                    // read a node over HTTP/1.1
	opWebPut                    // write one
)

// conn is one connection. One goroutine uses it.
type conn interface {
	// send puts an operation into the buffer; i makes its key.
	send(o operation, i int) error
	flush() error
	// receive waits for the next answer.
	receive() error
	// waiting reports whether an answer, or a part of one, has arrived already.
	waiting() bool
	// lock takes and releases the lock that belongs to this connection.
	lock() error
	close()
}

// system is something under test.
type system interface {
	name() string
	// prepare makes so many nodes, and returns an error if the system doesn't answer.
	prepare(nodes int) error
}

// What a system can be driven by. One that has none of what a workload takes has no part in it.
type (
	dialer interface {
		dial(i int) (conn, error)
	}
	// runner is driven by a client of its own instead of the closed loop below.
	runner interface {
		run(w workload, until time.Time) result
	}
	contestant interface {
		contest(contenders int, d time.Duration) result
	}
	// clustered is a member of several.
	clustered interface{ leads() bool }

	broadcaster interface {
		fan(conns, watches int, d time.Duration) result
	}
)

// workload is what is measured of all systems. Most are a closed loop: each connection keeps so many requests under way.
type workload struct {
	goal, id      string
	op            operation
	conns, window int
	systems       string // that have a part in it besides coord
	members       int    // of each system
}

// byTime reports whether a workload is about how long something takes, not how often it is done.
func (w *workload) byTime() bool { return w.op == opFan }

// result is what came of a workload.
type result struct {
	ops     int
	took    time.Duration
	waits   []time.Duration // a sample of the latencies
	errors  int
	example error

	measured time.Duration // of took, what counts; 0 for all
}

func (r *result) rate() float64 {
	took := r.took
	if r.measured > 0 {
		took = r.measured
	}
	if took == 0 {
		return 0
	}
	return float64(r.ops) / took.Seconds()
}

func (r *result) quantile(q float64) time.Duration {
	if len(r.waits) == 0 {
		return 0
	}
	slices.Sort(r.waits)
	return r.waits[min(len(r.waits)-1, int(q*float64(len(r.waits))))]
}

func (r *result) add(other result) {
	r.ops += other.ops
	r.errors += other.errors
	r.waits = append(r.waits, other.waits...)
	if r.example == nil {
		r.example = other.example
	}
}

const keys = 1000

// drive runs the workload for d, after connecting. ok is false if the system has no part in it.
func drive(s system, w workload, d time.Duration) (r result, ok bool) {
	switch w.op {
	case opContest:
		if s, ok := s.(contestant); ok {
			return s.contest(w.conns, d), true
		}
		return result{}, false
	case opFan:
		if s, ok := s.(broadcaster); ok {
			r := s.fan(w.conns, w.window, d)
			return r, r.ops+r.errors > 0
		}
		return result{}, false
	case opWebGet, opWebPut:
		if s, ok := s.(web); ok {
			return closedLoop(func(int) (conn, error) { return dialWeb(s) }, w, d), true
		}
		return result{}, false
	}
	if s, ok := s.(runner); ok {
		start := time.Now()
		r := s.run(w, start.Add(d))
		r.took = time.Since(start)
		return r, true
	}
	if s, ok := s.(dialer); ok {
		return closedLoop(s.dial, w, d), true
	}
	return result{}, false
}

func closedLoop(dial func(i int) (conn, error), w workload, d time.Duration) result {
	conns := make([]conn, w.conns)
	for i := range conns {
		c, err := dial(i)
		if err != nil {
			return result{errors: 1, example: fmt.Errorf("connection %d: %w", i, err)}
		}
		defer c.close()
		conns[i] = c
	}
	results := make([]result, w.conns)
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		wg.Go(func() { results[i] = loop(c, w, i, start.Add(d)) })
	}
	wg.Wait()
	total := result{took: time.Since(start)}
	for _, r := range results {
		total.add(r)
	}
	return total
}

// loop keeps the window full: whatever answers have arrived are taken in, as many requests are sent, in one write.
func loop(c conn, w workload, self int, until time.Time) (r result) {
	if w.op == opLock {
		return lockLoop(c, until)
	}
	var sent []time.Time // of requests under way, oldest first
	next := 0
	fill := func() error {
		for len(sent) < w.window {
			if err := c.send(w.op, self+next*w.conns); err != nil {
				return err
			}
			next++
			sent = append(sent, time.Now())
		}
		return c.flush()
	}
	fail := func(err error) result {
		r.errors, r.example = r.errors+1, err
		return r
	}
	for {
		if err := fill(); err != nil {
			return fail(err)
		}
		for first := true; len(sent) > 0 && (first || c.waiting()); first = false {
			if err := c.receive(); err != nil {
				return fail(err)
			}
			now := time.Now()
			if r.ops++; len(r.waits) < 100_000 {
				r.waits = append(r.waits, now.Sub(sent[0]))
			}
			sent = sent[1:]
			if now.After(until) {
				return r
			}
		}
	}
}

func lockLoop(c conn, until time.Time) (r result) {
	for start := time.Now(); start.Before(until); start = time.Now() {
		if err := c.lock(); err != nil {
			r.errors, r.example = r.errors+1, err
			return r
		}
		r.ops++
		r.waits = append(r.waits, time.Since(start))
	}
	return r
}
