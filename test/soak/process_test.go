package soak

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/looks"
)

// process is an element: the command rsp.
type process struct {
	id  uint32
	cmd *exec.Cmd
	// at is when it got its last signal.
	at time.Time
}

// process starts an element of a pool at an address of its own.
func (p ports) process(t *testing.T, pool string, id uint32) *process {
	t.Helper()
	via := "udp"
	if p.transport == "auto" {
		via = "kernel"
	}
	e := &process{id: id, cmd: exec.Command(binary.Path(t, "rsp"), "register", "-p", pool, "-s", "tcp:8080", "--via", via,
		"-r", fmt.Sprintf("%s:%d/%d", p.host, p.asap, p.encap), "--id", fmt.Sprintf("%08x", id), "-q",
		"--address", fmt.Sprintf("127.0.%d.%d", 20+id>>8, id&0xff))}
	log := new(strings.Builder)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.end()
		if t.Failed() && log.Len() > 0 {
			t.Logf("element %08x: %s", e.id, log)
		}
	})
	return e
}

// processes starts n elements, from an identifier on.
func (p ports) processes(t *testing.T, pool string, from uint32, n int) (list []*process) {
	t.Helper()
	for i := range n {
		list = append(list, p.process(t, pool, from+uint32(i)))
	}
	return list
}

func (e *process) signal(s syscall.Signal) {
	e.at = time.Now()
	_ = e.cmd.Process.Signal(s)
}

func (e *process) end() {
	if e.cmd.ProcessState == nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
	}
}

// look begins to look at a pool.
func (s *server) look(pool string) *looks.Looks {
	s.t.Helper()
	conn, err := net.Dial("udp", s.dnsAddr())
	if err != nil {
		s.t.Fatal(err)
	}
	return looks.Start(s.t, conn, pool+"."+zone)
}

// portsFor are free ports of a server with this transport.
func portsFor(t *testing.T, transport string) ports {
	t.Helper()
	p := freePorts(t, "127.0.0.1")
	p.transport = transport
	return p
}

// cpu is the processor time that the server has used.
func (s *server) cpu() time.Duration { return cpuOf(s.t, s.cmd.Process.Pid) }

// cpuOf is the processor time that a process has used, as user and in the system.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var user, system int64
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):]))
	_, _ = fmt.Sscan(f[12]+" "+f[13], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// busy is the processor time that all of this machine has used, and that a host has kept from it.
func busy(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var user, nice, system, idle, wait, irq, softirq, steal int64
	_, _ = fmt.Sscan(string(bytes.TrimPrefix(b, []byte("cpu"))), &user, &nice, &system, &idle, &wait, &irq, &softirq, &steal)
	return time.Duration(user+nice+system+irq+softirq+steal) * 10 * time.Millisecond
}
