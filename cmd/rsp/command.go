package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
	"golang.org/x/sys/unix"
)

// phase is how far a command is on its way to its end:
//
//	serving -> leaving -> draining -> ending -> outliving
//
// A second signal goes to ending at once, and SIGCONT from outliving to serving.
type phase uint8

const (
	// serving: the element is registered, or rsp is registering it.
	serving phase = iota
	// leaving: after a signal, the element is being deregistered.
	leaving
	// draining: the element is deregistered; clients may still have answers
	// that name it.
	draining
	// ending: rsp has sent the command the signal.
	ending
	// outliving: the command still runs after outliveTime.
	outliving
)

// outliveTime is how long a command may take to end before rsp logs that it still runs.
const outliveTime = 10 * time.Second

// session is a running command with its element. It handles events one by one.
type session struct {
	*supervisor
	command *child.Child
	element running
	ended   <-chan error // nil once the element has ended
	phase   phase
	signal  syscall.Signal   // the signal that ends the command
	due     <-chan time.Time // when the phase ends at the latest
	failure error            // rsp ends with it in place of the command's status
	started time.Time
	stopped bool
	suspension
	hadTerminal bool
	begin       func() running   // runs the element
	lend        <-chan time.Time // when to retry to give the command the terminal
}

// lendInterval is how often rsp offers the terminal to a command that waits for it. No
// signal tells rsp that a shell has put it into the foreground.
const lendInterval = time.Second

// withCommand keeps the element registered while the command runs. Only the user's
// signals and an early refusal of the first registration end the command.
func (s *supervisor) withCommand(ctx context.Context, signals <-chan os.Signal, terminal bool) error {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGCHLD)
	defer signal.Stop(changes)
	// The command writes to the files itself, not to a pipe that rsp reads.
	c, err := child.Start(s.command, os.Stdout, os.Stderr)
	if err != nil {
		s.log.log(quiet, "cannot run %s: %v", s.command[0], child.StartCause(err))
		return &statusError{status: child.StartStatus(err)}
	}
	if terminal {
		ignoreTerminal()
	}
	child.IgnoreFirstRealTime()
	m := &session{supervisor: s, command: c, started: time.Now(), hadTerminal: terminal, begin: func() running { return s.start(ctx) }}
	m.serve()
	for {
		select {
		case sig := <-signals:
			m.onSignal(sig)
		case <-changes:
			m.onChange()
		case err := <-m.ended:
			m.onElementEnd(err)
		case <-m.due:
			m.onDue()
		case <-m.left:
			m.suspend()
		case <-m.leaveBy:
			m.suspend()
		case <-m.lend:
			m.offerTerminal()
		case <-c.Done():
			return m.finish(signals)
		}
	}
}

// serve registers the element.
func (m *session) serve() {
	m.phase, m.due, m.failure = serving, nil, nil
	m.element = m.begin()
	m.ended = m.element.ended
}

// ends reports whether a signal asks for the end.
func ends(sig os.Signal) bool { return slices.Contains(endCommand, sig) }

// onSignal passes a signal on to the command. The first signal that asks for the end is
// passed on after the deregistration, all others at once.
func (m *session) onSignal(sig os.Signal) {
	switch {
	case sig == syscall.SIGTSTP:
		m.onTerminalStop()
	case sig == syscall.SIGCONT:
		m.command.Continue()
		if m.phase == outliving && m.ended == nil {
			m.command.EndGroup(false)
			m.serve()
		}
	case sig == syscall.SIGHUP:
		m.hangUp()
	case !ends(sig):
		m.send(sig)
	case m.phase == serving:
		m.log.log(verbose, "%v: deregistering", sig)
		m.teller.manager.stop()
		m.phase, m.signal = leaving, sig.(syscall.Signal)
		m.due = time.After(m.endLimit())
		m.element.stop()
	default:
		m.signal = sig.(syscall.Signal)
		m.pass()
	}
}

// hangUp passes SIGHUP on. Most servers read their configuration again then, so the
// element stays registered. If the terminal was closed, the whole group gets SIGHUP, as
// without rsp. SIGCONT follows, as from the kernel: a stopped command would not notice
// SIGHUP.
func (m *session) hangUp() {
	if m.hadTerminal && !child.HasTerminal() {
		m.command.EndGroup(true)
		m.told(syscall.SIGHUP, m.command.SignalGroup(syscall.SIGHUP))
	} else {
		m.send(syscall.SIGHUP)
	}
	m.command.Continue()
}

// onDue goes on to the next phase.
func (m *session) onDue() {
	if m.phase != ending {
		m.pass()
		return
	}
	m.phase, m.due = outliving, nil
	m.log.log(quiet, "the command (pid %d) is still running %v after %s, and is not registered: "+
		"to register it again, use kill -CONT %d; to end it, send SIGTERM again, or kill -KILL %[1]d",
		m.command.PID(), outliveTime, unix.SignalName(m.signal), os.Getpid())
}

