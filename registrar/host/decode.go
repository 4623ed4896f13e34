package host

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/slab"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// decoder decodes the elements of a stored state on a goroutine of its own, in batches. Only
// what the registrar keeps is new memory: a registrar can have a million elements, and its
// start should not wait for the garbage collector.
type decoder struct {
	// done has decoded batches, free those that the registrar has read.
	done, free chan []registrar.Kept
	batch      []registrar.Kept
	broken     int // elements that cannot be read

	elements slab.Of[handlespace.Element]
	addrs    slab.Of[netip.Addr]
	handle   rserpool.PoolHandle // of the last element
	room     []netip.Addr        // for the addresses of one element, until they are decoded
	roomFor  func(n int) []netip.Addr
}

const (
	// decodeBatch is how many elements are handed to the registrar at a time.
	decodeBatch = 1024
	// decodeAhead is how many batches there are.
	decodeAhead = 8
)

func newDecoder() *decoder {
	d := &decoder{
		done: make(chan []registrar.Kept, decodeAhead),
		free: make(chan []registrar.Kept, decodeAhead+1),
	}
	for range decodeAhead {
		d.free <- make([]registrar.Kept, 0, decodeBatch)
	}
	d.batch = <-d.free
	d.roomFor = d.addrsRoom
	return d
}

// decode decodes an entry of the store.
func (d *decoder) decode(key, value []byte) error {
	n := len(d.batch)
	d.batch = d.batch[:n+1]
	if !d.parse(&d.batch[n], key, value) {
		d.batch = d.batch[:n]
		d.broken++
		return nil
	}
	if len(d.batch) == cap(d.batch) {
		d.done <- d.batch
		d.batch = (<-d.free)[:0]
	}
	return nil
}

// parse reads an element, and reports whether that has succeeded. The memory of k's former
// addresses is used again.
func (d *decoder) parse(k *registrar.Kept, key, b []byte) bool {
	if len(key) < 4 || len(b) < keptHead {
		return false
	}
	h, id := key[:len(key)-4], rserpool.PEID(binary.BigEndian.Uint32(key[len(key)-4:]))
	if string(d.handle) != string(h) { // elements of one pool follow each other
		d.handle = rserpool.PoolHandle(h)
	}
	*k = registrar.Kept{
		Handle: d.handle, PE: d.elements.New(), OwnASAP: b[0]&keptOwnASAP != 0, Host: k.Host[:0],
		Via: rserpool.Via(b[1]), EncapPort: binary.BigEndian.Uint16(b[2:]), Suspect: parseTime(b[4:]),
	}
	var ok bool
	if k.Host, b, ok = parsePlace(k.Host, b[keptHead:]); !ok {
		return false
	}
	return d.parseElement(&k.PE.PoolElement, b) && k.PE.ID == id && k.PE.UserTransport.Present()
}

// parseElement reads a message with the Pool Element parameter.
func (d *decoder) parseElement(pe *rserpool.PoolElement, b []byte) bool {
	d.room = d.room[:0]
	c := tlv.NewCursor(b)
	c.AddrsFrom(d.roomFor)
	for c.Next() {
		if c.Type() == tlv.TypePoolElement {
			c.SuspectElement(pe) // with the identity
		}
	}
	user, asap := &pe.UserTransport, &pe.ASAPTransport
	same := slices.Equal(user.Addrs, asap.Addrs)
	user.Addrs = d.keepAddrs(user.Addrs)
	if same {
		asap.Addrs = user.Addrs
	} else {
		asap.Addrs = d.keepAddrs(asap.Addrs)
	}
	_, err := c.Finish()
	return err == nil
}

// addrsRoom is memory for n addresses until they are decoded.
func (d *decoder) addrsRoom(n int) []netip.Addr {
	had := len(d.room)
	if cap(d.room)-had < n {
		d.room, had = make([]netip.Addr, 0, 2*(had+n)), 0
	}
	d.room = d.room[:had+n]
	return d.room[had : had+n : had+n]
}

// keepAddrs returns a copy of these addresses that stays.
func (d *decoder) keepAddrs(addrs []netip.Addr) []netip.Addr {
	if len(addrs) == 0 {
		return nil
	}
	kept := d.addrs.Slice(len(addrs))
	copy(kept, addrs)
	return kept
}
