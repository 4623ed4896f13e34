package udp

import (
	"encoding/binary"
	"sync"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// pion reads packets of up to 8 KiB, but a peer with a large path MTU (jumbo frames, the
// loopback interface) may put up to 64 KiB into one DATA chunk, which cannot be split
// because it has one TSN. Therefore pion gets records as user data: the length and data
// of each chunk, or a token in place of a large one. A message read from pion is a
// sequence of such records. They are padded to a multiple of recordUnit, so that a flood
// of tiny chunks uses the window as fast as the memory.
const (
	recordUnit = 32
	recordHead = 4
	recordBig  = 1 << 31
	// maxRecord is the longest record that fits into a packet for pion.
	maxRecord = (pionMTU - wire.CommonHeaderLen - wire.ChunkHeaderLen - wire.DataHeaderLen) &^ (recordUnit - 1)
)

// recordLen returns the length of the record for n bytes of user data.
func recordLen(n int) int { return (recordHead + n + recordUnit - 1) &^ (recordUnit - 1) }

// forward gathers the chunks of a packet into packets for pion.
type forward struct {
	b    []byte
	used bool // a chunk has been added
	more bool // b has other chunks than SACKs
}

// room makes room for a chunk of n bytes with its header.
func (f *forward) room(c *pionConn, n int) {
	f.used = true
	if len(f.b)+n > pionMTU {
		f.flush(c)
	}
	if f.b == nil {
		f.b = wire.AppendHeader(make([]byte, 0, min(wire.CommonHeaderLen+n+64, pionMTU)), wire.Header{Src: pionPort, Dst: pionPort, Tag: 0})
	}
}

// add adds a chunk as it is. It drops a SACK that is too large for pion.
func (f *forward) add(c *pionConn, ch wire.Chunk) {
	if n := wire.ChunkHeaderLen + wire.Padded(len(ch.Body)); wire.CommonHeaderLen+n <= pionMTU {
		f.room(c, n)
		f.b = wire.AppendChunk(f.b, ch)
		f.more = f.more || ch.Type != wire.ChunkSack
	}
}

// addData adds a DATA chunk with its user data as a record.
func (f *forward) addData(c *pionConn, ch wire.Chunk) {
	head, data := ch.Body[:wire.DataHeaderLen], ch.Body[wire.DataHeaderLen:]
	n := recordLen(len(data))
	big := n > maxRecord
	if big {
		n = recordUnit
		ok, next := c.big.put(binary.BigEndian.Uint32(head), data, recvWindow(c.a.m.lim))
		if !ok {
			c.a.m.n.Dropped.Add(1)
			if next {
				c.windowShut()
			}
			return
		}
	}
	size := wire.ChunkHeaderLen + wire.DataHeaderLen + n
	f.room(c, size)
	f.more = true
	// pion delays a SACK for 200 ms and never bundles it with data. A peer needs it
	// before it can send SHUTDOWN (RFC 9260, Section 9.2), so that the end of an
	// element soon after a message would be noticed late.
	if ch.Flags&wire.FlagEnd != 0 || c.sack.small() {
		ch.Flags |= wire.FlagImmediate
	}
	f.b = append(f.b, byte(wire.ChunkData), ch.Flags)
	f.b = binary.BigEndian.AppendUint16(f.b, uint16(size))
	f.b = append(f.b, head...)
	record := len(f.b)
	if big {
		f.b = binary.BigEndian.AppendUint32(f.b, recordBig)
		f.b = append(f.b, head[:4]...)
	} else {
		f.b = binary.BigEndian.AppendUint32(f.b, uint32(len(data)))
		f.b = append(f.b, data...)
	}
	f.b = append(f.b, make([]byte, record+n-len(f.b))...)
}

// flush passes the packet to pion.
func (f *forward) flush(c *pionConn) {
	if f.b != nil {
		c.push(packetIn{f.b, !f.more})
		f.b, f.more = nil, false
	}
}

// unpack makes a message of records. ok is false if it has more than limit bytes.
func (c *pionConn) unpack(records []byte, limit int) (msg []byte, ok bool) {
	out := make([]byte, 0, len(records))
	for len(records) >= recordUnit {
		n := binary.BigEndian.Uint32(records)
		if n == recordBig {
			out = append(out, c.big.remove(binary.BigEndian.Uint32(records[recordHead:]))...)
			n = 4
		} else {
			out = append(out, records[recordHead:recordHead+n]...)
		}
		records = records[recordLen(int(n)):]
	}
	return out, len(out) <= limit
}

// bigChunks holds the data of large DATA chunks until their message is read. The zero value
// is ready.
type bigChunks struct {
	mu    sync.Mutex
	data  map[uint32][]byte // by TSN; nil if it has been removed
	bytes int
	cum   uint32 // all up to here have been acknowledged
	any   bool   // cum is known
}

// put stores a chunk's data. ok is false if there is no room, so that the peer must send
// it again; next says that it is the next one in order then. An empty store has room for
// any chunk.
func (s *bigChunks) put(tsn uint32, data []byte, limit int) (ok, next bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.any && int32(tsn-s.cum) <= 0 {
		return true, false // pion will see that it is a duplicate
	}
	if _, ok := s.data[tsn]; ok {
		return true, false
	}
	if s.bytes > 0 && s.bytes+len(data) > limit {
		return false, s.any && tsn == s.cum+1
	}
	if s.data == nil {
		s.data = make(map[uint32][]byte)
	}
	s.data[tsn] = append([]byte(nil), data...)
	s.bytes += len(data)
	return true, false
}

// remove removes and returns a chunk's data. The entry stays until the TSN has been
// acknowledged, so that a late duplicate is recognized.
func (s *bigChunks) remove(tsn uint32) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[tsn]
	if !ok {
		return nil
	}
	s.bytes -= len(data)
	s.data[tsn] = nil
	if s.any && int32(tsn-s.cum) <= 0 {
		delete(s.data, tsn)
	}
	return data
}

// acknowledged notes the cumulative TSN of a SACK and returns the number of stored bytes.
func (s *bigChunks) acknowledged(cum uint32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.any && cum == s.cum {
		return s.bytes
	}
	s.cum, s.any = cum, true
	for tsn, data := range s.data {
		if data == nil && int32(tsn-cum) <= 0 {
			delete(s.data, tsn)
		}
	}
	return s.bytes
}
