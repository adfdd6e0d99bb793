package patience

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

type key struct{}

// request is a context with a value.
func request(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithValue(t.Context(), key{}, "of the request"))
}

// It ends in time, when its parent ends, or when it is over, whichever comes first; and so does what is derived from it.
func TestContext(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(c *Context, gone context.CancelFunc)
		want error
		took time.Duration
	}{
		"over":            {func(c *Context, _ context.CancelFunc) { c.End() }, context.Canceled, 0},
		"too late":        {func(*Context, context.CancelFunc) {}, context.DeadlineExceeded, time.Second},
		"the parent ends": {func(_ *Context, gone context.CancelFunc) { gone() }, context.Canceled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, gone := request(t)
				defer gone()
				p := New(parent, time.Second)
				defer p.End()
				derived, stop := context.WithCancel(p)
				defer stop()
				if p.Err() != nil || p.Value(key{}) != "of the request" {
					t.Fatalf("%v, and it has %v", p.Err(), p.Value(key{}))
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
func TestUnused(t *testing.T) {
	parent, gone := request(t)
	defer gone()
	p := New(parent, time.Second)
	p.End()
	<-p.Done()
	if _, timed := p.Deadline(); timed || p.Err() != context.Canceled {
		t.Errorf("%v, with a deadline: %v", p.Err(), timed)
	}
}

// Several waits of one request take no more than its limit together.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, gone := request(t)
		defer gone()
		p := New(parent, time.Second)
		defer p.End()
		start := time.Now()
		Ends(p)
		time.Sleep(time.Second / 2)
		done, late := Ends(p)
		select {
		case <-done:
			t.Error("the parent has ended")
		case <-late:
		}
		<-p.Done()
		if took := time.Since(start); took != time.Second {
			t.Errorf("two waits took %s", took)
		}
		gone()
		<-done
	})
}

// Any other context has one end.
func TestEndsOfOthers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done, late := Ends(ctx)
	cancel()
	if <-done; late != nil {
		t.Error("there is a second end")
	}
}
