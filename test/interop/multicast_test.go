package interop

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// The groups are all that the registrars of RSPLIB and ours are told of one
// another.
const (
	multicastENRP = "239.99.0.2:9901"
	multicastASAP = "239.99.0.1:3863"
)

// found is a registrar that is told of no other, with the host of one element
// beside it.
type found struct {
	*node
	ip, id    string
	reference bool
	pe        *node
	proc      *proc
}

func (l *lab) found(i int, id string, reference bool) *found {
	l.t.Helper()
	f := &found{ip: fmt.Sprintf("10.99.0.%d", i), id: id, reference: reference}
	f.node = l.node(fmt.Sprintf("r%d", i), f.ip+"/24")
	f.pe = l.node(fmt.Sprintf("pe%d", i), fmt.Sprintf("10.99.0.1%d/24", i))
	l.sh("ip -n " + f.name + " route add 224.0.0.0/4 dev eth0")
	return f
}

// start starts the registrar; one of ours serves when it returns.
func (f *found) start() {
	f.l.t.Helper()
	if f.reference {
		f.proc = f.node.start("stdbuf", "-oL", "rspregistrar", "-identifier=0x"+f.id, "-asap="+f.ip+":3863", "-enrp="+f.ip+":9901",
			"-asapannounce="+multicastASAP, "-enrpannounce="+multicastENRP, "-logcolor=off", "-loglevel=3", "-maxhresitems=100",
			"-peerheartbeatcycle=1000", "-peermaxtimelastheard=4000", "-peermaxtimenoresponse=3000", "-takeoverexpiryinterval=3000",
			"-endpointkeepalivetimeoutinterval=5000")
		return
	}
	f.proc = f.coredns(f.ip, fmt.Sprintf(`pool.example.org {
	rserpool {
		asap %s
		server_id 0x%s
		enrp_announce %s
		ttl 0
		timer PEER-HEARTBEAT-CYCLE 1s
		timer MAX-TIME-LAST-HEARD 4s
		timer MAX-TIME-NO-RESPONSE 3s
		timer KEEP-ALIVE-INTERVAL 2s
		timer PROBE-TIMEOUT 2s
	}
	errors
}
`, f.ip, f.id, multicastENRP))
}

// register starts an element that knows this registrar alone.
func (f *found) register() {
	f.l.t.Helper()
	id := "0x0c00000" + f.ip[len(f.ip)-1:]
	if f.reference {
		f.pe.start("stdbuf", "-oL", "rspserver", "-asapannounce=off", "-logcolor=off", "-loglevel=3", "-echo",
			"-identifier="+id, "-poolhandle=web", "-registrar="+f.ip+":3863", "-rereginterval=5000")
		return
	}
	f.pe.start(f.l.bin("rsp"), "register", "--registrar", f.ip, "--via", "kernel", "--pool", "web",
		"--serve", "sctp:7777", "--control", "--id", strings.TrimPrefix(id, "0x"))
}

// has waits until the registrar hands out the element beside each of those.
func (f *found) has(all []*found) {
	f.l.t.Helper()
	took := eventually(f.l.t, "registrar "+f.id+" has all elements", func() error {
		var got string
		if f.reference {
			out, err := f.pe.run(f.l.bin("rsp"), "resolve", "-n", "10", "--via", "kernel", "--registrar", f.ip, "web")
			if err != nil {
				return err
			}
			got = out
		} else {
			m, err := query(f.ip, "web.pool.example.org.", dns.TypeSRV)
			if err != nil {
				return err
			}
			got = fmt.Sprint(m.Extra)
		}
		for _, other := range all {
			if !strings.Contains(got, fmt.Sprintf("10.99.0.1%s", other.ip[len(other.ip)-1:])) {
				return fmt.Errorf("that beside %s is missing in %s", other.ip, got)
			}
		}
		return nil
	})
	f.l.t.Logf("registrar %s has all elements after %v", f.id, took)
}

// finds waits until a registrar of ours has found the other for the nth time, be
// it new, or back.
func (f *found) finds(other *found, n int) {
	f.l.t.Helper()
	if f.reference {
		return
	}
	took := eventually(f.l.t, fmt.Sprintf("registrar %s finds %s", f.id, other.id), func() error {
		said := f.proc.out.String()
		if got := strings.Count(said, "registrar "+other.id+" is a peer") + strings.Count(said, "registrar "+other.id+" is active, was"); got < n {
			return fmt.Errorf("found %d times, want %d", got, n)
		}
		return nil
	})
	f.l.t.Logf("registrar %s finds %s after %v", f.id, other.id, took)
}

// TestMulticast: two registrars of ours and one of RSPLIB, that are told of none
// of the others, find one another by multicast, in each order of their starts.
// They hand out the elements of all. The one that was started last is killed,
// and its element is still handed out; when it is started again it is found
// again, and has all of them. An element of RSPLIB's registrar comes back to
// that when it registers anew.
func TestMulticast(t *testing.T) {
	for _, order := range [][3]int{{1, 2, 3}, {1, 3, 2}, {3, 1, 2}} { // 1 and 2 are alike
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			l := newLab(t)
			l.capture()
			byName := map[int]*found{
				1: l.found(1, "10000001", false), 2: l.found(2, "20000002", false), 3: l.found(3, "30000003", true),
			}
			var all []*found
			for _, i := range order {
				f := byName[i]
				f.start()
				all = append(all, f)
			}
			for _, f := range all {
				for _, other := range all {
					if f != other {
						f.finds(other, 1)
					}
				}
			}
			for _, f := range all {
				f.register()
			}
			for _, f := range all {
				f.has(all)
			}

			last := all[2]
			last.proc.kill(syscall.SIGKILL)
			last.proc.wait()
			for _, f := range all[:2] {
				f.has(all)
			}
			last.start()
			for _, f := range all[:2] {
				f.finds(last, 2)
			}
			for _, f := range all {
				f.has(all)
			}
		})
	}
}

// TestMulticastInUserSpace: a registrar that has SCTP in UDP alone, and one that
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
