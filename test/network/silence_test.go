package network_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/looks"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// detection is how long an element that cannot be reached may be named with the timers'
// defaults, and what a busy machine may take longer.
const detection = 3600*time.Millisecond + 2*time.Second

// notShort leaves out what takes more than two seconds.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes more than two seconds")
	}
}

// counted is site with metrics.
func counted(options ...string) string {
	return strings.Replace(site(options...), "errors\n", "errors\n prometheus 127.0.0.1:9153\n", 1)
}

// members registers n elements of a pool on a host, from an identifier on.
func members(h *network.Host, pool, registrar string, from, n int) {
	for i := range n {
		h.RSP("register", "-p", pool, "-s", "tcp:80", "-r", registrar, "-q", "--id", fmt.Sprintf("%08x", from+i))
	}
}

// look begins to look at a pool from the server's own host.
func look(t *testing.T, h *network.Host, pool string) *looks.Looks {
	t.Helper()
	conn, err := h.Dial("udp", net.JoinHostPort("127.0.0.1", "53"))
	if err != nil {
		t.Fatal(err)
	}
	return looks.Start(t, conn, pool+"."+network.Zone)
}

// count counts the answers in a time that do not name exactly n elements.
func count(w *looks.Looks, from, to time.Time, n int) (wrong int) {
	for _, l := range w.Between(from, to) {
		if len(l.IDs) != n {
			wrong++
		}
	}
	return wrong
}

// doubts are the registrar's figures of its suspects and guards.
func doubts(t *testing.T, h *network.Host) (suspects, pools, registrar int) {
	t.Helper()
	text, err := metrics(h)
	if err != nil {
		t.Fatal(err)
	}
	figure := func(name string) int { return sum(text, `coredns_rserpool_`+name+`\{[^}]*\}`) }
	return figure("suspects"), figure("pools_guarded"), figure("registrar_guarded")
}

// atRest waits until the registrar has no doubt, and tells how long that took.
func atRest(t *testing.T, h *network.Host) time.Duration {
	t.Helper()
	return network.Eventually(t, "no doubt", func() error {
		if s, p, r := doubts(t, h); s+p+r > 0 {
			return fmt.Errorf("%d suspects, %d pools guarded, registrar guarded: %d", s, p, r)
		}
		return nil
	})
}

// asked waits until each element was asked once, so that the registrar knows the time of a
// round trip: the interval between two keep-alives at most.
func asked() { time.Sleep(2200 * time.Millisecond) }

// cutTime is how long a cut lasts.
func cutTime() time.Duration {
	if *long {
		return time.Minute
	}
	return 8 * time.Second
}

// TestRegistrarCutOff: the registrar's own link fails, in several ways. Its answers stay
// as they are: with ten elements and more it takes its own side for the cause, with
// fewer ones the pools are guarded.
func TestRegistrarCutOff(t *testing.T) {
	notShort(t)
	for _, fault := range []struct {
		name      string
		cut, mend func(r *network.Host)
	}{
		{"packets vanish", func(r *network.Host) { r.Eth0().Wire(network.Wire{Dead: true}) }, func(r *network.Host) { r.Eth0().Wire(network.Wire{}) }},
		{"interface down", func(r *network.Host) { r.Eth0().Down() }, func(r *network.Host) { r.Eth0().Up() }},
		{"cable pulled", func(r *network.Host) { r.Eth0().Unplug() }, func(r *network.Host) { r.Eth0().Plug() }},
		{"route prohibited", func(r *network.Host) { r.IP("route add prohibit 10.98.1.2/32") }, func(r *network.Host) { r.IP("route del prohibit 10.98.1.2/32") }},
	} {
		for _, n := range []int{3, 12} {
			if n == 3 && fault.name != "packets vanish" && !*long {
				continue
			}
			t.Run(fmt.Sprintf("%s, %d elements", fault.name, n), func(t *testing.T) {
				t.Parallel()
				cutOff(t, n, fault.cut, fault.mend)
			})
		}
	}
}

