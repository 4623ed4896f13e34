package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// echo answers packets on a host.
func echo(t *testing.T, h *Host, at string) {
	t.Helper()
	c, err := h.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			// The answer has the sender's address, as seen here, for NAT.
			_, _ = c.WriteTo(append([]byte(from.String()+" "), buf[:n]...), from)
		}
	}()
}

// ask sends n bytes to an echo and gives how the sender looked there, and how
// long it took; within is how long an answer may take.
func ask(h *Host, at string, n int, within time.Duration) (string, time.Duration, error) {
	c, err := h.Dial("udp", at)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	start := time.Now()
	_ = c.SetDeadline(start.Add(within))
	if _, err := c.Write(make([]byte, n)); err != nil {
		return "", 0, err
	}
	buf := make([]byte, 1<<16)
	n, err = c.Read(buf)
	from, _, _ := strings.Cut(string(buf[:n]), " ")
	return from, time.Since(start), err
}

// soon is how long a packet that is lost is waited for.
const soon = 200 * time.Millisecond

func reach(t *testing.T, h *Host, at string) string {
	t.Helper()
	from, _, err := ask(h, at, 10, Patience)
	if err != nil {
		t.Fatalf("%s to %s: %v", h.Name, at, err)
	}
	return from
}

func lost(t *testing.T, h *Host, at string, n int) {
	t.Helper()
	if from, _, err := ask(h, at, n, soon); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%s to %s: %s, %v, want it to be lost", h.Name, at, from, err)
	}
}

func TestHostsReachEachOther(t *testing.T) {
	n := New(t)
	a, b := n.Host("a", "10.98.1.1/24", "fd98:1::1/64"), n.Host("b", "10.98.1.2/24", "fd98:1::2/64")
	echo(t, b, ":7")
	for _, at := range []string{"10.98.1.2:7", "[fd98:1::2]:7"} {
		reach(t, a, at)
	}
	if all := a.Run("ls", "/sys/class/net"); strings.Join(strings.Fields(all), " ") != "eth0 lo" {
		t.Errorf("/sys has the interfaces %q, want eth0 and lo", all)
	}
	if _, err := net.InterfaceByName("eth0"); err == nil {
		if i, _ := net.InterfaceByName("eth0"); strings.HasPrefix(i.HardwareAddr.String(), "02:00:00:00:") {
			t.Error("the test itself has an interface of the network")
		}
	}
}

// TestWires: each thing that can be done to a wire, as a sender sees it.
func TestWires(t *testing.T) {
	n := New(t)
	a, b := n.Host("a", "10.98.1.1/24"), n.Host("b", "10.98.1.2/24")
	const at = "10.98.1.2:7"
	echo(t, b, ":7")
	reach(t, a, at)

	a.Eth0().Wire(Wire{Dead: true})
	lost(t, a, at, 10)
	a.Eth0().Wire(Wire{MTU: 1200})
	lost(t, a, at, 1200)
	reach(t, a, at)
	a.Eth0().Wire(Wire{Delay: 50 * time.Millisecond})
	if _, took, err := ask(a, at, 10, Patience); err != nil || took < 100*time.Millisecond {
		t.Errorf("a round trip took %v, %v, want 100 ms at least", took, err)
	}
	a.Eth0().Wire(Wire{Loss: 0.5})
	got := 0
	for range 40 {
		if _, _, err := ask(a, at, 10, soon/10); err == nil {
			got++
		}
	}
	if got == 0 || got == 40 {
		t.Errorf("%d of 40 packets came through a wire that loses each second one", got)
	}
	a.Eth0().Wire(Wire{})
	n.LAN.Cut([]*Host{a}, []*Host{b})
	lost(t, a, at, 10)
	n.LAN.Mend()
	reach(t, a, at)

	a.Eth0().Unplug()
	if out := a.IP("link show dev eth0"); !strings.Contains(out, "NO-CARRIER") {
		t.Errorf("a link without its cable is %s", out)
	}
	a.Eth0().Plug()
	reach(t, a, at)
	a.Eth0().Down()
	if _, _, err := ask(a, at, 10, soon); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("error over a link that is down: %v, want network is unreachable", err)
	}
	a.Eth0().Up()
	reach(t, a, at)
}

