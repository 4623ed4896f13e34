package msgconn

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// half is one side of a pair of sessions without a network.
type half struct {
	in, out chan []byte
	here    chan struct{} // closed by Close
	there   chan struct{}
}

func pair() (a, b *half) {
	x, y := make(chan []byte, 4), make(chan []byte, 4)
	c, d := make(chan struct{}), make(chan struct{})
	return &half{x, y, c, d}, &half{y, x, d, c}
}

func (h *half) Send(ctx context.Context, data []byte) error {
	select {
	case <-h.here:
		return errors.New("closed")
	case <-h.there:
		return io.ErrClosedPipe
	default:
	}
	select {
	case h.out <- slices.Clone(data):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.here:
		return errors.New("closed")
	case <-h.there:
		return io.ErrClosedPipe
	}
}

func (h *half) Receive(ctx context.Context) ([]byte, error) {
	select {
	case data := <-h.in:
		return data, nil
	default:
	}
	select {
	case data := <-h.in:
		return data, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.here:
		return nil, errors.New("closed")
	case <-h.there:
	}
	select {
	case data := <-h.in:
		return data, nil
	default:
		return nil, io.EOF
	}
}

func (h *half) Close() error         { close(h.here); return nil }
func (h *half) LocalAddr() net.Addr  { return Addr{netip.MustParseAddrPort("10.0.0.1:1")} }
func (h *half) RemoteAddr() net.Addr { return Addr{netip.MustParseAddrPort("10.0.0.2:2")} }

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pair()
		x, y := New(a), New(b)
		return x, y, func() { _, _ = x.Close(), y.Close() }, nil
	})
}

func TestAddr(t *testing.T) {
	a := Addr{netip.MustParseAddrPort("10.0.0.1:5"), netip.MustParseAddrPort("[2001:db8::1]:5")}
	if a.Network() != "sctp" || a.String() != "10.0.0.1/[2001:db8::1]:5" {
		t.Errorf("got %s %s", a.Network(), a)
	}
	if got := (Addr{}).String(); got != "" {
		t.Errorf("got %q for no address", got)
	}
}
