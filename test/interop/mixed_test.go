package interop

import (
	"fmt"
	"regexp"
	"syscall"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// answered waits until a user, started as a role, has got n more answers from the element.
// Over all elements, its answers are counted without a gap.
func answered(u *proc, from rserpool.PEID, n int) {
	u.t.Helper()
	lines := func() int {
		return len(regexp.MustCompile(fmt.Sprintf(`pong (\d+), answer (\d+), from %v\n`, from)).FindAllString(u.out.String(), -1))
	}
	before := lines()
	eventually(u.t, fmt.Sprintf("%d answers from %v", n, from), func() error {
		if now := lines(); now < before+n {
			return fmt.Errorf("%d; output:\n%s", now-before, u.out)
		}
		return nil
	})
	for i, m := range regexp.MustCompile(`pong (\d+), answer (\d+)`).FindAllStringSubmatch(u.out.String(), -1) {
		if want := fmt.Sprint(i + 1); m[1] != want || m[2] != want {
			u.t.Fatalf("%q, want number %s", m[0], want)
		}
	}
}

// TestSessionsMixed: one pool has an element with SCTP in UDP and one whose kernel does the
// encapsulation; so have the users. The sessions of both users fail over to each.
func TestSessionsMixed(t *testing.T) {
	l := newLab(t)
	r := l.node("r1", registrarIP+"/24")
	pe1, pe2 := l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")
	pu1, pu2 := l.node("pu1", "10.99.0.21/24"), l.node("pu2", "10.99.0.22/24")
	for _, n := range []*node{pe2, pu2} {
		n.sysctl("net.sctp.udp_port=9899", "net.sctp.encap_port=9899")
	}
	r.coredns(registrarIP, corefile("transport udp"))
	c := l.capture()
	id := rserpool.PEID(0)
	start := func(n *node, via rserpool.Via) (*proc, rserpool.PEID) {
		id++
		p := n.role(role{Service: "pingpong", ID: id, Via: via.String()})
		return p, id
	}
	element, serving := start(pe1, rserpool.ViaUDP)
	l.registered(registrarIP, "pingpong", 1)
	users := []*proc{pu1.role(role{Via: "udp"}), pu2.role(role{Via: "kernel"})}
	for i := range 2 {
		for _, u := range users {
			answered(u, serving, 5)
		}
		n, via := pe2, rserpool.ViaKernel
		if i%2 == 1 {
			n, via = pe1, rserpool.ViaUDP
		}
		next, nextID := start(n, via)
		l.registered(registrarIP, "pingpong", 2)
		element.kill(syscall.SIGKILL)
		element, serving = next, nextID
	}
	for _, u := range users {
		answered(u, serving, 5)
	}
	if n := c.count(packet.isPlain); n > 0 {
		t.Errorf("%d packets of SCTP straight over IP, want none", n)
	}
}

// TestSessionsWithReferenceRegistrar: our user and our elements find one another through
// RSPLIB's registrar, which keeps the elements that it is told of as unreachable for some
// time. The elements are killed one after the other.
func TestSessionsWithReferenceRegistrar(t *testing.T) {
	l := newLab(t)
	r := l.node("r1", registrarIP+"/24")
	nodes := []*node{l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24"), l.node("pe3", "10.99.0.13/24")}
	c := l.capture()
	r.rspregistrar(registrarIP)
	elements := l.serve("pingpong", nodes)
	u := l.user(pu.Config{Via: rserpool.ViaKernel})
	eventually(t, "the registrar knows all elements", func() error {
		found, err := u.Resolve(t.Context(), "pingpong", 10)
		if err == nil && len(found.Elements) < len(nodes) {
			err = fmt.Errorf("%d of them", len(found.Elements))
		}
		return err
	})
	s := dial(t, u, pu.SessionConfig{Pool: "pingpong", PPID: services.PPIDPingPong, Unacked: pu.Resend})
	for n := uint64(1); n <= 30; n++ {
		if n%10 == 0 && n < 30 {
			elements[s.element().String()].kill(syscall.SIGKILL)
		}
		s.ping(n)
	}
	c.echoed(2)
}
