package child

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the one in whose foreground this process is. Methods of a nil one do nothing.
type terminal struct{ fd int }

// terminalOf returns the terminal that a program with these streams is to have, nil if there is none to give: in a
// pipeline the others need it.
func terminalOf(in io.Reader, out io.Writer) *terminal {
	i, ok := in.(*os.File)
	o, also := out.(*os.File)
	if !ok || !also || !isTerminal(o) || !isTerminal(i) {
		return nil
	}
	t := &terminal{int(i.Fd())}
	if !t.has(unix.Getpgrp()) {
		return nil
	}
	return t
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// has reports whether the process group is in the foreground.
func (t *terminal) has(group int) bool {
	front, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && front == group
}

// giveTo puts a process group into the foreground, if this process is there.
func (t *terminal) giveTo(group int) bool {
	if t == nil {
		return true
	}
	return t.has(unix.Getpgrp()) && t.put(group) == nil
}

// takeBack puts this process into the foreground again.
func (t *terminal) takeBack() {
	if t != nil {
		t.put(unix.Getpgrp())
	}
}

// put sets the process group in the foreground. The kernel stops one in the background that does so, unless it ignores
// the signal.
func (t *terminal) put(group int) error {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	return unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group)
}
