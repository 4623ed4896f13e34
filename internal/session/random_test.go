package session

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// chaos is a world of unreliable elements around a User that resends, with a model of what
// it has to do.
type chaos struct {
	t   *testing.T
	rnd *rand.Rand
	u   *User
	now time.Time

	sel     *Action
	conn    Ref // the association that is coming up or up; 0: none
	up      bool
	first   bool // nothing was sent on it yet
	pos     int  // of unacked: what it gets next
	cookie  []byte
	unacked []string
	last    int // number of the last message
	ended   bool
	arrived []string // and not taken
}

// fail stops the test.
func (c *chaos) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("after %v: "+format, append([]any{c.now.Sub(epoch)}, args...)...)
}

func (c *chaos) settle() {
	for {
		list := c.u.Take()
		for _, a := range list {
			c.perform(a)
		}
		if c.pump(); len(list) == 0 {
			return
		}
	}
}

func (c *chaos) perform(a Action) {
	if c.ended {
		c.fail("action %d after the end", a.Type)
	}
	switch a.Type {
	case Select:
		c.sel = &a
	case Connect:
		if c.conn != 0 {
			c.fail("a second association")
		}
		c.conn, c.up, c.first = a.Ref, false, true
	case Abort:
		if a.Ref == c.conn {
			c.conn, c.up = 0, false
		}
	case Shutdown, Pause, Resume:
		if a.Ref != c.conn || !c.up {
			c.fail("action %d for association %d, want %d", a.Type, a.Ref, c.conn)
		}
	case Notify:
		c.ended = a.Event.Type == EventEnded
	case Report, Busy, Ask:
	}
}

// pump sends what there is, some of the time.
func (c *chaos) pump() {
	for c.rnd.IntN(4) > 0 {
		ref, m, ok := c.u.Next()
		if !ok {
			return
		}
		if ref != c.conn || !c.up {
			c.fail("message for association %d, want %d", ref, c.conn)
		}
		c.check(m)
		c.first = false
		c.u.Sent(c.now)
	}
}

// check checks a message that is sent: the cookie is first, and user messages come in order.
func (c *chaos) check(m Message) {
	if c.first && c.cookie != nil {
		x, _, err := asap.Parse(m.Data)
		echo, ok := x.(*asap.CookieEcho)
		if m.PPID != asap.PPID || err != nil || !ok || !bytes.Equal(echo.Cookie, c.cookie) {
			c.fail("first message %s, want the cookie %q", show(m), c.cookie)
		}
		return
	}
	if m.PPID == asap.PPID {
		return
	}
	if c.pos >= len(c.unacked) || c.unacked[c.pos] != string(m.Data) {
		c.fail("message %s at %d, want one of %q", m.Data, c.pos, c.unacked)
	}
	c.pos++
}

func (c *chaos) step() {
	switch c.rnd.IntN(14) {
	case 0, 1:
		c.answer()
	case 2, 3:
		if c.conn != 0 && !c.up {
			c.up, c.pos = true, 0
			c.u.Up(c.now, c.conn)
		}
	case 4:
		c.down()
	case 5, 6:
		c.send()
	case 7:
		n := min(c.rnd.IntN(3), c.pos) // the application cannot have an answer to what was not sent
		c.u.Ack(n)
		c.unacked, c.pos = c.unacked[n:], c.pos-n
	case 8:
		c.receive()
	case 9:
		c.sayCookie()
	case 10:
		c.take()
	case 11:
		if c.rnd.IntN(4) == 0 {
			c.u.Fail(c.now, errors.New("bad"))
		}
	case 12:
		if c.up && c.rnd.IntN(8) == 0 {
			c.u.SendFailed(c.now, c.conn, errors.New("no"))
		}
	default:
		c.advance(time.Duration(c.rnd.IntN(1000)) * time.Millisecond)
	}
	c.settle()
}

func (c *chaos) answer() {
	if c.sel == nil {
		return
	}
	var list []rserpool.PoolElement
	for id := range rserpool.PEID(4) {
		if !slices.Contains(c.sel.Without, id+1) && c.rnd.IntN(2) == 0 {
			list = append(list, element(id+1))
		}
	}
	ref, fresh := c.sel.Ref, c.sel.Fresh || c.rnd.IntN(2) == 0
	c.sel = nil
	c.u.Selected(c.now, ref, list, fresh, nil)
}

func (c *chaos) down() {
	if c.conn == 0 {
		return
	}
	ref := c.conn
	c.conn, c.up = 0, false
	c.u.Down(c.now, ref, c.rnd.IntN(3) == 0, errors.New("gone"))
}

