package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coord-kv/coord/op"
)

// sends is an event stream that breaks off after text.
func sends(pos int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Coord-Watch-Position", fmt.Sprint(pos))
		io.WriteString(w, "retry: 1000\n\n"+text)
		http.NewResponseController(w).Flush()
		hangUp(w, r)
	}
}

// change is the message of one transaction that has changed /x.
func change(zxid int) string {
	return fmt.Sprintf("event: change\ndata: {\"zxid\":\"%d\",\"events\":"+
		"[{\"zxid\":\"%[1]d\",\"type\":\"changed\",\"path\":\"/x\"}]}\nid: %[1]d\n\n", zxid)
}

const reset = "event: reset\nid\ndata: {\"code\":\"history_gone\",\"detail\":\"the oldest position kept is 9\"}\n\n"

// follow returns the zxids of all events and the error that ended the watch.
func follow(ctx context.Context, c *Client, o WatchOptions) (zxids []op.Zxid, err error) {
	for m, e := range c.Watch(ctx, "/x", o) {
		if e != nil {
			return zxids, e
		}
		for _, ev := range m.Events {
			zxids = append(zxids, ev.Zxid)
		}
	}
	return zxids, nil
}

// TestWatchGoesOn breaks a watch at every byte of what it sends: over the connections together, each event comes once.
func TestWatchGoesOn(t *testing.T) {
	whole := change(3) + change(4) + "event: bookmark\ndata: {\"zxid\":\"6\"}\nid: 6\n\n" + change(7)
	for at := range len(whole) + 1 {
		var since string
		answer := func(w http.ResponseWriter, r *http.Request) {
			since = r.URL.Query().Get("since")
			n := len(change(3))
			rest := map[string]string{"2": whole, "3": whole[n:], "4": whole[2*n:], "6": change(7)}
			sends(0, rest[since]+reset)(w, r)
		}
		e := newEndpoint(t, sends(2, whole[:at]), answer)
		zxids, err := follow(t.Context(), newClient(t, e.URL), WatchOptions{})
		if want := []op.Zxid{3, 4, 7}; !slices.Equal(zxids, want) || !isCode(err, op.HistoryGone) {
			t.Fatalf("broken after %d bytes, resumed since %s: got %v, %v", at, since, zxids, err)
		}
		e.Close()
	}
}

// TestWatchFailsOver: a watch goes on at another endpoint, and begins where the first one said, though no event came.
func TestWatchFailsOver(t *testing.T) {
	first := newEndpoint(t, sends(5, ""), trouble(503, op.Draining, op.Refused))
	second := newEndpoint(t, sends(0, change(6)+reset))
	lost := 0
	zxids, err := follow(t.Context(), newClient(t, first.URL, second.URL), WatchOptions{Lost: func(error) { lost++ }})
	if !slices.Equal(zxids, []op.Zxid{6}) || !isCode(err, op.HistoryGone) || lost != 1 {
		t.Errorf("got %v, %v, lost %d times", zxids, err, lost)
	}
	if since := second.requests()[0].URL.Query().Get("since"); since != "5" {
		t.Errorf("resumed since %q, want 5", since)
	}
}

// TestWatchRefused: what no new connection mends ends a watch at once.
func TestWatchRefused(t *testing.T) {
	since := op.Zxid(1)
	e := newEndpoint(t, trouble(410, op.HistoryGone, op.Refused))
	if _, err := follow(t.Context(), newClient(t, e.URL), WatchOptions{Since: &since}); !isCode(err, op.HistoryGone) {
		t.Error(err)
	}
	if n := len(e.requests()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestWatchConnects: the first connection has a limit.
func TestWatchConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Endpoints: []string{"http://hung"}, Transport: network(
			func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = follow(t.Context(), c, WatchOptions{Connect: 3 * time.Second})
		if _, ok := errors.AsType[*UnreachableError](err); !ok || time.Since(start) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// TestSilentWatch: a connection over which nothing comes for too long is given up, and the watch goes on over another.
func TestSilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		c, err := New(Config{Endpoints: []string{"http://silent"}, Transport: network(
			func(r *http.Request) (*http.Response, error) {
				if connections++; connections > 1 {
					return answerOf(io.NopCloser(strings.NewReader(change(8) + reset))), nil
				}
				in, out := io.Pipe()
				context.AfterFunc(r.Context(), func() { out.CloseWithError(r.Context().Err()) })
				return answerOf(in), nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		zxids, err := follow(t.Context(), c, WatchOptions{})
		if !slices.Equal(zxids, []op.Zxid{8}) || !isCode(err, op.HistoryGone) || time.Since(start) != defaultIdle {
			t.Errorf("after %s: %v, %v", time.Since(start), zxids, err)
		}
	})
}

// TestWatchStops: a watch ends without an error when its context does, or when nobody wants to know more.
func TestWatchStops(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, change(1))
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for m, err := range newClient(t, e.URL).Watch(ctx, "/x", WatchOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Events) > 0 {
			cancel()
		}
	}
	for range newClient(t, e.URL).Watch(t.Context(), "/x", WatchOptions{}) {
		break
	}
}

// FuzzEventReader: whatever a stream has, reading it ends, and messages have data.
func FuzzEventReader(f *testing.F) {
	f.Add([]byte("retry: 1000\n\n" + change(3) + reset))
	f.Add([]byte(":comment\r\nevent:x\ndata\ndata: a\ndata:b\n\n\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := newEventReader(strings.NewReader(string(b)))
		for read := 0; ; read++ {
			_, data, err := in.next()
			if err != nil {
				return
			}
			if data == nil || read > len(b) {
				t.Fatalf("message %d has the data %q", read, data)
			}
		}
	})
}
