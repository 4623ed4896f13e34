package child

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Change returns the next stop or continuation of the command. SIGCHLD announces them.
func (c *Child) Change() (Change, bool) {
	n, err := waitid(unix.P_PID, c.cmd.Process.Pid, unix.WSTOPPED|unix.WCONTINUED|unix.WNOHANG)
	if err != nil || n.pid == 0 {
		return Change{}, false
	}
	return Change{Stopped: n.code == cldStopped, signal: syscall.Signal(n.status)}, true
}

// cldStopped is the code of a child that was stopped (sigaction(2)).
const cldStopped = 5

// StopSelf stops this process as SIGTSTP does by default, and returns when the process
// continues. Like SIGTSTP, it does nothing if no shell could continue the process
// (setpgid(2) on orphaned process groups). Package os/signal cannot restore the default
// of this signal.
func StopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var byDefault, ours action
	if setAction(unix.SIGTSTP, &byDefault, &ours) != 0 {
		return
	}
	// A thread that signals itself is stopped before the call returns.
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTSTP)
	_ = setAction(unix.SIGTSTP, &ours, nil)
}

// TakeTerminal puts the command into the foreground of the controlling terminal and
// continues it, if this process is in the foreground now.
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

// ReturnTerminal puts this process into the foreground again after TakeTerminal. SIGTTOU
// must be ignored.
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
	// Not if a shell has put a third process there since.
	if err == nil && (group == c.PID() || unix.Kill(-group, 0) == unix.ESRCH) {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp())
	}
}
