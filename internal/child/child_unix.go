//go:build unix && !linux

package child

import (
	"os"
	"syscall"
)

func attributes(t *terminal) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if t != nil {
		a.Foreground, a.Ctty = true, t.fd
	}
	return a
}

func adopt() {}

// awaitExit waits until the program has ended, and calls ended then.
func awaitExit(p *os.Process, ended func()) *os.ProcessState {
	state, _ := p.Wait()
	ended()
	return state
}
