package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func numbered(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func TestFramesArriveInOrderInEachClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		for i := range 1000 {
			for _, class := range classes {
				if !a.Send(2, class, uint8(class), numbered(i)) {
					t.Fatalf("frame %d was dropped", i)
				}
			}
		}
		next := map[uint8]int{}
		for _, f := range b.awaitFrames(t, 2000) {
			if !bytes.Equal(f.Payload, numbered(next[f.Kind])) {
				t.Fatalf("class %d: frame % x came as number %d", f.Kind, f.Payload, next[f.Kind])
			}
			next[f.Kind]++
		}
	})
}

func TestEventsOfAPeersLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		synctest.Wait() // for the other ends of these streams
		b.stop()
		start(t, sim, 2, 2, 1)
		a.awaitEvent(t, "stream up 2 urgent", 2)
		a.awaitEvent(t, "stream up 2 bulk", 2)
		events := a.history()
		if events[0] != "up 2 boot 1" {
			t.Errorf("the first event is %q", events[0])
		}
		down, up := slices.Index(events, "down 2"), slices.Index(events, "up 2 boot 2")
		if down < 0 || up != down+1 || count(events, "down 2") != 1 {
			t.Errorf("not down once, and then up: %q", events)
		}
		if n := count(events[:down], "stream down 2 urgent"); n != 2 {
			t.Errorf("%d urgent streams broke, of one to and one from the peer: %q", n, events)
		}
	})
}

func TestEndOfAProcessIsNoticedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		began := time.Now()
		b.stop()
		a.awaitEvent(t, "down 2", 1)
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		if a.Send(2, Urgent, 1, nil) {
			t.Error("a frame to a dead peer was taken")
		}
	})
}

func TestSilenceIsNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		time.Sleep(time.Minute)
		if slices.Contains(a.history(), "stream down 2 bulk") {
			t.Fatalf("an idle stream broke: %q", a.history())
		}
		began := time.Now()
		thaw := sim.freeze(t)
		a.awaitEvent(t, "down 2", 1)
		b.awaitEvent(t, "down 1", 1)
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		thaw()
		a.awaitEvent(t, "up 2 boot 1", 2)
	})
}

// A frame may take longer than any timeout, as long as it moves.
func TestLargeFrameOnASlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		sim.mu.Lock()
		sim.rate = 256 << 10
		sim.mu.Unlock()
		began := time.Now()
		large := bytes.Repeat([]byte("x"), 8<<20)
		a.Send(2, Bulk, 1, large)
		for range 30 {
			a.Send(2, Urgent, 2, []byte("heartbeat"))
			time.Sleep(time.Second)
		}
		frames := b.awaitFrames(t, 31)
		if last := frames[30]; !bytes.Equal(last.Payload, large) {
			t.Errorf("the large frame did not come last, after 30 heartbeats: kind %d", last.Kind)
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("the line was not slow: %v", took)
		}
		for _, e := range slices.Concat(a.history(), b.history()) {
			if strings.Contains(e, "down") {
				t.Errorf("%q", e)
			}
		}
	})
}

// Frames may be lost when a line breaks, and are never repeated or turned around by it; and each loss is announced before the frame
// after it arrives.
func TestBrokenLinesLoseAndNeverRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		b := config(2, 1, 1)
		rec := b.Handler.(*recorder)
		newest := -1
		rec.onReceive = func(_ uint64, f Frame) {
			if f.Kind != 1 {
				return
			}
			got := int(binary.BigEndian.Uint64(f.Payload))
			if got <= newest {
				t.Errorf("frame %d came after %d", got, newest)
			}
			if broke := count(rec.history(), "stream down 1 bulk"); got > newest+1 && broke == 0 {
				t.Errorf("frame %d came after %d, and no stream had broken", got, newest)
			}
			newest = got
		}
		from, _ := start(t, sim, 1, 1, 2), startWith(t, sim, b)
		from.awaitEvent(t, "stream up 2 bulk", 1)
		rnd := rand.New(rand.NewPCG(1, 2))
		sent := 0
		for i := range 20_000 {
			if from.Send(2, Bulk, 1, numbered(i)) {
				sent++
			}
			if rnd.IntN(50) == 0 {
				time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
			}
			if rnd.IntN(2000) == 0 {
				sim.cut("")
			}
		}
		time.Sleep(10 * time.Second)
		if !from.Send(2, Bulk, 2, nil) {
			t.Fatal("no stream after the last cut")
		}
		rec.await(t, "the last frame", func() bool { return rec.frames[len(rec.frames)-1].Kind == 2 })
		arrived, drops := len(rec.received())-1, int(from.Stats().Peers[0].Drops)
		if sent < 1000 || arrived > sent || arrived < sent/2 {
			t.Errorf("%d arrived of %d sent", arrived, sent)
		}
		if unsent := 20_000 - sent; drops < unsent {
			t.Errorf("%d drops were counted, Send alone refused %d", drops, unsent)
		}
	})
}

func TestBulkAloneBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		synctest.Wait() // for the other ends of these streams
		p := a.peer(2)
		p.news.Lock()
		conn := p.streams[lane{class: Bulk, outgoing: true}].conn
		p.news.Unlock()
		conn.Close()
		a.awaitEvent(t, "stream up 2 bulk", 2)
		b.awaitEvent(t, "stream down 1 bulk", 1)
		want := []string{"stream down 2 bulk", "stream up 2 bulk"}
		if events := a.history(); !reflect.DeepEqual(events[len(events)-2:], want) || slices.Contains(events, "down 2") {
			t.Errorf("%q", events)
		}
	})
}

func TestNewBootEndsTheOldFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		synctest.Wait() // for the other ends of these streams
		// The old process still stands, as one behind a broken network would, when the new one arrives.
		start(t, sim, 2, 2, 1)
		a.awaitEvent(t, "up 2 boot 2", 1)
		events := a.history()
		up := slices.Index(events, "up 2 boot 2")
		if events[up-1] != "down 2" || count(events[:up], "stream down 2 bulk") != 2 {
			t.Errorf("%q", events)
		}
		b.awaitEvent(t, "down 1", 1)
		time.Sleep(time.Minute)
		if slices.Contains(a.history()[up:], "up 2 boot 1") || a.Stats().Peers[0].Boot != 2 {
			t.Errorf("the old process came back: %q", a.history())
		}
	})
}

func TestBootKnownFromBeforeThisStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		cfg := config(1, 1, 2)
		cfg.Boots = map[uint64]uint64{2: 5}
		a := startWith(t, sim, cfg)
		old := start(t, sim, 2, 4, 1)
		time.Sleep(time.Minute)
		if log := slices.Concat(a.history(), old.history()); len(log) > 0 {
			t.Fatalf("a member with an older disk was let in: %q", log)
		}
		old.stop()
		start(t, sim, 2, 5, 1)
		a.awaitEvent(t, "up 2 boot 5", 1)
	})
}

// A member that comes with less log than it had is let in by nobody who knows that, whoever of them dials, and told why.
func TestLostLogIsRefused(t *testing.T) {
	for _, boot := range []uint64{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSimnet()
			cfg := config(1, 1, 2)
			cfg.Acked = func(id uint64) uint64 { return 40 * (id - 1) }
			cfg.Boots = map[uint64]uint64{2: 1}
			a := startWith(t, sim, cfg)
			last := uint64(39)
			other := config(2, boot, 1)
			other.Last = func() uint64 { return last }
			b := startWith(t, sim, other)
			_, _, _, err := b.peer(1).connect(t.Context(), roleBulk)
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), "a log up to entry 39 and had acknowledged entry 40") {
				t.Errorf("boot %d: %v", boot, err)
			}
			time.Sleep(time.Minute)
			if log := slices.Concat(a.history(), b.history()); len(log) > 0 {
				t.Errorf("boot %d: a member that lost entries was let in: %q", boot, log)
			}
			b.stop()
			last = 40
			awaitUp(t, a, startWith(t, sim, other))
		})
	}
}

