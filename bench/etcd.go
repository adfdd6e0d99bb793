package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// etcd is driven by its own client, which is a good part of its cost: a leaner one would do better.
type etcd struct{ addr string }

func (e *etcd) name() string           { return "etcd" }
func (e *etcd) dial(int) (conn, error) { return nil, fmt.Errorf("etcd is driven by its client") }

func (e *etcd) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{e.addr}, DialTimeout: 5 * time.Second})
}

func (e *etcd) prepare(n int) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range n {
		if _, err := c.Put(context.Background(), key(i), string(make([]byte, 100))); err != nil {
			return err
		}
	}
	return nil
}

// run has a client for each connection, and a goroutine for each request under way.
func (e *etcd) run(w workload, until time.Time) (total result) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range w.conns {
		c, err := e.client()
		if err != nil {
			return result{errors: 1, example: err}
		}
		defer c.Close()
		for k := range w.window {
			wg.Go(func() {
				r := e.loop(c, w, i*w.window+k, until)
				mu.Lock()
				defer mu.Unlock()
				total.add(r)
			})
		}
	}
	wg.Wait()
	return total
}

func (e *etcd) loop(c *clientv3.Client, w workload, self int, until time.Time) (r result) {
	do, stop, err := e.operation(c, w, self)
	if err != nil {
		return result{errors: 1, example: err}
	}
	defer stop()
	for start, i := time.Now(), self; start.Before(until); start, i = time.Now(), i+w.conns*w.window {
		if err := do(i); err != nil {
			r.errors, r.example = r.errors+1, err
			return r
		}
		r.ops++
		r.waits = append(r.waits, time.Since(start))
	}
	return r
}

func (e *etcd) operation(c *clientv3.Client, w workload, self int) (do func(i int) error, stop func(), err error) {
	ctx, value := context.Background(), string(make([]byte, 100))
	stop = func() {}
	switch w.op {
	case opCreate:
		do = func(i int) error {
			_, err := c.Put(ctx, fmt.Sprintf("/bench/%d-%d", time.Now().UnixNano(), i), value)
			return err
		}
	case opSet:
		do = func(i int) error { _, err := c.Put(ctx, key(i), value); return err }
	case opGet:
		do = func(i int) error { _, err := c.Get(ctx, key(i), clientv3.WithSerializable()); return err }
	case opGetFresh:
		do = func(i int) error { _, err := c.Get(ctx, key(i)); return err }
	case opLock:
		session, err := concurrency.NewSession(c, concurrency.WithTTL(10))
		if err != nil {
			return nil, nil, err
		}
		m := concurrency.NewMutex(session, fmt.Sprintf("/bench/lock%d", self))
		stop = func() { session.Close() }
		do = func(int) error {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			return m.Unlock(ctx)
		}
	}
	return do, stop, nil
}
