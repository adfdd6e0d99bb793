package child

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attributes of a program: the leader of a group, in the foreground of the terminal, if there is one, that doesn't
// outlive the thread that has started it.
func attributes(t *terminal) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if t != nil {
		a.Foreground, a.Ctty = true, t.fd
	}
	return a
}

// adopt makes this process the parent of those whose parents have ended, rather than process 1: it takes note of their
// end at once.
var adopt = sync.OnceFunc(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })

// stopInfo is what waitid says of a child that has stopped.
type stopInfo struct {
	signo, errno, code int32
	_                  [0]uintptr // the kernel aligns what follows
	pid                int32
	uid                uint32
	status             int32 // the signal
	_                  [100]byte
}

const cldStopped = 5 // CLD_STOPPED of siginfo.h

// awaitExit waits until the program has ended, and calls ended before it takes note of it: until then nobody else gets
// its id. It lets the program go on from a Ctrl-Z.
func awaitExit(p *os.Process, ended func()) *os.ProcessState {
	for {
		var info stopInfo
		err := waitid(p.Pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil || info.code != cldStopped {
			ended()
			state, _ := p.Wait()
			return state
		}
		waitid(p.Pid, &info, unix.WSTOPPED|unix.WNOHANG) // it has been seen
		if syscall.Signal(info.status) == syscall.SIGTSTP {
			syscall.Kill(-p.Pid, syscall.SIGCONT)
		}
	}
}

func waitid(pid int, info *stopInfo, options int) error {
	return unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(info)), options, nil)
}
