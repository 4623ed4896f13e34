package interop

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestReferenceElementWakes: an element that hangs for longer than a keep-alive is
// removed. When it wakes up it acknowledges the keep-alive, and is registered again
// as it was. It then reads that it has been removed, ends its association for that,
// and is called.
func TestReferenceElementWakes(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	c := l.capture()
	r.coredns(registrarIP, corefile("timer KEEP-ALIVE-INTERVAL 1s", "timer KEEP-ALIVE-TIMEOUT 1s"))

	e := pe.rspserver("echo", "0x0b000004", "-echo")
	l.registered(registrarIP, "echo", 1)
	e.kill(syscall.SIGSTOP)
	l.gone(registrarIP, "echo")
	e.kill(syscall.SIGCONT)
	began := time.Now()
	l.registered(registrarIP, "echo", 1)
	back := time.Since(began).Round(10 * time.Millisecond)
	t.Logf("the element is back %v after it woke up", back)
	if back > 5*time.Second {
		t.Errorf("the element is out for %v, want 5s at most, and not its re-registration interval of 30s", back)
	}
	eventually(t, "it acknowledges more keep-alives", func() error {
		if n := c.count("asap.message_type == 8"); n < 4 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	l.registered(registrarIP, "echo", 1)
	if n := c.count("asap.message_type == 1"); n != 1 {
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
		if n := c.count("asap.message_type == 3"); n < 2 {
			return fmt.Errorf("%d responses\n%s", n, latter.out)
		}
		return nil
	})
	w := l.watch(registrarIP, "echo", 1)
	former.kill(syscall.SIGINT) // it deregisters
	former.wait()
	coredns.says("has superseded")
	acked := c.count("asap.message_type == 8")
	eventually(t, "the latter is supervised", func() error {
		if n := c.count("asap.message_type == 8"); n < acked+2 {
			return fmt.Errorf("%d acknowledgements", n)
		}
		return nil
	})
	w.end()
	w.judge(t, []string{"0b000005"}, 100*time.Millisecond)
	l.registered(registrarIP, "echo", 1)
}
