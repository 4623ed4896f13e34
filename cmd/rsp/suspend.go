package main

import (
	"os"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
)

// suspendLimit is how long Ctrl-Z waits for the deregistration.
const suspendLimit = time.Second

// suspension is a stop by Ctrl-Z that waits for the deregistration. Both channels are nil
// if there is none.
type suspension struct {
	left    <-chan struct{}  // closed when the element is deregistered
	leaveBy <-chan time.Time // the latest time to stop
}

// onTerminalStop deregisters the element before rsp and the command stop. A second
// Ctrl-Z stops both at once.
func (m *session) onTerminalStop() {
	if m.leaveBy != nil {
		m.suspend()
		return
	}
	m.log.log(normal, "stopping with the command: not registered until rsp continues (fg, or kill -CONT %d)", os.Getpid())
	m.left, m.leaveBy = m.registration.left(), time.After(suspendLimit)
	m.registration.setStopped(true)
}

// suspend stops the command's group and rsp, until rsp continues.
func (m *session) suspend() {
	m.suspension = suspension{}
	m.told(syscall.SIGTSTP, m.command.SignalGroup(syscall.SIGTSTP))
	child.StopSelf()
	m.command.Continue()
	m.registration.setStopped(m.stopped) // if it was stopped before, onChange will see it continue
	m.log.log(normal, "continuing with the command")
}
