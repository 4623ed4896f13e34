package client

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ticker is a Machine that ticks each second until it is stopped.
type ticker struct {
	Machine
	at    time.Time
	ticks int
	stop  bool
	left  int
}

func (m *ticker) Tick(now time.Time)                    { m.ticks++; m.at = now.Add(time.Second) }
func (m *ticker) NextDeadline() (time.Time, bool)       { return m.at, true }
func (m *ticker) Take() (actions []hunt.Action, _ bool) { return nil, false }
func (m *ticker) Stop(time.Time)                        { m.stop = true }
func (m *ticker) Ended() bool                           { return m.stop }
func (m *ticker) Left()                                 { m.left++ }

func drive(t *testing.T, m Machine) *Driver {
	t.Helper()
	tr, err := Open(Config{Listen: sctptest.NewNetwork().Listen, Local: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}})
	if err != nil {
		t.Fatal(err)
	}
	d := NewDriver(tr, m)
	d.Start()
	return d
}

func TestDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &ticker{at: time.Now().Add(time.Second)}
		d := drive(t, m)
		var order []int
		for i := range 3 {
			if !d.Do(func(time.Time) { order = append(order, i) }) {
				t.Error("a command is refused")
			}
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if err := d.Err(); err != nil {
			t.Errorf("error %v before the end", err)
		}
		if err := errors.Join(d.Close(), d.Close(), d.Err()); err != nil {
			t.Errorf("Close returns %v", err)
		}
		if m.ticks != 10 || len(order) != 3 || order[0] != 0 || order[2] != 2 {
			t.Errorf("%d ticks, commands %v", m.ticks, order)
		}
		if d.Do(func(time.Time) {}) {
			t.Error("a command is taken after the end")
		}
		if m.left != 1 {
			t.Errorf("Left was called %d times, want once", m.left)
		}
	})
}

// TestDriverCommands: what Do has taken is called, also if the Driver ends meanwhile.
func TestDriverCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &ticker{}
		d := drive(t, m)
		blocked := make(chan struct{})
		d.Do(func(time.Time) { <-blocked; m.stop = true })
		synctest.Wait()
		called := 0
		d.Do(func(now time.Time) {
			called++
			if d.Do(func(time.Time) {}) {
				t.Error("a command is taken after the end")
			}
		})
		close(blocked)
		if err := d.Close(); err != nil || called != 1 {
			t.Errorf("the command was called %d times; Close returns %v", called, err)
		}
	})
}

// TestDriverPanic: a mistake ends the Driver with an error, and closes the sockets.
func TestDriverPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &ticker{at: time.Now().Add(time.Hour)}
		d := drive(t, m)
		d.Do(func(time.Time) { panic("a mistake") })
		<-d.Done()
		if err := d.Close(); err == nil || !strings.Contains(err.Error(), "please report it: a mistake") {
			t.Errorf("Close returns %v", err)
		}
		if m.left != 1 {
			t.Errorf("Left was called %d times, want once", m.left)
		}
		if len(d.t.LocalAddrs()) != 0 {
			t.Error("the sockets are open")
		}
	})
}

// heard is a Machine that keeps what it is called with.
type heard struct {
	ticker
	ups, messages int
}

func (m *heard) Up(time.Time, sctp.AssocID, []netip.AddrPort)      { m.ups++ }
func (m *heard) Received(time.Time, sctp.AssocID, []byte)          { m.messages++ }
func (m *heard) Changed(time.Time, Event)                          {}
func (m *heard) Down(time.Time, sctp.AssocID, error)               {}
func (m *heard) SendFailed(time.Time, sctp.AssocID, error)         {}
func (m *heard) Connecting(time.Time, uint64, sctp.AssocID, error) {}
func (m *heard) Announced(time.Time, netip.AddrPort, []byte)       {}

// TestDriverPayload: over SCTP, only messages with the payload identifier of ASAP count.
func TestDriverPayload(t *testing.T) {
	m := &heard{}
	d := NewDriver(nil, m)
	for _, ev := range []sctp.Event{
		{Type: sctp.Up, Assoc: 1},
		{Type: sctp.Received, Assoc: 1, Message: sctp.Message{PPID: 11}},
		{Type: sctp.Received, Assoc: 1, Message: sctp.Message{PPID: 12}},
		{Type: sctp.Received, Assoc: 2, Kind: rserpool.ViaTCP},
	} {
		d.handle(time.Now(), Event{Event: ev})
	}
	if m.ups != 1 || m.messages != 2 {
		t.Errorf("%d associations and %d messages, want 1 and 2", m.ups, m.messages)
	}
}