// A member that knows that its log was cut is let in with what is left, and nothing more is expected of it from then on.
func TestTornLogIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		var mu sync.Mutex
		acked := uint64(40)
		cfg := config(1, 1, 2)
		cfg.Acked = func(uint64) uint64 {
			mu.Lock()
			defer mu.Unlock()
			return acked
		}
		cfg.Lost = func(id, last uint64) {
			mu.Lock()
			defer mu.Unlock()
			acked = last
		}
		a := startWith(t, sim, cfg)
		other := config(2, 1, 1)
		other.Last, other.Torn = func() uint64 { return 30 }, true
		b := startWith(t, sim, other)
		awaitUp(t, a, b)
		if got := cfg.Acked(2); got != 30 {
			t.Errorf("%d is expected of it", got)
		}
	})
}

// What a member acknowledges while a stream to it stands may overtake what its next greeting says.
func TestAcknowledgedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		acked := uint64(0)
		cfg := config(1, 1, 2)
		cfg.Acked = func(uint64) uint64 { return acked }
		a, b := startWith(t, sim, cfg), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		synctest.Wait()
		acked = 7
		conn, _, stop, err := b.peer(1).connect(t.Context(), roleSnapshot)
		if err != nil {
			t.Fatal(err)
		}
		stop()
		conn.Close()
	})
}

// Members that start one after the other, and streams that break for a moment, are no news; a member that stays away is.
func TestMissingStreamIsToldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		var log strings.Builder
		var mu sync.Mutex
		cfg := config(1, 1, 2)
		cfg.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), nil))
		warnings := func() int {
			mu.Lock()
			defer mu.Unlock()
			return strings.Count(log.String(), `level=WARN msg="no stream to peer"`)
		}
		a := startWith(t, sim, cfg)
		time.Sleep(patience - time.Second)
		b := start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		synctest.Wait() // a handshake that the cut breaks is another matter
		sim.cut("")
		time.Sleep(patience)
		if n := warnings(); n > 0 {
			t.Errorf("%d warnings about what passed: %s", n, log.String())
		}
		b.stop()
		time.Sleep(time.Minute)
		if n := warnings(); n < 2 || n > 2*7 { // of two streams, each once in ten seconds
			t.Errorf("%d warnings in a minute without the other: %s", n, log.String())
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestPeerThatComesBackIsDialledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a := start(t, sim, 1, 1, 2)
		time.Sleep(10*time.Minute + 7*time.Millisecond)
		began := time.Now()
		b := start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAttemptsToDialBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		start(t, sim, 1, 1, 2)
		time.Sleep(10 * time.Minute)
		// Two streams, each once in 1 to 2 seconds.
		if n := sim.dialled(); n < 600 || n > 1300 {
			t.Errorf("dialled %d times in 10 minutes", n)
		}
	})
}

// Streams that break as soon as they stand must not make two members dial each other in a loop.
func TestStreamsThatDontLastBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a, b := start(t, sim, 1, 1, 2), start(t, sim, 2, 1, 1)
		breaking, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for breaking.Err() == nil {
			sim.cut("")
			time.Sleep(time.Millisecond)
		}
		if n := sim.dialled(); n > 4*10*40 { // four streams, none sooner than 25 ms
			t.Errorf("dialled %d times in 10 seconds", n)
		}
		time.Sleep(10 * time.Second)
		if !a.Stats().Peers[0].Up || !b.Stats().Peers[0].Up {
			t.Error("they did not find each other again")
		}
	})
}

func TestSlowReceiverPaysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		slow := config(2, 1, 1)
		enough := make(chan struct{})
		slow.Handler.(*recorder).onReceive = func(_ uint64, f Frame) {
			if f.Kind == 1 {
				<-enough
			}
		}
		cfg := config(1, 1, 2)
		cfg.MaxFrame = 1 << 20
		cfg.BulkQueue = QueueLimit{Bytes: 4 << 20, Frames: 100}
		a, b := startWith(t, sim, cfg), startWith(t, sim, slow)
		awaitUp(t, a, b)
		taken := 0
		for range 1000 {
			if a.Send(2, Bulk, 1, make([]byte, 100<<10)) {
				taken++
			}
			synctest.Wait()
		}
		if taken < 40 || taken > 60 { // 4 MiB, and what two buffers and the line hold
			t.Errorf("%d frames of 100 KiB were taken", taken)
		}
		if drops := a.Stats().Peers[0].Drops; drops != uint64(1000-taken) {
			t.Errorf("%d drops were counted of %d", drops, 1000-taken)
		}
		if !a.Send(2, Urgent, 2, []byte("heartbeat")) {
			t.Error("a heartbeat was dropped")
		}
		b.awaitFrames(t, 1)
		close(enough)
		b.awaitFrames(t, taken+1)
		if !a.Send(2, Bulk, 1, nil) {
			t.Error("there is still no room")
		}
	})
}

func TestQueueLimitCountsFrames(t *testing.T) {
	q := newQueue(QueueLimit{Bytes: 1000, Frames: 3})
	if q.push(Frame{}) {
		t.Error("a queue without a stream took a frame")
	}
	q.start()
	for i := range 3 {
		if !q.push(Frame{Kind: uint8(i)}) {
			t.Errorf("frame %d was refused", i)
		}
	}
	batch := q.take(nil)
	if len(batch) != 3 || q.push(Frame{}) {
		t.Errorf("took %d frames; or the room of frames in writing was given away", len(batch))
	}
	q.release(batch)
	if !q.push(Frame{Payload: make([]byte, 1000-frameHeader)}) || q.push(Frame{}) {
		t.Error("the limit of bytes is not exact")
	}
	if lost := q.stop(); lost != 1 || q.push(Frame{}) {
		t.Errorf("stopped with %d frames lost, and open", lost)
	}
}

func TestQueueForgetsWithItsStream(t *testing.T) {
	q := newQueue(QueueLimit{Bytes: 100, Frames: 2})
	q.start()
	q.push(Frame{Kind: 1})
	q.push(Frame{Kind: 2})
	q.stop()
	q.start()
	if batch := q.take(nil); len(batch) > 0 {
		t.Errorf("the next stream was given %v of the last", batch)
	}
	for range 2 {
		if !q.push(Frame{}) {
			t.Error("the next stream has no room")
		}
	}
}

// A stream that is pushed out has handed over its last frame before its end is told, and its end before its successor.
func TestStreamIsReplacedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(1, 1, 2)
		rec := cfg.Handler.(*recorder)
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := n.peer(2)
		stands := func(boot uint64) *stream {
			conn, _ := net.Pipe()
			return &stream{lane: lane{class: Bulk}, conn: conn, boot: boot, done: make(chan struct{})}
		}
		expect := func(what string, events ...string) {
			t.Helper()
			synctest.Wait()
			if got := rec.history(); !slices.Equal(got, events) {
				t.Fatalf("%s: %q", what, got)
			}
		}
		first, second, third := stands(3), stands(3), stands(4)
		p.enter(first)
		expect("first", "up 2 boot 3")
		if p.enter(stands(2)) {
			t.Error("an older boot was let in")
		}
		go p.enter(second)
		expect("second, while first has a frame to hand over", "up 2 boot 3")
		if _, err := first.conn.Read(nil); err == nil {
			t.Error("first is still open")
		}
		close(first.done)
		expect("second", "up 2 boot 3", "stream down 2 bulk")
		p.leave(first)
		expect("first has left, late", "up 2 boot 3", "stream down 2 bulk")
		go p.enter(third)
		expect("third, while second has a frame to hand over", "up 2 boot 3", "stream down 2 bulk")
		close(second.done)
		expect("third", "up 2 boot 3", "stream down 2 bulk", "stream down 2 bulk", "down 2", "up 2 boot 4")
		close(third.done)
		p.leave(third)
		expect("none", "up 2 boot 3", "stream down 2 bulk", "stream down 2 bulk", "down 2", "up 2 boot 4", "stream down 2 bulk", "down 2")
	})
}

