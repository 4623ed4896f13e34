package rserpool

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"
)

var _ transfer.Transferer = (*Handler)(nil)

// The bounds of zone transfers.
const (
	// maxTransfers is the most transfers of a block at the same time. Each of them may hold
	// a snapshot of its own.
	maxTransfers = 16
	// transferPatience is how long a transfer waits for the transfer plugin to take records.
	// That plugin waits for its client without end. Other clients get no transfer while
	// maxTransfers of them do not read.
	transferPatience = 10 * time.Second
)

var (
	errTransferNotReady = errors.New("no transfer: the registrar does not know its handlespace yet")
	errTransferMany     = fmt.Errorf("no transfer: %d others are running", maxTransfers)
)

// transfers is the state of a handler's zone transfers.
type transfers struct {
	running  atomic.Int32
	duration atomic.Int64 // of making the latest copy that was sent as a whole, without the client's time
}

// Transfer implements transfer.Transferer. The zone is that of one moment, while the
// handlespace may change. An incremental transfer is a full one, or nothing but the SOA
// record if the client has this serial number or a later one.
func (h *Handler) Transfer(name string, serial uint32) (<-chan []dns.RR, error) {
	z := h.zones.own().named(name)
	if z == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	if !h.registrar.Ready() {
		return nil, errTransferNotReady
	}
	space, now := h.registrar.Space(), h.now()
	if current := space.Serial(now); serial != 0 && int32(serial-current) >= 0 {
		ch := make(chan []dns.RR, 1)
		ch <- []dns.RR{z.soa(z.name, h.pools.blockOptions.ttl, current)}
		close(ch)
		return ch, nil
	}
	if h.transfers.running.Add(1) > maxTransfers {
		h.transfers.running.Add(-1)
		return nil, errTransferMany
	}
	begin := time.Now()
	x := newZoneCopy(h, z, space.Snapshot(now))
	go func() {
		if x.run(); !x.broken {
			h.transfers.duration.Store(int64(time.Since(begin) - x.waited))
		}
		h.transfers.running.Add(-1)
		close(x.out)
	}()
	return x.out, nil
}

// run sends the zone. It leaves out the SOA record at the end, by which the client knows that
// the zone is complete, if that is not so.
func (x *zoneCopy) run() {
	defer func() {
		if r := recover(); r != nil { // outside of ServeDNS, CoreDNS would end
			clog.NewWithPlugin(pluginName).Errorf("transfer of %s: panic: %v\n%s", x.zone.name, r, debug.Stack())
		}
	}()
	x.addZone()
	if x.zone.reverse != nil {
		x.addReverse()
	} else {
		x.addPools()
	}
	if x.broken {
		return
	}
	x.add(x.soa())
	x.flush()
}

// addPools adds the records of all pools.
func (x *zoneCopy) addPools() {
	for p := range x.snapshot.Pools() {
		if c := x.copyOf(p); c != nil {
			x.addPool(c)
		}
		if x.broken {
			return
		}
	}
	x.addBrowsing()
	x.addDeclared()
}

// flush hands the records to the transfer plugin. A plugin that does not take them has
// stopped without a word, because of a panic; it drains the channel in all other cases.
func (x *zoneCopy) flush() {
	if x.broken || len(x.batch) == 0 {
		return
	}
	x.timer.Reset(transferPatience)
	begin := time.Now()
	defer func() { x.waited += time.Since(begin) }()
	select {
	case x.out <- x.batch:
		x.batch = make([]dns.RR, 0, transferBatch)
	case <-x.timer.C:
		x.broken = true
	}
}
