package clients

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// Question is a question that a client has sent by UDP, and its answer.
type Question struct {
	Client netip.AddrPort
	Name   string // in lower case
	Type   uint16
	EDNS   uint16 // the buffer size; 0: no EDNS
	Answer *dns.Msg
}

func (q Question) String() string {
	return fmt.Sprintf("%v %s %s EDNS %d", q.Client, dns.TypeToString[q.Type], q.Name, q.EDNS)
}

// Questions records what the hosts of a LAN ask a name server.
type Questions struct {
	server netip.Addr
	mu     sync.Mutex
	list   []*Question
	tcp    []netip.Addr // of the clients that have connected
}

// Watch records the questions to a server from now on.
func Watch(lan *network.LAN, server string) *Questions {
	q := &Questions{server: netip.MustParseAddr(server)}
	lan.Watch(func(frame []byte) bool {
		q.frame(frame)
		return true
	})
	return q
}

// Of returns what a client has asked.
func (q *Questions) Of(client *network.Host) (list []Question) {
	addrs := strings.Fields(client.IP("-4 -br addr show dev eth0"))
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, x := range q.list {
		if slices.Contains(addrs, x.Client.Addr().String()+"/24") {
			list = append(list, *x)
		}
	}
	return list
}

// TCP is the number of connections that a client has opened.
func (q *Questions) TCP(client *network.Host) (n int) {
	addrs := strings.Fields(client.IP("-4 -br addr show dev eth0"))
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.tcp {
		if slices.Contains(addrs, a.String()+"/24") {
			n++
		}
	}
	return n
}

// frame looks at an IPv4 packet.
func (q *Questions) frame(f []byte) {
	const ethernet, ipv4, udp, tcp = 14, 20, 17, 6
	if len(f) < ethernet+ipv4+20 || f[12] != 0x08 || f[13] != 0x00 || f[ethernet] != 0x45 {
		return
	}
	p := f[ethernet:]
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	from := netip.AddrPortFrom(src, binary.BigEndian.Uint16(p[ipv4:]))
	to := netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[ipv4+2:]))
	server := netip.AddrPortFrom(q.server, 53)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case p[9] == tcp && to == server && p[ipv4+13] == 0x02: // SYN
		q.tcp = append(q.tcp, src)
	case p[9] == udp && to == server:
		q.question(from, p[ipv4+8:])
	case p[9] == udp && from == server:
		q.answer(to, p[ipv4+8:])
	}
}

func (q *Questions) question(client netip.AddrPort, b []byte) {
	m := new(dns.Msg)
	if m.Unpack(b) != nil || len(m.Question) != 1 {
		return
	}
	x := &Question{Client: client, Name: strings.ToLower(m.Question[0].Name), Type: m.Question[0].Qtype}
	if o := m.IsEdns0(); o != nil {
		x.EDNS = o.UDPSize()
	}
	q.list = append(q.list, x)
}

func (q *Questions) answer(client netip.AddrPort, b []byte) {
	m := new(dns.Msg)
	if m.Unpack(b) != nil || len(m.Question) != 1 {
		return
	}
	for _, x := range slices.Backward(q.list) {
		if x.Client == client && x.Type == m.Question[0].Qtype && x.Name == strings.ToLower(m.Question[0].Name) {
			x.Answer = m
			return
		}
	}
}
