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
)

// manager is a service manager that waits to hear that this process is ready, such as systemd for
// a unit with Type=notify. It hears that when the element is registered. A nil manager hears nothing.
type manager struct {
	at  *net.UnixAddr
	log *logger

	mu              sync.Mutex
	ready, stopping bool
	check           string // why the check fails; "" if it passes
	failed          bool   // it has been logged that the manager does not hear
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
	lines := "STATUS=" + status(text)
	if ev.Type == pe.Registered && !m.ready && !m.stopping {
		m.ready = true
		lines = "READY=1\n" + lines
	}
	m.send(lines)
}

// begin tells what comes before the first registration.
func (m *manager) begin(checked bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if checked {
		m.send("STATUS=waiting for the check")
	} else {
		m.send("STATUS=registering")
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
		m.send("STATUS=" + status(text))
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
		m.send("STOPPING=1\nSTATUS=deregistering")
	}
}

// status is a text in one line, which is what a manager accepts.
func status(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxStatus)], "")
}

// send sends a message. Each has a socket of its own: the manager may have been started anew. A
// manager that hangs or is gone does not hold up the element. m.mu is held.
func (m *manager) send(lines string) {
	err := m.write(lines)
	if err != nil && !m.failed {
		m.failed = true
		m.log.log(quiet, "cannot tell the service manager the state (%s): %v", notifySocket, err)
	}
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
