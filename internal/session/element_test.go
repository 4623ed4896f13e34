package session

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// elementDriver drives an Element, and notes what it does.
type elementDriver struct {
	t    *testing.T
	e    *Element
	now  time.Time
	full bool // the association has no room
	log  []string
}

func newElementDriver(t *testing.T, cfg ElementConfig, card string) *elementDriver {
	t.Helper()
	var own []byte
	if card != "" {
		own = encode(t, &asap.BusinessCard{Handle: rserpool.PoolHandle(card)})
	}
	d := &elementDriver{t: t, e: NewElement(NewElementConfig(cfg), own), now: time.Unix(0, 0)}
	d.collect()
	return d
}

func encode(t testing.TB, m asap.Message) []byte {
	t.Helper()
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// collect sends what the Element has to send, and performs its actions.
func (d *elementDriver) collect() {
	for !d.full {
		m, ok := d.e.Next()
		if !ok {
			break
		}
		d.log = append(d.log, "send "+textOf(m))
		d.e.Sent()
	}
	names := map[ActionType]string{Shutdown: "shutdown", Abort: "abort", Pause: "pause", Resume: "resume"}
	for _, a := range d.e.Take() {
		d.log = append(d.log, names[a.Type])
	}
}

// textOf says what a message is.
func textOf(m Message) string {
	if m.PPID != asap.PPID {
		return string(m.Data)
	}
	c, _, err := asap.Parse(m.Data)
	if err != nil {
		return err.Error()
	}
	switch c := c.(type) {
	case *asap.Cookie:
		return "cookie " + string(c.Cookie)
	case *asap.BusinessCard:
		return fmt.Sprintf("card %s %d", c.Handle, len(c.Elements))
	}
	return strings.ToLower(strings.TrimPrefix(c.Type().String(), "ASAP_"))
}

func (d *elementDriver) want(want ...string) {
	d.t.Helper()
	d.collect()
	if got := strings.Join(d.log, ", "); got != strings.Join(want, ", ") {
		d.t.Errorf("the element does %q, want %q", got, strings.Join(want, ", "))
	}
	d.log = nil
}

func (d *elementDriver) control(m asap.Message) News {
	d.t.Helper()
	return d.e.Received(Message{Data: encode(d.t, m), PPID: asap.PPID})
}

func (d *elementDriver) data(text string) News { return d.e.Received(Message{Data: []byte(text)}) }

func (d *elementDriver) send(text string) {
	d.t.Helper()
	if err := d.e.Send(Message{Data: []byte(text)}); err != nil {
		d.t.Errorf("Send: %v", err)
	}
}

func (d *elementDriver) setCookie(text string) {
	d.t.Helper()
	if err := d.e.SetCookie([]byte(text)); err != nil {
		d.t.Errorf("SetCookie: %v", err)
	}
}

func TestElementCookies(t *testing.T) {
	d := newElementDriver(t, ElementConfig{Cards: CardNever}, "")
	if _, ok := d.e.Echo(); ok {
		t.Error("a new session has a cookie")
	}
	if n := d.control(&asap.CookieEcho{Cookie: []byte("one")}); n != NewsEcho {
		t.Errorf("an echo is news %d", n)
	}
	if n := d.control(&asap.CookieEcho{Cookie: []byte("two")}); n != NoNews {
		t.Errorf("a second echo is news %d", n)
	}
	if c, ok := d.e.Echo(); string(c) != "one" || !ok {
		t.Errorf("the cookie is %q, %v, want the first one", c, ok)
	}
	d.setCookie("a")
	d.send("answer")
	d.setCookie("b")
	d.want("send cookie a", "send answer", "send cookie b")
	d.full = true
	d.send("answer")
	for i := range 1000 { // the application may set cookies all the time
		d.setCookie(fmt.Sprint(i))
	}
	d.send("more")
	d.setCookie("end")
	d.full = false
	d.want("send answer", "send cookie 999", "send more", "send cookie end")
	if err := d.e.SetCookie(make([]byte, 1<<16)); err == nil {
		t.Error("a cookie may be longer than a message")
	}
	d.want()
}

func TestElementCards(t *testing.T) {
	peer := &asap.BusinessCard{Handle: "users", Elements: []rserpool.PoolElement{element(1)}}
	t.Run("always", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{}, "jobs")
		d.want("send card jobs 0")
		if n := d.control(peer); n != NewsCard || d.e.PeerCard().Handle != "users" {
			t.Errorf("the peer's card is news %d: %+v", n, d.e.PeerCard())
		}
		d.want()
		d.e.SetCard(encode(t, &asap.BusinessCard{Handle: "jobs", Elements: []rserpool.PoolElement{element(1), element(2)}}))
		d.want("send card jobs 2")
	})
	t.Run("after the peer", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{Cards: CardAfterPeer}, "jobs")
		d.e.SetCard(encode(t, &asap.BusinessCard{Handle: "jobs", Elements: []rserpool.PoolElement{element(1)}}))
		d.want()
		d.control(peer)
		d.want("send card jobs 1")
		d.control(peer)
		d.want()
		d.e.SetCard(encode(t, &asap.BusinessCard{Handle: "jobs"}))
		d.want("send card jobs 0")
	})
	t.Run("never", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{Cards: CardNever}, "jobs")
		d.control(peer)
		d.want()
	})
	t.Run("many elements", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{}, "")
		many := &asap.BusinessCard{Handle: "users"}
		for i := range 100 {
			many.Elements = append(many.Elements, element(rserpool.PEID(i+1)))
		}
		d.control(many)
		if n := len(d.e.PeerCard().Elements); n != maxCardElements {
			t.Errorf("%d elements of a card are kept, want %d", n, maxCardElements)
		}
	})
}

