// Command coord is a coordination service and its client in one binary.
//
//	coord dev      a service for development, in one process
//	coord serve    one member of a cluster
//	coord get, set, create, rm, ls, tree, stat, watch, txn, session, lease, services
//	coord lock, elect, service register   run a program while holding a lock, leading, or as an instance of a service
//	coord barrier, barriers, latch, counter, queue, group   wait for others, count, share work, be there
//	coord config   values of applications, changed live, and programs kept supplied with them
//	coord status   how a cluster is; coord check says it to monitoring
//
// Ports, unless told otherwise: 7070 for HTTP (API, metrics, health), 7071 for the other members. A member keeps
// everything in its data directory and writes logs to standard error. Exit codes are listed by `coord help exit-codes`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := untilSignal(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// Run executes one command line and returns its exit code. It is main without the process, for tests.
func Run(ctx context.Context, args []string, io stdio) int {
	root := newRoot(io)
	root.SetArgs(separateExec(args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{code: exitUsage, err: err, next: "coord help"}
	}
	e.print(io.err)
	return e.code
}

// Exit codes of every command that doesn't run another program.
const (
	exitOK          = 0
	exitOther       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnavailable = 5
	exitDenied      = 6
	exitHistoryGone = 7
	exitDisk        = 74 // serve, dev: a write to the data directory failed (EX_IOERR)
	exitDamaged     = 65 // serve, dev: the data directory is damaged or not this member's (EX_DATAERR)
)

// exitError is an error with its exit code, its reason and what to do next: a command, or a sentence. It prints as
// three lines at the most.
type exitError struct {
	code   int
	err    error
	why    string
	next   string
	child  bool // the code is one of a program that was run, or says why it was not run or stopped
	silent bool // everything has been said on standard output; the code is all that is left
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func (e *exitError) print(w io.Writer) {
	if e.silent {
		return
	}
	fmt.Fprintf(w, "coord: %v\n", e.err)
	if e.why != "" {
		fmt.Fprintln(w, e.why)
	}
	switch {
	case strings.HasPrefix(e.next, "coord "):
		fmt.Fprintf(w, "see: %s\n", e.next)
	case e.next != "":
		fmt.Fprintf(w, "next: %s\n", e.next)
	}
}
