package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

type patienceKey struct{}

func newPatience(t *testing.T) (*patience, context.CancelFunc) {
	request, gone := context.WithCancel(context.WithValue(t.Context(), patienceKey{}, "of the request"))
	return &patience{request: request, limit: time.Second}, gone
}

// A wait ends when its time is up, when the request ends, or when it is over, whichever comes first; and so does what is
// derived from it.
func TestPatience(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(p *patience, gone context.CancelFunc)
		want error
		took time.Duration
	}{
		"in time":           {func(p *patience, _ context.CancelFunc) { p.end() }, context.Canceled, 0},
		"too late":          {func(*patience, context.CancelFunc) {}, context.DeadlineExceeded, time.Second},
		"the client leaves": {func(_ *patience, gone context.CancelFunc) { gone() }, context.Canceled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, gone := newPatience(t)
				defer gone()
				defer p.end()
				derived, stop := context.WithCancel(p)
				defer stop()
				if p.Err() != nil || p.Value(patienceKey{}) != "of the request" {
					t.Fatalf("%v, and it has %v", p.Err(), p.Value(patienceKey{}))
				}
				start := time.Now()
				c.end(p, gone)
				<-derived.Done()
				<-p.Done()
				if took := time.Since(start); p.Err() != c.want || took != c.took {
					t.Errorf("%v after %s, want %v after %s", p.Err(), took, c.want, c.took)
				}
			})
		})
	}
}

// What nobody waits for has no timer, and ends all the same.
func TestPatienceUnused(t *testing.T) {
	p, gone := newPatience(t)
	defer gone()
	p.end()
	<-p.Done()
	if _, timed := p.Deadline(); timed || p.Err() != context.Canceled {
		t.Errorf("%v, with a deadline: %v", p.Err(), timed)
	}
}
