package interop

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// tlsPipe is a program of others that speaks TLS, as a pipe: messages go in and come out.
type tlsPipe struct {
	t    *testing.T
	name string
	in   io.WriteCloser
	came chan []byte // closed at the end
	said *logBuffer  // standard error
}

// tlsPipe starts a program on the host.
func (n *node) tlsPipe(args ...string) *tlsPipe {
	n.l.t.Helper()
	t := n.l.t
	p := &tlsPipe{t: t, name: filepath.Base(args[0]), came: make(chan []byte, 100), said: new(logBuffer)}
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.name}, args...)...)
	cmd.Stderr = p.said
	out, err := cmd.StdoutPipe()
	if err == nil {
		p.in, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(p.came)
		for {
			m, err := readMessage(out)
			if err != nil {
				break
			}
			p.came <- m
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("[%s] %s:\n%s", n.name, strings.Join(args, " "), p.said)
		}
	})
	return p
}

// readMessage reads a message of ASAP or ENRP from a stream of bytes, with its padding.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := asap.MessageLen(head)
	b := append(head, make([]byte, max(0, (n+3)&^3-4))...)
	_, err := io.ReadFull(r, b[4:])
	return b[:n], err
}

// appender is a message of ASAP or ENRP.
type appender interface {
	Append([]byte) ([]byte, error)
}

func (p *tlsPipe) send(m appender) {
	p.t.Helper()
	b, err := m.Append(nil)
	if err == nil {
		_, err = p.in.Write(append(b, make([]byte, -len(b)&3)...))
	}
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// next is the next message.
func (p *tlsPipe) next() []byte {
	p.t.Helper()
	select {
	case m, ok := <-p.came:
		if !ok {
			p.t.Fatalf("%s has ended:\n%s", p.name, p.said)
		}
		return m
	case <-time.After(patience):
		p.t.Fatalf("%s: no message:\n%s", p.name, p.said)
	}
	return nil
}

// asap waits for a message of a type, and acknowledges keep-alives until it comes.
func (p *tlsPipe) asap(want asap.MessageType, ack *asap.EndpointKeepAliveAck) asap.Message {
	p.t.Helper()
	for {
		m, _, err := asap.Parse(p.next())
		if err != nil {
			p.t.Fatalf("%s: %v", p.name, err)
		}
		if m.Type() == asap.TypeEndpointKeepAlive && ack != nil {
			p.send(ack)
		}
		if m.Type() == want {
			return m
		}
	}
}

// says waits until the program has written text to its standard error.
func (p *tlsPipe) says(text string) {
	p.t.Helper()
	eventually(p.t, p.name+" says "+text, func() error {
		if s := p.said.String(); !strings.Contains(s, text) {
			return errors.New(s)
		}
		return nil
	})
}

// keys makes directories with certificates, and returns their parent.
func (n *node) keys(names ...string) string {
	n.l.t.Helper()
	rsp := n.l.bin("rsp")
	lines := [][]string{{rsp, "ca", "init", "example.org"}}
	for _, name := range names {
		lines = append(lines, []string{rsp, "ca", "issue", name})
	}
	for _, line := range lines {
		if _, err := n.run(line...); err != nil {
			n.l.t.Fatal(err)
		}
	}
	return n.l.dir
}

// trusted are the options of a registrar in TLS.
func trusted(keys string, more ...string) string {
	d := filepath.Join(keys, "ns1")
	return corefile(append([]string{"tls " + filepath.Join(d, "cert.pem") + " " + filepath.Join(d, "key.pem") + " " + filepath.Join(d, "ca.pem")}, more...)...)
}

// tlsPy is the path of the Python program, which works in the guest as on the host.
func (n *node) tlsPy() []string {
	n.l.t.Helper()
	p, err := filepath.Abs("tls.py")
	if err == nil {
		_, err = os.Stat(p)
	}
	if err != nil {
		n.l.t.Fatal(err)
	}
	return []string{"/usr/bin/python3", p}
}

// TestTLSPython: Python's ssl, which is OpenSSL, over a socket of the kernel's SCTP is an
// element. It registers, is in the answers of DNS, acknowledges keep-alives and deregisters.
// In a pool that its certificate does not name it is refused.
func TestTLSPython(t *testing.T) {
	l := newLab(t)
	r1, py1 := l.node("r1", registrarIP+"/24"), l.node("py1", "10.99.0.11/24")
	keys := r1.keys("registrar/ns1", "pool/web/py1")
	ours := r1.coredns(registrarIP, trusted(keys, "timer KEEP-ALIVE-INTERVAL 1s"))
	e := py1.tlsPipe(append(py1.tlsPy(), "connect", registrarIP, "3864", filepath.Join(keys, "py1"))...)
	e.says("TLSv1.3 spiffe://example.org/rserpool/registrar/ns1")

	const id = 0x11
	register := func(pool rserpool.PoolHandle) *asap.RegistrationResponse {
		e.send(&asap.Registration{Handle: pool, Element: rserpool.PoolElement{
			ID: id, Life: -1, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr(py1.ip)}},
		}})
		return e.asap(asap.TypeRegistrationResponse, &asap.EndpointKeepAliveAck{Handle: "web", ID: id}).(*asap.RegistrationResponse)
	}
	if m := register("web"); m.Reject {
		t.Fatalf("the element is refused: %v", m)
	}
	l.registered(registrarIP, "web", 1)
	for range 3 {
		e.asap(asap.TypeEndpointKeepAlive, &asap.EndpointKeepAliveAck{Handle: "web", ID: id})
	}
	if m := register("bank"); !m.Reject {
		t.Errorf("the element registers in a pool that is not its own: %v", m)
	}
	ours.says(`may not register in pool "bank"`)
	l.registered(registrarIP, "web", 1)
	e.send(&asap.Deregistration{Handle: "web", ID: id})
	e.asap(asap.TypeDeregistrationResponse, nil)
	l.gone(registrarIP, "web")
	_ = e.in.Close()
	if m, ok := <-e.came; ok {
		t.Errorf("behind close_notify: %x", m)
	}
}

