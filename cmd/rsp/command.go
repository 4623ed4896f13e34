package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
)

// phase is how far a command is on its way to its end:
//
//	serving -> leaving -> draining -> ending
//
// A second signal goes to ending at once.
type phase uint8

const (
	// serving: the element is registered, or is to be.
	serving phase = iota
	// leaving: a signal has come; the element is being deregistered.
	leaving
	// draining: the element is deregistered; clients may still have answers
	// that name it.
	draining
	// ending: the command has the signal.
	ending
)

// session is a command that runs, with its element. It is driven by events,
// and waits for nothing else.
type session struct {
	*supervisor
	command *child.Child
	element running
	ended   <-chan error // nil once the element has ended
	phase   phase
	signal  os.Signal        // what will end the command
	due     <-chan time.Time // when the phase is over at the latest
	failure error            // what rsp ends with in place of the command's status
	stopped bool
	lend    <-chan time.Time // when to try again to give the command the terminal
}

// lendInterval is how often a command that waits for the terminal is offered
// it: nobody tells rsp when a shell has put it into the foreground.
const lendInterval = time.Second

// withCommand keeps the element registered while the command runs. The command
// is ended by the user's signals, and by the refusal of the very first
// registration. Nothing else ends it.
func (s *supervisor) withCommand(ctx context.Context, signals <-chan os.Signal) error {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGCHLD)
	defer signal.Stop(changes)
	// The files themselves: no goroutine of rsp stands between them and the
	// command.
	c, err := child.Start(s.command, os.Stdout, os.Stderr)
	if err != nil {
		s.log.log(quiet, "%v", err)
		return &statusError{child.StartStatus(err)}
	}
	ignoreTerminal()
	m := &session{supervisor: s, command: c, element: s.start(ctx)}
	m.ended = m.element.ended
	for {
		select {
		case sig := <-signals:
			m.onSignal(sig)
		case <-changes:
			m.onChange()
		case err := <-m.ended:
			m.onElementEnd(err)
		case <-m.due:
			m.pass()
		case <-m.lend:
			m.offerTerminal()
		case <-c.Done():
			return m.finish(signals)
		}
	}
}

// ends reports whether a signal asks for the end.
func ends(sig os.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// onSignal passes a signal on: at once, but for the first that asks for the
// end, which follows the deregistration.
func (m *session) onSignal(sig os.Signal) {
	switch {
	case sig == syscall.SIGCONT:
		m.command.Continue()
	case sig == syscall.SIGHUP:
		// As the kernel does when the terminal is closed: one that is
		// stopped would not notice.
		m.send(sig)
		m.command.Continue()
	case !ends(sig):
		m.send(sig)
	case m.phase == serving:
		m.log.log(verbose, "%v: deregistering", sig)
		m.phase, m.signal = leaving, sig
		m.due = time.After(m.endLimit())
		m.element.stop()
	default:
		m.signal = sig
		m.pass()
	}
}

// pass ends the command. One that is stopped would not notice the signal.
func (m *session) pass() {
	m.phase, m.due = ending, nil
	m.send(m.signal)
	m.command.Continue()
}

// send sends the command a signal. A command that has become another user's, by
// setuid, takes none from rsp: the caller that waits for its end must know.
func (m *session) send(sig os.Signal) {
	if err := m.command.Signal(sig); err != nil {
		m.log.log(quiet, "the command cannot be sent the signal (%v): %v; rsp ends when it does (process %d)", sig, err, m.command.PID())
	}
}

// onElementEnd goes on after the end of the element.
func (m *session) onElementEnd(err error) {
	m.ended = nil
	if m.phase == serving { // the first registration is refused
		m.failure, m.signal = err, syscall.SIGTERM
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

// onChange sees whether the command was stopped, or goes on. A command that is
// stopped serves nobody, and is no element as long as that lasts.
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

// offerTerminal gives the command the terminal if rsp has it, and else tries
// again later.
func (m *session) offerTerminal() bool {
	if !m.command.TakeTerminal() {
		m.lend = time.After(lendInterval)
		return false
	}
	m.lend = nil
	m.log.log(normal, "the command uses the terminal: it is in the foreground now, and Ctrl-C reaches it directly")
	return true
}

// finish deregisters the element after the command's end. A signal or a hung
// registrar ends the wait.
func (m *session) finish(signals <-chan os.Signal) error {
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
	if status := m.command.Status(); status != exitOK {
		return &statusError{status}
	}
	return nil
}
