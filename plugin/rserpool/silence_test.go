package rserpool

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/control"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// relay carries SCTP in UDP between an element and a registrar, until it is cut.
type relay struct {
	port int // where it takes the element's packets
	cut  atomic.Bool
}

func newRelay(t *testing.T, encap int) *relay {
	t.Helper()
	near, far := listenUDP(t), listenUDP(t)
	r := &relay{port: near.LocalAddr().(*net.UDPAddr).Port}
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: encap}
	var element atomic.Pointer[net.UDPAddr]
	var carriers sync.WaitGroup
	carriers.Go(func() {
		r.carry(near, func(b []byte, from *net.UDPAddr) {
			element.Store(from)
			_, _ = far.WriteToUDP(b, to)
		})
	})
	carriers.Go(func() {
		r.carry(far, func(b []byte, _ *net.UDPAddr) {
			if at := element.Load(); at != nil {
				_, _ = near.WriteToUDP(b, at)
			}
		})
	})
	t.Cleanup(func() {
		_, _ = near.Close(), far.Close()
		carriers.Wait()
	})
	return r
}

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// carry hands over what comes in, until the socket is closed.
func (r *relay) carry(c *net.UDPConn, hand func([]byte, *net.UDPAddr)) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDP(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil && !r.cut.Load():
			hand(buf[:n], from)
		}
	}
}

// gauge is the value of a metric without labels but registrar.
func gauge(t *testing.T, name string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "coredns_rserpool_"+name {
			if len(f.GetMetric()) != 1 {
				t.Fatalf("%s: got %d values, want one", name, len(f.GetMetric()))
			}
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// silent is a CoreDNS with three elements of the pool web that can be cut off.
type silent struct {
	*server
	text     func(options string) string
	control  string
	relays   [3]*relay
	elements [3]*registered
}

// startSilent starts one that has its state in a directory of this name, if it is not "".
func startSilent(t *testing.T, state string) *silent {
	t.Helper()
	dir := here.ShortDir(t)
	p := freePorts(t)
	s := &silent{control: filepath.Join(dir, "s")}
	if state != "" {
		state = fmt.Sprintf("state %q\n", filepath.Join(dir, state))
	}
	s.text = func(options string) string {
		options = state + options
		return fmt.Sprintf("pool.example.org:0 {\n rserpool {\n%stimer KEEP-ALIVE-INTERVAL 50ms\ntimer KEEP-ALIVE-TIMEOUT 300ms\ncontrol %q\naddresses all\n%s\n}\n}\n", p.options(), s.control, options)
	}
	s.server = startServer(t, s.text(""))
	for i := range s.relays {
		s.relays[i] = newRelay(t, p.encap)
		s.elements[i] = register(t, ports{p.asap, s.relays[i].port}, "web", rsp.PEID(1+i))
	}
	return s
}

// waitElements waits until A and SRV answers have these elements, and the text says so.
func (s *silent) waitElements(elements int, suspects int, guarded string) {
	s.t.Helper()
	s.waitFor(fmt.Sprintf("answer with %d elements", elements), "web."+zoneZ, dns.TypeSRV, func(m *dns.Msg) bool { return len(m.Answer) == elements })
	want := fmt.Sprintf(`"elements=%d" "transport=tcp" "suspects=%d" "guarded=%s"`, elements, suspects, guarded)
	s.waitFor("text "+want, "_rserpool.web."+zoneZ, dns.TypeTXT, func(m *dns.Msg) bool { return strings.Contains(lines(m.Answer), want) })
	eventually(s.t, fmt.Sprintf("metric suspects is %d", suspects), func() bool { return gauge(s.t, "suspects") == float64(suspects) })
}

// watchAnswers asks all the time, until the returned function is called, which returns the first
// answer without an element.
func (s *silent) watchAnswers() (end func() string) {
	var bad atomic.Pointer[string]
	stop, addr := make(chan struct{}), s.addr()
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			m, err := dns.Exchange(new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA), addr)
			if err == nil && len(m.Answer) == 0 {
				text := m.String()
				bad.CompareAndSwap(nil, &text)
			}
		}
	})
	return func() string {
		close(stop)
		asking.Wait()
		if text := bad.Load(); text != nil {
			return *text
		}
		return ""
	}
}

