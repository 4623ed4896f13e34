package tcp

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

const nameX = "spiffe://example.org/rserpool/registrar/x"

// rogue is a client that makes its records itself after the handshake.
type rogue struct {
	*sctptest.Records
	net.Conn
}

// newRogue makes a site with TLS, and a client of it, which is up.
func newRogue(t *testing.T) (*endpoint, *sctptest.Site, *rogue) {
	t.Helper()
	ca := sctptest.NewAuthority(t)
	own := ca.Config(ca.Issue(nameX, time.Hour))
	give := func() *tls.Config { return own }
	cfg := sctptest.On("127.0.0.1:0")
	cfg.TCP = true
	e, x := tcpEndTLS(t, sctp.Limits{}, cfg, &secure.Config{Client: give, Server: sctptest.ToAll(give), Identify: sctptest.NameOf})
	secrets := new(sctptest.Secrets)
	c := ca.Config(nil)
	c.KeyLogWriter = secrets
	r := &rogue{Conn: dialTCP(t, x.LocalAddrs()[0].String())}
	conn := tls.Client(r.Conn, c)
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	x.Next(sctp.Up)
	r.Records = secrets.Records(t, conn, true)
	return e, x, r
}

// put sends a record.
func (r *rogue) put(t *testing.T, content byte, data []byte) {
	t.Helper()
	if _, err := r.Write(r.Seal(content, data)); err != nil {
		t.Fatal(err)
	}
}

// next reads a record.
func (r *rogue) next(t *testing.T) (content byte, data []byte) {
	t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(sctptest.WaitFor))
	b := make([]byte, 5)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, binary.BigEndian.Uint16(b[3:]))...)
	if _, err := io.ReadFull(r, b[5:]); err != nil {
		t.Fatal(err)
	}
	return r.Open(b)
}

// TestTLSKeyUpdate has a peer ask for new keys, after the deadline of the latest message to it
// has passed.
func TestTLSKeyUpdate(t *testing.T) {
	e, x, r := newRogue(t)
	var a *assoc
	for _, a = range e.All {
	}
	m := sctp.Message{Data: sctptest.Message(60, 1), PPID: sctptest.Framing.PPID}
	for range 40 {
		_ = a.conn.SetWriteDeadline(time.Unix(1, 0))
		r.put(t, sctptest.RecordHandshake, sctptest.KeyUpdateBoth)
		r.Out.Update()
		if content, data := r.next(t); content != sctptest.RecordHandshake || !bytes.Equal(data, sctptest.KeyUpdate) {
			t.Fatalf("Got %x of type %#x, want a key update", data, content)
		}
		r.In.Update()
		r.put(t, sctptest.RecordData, m.Data)
		if got := x.Next(sctp.Received); !sctptest.Same(got.Message, m) {
			t.Fatalf("Got %v", got)
		}
		if err := x.Send(a.id, m); err != nil {
			t.Fatal(err)
		}
		if content, data := r.next(t); content != sctptest.RecordData || !bytes.Equal(data, m.Data) {
			t.Fatalf("Got %d bytes of type %#x, want the message", len(data), content)
		}
	}
}

// TestTLSKeyUpdateFlood has a peer send nothing but key updates.
func TestTLSKeyUpdateFlood(t *testing.T) {
	_, x, r := newRogue(t)
	for range 17 {
		r.put(t, sctptest.RecordHandshake, sctptest.KeyUpdateBoth)
		r.Out.Update()
	}
	if ev := x.Next(sctp.Down); ev.Reason != sctp.Overrun || ev.Err == nil || !strings.Contains(ev.Err.Error(), "nothing but key updates") {
		t.Errorf("Got %v, want what the peer does", ev)
	}
}

// plainAlert is a connection that sends an alert in place of the first encrypted record, as
// OpenSSL does if it refuses the server's certificate.
type plainAlert struct{ net.Conn }

func (c plainAlert) Write(b []byte) (int, error) {
	if i := bytes.Index(b, []byte{sctptest.RecordData, 3, 3}); b[0] != sctptest.RecordHandshake && i >= 0 {
		_, err := c.Conn.Write(append(bytes.Clone(b[:i]), sctptest.RecordAlert, 3, 3, 0, 2, 2, 48))
		return len(b), err
	}
	return c.Conn.Write(b)
}

// TestTLSPlainAlert has a client refuse the server's certificate before it encrypts.
func TestTLSPlainAlert(t *testing.T) {
	e, x, _ := newRogue(t)
	lines := make(chan string, 1)
	e.n.Logf = func(format string, args ...any) { lines <- fmt.Sprintf(format, args...) }
	c := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return errors.New("not this one") }}
	raw := dialTCP(t, x.LocalAddrs()[0].String())
	_ = tls.Client(plainAlert{raw}, c).Handshake()
	_ = raw.CloseWrite()
	if got := <-lines; !strings.Contains(got, "peer refuses our certificate: unknown authority") {
		t.Errorf("Got log %q, want what the alert says", got)
	}
}
