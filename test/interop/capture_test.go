package interop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// capture records what crosses the bridge. test/lab/gotest has tshark look for malformed
// packets when the tests are over: outside of the lab, where a start of tshark takes a
// fraction of a second and not some.
type capture struct {
	l       *lab
	file    string
	proc    *exec.Cmd
	stopped bool
}

func (l *lab) capture() *capture {
	l.t.Helper()
	dir := os.Getenv("LAB_CAPTURES")
	if dir == "" {
		l.t.Fatal("LAB_CAPTURES is not set: run test/lab/gotest, which has tshark check the captures")
	}
	f, err := os.CreateTemp(dir, strings.ReplaceAll(l.t.Name(), "/", "-")+"-*.pcap")
	if err != nil {
		l.t.Fatal(err)
	}
	f.Close()
	c := &capture{l: l, file: f.Name()}
	c.proc = exec.Command("tcpdump", "-Z", "root", "-i", "br0", "-U", "-s", "0", "-w", c.file,
		"sctp or udp port 9899 or tcp port 3863 or udp port 3863")
	said := &logBuffer{}
	c.proc.Stderr = said
	if err := c.proc.Start(); err != nil {
		l.t.Fatal(err)
	}
	eventually(l.t, "tcpdump listens", func() error {
		if strings.Contains(said.String(), "listening") {
			return nil
		}
		return errors.New(said.String())
	})
	l.t.Cleanup(c.stop)
	return c
}

func (c *capture) stop() {
	if c.stopped {
		return
	}
	c.stopped = true
	_ = c.proc.Process.Signal(syscall.SIGINT)
	_ = c.proc.Wait()
}

