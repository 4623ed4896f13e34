package soak

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/test/here"
)

// one asks for a pool's address and wants one.
func one(pool string) func(int64) question {
	return func(int64) question {
		return question{name: pool + "." + zone, qtype: dns.TypeA, check: func(m *dns.Msg, _ time.Time) error {
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				return fmt.Errorf("not one address:\n%v", m)
			}
			return nil
		}}
	}
}

// members registers n elements of pool web, from identifier 1 on.
func (p ports) members(t *testing.T, n int) (list []*member) {
	t.Helper()
	for i := range n {
		list = append(list, p.member(t, "web", uint32(i+1), fmt.Sprintf("127.0.2.%d", i+1)))
	}
	return list
}

// TestSuspended: a server that was suspended still has the elements that live, and
// soon only those.
func TestSuspended(t *testing.T) {
	outside(t)
	tm, sleep := timers{time.Second, time.Second, time.Second}, 6*time.Second
	if *long {
		tm, sleep = timers{5 * time.Second, 5 * time.Second, 4 * time.Second}, time.Minute
	}
	p := freePorts(t, "127.0.0.1")
	s := startServer(t, p, p.corefile(tm.options(), "errors"))
	before := s.mustUsage()
	living := p.members(t, 10)
	dying := startCrowd(t, p, "udp")
	const dead = 5
	if err := dying.do("open 1 127.0.3.1"); err != nil {
		t.Fatal(err)
	}
	for i := range dead {
		if err := dying.do("register 1 web %08x 0", 100+i); err != nil {
			t.Fatal(err)
		}
	}
	here.Stop(t, s.cmd.Process.Pid)
	dying.kill()
	time.Sleep(sleep)
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	woken := time.Now()
	var gone time.Duration
	// A second after that is enough for wrong verdicts, too.
	bound := tm.interval*3/2 + 2*tm.timeout + refusal
	for time.Since(woken) < bound {
		for _, m := range living {
			there, err := s.present("web", m.id)
			if err != nil || !there {
				t.Fatalf("element %08x is not there, %v after the end of the suspension (%v): %q", m.id, time.Since(woken), err, m.events)
			}
		}
		if n, err := s.total(); err != nil {
			t.Fatal(err)
		} else if n == len(living) && gone == 0 {
			gone = time.Since(woken)
		}
		pause()
	}
	if gone == 0 {
		t.Errorf("those who were killed meanwhile are still there after %v", bound)
	}
	rehomed := 0
	for _, m := range living {
		rehomed += int(m.homeLost.Load())
	}
	t.Logf("suspended for %v: %d living elements stayed, %d times one looked for its home, %d dead ones were gone %v after it", sleep, len(living), rehomed, dead, gone.Round(time.Millisecond))
	for _, m := range living {
		m.leave(t)
	}
	s.asBefore(before)
}

// TestOutOfDescriptors: where no descriptor is left, all that needs none goes
// on, and the rest does when there are some again. CoreDNS itself spins while
// it cannot accept DNS over TCP; we do not over ASAP.
func TestOutOfDescriptors(t *testing.T) {
	outside(t)
	t.Run("ASAP", func(t *testing.T) { outOfDescriptors(t, func(p ports) int { return p.asap }, 0.3) })
	t.Run("DNS", func(t *testing.T) { outOfDescriptors(t, func(p ports) int { return p.dns }, 2) })
}

