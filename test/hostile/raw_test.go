package hostile

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// The chunk types of SCTP that attackers send (RFC 9260, Section 3.2).
const (
	chunkData       = 0
	chunkInit       = 1
	chunkInitAck    = 2
	chunkAbort      = 6
	chunkCookieEcho = 10
	chunkCookieAck  = 11
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk makes a chunk.
func chunk(typ, flags byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{typ, flags}, uint16(4+len(body)))
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&3)...)
}

// packet makes an SCTP packet.
func packet(src, dst uint16, tag uint32, chunks ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0, 0)
	for _, c := range chunks {
		b = append(b, c...)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, castagnoli))
	return b
}

// initBody is the body of an INIT without parameters.
func initBody(tag uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, tag)
	b = binary.BigEndian.AppendUint32(b, 100_000) // window
	b = append(b, 0, 10, 0, 10)                   // streams
	return binary.BigEndian.AppendUint32(b, 1)    // TSN
}

// rawPeer is an SCTP peer that does nothing of its own: it acknowledges
// nothing and answers no heartbeat.
type rawPeer struct {
	t    *testing.T
	conn *net.UDPConn
	src  uint16 // SCTP
	dst  uint16
	tag  uint32 // the server's
	tsn  uint32
	ssn  uint16
	// params are those of its INIT.
	params []byte
}

// rawTag is the tag of all raw peers.
const rawTag = 0x12345678

// rawPeer makes a peer at an address, with its SCTP port.
func (s *server) rawPeer(at netip.Addr, port uint16) *rawPeer {
	s.t.Helper()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: at.AsSlice()}, net.UDPAddrFromAddrPort(s.encapAddr()))
	if err != nil {
		s.t.Fatal(err)
	}
	return &rawPeer{t: s.t, conn: conn, src: port, dst: s.asap.Port(), tsn: 1}
}

// cookie asks for a State Cookie.
func (p *rawPeer) cookie() []byte {
	p.t.Helper()
	b := p.exchange(chunkInitAck, packet(p.src, p.dst, 0, chunk(chunkInit, 0, append(initBody(rawTag), p.params...))))
	p.tag = binary.BigEndian.Uint32(b)
	for b = b[16:]; len(b) >= 4; b = b[min(len(b), (int(binary.BigEndian.Uint16(b[2:]))+3)&^3):] {
		if n := int(binary.BigEndian.Uint16(b[2:])); binary.BigEndian.Uint16(b) == 7 && n <= len(b) {
			return b[4:n]
		}
	}
	p.t.Fatal("INIT ACK has no cookie")
	return nil
}

// connect makes an association.
func (p *rawPeer) connect() {
	p.t.Helper()
	c := p.cookie()
	p.exchange(chunkCookieAck, packet(p.src, p.dst, p.tag, chunk(chunkCookieEcho, 0, c)))
}

// exchange sends a packet, again if need be, until one comes whose first chunk
// has the type. It returns that chunk's body.
func (p *rawPeer) exchange(typ byte, b []byte) []byte {
	p.t.Helper()
	buf := make([]byte, 65536)
	for range 20 {
		p.write(b)
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := p.conn.Read(buf)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Fatal(err)
			}
			if err != nil {
				break
			}
			if n >= 16 && buf[12] == typ {
				return buf[16:min(n, 12+int(binary.BigEndian.Uint16(buf[14:])))]
			}
		}
	}
	p.t.Fatalf("no chunk of type %d within 20 s", typ)
	return nil
}

func (p *rawPeer) write(b []byte) { _, _ = p.conn.Write(b) }

// fill bounds the SCTP packets that carry several messages; what the loopback
// carries in one piece.
const fill = 60_000

// send sends ASAP messages, as few packets as possible, and says how many.
func (p *rawPeer) send(messages ...[]byte) (packets int) {
	var chunks [][]byte
	n := 0
	flush := func() {
		p.write(packet(p.src, p.dst, p.tag, chunks...))
		packets++
		chunks, n = nil, 0
	}
	for _, m := range messages {
		c := p.data(3, m)
		if n+len(c) > fill {
			flush()
		}
		chunks, n = append(chunks, c), n+len(c)
	}
	if n > 0 {
		flush()
	}
	return packets
}

// data makes the next DATA chunk; flags 3 are for a whole message, 2 for the
// beginning of one.
func (p *rawPeer) data(flags byte, m []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, p.tsn)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, p.ssn)
	b = binary.BigEndian.AppendUint32(b, 11)
	p.tsn++
	if flags&1 != 0 {
		p.ssn++
	}
	return chunk(chunkData, flags, append(b, m...))
}

// abort ends the association and the peer.
func (p *rawPeer) abort() {
	p.write(packet(p.src, p.dst, p.tag, chunk(chunkAbort, 0, nil)))
	_ = p.conn.Close()
}

// halfAnswer aborts the association when the server has answered on it, and
// then answers its INITs, but not what follows, until the peer is closed.
func (p *rawPeer) halfAnswer() {
	buf := make([]byte, 65536)
	aborted := false
	_ = p.conn.SetReadDeadline(time.Time{})
	for {
		n, err := p.conn.Read(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || n < 16:
		case buf[12] == chunkData && !aborted:
			aborted = true
			p.write(packet(p.src, p.dst, p.tag, chunk(chunkAbort, 0, nil)))
		case buf[12] == chunkInit && n >= 20:
			body := initBody(rawTag)
			body = append(body, 0, 7, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8) // a cookie
			p.write(packet(p.src, p.dst, binary.BigEndian.Uint32(buf[16:]), chunk(chunkInitAck, 0, body)))
		}
	}
}
