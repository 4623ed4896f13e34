package rserpool

import (
	"context"
	"runtime/debug"
	"testing"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestStack: the usual answers need no more stack than the goroutine of a query has in
// CoreDNS: 4 KiB, of which CoreDNS and its library use serverStack before they call the
// plugin. A stack that grows moves, and that took 4 of 23 us of an SRV query.
func TestStack(t *testing.T) {
	if here.Race() {
		t.Skip("frames are larger with the race detector")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would shrink stacks
	if !moves(func() { use(5000) }) || moves(func() { use(2000) }) {
		t.Skip("goroutines here do not have 4 KiB of stack")
	}
	h := benchHandler(t, "web", 3, "https alpn=h2")
	for _, q := range []struct {
		name  string
		qtype uint16
	}{
		{"web.", dns.TypeA}, {"wEb.", dns.TypeAAAA}, {"web.", dns.TypeSRV}, {"_http._tcp.web.", dns.TypeSRV},
		{"web.", dns.TypeHTTPS}, {"pe-00000001.web.", dns.TypeA}, {"nowhere.", dns.TypeA},
	} {
		w := newSink()
		m := new(dns.Msg).SetQuestion(q.name+zoneZ, q.qtype)
		ask := func() {
			if _, err := h.ServeDNS(context.Background(), w, m); err != nil {
				t.Error(err)
			}
		}
		ask() // what it makes once
		if moves(func() { behind(ask) }) {
			t.Errorf("%s %s needs more than 4 KiB of stack", q.name, dns.TypeToString[q.qtype])
		}
	}
}

// serverStack is what dnsserver.Server.ServeDNS and its callers have on the stack. The empty
// server of the library alone needs more than 2 KiB for a query.
const serverStack = 824

// behind calls f with serverStack on the stack.
//
//go:noinline
func behind(f func()) byte {
	var frame [serverStack - 64]byte
	f()
	return frame[len(frame)-1]
}

// moves reports whether the stack of a new goroutine of 4 KiB moves while f runs.
func moves(f func()) bool {
	result := make(chan bool)
	go func() {
		use(1500) // from 2 KiB to 4 KiB
		var here byte
		at := uintptr(unsafe.Pointer(&here))
		f()
		result <- uintptr(unsafe.Pointer(&here)) != at
	}()
	return <-result
}

// use calls itself until it has used n bytes of the stack.
//
//go:noinline
func use(n int) byte {
	var frame [200]byte
	if n > len(frame) {
		frame[0] = use(n - len(frame) - 24)
	}
	return frame[0]
}
