package pe

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// chaos is a world of unreliable registrars around a core. It checks what must
// hold whatever they do.
type chaos struct {
	t     *testing.T
	rnd   *rand.Rand
	k     *core
	now   time.Time
	calls []sctp.AssocID // not yet up or down
	up    []sctp.AssocID
	last  sctp.AssocID
	inbox []sent // what the core has sent, not yet answered
}

type sent struct {
	a sctp.AssocID
	m asap.Message
}

// settle performs the core's actions.
func (c *chaos) settle() {
	for {
		actions, _ := c.k.take()
		if len(actions) == 0 {
			return
		}
		for _, a := range actions {
			switch a := a.(type) {
			case hunt.Connect:
				c.last++
				c.calls = append(c.calls, c.last)
				if len(c.calls) > 3 {
					c.t.Fatalf("%d associations are being set up, want three at most (SH1)", len(c.calls))
				}
				c.k.Connecting(c.now, a.Ref, c.last, nil)
			case hunt.Send:
				if !slices.Contains(c.up, a.Assoc) {
					c.t.Fatalf("message on association %d, which is not up", a.Assoc)
				}
				m, _, err := asap.Parse(a.Data)
				if err != nil {
					c.t.Fatal(err)
				}
				c.inbox = append(c.inbox, sent{a.Assoc, m})
			case hunt.Close:
				c.drop(a.Assoc)
			}
		}
	}
}

// drop ends an association; the core hears of it, as the transport has it.
func (c *chaos) drop(a sctp.AssocID) {
	alive := func(x sctp.AssocID) bool { return x == a }
	if !slices.Contains(c.up, a) && !slices.Contains(c.calls, a) {
		return
	}
	c.up = slices.DeleteFunc(c.up, alive)
	c.calls = slices.DeleteFunc(c.calls, alive)
	c.inbox = slices.DeleteFunc(c.inbox, func(s sent) bool { return s.a == a })
	c.k.Down(c.now, a, errors.New("gone"))
}

func (c *chaos) pick(list []sctp.AssocID) sctp.AssocID {
	if len(list) == 0 {
		return 0
	}
	return list[c.rnd.IntN(len(list))]
}

func (c *chaos) establish(a sctp.AssocID) {
	c.calls = slices.DeleteFunc(c.calls, func(x sctp.AssocID) bool { return x == a })
	c.up = append(c.up, a)
	hosts := []string{"10.0.0.1:3863", "10.0.0.2:3863", "10.0.0.9:3863"}
	c.k.Up(c.now, a, []netip.AddrPort{netip.MustParseAddrPort(hosts[c.rnd.IntN(3)])})
}

func (c *chaos) receive(a sctp.AssocID, m asap.Message) {
	data, err := m.Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.k.Received(c.now, a, data)
}

// advance lets time pass up to the next deadline, or a moment.
func (c *chaos) advance(most time.Duration) {
	next, ok := c.k.NextDeadline()
	if at := c.now.Add(most); !ok || next.After(at) {
		c.now = at
		return
	}
	c.now = maxTime(c.now, next)
	c.k.Tick(c.now)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// answer answers the oldest message as a registrar does. It rejects a
// registration if there is a cause.
func (c *chaos) answer(rejected ...rserpool.Cause) {
	if len(c.inbox) == 0 {
		return
	}
	s := c.inbox[0]
	c.inbox = c.inbox[1:]
	switch m := s.m.(type) {
	case *asap.Registration:
		c.receive(s.a, &asap.RegistrationResponse{Reject: len(rejected) > 0, Handle: m.Handle, ID: m.Element.ID, Causes: rejected})
	case *asap.Deregistration:
		c.receive(s.a, &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID, Causes: rejected})
	}
}

