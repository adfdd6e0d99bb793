package discovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestVerdicts shows what a check makes of what its runs find:
//
//	check [pass-after=N] [fail-after=N]     its input is a line of runs: + well, ! warning, - failure
func TestVerdicts(t *testing.T) {
	datadriven.RunTest(t, "testdata/verdicts.txt", func(t *testing.T, d *datadriven.TestData) string {
		c := Check{Probe: func(context.Context) error { return nil }}
		d.MaybeScanArgs(t, "pass-after", &c.PassAfter)
		d.MaybeScanArgs(t, "fail-after", &c.FailAfter)
		c, err := c.complete()
		if err != nil {
			return err.Error()
		}
		found := map[string]error{"+": nil, "!": Warn(errors.New("hm")), "-": errors.New("no")}
		v, out := verdict{health: health{status: Critical}}, "  critical\n"
		for _, run := range strings.Fields(d.Input) {
			v.note(&c, found[run])
			out += run + " " + string(v.status) + "\n"
		}
		return out
	})
}

func TestChecksAreChecked(t *testing.T) {
	probe := func(context.Context) error { return nil }
	for _, c := range []Check{
		{}, {Probe: probe, Interval: time.Millisecond}, {Probe: probe, Interval: -1}, {Probe: probe, Timeout: -1},
		{Probe: probe, PassAfter: -1}, {Probe: probe, FailAfter: -1},
	} {
		if _, err := c.complete(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// A run that takes too long has failed, and says so.
func TestTimeout(t *testing.T) {
	c, _ := Check{Name: "slow", Timeout: time.Millisecond, Probe: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}.complete()
	err := c.run(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "slow: not done within 1ms") {
		t.Error(err)
	}
}

func run(t *testing.T, c Check) string {
	c, err := c.complete()
	if err != nil {
		t.Fatal(err)
	}
	c.Timeout = time.Minute
	err = c.run(t.Context())
	if err == nil {
		return "well"
	}
	if _, ok := errors.AsType[*warning](err); ok {
		return "warning: " + err.Error()
	}
	return err.Error()
}

func TestHTTP(t *testing.T) {
	answer := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/")
		w.WriteHeader(answer)
	}))
	for code, want := range map[int]string{
		200: "well", 204: "well", 302: "302 Found", 429: "warning: 429 Too Many Requests", 500: "500 Internal Server Error",
	} {
		answer = code
		got := strings.ReplaceAll(run(t, HTTP(s.URL+"/health")), s.URL+"/health: ", "")
		if got != want {
			t.Errorf("%d: %s, want %s", code, got, want)
		}
	}
	s.Close()
	if got := run(t, HTTP(s.URL)); !strings.Contains(got, "connect") {
		t.Error(got)
	}
	if got := run(t, HTTP("::")); !strings.Contains(got, "missing protocol scheme") {
		t.Error(got)
	}
}

func TestTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, TCP(ln.Addr().String())); got != "well" {
		t.Error(got)
	}
	ln.Close()
	if got := run(t, TCP(ln.Addr().String())); !strings.HasPrefix(got, "tcp://127.0.0.1:") {
		t.Error(got)
	}
}

// healthServer is grpc.health.v1.Health as far as GRPC asks it.
type healthServer struct {
	message []byte // of the answer, with its frame
	status  string // gRPC's
	asked   []byte
}

func (h *healthServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	h.asked, _ = io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	w.Write(h.message)
	w.Header().Set("Grpc-Status", h.status)
	w.Header().Set("Grpc-Message", "so it is")
}

func TestGRPC(t *testing.T) {
	h := &healthServer{}
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	addr := s.Listener.Addr().String()
	const nonsense = "it answered something that is no gRPC health status"
	for _, test := range []struct {
		message string
		status  string
		want    string
	}{
		{"\x00\x00\x00\x00\x02\x08\x01", "0", "well"},
		{"\x00\x00\x00\x00\x02\x08\x02", "0", "NOT_SERVING"},
		{"\x00\x00\x00\x00\x02\x08\x09", "0", "status 9"},
		{"\x00\x00\x00\x00\x00", "0", "UNKNOWN"},
		{"", "5", `gRPC status "5": so it is`},
		{"", "", `gRPC status "": so it is`},
		{"", "0", nonsense},
		{"\x01\x00\x00\x00\x02\x08\x01", "0", nonsense},
		{"\x00\x00\x00\x00\x03\x08\x01", "0", nonsense},
		{"\x00\x00\x00\x00\x02\x12\x01", "0", nonsense},
		{"\x00\x00\x00\x00\x02\x08\xff", "0", nonsense},
		{"\x00\x00\x00\x00\x01\x08", "0", nonsense},
	} {
		h.message, h.status = []byte(test.message), test.status
		got := strings.TrimPrefix(run(t, GRPC(addr, "pay")), "grpc://"+addr+"/pay: ")
		if got != test.want {
			t.Errorf("%q %s: %s, want %s", test.message, test.status, got, test.want)
		}
	}
	if want := "\x00\x00\x00\x00\x05\x0a\x03pay"; string(h.asked) != want {
		t.Errorf("asked %q, want %q", h.asked, want)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if got := run(t, GRPC(plain.Listener.Addr().String(), "")); got == "well" {
		t.Error("a server without HTTP/2 is well")
	}
}

// FuzzHealthAnswer: whatever a server answers, it is read in bounds.
func FuzzHealthAnswer(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"), "0")
	f.Add([]byte("\x00\xff\xff\xff\xff\x08\x01"), "0")
	f.Add([]byte(""), "14")
	f.Fuzz(func(t *testing.T, msg []byte, status string) {
		res := &http.Response{
			StatusCode: 200, Body: io.NopCloser(strings.NewReader(string(msg))), Header: http.Header{"Grpc-Status": {status}},
		}
		err := healthAnswer(res)
		serving := len(msg) > 6 && msg[0] == 0 && int64(binary.BigEndian.Uint32(msg[1:])) == int64(len(msg)-5) && msg[5] == 8
		if err == nil && !serving {
			t.Errorf("%q is taken for well", msg)
		}
		_ = fmt.Sprint(err)
	})
}
