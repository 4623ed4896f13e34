package hostile

import (
	"net"
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap"
)

// TestDescriptors has one host make more TCP connections than the server may open
// files, each with a whole message. DNS over TCP, new elements and the metrics still
// have some.
func TestDescriptors(t *testing.T) {
	const files, attempts = 400, 600
	openFiles = files
	t.Cleanup(func() { openFiles = 0 })
	c := ceiling{heap: attempts * 16 << 10, goroutines: attempts + 8, files: files/4 + 2}
	g := beginSiege(t)
	hello := wire(t, &asap.HandleResolution{Handle: "none"})
	var conns []net.Conn
	served := 0
	for range attempts {
		conn, err := g.dial(loopback)
		if err != nil {
			continue // refused at once
		}
		conns = append(conns, conn)
		if _, err := conn.Write(hello); err != nil {
			continue
		}
		if _, err := readMessage(conn); err == nil {
			served++
		}
	}
	if served > files/4 {
		t.Errorf("%d connections are served, want at most %d", served, files/4)
	}
	tcp := dns.Client{Net: "tcp"}
	if m, _, err := tcp.Exchange(new(dns.Msg).SetQuestion(honestPool+"."+zone, dns.TypeA), g.dnsTCP); err != nil || len(m.Answer) == 0 {
		t.Errorf("DNS over TCP: %v, %v", m, err)
	}
	p := g.crowd().peer(loopback, false)
	p.ask(registration("late", 1, loopback))
	p.await(1)
	if len(p.causes) > 0 {
		t.Errorf("a registration is refused: %v", p.causes)
	}
	p.close()
	g.check(attempts, c)
	hangUp(t, conns)
	g.end(c)
}
