package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/state"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// keeper keeps the registrar's state in Config.State: its server identifier, its own
// elements, where its peers are, and the zone's serial. A nil keeper keeps nothing.
type keeper struct {
	store *state.Store
	space *handlespace.Space
	id    rserpool.ServerID
	peers atomic.Pointer[[]byte] // encoded
	lost  atomic.Bool            // the store wants all elements
	wake  func()                 // has the loop look at lost
}

// The names in a stamp.
const (
	stampServer = "server" // the server identifier
	stampAlive  = "alive"  // when it was written, in milliseconds
	stampSerial = "serial" // see handlespace.Space.KeepSerial
	stampPeers  = "peers"  // see appendPlaces
)

// closeState is how long Close waits for the disk.
const closeState = 2 * time.Second

// openKeeper opens the state of a registrar. Its lines go to log.
func openKeeper(cfg state.Config, log *logger) (*keeper, error) {
	k := &keeper{wake: func() {}}
	cfg.Stamp, cfg.Log = k.stamp, log.add
	cfg.Rewrite = func() { k.lost.Store(true); k.wake() }
	var err error
	if k.store, err = state.Open(cfg); err != nil {
		return nil, err
	}
	if k.store.Made() {
		log.add(false, fmt.Sprintf("state directory %s is new: there is no stored state", cfg.Dir))
	}
	if b := k.store.Stamp(stampServer); len(b) == 4 {
		k.id = rserpool.ServerID(binary.BigEndian.Uint32(b))
	}
	if b := k.store.Stamp(stampPeers); len(b) > 0 {
		k.peers.Store(&b)
	}
	return k, nil
}

// begin has the keeper keep the state of this registrar from now on.
func (k *keeper) begin(id rserpool.ServerID, space *handlespace.Space) {
	k.id, k.space = id, space
	if serial := k.number(stampSerial); serial > 0 {
		if k.number(stampAlive) > time.Now().UnixMilli() {
			serial += serialLag
		}
		space.RestoreSerial(serial)
	}
	space.Serial(time.Now()) // the first stamp has it
}

// serialLag is more steps than the serial can have made after the last stamp. They count if the
// clock was set back since: otherwise it is past them.
const serialLag = 30

// number is a number of the former process's stamp.
func (k *keeper) number(name string) int64 {
	b := k.store.Stamp(name)
	if len(b) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// stamp is what each write has beside elements.
func (k *keeper) stamp(now time.Time) map[string][]byte {
	m := map[string][]byte{
		stampServer: binary.BigEndian.AppendUint32(nil, uint32(k.id)),
		stampAlive:  binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli())),
		stampSerial: binary.BigEndian.AppendUint64(nil, uint64(k.space.KeepSerial(now))),
	}
	if p := k.peers.Load(); p != nil {
		m[stampPeers] = *p
	}
	return m
}

// keep keeps what a registrar's action says.
func (k *keeper) keep(a registrar.Action) {
	if k == nil {
		return
	}
	switch a := a.(type) {
	case registrar.Keep:
		key := keyOf(a.Handle, a.ID)
		if a.Element == nil {
			k.store.Delete(key)
		} else {
			k.store.Put(key, (*kept)(a.Element))
		}
	case registrar.KeepPeers:
		b := appendPlaces(nil, a.At)
		k.peers.Store(&b)
	case registrar.KeptAll:
		k.store.Rewritten()
	}
}

// close ends the keeping. The disk may take its time, but nobody waits for it for long.
func (k *keeper) close(log *logger) {
	if err := k.store.Close(closeState); err != nil {
		log.add(true, fmt.Sprintf("%v: a restart will not know the latest changes", err))
	}
}

// restore hands to the core what the former process has left. One goroutine decodes while this
// one has the core enter the elements.
func (k *keeper) restore(handle func(registrar.Event)) (err error) {
	alive := time.UnixMilli(k.number(stampAlive))
	d := newDecoder()
	go func() {
		defer close(d.done)
		err = k.store.Each(d.decode)
		d.done <- d.batch
	}()
	for b := range d.done {
		handle(registrar.Restore{Alive: alive, All: k.store.Len(), Elements: b})
		d.free <- b
	}
	if p := k.peers.Load(); p != nil {
		handle(registrar.Restore{Alive: alive, Peers: parsePlaces(*p)})
	}
	if err == nil && d.broken > 0 {
		err = fmt.Errorf("%d elements of the stored state cannot be read", d.broken)
	}
	return err
}

