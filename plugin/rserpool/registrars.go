package rserpool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"

	"github.com/rserpool/coredns-rserpool/registrar/host"
)

// process holds the registrars of this process. They outlive the CoreDNS
// instances that use them: a reload starts the new instance before it stops
// the old one, while the ports can be had only once and the registrations must
// not be lost. CoreDNS offers no other place that lasts from one instance to
// the next. It is this package's only variable state.
var process = newRegistrars(func(c host.Config) (backend, error) { return host.New(c) })

// closeTime is how long a registrar may take to say goodbye to its peers.
const closeTime = 5 * time.Second

// backend is a registrar that can be started and stopped; *host.Host is one.
type backend interface {
	registrar
	Start() error
	Close(context.Context) error
	Stats() host.Stats
	LocalAddrs() []netip.AddrPort
}

// registrars are running registrars, shared by all that lease them.
type registrars struct {
	make func(host.Config) (backend, error)

	mu      sync.Mutex
	running []*shared
	// restarting are the leases of instances that are being replaced.
	restarting map[*lease]bool
}

// shared is a registrar with its users. One without users is being closed, and
// remains in the list until its ports are free.
type shared struct {
	backend
	options options
	leases  map[*lease]bool
	closed  chan struct{}
}

// lease is one CoreDNS instance's hold on registrars. It does not refer to the
// instance, see instance.
type lease struct {
	// successorOf is the lease of the instance that is being replaced while
	// this one begins, if that is clear.
	successorOf *lease
}

func newRegistrars(make func(host.Config) (backend, error)) *registrars {
	return &registrars{make: make, restarting: map[*lease]bool{}}
}

// conflict tells why a registrar with these options cannot run beside the
// present ones, and cannot be one of them either. A nil error promises nothing
// yet; acquire has the last word.
func (rs *registrars) conflict(o options) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, s := range rs.running {
		if len(s.leases) == 0 {
			continue
		}
		if err := o.conflict(s.options); err != nil {
			return fmt.Errorf("%w; a running registrar keeps its options until CoreDNS is restarted", err)
		}
	}
	return nil
}

// acquire gives l a hold on the registrar with these options, and starts it
// where it does not run yet.
func (rs *registrars) acquire(l *lease, o options) (*shared, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i := 0; i < len(rs.running); i++ {
		s := rs.running[i]
		err := o.conflict(s.options)
		switch same := o.sameAddresses(s.options); {
		case len(s.leases) == 0 && (same || err != nil):
			// Its ports are about to be free.
			rs.mu.Unlock()
			<-s.closed
			rs.mu.Lock()
			i = -1
		case err != nil:
			return nil, err
		case same:
			if !s.leases[l] {
				s.leases[l] = true
				log.Infof("registrar at %s is kept with its registrations", o)
			}
			return s, nil
		}
	}
	b, err := rs.make(o.config())
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("registrar at %s: %w", o, err)
	}
	s := &shared{backend: b, options: o, leases: map[*lease]bool{l: true}, closed: make(chan struct{})}
	rs.running = append(rs.running, s)
	log.Infof("registrar serves ASAP at %s", joinAddrs(b.LocalAddrs()))
	return s, nil
}

// release ends a lease. Registrars that nobody holds any more are closed, in
// the background; the returned function waits for that.
func (rs *registrars) release(l *lease) (wait func() error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.restarting, l)
	var closing []func() error
	for _, s := range rs.running {
		if !s.leases[l] {
			continue
		}
		if delete(s.leases, l); len(s.leases) == 0 {
			closing = append(closing, rs.close(s))
		}
	}
	return func() error {
		var errs []error
		for _, wait := range closing {
			errs = append(errs, wait())
		}
		return errors.Join(errs...)
	}
}

// sweep ends the leases of instances that are not there any more.
func (rs *registrars) sweep(live func(*lease) bool) {
	for _, s := range rs.snapshot() {
		for _, l := range rs.holders(s) {
			if !live(l) {
				rs.release(l)
			}
		}
	}
}

func (rs *registrars) holders(s *shared) []*lease {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return slices.Collect(maps.Keys(s.leases))
}