// outOfDescriptors uses them up with connections to a port. Meanwhile the server
// is to be busy for no more than a part of the time.
func outOfDescriptors(t *testing.T, port func(ports) int, busy float64) {
	tm := timers{time.Second, 3 * time.Second, time.Second}
	p := freePorts(t, "127.0.0.1")
	s := startServer(t, p, p.corefile(tm.options(), "errors"))
	members := p.members(t, 5)
	before := s.mustUsage()

	limit := unix.Rlimit{Cur: uint64(before.files + 8), Max: 1 << 12}
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Skipf("cannot limit another process's descriptors: %v", err)
	}
	questions := ask(t, p.dnsAddr(), 200, 8, one("web"))
	var conns []net.Conn
	for range 30 {
		// The kernel takes those that the server cannot.
		c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", p.host, port(p)), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	// A connection without a message is closed after a while, and the next one
	// takes the descriptor.
	eventually(t, "use of all descriptors", func() error {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
		if err == nil && len(list) < before.files+6 {
			err = fmt.Errorf("%d descriptors of %d are in use", len(list), limit.Cur)
		}
		return err
	})
	spell := tm.interval*3/2 + time.Second // every element is asked
	if *long {
		spell = 20 * time.Second
	}
	cpu := s.cpu()
	time.Sleep(spell)
	cpu = s.cpu() - cpu
	newcomer := p.member(t, "web", 50, "127.0.2.50") // over UDP, that takes none
	for _, c := range conns {
		c.Close()
	}
	t.Logf("%d connections for %d descriptors; processor time meanwhile: %v of %v", len(conns), limit.Cur, cpu, spell)
	if cpu.Seconds() > busy*spell.Seconds() {
		t.Errorf("the server was busy for %v of %v", cpu, spell)
	}
	for _, port := range []int{p.dns, p.met} {
		eventually(t, "connection again", func() error {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", p.host, port), time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	questions.judge(t)
	for _, m := range append(members, newcomer) {
		m.undisturbed(t)
	}
	newcomer.leave(t)
	if n, err := s.total(); err != nil || n != len(members) {
		t.Errorf("%d elements, %v, want %d", n, err, len(members))
	}
	if n := s.metric("coredns_rserpool_keepalives_timed_out_total"); n != 0 {
		t.Errorf("%v keep-alives timed out", n)
	}
	if n := s.metric("coredns_rserpool_keepalives_acked_total"); n < 5 {
		t.Errorf("%v keep-alives were answered, want one of each element", n)
	}
	s.atRest(usage{before.goroutines, before.files, before.heap + 2<<20})
}

// TestFullLog: no process reads the log, which is a pipe. Answers and supervision
// go on, also where each query is to be logged.
func TestFullLog(t *testing.T) {
	outside(t)
	for _, plugins := range []string{"errors", "errors\n\tlog"} {
		t.Run(strings.ReplaceAll(plugins, "\n\t", " and "), func(t *testing.T) {
			tm := timers{time.Second, 2 * time.Second, time.Second}
			p := freePorts(t, "127.0.0.1")
			s := command(t, p, p.corefile(tm.options(), plugins))
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			if _, err := unix.FcntlInt(in.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
				t.Fatal(err)
			}
			s.cmd.Stdout, s.cmd.Stderr = in, in
			s.start()
			s.serving()
			before := s.mustUsage()
			read := make(chan struct{})
			// The end of the process needs a reader, too: CoreDNS logs it.
			t.Cleanup(func() {
				select {
				case <-read:
				default:
					in.Close()
					go s.log.read(out)
				}
			})

			c := startCrowd(t, p, "udp")
			if err := c.do("open 1 127.0.3.1"); err != nil {
				t.Fatal(err)
			}
			const elements = 200 // a line each, of more than a hundred bytes
			for i := range elements {
				if err := c.do("register 1 web %08x 0", 1+i); err != nil {
					t.Fatal(err)
				}
			}
			anchor := p.member(t, "web", 1000, "127.0.2.1") // so that the pool is never empty
			questions := ask(t, p.dnsAddr(), 200, 8, one("web"))
			answers := func(n int64) {
				t.Helper()
				eventually(t, "hundreds of answers", func() error {
					if got := questions.asked.Load(); got < n {
						return fmt.Errorf("%d questions", got)
					}
					return nil
				})
			}
			answers(300) // more than a second: the registrar may log as many lines again
			c.kill()
			dead := time.Now()
			eventuallyWithin(t, tm.userSpace()[killed], "supervision", func() error {
				n, err := s.total()
				if err == nil && n != 1 {
					err = fmt.Errorf("%d elements", n)
				}
				return err
			})
			t.Logf("%d killed elements were gone after %v", elements, time.Since(dead).Round(time.Millisecond))
			answers(600)
			questions.judge(t)
			u, err := s.usage()
			t.Logf("with a full log: %v, %v", u, err)

			in.Close()
			go func() { s.log.read(out); close(read) }()
			if s.log.after(0, "is removed: ") < 0 {
				t.Error("the log has nothing about those who have gone")
			}
			anchor.leave(t)
			s.atRest(usage{before.goroutines, before.files, before.heap + 4<<20})
		})
	}
}

// TestPortTaken: CoreDNS does not start where something else serves, and says
// where that is.
func TestPortTaken(t *testing.T) {
	outside(t)
	p := freePorts(t, "127.0.0.1")
	const hint = "another program is using this address and port, perhaps another registrar; stop it, or choose another address or port"
	for _, tt := range []struct {
		network string
		port    int
		want    string
	}{
		{"udp", p.dns, "address already in use"}, // CoreDNS's own words
		{"tcp", p.dns, "address already in use"},
		{"tcp", p.asap, hint},
		{"udp", p.encap, hint},
	} {
		addr := fmt.Sprintf("%s:%d", p.host, tt.port)
		var taken interface{ Close() error }
		var err error
		if tt.network == "tcp" {
			taken, err = net.Listen("tcp", addr)
		} else {
			taken, err = net.ListenPacket("udp", addr)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, code := command(t, p, p.corefile("", "")).ran()
		if code == 0 || !strings.Contains(text, addr) || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s taken: exit code %d and\n%s\nwant another code than 0, the address, and %q", tt.network, addr, code, text, tt.want)
		}
		taken.Close()
	}
}

// TestNoKernelSCTP: a kernel without SCTP is an error where only it is to
// serve, and a line in the log where SCTP in UDP does.
func TestNoKernelSCTP(t *testing.T) {
	outside(t)
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP); err == nil {
		unix.Close(fd)
		t.Skip("this kernel has SCTP")
	}
	noKernelSCTP(t)
}

// noKernelSCTP starts CoreDNS on a kernel without SCTP.
func noKernelSCTP(t *testing.T) {
	t.Helper()
	p := freePorts(t, "127.0.0.1")
	p.transport = "kernel"
	if text, code := command(t, p, p.corefile("", "")).ran(); code == 0 || !strings.Contains(text, "modprobe sctp") {
		t.Errorf("exit code %d and\n%s\nwant another code than 0, and what to do", code, text)
	}
	p.transport = "auto"
	s := startServer(t, p, p.corefile("", ""))
	if s.log.after(0, "the kernel has no SCTP") < 0 {
		t.Error("the log does not say that the kernel has no SCTP")
	}
	p.members(t, 1)
	s.stop()
}

// ran runs a command that is to end on its own, and gives its output and exit
// code.
func (s *server) ran() (string, int) {
	s.t.Helper()
	var out bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	s.start()
	select {
	case <-s.exited:
		return out.String(), s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		s.t.Fatal("CoreDNS does not end")
		return "", 0
	}
}