func (c *chaos) send() {
	text := fmt.Sprint("m", c.last+1)
	switch err := c.u.Send(Message{Data: []byte(text)}); {
	case err == nil:
		c.last++
		c.unacked = append(c.unacked, text)
	case c.u.Err() == nil && !errors.Is(err, ErrWait):
		c.fail("Send: %v", err)
	}
}

func (c *chaos) receive() {
	if c.up {
		text := fmt.Sprint("r", c.rnd.IntN(1000))
		c.arrived = append(c.arrived, text)
		c.u.Received(c.now, c.conn, Message{Data: []byte(text)})
	}
}

func (c *chaos) take() {
	m, ok := c.u.Receive(c.now)
	switch {
	case !ok && len(c.arrived) > 0, ok && len(c.arrived) == 0, ok && c.arrived[0] != string(m.Data):
		c.fail("Receive: %q, %v; want the first of %q", m.Data, ok, c.arrived)
	case ok:
		c.arrived = c.arrived[1:]
	}
}

func (c *chaos) sayCookie() {
	if !c.up {
		return
	}
	c.cookie = fmt.Appendf(nil, "c%d", c.rnd.IntN(1000))
	data, err := (&asap.Cookie{Cookie: c.cookie}).Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.first {
		c.cookie = nil // it may come before the echo of the last one has left
		c.first = false
	}
	c.u.Received(c.now, c.conn, Message{Data: data, PPID: asap.PPID})
	c.cookie = c.u.Cookie()
}

// advance lets time pass until the next deadline, or as long as most.
func (c *chaos) advance(most time.Duration) {
	next, ok := c.u.NextDeadline()
	if at := c.now.Add(most); !ok || next.After(at) {
		c.now = at
		return
	}
	if next.After(c.now) {
		c.now = next
	}
	c.u.Tick(c.now)
	c.settle()
	if next, ok := c.u.NextDeadline(); ok && !next.After(c.now) {
		c.fail("a deadline remains in the past after Tick")
	}
}

// TestRandom: whatever elements and registrars do, there is one association at most, the
// cookie comes first and the messages in their order, and a session whose elements are all
// silent ends.
func TestRandom(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			u, err := NewUser(UserConfig{Pool: "web", Unacked: Resend, Seed: seed, MaxReceive: 200, AnswerTimeout: 5 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			c := &chaos{t: t, rnd: rand.New(rand.NewPCG(seed, 3)), u: u, now: epoch}
			c.u.Start(c.now)
			c.settle()
			for i := 0; i < 1000 && !c.ended; i++ {
				c.step()
			}
			c.down()
			c.settle()
			for range 300 { // nobody answers any more
				c.advance(time.Second)
				c.settle()
			}
			if u.State() != Ended || !c.ended {
				t.Errorf("state %d after 5 minutes of silence, want Ended", u.State())
			}
		})
	}
}

// TestRandomAck: whatever Ack says and when, each message that Send has taken is sent, in order,
// and none again that was sent and is acknowledged.
func TestRandomAck(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		d := connected(t, UserConfig{Unacked: Resend})
		taken, acked, sent := 0, 0, 0
		look := func() {
			for _, line := range d.log {
				var at string
				var n int
				if _, err := fmt.Sscanf(line, "%s send m%d", &at, &n); err != nil {
					continue
				}
				if n > sent+1 || n <= sent && n <= acked {
					t.Fatalf("seed %d: message %d is sent after %d, with %d acknowledged", seed, n, sent, acked)
				}
				sent = max(sent, n)
			}
			d.log = nil
		}
		for range 100 {
			switch rnd.IntN(6) {
			case 0, 1:
				if d.send(fmt.Sprint("m", taken+1)) == nil {
					taken++
				}
			case 2:
				n := rnd.IntN(4)
				d.u.Ack(n)
				look()
				acked = min(acked+n, taken)
			case 3:
				d.full = !d.full
				d.collect()
			case 4:
				d.down("lost")
				d.selected(2)
			default:
				if d.u.State() == FailingOver {
					d.until(d.now.Sub(epoch) + time.Second)
					d.selected(3)
					d.up()
				}
			}
			look()
		}
		d.full = false
		for range 10 {
			if d.u.State() == FailingOver {
				d.until(d.now.Sub(epoch) + time.Second)
				d.selected(4)
				d.up()
			}
			d.collect()
			look()
		}
		if d.u.State() != Connected || sent != taken {
			t.Errorf("seed %d: %d messages are sent, want all %d", seed, sent, taken)
		}
	}
}
