package replica

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// driver is who moves the core on: one goroutine at a time, whichever it is.
//
// There is a loop for it, but to wake that for one request, and then whoever waits for the answer, takes longer than to
// sync the request to a fast disk. So who asks for something moves the core on himself if nobody is at it: by one turn,
// in which he does what the others have asked for as well. What arrives meanwhile is the loop's, so that nobody works for
// others for longer than that. While there is always something to do the loop does all of it, in large batches.
// This is flat combining (Hendler, Incze, Shavit, Tzafrir: Flat Combining and the Synchronization-Parallelism Tradeoff,
// SPAA 2010).
//
// The lock is a channel: in a bubble of virtual time, who waits for a channel rests, and who waits for a mutex does not, so
// that the time of a slow disk would never pass.
type driver struct {
	turn    chan struct{} // holds a token, which whoever moves the core on takes
	running bool          // the loop is there
	err     error         // why the member can't go on
}

func (d *driver) init() {
	d.turn = make(chan struct{}, 1)
	d.unlock()
}

func (d *driver) lock()   { <-d.turn }
func (d *driver) unlock() { d.turn <- struct{}{} }

func (d *driver) tryLock() bool {
	select {
	case <-d.turn:
		return true
	default:
		return false
	}
}

// Drive does what waits in the inbox, unless another goroutine is at work, which will see to it. It returns without
// waiting for that one. Callers must hold no lock that is taken by those who are answered.
func (r *Replica) Drive() {
	runtime.Gosched() // others who are about to ask share the turn
	if !r.inbox.waits() || !r.driver.tryLock() {
		return
	}
	if r.driver.running && r.driver.err == nil {
		r.driver.err = r.turn(false)
	}
	failed := r.driver.err != nil
	r.driver.unlock()
	// Whoever found the lock held has left its input behind before: so this sees it.
	if failed || r.inbox.waits() {
		r.inbox.signal()
	}
}

// loop drives the core on ticks, and when nobody else does.
func (r *Replica) loop(ctx context.Context) error {
	ticker := time.NewTicker(r.core.cfg.Tick)
	defer ticker.Stop()
	r.run(true)
	defer r.run(false)
	for {
		tick := false
		select {
		case <-ctx.Done():
			return nil
		case <-r.inbox.wake:
		case <-ticker.C: // holds one tick at the most, so missed ones are never made up for
			tick = true
		}
		if err := r.step(tick); err != nil {
			return err
		}
	}
}

// run says whether the loop is there, without which nobody moves the core on.
func (r *Replica) run(running bool) {
	r.driver.lock()
	defer r.driver.unlock()
	r.driver.running = running
}

// step moves the core on by a turn, and has the loop go on if something waits after that.
func (r *Replica) step(tick bool) error {
	runtime.Gosched() // as in Drive
	r.driver.lock()
	if r.driver.err == nil {
		r.driver.err = r.turn(tick)
	}
	err := r.driver.err
	r.driver.unlock()
	if r.inbox.waits() {
		r.inbox.signal()
	}
	return err
}

// crash ends the process: a core that has panicked is in no state to go on from, whatever the goroutine that happened to
// drive it does about panics of its own.
func crash() {
	if p := recover(); p != nil {
		stack := debug.Stack()
		go panic(fmt.Sprintf("%v\n\n%s", p, stack))
		select {}
	}
}
