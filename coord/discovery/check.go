package discovery

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coord-kv/coord/op"
)

// Probe looks once at whether an instance is well. Nil says that it is, an error made by Warn that somebody should look
// at it, any other error that it isn't. It must return when ctx ends.
type Probe func(ctx context.Context) error

// Check is a Probe that is run again and again, beginning at once. Until it has found the instance well for the first
// time it is run more often: after 0.2 s, 0.4 s, and so on up to Interval.
type Check struct {
	Name      string // for errors
	Probe     Probe
	Interval  time.Duration // between the end of one run and the beginning of the next; 0 means 10 s
	Timeout   time.Duration // of one run; 0 means 5 s
	PassAfter int           // so many successes in a row make the instance well again; 0 means 1
	FailAfter int           // so many failures in a row make it critical; 0 means 3
}

const (
	shortest      = 10 * time.Millisecond  // interval between two runs of a check
	startingPause = 200 * time.Millisecond // between the first two; doubled from one to the next
	steady        = 3                      // runs in a row that give a check another reason
)

func (c Check) complete() (Check, error) {
	c.Interval = cmp.Or(c.Interval, 10*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.PassAfter = cmp.Or(c.PassAfter, 1)
	c.FailAfter = cmp.Or(c.FailAfter, 3)
	switch {
	case c.Probe == nil:
		return c, op.Errorf(op.BadRequest, "the check %.64q has no Probe", c.Name)
	case c.Interval < shortest:
		return c, op.Errorf(op.BadRequest, "the check %.64q has the interval %s; it is at least %s", c.Name, c.Interval, shortest)
	case c.Timeout < 0 || c.PassAfter < 0 || c.FailAfter < 0:
		return c, op.Errorf(op.BadRequest, "the check %.64q has a negative timeout or count", c.Name)
	}
	return c, nil
}

// run runs the probe once.
func (c *Check) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := c.Probe(ctx)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("not done within %s: %w", c.Timeout, err)
	}
	if err != nil && c.Name != "" {
		err = fmt.Errorf("%s: %w", c.Name, err)
	}
	return err
}

// Warn makes err one that leaves an instance in use, with the status Warning.
func Warn(err error) error { return &warning{err} }

type warning struct{ error }

func (w *warning) Unwrap() error { return w.error }

// verdict is what one check has come to.
type verdict struct {
	health               // the reason is that of the run which made it so, or what runs keep saying since
	passes, fails int    // in a row, one of them 0
	known         bool   // it is one that runs have come to
	said          string // by the latest run, and
	times         int    // so often in a row
}

// note takes in what a run has found, and reports whether that makes the first verdict. The reason is that of the run which
// has changed the status, until several in a row say the same other thing: a program that has started refuses connections no
// more but says what it lacks. What fails in other words each time is not written each time.
func (v *verdict) note(c *Check, err error) (first bool) {
	if err == nil {
		v.passes, v.fails = v.passes+1, 0
	} else {
		v.passes, v.fails = 0, v.fails+1
	}
	reason := reasonOf(err)
	if v.times++; reason != v.said {
		v.said, v.times = reason, 1
	}
	_, warned := errors.AsType[*warning](err)
	var status Status
	switch {
	case warned:
		status, v.fails = Warning, 0
	case v.passes >= c.PassAfter:
		status = Passing
	case v.fails >= c.FailAfter:
		status = Critical
	default:
		return false
	}
	first, v.known = !v.known, true
	if first || status != v.status || v.times >= steady {
		v.health = health{status, reason}
	}
	return first
}

// HTTP returns a check that gets a URL: an answer of 200 to 299 is well, 429 a warning, all others are failures.
// Redirects are not followed, and https must prove itself to the system's roots.
func HTTP(url string) Check {
	client := &http.Client{Transport: probing(nil), CheckRedirect: noRedirect}
	return Check{Name: url, Probe: func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return unwrapURL(err)
		}
		res.Body.Close()
		switch {
		case res.StatusCode == http.StatusTooManyRequests:
			return Warn(errors.New(res.Status))
		case res.StatusCode < 200 || res.StatusCode > 299:
			return errors.New(res.Status)
		}
		return nil
	}}
}

// probing returns a transport whose every request takes a new connection: that one can be made is what is asked.
func probing(p *http.Protocols) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, Protocols: p, MaxResponseHeaderBytes: 64 << 10}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// unwrapURL takes the method and the URL away, which the check's name says.
func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// TCP returns a check that connects to "host:port" and hangs up.
func TCP(addr string) Check {
	return Check{Name: "tcp://" + addr, Probe: func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}}
}

// GRPC returns a check that asks grpc.health.v1.Health at "host:port", without TLS, about a service; "" is the whole
// server. SERVING is well, everything else a failure.
func GRPC(addr, service string) Check {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: probing(&p), CheckRedirect: noRedirect}
	name := "grpc://" + addr
	if service != "" {
		name += "/" + service
	}
	return Check{Name: name, Probe: func(ctx context.Context) error {
		u := url.URL{Scheme: "http", Host: addr, Path: "/grpc.health.v1.Health/Check"}
		body := strings.NewReader(string(healthRequest(service)))
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), body)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		res, err := client.Do(req)
		if err != nil {
			return unwrapURL(err)
		}
		defer res.Body.Close()
		return healthAnswer(res)
	}}
}

// healthRequest is a HealthCheckRequest in the frame of a gRPC message: not compressed, four bytes of length, and the
// message, whose field 1 is the service.
func healthRequest(service string) []byte {
	var msg []byte
	if service != "" {
		msg = binary.AppendUvarint(append(msg, 1<<3|2), uint64(len(service)))
		msg = append(msg, service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
}

// maxHealth bounds an answer; a good one has seven bytes.
const maxHealth = 4 << 10

var healthStatus = map[uint64]string{0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

// healthAnswer reads a HealthCheckResponse, whose field 1 is the status.
func healthAnswer(res *http.Response) error {
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	msg, err := io.ReadAll(io.LimitReader(res.Body, maxHealth))
	if err != nil {
		return err
	}
	code := cmp.Or(res.Trailer.Get("Grpc-Status"), res.Header.Get("Grpc-Status"))
	if code != "0" {
		return fmt.Errorf("gRPC status %.16q: %.128s", code,
			cmp.Or(res.Trailer.Get("Grpc-Message"), res.Header.Get("Grpc-Message")))
	}
	if len(msg) < 5 || msg[0] != 0 || int(binary.BigEndian.Uint32(msg[1:])) != len(msg)-5 {
		return errors.New("it answered something that is no gRPC health status")
	}
	status := uint64(0) // a field that is not sent has this value
	if len(msg) > 5 {
		n := 0
		if status, n = binary.Uvarint(msg[6:]); msg[5] != 1<<3 || n <= 0 {
			return errors.New("it answered something that is no gRPC health status")
		}
	}
	if status != 1 {
		return errors.New(cmp.Or(healthStatus[status], fmt.Sprintf("status %d", status)))
	}
	return nil
}