func TestErrorsOfICMPAreLost(t *testing.T) {
	n := New(t)
	a, b := n.Host("a", "10.98.1.1/24", "fd98:1::1/64"), n.Host("b", "10.98.1.2/24", "fd98:1::2/64")
	echo(t, b, ":7")
	for _, ip := range []string{"10.98.1.2", "[fd98:1::2]"} {
		b.Eth0().Wire(Wire{})
		if _, _, err := ask(a, ip+":9", 10, Patience); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: error of a closed port: %v", ip, err)
		}
		b.Eth0().Wire(Wire{NoICMP: true})
		lost(t, a, ip+":9", 10)
		reach(t, a, ip+":7")
	}
}

// TestContainer: behind docker0 and NAT, as Docker does it.
func TestContainer(t *testing.T) {
	n := New(t)
	out, h := n.Host("out", "10.98.1.1/24"), n.Host("host", "10.98.1.2/24")
	h.Bridge("docker0", "172.17.0.1/16")
	c := h.Container("c", "docker0", "172.17.0.2/16")
	echo(t, out, ":7")
	echo(t, c, ":7")
	h.Masquerade("eth0")
	h.Publish("eth0", "udp dport 77", "172.17.0.2:7")
	if from := reach(t, c, "10.98.1.1:7"); !strings.HasPrefix(from, "10.98.1.2:") {
		t.Errorf("a container looks like %s, want its host, 10.98.1.2", from)
	}
	if from := reach(t, out, "10.98.1.2:77"); !strings.HasPrefix(from, "10.98.1.1:") {
		t.Errorf("a client looks like %s to a container", from)
	}
}

func TestSeveralLANs(t *testing.T) {
	n := New(t)
	second := n.NewLAN()
	a, b := n.Host("a", "10.98.1.1/24"), n.Host("b", "10.98.1.2/24")
	a.Link("eth1", second, "10.98.2.1/24")
	b.Link("eth1", second, "10.98.2.2/24")
	frames := 0
	second.Watch(func([]byte) bool { frames++; return true })
	echo(t, b, ":7")
	reach(t, a, "10.98.2.2:7")
	second.mu.Lock()
	defer second.mu.Unlock()
	if frames == 0 {
		t.Error("no frame crossed the second LAN")
	}
}

func TestProcess(t *testing.T) {
	n := New(t)
	h := n.Host("h", "10.98.1.1/24")
	h.File("/etc/hostname", "other\n")
	p := h.Start("sh", "-c", `trap 'kill $!; exit 3' TERM; cat /etc/hostname; echo up; sleep 100 & wait`)
	p.WaitFor("up")
	p.Next("other")
	p.Next("up")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if out := h.IP("-br addr show dev eth0"); !strings.Contains(out, "10.98.1.1/24") {
		t.Errorf("ip says %q", out)
	}
	if _, err := h.Try("sh", "-c", "echo wrong >&2; exit 1"); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("the error of a command is %v", err)
	}
}

// TestOrphansEnd: what a process of the host leaves behind ends with the test,
// though it is in a process group of its own.
func TestOrphansEnd(t *testing.T) {
	var pid int
	t.Run("inner", func(t *testing.T) {
		p := New(t).Host("h").Start("setsid", "sh", "-c", "sleep 1000 >/dev/null & echo $!.")
		p.WaitFor(".")
		if _, err := fmt.Sscan(strings.TrimSpace(strings.TrimSuffix(p.Output(), ".\n")), &pid); err != nil {
			t.Fatal(err)
		}
	})
	if pid == 0 {
		t.Skip("LEFT OUT: see above")
	}
	Eventually(t, "the end of the orphan", func() error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d lives", pid)
		}
		return nil
	})
}

// TestNothingIsLeft: a test that is killed leaves neither processes nor
// namespaces.
func TestNothingIsLeft(t *testing.T) {
	if os.Getenv("NETWORK_TEST_CHILD") != "" {
		h := New(t).Host("h", "10.98.1.1/24")
		p := h.Start("sleep", "1000")
		fmt.Printf("process %d\n", p.PID())
		select {}
	}
	n := New(t)
	outer := n.Host("outer")
	cmd := outer.Command(os.Args[0], "-test.run", "^TestNothingIsLeft$", "-test.v")
	cmd.Env = append(os.Environ(), "NETWORK_TEST_CHILD=1")
	p := outer.StartCommand(cmd)
	p.WaitFor("process ")
	var pid int
	Eventually(t, "a number", func() error {
		_, rest, _ := strings.Cut(p.Output(), "process ")
		line, _, ok := strings.Cut(rest, "\n")
		if !ok {
			return errors.New("not yet")
		}
		_, err := fmt.Sscan(line, &pid)
		return err
	})
	p.Signal(syscall.SIGKILL)
	p.Wait()
	Eventually(t, "the end of the child's process", func() error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d lives", pid)
		}
		return nil
	})
}
