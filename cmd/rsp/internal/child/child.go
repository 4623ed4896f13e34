// Package child runs the registered server, and the commands of its checks and loads.
package child

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
)

// Child is a running command.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	terminal bool // TakeTerminal has given it the terminal

	endGroup atomic.Bool   // the rest of its group must end after it
	sent     atomic.Uint64 // a bit for each signal that Signal and SignalGroup have sent it
}

// Change says that the command was stopped, or continues.
type Change struct {
	Stopped bool
	signal  syscall.Signal // that has stopped the command
}

// WantsTerminal reports whether the command was stopped because it used the
// terminal from the background.
func (c Change) WantsTerminal() bool {
	return c.signal == syscall.SIGTTIN || c.signal == syscall.SIGTTOU
}

// String returns, for example, "stopped (tty input)".
func (c Change) String() string {
	if c.WantsTerminal() {
		return c.signal.String() + " from the background"
	}
	return c.signal.String()
}

// Start runs a command with this process's environment and standard input. What systemd
// has addressed to this process in the environment is addressed to the command. The
// command has a process group of its own, so that a terminal's Ctrl-C does not end it
// before it is deregistered. On Linux, the command gets SIGTERM if this process is killed.
func Start(args []string, stdout, stderr io.Writer) (*Child, error) {
	c := &Child{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	result, err := becomes(c.cmd)
	if err != nil {
		return nil, err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = os.Stdin, stdout, stderr
	c.cmd.SysProcAttr = attributes(syscall.SIGTERM)
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that starts the child ends, so
		// the thread must last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := start(c.cmd, false)
		runs := err == nil
		err = result(err)
		if runs && err != nil {
			_ = wait(c.cmd)
		}
		started <- err
		if err == nil {
			if s, ok := awaitEnd(c.PID()); ok {
				c.endRest(s)
			}
			c.err = wait(c.cmd)
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Signal sends a signal to the command, but not to the command's children. It fails if
// the command has become another user's.
func (c *Child) Signal(s os.Signal) error {
	if n, ok := s.(syscall.Signal); ok {
		c.sent.Or(1 << uint64(n))
	}
	err := c.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// SignalGroup sends a signal to the command and to the rest of its process group, as a
// terminal does. It fails if the command does not get the signal.
func (c *Child) SignalGroup(s syscall.Signal) error {
	select {
	case <-c.done: // another process may have its number
		return nil
	default:
	}
	c.sent.Or(1 << uint64(s))
	_ = syscall.Kill(-c.PID(), s)
	if group, err := syscall.Getpgid(c.PID()); err == nil && group != c.PID() { // it has moved to another group
		return c.Signal(s)
	}
	return c.Signal(syscall.Signal(0)) // kill succeeds if any process of the group gets the signal
}

// Continue continues the command and the rest of its process group, if they are stopped.
func (c *Child) Continue() { _ = c.SignalGroup(syscall.SIGCONT) }

// EndGroup says whether the rest of the command's process group gets SIGTERM after the
// command has ended (on Linux).
func (c *Child) EndGroup(on bool) { c.endGroup.Store(on) }

// hasSent reports whether this process has sent the command a signal.
func (c *Child) hasSent(s syscall.Signal) bool { return c.sent.Load()&(1<<uint64(s)) != 0 }

// endRest ends the rest of the command's process group, if EndGroup says so or our SIGHUP
// has ended the command. The command has ended but has not been waited for, so no other
// process or group has its number.
func (c *Child) endRest(by syscall.Signal) {
	if c.endGroup.Load() || by == syscall.SIGHUP && c.hasSent(by) {
		_ = syscall.Kill(-c.PID(), syscall.SIGTERM)
		_ = syscall.Kill(-c.PID(), syscall.SIGCONT)
	}
}

// PID is the process number of the command and of its process group.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// HasTerminal reports whether this process has a controlling terminal. It has none after
// the terminal was closed.
func HasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// Done is closed when the command has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status is the exit status after Done, as in a shell: 128 + N if signal N ended the
// command.
func (c *Child) Status() int {
	var exit *exec.ExitError
	if c.err == nil || !errors.As(c.err, &exit) {
		if c.err != nil {
			return 1
		}
		return 0
	}
	if s, _ := c.EndedBy(); s != 0 {
		return 128 + int(s)
	}
	return exit.ExitCode()
}

// EndedBy returns the signal that has ended the command, 0 if none has, after Done. ours
// says that this process has sent the command that signal.
func (c *Child) EndedBy() (s syscall.Signal, ours bool) {
	ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return 0, false
	}
	return ws.Signal(), c.hasSent(ws.Signal())
}

// StartCause returns why a command cannot be started, without the command's name.
func StartCause(err error) error {
	var path *os.PathError
	var name *exec.Error
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &name):
		return name.Err
	}
	return err
}

// StartStatus is the exit status for a command that cannot be started, as in a shell.
func StartStatus(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}
