package interop

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// serve starts elements of a service, by rsp serve. The result is by identifier, which
// RSPLIB's users print.
func (l *lab) serve(service string, nodes []*node, args ...string) map[string]*proc {
	l.t.Helper()
	started := map[string]*proc{}
	for _, n := range nodes {
		id := "000000" + n.ip[strings.LastIndex(n.ip, ".")+1:]
		started[id] = n.start(append([]string{l.bin("rsp"), "serve", service, "--registrar", registrarIP, "--pool", service,
			"--via", "kernel", "--id", "0x" + id}, args...)...)
	}
	return started
}

// reference starts a pool user of RSPLIB.
func (n *node) reference(program, pool string, args ...string) *proc {
	return n.start(append([]string{"env", "QT_QPA_PLATFORM=offscreen", "XDG_RUNTIME_DIR=" + n.l.dir, "HOME=" + n.l.dir,
		"stdbuf", "-oL", program, atRegistrar, "-poolhandle=" + pool, "-asapannounce=off", "-logcolor=off", "-loglevel=3"}, args...)...)
}

// gives waits until the program has written the pattern so often, and returns the
// submatches.
func (p *proc) gives(pattern string, n int) (found [][]string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	eventually(p.t, fmt.Sprintf("%s writes %d times %q", p.name, n, pattern), func() error {
		if found = re.FindAllStringSubmatch(p.out.String(), -1); len(found) < n {
			return fmt.Errorf("%d times:\n%s", len(found), p.out)
		}
		return nil
	})
	return found
}

