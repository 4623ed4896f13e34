package session

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// driver drives a User by hand and keeps a log of what it wants done.
type driver struct {
	t    *testing.T
	u    *User
	now  time.Time
	log  []string
	conn Ref // of the last Connect
	sel  Ref // of the last Select
	ask  Ref
	full bool // the association has no room
}

var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func newDriver(t *testing.T, cfg UserConfig) *driver {
	t.Helper()
	cfg.Pool = "web"
	u, err := NewUser(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, u: u, now: epoch}
	u.Start(d.now)
	d.collect()
	return d
}

// connected is a driver whose session has element 1, with an empty log.
func connected(t *testing.T, cfg UserConfig) *driver {
	t.Helper()
	d := newDriver(t, cfg)
	d.selected(1)
	d.up()
	d.log = nil
	return d
}

func element(id rserpool.PEID) rserpool.PoolElement {
	return rserpool.PoolElement{ID: id, UserTransport: rserpool.Transport{
		Type: rserpool.SCTP, Port: uint16(id), Use: rserpool.DataPlusControl, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}}
}

func elements(ids ...rserpool.PEID) (list []rserpool.PoolElement) {
	for _, id := range ids {
		list = append(list, element(id))
	}
	return list
}

func (d *driver) logf(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf("%v ", d.now.Sub(epoch))+fmt.Sprintf(format, args...))
}

// collect performs the actions into the log, and sends what there is room for.
func (d *driver) collect() {
	for _, a := range d.u.Take() {
		d.perform(a)
	}
	for !d.full {
		ref, m, ok := d.u.Next()
		if !ok {
			break
		}
		if ref != d.conn {
			d.t.Errorf("message for association %d, want %d", ref, d.conn)
		}
		d.logf("send %s", show(m))
		d.u.Sent(d.now)
		for _, a := range d.u.Take() {
			d.perform(a)
		}
	}
}

func (d *driver) perform(a Action) {
	switch a.Type {
	case Select:
		d.sel = a.Ref
		s := "select"
		if a.Fresh {
			s += " fresh"
		}
		if a.Want != 0 {
			s += fmt.Sprintf(" want %d", a.Want)
		}
		for _, id := range a.Without {
			s += fmt.Sprintf(" -%d", id)
		}
		d.logf("%s", s)
	case Connect:
		d.conn = a.Ref
		d.logf("connect %d", a.Element.ID)
	case Shutdown:
		d.logf("shutdown")
	case Abort:
		d.logf("abort")
	case Pause:
		d.logf("pause")
	case Resume:
		d.logf("resume")
	case Report:
		d.logf("report %d%s", a.Element.ID, map[bool]string{true: " hearsay"}[a.Hearsay])
	case Busy:
		d.logf("busy %d", a.Element.ID)
	case Ask:
		d.ask = a.Ref
		s := "ask"
		for _, m := range a.Messages {
			s += " " + string(m.Data)
		}
		d.logf("%s", s)
	case Notify:
		d.logf("%s", news(a.Event))
	}
}

func news(e *Event) string {
	switch e.Type {
	case EventConnected:
		return fmt.Sprintf("connected %d", e.Element)
	case EventFailing:
		return fmt.Sprintf("failing %d: %v", e.Element, e.Err)
	case EventTryFailed:
		return fmt.Sprintf("try failed %d: %v", e.Element, e.Err)
	case EventFailedOver:
		return fmt.Sprintf("failed over %d to %d", e.From, e.Element)
	case EventCookie:
		return fmt.Sprintf("cookie of %d", e.Element)
	case EventCard:
		return fmt.Sprintf("card of %d", e.Element)
	case EventEnded:
		var f *rserpool.FailoverError
		if errors.As(e.Err, &f) {
			return "ended: failover"
		}
		return fmt.Sprintf("ended: %v", e.Err)
	}
	return "?"
}

// show describes a message that is sent.
func show(m Message) string {
	if m.PPID != asap.PPID {
		return string(m.Data)
	}
	x, _, err := asap.Parse(m.Data)
	switch x := x.(type) {
	case *asap.CookieEcho:
		return "ECHO " + string(x.Cookie)
	case *asap.BusinessCard:
		return "CARD " + string(x.Handle) + strings.Repeat(" e", len(x.Elements))
	case *asap.Error:
		return "ERROR " + x.Causes[0].Code.String()
	}
	return fmt.Sprint("?", err)
}

func (d *driver) selected(ids ...rserpool.PEID) {
	d.u.Selected(d.now, d.sel, elements(ids...), false, nil)
	d.collect()
}

// fresh answers the selection with what a registrar says.
func (d *driver) fresh(ids ...rserpool.PEID) {
	d.u.Selected(d.now, d.sel, elements(ids...), true, nil)
	d.collect()
}

// up establishes the association, and proves that the element does not refuse the session.
func (d *driver) up() {
	d.u.Up(d.now, d.conn)
	d.u.prove()
	d.collect()
}

// accept establishes the association.
func (d *driver) accept() {
	d.u.Up(d.now, d.conn)
	d.collect()
}

func (d *driver) abort() {
	d.u.Down(d.now, d.conn, false, ErrPeerAborted)
	d.collect()
}

func (d *driver) down(why string) {
	d.u.Down(d.now, d.conn, false, errors.New(why))
	d.collect()
}

// shutdown has the element shut the association down.
func (d *driver) shutdown() {
	d.u.Down(d.now, d.conn, true, errors.New("shutdown"))
	d.collect()
}

func (d *driver) send(text string) error {
	err := d.u.Send(Message{Data: []byte(text)})
	d.collect()
	return err
}

func (d *driver) mustSend(texts ...string) {
	d.t.Helper()
	for _, text := range texts {
		if err := d.send(text); err != nil {
			d.t.Fatalf("Send(%q): %v", text, err)
		}
	}
}

func (d *driver) data(text string) {
	d.u.Received(d.now, d.conn, Message{Data: []byte(text)})
	d.collect()
}

// answered has an answer come, which the application receives, and with which it acknowledges n
// messages. Then it waits for the next one.
func (d *driver) answered(n int) {
	d.t.Helper()
	d.data("answer")
	if _, ok := d.u.Receive(d.now); !ok {
		d.t.Error("no answer to receive")
	}
	d.u.Ack(n)
	_, _ = d.u.Receive(d.now)
	d.collect()
}

func (d *driver) control(m asap.Message) {
	d.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.u.Received(d.now, d.conn, Message{Data: b, PPID: asap.PPID})
	d.collect()
}

func (d *driver) cookie(text string) { d.control(&asap.Cookie{Cookie: []byte(text)}) }

func (d *driver) card(ids ...rserpool.PEID) {
	d.control(&asap.BusinessCard{Handle: "web", Elements: elements(ids...)})
}

// until lets time pass, with what is due meanwhile.
func (d *driver) until(at time.Duration) {
	d.t.Helper()
	end := epoch.Add(at)
	for range 10000 {
		next, ok := d.u.NextDeadline()
		if !ok || next.After(end) {
			d.now = end
			return
		}
		d.now = next
		d.u.Tick(d.now)
		d.collect()
	}
	d.t.Fatal("no end of deadlines")
}

// want compares the log, and begins a new one.
func (d *driver) want(lines ...string) {
	d.t.Helper()
	if diff := cmp.Diff(lines, d.log); diff != "" {
		d.t.Errorf("log (-want +got):\n%s", diff)
	}
	d.log = nil
}
