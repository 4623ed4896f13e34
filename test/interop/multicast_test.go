package interop

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestScopeMulticast: the registrars are told of none of the others, and find one
// another by multicast, RSPLIB's started last and first (in the long form in each order).
// The one that was started last is killed, and found again when it is back.
func TestScopeMulticast(t *testing.T) {
	for _, order := range [][3]int{{1, 2, 3}, {3, 1, 2}, {1, 3, 2}}[:often(3, 2)] { // 1 and 2 are alike
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			s := newMixedScope(t)
			s.group = "239.99.0.2:9901"
			var last *member
			for _, i := range order {
				last = s.members[i-1]
				last.start()
			}
			for _, m := range s.members {
				m.register()
			}
			t.Logf("all know all after %v", s.agree(s.members...).Round(time.Millisecond))
			last.proc.kill(syscall.SIGKILL)
			last.proc.wait()
			t.Logf("%s killed: the others agree after %v", last.name, s.agree(s.others(last)...).Round(time.Millisecond))
			last.start()
			t.Logf("%s is back: all agree after %v", last.name, s.agree(s.members...).Round(time.Millisecond))
		})
	}
}

// TestMulticastInUserSpace: a registrar that has only SCTP in UDP, and one that
// has the kernel's as well, find one another by a group of IPv6, in each order of
// their starts.
func TestMulticastInUserSpace(t *testing.T) {
	for _, first := range []string{"udp", "auto"} {
		t.Run(first+" first", func(t *testing.T) {
			l := newLab(t)
			l.capture()
			start := func(i int, transport string) (string, *proc) {
				at := fmt.Sprintf("fd00:99::%d", i)
				n := l.node(fmt.Sprintf("r%d", i), at+"/64")
				return at, n.coredns(at, fmt.Sprintf(`pool.example.org {
	rserpool {
		asap %s
		transport %s
		enrp_announce [ff05::99]
	}
	errors
}
`, at, transport))
			}
			one, p1 := start(1, first)
			pe := l.node("pe1", "fd00:99::11/64")
			pe.start(l.bin("rsp"), "register", "--registrar", one, "--via", "udp", "--pool", "web", "--serve", "tcp:80")
			l.registered(one, "web", 1)
			two, _ := start(2, map[string]string{"udp": "auto", "auto": "udp"}[first])
			m, err := query(two, "web.pool.example.org.", dns.TypeSRV)
			if err != nil || len(m.Answer) != 1 {
				t.Errorf("the second serves without the handlespace of the first: %v, %v", m, err)
			}
			p1.says("is a peer")
		})
	}
}
