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
