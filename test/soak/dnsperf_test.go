package soak

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// dnsPerf is a running dnsperf, which knows nothing of us.
type dnsPerf struct {
	cmd *exec.Cmd
	out strings.Builder
}

// startDNSPerf has dnsperf ask for web's address, at most rate times a second.
// It returns nil where dnsperf is not installed.
func startDNSPerf(t *testing.T, p ports, rate int) *dnsPerf {
	t.Helper()
	if inLab() {
		return nil // its processor is too slow
	}
	path, err := exec.LookPath("dnsperf")
	if err != nil {
		t.Log("without dnsperf, which is not installed (test/setup)")
		return nil
	}
	questions := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(questions, []byte("web."+zone+" A\nweb."+zone+" SRV\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := &dnsPerf{cmd: exec.Command(path, "-s", p.host, "-p", strconv.Itoa(p.dns), "-d", questions, "-l", "3600", "-c", "4", "-T", "1", "-Q", strconv.Itoa(rate), "-t", "2", "-W")}
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.end)
	return d
}

func (d *dnsPerf) end() {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Signal(syscall.SIGINT)
		_ = d.cmd.Wait()
	}
}

var codes = regexp.MustCompile(`Response codes:\s+NOERROR (\d+) \(100\.00%\)`)

// judge ends dnsperf and fails the test if it had no answer, or one that is an
// error.
func (d *dnsPerf) judge(t *testing.T) {
	t.Helper()
	if d == nil {
		return
	}
	d.end()
	figure := func(name string) int {
		for line := range strings.Lines(d.out.String()) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Queries "+name+":"); ok {
				n, _ := strconv.Atoi(strings.Fields(rest)[0])
				return n
			}
		}
		return -1
	}
	sent, lost := figure("sent"), figure("lost")
	summary := fmt.Sprintf("dnsperf: %d queries sent, %d lost", sent, lost)
	if t.Log(summary); sent < 1 || lost != 0 || !codes.MatchString(d.out.String()) {
		t.Errorf("%s, want none lost and all NOERROR:\n%s", summary, d.out.String())
	}
}
