//go:build !linux

package child

import (
	"os"
	"syscall"
)

// Change gives no changes here.
func (c *Child) Change() (Change, bool) { return Change{}, false }

// HasTerminal gives false here.
func HasTerminal() bool { return false }

// StopSelf stops this process.
func StopSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

// TakeTerminal does nothing here.
func (c *Child) TakeTerminal() bool { return false }

// ReturnTerminal does nothing here.
func (c *Child) ReturnTerminal() {}
