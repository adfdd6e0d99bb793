package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
)

// audience are the watchers of one node.
type audience struct {
	missing atomic.Int64  // that have not been told of the change
	all     chan struct{} // told when none is missing
	err     chan error
}

func newAudience(n int) *audience {
	return &audience{all: make(chan struct{}, 1), err: make(chan error, n)}
}

func (a *audience) told(n int) {
	if a.missing.Add(-int64(n)) == 0 {
		a.all <- struct{}{}
	}
}

func (a *audience) wait() error {
	select {
	case <-a.all:
		return nil
	case err := <-a.err:
		return err
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%d watchers were not told within 30 s", a.missing.Load())
	}
}

// play changes the node again and again, and measures from asking for a change until the last watcher knows. between is
// done before each change.
func (a *audience) play(n int, d time.Duration, change, between func() error) (r result) {
	begin := time.Now()
	for ; r.took < d; r.took = time.Since(begin) {
		if err := between(); err != nil {
			return result{errors: 1, example: err}
		}
		a.missing.Store(int64(n))
		start := time.Now()
		if err := change(); err != nil {
			return result{errors: 1, example: err}
		}
		if err := a.wait(); err != nil {
			return result{errors: 1, example: err}
		}
		r.ops++
		r.waits = append(r.waits, time.Since(start))
		r.measured += time.Since(start)
	}
	return r
}

func nothing() error { return nil }

const fanNode = "/bench/k0"

func (s *service) fan(conns, watches int, d time.Duration) result {
	a := newAudience(conns)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range conns {
		c, err := s.connect(i, 30*time.Second)
		if err == nil {
			err = c.watchAll(watches)
		}
		if err != nil {
			return result{errors: 1, example: err}
		}
		defer c.close()
		wg.Go(func() {
			for {
				f, err := c.next()
				if err != nil {
					a.err <- err
					return
				}
				if e, ok := f.(*frame.Events); ok {
					a.told(len(e.Events))
				}
			}
		})
	}
	writer, err := s.connect(0, 10*time.Second)
	if err != nil {
		return result{errors: 1, example: err}
	}
	defer writer.close()
	return a.play(conns*watches, d, func() error {
		writer.write(&op.Set{Path: fanNode, Data: writer.value, If: op.Always})
		_, err := writer.call()
		return err
	}, nothing)
}

// watchAll watches the node so many times, and returns when all watches stand.
func (c *coordConn) watchAll(n int) error {
	for range n {
		c.id++
		c.put(&frame.Watch{ID: c.id, Path: fanNode, Start: frame.FromNow, Options: op.ReadOptions{Level: op.Sequential}})
	}
	if err := c.flush(); err != nil {
		return err
	}
	for n > 0 {
		f, err := c.next()
		if err != nil {
			return err
		}
		switch x := f.(type) {
		case *frame.Watching:
			n--
		case *frame.Failed:
			return x.Err
		}
	}
	return nil
}

// fan has one watch for each connection, as ZooKeeper keeps one for each session and node. Each ends with its event, and
// is asked for anew, which is not in the time measured.
func (z *zookeeper) fan(conns, watches int, d time.Duration) result {
	if watches > 1 {
		return result{}
	}
	a := newAudience(conns)
	all := make([]*zkConn, conns)
	for i := range all {
		var err error
		if all[i], err = z.connect(i, 30*time.Second); err != nil {
			return result{errors: 1, example: err}
		}
		defer all[i].close()
	}
	writer, err := z.connect(0, 10*time.Second)
	if err != nil {
		return result{errors: 1, example: err}
	}
	defer writer.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	arm := func() error {
		wg.Wait()
		for _, c := range all {
			c.request(zkGetData, func(b []byte) []byte { return append(zkBytes(b, []byte(fanNode)), 1) })
			if _, err := c.call(); err != nil {
				return err
			}
			wg.Go(func() {
				if err := c.event(); err != nil {
					a.err <- err
					return
				}
				a.told(1)
			})
		}
		return nil
	}
	return a.play(conns, d, func() error {
		writer.request(zkSetData, func(b []byte) []byte {
			return binary.BigEndian.AppendUint32(zkBytes(zkBytes(b, []byte(fanNode)), writer.value), 0xffffffff)
		})
		_, err := writer.call()
		return err
	}, arm)
}

func (e *etcd) fan(conns, watches int, d time.Duration) result {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	a := newAudience(conns * watches)
	for range conns {
		c, err := e.client()
		if err != nil {
			return result{errors: 1, example: err}
		}
		defer c.Close()
		for range watches {
			events := c.Watch(ctx, fanNode, clientv3.WithCreatedNotify())
			<-events
			wg.Go(func() {
				for r := range events {
					if len(r.Events) > 0 {
						a.told(len(r.Events))
					}
				}
			})
		}
	}
	writer, err := e.client()
	if err != nil {
		return result{errors: 1, example: err}
	}
	defer writer.Close()
	return a.play(conns*watches, d, func() error {
		_, err := writer.Put(ctx, fanNode, hundred)
		return err
	}, nothing)
}
