package soak

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/here"
	"golang.org/x/sys/unix"
)

// needLab skips what needs the kernel lab (test/lab): kernel SCTP, a clock to
// set, or interfaces to take addresses from.
func needLab(t *testing.T) {
	t.Helper()
	if !inLab() {
		t.Skip("needs the kernel lab: run test/lab/all")
	}
}

// sh runs a command line without quoting.
func sh(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// TestLabKill: an element whose process is killed is in no answer 200 ms later,
// while there are a hundred others, or a thousand. The kills are judged
// together: some lose their time to whatever else the machine does.
func TestLabKill(t *testing.T) {
	needLab(t)
	others, victims := 100, 5
	if *long {
		others, victims = 1000, 25
	}
	p := freePorts(t, "127.0.0.1")
	p.transport = "auto"
	s := startServer(t, p, p.corefile("timer LINGER 1s", "errors"))
	before := s.mustUsage()
	c := &churn{t: t, s: s, kind: "kernel", pools: []string{"web"}, places: others, each: 1}
	rest := c.actor(1)
	if err := rest.fill(func() string { return "web" }); err != nil {
		t.Fatal(err)
	}
	c.places = 1
	var crowd []*actor
	for i := range victims {
		a := c.actor(uint64(i))
		crowd = append(crowd, a)
		if err := a.fill(func() string { return "web" }); err != nil {
			t.Fatal(err)
		}
	}
	var took []time.Duration
	for _, a := range crowd {
		id := uint32(a.places[0].elements[0])
		start := time.Now()
		a.crowd.signal(syscall.SIGKILL)
		asked := time.Since(start)
		for there := true; there; {
			if asked > patience {
				t.Fatalf("element %08x is still there", id)
			}
			time.Sleep(5 * time.Millisecond) // there is one processor, for the dying too
			asked = time.Since(start)
			var err error
			if there, err = s.present("web", id); err != nil {
				t.Fatal(err)
			}
		}
		took = append(took, asked)
	}
	slices.Sort(took)
	t.Logf("with %d others: killed elements were gone after %v", others, took)
	if median, most := took[len(took)/2], here.Paced(t, 200*time.Millisecond); median > most {
		t.Errorf("half of the killed elements were there for %v, want at most %v", median, most)
	}
	if err := rest.closeAll(); err != nil {
		t.Error(err)
	}
	s.asBefore(before)
}

// TestLabThousands is TestThousands over kernel SCTP, where the kernel ends the
// associations of a killed process.
func TestLabThousands(t *testing.T) {
	needLab(t)
	crowds, places, each, pools, rate := 4, 10, 3, 10, 100
	tm := timers{2 * time.Second, 3 * time.Second, time.Second}
	life, pace := 8*time.Second, 20*time.Millisecond
	if *long {
		crowds, places, each, pools, rate = 4, 250, 2, 50, 100
		tm = timers{20 * time.Second, 10 * time.Second, 4 * time.Second}
		life, pace = 3*time.Minute, 20*time.Millisecond
	}
	p := freePorts(t, "127.0.0.1")
	p.transport = "auto"
	s := startServer(t, p, p.corefile(tm.options(), "errors"))
	c := &churn{t: t, s: s, kind: "kernel", bounds: tm.kernel(), places: places, each: each}
	if !*long { // on a busy machine the lab's processor does everything later
		c.bounds[hung] += slack()
	}
	for i := range pools {
		c.pools = append(c.pools, fmt.Sprint([]string{"rr", "lu"}[i%2], i))
	}
	c.run(crowds, rate, life, pace)
}

// TestLabModule: SCTP is loaded into the kernel between two starts of CoreDNS.
// The other way round is a boot in between, as the module cannot be unloaded.
func TestLabModule(t *testing.T) {
	needLab(t)
	if os.Getenv("UML_NO_SCTP") == "" {
		t.Skip("needs the kernel lab without SCTP: run test/lab/gotest with -n")
	}
	dir := os.Getenv("UML_MODPROBE_DIR")
	autoload := "/proc/sys/kernel/modprobe"
	path, err := os.ReadFile(autoload)
	if err != nil {
		t.Fatal(err)
	}
	set := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(autoload, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	set([]byte("/bin/false"))
	defer set(path)
	noKernelSCTP(t)
	sh(t, "modprobe -d "+dir+" sctp")
	for _, transport := range []string{"auto", "kernel"} {
		p := freePorts(t, "127.0.0.1")
		p.transport = transport
		s := startServer(t, p, p.corefile("", ""))
		c := startCrowd(t, p, "kernel")
		for _, command := range []string{"open 1 127.0.3.1", "register 1 web 00000001 0"} {
			if err := c.do("%s", command); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(s.log.String(), "no SCTP") {
			t.Errorf("transport %s: the log says that the kernel has no SCTP:\n%s", transport, s.log)
		}
		s.stop()
	}
}

// setClock sets the clock forward.
func setClock(t *testing.T, by time.Duration) {
	t.Helper()
	now := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
	if err := unix.Settimeofday(&now); err != nil {
		t.Fatal(err)
	}
}

// TestLabClockTrusted: in a trusted scope, the clock steps past the ends of all certificates, and back
// after a few minutes. No element is removed by that, no answer is empty, and the log names the clock.
func TestLabClockTrusted(t *testing.T) {
	needLab(t)
	if !*long {
		t.Skip("with -long only: it takes minutes")
	}
	const n = 12
	p := freePorts(t, "127.0.0.1")
	r := newRotation(t, p, n, trusttest.New(t, "example.org", time.Now()))
	r.more = "timer KEEP-ALIVE-INTERVAL 1s"
	r.server = startServer(t, p, r.text())
	x := startThrong(t, p, "web", n, throngTLSEnv+"="+r.dir)
	x.all(4 * patience)
	questions := ask(t, p.dnsAddr(), 50, 4, func(int64) question {
		return question{name: "web." + zone, qtype: dns.TypeA, check: func(m *dns.Msg, _ time.Time) error { return living(m) }}
	})
	silent := func(want float64) {
		t.Helper()
		eventuallyWithin(t, 10*patience, fmt.Sprint(want, " silent elements"), func() error {
			if got := r.metric("coredns_rserpool_suspects") + r.metric("coredns_rserpool_elements_spared"); got != want {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
	}
	setClock(t, 2*time.Hour)
	silent(n)
	eventuallyWithin(t, 10*patience, "a line about the clock", func() error {
		if log := r.log.String(); !strings.Contains(log, "our certificate ended at") {
			return errors.New(log)
		}
		return nil
	})
	setClock(t, -2*time.Hour)
	silent(0)
	questions.judge(t)
	if got := r.metric("coredns_rserpool_elements_removed_total"); got != 0 || r.metric("coredns_rserpool_elements") != n {
		t.Errorf("%v elements removed\n%s", got, r.log)
	}
}

// TestLabClock: the clock is set. No element is lost by that, and the
// zone's serial number does not go back.
func TestLabClock(t *testing.T) {
	needLab(t)
	tm := timers{time.Second, 10 * time.Second, time.Second}
	p := freePorts(t, "127.0.0.1")
	s := startServer(t, p, p.corefile(tm.options(), "errors"))
	before := s.mustUsage()
	members := p.members(t, 5)
	serial := func() uint32 {
		t.Helper()
		m, err := s.query(zone, dns.TypeSOA)
		if err != nil || len(m.Answer) != 1 {
			t.Fatalf("SOA: %v, %v", m, err)
		}
		return m.Answer[0].(*dns.SOA).Serial
	}
	questions := ask(t, p.dnsAddr(), 50, 4, one("web"))
	last := serial()
	steps := []time.Duration{time.Hour, -2 * time.Hour}
	if *long {
		steps = append(steps, 25*time.Hour, -24*time.Hour)
	}
	for i, d := range steps {
		acked := s.metric("coredns_rserpool_keepalives_acked_total")
		setClock(t, d)
		p.member(t, "other", uint32(100+i), fmt.Sprintf("127.0.3.%d", i+1)).leave(t)
		// Everybody is asked twice after the step.
		eventually(t, "keep-alives after the step", func() error {
			if n := s.metric("coredns_rserpool_keepalives_acked_total") - acked; n < float64(2*len(members)) {
				return fmt.Errorf("%v", n)
			}
			return nil
		})
		if n := serial(); int32(n-last) <= 0 {
			t.Errorf("after a step by %v and two changes the serial number is %d, and was %d", d, n, last)
		} else {
			last = n
		}
	}
	questions.judge(t)
	for _, m := range members {
		m.undisturbed(t)
	}
	if n := s.metric("coredns_rserpool_keepalives_timed_out_total"); n != 0 {
		t.Errorf("%v keep-alives timed out", n)
	}
	for _, m := range members {
		m.leave(t)
	}
	s.asBefore(before)
}

// TestLabAddressRemoved: an address is taken from an element's interface, and comes back.
// The element is out of the answers meanwhile. Then the registrar's own address is taken:
// no element answers, and all of them stay in the answers.
func TestLabAddressRemoved(t *testing.T) {
	needLab(t)
	rsp := strings.TrimSuffix(binary.Path(t, "coredns"), "coredns") + "rsp"
	for _, transport := range []string{"udp", "kernel"} {
		t.Run(transport, func(t *testing.T) {
			sh(t, "ip link add br0 type bridge forward_delay 0 mcast_snooping 0")
			t.Cleanup(func() { sh(t, "ip link del br0") })
			sh(t, "ip addr add 10.98.0.254/24 dev br0")
			sh(t, "ip link set br0 up")
			for i, name := range []string{"reg", "ele", "oth"} {
				sh(t, "ip netns add "+name)
				t.Cleanup(func() { sh(t, "ip netns del "+name) })
				sh(t, fmt.Sprintf("ip link add p%d type veth peer name eth0 netns %s", i, name))
				t.Cleanup(func() { sh(t, fmt.Sprintf("ip link del p%d", i)) }) // the kernel may keep the namespace for associations that end slowly
				sh(t, fmt.Sprintf("ip -n %s addr add 10.99.0.%d/24 dev eth0", name, i+1))
				sh(t, fmt.Sprintf("ip link set p%d master br0 up", i))
				sh(t, fmt.Sprintf("ip -n %s link set eth0 up", name))
				sh(t, fmt.Sprintf("ip -n %s link set lo up", name))
			}
			// DNS has an address that stays: in a network of its own, as others
			// of a network go with its first one.
			sh(t, "ip -n reg addr add 10.98.0.1/24 dev eth0")
			tm := timers{time.Second, 2 * time.Second, time.Second}
			p := ports{host: "10.98.0.1", dns: 53, asap: 3863, encap: 9899, met: 9153, pro: 6053, transport: "auto"}
			corefile := strings.Replace(p.corefile(tm.options(), "errors"), "asap 10.98.0.1:3863", "asap 10.99.0.1:3863", 1)
			s := startServer(t, p, corefile, "ip", "netns", "exec", "reg")
			before := s.mustUsage()
			var elements []*exec.Cmd
			for i, name := range []string{"ele", "oth"} {
				e := exec.Command("ip", "netns", "exec", name, rsp, "register", "--registrar", "10.99.0.1", "--via", transport,
					"--pool", "web", "--serve", "tcp:8080", "--address", fmt.Sprintf("10.99.0.%d", i+2), "--reregister", "3s", "--id", fmt.Sprint(7+i))
				log := newLines()
				out, err := e.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				e.Stderr = e.Stdout
				if err := e.Start(); err != nil {
					t.Fatal(err)
				}
				go log.read(out)
				t.Cleanup(func() {
					_ = e.Process.Kill()
					_ = e.Wait()
					if t.Failed() {
						t.Logf("rsp register:\n%s", log)
					}
				})
				elements = append(elements, e)
			}
			w := s.look("web")
			w.All(2)
			bound := tm.userSpace()[hung] + refusal
			if !*long { // on a busy machine the lab's processor does everything later
				bound += slack()
			}
			start := time.Now()
			sh(t, "ip -n ele addr del 10.99.0.2/24 dev eth0")
			out := w.Out(7, start)
			back := time.Now()
			sh(t, "ip -n ele addr add 10.99.0.2/24 dev eth0")
			t.Logf("the element's address removed: out after %v; back %v after it was there again", out.Round(time.Millisecond), w.In(7, back).Round(time.Millisecond))
			if out > bound {
				t.Errorf("an element without its address is named for %v, want %v at most", out, bound)
			}
			w.All(2)

			start = time.Now()
			sh(t, "ip -n reg addr del 10.99.0.1/24 dev eth0")
			eventuallyWithin(t, 2*patience, "a guarded pool", func() error {
				n, err := s.metrics("coredns_rserpool_pools_guarded")
				if err == nil && n != 1 {
					err = fmt.Errorf("%v pools guarded", n)
				}
				return err
			})
			guarded := time.Now()
			if judged := guarded.Sub(start); judged > bound+here.Paced(t, 500*time.Millisecond) { // with a look at the metrics
				t.Errorf("the pool is guarded after %v, want %v at most", judged, bound)
			}
			time.Sleep(tm.interval + tm.timeout) // it stays so
			part := 0
			for _, l := range w.Between(guarded, time.Now()) {
				if len(l.IDs) != 2 {
					part++
				}
			}
			back = time.Now()
			sh(t, "ip -n reg addr add 10.99.0.1/24 dev eth0")
			eventuallyWithin(t, 2*patience, "end of all doubt", func() error {
				n, err := s.metrics("coredns_rserpool_suspects")
				if err == nil && n != 0 {
					err = fmt.Errorf("%v suspects", n)
				}
				return err
			})
			t.Logf("the registrar's address removed: %d answers without one of the elements; no doubt %v after it was there again", part, time.Since(back).Round(time.Millisecond))
			if part > 0 {
				t.Error("the answers of a registrar without its address are not what they were")
			}
			w.NeverEmpty(start)
			for _, e := range elements {
				_ = e.Process.Signal(syscall.SIGTERM)
			}
			s.asBefore(before)
		})
	}
}
