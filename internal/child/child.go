// Package child runs the program of a command that wraps one, such as coord lock NAME -- CMD.
//
//	p, err := child.Start(child.Command{Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
//	if err != nil {
//		os.Exit(child.StartCode(err))
//	}
//	stop := context.AfterFunc(held, func() { p.Stop(context.Cause(held), 5*time.Second) })
//	result := p.Wait()
//
// # What it promises
//
//   - The program runs in a process group of its own, without a shell, on the caller's standard input and outputs.
//   - SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 that this process gets from Start on go to the group
//     instead. Those that were ignored when this process began (nohup) stay so, here and there.
//   - When Wait returns, nothing of the group runs any more. What the program leaves behind when it ends gets SIGTERM,
//     and after the grace SIGKILL.
//   - If this process dies, by whatever, the kernel kills the program (on Linux).
//   - A program that is started from the foreground of a terminal, with standard input and output on it, is in the
//     foreground: it reads, and Ctrl-C is for it alone. Ctrl-Z doesn't stop it (on Linux): this process would have to
//     stop too, and could not keep what the program relies on. SIGSTOP stops it; Stop ends it all the same.
//
// # What it can't
//
// Processes that leave the group, as daemons do, are not found. Those that run as another user (sudo, setuid) can't be
// signalled: Wait lasts until the program has ended by itself. If this process is killed by SIGKILL, the program is
// killed, but not what the program has started. If this process is stopped (SIGSTOP), it stops nobody else. In a
// pipeline the program is in the background of the terminal, and stops if it reads from it.
package child

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Codes of a program that couldn't be run, as env(1) has them, and of one that a signal has ended.
const (
	CannotExecute = 126
	NotFound      = 127
	Signalled     = 128 // and the number of the signal
)

// DefaultGrace is how long those who must end have for it.
const DefaultGrace = 5 * time.Second

// Command says what to run.
type Command struct {
	Args []string // the program, looked up in PATH unless it has a slash, and its arguments
	Env  []string // in addition to this process's environment, NAME=value

	// The program's, as they are if they are files, else through pipes. nil is /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Grace time.Duration // between SIGTERM and SIGKILL to what outlives the program; 0 is DefaultGrace
}

// Result is how a program has ended.
type Result struct {
	Code   int            // the program's own; 128 and the number of the signal that has ended it
	Signal syscall.Signal // the signal that has ended it; 0 if it has ended by itself
	Reason error          // what Stop was told before it ended; nil if nobody stopped it
}

// Process is a program that runs. It is safe for concurrent use.
type Process struct {
	cmd      *exec.Cmd
	terminal *terminal // nil: it isn't ours to give
	grace    time.Duration
	signals  chan os.Signal
	stop     chan struct{}
	exited   chan struct{} // closed when the program itself has ended, if possible before its id can be another's
	reaped   chan struct{} // closed when its state is known
	read     chan struct{} // closed when its output is read
	done     chan struct{} // closed when nothing of the group is left
	state    *os.ProcessState

	mu      sync.Mutex
	reason  error
	patient time.Duration // between SIGTERM and SIGKILL, as Stop was told
	stopped bool
}

// forwarded are the signals that are the program's.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// toDie is how long what was killed may take to be gone. Beyond that it is something that the kernel can't end.
const toDie = 10 * time.Second

// Start runs a program. If it can't be run, StartCode says what that is to a shell. Otherwise Wait must be called.
func Start(c Command) (*Process, error) {
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.WaitDelay = c.Grace + time.Second // one that has left the group may keep a pipe open
	p := &Process{
		cmd: cmd, grace: c.Grace, terminal: terminalOf(c.Stdin, c.Stdout),
		signals: make(chan os.Signal, 16), stop: make(chan struct{}),
		exited: make(chan struct{}), reaped: make(chan struct{}), read: make(chan struct{}), done: make(chan struct{}),
	}
	cmd.SysProcAttr = attributes(p.terminal)
	p.catch()
	adopt()
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		signal.Stop(p.signals)
		return nil, err
	}
	go p.supervise()
	return p, nil
}

// catch begins to take signals for the program.
func (p *Process) catch() {
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(p.signals, s)
		}
	}
	if p.terminal != nil {
		signal.Notify(p.signals, syscall.SIGCONT)
	}
}

// run starts the program and waits for it, all on one thread: the kernel takes the end of the thread that has started
// the program for the end of its parent.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.state = awaitExit(p.cmd.Process, func() { close(p.exited) })
	close(p.reaped)
	p.cmd.Wait() // for what pipes still hold; the process itself has been waited for
	close(p.read)
}

// supervise passes signals on until nothing of the group is left.
func (p *Process) supervise() {
	defer close(p.done)
	defer p.terminal.takeBack()
	defer signal.Stop(p.signals)
	stop, exited := p.stop, p.exited
	var kill, look, leave <-chan time.Time // when patience ends; when to see who is left; when that no longer counts
	for {
		select {
		case s := <-p.signals:
			p.pass(s)
		case <-stop:
			stop, kill = nil, p.end(p.patience())
		case <-kill:
			p.toGroup(syscall.SIGKILL)
			kill, leave = nil, time.After(toDie)
		case <-exited:
			if exited = nil; stop != nil {
				stop, kill = nil, p.end(p.grace)
			}
			look = time.After(0)
		case <-look:
			look = time.After(5 * time.Millisecond)
			if p.gone() {
				<-p.read
				return
			}
			select {
			case <-leave:
				<-p.read
				return
			default:
			}
		}
	}
}

// end asks the group to end, and returns what says when to ask no longer.
func (p *Process) end(patience time.Duration) <-chan time.Time {
	p.toGroup(syscall.SIGTERM)
	p.toGroup(syscall.SIGCONT) // one that is stopped would not notice
	return time.After(patience)
}

// pass gives a signal to the group.
func (p *Process) pass(s os.Signal) {
	if s == syscall.SIGCONT && !p.terminal.giveTo(p.cmd.Process.Pid) {
		return
	}
	p.toGroup(s.(syscall.Signal))
}

// toGroup signals the group, if there is one. Nobody else has its id before gone has said so.
func (p *Process) toGroup(s syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, s) }

// gone reports whether the program has ended and nothing of its group is left.
func (p *Process) gone() bool {
	select {
	case <-p.reaped:
	default:
		return false
	}
	reapOrphans(p.cmd.Process.Pid)
	return syscall.Kill(-p.cmd.Process.Pid, 0) == syscall.ESRCH
}

// reapOrphans takes note of the end of those of a group whose parents have left them to this process.
func reapOrphans(group int) {
	for {
		if pid, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

// Signal gives a signal to the program and what it has started.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case p.signals <- s:
	case <-p.done:
	}
}

// Stop ends the program and what it has started: SIGTERM, and when the grace is over SIGKILL. It returns at once. Only
// the first call counts; a grace of 0 or less is over at once.
func (p *Process) Stop(reason error, grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return // by itself
	default:
	}
	if !p.stopped {
		p.stopped, p.reason, p.patient = true, reason, grace
		close(p.stop)
	}
}

func (p *Process) patience() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.patient
}

// Done is closed when the program has ended and nothing of its group runs any more.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the program has ended and nothing of its group runs any more.
func (p *Process) Wait() Result {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Result{Code: p.state.ExitCode(), Reason: p.reason}
	if w := p.state.Sys().(syscall.WaitStatus); w.Signaled() {
		r.Signal = w.Signal()
		r.Code = Signalled + int(r.Signal)
	}
	return r
}

// StartCode returns what a shell would end with if a program can't be started for that reason.
func StartCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return NotFound
	}
	return CannotExecute
}
