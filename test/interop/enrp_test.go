package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// Registrars with these options find a dead peer soon. A killed one is called at
// once, since its association ends; a silent one after lastHeard. Either has
// noResponse to answer, and so have the others to agree to its takeover. In a slow guest
// they have more time, so that a living peer is not taken for a dead one.
const (
	lastHeard  = 4 * time.Second
	noResponse = 3 * time.Second
)

// peerTime is how long a peer has in this guest.
func (l *lab) peerTime(d time.Duration) time.Duration {
	l.t.Helper()
	return min(l.paced(d), 4*d).Round(time.Millisecond)
}

// quickOptions are those of ours, quickReference those of RSPLIB's, with the time
// between two keep-alives: a thousand elements keep the lab busy, and lose packets.
func (l *lab) quickOptions(keepAlive time.Duration) []string {
	return []string{
		fmt.Sprintf("timer KEEP-ALIVE-INTERVAL %v", keepAlive), fmt.Sprintf("timer KEEP-ALIVE-TIMEOUT %v", answerTime(keepAlive)),
		fmt.Sprintf("timer PROBE-TIMEOUT %v", answerTime(keepAlive)), "timer PEER-HEARTBEAT-CYCLE 1s",
		fmt.Sprintf("timer MAX-TIME-LAST-HEARD %v", l.peerTime(lastHeard)), fmt.Sprintf("timer MAX-TIME-NO-RESPONSE %v", l.peerTime(noResponse)),
	}
}

// answerTime is how long an element may take to answer. A thousand elements of one process that all
// move take the whole guest for that: on a slow host, for longer than a minute.
func answerTime(keepAlive time.Duration) time.Duration { return max(5*time.Second, keepAlive) }

func (l *lab) quickReference(keepAlive time.Duration) []string {
	return []string{
		fmt.Sprintf("-endpointkeepalivetransmissioninterval=%d", keepAlive.Milliseconds()), fmt.Sprintf("-endpointkeepalivetimeoutinterval=%d", answerTime(keepAlive).Milliseconds()),
		"-peerheartbeatcycle=1000", fmt.Sprintf("-peermaxtimelastheard=%d", l.peerTime(lastHeard).Milliseconds()),
		fmt.Sprintf("-peermaxtimenoresponse=%d", l.peerTime(noResponse).Milliseconds()), fmt.Sprintf("-takeoverexpiryinterval=%d", l.peerTime(noResponse).Milliseconds()), "-mentordiscoverytimeout=2000",
	}
}

// TestReferencePeer: a registrar of RSPLIB and ours share a handlespace over
// kernel SCTP. Each hands out the elements of the other, and when RSPLIB's is
// killed we take its element over: it stays in the answers, and leaves them when
// it dies itself, which only its home can notice. That we tell peers an
// element's UDP port, in a parameter of our own, does not disturb RSPLIB.
func TestReferencePeer(t *testing.T) {
	const theirIP = "10.99.0.2"
	l := newLab(t)
	r1, r2 := l.node("r1", registrarIP+"/24"), l.node("r2", theirIP+"/24")
	pe1, pe2 := l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")
	c := l.capture()
	theirs := r2.rspregistrar(theirIP, append(l.quickReference(2*time.Second), "-identifier=0x20000002", "-peer="+registrarIP+":9901")...)
	ours := r1.coredns(registrarIP, corefile(append(l.quickOptions(2*time.Second), "enrp "+registrarIP, "peer "+theirIP, "server_id 0x10000001")...))
	ours.says("registrar 20000002 is a peer")
	pe1.rspserver("ours", "0x0c000001", "-echo")
	l.registered(registrarIP, "ours", 1)
	pe1.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "udp", "--serve", "tcp:80", "--via", "udp")
	l.registered(registrarIP, "udp", 1)
	e := pe2.rspserverAt(theirIP, "theirs", "0x0c000002", "-echo", "-rereginterval=600000")
	l.registered(registrarIP, "theirs", 1)
	for _, pool := range []string{"ours", "udp"} {
		eventually(t, "RSPLIB hands out our element of "+pool, func() error {
			out, err := pe2.run(l.bin("rsp"), "resolve", "--registrar", theirIP, pool)
			if err == nil && !strings.Contains(out, "10.99.0.11") {
				err = fmt.Errorf("got %q", out)
			}
			return err
		})
	}

	theirs.kill(syscall.SIGKILL)
	ours.says("registrar 20000002 is dead: this registrar takes over its elements")
	eventually(t, "the element acknowledges its new home", func() error {
		n := c.count(func(p packet) bool {
			return p.src == netip.MustParseAddr(pe2.ip) && p.dst == netip.MustParseAddr(registrarIP) && p.has(asap.TypeEndpointKeepAliveAck, "")
		})
		if n < 2 {
			return fmt.Errorf("%d acknowledgements", n)
		}
		return nil
	})
	l.registered(registrarIP, "theirs", 1)
	e.kill(syscall.SIGKILL)
	t.Logf("the dead element is gone after %v", l.gone(registrarIP, "theirs"))
	l.registered(registrarIP, "ours", 1)
}