func cutOff(t *testing.T, n int, cut, mend func(r *network.Host)) {
	net := network.New(t)
	r, e := machine(net, "registrar", "10.98.1.1"), machine(net, "elements", "10.98.1.2")
	p := r.CoreDNS(counted(""))
	r.Serving("127.0.0.1")
	members(e, "web", "10.98.1.1", 1, n)
	w := look(t, r, "web")
	w.All(n)
	asked()
	start := time.Now()
	cut(r)
	time.Sleep(cutTime() / 2)
	p.Signal(syscall.SIGUSR1)
	p.WaitFor("Reloading complete")
	time.Sleep(time.Until(start.Add(cutTime())))
	suspects, pools, registrar := doubts(t, r)
	mended := time.Now()
	mend(r)
	rest := atRest(t, r)
	w.All(n)
	w.NeverEmpty(start)
	from, wantSuspects, wantPools, wantRegistrar := start, 0, 0, 1
	if n < 10 {
		from, wantSuspects, wantPools, wantRegistrar = start.Add(detection), n, 1, 0
	}
	part := w.Settled(mended, func(l looks.Look) bool { return len(l.IDs) == n })
	t.Logf("cut for %v: %d suspects, %d pools guarded, registrar guarded: %d; no doubt %v after the end; all are named at all times from %v after it on",
		mended.Sub(start).Round(time.Millisecond), suspects, pools, registrar, rest.Round(time.Millisecond), part.Round(time.Millisecond))
	if wrong := count(w, from, mended, n); wrong > 0 {
		t.Errorf("%d answers are without some of the elements", wrong)
	}
	if suspects != wantSuspects || pools != wantPools || registrar != wantRegistrar {
		t.Errorf("%d suspects, %d pools guarded, registrar guarded: %d; want %d, %d, %d", suspects, pools, registrar, wantSuspects, wantPools, wantRegistrar)
	}
}

// TestSomeCutOff: part of the network is cut off. If less than half of the elements are
// there, they are out of the answers, but for a pool that has no others. If it is more
// than half, the registrar takes its own side for the cause, and answers as before.
func TestSomeCutOff(t *testing.T) {
	notShort(t)
	t.Parallel()
	net := network.New(t)
	r := machine(net, "registrar", "10.98.1.1")
	most, few := machine(net, "most", "10.98.1.2"), machine(net, "few", "10.98.1.3")
	r.CoreDNS(counted(""))
	r.Serving("127.0.0.1")
	members(most, "both", "10.98.1.1", 0x10, 6)
	members(few, "both", "10.98.1.1", 0x20, 3)
	members(most, "most", "10.98.1.1", 0x30, 3)
	members(few, "few", "10.98.1.1", 0x40, 3)
	all := map[string]*looks.Looks{}
	sizes := map[string]int{"both": 9, "most": 3, "few": 3}
	for pool, n := range sizes {
		all[pool] = look(t, r, pool)
		all[pool].All(n)
	}
	asked()
	for _, side := range []struct {
		name string
		host *network.Host
		both int // are named then
	}{{"6 of 15", few, 6}, {"9 of 15", most, 9}} {
		start := time.Now()
		net.LAN.Cut([]*network.Host{r}, []*network.Host{side.host})
		time.Sleep(cutTime())
		suspects, pools, registrar := doubts(t, r)
		mended := time.Now()
		net.LAN.Mend()
		rest := atRest(t, r)
		for pool, w := range all {
			w.All(sizes[pool])
			w.NeverEmpty(start)
			n, from := sizes[pool], start.Add(detection)
			if pool == "both" {
				n = side.both
			}
			if wrong := count(w, from, mended, n); wrong > 0 {
				t.Errorf("%s cut off: %d answers for pool %s do not name %d elements", side.name, wrong, pool, n)
			}
		}
		t.Logf("%s cut off for %v: %d suspects, %d pools guarded, registrar guarded: %d; no doubt %v after the end",
			side.name, mended.Sub(start).Round(time.Millisecond), suspects, pools, registrar, rest.Round(time.Millisecond))
	}
}

