package interop

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// The port and the payload protocol of NGAP, the protocol between RAN and AMF (3GPP TS 38.412).
const (
	ngapPort = 38412
	ngapPPID = 60
)

// kernelEndpoint makes an endpoint of the kernel's SCTP on the addresses of this host.
func kernelEndpoint(addrs []string, port uint16, h sctp.Handler) (sctp.Endpoint, error) {
	s, err := stack.New(stack.Config{Only: sctp.Kernel})
	if err != nil {
		return nil, err
	}
	var local []netip.AddrPort
	for _, a := range addrs {
		local = append(local, netip.AddrPortFrom(netip.MustParseAddr(a), port))
	}
	return s.Listen(sctp.ListenConfig{Addrs: local}, h)
}

// playAMF is an AMF as far as SCTP goes: it sends back what it receives.
func playAMF(addrs []string) error {
	var ep sctp.Endpoint
	ready := make(chan struct{})
	ep, err := kernelEndpoint(addrs, ngapPort, func(ev sctp.Event) {
		<-ready
		if ev.Type == sctp.Received {
			_ = ep.Send(ev.Assoc, ev.Message)
		}
	})
	if err != nil {
		return err
	}
	close(ready)
	fmt.Printf("AMF serves, process %d\n", os.Getpid())
	select {}
}

// candidate is an AMF that DNS names.
type candidate struct {
	name   string
	addrs  []netip.AddrPort
	rank   int // smaller ones first
	weight int // the chance among those of the same rank
	key    float64
}

// choose puts candidates in the order in which a client tries them: by rank, and in one rank by
// chance, in proportion to the weights (RFC 2782; 3GPP TS 29.303, C.1).
func choose(cs []candidate) []candidate {
	for i := range cs {
		cs[i].key = -math.Log(1-rand.Float64()) / max(float64(cs[i].weight), 1e-3)
	}
	slices.SortStableFunc(cs, func(a, b candidate) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		if a.key < b.key {
			return -1
		}
		return 1
	})
	return cs
}

// amfsOf is the S-NAPTR procedure of a RAN for an AMF set (3GPP TS 29.303, Section 7.2).
func amfsOf(server, set, service string) ([]candidate, error) {
	m, err := large(server, set, dns.TypeNAPTR)
	if err != nil {
		return nil, err
	}
	var records []candidate
	flags := map[string]string{}
	for _, rr := range m.Answer {
		if n, ok := rr.(*dns.NAPTR); ok && strings.EqualFold(n.Service, service) {
			records = append(records, candidate{name: n.Replacement, rank: int(n.Order), weight: math.MaxUint16 - int(n.Preference)})
			flags[n.Replacement] = strings.ToLower(n.Flags)
		}
	}
	var all []candidate
	for _, c := range choose(records) {
		switch flags[c.name] {
		case "a":
			all = append(all, hostsOf(server, []candidate{c}, ngapPort)...)
		case "s":
			all = append(all, servicesOf(server, c.name)...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no AMF: %s, %d NAPTR records", dns.RcodeToString[m.Rcode], len(records))
	}
	return all, nil
}

func servicesOf(server, name string) (all []candidate) {
	m, err := large(server, name, dns.TypeSRV)
	if err != nil {
		return nil
	}
	ports := map[string]uint16{}
	for _, rr := range m.Answer {
		if s, ok := rr.(*dns.SRV); ok {
			all = append(all, candidate{name: s.Target, rank: int(s.Priority), weight: int(s.Weight)})
			ports[s.Target] = s.Port
		}
	}
	var found []candidate
	for _, c := range choose(all) {
		found = append(found, hostsOf(server, []candidate{c}, ports[c.name])...)
	}
	return found
}

// hostsOf looks up all addresses of hosts. One without addresses is left out.
func hostsOf(server string, cs []candidate, port uint16) (found []candidate) {
	for _, c := range cs {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			m, err := large(server, c.name, qtype)
			if err != nil {
				continue
			}
			for _, rr := range m.Answer {
				var ip net.IP
				switch rr := rr.(type) {
				case *dns.A:
					ip = rr.A
				case *dns.AAAA:
					ip = rr.AAAA
				}
				if a, ok := netip.AddrFromSlice(ip); ok {
					c.addrs = append(c.addrs, netip.AddrPortFrom(a.Unmap(), port))
				}
			}
		}
		if len(c.addrs) > 0 {
			found = append(found, c)
		}
	}
	return found
}

// ran is a base station: it has an association with one AMF of a set, and says what happens to it.
type ran struct {
	service string // of NAPTR records
	ep      sctp.Endpoint
	events  chan sctp.Event
	lines   chan string // what the AMF has to be told, from the standard input
}

func playRAN(service string, addrs []string) error {
	r := &ran{service: service, events: make(chan sctp.Event, 1000), lines: make(chan string)}
	var err error
	r.ep, err = kernelEndpoint(addrs, 0, func(ev sctp.Event) { r.events <- ev })
	if err != nil {
		return err
	}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			r.lines <- in.Text()
		}
	}()
	for lost := time.Now(); ; lost = time.Now() {
		c, up, err := r.connect()
		if err != nil {
			return err
		}
		fmt.Printf("associated with %s at %v after %v, at %d\n", c.name, c.addrs, time.Since(lost).Round(time.Millisecond), time.Now().UnixMilli())
		r.serve(up)
	}
}

// connect finds an AMF and has an association with it.
func (r *ran) connect() (candidate, sctp.Event, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		amfs, err := amfsOf(amfServer, amfSet, r.service)
		if err != nil {
			fmt.Println(err)
			continue
		}
		for _, c := range amfs {
			a := r.ep.Connect(sctp.Dest{Addrs: c.addrs, Kind: sctp.Kernel})
			for ev := range r.events {
				if ev.Assoc == a && ev.Type == sctp.Up {
					return c, ev, nil
				}
				if ev.Assoc == a && ev.Type == sctp.Down {
					fmt.Println("not associated with", c.name, ev.Err)
					break
				}
			}
		}
	}
	return candidate{}, sctp.Event{}, errors.New("no AMF answers")
}

// serve sends lines, which the AMF sends back, until the association ends.
func (r *ran) serve(up sctp.Event) {
	fmt.Printf("%d paths\n", len(up.Peer))
	var sent time.Time
	for {
		select {
		case line := <-r.lines:
			sent = time.Now()
			_ = r.ep.Send(up.Assoc, sctp.Message{Data: []byte(line), PPID: ngapPPID})
		case ev := <-r.events:
			switch {
			case ev.Assoc != up.Assoc:
			case ev.Type == sctp.Received:
				fmt.Printf("%s: back after %v\n", ev.Message.Data, time.Since(sent).Round(time.Millisecond))
			case ev.Type == sctp.PeerAddrs:
				fmt.Printf("%d paths\n", len(ev.Peer))
			case ev.Type == sctp.Down:
				fmt.Println("association lost:", ev.Reason, ev.Err)
				return
			}
		}
	}
}
