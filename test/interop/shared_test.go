package interop

import (
	"strings"
	"testing"
)

// bridge gives a host docker0 with its usual address.
func (n *node) bridge() {
	n.l.t.Helper()
	n.l.sh("ip -n " + n.name + " link add docker0 type bridge")
	n.l.sh("ip -n " + n.name + " addr add 172.17.0.1/16 dev docker0")
	n.l.sh("ip -n " + n.name + " link set docker0 up")
}

// TestReferenceSharedBridge: an element of RSPLIB names all addresses of its host,
// that of docker0 among them, which the registrar's host has as well. It is
// registered at the others, and stays.
func TestReferenceSharedBridge(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	r.bridge()
	pe.bridge()
	r.coredns(registrarIP, strings.Replace(corefile("timer KEEP-ALIVE-INTERVAL 1s"), "asap "+registrarIP, "asap 0.0.0.0", 1))
	pe.rspserver("echo", "0x0b000001", "-echo")
	l.registered(registrarIP, "echo", 1)
	a, err := r.run("dig", "+short", "@"+registrarIP, "A", "echo.pool.example.org")
	if err != nil || a != "10.99.0.11\n" {
		t.Errorf("dig A = %q, %v, want 10.99.0.11", a, err)
	}
}
