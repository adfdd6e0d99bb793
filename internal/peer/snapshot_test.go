package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// spool keeps what arrived of a snapshot, as a file would, and resumes there.
type spool struct {
	got     []byte
	offsets []int64 // from which it asked
}

func (s *spool) take(_ context.Context, _ uint64, t *Transfer) error {
	s.offsets = append(s.offsets, int64(len(s.got)))
	if err := t.ResumeAt(int64(len(s.got))); err != nil {
		return err
	}
	rest, err := io.ReadAll(t)
	s.got = append(s.got, rest...)
	return err
}

// pair starts a sender and a receiver in a simulated network.
func pair(t *testing.T, sim *simnet, take func(context.Context, uint64, *Transfer) error) (from, to *node) {
	t.Helper()
	cfg := config(2, 1, 1)
	cfg.Handler.(*recorder).onSnapshot = take
	from, to = start(t, sim, 1, 1, 2), startWith(t, sim, cfg)
	awaitUp(t, from, to)
	return from, to
}

func TestSnapshotArrivesWhole(t *testing.T) {
	for _, size := range []int{0, 1, chunkSize, chunkSize + 1, 5*chunkSize - 1} {
		synctest.Test(t, func(t *testing.T) {
			sent := randomBytes(size)
			var got, header []byte
			a, _ := pair(t, newSimnet(), func(_ context.Context, from uint64, tr *Transfer) (err error) {
				if from != 1 || tr.Size != int64(size) {
					t.Errorf("%d bytes from member %d", tr.Size, from)
				}
				header = tr.Header
				got, err = io.ReadAll(tr)
				return err
			})
			var at []int64
			err := a.SendSnapshot(t.Context(), 2, []byte("header"), int64(size), bytes.NewReader(sent), func(offset int64) { at = append(at, offset) })
			if err != nil || !bytes.Equal(got, sent) || string(header) != "header" {
				t.Errorf("%d of %d bytes with header %q: %v", len(got), size, header, err)
			}
			if chunks := (size + chunkSize - 1) / chunkSize; len(at) != chunks || chunks > 0 && at[chunks-1] != int64(size) {
				t.Errorf("progress %v", at)
			}
		})
	}
}

func TestSnapshotIsInterruptedAndResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		sent := randomBytes(20 * chunkSize)
		var s spool
		a, _ := pair(t, sim, s.take)
		send := func(cutAt int64) error {
			return a.SendSnapshot(t.Context(), 2, nil, int64(len(sent)), bytes.NewReader(sent), func(offset int64) {
				if offset == cutAt {
					sim.cut("")
				}
			})
		}
		for _, cutAt := range []int64{5 * chunkSize, 12 * chunkSize} {
			if err := send(cutAt); err == nil || errors.As(err, new(*RefusedError)) {
				t.Fatalf("a transfer that was cut ended with %v", err)
			}
			time.Sleep(10 * time.Second)
		}
		if err := send(-1); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.got, sent) {
			t.Errorf("%d bytes, other than those sent", len(s.got))
		}
		if len(s.offsets) != 3 || s.offsets[1] < 4*chunkSize-1 || s.offsets[2] < 11*chunkSize-1 {
			t.Errorf("it began at %v", s.offsets)
		}
		if err := send(-1); err != nil || s.offsets[3] != int64(len(sent)) {
			t.Errorf("a snapshot that is there already was sent from %d: %v", s.offsets[3], err)
		}
	})
}

func TestVerdictOfTheReceiver(t *testing.T) {
	no := errors.New("wrong\ndigest \xff")
	for name, row := range map[string]struct {
		take func(*Transfer) error
		want string
	}{
		"no, at once":     {func(*Transfer) error { return no }, "refused: wrong\ndigest ?"},
		"yes, at once":    {func(*Transfer) error { return nil }, ""},
		"no, in between":  {func(tr *Transfer) error { _, err := io.ReadFull(tr, make([]byte, 1000)); return errors.Join(err, no) }, "refused: wrong\ndigest ?"},
		"yes, in between": {func(tr *Transfer) error { _, err := io.ReadFull(tr, make([]byte, 1000)); return err }, ""},
		"no, at the end":  {func(tr *Transfer) error { _, err := io.Copy(io.Discard, tr); return errors.Join(err, no) }, "refused: wrong\ndigest ?"},
		"many words":      {func(*Transfer) error { return errors.New(strings.Repeat("x", 10_000)) }, "refused: " + strings.Repeat("x", maxReason)},
	} {
		for _, m := range []medium{nil, newLoopback()} { // in memory, and over TCP, where closing with bytes unread resets
			test := func(t *testing.T) {
				cfg := config(2, 1, 1)
				cfg.Handler.(*recorder).onSnapshot = func(_ context.Context, _ uint64, tr *Transfer) error { return row.take(tr) }
				on := m
				if on == nil {
					on = newSimnet()
				}
				startWith(t, on, cfg)
				a := start(t, on, 1, 1, 2)
				sent := randomBytes(40 * chunkSize)
				err := a.SendSnapshot(t.Context(), 2, nil, int64(len(sent)), bytes.NewReader(sent), nil)
				if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.HasSuffix(err.Error(), row.want)) {
					t.Errorf("%s: %v", name, err)
				}
				if errors.As(err, new(*RefusedError)) != (row.want != "") {
					t.Errorf("%s: %T", name, err)
				}
			}
			if m == nil {
				synctest.Test(t, test)
			} else {
				t.Run(name, test)
			}
		}
	}
}

