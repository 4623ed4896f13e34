package client

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Machine is the protocol that a [Driver] drives: it has no clock, goroutine, lock
// or socket of its own. The Driver calls its methods one at a time.
type Machine interface {
	// Connecting tells the result of a [hunt.Connect]: the association's name, or
	// why there is none.
	Connecting(now time.Time, ref uint64, a sctp.AssocID, err error)
	Up(now time.Time, a sctp.AssocID, peer []netip.AddrPort)
	Received(now time.Time, a sctp.AssocID, data []byte)
	SendFailed(now time.Time, a sctp.AssocID, err error)
	Down(now time.Time, a sctp.AssocID, err error)
	Announced(now time.Time, from netip.AddrPort, data []byte)
	Found(now time.Time, f Found)
	// Changed is called after each event of the transport.
	Changed(now time.Time, ev Event)
	// Tick does what is due at NextDeadline.
	Tick(now time.Time)
	NextDeadline() (time.Time, bool)
	// Take tells others of results and events, and returns the actions to perform.
	// more is false if there was nothing.
	Take() (actions []hunt.Action, more bool)
	// Stop ends the protocol in good order; Ended reports that it has ended.
	Stop(now time.Time)
	Ended() bool
	// Left is called last, when the sockets are closed and Do takes no more commands, also
	// after a panic. It may wait for functions of the program.
	Left()
}

// Driver is the one goroutine of a Machine: it waits for events, timers and
// commands, and performs the Machine's actions on a Transport. Its methods may be
// called from any goroutine.
type Driver struct {
	t    *Transport
	m    Machine
	wake chan struct{}
	stop chan struct{} // closed when the end begins
	done chan struct{} // closed when the goroutine has ended
	once sync.Once
	err  error // of the goroutine, readable when done

	mu       sync.Mutex
	commands []func(now time.Time)
	ended    bool
}

// NewDriver makes a Driver that does nothing before Start.
func NewDriver(t *Transport, m Machine) *Driver {
	return &Driver{t: t, m: m, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// Start starts the goroutine. It closes the Transport in the end.
func (d *Driver) Start() { go d.run() }

// Do has the Driver's goroutine call f, soon and in the order of the calls. It does
// not wait, and may be called from that goroutine. It reports false if the Driver
// is to end; then f is not called. Otherwise f is called, unless a panic ends the Driver.
func (d *Driver) Do(f func(now time.Time)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return false
	}
	d.commands = append(d.commands, f)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return true
}

// Stopping is closed when Close is called or the Machine has ended; Done when the
// goroutine has ended and the sockets are closed.
func (d *Driver) Stopping() <-chan struct{} { return d.stop }

// Done is closed when the Driver has ended.
func (d *Driver) Done() <-chan struct{} { return d.done }

// Close has the Machine stop, and waits until it has ended and the sockets are
// closed. It may be called more than once, but not from the Driver's goroutine.
func (d *Driver) Close() error {
	d.end()
	<-d.done
	return d.err
}

// Err is why the Driver has ended: a mistake in the Machine or in a function of the program,
// or an error of closing the sockets. It is nil before Done.
func (d *Driver) Err() error {
	select {
	case <-d.done:
		return d.err
	default:
		return nil
	}
}

func (d *Driver) end() {
	d.once.Do(func() {
		d.mu.Lock()
		d.ended = true
		d.mu.Unlock()
		close(d.stop)
	})
}

// run drives the Machine. A mistake in it, which handles the network's input, ends
// the Driver and not the program. So does an error of Call with which a function of Do panics.
func (d *Driver) run() {
	defer close(d.done)
	defer d.m.Left()
	defer d.end()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *panicError: // the program's mistake
			d.err = p
		default:
			d.err = fmt.Errorf("panic in rserpool, please report it: %v\n%s", p, debug.Stack())
		}
		d.err = errors.Join(d.err, d.t.Close())
	}()
	d.loop()
}

func (d *Driver) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := d.stop
	for {
		d.perform()
		if d.m.Ended() {
			d.end()
			d.command() // what Do has taken before
			d.perform()
			return
		}
		if at, ok := d.m.NextDeadline(); ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Stop()
		}
		select {
		case ev := <-d.t.Events():
			now := time.Now()
			d.handle(now, ev)
			d.m.Changed(now, ev)
		case <-d.wake:
			d.command()
		case <-timer.C:
			d.m.Tick(time.Now())
		case <-stop:
			stop = nil
			d.m.Stop(time.Now())
		}
	}
}

// command calls the functions of Do.
func (d *Driver) command() {
	for _, f := range d.take() {
		f(time.Now())
	}
}

// take gives the commands.
func (d *Driver) take() []func(time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.commands
	d.commands = nil
	return list
}

// handle hands an event of the transport to the Machine.
func (d *Driver) handle(now time.Time, ev Event) {
	switch {
	case ev.Network:
	case ev.announce != nil:
		d.m.Announced(now, ev.from, ev.announce)
	case ev.found != nil:
		d.m.Found(now, *ev.found)
	case ev.Type == sctp.Up:
		d.m.Up(now, ev.Assoc, append(ev.Peer[:len(ev.Peer):len(ev.Peer)], ev.Claimed...))
	case ev.Type == sctp.Received:
		if ev.Kind == sctp.TCP || ev.Message.PPID == asap.PPID {
			d.m.Received(now, ev.Assoc, ev.Message.Data)
		}
	case ev.Type == sctp.SendFailed:
		d.m.SendFailed(now, ev.Assoc, DownError(ev.Event))
	case ev.Type == sctp.Down:
		d.m.Down(now, ev.Assoc, DownError(ev.Event))
	}
}

// perform performs what the Machine wants done until it wants no more.
func (d *Driver) perform() {
	for {
		actions, more := d.m.Take()
		if !more {
			return
		}
		d.t.Perform(actions,
			func(ref uint64, a sctp.AssocID, err error) { d.m.Connecting(time.Now(), ref, a, err) },
			func(a sctp.AssocID, err error) { d.m.SendFailed(time.Now(), a, err) })
	}
}
