package registrars

import (
	"fmt"
	"runtime"
	"slices"
)

// Instance is shared by the rserpool blocks of one CoreDNS instance: its life cycle, and
// its lease on registrars.
//
// CoreDNS does not call an instance back if a reload has made it and then failed, nor if it
// was stopped without its shutdown callbacks. In the first case the instance before it ends
// the lease, by RestartFailed or, if it has no rserpool blocks, by [Set.Sweep]. The remaining
// leases are ended by the next setup, with Sweep, or by the garbage collector: CoreDNS drops the
// instance at the next reload.
type Instance struct {
	set    *Set
	lease  *Lease
	blocks []Block
}

// Block is one rserpool directive of a Corefile.
type Block struct {
	Options Options
	// Serve is called with the running registrar before the first query.
	Serve func(Registrar)
	// Where is the directive's file and line.
	Where string
}

// NewInstance makes an instance without blocks.
func (rs *Set) NewInstance() *Instance {
	inst := &Instance{set: rs, lease: &Lease{}}
	runtime.AddCleanup(inst, func(l *Lease) { rs.release(l) }, inst.lease)
	return inst
}

// Holds reports whether the lease is this instance's.
func (inst *Instance) Holds(l *Lease) bool { return inst.lease == l }

// Add adds a block. It fails if the block's registrar conflicts with another one.
func (inst *Instance) Add(b Block) error {
	for _, other := range inst.blocks {
		if err := b.Options.conflict(other.Options); err != nil {
			return fmt.Errorf("%s - %w (see %s)", b.Where, err, other.Where)
		}
		if err := b.Options.mistrust(other.Options); err != nil && b.Options.sameAddresses(other.Options) {
			return fmt.Errorf("%s - %w (see %s)", b.Where, err, other.Where)
		}
		if err := b.Options.Pools.disagree(other.Options.Pools); err != nil && b.Options.sameAddresses(other.Options) {
			return fmt.Errorf("%s - %w (see %s)", b.Where, err, other.Where)
		}
	}
	inst.blocks = append(inst.blocks, b)
	if err := inst.set.conflict(b.Options); err != nil {
		return fmt.Errorf("%s - %w", b.Where, err)
	}
	return nil
}

// Startup is to be called when the instance begins to serve.
func (inst *Instance) Startup() error {
	inst.set.begin(inst.lease)
	for _, b := range inst.blocks {
		s, err := inst.set.acquire(inst.lease, b.Options)
		if err != nil {
			inst.set.release(inst.lease)
			return fmt.Errorf("%s - %w", b.Where, err)
		}
		b.Serve(s)
	}
	return nil
}

// OnBegin has f called when the instance that this one replaces has ended, or now if there is none:
// until then that one may answer, too. f is not called if this instance ends before. It must not
// block, and must not refer to the instance.
func (inst *Instance) OnBegin(f func()) {
	inst.set.mu.Lock()
	defer inst.set.mu.Unlock()
	if inst.lease.successorOf == nil {
		f()
		return
	}
	inst.lease.begins = append(inst.lease.begins, f)
}

// OnRelease has f called when the instance ends, for whatever reason, before its registrars
// are closed. f must not block, and must not refer to the instance.
func (inst *Instance) OnRelease(f func()) {
	inst.set.mu.Lock()
	defer inst.set.mu.Unlock()
	inst.lease.ends = append(inst.lease.ends, f)
}

// Restart is to be called before another instance is made that replaces this one.
func (inst *Instance) Restart() {
	inst.set.mu.Lock()
	defer inst.set.mu.Unlock()
	inst.set.restarting[inst.lease] = true
}

// RestartFailed is to be called when the restart has failed. CoreDNS also does so when the
// new instance serves but a shutdown callback of the old one failed. live tells whether the
// instance with that lease serves.
func (inst *Instance) RestartFailed(live func(*Lease) bool) {
	serves := false
	for _, l := range inst.set.successors(inst.lease) {
		if live(l) {
			serves = true
			inst.set.serves(l)
		} else {
			inst.set.release(l)
		}
	}
	if !serves { // also if the new instance has ended its lease itself
		inst.set.restore(inst.lease, inst.blocks)
	}
}

// Shutdown is to be called when this instance has been replaced, and when CoreDNS ends. At
// the end of CoreDNS the registrar runs until FinalShutdown, so that there are answers in
// the lameduck time of the plugin health.
func (inst *Instance) Shutdown() {
	if inst.set.replaced(inst.lease) {
		inst.set.release(inst.lease)
	}
}

// FinalShutdown is to be called when CoreDNS ends.
func (inst *Instance) FinalShutdown() error { return inst.set.release(inst.lease)() }

// begin notes which instance the one with this lease replaces. If several instances
// restart at the same time, that is not known.
func (rs *Set) begin(l *Lease) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.restarting) == 1 {
		for old := range rs.restarting {
			l.successorOf = old
		}
	}
}

// serves notes that an instance serves, although the restart that made it has failed late.
func (rs *Set) serves(l *Lease) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	l.begun()
}

// successors returns the leases that were to replace l. The restart of l is over.
func (rs *Set) successors(l *Lease) []*Lease {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.restarting, l)
	return slices.DeleteFunc(rs.leases(), func(other *Lease) bool { return other.successorOf != l })
}

// replaced ends a restart of the instance with lease l, if there is one, and reports
// whether there was one. The restart has succeeded.
func (rs *Set) replaced(l *Lease) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	was := rs.restarting[l]
	delete(rs.restarting, l)
	for _, other := range rs.leases() {
		if other.successorOf == l {
			other.successorOf = nil
			other.begun()
		}
	}
	return was
}