// step has something happen.
func (c *chaos) step() {
	switch c.rnd.IntN(18) {
	case 0, 1:
		if a := c.pick(c.calls); a != 0 {
			c.establish(a)
		}
	case 2:
		if a := c.pick(c.calls); a != 0 && c.rnd.IntN(2) == 0 {
			c.drop(a)
		} else if a != 0 {
			c.calls = slices.DeleteFunc(c.calls, func(x sctp.AssocID) bool { return x == a })
			c.k.Down(c.now, a, sctp.ErrConnected)
		}
	case 3:
		if a := c.pick(c.up); a != 0 {
			c.drop(a)
		}
	case 4:
		c.last++
		c.establish(c.last) // somebody calls
	case 5, 6, 7:
		c.answer()
	case 8:
		cause := rserpool.CauseLackOfResources
		switch {
		case c.k.proven:
			cause = rserpool.CauseCode(c.rnd.IntN(11)) // none ends the element
		case c.k.redraws < maxRedraws:
			cause = rserpool.CauseNonUniquePEIdentifier
		}
		c.answer(rserpool.Cause{Code: cause})
	case 9:
		if a := c.pick(c.up); a != 0 {
			c.receive(a, &asap.EndpointKeepAlive{Home: c.rnd.IntN(2) == 0, Server: rserpool.ServerID(c.rnd.IntN(3)), Handle: testPool})
		}
	case 10:
		if a := c.pick(c.up); a != 0 {
			c.receive(a, &asap.DeregistrationResponse{Handle: testPool, ID: c.k.element.ID})
		}
	case 11:
		if a := c.pick(c.up); a != 0 {
			c.k.SendFailed(c.now, a, errors.New("x"))
		}
	case 12:
		c.k.update(c.now, rserpool.Policy{Type: rserpool.LeastUsed, Load: c.rnd.Uint32()})
	case 13:
		if c.rnd.IntN(2) == 0 {
			c.k.deregister(c.now)
		} else {
			c.k.register(c.now)
		}
	case 14:
		if a := c.pick(c.up); a != 0 {
			junk := make([]byte, c.rnd.IntN(40))
			for i := range junk {
				junk[i] = byte(c.rnd.Uint32() >> c.rnd.IntN(30))
			}
			c.k.Received(c.now, a, junk)
		}
	case 15:
		c.k.readdress(c.now, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(c.rnd.IntN(3))})}, c.rnd.IntN(2) == 0, nil)
	case 16:
		c.k.moveOn(c.now) // the runner looks every few seconds
	default:
		c.advance(time.Duration(c.rnd.IntN(5000)) * time.Millisecond)
	}
	c.settle()
	known := slices.AppendSeq([]sctp.AssocID{c.k.home, c.k.trial.assoc}, maps.Keys(c.k.peers))
	for _, s := range c.k.shunned {
		known = append(known, s.assoc)
	}
	for _, a := range known {
		if a != 0 && !slices.Contains(c.up, a) {
			c.t.Fatalf("association %d is kept after its end", a)
		}
	}
	if len(c.k.peers) > maxPeers {
		c.t.Fatalf("%d associations, want %d at most", len(c.k.peers), maxPeers)
	}
	if len(c.k.shunned) > maxShunned || len(c.k.adopted) > maxAdoptions || len(c.k.calls.assocs)+len(c.k.calls.refs) > 3 {
		c.t.Fatalf("%d shunned, %d adopted, %d calls: more than the limits", len(c.k.shunned), len(c.k.adopted), len(c.k.calls.assocs))
	}
	if c.k.home != 0 && c.k.home == c.k.trial.assoc {
		c.t.Fatal("the home is on trial")
	}
}

// calm has all registrars behave for a while.
func (c *chaos) calm(d time.Duration, until func() bool) {
	for end, n := c.now.Add(d), 0; c.now.Before(end) && !until(); n++ {
		if n > 100_000 {
			c.t.Fatal("the core spins")
		}
		for len(c.calls) > 0 {
			c.establish(c.calls[0])
			c.settle()
		}
		for len(c.inbox) > 0 {
			c.answer()
			c.settle()
		}
		c.advance(time.Second)
		c.settle()
	}
}

// TestRandom: whatever the network does, an element obeys the rules meanwhile,
// is registered once the registrars behave, and ends when it is told to.
func TestRandom(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := newDriver(t, func(c *Config) { c.ID = 0 })
		c := &chaos{t: t, rnd: rnd, k: d.k, now: d.now}
		c.k.register(c.now)
		c.settle()
		for range 400 {
			c.step()
		}
		c.k.register(c.now)
		c.settle()
		c.calm(5*time.Minute, func() bool { return c.k.phase == registered })
		if over, err := c.k.Ended(), c.k.failure; c.k.phase != registered || over {
			t.Fatalf("seed %d: phase %d, error %v, want registered", seed, c.k.phase, err)
		}
		if !slices.Contains(c.up, c.k.home) {
			t.Fatalf("seed %d: the home's association %d is not up", seed, c.k.home)
		}
		// Half of them end among registrars that behave.
		c.k.Stop(c.now)
		c.settle()
		at := c.now
		ended := c.k.Ended
		if seed%2 == 0 {
			c.calm(time.Minute, ended)
			if err := c.k.failure; err != nil {
				t.Fatalf("seed %d: ended with %v", seed, err)
			}
		} else {
			for range 1000 {
				c.step()
			}
			c.advance(time.Minute)
			c.settle()
		}
		if !ended() || c.now.Sub(at) > 30*time.Minute {
			t.Fatalf("seed %d: not over %v after stop", seed, c.now.Sub(at))
		}
	}
}
