package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// portElement is an element that serves echo over kernel SCTP on the test's own host, and
// registers with a UDP port for users.
type portElement struct {
	t  *testing.T
	ep sctp.Endpoint
	at sctp.AssocID // the association with the registrar
	in chan asap.Message
}

const userUDPPort = 9910

// newPortElement registers the element.
func newPortElement(t *testing.T, registrar string, pool rserpool.PoolHandle, id rserpool.PEID) *portElement {
	t.Helper()
	s, err := stack.New(stack.Config{Only: sctp.Kernel})
	if err != nil {
		t.Fatal(err)
	}
	e := &portElement{t: t, in: make(chan asap.Message, 100)}
	e.ep, err = s.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.254:0")}}, e.handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	e.at = e.ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(registrar + ":3863")}, Kind: sctp.Kernel})
	local := e.ep.LocalAddrs()[0]
	e.send(&asap.Registration{Handle: pool, Element: rserpool.PoolElement{
		ID: id, Life: 300_000, UserEncapPort: userUDPPort, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		UserTransport: rserpool.Transport{Type: rserpool.SCTP, Port: local.Port(), Use: rserpool.DataPlusControl, Addrs: []netip.Addr{local.Addr()}},
	}})
	if m, ok := e.next(asap.TypeRegistrationResponse).(*asap.RegistrationResponse); !ok || m.Reject {
		t.Fatalf("the registrar at %s refuses an element with a UDP port for users: %+v", registrar, m)
	}
	return e
}

// handle answers keep-alives and sends back what users send.
func (e *portElement) handle(ev sctp.Event) {
	if ev.Type != sctp.Received {
		return
	}
	if ev.Message.PPID != asap.PPID {
		_ = e.ep.Send(ev.Assoc, ev.Message)
		return
	}
	m, _, err := asap.Parse(ev.Message.Data)
	if err != nil {
		e.t.Logf("message %x: %v", ev.Message.Data, err)
		return
	}
	if k, ok := m.(*asap.EndpointKeepAlive); ok {
		b, _ := (&asap.EndpointKeepAliveAck{Handle: k.Handle, ID: k.ID}).Append(nil)
		_ = e.ep.Send(ev.Assoc, sctp.Message{Data: b, PPID: asap.PPID})
	}
	select {
	case e.in <- m:
	default:
	}
}

func (e *portElement) send(m asap.Message) {
	e.t.Helper()
	b, err := m.Append(nil)
	if err == nil {
		err = e.ep.Send(e.at, sctp.Message{Data: b, PPID: asap.PPID})
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// next waits for a message of a type.
func (e *portElement) next(typ asap.MessageType) (got asap.Message) {
	e.t.Helper()
	eventually(e.t, fmt.Sprint("message ", typ), func() error {
		select {
		case got = <-e.in:
			if got.Type() == typ {
				return nil
			}
		default:
		}
		return errors.New("not yet")
	})
	return got
}

// resolved returns the UDP port in a resolution of the pool.
func (e *portElement) resolved(pool rserpool.PoolHandle) uint16 {
	e.t.Helper()
	e.send(&asap.HandleResolution{Handle: pool})
	m := e.next(asap.TypeHandleResolutionResponse).(*asap.HandleResolutionResponse)
	if len(m.Elements) != 1 {
		e.t.Fatalf("the pool resolves to %+v, want one element", m)
	}
	return m.Elements[0].UserEncapPort
}

// echoes has rspterminal use the pool.
func (n *node) echoes(registrar, pool string) {
	n.l.t.Helper()
	u := n.start("stdbuf", "-oL", "rspterminal", "-registrar="+registrar+":3863", "-poolhandle="+pool, "-asapannounce=off", "-logcolor=off", "-loglevel=3")
	eventually(n.l.t, "the echo comes back", func() error {
		if _, err := fmt.Fprintln(u.stdin, "hello pool"); err != nil {
			return err
		}
		u.says("hello pool")
		return nil
	})
}

// TestReferenceUserPort: the parameter with the UDP port for users harms neither a
// registrar nor a user of RSPLIB. Its registrar drops it from resolutions.
func TestReferenceUserPort(t *testing.T) {
	l := newLab(t)
	ours, theirs, pu := l.node("r1", registrarIP+"/24"), l.node("r2", "10.99.0.2/24"), l.node("pu", "10.99.0.21/24")
	l.capture()
	ours.coredns(registrarIP, corefile("enrp "+registrarIP, "peer 10.99.0.2", "timer KEEP-ALIVE-INTERVAL 1s"))
	theirs.rspregistrar("10.99.0.2", "-peer="+registrarIP+":9901")

	a := newPortElement(t, registrarIP, "a", 0x0a000001)
	if got := a.resolved("a"); got != userUDPPort {
		t.Errorf("our registrar resolves to UDP port %d, want %d", got, userUDPPort)
	}
	pu.echoes(registrarIP, "a")
	eventually(t, "RSPLIB's registrar serves", func() error {
		_, err := pu.run(l.bin("rsp"), "resolve", "--via", "kernel", "--registrar", "10.99.0.2", "a")
		return err
	})
	b := newPortElement(t, "10.99.0.2", "b", 0x0b000001)
	if got := b.resolved("b"); got != 0 {
		t.Errorf("RSPLIB's registrar resolves to UDP port %d, want none", got)
	}
	pu.echoes("10.99.0.2", "b")

	l.registered(registrarIP, "b", 1)
	pu.echoes("10.99.0.2", "a")
	if got := a.resolved("b"); got != 0 {
		t.Errorf("our registrar, which has the element from RSPLIB's, resolves to UDP port %d, want none", got)
	}
	if got := b.resolved("a"); got != 0 {
		t.Errorf("RSPLIB's registrar, which has the element from ours, resolves to UDP port %d, want none", got)
	}
}