// The receiver may work for longer than any timeout, before, while and after it reads.
func TestReceiverTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := randomBytes(10 * chunkSize)
		a, _ := pair(t, newSimnet(), func(_ context.Context, _ uint64, tr *Transfer) error {
			time.Sleep(time.Minute)
			for range 10 {
				if _, err := io.ReadFull(tr, make([]byte, chunkSize)); err != nil {
					return err
				}
				time.Sleep(time.Minute)
			}
			return nil
		})
		began := time.Now()
		if err := a.SendSnapshot(t.Context(), 2, nil, int64(len(sent)), bytes.NewReader(sent), nil); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 11*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

func TestSenderNoticesThatTheReceiverIsGone(t *testing.T) {
	for name, row := range map[string]struct {
		happens func(testing.TB, *simnet, *node)
		within  time.Duration
	}{
		"its process ended":          {func(_ testing.TB, _ *simnet, b *node) { b.stop() }, 0},
		"its machine doesn't answer": {func(t testing.TB, sim *simnet, _ *node) { sim.freeze(t) }, 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSimnet()
			reading := make(chan struct{})
			a, b := pair(t, sim, func(ctx context.Context, _ uint64, tr *Transfer) error {
				close(reading)
				<-ctx.Done()
				return ctx.Err()
			})
			happened := make(chan time.Time, 1)
			go func() {
				<-reading
				happened <- time.Now()
				row.happens(t, sim, b)
			}()
			err := a.SendSnapshot(t.Context(), 2, nil, 1, bytes.NewReader([]byte{1}), nil)
			if took := time.Since(<-happened); err == nil || took > row.within {
				t.Errorf("%s: after %v: %v", name, took, err)
			}
		})
	}
}

func TestReceiverNoticesThatTheSenderIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		ended := make(chan error, 1)
		a, _ := pair(t, sim, func(_ context.Context, _ uint64, tr *Transfer) error {
			_, err := io.Copy(io.Discard, tr)
			ended <- err
			return err
		})
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		err := a.SendSnapshot(ctx, 2, nil, 10*chunkSize, bytes.NewReader(make([]byte, 10*chunkSize)), func(offset int64) {
			if offset == 3*chunkSize {
				cancel()
				synctest.Wait() // until it is seen: else all of it may be sent before
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the sender ended with %v", err)
		}
		if err := <-ended; err == nil || time.Since(began) > 0 {
			t.Errorf("the receiver ended after %v with %v", time.Since(began), err)
		}
	})
}

type failingFile struct{ after int64 }

func (f failingFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.after {
		return 0, errors.New("input/output error")
	}
	return len(p), nil
}

func TestSenderWhoseFileFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spool
		a, _ := pair(t, newSimnet(), s.take)
		err := a.SendSnapshot(t.Context(), 2, nil, 10*chunkSize, failingFile{3 * chunkSize}, nil)
		want := fmt.Sprintf("couldn't read the snapshot at offset %d: input/output error", 3*chunkSize)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v", err)
		}
	})
}

type slowFile struct{}

func (slowFile) ReadAt([]byte, int64) (int, error) {
	time.Sleep(time.Second)
	return 0, errors.New("input/output error")
}

func TestVerdictCountsMoreThanWhatFailedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pair(t, newSimnet(), func(_ context.Context, _ uint64, tr *Transfer) error {
			return errors.Join(tr.ResumeAt(0), errors.New("no"))
		})
		err := a.SendSnapshot(t.Context(), 2, nil, 1, slowFile{}, nil)
		if err == nil || !strings.HasSuffix(err.Error(), "refused: no") {
			t.Errorf("%v", err)
		}
	})
}