// A large frame that waits to be written does not hide that the other side has gone silent, and is counted as lost.
func TestSilenceEndsAWriteThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		cfg := config(1, 1, 2)
		cfg.WriteTimeout = time.Hour
		patient := config(2, 1, 1) // else it would end the connection first
		patient.SilenceTimeout = time.Hour
		a, b := startWith(t, sim, cfg), startWith(t, sim, patient)
		awaitUp(t, a, b)
		began := time.Now()
		sim.freeze(t)
		for range 3 {
			a.Send(2, Bulk, 1, make([]byte, 1<<20))
		}
		a.awaitEvent(t, "down 2", 1)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if drops := a.Stats().Peers[0].Drops; drops != 3 {
			t.Errorf("%d drops were counted", drops)
		}
	})
}

func TestServeWaitsForTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		cfg := config(2, 1, 1)
		enough := make(chan struct{})
		cfg.Handler.(*recorder).onReceive = func(uint64, Frame) { <-enough }
		a, b := start(t, sim, 1, 1, 2), startWith(t, sim, cfg)
		awaitUp(t, a, b)
		a.Send(2, Bulk, 1, nil)
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			b.stop()
			close(stopped)
		}()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("returned while the Handler had a frame")
		default:
		}
		close(enough)
		<-stopped
		if events := b.history(); events[len(events)-1] != "down 1" {
			t.Errorf("%q", events)
		}
	})
}

// A dialler that never listens to its answers loses its stream.
func TestDiallerThatNeverListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a := start(t, sim, 1, 1, 2)
		conn, err := sim.Dial(t.Context(), addrOf(1))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = conn.Write(greet(func(*greeting) {}))
			_, _ = readOpening(conn)
			_, _ = conn.Write(confirm)
			for err == nil {
				_, err = conn.Write(encodeFrame(t, kindPing, make([]byte, 8)))
			}
		}()
		a.awaitEvent(t, "up 2 boot 3", 1)
		began := time.Now()
		a.awaitEvent(t, "down 2", 1)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestRoundTripsAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		sim.rate = 17_000 // a ping and its answer have 17 bytes each
		var observed time.Duration
		cfg := config(1, 1, 2)
		cfg.RoundTrip = func(id uint64, d time.Duration) { observed = d }
		a, b := startWith(t, sim, cfg), start(t, sim, 2, 1, 1)
		awaitUp(t, a, b)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s := a.Stats().Peers[0]
		if s.RTT != 2*time.Millisecond || observed != s.RTT {
			t.Errorf("round trip %v, observed %v", s.RTT, observed)
		}
		if s.ID != 2 || !s.Up || s.SentBytes < 400 || s.ReceivedBytes < 400 || s.SentBytes > 1500 {
			t.Errorf("%+v", s)
		}
	})
}

func TestMembersOfDifferentClustersRefuseEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		other := config(2, 1, 1)
		other.Self.Cluster = 0xC2
		a, b := start(t, sim, 1, 1, 2), startWith(t, sim, other)
		time.Sleep(time.Minute)
		if log := slices.Concat(a.history(), b.history()); len(log) > 0 {
			t.Fatalf("%q", log)
		}
		_, _, _, err := a.peer(2).connect(t.Context(), roleBulk)
		want := `refused: this is member 2 ("n2") of cluster c2; you asked for member 2 of cluster c1`
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v", err)
		}
		if a.Stats().Refused == 0 {
			t.Error("no refusal was counted")
		}
	})
}

