//go:build !linux

package child

import (
	"os"
	"syscall"
)

// Change returns no changes on this system.
func (c *Child) Change() (Change, bool) { return Change{}, false }

// StopSelf stops this process.
func StopSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) }

// TakeTerminal does nothing on this system.
func (c *Child) TakeTerminal() bool { return false }

// ReturnTerminal does nothing on this system.
func (c *Child) ReturnTerminal() {}

// IgnoreFirstRealTime does nothing on this system.
func IgnoreFirstRealTime() {}

// EndBySignal does nothing on this system.
func EndBySignal(syscall.Signal) {}