// tshark reads the capture so far.
func (c *capture) tshark(args ...string) string {
	c.l.t.Helper()
	args = append([]string{"-n", "-r", c.file, "-d", "udp.port==9899,sctp"}, args...)
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	// A capture that is still written to may end in the middle of a packet.
	if err != nil && !strings.Contains(stderr.String(), "cut short") {
		c.l.t.Fatalf("tshark %v: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

// packet is an SCTP packet of a capture.
type packet struct {
	src, dst netip.Addr
	plain    bool   // straight over IP, not in UDP
	sctp     []byte // from the common header on
}

func (p packet) isPlain() bool { return p.plain }

// has tells whether a packet has the beginning of an ASAP message of a type, with a text.
func (p packet) has(typ asap.MessageType, text string) bool {
	_, rest := wire.ParseHeader(p.sctp)
	for c, rest, ok := wire.NextChunk(rest); ok; c, rest, ok = wire.NextChunk(rest) {
		const first = 2 // the flag of a message's first fragment
		if c.Type != wire.ChunkData || c.Flags&first == 0 || len(c.Body) <= wire.DataHeaderLen {
			continue
		}
		data := c.Body[wire.DataHeaderLen:]
		if binary.BigEndian.Uint32(c.Body[8:]) == asap.PPID && data[0] == byte(typ) && bytes.Contains(data, []byte(text)) {
			return true
		}
	}
	return false
}

// count counts the packets of the capture so far that f is true of.
func (c *capture) count(f func(packet) bool) (n int) {
	c.l.t.Helper()
	b, err := os.ReadFile(c.file)
	if err != nil {
		c.l.t.Fatal(err)
	}
	const fileHeader, recordHeader = 24, 16
	if len(b) < fileHeader {
		return 0
	}
	for b = b[fileHeader:]; len(b) >= recordHeader; {
		size := int(binary.LittleEndian.Uint32(b[8:]))
		if len(b) < recordHeader+size { // it is still written
			break
		}
		if p, ok := parseFrame(b[recordHeader : recordHeader+size]); ok && f(p) {
			n++
		}
		b = b[recordHeader+size:]
	}
	return n
}

// countOf counts the packets with the beginning of an ASAP message of a type.
func (c *capture) countOf(typ asap.MessageType) int {
	c.l.t.Helper()
	return c.count(func(p packet) bool { return p.has(typ, "") })
}

// parseFrame finds the SCTP packet in an Ethernet frame, straight over IP or in UDP.
func parseFrame(b []byte) (p packet, ok bool) {
	const ethernet, udp = 14, 8
	if len(b) < ethernet {
		return packet{}, false
	}
	var proto byte
	ip := b[ethernet:]
	switch typ := binary.BigEndian.Uint16(b[12:]); {
	case typ == 0x0800 && len(ip) >= 20 && len(ip) >= 4*int(ip[0]&15):
		proto = ip[9]
		p.src, p.dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		p.sctp = ip[4*int(ip[0]&15):]
	case typ == 0x86dd && len(ip) >= 40:
		proto = ip[6]
		p.src, p.dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		p.sctp = ip[40:]
	}
	switch {
	case proto == 132:
		p.plain = true
	case proto == 17 && len(p.sctp) > udp:
		const encap = 9899
		if binary.BigEndian.Uint16(p.sctp) != encap && binary.BigEndian.Uint16(p.sctp[2:]) != encap {
			return packet{}, false
		}
		p.sctp = p.sctp[udp:]
	default:
		return packet{}, false
	}
	return p, len(p.sctp) >= wire.CommonHeaderLen
}

// TestParseFrame: an acknowledgement of a keep-alive straight over IP, in UDP, and over IPv6.
func TestParseFrame(t *testing.T) {
	ack := wire.PacketOf(wire.Header{Src: 4000, Dst: 3863, Tag: 1},
		wire.Chunk{Type: wire.ChunkSack, Body: make([]byte, wire.SackHeaderLen)},
		sctptest.Data(1, 0, 0, 3, []byte{byte(asap.TypeEndpointKeepAliveAck), 0, 0, 8, 'e', 'c', 'h', 'o'}))
	ethernet := func(typ uint16) []byte { return binary.BigEndian.AppendUint16(make([]byte, 12), typ) }
	v4 := func(proto byte) []byte {
		b := append(ethernet(0x0800), 0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0)
		return append(b, 10, 99, 0, 11, 10, 99, 0, 1)
	}
	v6 := append(ethernet(0x86dd), make([]byte, 40)...)
	v6[14+6], v6[14+8], v6[14+24] = 132, 0xfd, 0xfe
	udp := []byte{0x26, 0xab, 0x26, 0xab, 0, 0, 0, 0} // port 9899
	for _, tt := range []struct {
		name     string
		frame    []byte
		src, dst string
		plain    bool
	}{
		{"IP", v4(132), "10.99.0.11", "10.99.0.1", true},
		{"UDP", append(v4(17), udp...), "10.99.0.11", "10.99.0.1", false},
		{"IPv6", v6, "fd00::", "fe00::", true},
	} {
		p, ok := parseFrame(append(tt.frame, ack...))
		if !ok || p.src.String() != tt.src || p.dst.String() != tt.dst || p.plain != tt.plain {
			t.Errorf("%s: %v, from %v to %v, plain %v", tt.name, ok, p.src, p.dst, p.plain)
		}
		if !p.has(asap.TypeEndpointKeepAliveAck, "") || !p.has(asap.TypeEndpointKeepAliveAck, "echo") {
			t.Errorf("%s: the acknowledgement is not found", tt.name)
		}
		if p.has(asap.TypeEndpointKeepAlive, "") || p.has(asap.TypeEndpointKeepAliveAck, "web") {
			t.Errorf("%s: another message is found", tt.name)
		}
	}
	whole := append(v4(132), ack...)
	for n := range whole {
		if p, ok := parseFrame(whole[:n]); ok && p.has(asap.TypeEndpointKeepAliveAck, "") {
			t.Errorf("a message is found in the first %d bytes", n)
		}
	}
}
