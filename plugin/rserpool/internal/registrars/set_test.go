package registrars

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// fakeRegistrar is a registrar without network.
type fakeRegistrar struct {
	notReady atomic.Bool
	startErr error
	// startRules are those of the configuration, rules those that it has got since.
	startRules registrar.PoolRules
	closed     atomic.Int32
	rules      []registrar.PoolRules
	trusts     []host.Trust
	trustErr   error
	looks      int // at the files of the trusted scope
	space      *handlespace.Space
	enrp       []netip.AddrPort
	// hold, if not nil, keeps Close until it is closed; ended is closed by Close.
	hold, ended chan struct{}
}

func (f *fakeRegistrar) Ready() bool               { return !f.notReady.Load() }
func (f *fakeRegistrar) Answers() bool             { return f.Ready() }
func (f *fakeRegistrar) Space() *handlespace.Space { return f.space }
func (f *fakeRegistrar) Stats() host.Stats         { return host.Stats{} }
func (f *fakeRegistrar) LocalAddrs() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3863")}
}

func (f *fakeRegistrar) ID() rserpool.ServerID       { return 7 }
func (f *fakeRegistrar) ENRPAddrs() []netip.AddrPort { return f.enrp }

func (f *fakeRegistrar) LookAtTrust() { f.looks++ }

func (f *fakeRegistrar) CheckTrust(host.Trust) error { return f.trustErr }

func (f *fakeRegistrar) SetTrust(t host.Trust) error {
	if f.trustErr == nil {
		f.trusts = append(f.trusts, t)
	}
	return f.trustErr
}

func (f *fakeRegistrar) SetRules(rules registrar.PoolRules) { f.rules = append(f.rules, rules) }

