package registrars

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rserpool/coredns-rserpool/internal/control"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Registrar is a registrar that runs; *host.Host is one.
type Registrar interface {
	Space() *handlespace.Space
	Ready() bool
	Answers() bool
	Stats() host.Stats
	ID() rserpool.ServerID
	LocalAddrs() []netip.AddrPort
	ENRPAddrs() []netip.AddrPort
	SetRules(registrar.PoolRules)
	CheckTrust(host.Trust) error
	SetTrust(host.Trust) error
	LookAtTrust()
	Remove(context.Context, rserpool.PoolHandle, rserpool.PEID) (registrar.Removed, error)
	Close() error
}

// Set is the running registrars of a process, shared by all that lease them.
type Set struct {
	open func(host.Config) (Registrar, error)

	mu      sync.Mutex
	running []*shared
	// restarting are the leases of instances that are being replaced.
	restarting map[*Lease]bool
}

// shared is a registrar with its leases. A registrar without leases is being closed, and
// stays in the list until its ports are free.
type shared struct {
	Registrar // nil until it is opened
	options   Options
	// opened is closed when the registrar is opened, or cannot be; up tells that it is.
	opened  chan struct{}
	up      bool
	control *control.Server // nil if there is none
	pools   atomic.Pointer[Pools]
	trust   atomic.Pointer[host.Trust]
	leases  map[*Lease]bool
	closed  chan struct{}
}

// Lease is one CoreDNS instance's hold on registrars. It does not refer to the
// instance, see Instance.
type Lease struct {
	// successorOf is the lease of the instance that this one replaces, while the restart
	// is in progress, and if it is known.
	successorOf *Lease
	// begins are called, once, when the instance that this one replaces has ended.
	begins []func()
	// ends are called, once, when the lease ends.
	ends []func()
}

// New makes an empty set. open starts a registrar.
func New(open func(host.Config) (Registrar, error)) *Set {
	return &Set{open: open, restarting: map[*Lease]bool{}}
}

// conflict returns why a registrar with these options can neither run beside the present
// ones nor be one of them. acquire checks again.
func (rs *Set) conflict(o Options) error {
	for _, s := range rs.inUse() {
		c := o.clash(s.options)
		switch {
		case c == nil:
		case o.mode() != s.options.mode():
			return o.cannotChange(s.options, c)
		case o.sameAddresses(s.options):
			return fmt.Errorf("%s; a running registrar keeps its options until CoreDNS is restarted", c.why)
		default:
			return fmt.Errorf("%s, which runs; a reload cannot move a registrar: if that one is to serve at %s from now on, restart CoreDNS. Otherwise %s", c.why, o, c.advice)
		}
	}
	return nil
}

// acquire adds a lease to the registrar with these options, and starts the registrar if
// it does not run yet.
func (rs *Set) acquire(l *Lease, o Options) (*shared, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i := 0; i < len(rs.running); i++ {
		s := rs.running[i]
		err := o.conflict(s.options)
		switch same := o.sameAddresses(s.options); {
		case len(s.leases) == 0 && (same || err != nil):
			rs.await(s.closed) // its ports will be free soon
			i = -1
		case err != nil:
			return nil, err
		case same && !s.up:
			rs.await(s.opened) // another instance starts it
			i = -1
		case same:
			if !s.leases[l] { // the first block: all trust the same peers
				s.leases[l] = true
				log.Infof("registrar at %s is kept with its registrations", o)
				if err := s.followTrust(l, o.Trust); err != nil {
					return nil, fmt.Errorf("registrar at %s: %w", o, trust.Name(err, fileOptions))
				}
				s.followPools(l, o.Pools)
			}
			return s, nil
		}
	}
	return rs.start(l, o)
}

// await gives back the lock until something has happened.
func (rs *Set) await(happened <-chan struct{}) {
	rs.mu.Unlock()
	<-happened
	rs.mu.Lock()
}

