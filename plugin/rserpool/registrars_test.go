package rserpool

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/host"
)

// fakes makes registrars without network and keeps them by where they serve.
type fakes struct {
	made map[string][]*fakeRegistrar
	// next, if not nil, prepares a registrar before it is started.
	next func(*fakeRegistrar)
}

func newFakes() (*fakes, *registrars) {
	f := &fakes{made: map[string][]*fakeRegistrar{}}
	return f, newRegistrars(f.make)
}

func (f *fakes) make(c host.Config) (backend, error) {
	r := newFake()
	if f.next != nil {
		f.next(r)
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

func at(addr string) options {
	o := defaultOptions()
	o.asap = addrPorts(addr)
	return o
}

// startInstance makes an instance with a block for each registrar and starts
// it.
func startInstance(t *testing.T, rs *registrars, blocks ...options) *instance {
	t.Helper()
	inst := newInstance(rs)
	for _, o := range blocks {
		if err := inst.add(&block{options: o, handler: &Handler{}, where: "Testfile:1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := inst.startup(); err != nil {
		t.Fatal(err)
	}
	return inst
}

// waitClosed waits until no registrar at addr is known any more.
func waitClosed(t *testing.T, rs *registrars, addr string) {
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

func never(*lease) bool { return false }

func TestBlocksShare(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1), at(addr1), at(addr2))
	f.only(t, addr1)
	f.only(t, addr2)
	if a, b := inst.blocks[0].handler.registrar, inst.blocks[1].handler.registrar; a != b {
		t.Error("blocks with equal options have different registrars")
	}
	if a, b := inst.blocks[0].handler.registrar, inst.blocks[2].handler.registrar; a == b {
		t.Error("blocks with different addresses have the same registrar")
	}
	if err := inst.finalShutdown(); err != nil {
		t.Fatal(err)
	}
	if a, b := f.only(t, addr1), f.only(t, addr2); a.closed.Load() != 1 || b.closed.Load() != 1 {
		t.Errorf("after the end: closed %d and %d times, want once each", a.closed.Load(), b.closed.Load())
	}
}

func TestReloadKeeps(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	for range 20 {
		inst.restart()
		next := startInstance(t, rs, at(addr1))
		inst.shutdown()
		inst = next
	}
	if r := f.only(t, addr1); r.started.Load() != 1 || r.closed.Load() != 0 {
		t.Errorf("after 20 reloads: started %d times and closed %d times, want 1 and 0", r.started.Load(), r.closed.Load())
	}
	inst.shutdown() // the process ends: health's lameduck still wants answers
	if f.only(t, addr1).closed.Load() != 0 {
		t.Error("closed before the final shutdown")
	}
	if err := inst.finalShutdown(); err != nil {
		t.Fatal(err)
	}
	if f.only(t, addr1).closed.Load() != 1 {
		t.Error("not closed by the final shutdown")
	}
	if len(rs.running) != 0 || len(rs.restarting) != 0 {
		t.Errorf("left over: %d registrars, %d restarts", len(rs.running), len(rs.restarting))
	}
}

func TestReloadChangesBlocks(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	inst.restart()
	next := startInstance(t, rs, at(addr2))
	inst.shutdown()
	waitClosed(t, rs, addr1)
	if f.only(t, addr1).closed.Load() != 1 || f.only(t, addr2).closed.Load() != 0 {
		t.Errorf("registrar that no block uses: closed %d times, the new one %d times; want 1 and 0",
			f.only(t, addr1).closed.Load(), f.only(t, addr2).closed.Load())
	}
	next.finalShutdown()
}

func TestFailedReload(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	// Later plugins fail when ours have started already: CoreDNS drops the
	// new instance without a word.
	inst.restart()
	startInstance(t, rs, at(addr1), at(addr2))
	inst.restartFailed(never)
	waitClosed(t, rs, addr2)
	if f.only(t, addr1).closed.Load() != 0 || f.only(t, addr2).closed.Load() != 1 {
		t.Errorf("the old registrar was closed %d times, the one of the failed reload %d times; want 0 and 1",
			f.only(t, addr1).closed.Load(), f.only(t, addr2).closed.Load())
	}
	// A failure before our startup.
	inst.restart()
	inst.restartFailed(never)
	// Then one that succeeds, and the end.
	inst.restart()
	next := startInstance(t, rs, at(addr1))
	inst.shutdown()
	if f.only(t, addr1).closed.Load() != 0 {
		t.Error("registrar was closed although an instance uses it")
	}
	next.shutdown()
	next.finalShutdown()
	if f.only(t, addr1).closed.Load() != 1 || len(rs.running) != 0 {
		t.Error("registrar was not closed at the end")
	}
}

// TestReloadFailedLate: an error of some plugin's shutdown is a failed restart
// to CoreDNS, though the new instance serves and the old one has stopped.
func TestReloadFailedLate(t *testing.T) {
	f, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	inst.restart()
	next := startInstance(t, rs, at(addr1), at(addr2))
	inst.restartFailed(func(l *lease) bool { return l == next.lease })
	if f.only(t, addr1).closed.Load() != 0 || f.only(t, addr2).closed.Load() != 0 {
		t.Error("registrar of a serving instance was closed")
	}
	next.finalShutdown()
	if f.only(t, addr2).closed.Load() != 1 {
		t.Error("registrar was not closed at the end")
	}
}

// TestInstanceIsGarbage: CoreDNS drops an instance and tells nobody, as the
// one before it had no rserpool block.
func TestInstanceIsGarbage(t *testing.T) {
	f, rs := newFakes()
	startInstance(t, rs, at(addr1))
	awaitCollected(t, "the registrar without instance ends", rs.snapshot()[0].closed)
	if n := f.only(t, addr1).closed.Load(); n != 1 {
		t.Errorf("the registrar was closed %d times, want once", n)
	}
}

func TestStartError(t *testing.T) {
	f, rs := newFakes()
	busy := errors.New("address already in use")
	f.next = func(r *fakeRegistrar) { r.startErr = busy }
	inst := newInstance(rs)
	inst.add(&block{options: at(addr1), handler: &Handler{}, where: "Corefile:7"})
	if err := inst.startup(); !errors.Is(err, busy) || !strings.HasPrefix(err.Error(), "plugin/rserpool: Corefile:7 - ") || !strings.Contains(err.Error(), addr1) {
		t.Errorf("got error %v, want one with plugin, file and line, with %v and %s", err, busy, addr1)
	}
	// The second of two: the first must not stay.
	f.made = map[string][]*fakeRegistrar{}
	f.next = func(r *fakeRegistrar) {
		if len(f.made[addr1]) > 0 {
			r.startErr = busy
		}
	}
	inst = newInstance(rs)
	inst.add(&block{options: at(addr1), handler: &Handler{}})
	inst.add(&block{options: at(addr2), handler: &Handler{}})
	if err := inst.startup(); !errors.Is(err, busy) {
		t.Errorf("got error %v, want %v", err, busy)
	}
	waitClosed(t, rs, addr1)
	if f.only(t, addr1).closed.Load() != 1 || len(rs.running) != 0 {
		t.Error("the registrar that had started before the error still runs")
	}
	f.next = nil
	startInstance(t, rs, at(addr1)).finalShutdown()
}

func TestOptionsOfRunningRegistrar(t *testing.T) {
	_, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	inst.restart()
	changed := at(addr1)
	changed.encap = 9900
	next := newInstance(rs)
	err := next.add(&block{options: changed, handler: &Handler{}})
	if want := "encap 9900, not 9899"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("got error %v, want one with %q that says what to do", err, want)
	}
	if err := next.startup(); err == nil {
		t.Error("the registrar was started nevertheless")
	}
	inst.restartFailed(never)
	if err := inst.finalShutdown(); err != nil {
		t.Error(err)
	}
	// Once it has stopped, other options are fine.
	startInstance(t, rs, changed).finalShutdown()
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

	started := make(chan *instance)
	changed := at(addr1)
	changed.encap = 9900
	go func() { started <- startInstance(t, rs, changed) }()
	select {
	case <-started:
		t.Fatal("started while the port was taken")
	case <-time.After(10 * time.Millisecond):
	}
	close(hold)
	(<-started).finalShutdown()
	if n := len(f.made[addr1]); n != 2 {
		t.Errorf("got %d registrars, want 2 one after the other", n)
	}
}

// TestTwoRestartsAtOnce: it is not clear whose successor an instance is, so a
// failure drops none.
func TestTwoRestartsAtOnce(t *testing.T) {
	f, rs := newFakes()
	a, b := startInstance(t, rs, at(addr1)), startInstance(t, rs, at(addr1))
	a.restart()
	b.restart()
	next := startInstance(t, rs, at(addr1), at(addr2))
	b.restartFailed(never)
	if f.only(t, addr2).closed.Load() != 0 {
		t.Error("registrar was closed although its instance may serve")
	}
	a.shutdown()
	next.finalShutdown()
	b.finalShutdown()
	if f.only(t, addr1).closed.Load() != 1 || f.only(t, addr2).closed.Load() != 1 {
		t.Error("registrars were not closed at the end")
	}
}

func TestReadyOfAllRegistrars(t *testing.T) {
	f, rs := newFakes()
	defer func(p *registrars) { process = p }(process)
	process = rs
	if (&Handler{}).Ready() {
		t.Error("ready before a registrar runs")
	}
	inst := startInstance(t, rs, at(addr1), at(addr2))
	defer inst.finalShutdown()
	h := inst.blocks[0].handler
	if !h.Ready() {
		t.Error("not ready, want ready")
	}
	f.only(t, addr2).notReady.Store(true)
	if h.Ready() {
		t.Error("ready, want not ready: the other registrar is not, and CoreDNS asks one handler for all")
	}
}
