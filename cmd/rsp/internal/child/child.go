// Package child runs the server that is registered, and the commands that
// probe it.
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

	terminal bool // it has been given the terminal

	endGroup atomic.Bool // what it leaves behind is to end
	hungUp   atomic.Bool // SIGHUP was sent to it
}

// Change says that the command was stopped, or goes on.
type Change struct {
	Stopped bool
	signal  syscall.Signal // that has stopped it
}

// WantsTerminal reports whether the command was stopped because it used the
// terminal from the background.
func (c Change) WantsTerminal() bool {
	return c.signal == syscall.SIGTTIN || c.signal == syscall.SIGTTOU
}

// String says it in words, such as "stopped (tty input)".
func (c Change) String() string {
	if c.WantsTerminal() {
		return c.signal.String() + " from the background"
	}
	return c.signal.String()
}

// Start runs a command with this process's environment and standard input. It
// stands in a process group of its own, so that a terminal's Ctrl-C does not
// end it before it is deregistered, and it is sent SIGTERM should this process
// vanish (on Linux).
func Start(args []string, stdout, stderr io.Writer) (*Child, error) {
	c := &Child{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = os.Stdin, stdout, stderr
	c.cmd.SysProcAttr = attributes(syscall.SIGTERM)
	started := make(chan error)
	go func() {
		// The signal at this process's end is tied to the thread that
		// starts the child: it must last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := start(c.cmd, false)
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

// Signal sends a signal to the command, not to what it has started. It fails
// where the command has become another user's.
func (c *Child) Signal(s os.Signal) error {
	if s == syscall.SIGHUP {
		c.hungUp.Store(true)
	}
	err := c.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// SignalGroup sends a signal to the command, and to what shares its process
// group, as a terminal does. It fails where the command does not get it.
func (c *Child) SignalGroup(s syscall.Signal) error {
	select {
	case <-c.done: // its number may be another's
		return nil
	default:
	}
	_ = syscall.Kill(-c.PID(), s)
	if group, err := syscall.Getpgid(c.PID()); err == nil && group != c.PID() { // it has gone to another group
		return c.Signal(s)
	}
	return c.Signal(syscall.Signal(0)) // one of the group who may get it is enough for kill
}

// Continue has the command, and what shares its process group, continue if it
// is stopped.
func (c *Child) Continue() { _ = c.SignalGroup(syscall.SIGCONT) }

// EndGroup says whether what shares the command's process group is to end with
// SIGTERM after the command has ended (on Linux).
func (c *Child) EndGroup(on bool) { c.endGroup.Store(on) }

// endRest ends what shares the command's process group, if that is wanted or a
// SIGHUP of ours has ended the command. The command has ended, but nobody has
// taken note of that: its number and that of its group are nobody else's.
func (c *Child) endRest(by syscall.Signal) {
	if c.endGroup.Load() || by == syscall.SIGHUP && c.hungUp.Load() {
		_ = syscall.Kill(-c.PID(), syscall.SIGTERM)
		_ = syscall.Kill(-c.PID(), syscall.SIGCONT)
	}
}

// PID is the command's process number, and that of its process group.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the command has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status is the exit status after Done, as a shell has it: 128 and the
// signal's number if a signal ended the command.
func (c *Child) Status() int {
	var exit *exec.ExitError
	if c.err == nil || !errors.As(c.err, &exit) {
		if c.err != nil {
			return 1
		}
		return 0
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// StartCause is why a command cannot be started, without the command's name.
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

// StartStatus is the exit status for a command that cannot be started, as a
// shell has it.
func StartStatus(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}
