//go:build !linux

package child

import (
	"os"
	"syscall"
)

// Change returns no changes on this system.
func (c *Child) Change() (Change, bool) { return Change{}, false }

// HasTerminal returns false on this system.
func HasTerminal() bool { return false }

// StopSelf stops this process.
func StopSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

// TakeTerminal does nothing on this system.
func (c *Child) TakeTerminal() bool { return false }

// ReturnTerminal does nothing on this system.
func (c *Child) ReturnTerminal() {}
