package network

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/binary"
)

// Zone is the zone of the Corefiles that tests use.
const Zone = "pool.example.org."

// CoreDNS starts the module's CoreDNS with a Corefile; see Serving.
func (h *Host) CoreDNS(corefile string) *Process {
	h.t.Helper()
	return h.Start(binary.Path(h.t, "coredns"), "-conf", h.NewFile("Corefile", corefile))
}

// RSP starts the module's rsp.
func (h *Host) RSP(args ...string) *Process {
	h.t.Helper()
	return h.Start(append([]string{binary.Path(h.t, "rsp")}, args...)...)
}

// RunRSP runs the module's rsp to its end.
func (h *Host) RunRSP(args ...string) (string, error) {
	h.t.Helper()
	return h.Try(append([]string{binary.Path(h.t, "rsp")}, args...)...)
}

// Query asks a server for a name, over UDP, once.
func (h *Host) Query(server, name string, qtype uint16) (*dns.Msg, error) {
	c, err := h.Dial("udp", net.JoinHostPort(server, "53"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, false)
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	conn := &dns.Conn{Conn: c, UDPSize: 1232}
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	return conn.ReadMsg()
}

// Lookup gives the answer section's data as text, without the owner names.
func (h *Host) Lookup(server, name string, qtype uint16) ([]string, error) {
	m, err := h.Query(server, name, qtype)
	if err != nil {
		return nil, err
	}
	if m.Rcode != dns.RcodeSuccess {
		return nil, errors.New(dns.RcodeToString[m.Rcode])
	}
	var list []string
	for _, rr := range m.Answer {
		list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return list, nil
}

// Serving waits until a server answers for the zone: it has a handlespace.
func (h *Host) Serving(server string) {
	h.t.Helper()
	Eventually(h.t, server+" serves", func() error {
		_, err := h.Lookup(server, Zone, dns.TypeSOA)
		return err
	})
}

// Has waits until a server names n elements of a pool, and tells how long it took.
func (h *Host) Has(server, pool string, n int) time.Duration {
	h.t.Helper()
	return Eventually(h.t, fmt.Sprintf("%s names %d elements of %s", server, n, pool), func() error {
		list, err := h.Lookup(server, pool+"."+Zone, dns.TypeSRV)
		if n == 0 && err != nil && err.Error() == "NXDOMAIN" {
			return nil
		}
		if err == nil && len(list) != n {
			err = fmt.Errorf("%d: %q", len(list), list)
		}
		return err
	})
}