func (f *fakeRegistrar) Remove(_ context.Context, h rserpool.PoolHandle, id rserpool.PEID) (registrar.Removed, error) {
	if h == "none" {
		return registrar.Removed{Result: registrar.RemovalUnknown}, nil
	}
	return registrar.Removed{Result: registrar.RemovalElsewhere, Home: rserpool.ServerID(id), At: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:9901")}}, nil
}

func (f *fakeRegistrar) Close() error {
	if f.hold != nil {
		<-f.hold
	}
	if f.closed.Add(1) == 1 {
		close(f.ended)
	}
	return nil
}

// fakes makes registrars without network and keeps them by where they serve.
type fakes struct {
	made map[string][]*fakeRegistrar
	// next, if not nil, prepares a registrar before it is started.
	next func(*fakeRegistrar)
}

func newFakes() (*fakes, *Set) {
	f := &fakes{made: map[string][]*fakeRegistrar{}}
	return f, New(f.open)
}

func (f *fakes) open(c host.Config) (Registrar, error) {
	r := &fakeRegistrar{ended: make(chan struct{}), startRules: c.Rules}
	if f.next != nil {
		f.next(r)
	}
	if r.startErr != nil {
		return nil, r.startErr
	}
	key := joinAddrs(c.ASAP)
	f.made[key] = append(f.made[key], r)
	return r, nil
}

// only returns the registrar that was made for an address, which must be one.
func (f *fakes) only(t *testing.T, addr string) *fakeRegistrar {
	t.Helper()
	if len(f.made[addr]) != 1 {
		t.Fatalf("got %d registrars made for %s, want 1", len(f.made[addr]), addr)
	}
	return f.made[addr][0]
}

func at(addr string) Options {
	o := DefaultOptions()
	o.ASAP = []netip.AddrPort{netip.MustParseAddrPort(addr)}
	return o
}

// aBlock is a block whose registrar nobody uses.
func aBlock(o Options) Block {
	return Block{Options: o, Serve: func(Registrar) {}, Where: "Testfile:1"}
}

// startInstance makes an instance with a block for each registrar and starts
// it.
func startInstance(t *testing.T, rs *Set, blocks ...Options) *Instance {
	t.Helper()
	inst := rs.NewInstance()
	for _, o := range blocks {
		if err := inst.Add(aBlock(o)); err != nil {
			t.Fatal(err)
		}
	}
	if err := inst.Startup(); err != nil {
		t.Fatal(err)
	}
	return inst
}

// waitClosed waits until no registrar at addr is known any more.
func waitClosed(t *testing.T, rs *Set, addr string) {
	t.Helper()
	rs.mu.Lock()
	var closing []*shared
	for _, s := range rs.running {
		if s.options.String() == addr && len(s.leases) == 0 {
			closing = append(closing, s)
		}
	}
	rs.mu.Unlock()
	for _, s := range closing {
		<-s.closed
	}
}

const addr1, addr2 = "127.0.0.1:3863", "127.0.0.2:3863"

func never(*Lease) bool { return false }

func TestBlocksShare(t *testing.T) {
	f, rs := newFakes()
	inst := rs.NewInstance()
	var got [3]Registrar
	for i, addr := range []string{addr1, addr1, addr2} {
		b := aBlock(at(addr))
		b.Serve = func(r Registrar) { got[i] = r }
		if err := inst.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := inst.Startup(); err != nil {
		t.Fatal(err)
	}
	f.only(t, addr1)
	f.only(t, addr2)
	if got[0] != got[1] {
		t.Error("blocks with equal options have different registrars")
	}
	if got[0] == got[2] {
		t.Error("blocks with different addresses have the same registrar")
	}
	if err := inst.FinalShutdown(); err != nil {
		t.Fatal(err)
	}
	if a, b := f.only(t, addr1), f.only(t, addr2); a.closed.Load() != 1 || b.closed.Load() != 1 {
		t.Errorf("after the end: closed %d and %d times, want once each", a.closed.Load(), b.closed.Load())
	}
}

// left counts the registrars and the unfinished restarts of a set. Cleanups of instances
// that are no longer in use change both at any time.
func left(rs *Set) (running, restarting int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.running), len(rs.restarting)
}

// TestServes: the line of the start says where which protocol is served, and the identifier.
func TestServes(t *testing.T) {
	enrp := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9901"), netip.MustParseAddrPort("[::1]:9901")}
	for _, tt := range []struct {
		via  rserpool.Via
		enrp []netip.AddrPort
		want string
	}{
		{rserpool.ViaAuto, nil, "registrar serves ASAP at 127.0.0.1:3863, SCTP in UDP at port 9899; its server identifier is 0x00000007"},
		{rserpool.ViaUDP, enrp, "registrar serves ASAP at 127.0.0.1:3863, ENRP at 127.0.0.1:9901 [::1]:9901, SCTP in UDP at port 9899; its server identifier is 0x00000007"},
		{rserpool.ViaKernel, nil, "registrar serves ASAP at 127.0.0.1:3863; its server identifier is 0x00000007"},
	} {
		o := at(addr1)
		o.Via = tt.via
		s := &shared{Registrar: &fakeRegistrar{enrp: tt.enrp}, options: o}
		if got := s.serves(); got != tt.want {
			t.Errorf("got\n%s\nwant\n%s", got, tt.want)
		}
	}
}

func TestReloadKeeps(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	for range 20 {
		inst.Restart()
		next := startInstance(t, rs, at(addr1))
		inst.Shutdown()
		inst = next
	}
	if r := f.only(t, addr1); r.closed.Load() != 0 {
		t.Errorf("after 20 reloads: closed %d times, want 0", r.closed.Load())
	}
	inst.Shutdown() // the process ends: health's lameduck still wants answers
	if f.only(t, addr1).closed.Load() != 0 {
		t.Error("closed before the final shutdown")
	}
	if err := inst.FinalShutdown(); err != nil {
		t.Fatal(err)
	}
	if f.only(t, addr1).closed.Load() != 1 {
		t.Error("not closed by the final shutdown")
	}
	if running, restarting := left(rs); running != 0 || restarting != 0 {
		t.Errorf("left over: %d registrars, %d restarts", running, restarting)
	}
}

// TestOnBegin: an instance begins when the one before it has ended.
func TestOnBegin(t *testing.T) {
	_, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	begun := 0
	count := func() { begun++ }
	check := func(when string, want int) {
		t.Helper()
		if begun != want {
			t.Errorf("%s: %d instances have begun, want %d", when, begun, want)
		}
	}
	inst.OnBegin(count)
	check("the first instance", 1)

	inst.Restart()
	startInstance(t, rs, at(addr1)).OnBegin(count)
	check("beside the former instance", 1)
	inst.RestartFailed(never)
	check("a failed reload", 1)

	inst.Restart()
	next := startInstance(t, rs, at(addr1))
	next.OnBegin(count)
	inst.Shutdown()
	check("the former instance has ended", 2)

	next.Restart()
	last := startInstance(t, rs, at(addr1))
	last.OnBegin(count)
	next.RestartFailed(last.Holds)
	check("a reload that fails after the start", 3)
	last.Shutdown()
	last.FinalShutdown()
}

func TestReloadChangesBlocks(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	inst.Restart()
	next := startInstance(t, rs, at(addr2))
	inst.Shutdown()
	waitClosed(t, rs, addr1)
	if f.only(t, addr1).closed.Load() != 1 || f.only(t, addr2).closed.Load() != 0 {
		t.Errorf("registrar that no block uses: closed %d times, the new one %d times; want 1 and 0",
			f.only(t, addr1).closed.Load(), f.only(t, addr2).closed.Load())
	}
	next.FinalShutdown()
}

func TestFailedReload(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	// Later plugins fail when ours have started already: CoreDNS drops the
	// new instance without a word.
	inst.Restart()
	startInstance(t, rs, at(addr1), at(addr2))
	inst.RestartFailed(never)
	waitClosed(t, rs, addr2)
	if f.only(t, addr1).closed.Load() != 0 || f.only(t, addr2).closed.Load() != 1 {
		t.Errorf("the old registrar was closed %d times, the one of the failed reload %d times; want 0 and 1",
			f.only(t, addr1).closed.Load(), f.only(t, addr2).closed.Load())
	}
	// A failure before our startup.
	inst.Restart()
	inst.RestartFailed(never)
	// Then one that succeeds, and the end.
	inst.Restart()
	next := startInstance(t, rs, at(addr1))
	inst.Shutdown()
	if f.only(t, addr1).closed.Load() != 0 {
		t.Error("registrar was closed although an instance uses it")
	}
	next.Shutdown()
	next.FinalShutdown()
	if running, _ := left(rs); f.only(t, addr1).closed.Load() != 1 || running != 0 {
		t.Error("registrar was not closed at the end")
	}
}

// TestReloadFailedLate: an error of some plugin's shutdown is a failed restart
// to CoreDNS, though the new instance serves and the old one has stopped.
func TestReloadFailedLate(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	inst.Restart()
	next := startInstance(t, rs, at(addr1), at(addr2))
	inst.RestartFailed(next.Holds)
	if f.only(t, addr1).closed.Load() != 0 || f.only(t, addr2).closed.Load() != 0 {
		t.Error("registrar of a serving instance was closed")
	}
	next.FinalShutdown()
	if f.only(t, addr2).closed.Load() != 1 {
		t.Error("registrar was not closed at the end")
	}
}

// TestInstanceIsGarbage: CoreDNS drops an instance without a callback, as the
// one before it had no rserpool block.
func TestInstanceIsGarbage(t *testing.T) {
	f, rs := newFakes()
	startInstance(t, rs, at(addr1))
	r := f.only(t, addr1)
	for range 1000 {
		runtime.GC() // the instance's cleanup runs some time after one
		select {
		case <-r.ended:
			if n := r.closed.Load(); n != 1 {
				t.Errorf("the registrar was closed %d times, want once", n)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("registrar without instance still runs")
}

func TestStartError(t *testing.T) {
	f, rs := newFakes()
	busy := errors.New("address already in use")
	f.next = func(r *fakeRegistrar) { r.startErr = busy }
	inst := rs.NewInstance()
	inst.Add(Block{Options: at(addr1), Where: "Corefile:7"})
	if err := inst.Startup(); !errors.Is(err, busy) || !strings.HasPrefix(err.Error(), "Corefile:7 - ") || !strings.Contains(err.Error(), addr1) {
		t.Errorf("got error %v, want one with file and line, with %v and %s", err, busy, addr1)
	}
	// The second of two: the first must not stay.
	f.made = map[string][]*fakeRegistrar{}
	f.next = func(r *fakeRegistrar) {
		if len(f.made[addr1]) > 0 {
			r.startErr = busy
		}
	}
	inst = rs.NewInstance()
	inst.Add(aBlock(at(addr1)))
	inst.Add(aBlock(at(addr2)))
	if err := inst.Startup(); !errors.Is(err, busy) {
		t.Errorf("got error %v, want %v", err, busy)
	}
	waitClosed(t, rs, addr1)
	if running, _ := left(rs); f.only(t, addr1).closed.Load() != 1 || running != 0 {
		t.Error("the registrar that had started before the error still runs")
	}
	f.next = nil
	startInstance(t, rs, at(addr1)).FinalShutdown()
}

func TestOptionsOfRunningRegistrar(t *testing.T) {
	_, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	inst.Restart()
	changed := at(addr1)
	changed.EncapPort = 9900
	next := rs.NewInstance()
	err := next.Add(aBlock(changed))
	if want := "encap 9900, not 9899"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("got error %v, want one with %q that says what to do", err, want)
	}
	if err := next.Startup(); err == nil {
		t.Error("the registrar was started nevertheless")
	}
	inst.RestartFailed(never)
	if err := inst.FinalShutdown(); err != nil {
		t.Error(err)
	}
	// Once it has stopped, other options are fine.
	startInstance(t, rs, changed).FinalShutdown()
}

// TestRestartWhileClosing: a registrar whose port is not free yet is waited
// for.
func TestRestartWhileClosing(t *testing.T) {
	f, rs := newFakes()
	hold := make(chan struct{})
	f.next = func(r *fakeRegistrar) { r.hold = hold }
	inst := startInstance(t, rs, at(addr1))
	rs.release(inst.lease)
	f.next = nil

	started := make(chan *Instance)
	changed := at(addr1)
	changed.EncapPort = 9900
	go func() { started <- startInstance(t, rs, changed) }()
	select {
	case <-started:
		t.Fatal("started while the port was taken")
	case <-time.After(10 * time.Millisecond):
	}
	close(hold)
	(<-started).FinalShutdown()
	if n := len(f.made[addr1]); n != 2 {
		t.Errorf("got %d registrars, want 2 one after the other", n)
	}
}

// TestStartingRegistrar: while a reload starts another registrar, the one that runs is asked as
// usual, and the instance that starts the other one may end.
func TestStartingRegistrar(t *testing.T) {
	for _, tt := range []struct {
		name     string
		startErr error
		ends     bool // the instance, meanwhile
	}{
		{"starts", nil, false},
		{"fails", errors.New("address already in use"), false},
		{"starts too late", nil, true},
		{"fails too late", errors.New("address already in use"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, rs := newFakes()
			inst := startInstance(t, rs, at(addr1))
			starting, goOn := make(chan struct{}), make(chan struct{})
			f.next = func(r *fakeRegistrar) {
				close(starting)
				<-goOn
				r.startErr = tt.startErr
			}
			inst.Restart()
			next := rs.NewInstance()
			for _, o := range []Options{at(addr1), at(addr2)} {
				if err := next.Add(aBlock(o)); err != nil {
					t.Fatal(err)
				}
			}
			started := make(chan error)
			go func() { started <- next.Startup() }()
			<-starting
			asked := make(chan int)
			go func() {
				rs.Ready()
				asked <- len(rs.inUse())
			}()
			select {
			case n := <-asked:
				if n != 1 || !rs.Ready() {
					t.Errorf("got %d registrars, ready: %v; want the one that runs", n, rs.Ready())
				}
			case <-time.After(10 * time.Second):
				close(goOn)
				t.Fatal("the registrars cannot be asked while another one starts")
			}
			if tt.ends {
				rs.release(next.lease)
			}
			close(goOn)
			if err := <-started; !errors.Is(err, tt.startErr) {
				t.Errorf("got error %v, want %v", err, tt.startErr)
			}
			inst.RestartFailed(never)
			waitClosed(t, rs, addr2)
			if running, _ := left(rs); running != 1 || tt.startErr == nil && f.only(t, addr2).closed.Load() != 1 {
				t.Errorf("%d registrars are left after the failed reload, want 1", running)
			}
			inst.FinalShutdown()
		})
	}
}

// TestTwoRestartsAtOnce: it is not clear whose successor an instance is, so a
// failure drops none.
func TestTwoRestartsAtOnce(t *testing.T) {
	f, rs := newFakes()
	a, b := startInstance(t, rs, at(addr1)), startInstance(t, rs, at(addr1))
	a.Restart()
	b.Restart()
	next := startInstance(t, rs, at(addr1), at(addr2))
	b.RestartFailed(never)
	if f.only(t, addr2).closed.Load() != 0 {
		t.Error("registrar was closed although its instance may serve")
	}
	a.Shutdown()
	next.FinalShutdown()
	b.FinalShutdown()
	if f.only(t, addr1).closed.Load() != 1 || f.only(t, addr2).closed.Load() != 1 {
		t.Error("registrars were not closed at the end")
	}
}

func TestReadyOfAllRegistrars(t *testing.T) {
	f, rs := newFakes()
	if rs.Ready() {
		t.Error("ready before a registrar runs")
	}
	inst := startInstance(t, rs, at(addr1), at(addr2))
	defer inst.FinalShutdown()
	if !rs.Ready() {
		t.Error("not ready, want ready")
	}
	f.only(t, addr2).notReady.Store(true)
	if rs.Ready() {
		t.Error("ready, want not ready: the other registrar is not")
	}
}
