package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-kv/coord/internal/frame"
	"github.com/coord-kv/coord/op"
	"github.com/coord-kv/coord/watch"
)

// contender is one of many who want the same lock.
type contender interface {
	// acquire waits until it has the lock, and returns where it stood in line: later comers have higher numbers.
	acquire() (place uint64, err error)
	release() error
	close()
}

// contest has n contenders take the lock in turn, each again as soon as it has released it. It counts as an error if two
// hold it at once, or if it is not handed over in the order in which they came.
func contest(dial func(i int) (contender, error), n int, d time.Duration) (total result) {
	all := make([]contender, n)
	for i := range all {
		var err error
		if all[i], err = dial(i); err != nil {
			return result{errors: 1, example: err}
		}
		defer all[i].close()
	}
	late := time.AfterFunc(d+30*time.Second, func() {
		for _, c := range all {
			c.close()
		}
	})
	defer late.Stop()
	var holder atomic.Bool
	var last atomic.Uint64
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	turn := func(c contender) error {
		place, err := c.acquire()
		switch {
		case err != nil:
			return err
		case holder.Swap(true):
			return fmt.Errorf("two held the lock at once")
		case last.Swap(place) > place:
			return fmt.Errorf("somebody was overtaken")
		}
		holder.Store(false)
		return c.release()
	}
	for _, c := range all {
		wg.Go(func() {
			var r result
			for asked := time.Now(); asked.Sub(start) < d; asked = time.Now() {
				if err := turn(c); err != nil {
					r.errors, r.example = 1, err
					break
				}
				r.ops++
				r.waits = append(r.waits, time.Since(asked))
			}
			c.release() // nobody may wait for one who has stopped
			mu.Lock()
			defer mu.Unlock()
			total.add(r)
		})
	}
	wg.Wait()
	total.took = time.Since(start)
	return total
}

// lockDir is a new directory for each contest.
func lockDir() string { return fmt.Sprintf("/bench/contest-%d", time.Now().UnixNano()) }

// coordContender creates its node and learns who is before it in one request, and then awaits its turn.
type coordContender struct {
	*coordConn
	dir  string
	mine *op.Result // the node
}

func (s *service) contest(n int, d time.Duration) result {
	dir := lockDir()
	return contest(func(i int) (contender, error) {
		c, err := s.connect(i, 10*time.Second)
		return &coordContender{coordConn: c, dir: dir}, err
	}, n, d)
}

func (c *coordContender) acquire() (uint64, error) {
	c.write(&op.Txn{Then: []op.Op{
		&op.Create{Path: c.dir + "/x-lock-", Kind: op.Ephemeral, Sequence: true, Parents: true}, &op.Rank{Of: 1},
	}})
	res, err := c.call()
	if err != nil {
		return 0, err
	}
	c.mine = &res.Results[0]
	rank, seen := res.Results[1].Rank, res.Zxid
	for rank.Position > 0 {
		c.id++
		c.put(&frame.Await{
			ID: c.id, Path: c.dir + "/" + rank.Predecessor, Types: watch.TypesOf(op.Deleted), Since: seen,
			Op: &op.Rank{Path: c.mine.Path},
		})
		if res, err = c.call(); err != nil {
			return 0, err
		}
		rank, seen = res.Rank, c.reply.Info.Zxid
	}
	return uint64(rank.Token), nil
}

func (c *coordContender) release() error {
	if c.mine == nil {
		return nil
	}
	c.write(&op.Delete{Path: c.mine.Path, If: op.Cond{Version: op.AnyVersion, Mzxid: c.mine.Stat.Mzxid}})
	c.mine = nil
	_, err := c.call()
	return err
}

// zkContender does what Curator does: create, list, watch the one before, and list again when that has gone.
type zkContender struct {
	*zkConn
	dir, mine string
}

func (z *zookeeper) contest(n int, d time.Duration) result {
	dir := lockDir()
	return contest(func(i int) (contender, error) {
		c, err := z.connect(i, 10*time.Second)
		if err == nil && i == 0 {
			c.create(dir, 0)
			_, err = c.call()
		}
		return &zkContender{zkConn: c, dir: dir}, err
	}, n, d)
}

func (c *zkContender) acquire() (uint64, error) {
	c.create(c.dir+"/x-lock-", 3)
	b, err := c.call()
	if err != nil {
		return 0, err
	}
	c.mine = string(b[4 : 4+binary.BigEndian.Uint32(b)])
	place, err := strconv.ParseUint(c.mine[len(c.mine)-10:], 10, 64)
	if err != nil {
		return 0, err
	}
	for {
		before, err := c.before()
		if err != nil || before == "" {
			return place, err
		}
		c.request(zkExists, func(b []byte) []byte { return append(zkBytes(b, []byte(c.dir+"/"+before)), 1) })
		if _, err := c.call(); err != nil {
			if strings.Contains(err.Error(), "-101") {
				continue
			}
			return 0, err
		}
		if err := c.event(); err != nil {
			return 0, err
		}
	}
}

// before returns the name of the one right before us, "" for none.
func (c *zkContender) before() (string, error) {
	c.request(zkGetChildren, func(b []byte) []byte { return append(zkBytes(b, []byte(c.dir)), 0) })
	b, err := c.call()
	if err != nil {
		return "", err
	}
	names := make([]string, binary.BigEndian.Uint32(b))
	b = b[4:]
	for i := range names {
		n := binary.BigEndian.Uint32(b)
		names[i], b = string(b[4:4+n]), b[4+n:]
	}
	slices.Sort(names)
	i := slices.Index(names, c.mine[len(c.dir)+1:])
	switch {
	case i < 0:
		return "", fmt.Errorf("the node of a contender has gone")
	case i == 0:
		return "", nil
	}
	return names[i-1], nil
}

func (c *zkContender) release() error {
	if c.mine == "" {
		return nil
	}
	path := c.mine
	c.mine = ""
	c.request(zkDelete, func(b []byte) []byte { return binary.BigEndian.AppendUint32(zkBytes(b, []byte(path)), 0xffffffff) })
	_, err := c.call()
	return err
}

// etcdContender is the Mutex of etcd's client.
type etcdContender struct {
	client  *clientv3.Client
	session *concurrency.Session
	mutex   *concurrency.Mutex
}

func (e *etcd) contest(n int, d time.Duration) result {
	dir := lockDir()
	return contest(func(int) (contender, error) {
		c, err := e.client()
		if err != nil {
			return nil, err
		}
		s, err := concurrency.NewSession(c, concurrency.WithTTL(10))
		if err != nil {
			c.Close()
			return nil, err
		}
		return &etcdContender{c, s, concurrency.NewMutex(s, dir)}, nil
	}, n, d)
}

// acquire can't tell its place: the client doesn't show it.
func (c *etcdContender) acquire() (uint64, error) { return 0, c.mutex.Lock(context.Background()) }

func (c *etcdContender) release() error {
	if c.mutex.Key() == "" || c.mutex.Key() == "\x00" {
		return nil
	}
	return c.mutex.Unlock(context.Background())
}

func (c *etcdContender) close() {
	c.session.Close()
	c.client.Close()
}