// TestServerSilence: a silent element leaves the answers and comes back by itself; a pool that is
// silent as a whole keeps its answers, unless the Corefile says otherwise; and an operator
// can remove what is dead.
func TestServerSilence(t *testing.T) {
	var log strings.Builder
	stdlog.SetOutput(&log)
	defer clog.Discard()
	s := startSilent(t, "")
	s.waitElements(3, 0, "no")

	s.relays[0].cut.Store(true)
	s.waitElements(2, 1, "no")
	if m := s.query("pe-00000001.web."+zoneZ, dns.TypeA); !isUnknown(m) {
		t.Errorf("the name of a suspect: got\n%s\nwant NXDOMAIN", m)
	}
	s.relays[0].cut.Store(false)
	s.waitElements(3, 0, "no")

	end := s.watchAnswers()
	for _, r := range s.relays {
		r.cut.Store(true)
	}
	s.waitElements(3, 3, "yes")
	if got := gauge(t, "pools_guarded"); got != 1 {
		t.Errorf("metric pools_guarded is %v, want 1", got)
	}
	if text := end(); text != "" {
		t.Errorf("while all elements fall silent, an answer is\n%s", text)
	}

	if err := s.reload(s.text("guard off")); err != nil {
		t.Fatal(err)
	}
	s.waitFor("NXDOMAIN", "web."+zoneZ, dns.TypeA, isUnknown)
	if err := s.reload(s.text("guard off\npool we? guard 50%")); err != nil {
		t.Fatal(err)
	}
	s.waitElements(3, 3, "yes")

	if got := s.remove(2); got != control.Removed {
		t.Errorf("removal of a suspect: got %q", got)
	}
	if got := s.remove(2); got != control.Unknown {
		t.Errorf("second removal: got %q", got)
	}
	s.waitElements(2, 2, "yes")

	for _, r := range s.relays {
		r.cut.Store(false)
	}
	// The element that was removed may be back: it learns of it when it answers a keep-alive that
	// was on its way.
	s.waitFor("text without suspects", "_rserpool.web."+zoneZ, dns.TypeTXT, func(m *dns.Msg) bool {
		return strings.Contains(lines(m.Answer), `"suspects=0" "guarded=no"`)
	})
	for i, e := range s.elements {
		if n := e.count(pe.Registered); i != 1 && e.count(pe.HomeLost) == 0 && n != 1 {
			t.Errorf("element %d has not lost its home, and has registered %d times, want once", 1+i, n)
		}
	}
	s.stop() // nobody writes to the log any more
	for line, want := range map[string]int{
		`[WARNING] plugin/rserpool: pool "web" is guarded: 3 of its 3 elements are suspects`:                      2,
		`[WARNING] plugin/rserpool: pool "web" is no longer guarded: 3 of its 3 elements`:                         1,
		`[WARNING] plugin/rserpool: pool "web" is no longer guarded: `:                                            2,
		`[WARNING] plugin/rserpool: pool "web" has no element in answers: the last 3 are suspects, and guard off`: 1,
		`[INFO] plugin/rserpool: pool element 00000001 of pool "web" is a suspect`:                                2,
		`[INFO] plugin/rserpool: pool element 00000001 of pool "web" answers again`:                               2,
		`[INFO] plugin/rserpool: pool element 00000002 of pool "web" is removed: an operator`:                     1,
	} {
		if got := strings.Count(log.String(), line); got < want {
			t.Errorf("%d lines %q, want at least %d, in\n%s", got, line, want, &log)
		}
	}
}

func (s *silent) remove(id rsp.PEID) control.Result {
	s.t.Helper()
	resp, err := control.Call(context.Background(), s.control, control.Request{Remove: &control.Element{Pool: []byte("web"), ID: id}})
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Result
}

// TestServerWarmStart: a CoreDNS that starts again answers with its elements at once, though it
// has not heard from them, and hears from them later. An operator can remove them meanwhile.
func TestServerWarmStart(t *testing.T) {

	s := startSilent(t, "state")
	s.waitElements(3, 0, "no")
	eventually(t, "the state is stored", func() bool { return gauge(t, "state_behind") == 0 && gauge(t, "state_pending") == 0 })
	before := s.query(zoneZ, dns.TypeSOA).Answer[0].(*dns.SOA).Serial
	s.stop()
	for _, r := range s.relays {
		r.cut.Store(true)
	}
	s.server = startServer(t, s.text("pool web metrics"))
	if m := s.query("web."+zoneZ, dns.TypeA); len(m.Answer) != 1 { // all are at one address
		t.Errorf("the first answer is\n%s\nwant an address", m)
	}
	if m := s.query("web."+zoneZ, dns.TypeSRV); len(m.Answer) != 3 {
		t.Errorf("the first answer is\n%s\nwant three elements", m)
	}
	if m := s.query("web."+zoneZ, dns.TypeAAAA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("the first answer about another type is\n%s\nwant NODATA", m)
	}
	if after := s.query(zoneZ, dns.TypeSOA).Answer[0].(*dns.SOA).Serial; after < before {
		t.Errorf("the serial number was %d and is %d", before, after)
	}
	if !process.Ready() {
		t.Error("the registrar is not ready, though it has no peers")
	}
	eventually(t, "three elements are unconfirmed", func() bool { return gauge(t, "elements_unconfirmed") == 3 })
	if got := s.remove(2); got != control.Removed {
		t.Errorf("removal of an unconfirmed element: got %q", got)
	}
	s.waitElements(2, 0, "no")
	for _, r := range s.relays {
		r.cut.Store(false)
	}
	eventually(t, "the other elements are confirmed", func() bool { return gauge(t, "elements_unconfirmed") == 0 })
	s.waitFor("both", "web."+zoneZ, dns.TypeSRV, func(m *dns.Msg) bool { return len(m.Answer) >= 2 })
}
