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

// system is a coordination service under test.
type system interface {
	name() string
	dial(i int) (conn, error)
	prepare(keys int) error
	// run overrides the loop below for a client that can't be driven from one goroutine; ok is false if it doesn't.
	run(w workload, until time.Time) (r result, ok bool)
}

// workload is a closed loop: each connection keeps so many requests under way.
type workload struct {
	id            string
	op            operation
	conns, window int
}

// result is what came of a workload.
type result struct {
	ops     int
	took    time.Duration
	waits   []time.Duration // a sample of the latencies
	errors  int
	example error
}

func (r *result) rate() float64 { return float64(r.ops) / r.took.Seconds() }

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

// drive runs the workload for d, after connecting.
func drive(s system, w workload, d time.Duration) (result, error) {
	start := time.Now()
	if r, ok := s.run(w, start.Add(d)); ok {
		r.took = time.Since(start)
		return r, nil
	}
	conns := make([]conn, w.conns)
	for i := range conns {
		c, err := s.dial(i)
		if err != nil {
			return result{}, fmt.Errorf("connection %d: %w", i, err)
		}
		defer c.close()
		conns[i] = c
	}
	results := make([]result, w.conns)
	var wg sync.WaitGroup
	start = time.Now()
	for i, c := range conns {
		wg.Go(func() { results[i] = loop(c, w, i, start.Add(d)) })
	}
	wg.Wait()
	total := result{took: time.Since(start)}
	for _, r := range results {
		total.add(r)
	}
	return total, nil
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