// close closes a registrar in the background.
func (rs *registrars) close(s *shared) (wait func() error) {
	var err error
	go func() {
		defer close(s.closed)
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if err = s.Close(ctx); err != nil {
			err = fmt.Errorf("registrar at %s: %w", s.options, err)
		}
		rs.mu.Lock()
		defer rs.mu.Unlock()
		rs.running = slices.DeleteFunc(rs.running, func(o *shared) bool { return o == s })
		log.Infof("registrar at %s has stopped", s.options)
	}()
	return func() error {
		<-s.closed
		return err
	}
}

// snapshot returns the registrars that are in use.
func (rs *registrars) snapshot() []*shared {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(rs.running), func(s *shared) bool { return len(s.leases) == 0 })
}

// instance is what the rserpool blocks of one CoreDNS instance have in common:
// its life, and so its lease on registrars. It belongs only to that instance.
//
// CoreDNS tells an instance neither that it has been discarded, because the
// reload that made it failed after startup, nor that it was stopped without
// its shutdown callbacks. In the first case the instance before it ends the
// lease, if that has rserpool blocks itself. What is left, the next set-up
// sweeps away, or the collector when the instance has become garbage, which
// CoreDNS lets it become with the next reload.
type instance struct {
	registrars *registrars
	lease      *lease
	blocks     []*block
}

// block is one rserpool directive of a Corefile.
type block struct {
	options options
	handler *Handler
	where   string // file and line
}

func newInstance(rs *registrars) *instance {
	inst := &instance{registrars: rs, lease: &lease{}}
	runtime.AddCleanup(inst, func(l *lease) { rs.release(l) }, inst.lease)
	return inst
}

// add takes in a block, unless its registrar would conflict with another.
func (inst *instance) add(b *block) error {
	for _, other := range inst.blocks {
		if err := b.options.conflict(other.options); err != nil {
			return fmt.Errorf("%w (see %s)", err, other.where)
		}
	}
	inst.blocks = append(inst.blocks, b)
	return inst.registrars.conflict(b.options)
}

// startup is called when the instance begins to serve.
func (inst *instance) startup() error {
	inst.registrars.begin(inst.lease)
	for _, b := range inst.blocks {
		s, err := inst.registrars.acquire(inst.lease, b.options)
		if err != nil {
			inst.registrars.release(inst.lease)
			return plugin.Error(pluginName, fmt.Errorf("%s - %w", b.where, err))
		}
		b.handler.registrar = s
	}
	return nil
}

// restart is called when another instance is about to be made to replace this.
func (inst *instance) restart() {
	inst.registrars.mu.Lock()
	defer inst.registrars.mu.Unlock()
	inst.registrars.restarting[inst.lease] = true
}

// restartFailed is called when no other instance could replace this one, but
// also when one has, and a shutdown callback failed thereafter. live tells
// whether the instance with that lease serves.
func (inst *instance) restartFailed(live func(*lease) bool) {
	for _, l := range inst.registrars.successors(inst.lease) {
		if !live(l) {
			inst.registrars.release(l)
		}
	}
}

// shutdown is called when this instance has been replaced, and when CoreDNS
// ends. In the latter case the registrar serves on until finalShutdown, so that
// health's lameduck has answers.
func (inst *instance) shutdown() {
	if inst.registrars.replaced(inst.lease) {
		inst.registrars.release(inst.lease)
	}
}

// finalShutdown is called when CoreDNS ends.
func (inst *instance) finalShutdown() error { return inst.registrars.release(inst.lease)() }

// begin notes which instance the one with this lease is to replace. If several
// are being replaced at once, that is not to be known.
func (rs *registrars) begin(l *lease) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.restarting) == 1 {
		for old := range rs.restarting {
			l.successorOf = old
		}
	}
}

// successors returns the leases that were to replace l, whose restart is over.
func (rs *registrars) successors(l *lease) []*lease {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.restarting, l)
	var found []*lease
	for _, s := range rs.running {
		for other := range s.leases {
			if other.successorOf == l {
				found = append(found, other)
			}
		}
	}
	return found
}

// replaced reports whether a restart of the instance was under way, which has
// succeeded.
func (rs *registrars) replaced(l *lease) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	was := rs.restarting[l]
	delete(rs.restarting, l)
	for _, s := range rs.running {
		for other := range s.leases {
			if other.successorOf == l {
				other.successorOf = nil
			}
		}
	}
	return was
}

func joinAddrs(addrs []netip.AddrPort) string {
	var b strings.Builder
	for i, a := range addrs {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a.String())
	}
	return b.String()
}
