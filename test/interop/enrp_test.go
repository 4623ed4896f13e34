package interop

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestReferencePeer: a registrar of RSPLIB and ours share a handlespace over
// kernel SCTP. Each hands out the elements of the other, and when RSPLIB's is
// killed we take its element over: it stays in the answers, and leaves them when
// it dies itself, which nobody but its home can notice. That we tell peers an
// element's UDP port, in a parameter of our own, does not disturb RSPLIB.
func TestReferencePeer(t *testing.T) {
	const theirIP = "10.99.0.2"
	l := newLab(t)
	r1, r2 := l.node("r1", registrarIP+"/24"), l.node("r2", theirIP+"/24")
	pe1, pe2 := l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")
	c := l.capture()
	theirs := r2.start("stdbuf", "-oL", "rspregistrar", "-identifier=0x20000002", "-asap="+theirIP+":3863", "-enrp="+theirIP+":9901",
		"-asapannounce=off", "-enrpannounce=off", "-logcolor=off", "-loglevel=3", "-peer="+registrarIP+":9901",
		"-peerheartbeatcycle=1000", "-peermaxtimelastheard=2500", "-peermaxtimenoresponse=2000", "-mentordiscoverytimeout=2000")
	ours := r1.coredns(registrarIP, corefile("enrp "+registrarIP, "peer "+theirIP, "server_id 0x10000001",
		"timer KEEP-ALIVE-INTERVAL 1s", "timer KEEP-ALIVE-TIMEOUT 1s",
		"timer PEER-HEARTBEAT-CYCLE 1s", "timer MAX-TIME-LAST-HEARD 2500ms", "timer MAX-TIME-NO-RESPONSE 2s"))
	ours.says("registrar 20000002 is a peer")
	pe1.rspserver("ours", "0x0c000001", "-echo")
	l.registered(registrarIP, "ours", 1)
	pe1.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "udp", "--serve", "tcp:80", "--via", "udp")
	l.registered(registrarIP, "udp", 1)
	e := pe2.start("stdbuf", "-oL", "rspserver", "-asapannounce=off", "-logcolor=off", "-loglevel=3", "-echo",
		"-identifier=0x0c000002", "-poolhandle=theirs", "-registrar="+theirIP+":3863", "-rereginterval=600000")
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
	ours.says("registrar 20000002 is taken")
	eventually(t, "the element acknowledges its new home", func() error {
		if c.count("asap.message_type == 8 && ip.src == 10.99.0.12 && ip.dst == "+registrarIP) < 2 {
			return fmt.Errorf("no acknowledgement")
		}
		return nil
	})
	l.registered(registrarIP, "theirs", 1)
	e.kill(syscall.SIGKILL)
	t.Logf("the dead element is gone after %v", l.gone(registrarIP, "theirs"))
	l.registered(registrarIP, "ours", 1)
}