// TestPeerCutOff: one of two registrars loses its link. Neither has an empty answer: the
// other one takes the elements over, which live, and the one that is cut off keeps what
// it knows. Afterwards both know all.
func TestPeerCutOff(t *testing.T) {
	notShort(t)
	t.Parallel()
	net := network.New(t)
	a, b := machine(net, "a", "10.98.1.1"), machine(net, "b", "10.98.1.2")
	ea, eb := machine(net, "ea", "10.98.1.11"), machine(net, "eb", "10.98.1.12")
	const enrp = "timer PEER-HEARTBEAT-CYCLE 1s\ntimer MAX-TIME-LAST-HEARD 3s\ntimer MAX-TIME-NO-RESPONSE 1s\ntimer MENTOR-DISCOVERY-TIMEOUT 1s"
	a.CoreDNS(counted(enrp, "enrp 10.98.1.1", "peer 10.98.1.2"))
	b.CoreDNS(counted(enrp, "enrp 10.98.1.2", "peer 10.98.1.1"))
	a.Serving("127.0.0.1")
	b.Serving("127.0.0.1")
	members(ea, "web", "10.98.1.1", 0x10, 3)
	members(eb, "web", "10.98.1.2", 0x20, 3)
	members(ea, "a", "10.98.1.1", 0x30, 2)
	members(eb, "b", "10.98.1.2", 0x40, 2)
	sizes := map[string]int{"web": 6, "a": 2, "b": 2}
	type view struct {
		at   string
		pool string
		*looks.Looks
	}
	var views []view
	for pool, n := range sizes {
		for _, h := range []*network.Host{a, b} {
			v := view{h.Name, pool, look(t, h, pool)}
			v.All(n)
			views = append(views, v)
		}
	}
	start := time.Now()
	b.Eth0().Wire(network.Wire{Dead: true})
	time.Sleep(2 * cutTime())
	mended := time.Now()
	for _, h := range []*network.Host{a, b} {
		s, p, r := doubts(t, h)
		t.Logf("%s after %v: %d suspects, %d pools guarded, registrar guarded: %d", h.Name, mended.Sub(start).Round(time.Millisecond), s, p, r)
	}
	b.Eth0().Wire(network.Wire{})
	for _, h := range []*network.Host{a, b} {
		rest := atRest(t, h)
		t.Logf("%s has no doubt %v after the end", h.Name, rest.Round(time.Millisecond))
	}
	for _, v := range views {
		v.All(sizes[v.pool])
		t.Logf("at %s:", v.at)
		v.NeverEmpty(start)
		wrong := count(v.Looks, start, mended, sizes[v.pool])
		t.Logf("%d answers of %s for pool %s do not name %d elements", wrong, v.at, v.pool, sizes[v.pool])
		if wrong > 0 && v.at == "a" {
			t.Errorf("a, which reaches all elements, does not name all of pool %s", v.pool)
		}
	}
}

// TestLoss: 5 % of the packets are lost in each direction. No element is taken for a
// suspect by that: it would have to lose an ask and six repeats, or their answers, in a
// row. In the kernel lab the elements and the registrar use the kernel's SCTP.
func TestLoss(t *testing.T) {
	notShort(t)
	t.Parallel()
	n, d := 50, 10*time.Second
	lab := os.Getenv("IN_UML") != ""
	if *long {
		n, d = 1000, 10*time.Minute
	}
	if lab { // it has one slow processor, for the wire too
		n /= 10
	}
	lan := network.New(t)
	r, e := machine(lan, "registrar", "10.98.1.1"), machine(lan, "elements", "10.98.1.2")
	p := r.CoreDNS(counted(""))
	r.Serving("127.0.0.1")
	self := e.Command(os.Args[0])
	self.Env = append(os.Environ(), fmt.Sprintf("NETWORK_ELEMENTS=web 10.98.1.1 %d", n))
	e.StartCommand(self).WaitFor("all registered")
	figures := func() (sent, late, removed int) {
		text, err := metrics(r)
		if err != nil {
			t.Fatal(err)
		}
		return sum(text, `coredns_rserpool_keepalives_sent_total\{[^}]*\}`), sum(text, `coredns_rserpool_suspected_total\{[^}]*\}`), sum(text, `coredns_rserpool_elements_removed_total\{[^}]*\}`)
	}
	sent, late, removed := figures()
	e.Eth0().Wire(network.Wire{Loss: 0.05})
	start := time.Now()
	most := 0
	for time.Since(start) < d {
		<-time.After(100 * time.Millisecond)
		s, _, g := doubts(t, r)
		most = max(most, s+g)
	}
	sent2, late2, removed2 := figures()
	lines := strings.Count(p.Output(), "suspect")
	t.Logf("%d elements for %v: %d keep-alives, %d suspects, %d removed; %d suspects at a time, %d lines of them", n, d, sent2-sent, late2-late, removed2-removed, most, lines)
	if removed2 > removed {
		t.Error("living elements are removed")
	}
	// If the machine is busy, the lab's processor stands still for seconds. Captures show that
	// the elements' kernel acknowledges all keep-alives meanwhile, and that their process does
	// not run.
	if !lab && (late2 > late || most > 0 || lines > 0) {
		t.Error("living elements are taken for suspects")
	}
}