// TestSessionsWithReferenceUsers: each user of RSPLIB with our elements, of which the one
// in use is killed.
func TestSessionsWithReferenceUsers(t *testing.T) {
	l := newLab(t)
	r, pu := l.node("r1", registrarIP+"/24"), l.node("pu", "10.99.0.21/24")
	both := []*node{l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")}
	c := l.capture()
	r.coredns(registrarIP, corefile())

	t.Run("echo", func(t *testing.T) {
		elements := l.serve("echo", both)
		l.registered(registrarIP, "echo", 2)
		u := pu.reference("rspterminal", "echo")
		say := func(text string) (element string) {
			pattern := regexp.MustCompile(`from PE \$(\w+)> ` + text)
			eventually(t, "an element answers "+text, func() error {
				if _, err := fmt.Fprintln(u.stdin, text); err != nil {
					return err
				}
				m := pattern.FindStringSubmatch(u.out.String())
				if m == nil {
					return errors.New(u.out.String())
				}
				element = m[1]
				return nil
			})
			return element
		}
		first := say("hello")
		elements[first].kill(syscall.SIGKILL)
		elements[first].wait()
		if second := say("again"); second == first {
			t.Errorf("element %s, which was killed, answers", first)
		}
	})
	t.Run("discard", func(t *testing.T) {
		l.serve("discard", both[:1])
		l.registered(registrarIP, "discard", 1)
		u := pu.reference("rspterminal", "discard")
		for range 5 {
			if _, err := fmt.Fprintln(u.stdin, "to be discarded"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the text arrives at the element", func() error {
			if n := c.count(func(p packet) bool {
				return p.dst == netip.MustParseAddr(both[0].ip) && bytes.Contains(p.sctp, []byte("discarded"))
			}); n == 0 {
				return errors.New(u.out.String())
			}
			return nil
		})
		if out := u.out.String(); strings.Contains(out, "FAILOVER #1") {
			t.Errorf("the session fails over:\n%s", out)
		}
		u.kill(syscall.SIGKILL)
	})
	t.Run("daytime", func(t *testing.T) {
		l.serve("daytime", both[:1])
		l.registered(registrarIP, "daytime", 1)
		u := pu.reference("rspterminal", "daytime")
		u.gives(`from PE \$00000011> .*20\d\d`, 1)
		u.kill(syscall.SIGKILL) // it connects again and again
	})
	t.Run("chargen", func(t *testing.T) {
		l.serve("chargen", both[:1])
		l.registered(registrarIP, "chargen", 1)
		u := pu.reference("rspterminal", "chargen")
		u.gives(`from PE \$00000011> .{20}`, 20)
		u.kill(syscall.SIGKILL)
	})
	t.Run("pingpong", func(t *testing.T) {
		elements := l.serve("pingpong", both)
		l.registered(registrarIP, "pingpong", 2)
		u := pu.reference("pingpongclient", "pingpong", "-interval=50")
		const ack = `Ack #\d+ from PE \$(\w+) \(reply #(\d+)\)`
		first := u.gives(ack, 15)[14][1]
		elements[first].kill(syscall.SIGKILL)
		elements[first].wait()
		u.gives(`from PE \$`+map[string]string{"00000011": "00000012", "00000012": "00000011"}[first], 15)
		for i, m := range u.gives(ack, 30) {
			if m[2] != fmt.Sprint(i+1) {
				t.Errorf("answer %d has the number %s:\n%s", i+1, m[2], u.out)
			}
		}
		u.kill(syscall.SIGKILL)
		c.echoed(1)
		// Our elements send cards, which RSPLIB's users ignore.
		if n := c.count(func(p packet) bool { return p.has(asap.TypeBusinessCard, "pingpong") }); n < 2 {
			t.Errorf("%d packets with a BUSINESS_CARD, want one of each element", n)
		}
	})
	t.Run("calcapp", func(t *testing.T) {
		// The client chooses the sizes of its jobs at random. The first element is so slow
		// that it cannot complete one.
		first := l.serve("calc", both[:1], "--speed", "1e5", "--cookie-time", "100ms")
		l.registered(registrarIP, "calc", 1)
		u := pu.reference("calcappclient", "calc", "-jobsize=200000000", "-jobinterval=1", "-object=c1", "-vector=/dev/null",
			"-scalar=/dev/null", "-keepalivetransmissioninterval=500", "-keepalivetimeoutinterval=5000")
		u.gives(`Job #1 accepted`, 1)
		l.serve("calc", both[1:], "--speed", "1e8")
		l.registered(registrarIP, "calc", 2)
		time.Sleep(300 * time.Millisecond) // the client has a cookie then
		first["00000011"].kill(syscall.SIGKILL)
		u.gives(`RSERPOOL_FAILOVER_NECESSARY, cookie=yes`, 1)
		u.gives(`(?s)FAILOVER_COMPLETE.*Job #1 accepted.*Job #1 completed`, 1)
		u.kill(syscall.SIGKILL)
	})
	t.Run("scripting", func(t *testing.T) {
		script := l.file("ssrun", "#!/bin/sh\nsleep 3\necho done >\"$1\"\n")
		if err := os.Chmod(script, 0o755); err != nil {
			t.Fatal(err)
		}
		l.sh("tar czf " + filepath.Join(l.dir, "in.tar.gz") + " -C " + l.dir + " ssrun")
		first := l.serve("scripting", both[:1], "--allow-commands", "--run-as", "nobody")
		l.registered(registrarIP, "scripting", 1)
		u := pu.reference("scriptingclient", "scripting", "-input=in.tar.gz", "-output=out", "-maxretry=1", "-retrydelay=100")
		u.gives(`is processing`, 1)
		l.serve("scripting", both[1:], "--allow-commands", "--run-as", "nobody")
		l.registered(registrarIP, "scripting", 2)
		first["00000011"].kill(syscall.SIGKILL)
		if code := u.wait(); code != 0 {
			t.Errorf("scriptingclient ends with code %d", code)
		}
		if out, err := os.ReadFile(filepath.Join(l.dir, "out")); err != nil || string(out) != "done\n" {
			t.Errorf("the program's output is %q, %v, want done", out, err)
		}
	})
	t.Run("fractal", func(t *testing.T) {
		var elements []*proc
		for i, n := range both {
			elements = append(elements, n.role(role{Service: "fractal", ID: rserpool.PEID(i + 1), Via: "kernel"}))
		}
		l.registered(registrarIP, "fractal", 2)
		u := pu.reference("fractalpooluser", "fractal", "-threads=1", "-interimagetime=0")
		eventually(t, "an element sends points", func() error {
			if strings.Contains(elements[1].out.String(), "row 0 of") {
				slices.Reverse(elements)
			} else if !strings.Contains(elements[0].out.String(), "row 0 of") {
				return errors.New(u.out.String())
			}
			return nil
		})
		time.Sleep(time.Second) // a sixth of the picture
		elements[0].kill(syscall.SIGKILL)
		elements[1].gives(`(?s)row [1-9]\d* of.*picture complete`, 1)
		u.kill(syscall.SIGKILL)
	})
}