// A receiver that closed with bytes unread would reset the connection, and on a line that loses packets its verdict with it.
func TestReceiverWaitsUntilItsVerdictWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		start(t, sim, 1, 1, 2)
		conn, err := sim.Dial(t.Context(), addrOf(1))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write(greet(func(g *greeting) { g.role = roleSnapshot }))
		_, _ = readOpening(conn)
		_, _ = conn.Write(append(bytes.Clone(confirm), encodeFrame(t, kindOffer, []byte("short"))...))
		if f, err := newFrameReader(conn, 1+maxReason).next(); err != nil || f.Kind != kindVerdict {
			t.Fatalf("%+v, %v", f, err)
		}
		for range 4 {
			time.Sleep(time.Second)
			if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if _, err := conn.Write(make([]byte, 1<<20)); err == nil {
			t.Error("it waits for ever")
		}
	})
}

// The newest transfer wins, and the Handler never has two of one member.
func TestNewTransferReplacesTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := 0
		var outcomes []string
		a, _ := pair(t, newSimnet(), func(ctx context.Context, _ uint64, tr *Transfer) error {
			busy++
			defer func() { busy-- }()
			if busy > 1 {
				t.Errorf("%d transfers at once", busy)
			}
			if string(tr.Header) == "last" {
				return nil
			}
			<-ctx.Done()
			time.Sleep(time.Minute) // it has to clean up
			return ctx.Err()
		})
		done := make(chan string)
		send := func(header string) {
			err := a.SendSnapshot(t.Context(), 2, []byte(header), 1, bytes.NewReader([]byte{1}), nil)
			done <- fmt.Sprintf("%s %v", header, err == nil)
		}
		for _, header := range []string{"first", "second", "last"} {
			go send(header)
			time.Sleep(3 * time.Second)
		}
		for range 3 {
			outcomes = append(outcomes, <-done)
		}
		slices.Sort(outcomes)
		if want := []string{"first false", "last true", "second false"}; !slices.Equal(outcomes, want) {
			t.Errorf("%q", outcomes)
		}
	})
}

func TestSnapshotThatCantBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimnet()
		a := start(t, sim, 1, 1, 2)
		for name, err := range map[string]error{
			"to nobody":    a.SendSnapshot(t.Context(), 9, nil, 1, bytes.NewReader(nil), nil),
			"negative":     a.SendSnapshot(t.Context(), 2, nil, -1, bytes.NewReader(nil), nil),
			"long header":  a.SendSnapshot(t.Context(), 2, make([]byte, maxHeader+1), 1, bytes.NewReader(nil), nil),
			"to the dead":  a.SendSnapshot(t.Context(), 2, nil, 1, bytes.NewReader(nil), nil),
			"to this very": a.SendSnapshot(t.Context(), 1, nil, 1, bytes.NewReader(nil), nil),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		cfg := config(2, 1, 1)
		cfg.MaxSnapshot = 1000
		startWith(t, sim, cfg)
		err := a.SendSnapshot(t.Context(), 2, nil, 1001, bytes.NewReader(nil), nil)
		if err == nil || !strings.Contains(err.Error(), "at most 1000 are allowed") {
			t.Errorf("too large for the receiver: %v", err)
		}
	})
}

