// Package coordtest runs a cluster of coord in the process of a test, so that a program can be tested against members
// that are killed, paused and cut off, and sessions that are held up or expire.
//
//	func TestWorker(t *testing.T) {
//		cluster := coordtest.Start(t, 3)
//		client := cluster.Client(t)
//		// ... use it ...
//		cluster.Kill(cluster.Leader())
//		// ... and see that the program goes on
//	}
//
// The members are real ones: the same code as in the program coord, over loopback sockets, with a disk that is in
// memory and survives Kill. A cluster starts in a fraction of a second.
//
// # Virtual time
//
// With InMemory there are no sockets, so all of it, members, clients and test, can run in a bubble of testing/synctest:
// session timeouts and elections then take no real time, and a test that waits for an hour ends at once. Start the
// cluster inside the bubble.
//
// # What hurts
//
// Pause stands for a machine that stands still as others see it; its goroutines go on. A member needs a few megabytes
// of memory. Everything in the process counts together, so figures of speed say little.
package coordtest
