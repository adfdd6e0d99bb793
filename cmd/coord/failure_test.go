package main

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/coord-kv/coord/coord"
	"github.com/coord-kv/coord/coord/lock"
	"github.com/coord-kv/coord/op"
)

// TestClientFailed: what to do next is said in terms of the command, not of the Go client that it uses.
func TestClientFailed(t *testing.T) {
	goNames := regexp.MustCompile(`[a-z][A-Z]|\bWith|\bIfMatch|\bOrSet|\bParents\b|\bRecursive\b|\bcontext\b|\bSession\b`)
	for _, code := range op.Codes() {
		err := clientFailed(fmt.Errorf("somewhere: %w", &op.Error{Code: code, Path: "/a/b"}), "do %q", "it").(*exitError)
		if err.next == "" || goNames.MatchString(err.next) || err.code != codes[code].exit {
			t.Errorf("%v: exit %d, next: %s", code, err.code, err.next)
		}
	}
	late := clientFailed(&op.Error{Code: op.Timeout, Detail: "not done: " + context.DeadlineExceeded.Error()}, "do it").(*exitError)
	if late.why != "timeout: not done: gave up when --timeout was over" {
		t.Errorf("out of time: %s", late.why)
	}
}

// TestOutOfTouch: a command that stood still doesn't blame the service.
func TestOutOfTouch(t *testing.T) {
	if got := outOfTouch(-5 * time.Second).Error(); !regexp.MustCompile(`service could not be reached.* soon$`).MatchString(got) {
		t.Errorf("in time: %s", got)
	}
	if got := outOfTouch(time.Minute).Error(); !regexp.MustCompile(`stood still.* by now$`).MatchString(got) {
		t.Errorf("too late: %s", got)
	}
}

// TestHeldBy: of a semaphore it is said how many hold it.
func TestHeldBy(t *testing.T) {
	at := time.Now().Add(time.Hour) // so that it is held for 0s
	two := &lock.HeldError{Info: &lock.Info{Holders: []coord.Contender{{Owner: "a", Token: 3, Since: at}, {Owner: "b", Token: 4, Since: at}}}}
	if got := heldBy(two); got != "is held by a for 0s, token 3, and by 1 more" {
		t.Error(got)
	}
	two.Info.Holders = two.Info.Holders[:1]
	if got := heldBy(two); got != "is held by a for 0s, token 3" {
		t.Error(got)
	}
}
