package main

import (
	"net"

	"github.com/miekg/dns"
)

// yardsticks are servers that do next to nothing: processes of this program.
var yardsticks = map[string]func(addr string) error{
	"echo":  serveEcho,
	"empty": serveEmpty,
}

// serveEcho sends each packet back, with the bit of a response.
func serveEcho(addr string) error {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	u := c.(*net.UDPConn)
	buf := make([]byte, 4096)
	for {
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if n > 2 {
			buf[2] |= 0x80
		}
		if _, err := u.WriteToUDPAddrPort(buf[:n], from); err != nil {
			return err
		}
	}
}

// serveEmpty answers each query without a record, with the library that
// CoreDNS has for it.
func serveEmpty(addr string) error {
	s := dns.Server{Addr: addr, Net: "udp", Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetReply(r))
	})}
	return s.ListenAndServe()
}

func startYardstick(self, name string) (*process, error) {
	p, err := newProcess()
	if err != nil {
		return nil, err
	}
	p.pprof = ""
	if err := p.spawn(self, name, p.addr); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}
