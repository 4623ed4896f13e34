package registrar

import "testing"

func TestRegistration(t *testing.T) {
	w := newWorld(t)
	w.up(1, ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 0x11, "10.0.0.1"))
	w.want("1 < registration granted p:11")
	w.wantElements("p:11")
}
