package clients

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
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
	tcp    int
}

// Ask records the questions to a server from now on.
func (s *Site) Ask(server string) *Questions {
	s.t.Helper()
	q := &Questions{server: netip.MustParseAddr(server)}
	s.Net.LAN.Watch(func(frame []byte) bool {
		q.frame(frame)
		return true
	})
	return q
}

// Reset forgets everything, and returns it.
func (q *Questions) Reset() (list []*Question, tcp int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list, tcp = q.list, q.tcp
	q.list, q.tcp = nil, 0
	return list, tcp
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
		q.tcp++
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
