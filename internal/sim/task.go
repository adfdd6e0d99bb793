package sim

import (
	"errors"
	"iter"
	"time"
)

// task is a client, or whoever else does one thing after another. It is a coroutine that others interrupt wherever it
// waits.
type task struct {
	w     *world
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	over  bool
}

var errStopped = errors.New("the run has ended")

// spawn begins a task.
func (w *world) spawn(f func(t *task)) {
	t := &task{w: w}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			if p := recover(); p != nil && p != errStopped {
				panic(p)
			}
		}()
		t.yield = yield
		f(t)
	})
	w.tasks = append(w.tasks, t)
	w.after(0, t.resume)
}

func (t *task) resume() {
	if !t.over {
		_, more := t.next()
		t.over = !more
	}
}

func (t *task) park() {
	if !t.yield(struct{}{}) {
		panic(errStopped)
	}
}

func (t *task) sleep(d time.Duration) {
	t.w.after(d, t.resume)
	t.park()
}

// await begins something and waits until it says that it is done, or the time is up.
func (t *task) await(limit time.Duration, begin func(done func())) bool {
	fired, ok := false, false
	fire := func(in bool) {
		if !fired {
			fired, ok = true, in
			t.w.after(0, t.resume)
		}
	}
	begin(func() { fire(true) })
	t.w.after(limit, func() { fire(false) })
	t.park()
	return ok
}