// pass sends the command the signal that ends it, and SIGCONT: a stopped command would
// not notice the signal. SIGINT and SIGQUIT go to its whole group, as from a terminal: a
// shell that waits for its child ignores a SIGINT that the child does not get.
func (m *session) pass() {
	m.phase, m.due = ending, time.After(outliveTime)
	m.command.EndGroup(true)
	if m.signal == syscall.SIGTERM {
		m.send(m.signal)
	} else {
		m.told(m.signal, m.command.SignalGroup(m.signal))
	}
	m.command.Continue()
}

// send sends the command a signal.
func (m *session) send(sig os.Signal) { m.told(sig, m.command.Signal(sig)) }

// told handles the result of sending a signal. After setuid the command belongs to
// another user, and rsp may not send it signals. The user must know that.
func (m *session) told(sig os.Signal, err error) {
	if err != nil {
		m.log.log(quiet, "cannot send the command the signal (%v): %v; rsp ends when the command ends (process %d)", sig, err, m.command.PID())
	}
}

// onElementEnd handles the end of the element.
func (m *session) onElementEnd(err error) {
	m.ended = nil
	if m.phase == serving { // the first registration is refused
		m.log.log(quiet, "ending the command: %v", err)
		if h := hint(err, m.teller.tls); h != "" {
			m.log.log(quiet, "%s", h)
		}
		m.teller.manager.stop()
		// The reason is logged already: the command may take long to end.
		m.failure, m.signal = &statusError{status: exitStatus(err)}, syscall.SIGTERM
		m.pass()
		return
	}
	if err != nil {
		m.log.log(quiet, "%v", err)
	}
	if m.phase != leaving {
		return
	}
	wait := m.registration.drain(m.drain)
	if wait == 0 {
		m.pass()
		return
	}
	m.log.log(normal, "draining: the command gets the signal in %v, or when rsp gets a second one", wait.Round(time.Millisecond))
	m.phase, m.due = draining, time.After(wait)
}

// onChange handles a stop or a continuation of the command. A stopped command serves no
// client, so the element is not registered until the command continues.
func (m *session) onChange() {
	for {
		change, ok := m.command.Change()
		switch {
		case !ok:
			return
		case change.Stopped && change.WantsTerminal() && m.offerTerminal():
		case change.Stopped:
			m.command.ReturnTerminal()
			m.stopped = true
			m.registration.setStopped(true)
			m.log.log(quiet, "the command is %v: not registered until it continues (kill -CONT %d)", change, m.command.PID())
		case m.stopped:
			m.stopped, m.lend = false, nil
			m.registration.setStopped(false)
			m.log.log(normal, "the command continues")
		}
	}
}

// offerTerminal gives the command the terminal if rsp has it. Otherwise rsp retries after
// lendInterval.
func (m *session) offerTerminal() bool {
	if !m.command.TakeTerminal() {
		m.lend = time.After(lendInterval)
		return false
	}
	m.lend = nil
	m.log.log(normal, "the command uses the terminal: it is in the foreground now, and Ctrl-C reaches it directly")
	return true
}

// finish deregisters the element after the command's end. A signal ends the wait, and so
// does endLimit if the registrar hangs.
func (m *session) finish(signals <-chan os.Signal) error {
	m.logEnd()
	m.teller.manager.stop()
	m.command.ReturnTerminal()
	m.element.stop()
	limit := time.After(m.endLimit())
	for wait := m.ended != nil; wait; {
		select {
		case err := <-m.ended:
			wait = false
			if err != nil {
				m.log.log(quiet, "%v", err)
			}
		case sig := <-signals:
			wait = !ends(sig)
		case <-limit:
			wait = false
		}
	}
	if m.failure != nil {
		return m.failure
	}
	// A parent should see what it would see of the command. It may have sent rsp the
	// signal, and may take a status for a failure.
	if by, ours := m.command.EndedBy(); ours {
		return signaled(by)
	}
	if status := m.command.Status(); status != exitOK {
		return &statusError{status: status}
	}
	return nil
}

// daemonTime is how soon after its start a command ends that starts a daemon.
const daemonTime = 5 * time.Second

// logEnd logs why the element leaves.
func (m *session) logEnd() {
	at, how := quiet, ""
	status := m.command.Status()
	if by, _ := m.command.EndedBy(); by != 0 {
		how = "was killed by " + unix.SignalName(by)
	} else {
		how = fmt.Sprintf("has ended with status %d", status)
	}
	switch {
	case m.phase != serving: // rsp has asked for it
		at = verbose
	case status == exitOK && time.Since(m.started) < daemonTime:
		how += ": if it has started a daemon, rsp cannot register that: a server must stay in the foreground (rsp help register)"
	case status == exitOK:
		at = normal
	}
	m.log.log(at, "the command (pid %d) %s", m.command.PID(), how)
}
