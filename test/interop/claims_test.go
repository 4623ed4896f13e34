package interop

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// TestReferenceElementWakes: an element that hangs for longer than a keep-alive is a
// suspect, and left out while its pool has another one. When it wakes up it acknowledges
// the keep-alive, and is back as it was: it does not register again.
func TestReferenceElementWakes(t *testing.T) {
	l := newLab(t)
	r, pe, other := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")
	c := l.capture()
	r.coredns(registrarIP, corefile("timer KEEP-ALIVE-INTERVAL 1s", "timer KEEP-ALIVE-TIMEOUT 1s"))
	of := func(typ asap.MessageType) int { // sent by the element
		return c.count(func(p packet) bool { return p.src == netip.MustParseAddr(pe.ip) && p.has(typ, "") })
	}

	e := pe.rspserver("echo", "0x0b000004", "-echo", "-rereginterval=600000")
	other.rspserver("echo", "0x0b000005", "-echo")
	l.registered(registrarIP, "echo", 2)
	e.kill(syscall.SIGSTOP)
	l.registered(registrarIP, "echo", 1)
	before := of(asap.TypeEndpointKeepAliveAck)
	e.kill(syscall.SIGCONT)
	began := time.Now()
	l.registered(registrarIP, "echo", 2)
	back := time.Since(began).Round(10 * time.Millisecond)
	t.Logf("the element is back %v after it woke up", back)
	if most := l.paced(5 * time.Second); back > most {
		t.Errorf("the element is out for %v, want %v at most, and not its re-registration interval of 10 minutes", back, most)
	}
	eventually(t, "it acknowledges more keep-alives", func() error {
		if n := of(asap.TypeEndpointKeepAliveAck) - before; n < 4 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	l.registered(registrarIP, "echo", 2)
	if n := of(asap.TypeRegistration); n != 1 {
		t.Errorf("the element has registered %d times, want once", n)
	}
}

// TestScopeClaim: an identifier moves from an element whose home is a registrar of
// RSPLIB to another host, which registers it with ours. While the former element
// lives it stays, though RSPLIB does not answer when it is asked; it loses the
// identifier when RSPLIB has found it dead. RSPLIB takes what it is asked for no
// harm.
func TestScopeClaim(t *testing.T) {
	s := newScope(t, "10000001", "*20000002")
	s.startAll()
	ours, theirs := s.members[0], s.members[1]
	element := func(m *member) *proc {
		return m.pe.start(s.bin("rsp"), "serve", "echo", "--registrar", m.ip, "--via", "kernel", "--pool", "web", "--port", "7777", "--id", "0a000001")
	}
	home := func(at, want *member) error {
		homes, err := at.homes()
		if err == nil && homes["0a000001"] != want.id {
			err = fmt.Errorf("%s has %v, want home %s", at.name, homes, want.id)
		}
		return err
	}
	former := element(theirs)
	for _, m := range s.members {
		eventually(t, "the former element is known", func() error { return home(m, theirs) })
	}
	began := time.Now()
	latter := element(ours)
	latter.says("in use")
	t.Logf("refused after %v", time.Since(began).Round(time.Second))
	for _, m := range s.members {
		if err := home(m, theirs); err != nil {
			t.Error(err)
		}
	}
	former.kill(syscall.SIGSTOP)
	began = time.Now()
	for _, m := range s.members {
		eventually(t, "the latter element is registered", func() error { return home(m, ours) })
	}
	t.Logf("the identifier has moved after %v", time.Since(began).Round(time.Second))
}

// TestReferenceElementRolls: an element of RSPLIB is replaced by another process of
// its host with the same identifier. Neither the deregistration of the former one
// nor the end of its association touches the latter.
func TestReferenceElementRolls(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	c := l.capture()
	coredns := r.coredns(registrarIP, corefile("timer KEEP-ALIVE-INTERVAL 1s"))
	former := pe.rspserver("echo", "0x0b000005", "-echo", "-rereginterval=600000")
	l.registered(registrarIP, "echo", 1)
	latter := pe.rspserver("echo", "0x0b000005", "-discard", "-rereginterval=600000")
	eventually(t, "the latter has registered", func() error {
		if n := c.countOf(asap.TypeRegistrationResponse); n < 2 {
			return fmt.Errorf("%d responses\n%s", n, latter.out)
		}
		return nil
	})
	w := l.watch(registrarIP, "echo", 1)
	former.kill(syscall.SIGINT) // it deregisters
	former.wait()
	coredns.says("has superseded")
	acked := c.countOf(asap.TypeEndpointKeepAliveAck)
	eventually(t, "the latter is supervised", func() error {
		if n := c.countOf(asap.TypeEndpointKeepAliveAck); n < acked+2 {
			return fmt.Errorf("%d acknowledgements", n)
		}
		return nil
	})
	w.end()
	w.judge(t, []string{"0b000005"}, 100*time.Millisecond)
	l.registered(registrarIP, "echo", 1)
}
