package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
)

// notifySocket names the socket at which a service manager hears of a process: sd_notify(3).
const notifySocket = "NOTIFY_SOCKET"

const (
	// managerTime is how long a service manager may take to make room for a message.
	managerTime = time.Second
	// maxStatus is the length of the longest status that is sent.
	maxStatus = 1000
	// readyAgain is the time after which a manager that could not be told that the service is
	// ready is told again: without that, it would end the service some time later.
	readyAgain = 2 * time.Second
)

// manager is a service manager that waits to hear that this process is ready, such as systemd for
// a unit with Type=notify. It hears that when the element is registered. A nil manager hears nothing.
type manager struct {
	at  *net.UnixAddr
	log *logger

	mu         sync.Mutex
	registered bool        // at least once: the service is ready
	ready      bool        // the manager was told so
	again      *time.Timer // tells it again; nil: not yet
	stopping   bool
	last       string // what was told last
	check      string // why the check fails; "" if it passes
	failed     bool   // it has been logged that the manager does not hear
}

// takeManager returns the service manager of this process, nil if it has none. The processes that
// rsp starts do not inherit it: they would be ready earlier than the element.
func takeManager(log *logger) *manager {
	name := os.Getenv(notifySocket)
	_ = os.Unsetenv(notifySocket)
	if name == "" {
		return nil
	}
	return &manager{at: &net.UnixAddr{Name: name, Net: "unixgram"}, log: log}
}

// tell tells of an event of the element. The first registration makes the service ready.
func (m *manager) tell(ev pe.Event) {
	if m == nil || ev.Type == pe.Reregistered || ev.Type == pe.Warning {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	text := ev.String()
	if m.check != "" {
		text += "; " + m.check
	}
	m.registered = m.registered || ev.Type == pe.Registered
	m.report(text)
}

// report tells a status, and that the service is ready, unless the manager was told so. m.mu is
// held.
func (m *manager) report(text string) {
	m.last = "STATUS=" + status(text)
	m.repeat()
}

// repeat tells the last status, as report does. m.mu is held.
func (m *manager) repeat() {
	if !m.registered || m.ready || m.stopping {
		m.send(m.last)
		return
	}
	if m.ready = m.send("READY=1\n" + m.last); m.ready {
		return
	}
	if m.again == nil {
		m.again = time.AfterFunc(readyAgain, m.tryAgain)
	} else {
		m.again.Reset(readyAgain)
	}
}

// tryAgain is called by the timer.
func (m *manager) tryAgain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready && !m.stopping {
		m.repeat()
	}
}

// begin tells what comes before the first registration.
func (m *manager) begin(checked bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if checked {
		m.report("waiting for the check")
	} else {
		m.report("registering")
	}
}

// onCheck tells the result of the check; err is the reason of a failure, nil for none.
func (m *manager) onCheck(err error) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	text := "check passes; registering"
	m.check = ""
	if err != nil {
		m.check = fmt.Sprintf("check fails: %v", err)
		text = m.check
	}
	if !m.stopping {
		m.report(text)
	}
}

// stop tells that the end has begun.
func (m *manager) stop() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopping {
		m.stopping = true
		if m.again != nil {
			m.again.Stop()
		}
		m.send("STOPPING=1\nSTATUS=deregistering")
	}
}

// status is a text in one line, which is what a manager accepts.
func status(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxStatus)], "")
}

// send sends a message, and reports whether the manager has it. Each has a socket of its own: the
// manager may have been started anew. A manager that hangs or is gone does not hold up the element.
// m.mu is held.
func (m *manager) send(lines string) bool {
	err := m.write(lines)
	if err != nil && !m.failed {
		m.failed = true
		m.log.log(quiet, "cannot tell the service manager the state (%s): %v", notifySocket, err)
	}
	return err == nil
}

func (m *manager) write(lines string) error {
	c, err := net.DialUnix("unixgram", nil, m.at)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(managerTime))
	_, err = c.Write([]byte(lines))
	return err
}