// TestElementHostile: faulty control messages, and messages that no element expects, do
// not reach the application, and are answered at most maxReplies at a time.
func TestElementHostile(t *testing.T) {
	d := newElementDriver(t, ElementConfig{Cards: CardNever}, "")
	d.full = true
	for range 100 {
		if n := d.e.Received(Message{Data: []byte{0x7f, 0, 0, 8, 1, 2, 3, 4}, PPID: asap.PPID}); n != NoNews {
			t.Errorf("an unknown message is news %d", n)
		}
	}
	for _, m := range []asap.Message{
		&asap.Cookie{Cookie: []byte("from a user")},
		&asap.HandleResolution{Handle: "jobs"},
		&asap.Deregistration{Handle: "jobs", ID: 1},
	} {
		if n := d.control(m); n != NoNews {
			t.Errorf("%v is news %d", m.Type(), n)
		}
	}
	if n := d.e.Received(Message{Data: []byte("ENRP"), PPID: enrpPPID}); n != NoNews || d.e.Readable() {
		t.Errorf("ENRP is news %d", n)
	}
	d.full = false
	d.want("send error", "send error", "send error", "send error")
}

func TestElementFlow(t *testing.T) {
	d := newElementDriver(t, ElementConfig{MaxReceive: 1000, MaxSend: 1000, Cards: CardNever}, "")
	for range 10 {
		d.data("0123456789")
	}
	d.want()
	for range 6 {
		d.data("0123456789")
	}
	d.want("pause")
	for d.e.Readable() {
		d.e.Receive()
	}
	d.want("resume")
	d.full = true
	n := 0
	for ; d.e.MaySend(10) == nil; n++ {
		d.send("0123456789")
	}
	if err := d.e.Send(Message{Data: []byte("more")}); !errors.Is(err, ErrWait) || n < 10 || n > 20 {
		t.Errorf("after %d messages Send gives %v, want ErrWait", n, err)
	}
	if err := d.e.Send(Message{Data: []byte("x"), PPID: asap.PPID}); err == nil || errors.Is(err, ErrWait) {
		t.Errorf("Send with the PPID of ASAP gives %v", err)
	}
	d.full = false
	d.collect()
	if len(d.log) != n || d.e.MaySend(10) != nil {
		t.Errorf("%d messages were sent, want %d", len(d.log), n)
	}
}

func TestElementEnd(t *testing.T) {
	t.Run("the user ends", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{Cards: CardNever}, "")
		d.data("last words")
		d.e.Down(io.EOF)
		if m, ok := d.e.Receive(); string(m.Data) != "last words" || !ok {
			t.Errorf("Receive gives %q, %v", m.Data, ok)
		}
		for _, err := range []error{d.e.Err(), d.e.MaySend(1), d.e.Send(Message{Data: []byte("x")}), d.e.SetCookie(nil)} {
			if !errors.Is(err, io.EOF) {
				t.Errorf("error %v after the end, want EOF", err)
			}
		}
		d.want()
	})
	t.Run("close", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{Cards: CardNever}, "")
		d.full = true
		d.send("answer")
		d.setCookie("state")
		d.e.Close(d.now)
		d.want()
		d.full = false
		d.want("send answer", "send cookie state", "shutdown")
		d.e.Close(d.now)
		d.data("late")
		d.want()
		d.e.Down(errors.New("closed here"))
		if !errors.Is(d.e.Err(), rserpool.ErrClosed) || d.e.State() != Ended || d.e.Readable() {
			t.Errorf("error %v in state %d", d.e.Err(), d.e.State())
		}
	})
	t.Run("close takes too long", func(t *testing.T) {
		d := newElementDriver(t, ElementConfig{CloseTime: time.Second, Cards: CardNever}, "")
		d.full = true
		d.send("answer")
		d.e.Close(d.now)
		at, ok := d.e.NextDeadline()
		if !ok || at.Sub(d.now) != time.Second {
			t.Fatalf("deadline %v, %v", at, ok)
		}
		d.e.Tick(at.Add(-1))
		d.want()
		d.e.Tick(at)
		d.want("abort")
		if _, ok := d.e.NextDeadline(); ok {
			t.Error("a deadline after the abort")
		}
		d.e.Abort()
		d.want()
	})
}

// FuzzElement: whatever a user sends on the control channel, the element keeps little of
// it, and its own messages are good.
func FuzzElement(f *testing.F) {
	f.Add(encode(f, &asap.CookieEcho{Cookie: []byte("state")}), true)
	f.Add(encode(f, &asap.Cookie{Cookie: []byte("state")}), true)
	f.Add(encode(f, &asap.BusinessCard{Handle: "users", Elements: []rserpool.PoolElement{element(1)}}), true)
	f.Add([]byte("data"), false)
	f.Fuzz(func(t *testing.T, data []byte, isControl bool) {
		e := NewElement(NewElementConfig(ElementConfig{Cards: CardAfterPeer}), encode(t, &asap.BusinessCard{Handle: "jobs"}))
		m := Message{Data: data}
		if isControl {
			m.PPID = asap.PPID
		}
		for range 2 * maxReplies {
			e.Received(m)
		}
		if e.replies.n > maxReplies || e.peer != nil && len(e.peer.Elements) > maxCardElements || isControl && e.in.n > 0 {
			t.Fatalf("the element keeps too much: %+v", e)
		}
		for {
			m, ok := e.Next()
			if !ok {
				break
			}
			if _, _, err := asap.Parse(m.Data); err != nil || m.PPID != asap.PPID {
				t.Fatalf("the element sends %x: %v", m.Data, err)
			}
			e.Sent()
		}
	})
}
