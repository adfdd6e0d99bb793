package queue_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"

	"github.com/coord-kv/coord/fsm"
	"github.com/coord-kv/coord/internal/recipe/lab"
	"github.com/coord-kv/coord/internal/recipe/queue"
	"github.com/coord-kv/coord/op"
)

var (
	seeds = flag.Uint64("seeds", 200, "interleavings to play")
	first = flag.Uint64("first-seed", 1, "the first of them")
)

func open(t *testing.T, c *lab.Conn) *queue.Queue {
	t.Helper()
	q, err := queue.New(c, "jobs")
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestOrder: the highest priority first, then who came first; what is returned has its old place again.
func TestOrder(t *testing.T) {
	w, ctx := lab.New(1), context.Background()
	q := open(t, w.Open())
	for i, priority := range []int{0, 5, 0, 99, 5} {
		if _, err := q.Push(ctx, []byte(fmt.Sprint(i)), priority); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for i := range 6 {
		d, err := q.TryReceive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s/%d", d.Data, d.Priority))
		if i == 1 {
			err = q.Return(ctx, d.ID, d.Claim)
		} else if i%2 == 0 {
			err = q.Ack(ctx, d.ID, d.Claim)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"3/99", "1/5", "1/5", "4/5", "0/0", "2/0"}; !slices.Equal(got, want) {
		t.Errorf("received %v, not %v", got, want)
	}
	if _, err := q.TryReceive(ctx); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("the claimed ones are received again: %v", err)
	}
}

// TestBounds: no more than the limits allow; what is acknowledged makes room.
func TestBounds(t *testing.T) {
	w, ctx := lab.New(1), context.Background()
	q := open(t, w.Open())
	if err := q.Configure(ctx, queue.Limits{Items: 2, Bytes: 10}); err != nil {
		t.Fatal(err)
	}
	push := func(data string, want op.Code) {
		t.Helper()
		_, err := q.Push(ctx, []byte(data), 0)
		if e, _ := errors.AsType[*op.Error](err); want == op.OK && err != nil || want != op.OK && (e == nil || e.Code != want) {
			t.Errorf("push of %q: %v, not %s", data, err, want)
		}
	}
	push("123456", op.OK)
	push("123456", op.QuotaExceeded)
	push("1234", op.OK)
	push("", op.QuotaExceeded)
	d, err := q.TryReceive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	push("", op.QuotaExceeded) // a claimed item is in the queue still
	if err := q.Ack(ctx, d.ID, d.Claim); err != nil {
		t.Fatal(err)
	}
	push("", op.OK)
	if x, err := q.Info(ctx, op.ReadOptions{}); err != nil || x.Len != 2 || x.Claimed != 0 || x.Items != 2 {
		t.Errorf("%+v, %v", x, err)
	}
	if err := q.Configure(ctx, queue.Limits{Items: 3, Bytes: 10}); err != nil {
		t.Fatal(err)
	}
	push("", op.OK)
}

// TestLostClaim: who has lost its claim can't acknowledge, even if it was its own again meanwhile.
func TestLostClaim(t *testing.T) {
	w, ctx := lab.New(1), context.Background()
	q := open(t, w.Open())
	if _, err := q.Push(ctx, nil, 0); err != nil {
		t.Fatal(err)
	}
	before, err := q.TryReceive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Return(ctx, before.ID, before.Claim); err != nil {
		t.Fatal(err)
	}
	now, err := q.TryReceive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Ack(ctx, before.ID, before.Claim); !errors.Is(err, &op.Error{Code: op.NotHolder}) {
		t.Errorf("an old claim is as good as the new one: %v", err)
	}
	if err := q.Ack(ctx, now.ID, now.Claim); err != nil {
		t.Error(err)
	}
}

// TestSeeds: with producers and consumers killed at any moment, their sessions expiring later, no item is held by two
// sessions that live, none is acknowledged twice, and in the end nobody waits while there is an item.
func TestSeeds(t *testing.T) {
	for seed := *first; seed < *first+*seeds; seed++ {
		if err := playSeed(seed); err != nil {
			t.Fatalf("-seeds 1 -first-seed %d: %v", seed, err)
		}
	}
}

const pushed = 8

type run struct {
	w       *lab.World
	acked   map[string]int
	holder  map[string]*lab.Conn
	problem error
}

func playSeed(seed uint64) error {
	ctx := context.Background()
	r := &run{w: lab.New(seed), acked: map[string]int{}, holder: map[string]*lab.Conn{}}
	var ids []string
	producer, err := queue.New(r.w.Guest(), "jobs")
	if err != nil {
		return err
	}
	r.w.Go(func() {
		for i := range pushed {
			id, err := producer.Push(ctx, []byte{byte(i)}, r.w.Rand.IntN(3))
			if err != nil {
				r.problem = err
			}
			ids = append(ids, id)
		}
	})
	for range 3 {
		conn := r.w.Open()
		task := r.w.Go(func() { r.consume(ctx, conn) })
		if r.w.Chance(2) {
			for range r.w.Rand.IntN(80) {
				r.w.Step()
			}
			r.w.Kill(task)
			for range r.w.Rand.IntN(40) {
				r.w.Step()
			}
			r.w.Expire(conn)
		}
	}
	r.w.Go(func() { r.consume(ctx, r.w.Open()) }) // one who survives
	r.w.Run()
	for _, id := range ids {
		if r.acked[id] > 1 && r.problem == nil {
			r.problem = fmt.Errorf("%s was acknowledged %d times", id, r.acked[id])
		}
	}
	if n := len(left(r.w.View())); n > 0 && r.problem == nil {
		r.problem = fmt.Errorf("everybody waits, and %d items are left", n)
	}
	return r.problem
}

func (r *run) consume(ctx context.Context, conn *lab.Conn) {
	q, err := queue.New(conn, "jobs")
	for err == nil {
		var d *queue.Delivery
		if d, err = q.Receive(ctx); err != nil {
			return
		}
		if other := r.holder[d.ID]; other != nil && other.Context().Err() == nil && conn.Context().Err() == nil {
			r.problem = fmt.Errorf("%s is held by two", d.ID)
		}
		r.holder[d.ID] = conn
		if r.w.Chance(2) {
			r.w.Pause()
		}
		delete(r.holder, d.ID)
		if r.w.Chance(3) {
			err = r.unless(q.Return(ctx, d.ID, d.Claim))
			continue
		}
		ackErr := q.Ack(ctx, d.ID, d.Claim)
		if ackErr == nil {
			r.acked[d.ID]++
		}
		err = r.unless(ackErr)
	}
}

// unless lets go of whoever's session has ended.
func (r *run) unless(err error) error {
	if errors.Is(err, &op.Error{Code: op.NotHolder}) {
		return nil
	}
	return err
}

func left(v *fsm.View) []op.Node { return v.Read(&op.Children{Path: "/queues/jobs/items"}, nil).Nodes }
