package api

import "runtime"

// backlog is where work stands in line that is long and can wait: telling of a lot that happened long ago. All processors
// but one do it at a time, however many watches catch up. Without that a hundred of them, all with something to do,
// would each get its ten milliseconds of a processor before a goroutine that has just been woken, and every write and every
// heartbeat would take seconds when watches come back after a change of leader.
type backlog chan struct{}

// many is from how many events or nodes on a message stands in line.
const many = 64

func newBacklog() backlog { return make(backlog, max(1, runtime.GOMAXPROCS(0)-1)) }

// do calls f, which is about n events or nodes and must not wait for others.
func (b backlog) do(n int, f func()) {
	if n >= many {
		b <- struct{}{}
		defer func() { <-b }()
	}
	f()
}
