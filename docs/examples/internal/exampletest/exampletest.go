// Package exampletest runs what the tests of the examples need: a DNS server with a registrar, and
// the examples themselves in processes that can be killed.
package exampletest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// Zone is the zone of the pools.
const Zone = "pool.example.org"

// Server is a CoreDNS with a registrar on the loopback interface.
type Server struct {
	Registrar string // as the option -registrar takes it
	DNS       string
}

// CoreDNS starts a Server, which ends with the test.
func CoreDNS(t testing.TB) Server {
	t.Helper()
	asap, encap, dns := here.FreePort(t), here.FreePort(t), here.FreePort(t)
	corefile := filepath.Join(t.TempDir(), "Corefile")
	text := fmt.Sprintf(`%s:%d {
    bind 127.0.0.1
    rserpool {
        asap 127.0.0.1:%d
        transport udp
        encap %d
        ttl 0
    }
    errors
}
`, Zone, dns, asap, encap)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(binary.Path(t, "coredns"), "-conf", corefile)).Await("CoreDNS-")
	return Server{
		Registrar: fmt.Sprintf("127.0.0.1:%d/%d", asap, encap),
		DNS:       fmt.Sprintf("127.0.0.1:%d", dns),
	}
}

// Process is a running program.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines chan string // what it prints
	ended chan struct{}
}

// start starts a program, which is killed at the end of the test.
func start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, cmd: cmd, lines: make(chan string, 1000), ended: make(chan struct{})}
	go p.read(out)
	t.Cleanup(p.Kill)
	return p
}

// Self starts this program with the arguments of the example: its TestMain must call main
// if Is.
func Self(t testing.TB, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), variable+"=1")
	return start(t, cmd)
}

// Is reports whether Self has started this process.
func Is() bool { return os.Getenv(variable) != "" }

const variable = "EXAMPLE_PROCESS"

func (p *Process) read(out io.ReadCloser) {
	defer close(p.ended)
	defer out.Close()
	for in := bufio.NewScanner(out); in.Scan(); {
		select {
		case p.lines <- in.Text():
		default: // nobody waits for it
		}
	}
}

// Await waits until the program prints a line with this text.
func (p *Process) Await(text string) {
	p.t.Helper()
	late := time.After(30 * time.Second)
	var seen []string
	for {
		select {
		case line := <-p.lines:
			if seen = append(seen, line); strings.Contains(line, text) {
				return
			}
		case <-p.ended:
			p.t.Fatalf("%v has ended without %q:\n%s", p.cmd.Args, text, strings.Join(seen, "\n"))
		case <-late:
			p.t.Fatalf("%v does not say %q within 30 s:\n%s", p.cmd.Args, text, strings.Join(seen, "\n"))
		}
	}
}

// Kill ends the process as kill -9 does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.cmd.Wait()
}
