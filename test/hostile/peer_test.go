package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// crowd are peers with one SCTP stack, of the kind that the server has.
type crowd struct {
	s     *server
	stack *stack.Stack
	kind  sctp.Kind
}

func (s *server) crowd() *crowd {
	s.t.Helper()
	c := &crowd{s: s, kind: sctp.UDP}
	mode := sctp.UDP
	if s.via == rserpool.ViaKernel {
		c.kind, mode = sctp.Kernel, sctp.Kernel
	}
	var err error
	if c.stack, err = stack.New(stack.Config{Only: mode}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.stack.Close() })
	return c
}

// peer is one association of a crowd.
type peer struct {
	t     *testing.T
	ep    sctp.Endpoint
	assoc sctp.AssocID
	up    chan struct{}
	down  atomic.Bool
	// mute peers acknowledge no keep-alives.
	mute bool
	sent int

	mu     sync.Mutex
	more   sync.Cond
	got    int // responses
	causes map[rserpool.CauseCode]int
}

// peer connects from an address.
func (c *crowd) peer(at netip.Addr, mute bool) *peer {
	c.s.t.Helper()
	p := &peer{t: c.s.t, up: make(chan struct{}), mute: mute, causes: map[rserpool.CauseCode]int{}}
	p.more.L = &p.mu
	var err error
	if p.ep, err = c.stack.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(at, 0)}}, p.handle); err != nil {
		c.s.t.Fatal(err)
	}
	p.assoc = p.ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{c.s.asap}, Kind: c.kind, EncapPort: c.s.encap})
	select {
	case <-p.up:
	case <-time.After(30 * time.Second):
		c.s.t.Fatal("no association within 30 s")
	}
	return p
}

func (p *peer) handle(ev sctp.Event) {
	switch ev.Type {
	case sctp.Up:
		select {
		case <-p.up: // the server has called
		default:
			close(p.up)
		}
	case sctp.Down:
		p.down.Store(true)
		p.more.Broadcast()
	case sctp.Received:
		m, _, err := asap.Parse(ev.Message.Data)
		if err != nil {
			p.t.Errorf("server has sent %v", err)
			return
		}
		if ka, ok := m.(*asap.EndpointKeepAlive); ok {
			if !p.mute {
				b, _ := (&asap.EndpointKeepAliveAck{Handle: ka.Handle, ID: ka.ID}).Append(nil)
				_ = p.ep.Send(ev.Assoc, sctp.Message{Data: b, PPID: asap.PPID})
			}
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range causes(m) {
			p.causes[c.Code]++
		}
		p.got++
		p.more.Broadcast()
	}
}

// causes are the error causes of a response.
func causes(m asap.Message) []rserpool.Cause {
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		return m.Causes
	case *asap.HandleResolutionResponse:
		return m.Causes
	case *asap.DeregistrationResponse:
		return m.Causes
	}
	return nil
}

// window is how many requests of one peer may be unanswered.
const window = 200

// ask sends a request, when there are not too many unanswered ones.
func (p *peer) ask(m asap.Message) {
	p.t.Helper()
	p.await(p.sent - window)
	b := wire(p.t, m)
	// Answers may overtake the acknowledgements of what they answer.
	wait(p.t, "room for a request", func() bool {
		err := p.ep.Send(p.assoc, sctp.Message{Data: b, PPID: asap.PPID})
		if err != nil && !errors.Is(err, sctp.ErrQueueFull) {
			p.t.Fatalf("request %d: %v", p.sent, err)
		}
		return err == nil
	})
	p.sent++
}

// await waits for so many responses in all.
func (p *peer) await(n int) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.got < n && !p.down.Load() {
		p.more.Wait()
	}
	if p.got < n {
		p.t.Fatalf("association has ended after %d responses, want %d", p.got, n)
	}
}

func (p *peer) close() { _ = p.ep.Close() }

func wire(t *testing.T, m asap.Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// registration is one of a round robin element.
func registration(pool string, id uint32, addr netip.Addr) *asap.Registration {
	return &asap.Registration{Handle: rserpool.PoolHandle(pool), Element: rserpool.PoolElement{
		ID: rserpool.PEID(id), Life: -1, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{addr}},
	}}
}

// bigPool is a pool whose resolutions have about the largest answers there are:
// of bigAnswer bytes and more.
const (
	bigPool   = "big"
	bigAnswer = 56 << 10
)

// askBig asks for as many of its elements as there are.
var askBig = &asap.HandleResolution{Handle: bigPool, Items: 1000, HasItems: true}

// makeBig registers its elements.
func (c *crowd) makeBig() {
	c.s.t.Helper()
	p := c.peer(loopback, false)
	for id := range uint32(128) {
		m := registration(bigPool, id+1, loopback)
		m.Element.UserTransport = rserpool.Transport{Type: rserpool.Opaque, Opaque: make([]byte, 430)}
		p.ask(m)
	}
	p.await(p.sent)
	if len(p.causes) > 0 {
		c.s.t.Fatalf("elements of pool %s are refused: %v", bigPool, p.causes)
	}
}

// dial connects to the server's TCP port from an address.
func (s *server) dial(at netip.Addr) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: at.AsSlice()}, Timeout: 30 * time.Second}
	c, err := d.Dial("tcp4", s.asap.String())
	if err != nil {
		return nil, err
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	return c.(*net.TCPConn), nil
}

// tcp is dial where there is room.
func (s *server) tcp(at netip.Addr) *net.TCPConn {
	s.t.Helper()
	c, err := s.dial(at)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// readMessage reads an ASAP message from a TCP connection.
func readMessage(c net.Conn) ([]byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < 4 {
		return nil, fmt.Errorf("message of length %d", n)
	}
	b = append(b, make([]byte, (n+3)&^3-4)...)
	_, err := io.ReadFull(c, b[4:])
	return b[:n], err
}

var errNotCut = errors.New("connection is still open")

// cutOff waits until the server closes a connection.
func cutOff(c net.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, err := io.Copy(io.Discard, c)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return errNotCut
	}
	return nil
}