// keyOf is the key of an element: the pool handle and the identifier.
func keyOf(h rserpool.PoolHandle, id rserpool.PEID) string {
	b := make([]byte, 0, len(h)+4)
	return string(binary.BigEndian.AppendUint32(append(b, h...), uint32(id)))
}

// kept is an element as a value of the store:
//
//	flags 1, via 1, UDP port 2, suspect 8, addresses of the host, a message with the Pool Element parameter
//
// The time is in milliseconds, 0 for none.
type kept registrar.Kept

const (
	keptOwnASAP = 1 // flag: the element has named its ASAP transport
	keptHead    = 12
	keptType    = 0 // of the message
)

// Append implements state.Value.
func (k *kept) Append(b []byte) ([]byte, error) {
	flags := byte(0)
	if k.OwnASAP {
		flags |= keptOwnASAP
	}
	b = append(b, flags, byte(k.Via))
	b = binary.BigEndian.AppendUint16(b, k.EncapPort)
	b = appendTime(b, k.Suspect)
	b = appendPlace(b, k.Host)
	w := tlv.BeginMessage(b, keptType, 0)
	w.PoolElement(&k.PE.PoolElement)
	return w.Finish()
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMilli()))
}

func parseTime(b []byte) time.Time {
	ms := int64(binary.BigEndian.Uint64(b))
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// appendPlace appends the addresses of one host: their number, and each with its length.
func appendPlace(b []byte, addrs []netip.AddrPort) []byte {
	addrs = addrs[:min(len(addrs), 255)]
	b = append(b, byte(len(addrs)))
	for _, a := range addrs {
		b = append(b, 0)
		n := len(b)
		b, _ = a.AppendBinary(b) // it never fails
		b[n-1] = byte(len(b) - n)
	}
	return b
}

// parsePlace reads the addresses of one host and appends them.
func parsePlace(addrs []netip.AddrPort, b []byte) (_ []netip.AddrPort, rest []byte, ok bool) {
	if len(b) == 0 {
		return addrs, nil, false
	}
	n, b := int(b[0]), b[1:]
	addrs = slices.Grow(addrs, n)
	for range n {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return addrs, nil, false
		}
		var a netip.AddrPort
		if err := a.UnmarshalBinary(b[1 : 1+b[0]]); err != nil {
			return addrs, nil, false
		}
		addrs, b = append(addrs, a), b[1+b[0]:]
	}
	return addrs, b, true
}

// appendPlaces appends the addresses of several hosts.
func appendPlaces(b []byte, at [][]netip.AddrPort) []byte {
	for _, addrs := range at {
		b = appendPlace(b, addrs)
	}
	return b
}

func parsePlaces(b []byte) (at [][]netip.AddrPort) {
	for len(b) > 0 {
		addrs, rest, ok := parsePlace(nil, b)
		if !ok {
			return at
		}
		at, b = append(at, addrs), rest
	}
	return at
}

// StateStats tell how the stored state does; see [Config.State].
type StateStats struct {
	// Writes that have succeeded, and those that have failed.
	Writes, Failures uint64
	// Pending changes are in memory only. If all elements have to be written, each own one is
	// such a change, and there is at least one.
	Pending uint64
	// Written is when the last write has succeeded, in seconds since 1970; 0 if none has.
	Written uint64
	// Behind is 1 if the last write has failed or does not end, or if the disk does not have
	// all elements yet.
	Behind uint64
	// Bytes is the size of the file.
	Bytes uint64
}

// stats are those of a registrar with so many own elements.
func (k *keeper) stats(own uint64) StateStats {
	if k == nil {
		return StateStats{}
	}
	st := k.store.Stats()
	s := StateStats{Writes: st.Writes, Failures: st.Failures, Pending: uint64(st.Pending), Bytes: uint64(st.Bytes)}
	if st.All {
		s.Pending = max(s.Pending, own, 1)
	}
	if !st.Written.IsZero() {
		s.Written = uint64(st.Written.Unix())
	}
	if st.Behind {
		s.Behind = 1
	}
	return s
}

// restore has the core begin with what a former process has left.
func (h *Host) restore() {
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("please report it: %v: %s", p, debug.Stack())
			}
		}()
		return h.keeper.restore(func(ev registrar.Event) {
			for _, a := range h.core.Handle(time.Now(), ev) {
				if line, ok := a.(registrar.Log); ok {
					h.log.add(line.Warn, line.Text)
				}
				h.keeper.keep(a)
			}
		})
	}()
	if err != nil {
		h.log.add(true, fmt.Sprintf("the stored state was not restored as a whole: %v", err))
	}
}
