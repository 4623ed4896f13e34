package child

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Change gives the next stop or continuation of the command that has not been
// told yet. SIGCHLD announces them.
func (c *Child) Change() (Change, bool) {
	n, err := waitid(unix.P_PID, c.cmd.Process.Pid, unix.WSTOPPED|unix.WCONTINUED|unix.WNOHANG)
	if err != nil || n.pid == 0 {
		return Change{}, false
	}
	return Change{Stopped: n.code == cldStopped, Signal: syscall.Signal(n.status)}, true
}

// cldStopped is the code of a child that was stopped (sigaction(2)).
const cldStopped = 5

// TakeTerminal makes the command the foreground of the controlling terminal
// and has it continue, if that is this process's place now.
func (c *Child) TakeTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	fd := int(tty.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		return false
	}
	if unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, c.PID()) != nil {
		return false
	}
	c.terminal = true
	c.Continue()
	return true
}

// ReturnTerminal gives this process the terminal back that TakeTerminal has
// given away. SIGTTOU must be ignored.
func (c *Child) ReturnTerminal() {
	if !c.terminal {
		return
	}
	c.terminal = false
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer tty.Close()
	fd := int(tty.Fd())
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	// Not from a third one that a shell has put there since.
	if err == nil && (group == c.PID() || unix.Kill(-group, 0) == unix.ESRCH) {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp())
	}
}