// A dialler believes a welcome only if it comes from whom it asked for.
func TestWelcomeFromAnotherIsNotBelieved(t *testing.T) {
	good := greeting{role: roleBulk, from: Identity{Cluster: testCluster, Member: 2, Boot: 5}, to: 1}
	for name, spoil := range map[string]func(*greeting){
		"role":    func(g *greeting) { g.role = roleUrgent },
		"cluster": func(g *greeting) { g.from.Cluster++ },
		"member":  func(g *greeting) { g.from.Member++ },
		"to":      func(g *greeting) { g.to++ },
		"boot":    func(g *greeting) { g.from.Boot-- },
		"absent":  func(g *greeting) { g.from.Boot = 0 },
		"":        func(*greeting) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := config(1, 1, 2)
			cfg.Boots = map[uint64]uint64{2: 5}
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			here, there := net.Pipe()
			defer here.Close()
			defer there.Close()
			heard := make(chan error)
			go func() {
				g := good
				spoil(&g)
				_, err := readOpening(there)
				err = errors.Join(err, send(there, openWelcome, g.encode()))
				_, answer := expect(there, openConfirm)
				check(t, err)
				heard <- answer
			}()
			_, err = n.peer(2).greet(here, roleBulk)
			if answer := <-heard; (err == nil) != (name == "") || (answer == nil) != (name == "") {
				t.Errorf("wrong %s: %v, and the other side heard %v", name, err, answer)
			}
		})
	}
}

func TestStreamsBeforeThereIsACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		cfg := config(1, 1)
		cfg.Self.Cluster = 0
		cfg.Dial = sim.Dial
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Run(t.Context()); err == nil {
			t.Error("ran without a cluster")
		}
		if n.Send(2, Urgent, 1, nil) || len(n.Stats().Peers) > 0 {
			t.Error("has peers without a cluster")
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ln := sim.Listen(t, addrOf(1))
		go func() { check(t, n.Serve(ctx, ln)) }()
		b := start(t, sim, 2, 1, 1)
		_, _, _, err = b.peer(1).connect(t.Context(), roleBulk)
		if err == nil || !strings.Contains(err.Error(), `this is member 1 ("n1"), not part of a cluster yet`) {
			t.Errorf("%v", err)
		}
		if err := n.Join(testCluster, map[uint64]string{1: addrOf(1), 2: addrOf(2)}); err != nil {
			t.Fatal(err)
		}
		b.awaitEvent(t, "stream up 1 bulk", 1)
		if !b.Send(1, Bulk, 3, []byte("x")) {
			t.Error("dropped")
		}
		cfg.Handler.(*recorder).awaitFrames(t, 1)
		if err := n.Join(testCluster, nil); err == nil {
			t.Error("joined twice")
		}
	})
}

func TestConfigThatCantWorkIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no member":         func(c *Config) { c.Self.Member = 0 },
		"no boot":           func(c *Config) { c.Self.Boot = 0 },
		"long name":         func(c *Config) { c.Self.Name = strings.Repeat("n", maxName+1) },
		"no handler":        func(c *Config) { c.Handler = nil },
		"negative frame":    func(c *Config) { c.MaxFrame = -1 },
		"queue below frame": func(c *Config) { c.BulkQueue = QueueLimit{Bytes: 8 << 20, Frames: 1} },
		"queue of nothing":  func(c *Config) { c.UrgentQueue = QueueLimit{Bytes: 1} },
		"impatient":         func(c *Config) { c.SilenceTimeout = 2 * time.Second },
		"backoff":           func(c *Config) { c.MaxBackoff = time.Millisecond },
		"negative time":     func(c *Config) { c.DialTimeout = -1 },
		"negative pending":  func(c *Config) { c.MaxPending = -1 },
		"zero peer":         func(c *Config) { c.Addrs[0] = "x" },
		"peer nowhere":      func(c *Config) { c.Addrs[3] = "" },
	} {
		cfg := config(1, 1, 2)
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSendOfWhatCantBeSentPanics(t *testing.T) {
	n, err := New(config(1, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(){
		"kind": func() { n.Send(2, Bulk, MaxKind+1, nil) },
		"size": func() { n.Send(2, Bulk, 1, make([]byte, 8<<20+1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			do()
		}()
	}
	if n.Send(3, Bulk, 1, nil) || n.Send(1, Bulk, 1, nil) {
		t.Error("a frame to nobody, or to itself, was taken")
	}
}

func ExampleClass() {
	fmt.Println(Urgent, Bulk)
	// Output: urgent bulk
}