// TestTLSPeer: Python's ssl is another registrar, once as the client and once as the server
// of TLS. It asks for a presence, and gets it.
func TestTLSPeer(t *testing.T) {
	l := newLab(t)
	r1, py2 := l.node("r1", registrarIP+"/24"), l.node("py2", "10.99.0.12/24")
	keys := r1.keys("registrar/ns1", "registrar/py2")
	const theirs, self = 0x20000002, 0x10000001
	dir := filepath.Join(keys, "py2")
	answers := func(p *tlsPipe) {
		t.Helper()
		p.says("TLSv1.3 spiffe://example.org/rserpool/registrar/ns1")
		p.send(&enrp.Presence{Sender: theirs, ReplyRequired: true, Info: rserpool.ServerInformation{
			ID: theirs, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9902, Addrs: []netip.Addr{netip.MustParseAddr(py2.ip)}},
		}})
		for {
			m, _, err := enrp.Parse(p.next())
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := m.(*enrp.Presence); ok && m.Receiver == theirs && m.Info.Present() {
				if m.Sender != self {
					t.Errorf("the presence is from %v, want %x", m.Sender, self)
				}
				return
			}
		}
	}
	listens := py2.tlsPipe(append(py2.tlsPy(), "listen", py2.ip, "9902", dir)...)
	r1.coredns(registrarIP, trusted(keys, "enrp "+registrarIP, "peer "+py2.ip, fmt.Sprintf("server_id %#x", self)))
	answers(listens)
	answers(py2.tlsPipe(append(py2.tlsPy(), "connect", registrarIP, "9902", dir)...))
}

// TestTLSTools: socat over the kernel's SCTP and openssl s_client over TCP ask for an element
// of a pool, without a certificate.
func TestTLSTools(t *testing.T) {
	l := newLab(t)
	r1, pe1 := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	keys := r1.keys("registrar/ns1", "pool/web/host1")
	r1.coredns(registrarIP, trusted(keys))
	pe1.start(l.bin("rsp"), "register", "--tls", filepath.Join(keys, "host1"), "--registrar", registrarIP, "--pool", "web", "--serve", "tcp:80")
	l.registered(registrarIP, "web", 1)
	ca := filepath.Join(keys, "host1", "ca.pem")
	for _, tool := range [][]string{
		{"socat", "-", "OPENSSL:" + registrarIP + ":3864,so-prototype=132,commonname=,no-sni=1,cafile=" + ca},
		{"openssl", "s_client", "-quiet", "-connect", registrarIP + ":3864", "-CAfile", ca, "-verify_return_error"},
	} {
		p := pe1.tlsPipe(tool...)
		p.send(&asap.HandleResolution{Handle: "web"})
		m := p.asap(asap.TypeHandleResolutionResponse, nil).(*asap.HandleResolutionResponse)
		if len(m.Elements) != 1 || m.Elements[0].UserTransport.Addrs[0].String() != pe1.ip {
			t.Errorf("%s: got %v, want the element at %s", tool[0], m.Elements, pe1.ip)
		}
	}
}