// What a sender gone mad says on a snapshot's connection ends its transfer with an error and nothing else.
func TestWrongSnapshotFrames(t *testing.T) {
	var read []byte
	var result error
	h := startHostile(t, func(c *Config) {
		c.Handler.(*recorder).onSnapshot = func(_ context.Context, _ uint64, tr *Transfer) error {
			read, result = io.ReadAll(tr)
			return result
		}
	})
	u64 := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	handshake := append(greet(func(g *greeting) { g.role = roleSnapshot }), confirm...)
	offer := encodeFrame(t, kindOffer, u64(10), []byte("header"))
	chunk := func(at int64, data string) []byte { return encodeFrame(t, kindChunk, u64(at), []byte(data)) }
	for name, row := range map[string]struct {
		words []byte
		want  string // in the verdict; "ok" for accepted
		read  string
	}{
		"whole":                              {slices.Concat(offer, chunk(0, "01234"), chunk(5, "56789")), "ok", "0123456789"},
		"no offer":                           {chunk(0, "01234"), "as a snapshot's offer", ""},
		"offer without size":                 {encodeFrame(t, kindOffer, []byte("1234567")), "as a snapshot's offer", ""},
		"negative size":                      {encodeFrame(t, kindOffer, u64(-1)), "a snapshot of -1 bytes", ""},
		"more than any":                      {encodeFrame(t, kindOffer, u64(1<<62)), "at most", ""},
		"larger than declared":               {slices.Concat(offer, chunk(0, "0123456789A")), "with offset 0 and 11 bytes", ""},
		"larger, and more that nobody reads": {slices.Concat(offer, chunk(0, "0123456789A"), make([]byte, 2<<20)), "with offset 0 and 11 bytes", ""},
		"larger, later":                      {slices.Concat(offer, chunk(0, "01234"), chunk(5, "56789A")), "with offset 5 and 6 bytes", "01234"},
		"shorter than said":                  {slices.Concat(offer, chunk(0, "01234")), "unexpected EOF", "01234"},
		"out of order":                       {slices.Concat(offer, chunk(5, "56789"), chunk(0, "01234")), "with offset 5", ""},
		"twice":                              {slices.Concat(offer, chunk(0, "01234"), chunk(0, "01234")), "with offset 0", "01234"},
		"empty chunk":                        {slices.Concat(offer, chunk(0, "")), "0 bytes", ""},
		"chunk without place":                {slices.Concat(offer, encodeFrame(t, kindChunk, []byte("1234567"))), "with offset 0", ""},
		"a stream's frame":                   {slices.Concat(offer, encodeFrame(t, 1, []byte("x"))), "kind 0x1", ""},
		"damaged":                            {slices.Concat(offer, bytes.Replace(chunk(0, "01234"), []byte("2"), []byte("3"), 1)), "wrong checksum", ""},
	} {
		read, result = nil, nil
		answer := h.say(t, append(bytes.Clone(handshake), row.words...), true)
		r := bytes.NewReader(answer)
		if o, err := readOpening(r); err != nil || o.kind != openWelcome {
			t.Fatalf("%s: %v, %v", name, o, err)
		}
		verdict := errors.New("none")
		for frames := newFrameReader(r, 1<<20); ; {
			f, err := frames.next()
			if err != nil {
				break
			}
			if f.Kind == kindVerdict {
				verdict = decodeVerdict(f.Payload)
			}
		}
		switch {
		case row.want == "ok" && verdict != nil, row.want != "ok" && (verdict == nil || !strings.Contains(verdict.Error(), row.want)):
			t.Errorf("%s: verdict %v", name, verdict)
		case string(read) != row.read || (result != nil) != (row.want != "ok") && row.read != "":
			t.Errorf("%s: the receiver read %q, %v", name, read, result)
		}
	}
	if len(h.history()) > 0 {
		t.Errorf("a snapshot's connection counted as a stream: %q", h.history())
	}
}

// What a receiver gone mad answers ends SendSnapshot with an error.
func TestWrongAnswersToASnapshot(t *testing.T) {
	u64 := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	for name, row := range map[string]struct {
		answer []byte
		want   string
	}{
		"nothing":            {nil, "lost the receiver"},
		"resume beyond":      {encodeFrame(t, kindResume, u64(11)), "asked to resume a snapshot of 10 bytes at 11"},
		"resume before":      {encodeFrame(t, kindResume, u64(-1)), "asked to resume a snapshot of 10 bytes at -1"},
		"resume nowhere":     {encodeFrame(t, kindResume), "asked to resume"},
		"resume twice":       {slices.Concat(encodeFrame(t, kindResume, u64(0)), encodeFrame(t, kindResume, u64(0))), "frame of kind 0xf3"},
		"verdict of nothing": {encodeFrame(t, kindVerdict), "frame of kind 0xf5"},
		"a chunk":            {encodeFrame(t, kindChunk, u64(0), []byte("x")), "frame of kind 0xf4"},
		"a long answer":      {encodeFrame(t, kindVerdict, make([]byte, 10_000)), "frame of 10000 bytes"},
		"garbage":            {[]byte("HTTP/1.1 400 Bad Request\r\n"), "lost the receiver"},
	} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			var received, sent atomic.Uint64
			w := &wire{Conn: here, silence: 5 * time.Second, stall: 5 * time.Second, received: &received, sent: &sent}
			go func() { _, _ = io.Copy(io.Discard, there) }()
			go func() {
				_, _ = there.Write(row.answer)
				there.Close()
			}()
			err := newSending(w, 10, nil).run(nil, bytes.NewReader(make([]byte, 10)))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