// start starts a registrar. The caller has the lock, which start gives back meanwhile: that can take
// seconds, in which the other registrars are asked whether they are ready, and for their metrics.
func (rs *Set) start(l *Lease, o Options) (*shared, error) {
	s := &shared{options: o, leases: map[*Lease]bool{l: true}, opened: make(chan struct{}), closed: make(chan struct{})}
	rs.running = append(rs.running, s)
	rs.mu.Unlock()
	err := s.open(rs.open)
	rs.mu.Lock()
	s.up = err == nil
	close(s.opened)
	if err != nil {
		rs.drop(s)
		return nil, fmt.Errorf("registrar at %s: %w", o, err)
	}
	log.Info(s.serves())
	return s, nil
}

// open opens the registrar, and its socket for commands.
func (s *shared) open(open func(host.Config) (Registrar, error)) (err error) {
	if s.Registrar, err = open(s.options.config()); err != nil {
		return trust.Name(err, fileOptions)
	}
	s.pools.Store(&s.options.Pools)
	s.trust.Store(&s.options.Trust)
	if err = s.takeCommands(); err != nil {
		_ = s.Close()
	}
	return err
}

// serves says where the registrar serves what.
func (s *shared) serves() string {
	text := "registrar serves ASAP at " + joinAddrs(s.LocalAddrs())
	if enrp := s.ENRPAddrs(); len(enrp) > 0 {
		text += ", ENRP at " + joinAddrs(enrp)
	}
	if s.options.Via != rserpool.ViaKernel {
		text += fmt.Sprintf(", SCTP in UDP at port %d", s.options.EncapPort)
	}
	return text + "; its server identifier is " + idName(s.ID())
}

// drop removes a registrar whose ports are free. The caller has the lock.
func (rs *Set) drop(s *shared) {
	rs.running = slices.DeleteFunc(rs.running, func(o *shared) bool { return o == s })
	close(s.closed)
}

// restore has the registrars of a lease follow the pool lines and the rights of its blocks
// again, after those of an instance that does not serve.
func (rs *Set) restore(l *Lease, blocks []Block) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, s := range rs.running {
		for _, b := range blocks {
			if s.up && s.leases[l] && b.Options.sameAddresses(s.options) {
				s.setPools(b.Options.Pools)
				if err := s.setTrust(b.Options.Trust); err != nil {
					log.Errorf("registrar at %s keeps the files and rights of the Corefile that failed: %v", s.options, err)
				}
			}
		}
	}
}

// release ends a lease. Registrars without leases are closed in the background;
// the returned function waits for that.
func (rs *Set) release(l *Lease) (wait func() error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.restarting, l)
	for _, end := range l.ends {
		end()
	}
	l.ends = nil
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

// Sweep ends the leases of instances that are not live.
func (rs *Set) Sweep(live func(*Lease) bool) {
	rs.mu.Lock()
	all := rs.leases()
	rs.mu.Unlock()
	for _, l := range all {
		if !live(l) {
			rs.release(l)
		}
	}
}

// leases are all leases of running registrars. The caller has the lock.
func (rs *Set) leases() []*Lease {
	all := map[*Lease]bool{}
	for _, s := range rs.running {
		maps.Copy(all, s.leases)
	}
	return slices.Collect(maps.Keys(all))
}

// close closes a registrar in the background.
func (rs *Set) close(s *shared) (wait func() error) {
	var err error
	go func() {
		if <-s.opened; !s.up {
			return // it was dropped
		}
		s.endCommands()
		if err = s.Close(); err != nil {
			err = fmt.Errorf("registrar at %s: %w", s.options, err)
		}
		rs.mu.Lock()
		defer rs.mu.Unlock()
		log.Infof("registrar at %s has stopped", s.options)
		rs.drop(s)
	}()
	return func() error {
		<-s.closed
		return err
	}
}

// inUse returns the registrars with a lease, without those that are being started.
func (rs *Set) inUse() []*shared {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(rs.running), func(s *shared) bool { return len(s.leases) == 0 || !s.up })
}

// Ready reports whether there is a registrar in use, and all of them are ready.
func (rs *Set) Ready() bool {
	running := rs.inUse()
	for _, s := range running {
		if !s.Ready() {
			return false
		}
	}
	return len(running) > 0
}

func joinAddrs(addrs []netip.AddrPort) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, " ")
}
