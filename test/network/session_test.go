package network

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestSessionMoves gives a user in the middle of a session another address: the session goes
// on at once, with the same element.
func TestSessionMoves(t *testing.T) {
	t.Parallel()
	n := New(t)
	registry(t, n, "10.98.1.53/24")
	s, u := n.Host("server", "10.98.1.11/24"), n.Host("user", "10.98.1.21/24")
	p := s.RSP("serve", "echo", "--via", via(), "--registrar", "10.98.1.53", "--id", "0d000001")
	p.WaitFor("registered")
	cmd := u.Command(binary.Path(t, "rsp"), "connect", "EchoPool", "--via", via(), "--registrar", "10.98.1.53", "--resend")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := u.StartCommand(cmd)
	echo := func(text string) time.Duration {
		t.Helper()
		start := time.Now()
		if _, err := fmt.Fprintln(stdin, text); err != nil {
			t.Fatal(err)
		}
		c.Next(text)
		return time.Since(start)
	}
	echo("at the first address")
	for i, ip := range []string{"10.98.1.22", "10.98.1.23", "10.98.1.21"} {
		u.IP("addr flush dev eth0")
		u.IP("addr add", ip+"/24", "dev eth0")
		took := echo(fmt.Sprint("at address ", i))
		t.Logf("the answer at the new address came after %v", took)
		if took > here.Paced(t, 3*time.Second) {
			t.Errorf("the answer at the new address came after %v", took)
		}
	}
	if out := c.Output(); strings.Contains(out, "report") {
		t.Errorf("The element is reported, although the user has moved:\n%s", out)
	}
}
