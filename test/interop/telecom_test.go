package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	amfServer = "192.0.2.53"
	amfZone   = "5gc.mnc012.mcc345.3gppnetwork.org."
	amfSet    = "set001.region48.amfset." + amfZone
)

// telecom is the network of docs/telecom.md.
type telecom struct {
	*lab
	page  string
	hosts map[string]*node
	amfs  map[string]*proc
}

// telecom makes the hosts of the page, and starts its CoreDNS and its AMFs.
func newTelecom(t *testing.T, oldnew ...string) *telecom {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "telecom.md"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.sh("ip addr add 192.0.2.254/24 dev br0")
	tc := &telecom{lab: l, page: string(page), hosts: map[string]*node{}, amfs: map[string]*proc{}}
	for name, host := range map[string]int{"registrar": 53, "ran": 21, "host1": 11, "host2": 12, "host3": 13} {
		tc.hosts[name] = l.node(name, fmt.Sprintf("192.0.2.%d/24", host), fmt.Sprintf("198.51.100.%d/24", host))
	}
	corefile := ""
	for _, block := range regexp.MustCompile("(?ms)^```corefile Corefile\n(.*?)^```$").FindAllStringSubmatch(tc.page, -1) {
		corefile += block[1]
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(corefile, oldnew[i]) {
			t.Fatalf("no %q in the page's Corefile", oldnew[i])
		}
		corefile = strings.Replace(corefile, oldnew[i], oldnew[i+1], 1)
	}
	tc.hosts["registrar"].corednsFor(amfZone, amfServer, corefile)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range tc.hosts {
		if name != "registrar" {
			n.sysctl("net.sctp.rto_initial=400", "net.sctp.rto_min=200")
		}
	}
	for _, c := range tc.commands(`host\d`) {
		host, args := tc.hosts[c.host], strings.Fields(c.line)
		args[0] = l.bin("rsp")
		if args[len(args)-1] != "amf" {
			host.start(args...)
			continue
		}
		args[len(args)-1] = self
		role := fmt.Sprintf(`%s={"Service":"amf","Address":"%s,%s"}`, roleVariable, host.ip, strings.Replace(host.ip, "192.0.2.", "198.51.100.", 1))
		tc.amfs[c.host] = host.start(append([]string{"env", role}, args...)...)
	}
	for _, p := range tc.amfs {
		p.says("AMF serves")
	}
	tc.has(amfSet, 3)
	tc.has("epc.mnc012.mcc345.3gppnetwork.org.", 1)
	tc.has("ims.mnc012.mcc345.3gppnetwork.org.", 1)
	return tc
}

// has waits until a pool has so many elements, and says how long that took.
func (tc *telecom) has(pool string, n int) time.Duration {
	tc.t.Helper()
	return eventually(tc.t, fmt.Sprintf("%s has %d elements", pool, n), func() error {
		m, err := large(amfServer, pool, dns.TypeSRV)
		if err == nil && len(m.Answer) != n {
			err = fmt.Errorf("%d SRV records", len(m.Answer))
		}
		return err
	})
}

// documented is a command of the page and its output.
type documented struct {
	host, line string
	output     []string
}

// commands returns the commands of the hosts whose names match.
func (tc *telecom) commands(host string) (list []documented) {
	prompt := regexp.MustCompile(`^(\w+)\$ (.*)$`)
	wanted := regexp.MustCompile("^" + host + "$")
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(tc.page, -1) {
		var last *documented
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSuffix(line, "\n")
			if m := prompt.FindStringSubmatch(line); m != nil {
				last = nil
				if wanted.MatchString(m[1]) {
					list = append(list, documented{host: m[1], line: m[2]})
					last = &list[len(list)-1]
				}
			} else if last != nil {
				last.output = append(last.output, line)
			}
		}
	}
	if len(list) == 0 {
		tc.t.Fatalf("docs/telecom.md has no commands for %s", host)
	}
	return list
}

// show checks what the page says that commands show, in any order of lines.
func (tc *telecom) show() {
	tc.t.Helper()
	for _, c := range tc.commands("ran") {
		out, err := tc.hosts[c.host].run(strings.Fields(c.line)...)
		if err != nil {
			tc.t.Error(err)
			continue
		}
		var got []string
		for line := range strings.Lines(out) {
			if strings.Contains(line, "x-test:n2") || strings.Contains(line, "_ngap") {
				continue // not of the page
			}
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		want := slices.Clone(c.output)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			tc.t.Errorf("%s: got\n%s\nwant\n%s", c.line, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// ran starts a base station that looks for a service.
func (tc *telecom) ran(service string) *proc {
	tc.t.Helper()
	self, err := os.Executable()
	if err != nil {
		tc.t.Fatal(err)
	}
	return tc.hosts["ran"].start("env", roleVariable+`={"Service":"`+service+`","Address":"192.0.2.21,198.51.100.21"}`, self)
}

// associated waits until a base station has its n-th association, and returns the AMF and when
// that was.
func (tc *telecom) associated(ran *proc, n int) (amf string, when time.Time, line string) {
	tc.t.Helper()
	eventually(tc.t, fmt.Sprintf("association %d", n), func() error {
		all := regexp.MustCompile(`(?m)^associated with pe-000000(\d\d)\..*, at (\d+)$`).FindAllStringSubmatch(ran.out.String(), -1)
		if len(all) < n {
			return fmt.Errorf("%s", ran.out)
		}
		amf, line = "host"+all[n-1][1][1:], all[n-1][0]
		ms, err := strconv.ParseInt(all[n-1][2], 10, 64)
		when = time.UnixMilli(ms)
		return err
	})
	return amf, when, line
}

// kill kills an AMF and its rsp.
func (tc *telecom) kill(amf string) {
	tc.t.Helper()
	p := tc.amfs[amf]
	m := regexp.MustCompile(`AMF serves, process (\d+)`).FindStringSubmatch(p.out.String())
	pid, _ := strconv.Atoi(m[1])
	p.kill(syscall.SIGKILL)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// killed kills the AMF of a base station, which has its n-th association then, and checks that the
// base station finds another one.
func (tc *telecom) killed(ran *proc, amf string, n, left int) {
	tc.t.Helper()
	began := time.Now()
	tc.kill(amf)
	fmt.Fprintln(ran.stdin, "hello?") // an AMF without a process aborts the association then
	gone := tc.has(amfSet, left)
	next, when, line := tc.associated(ran, n)
	took := when.Sub(began)
	tc.t.Logf("%s killed: out of DNS after %v, the next one serves after %v: %s", amf, gone.Round(time.Millisecond), took.Round(time.Millisecond), line)
	if next == amf {
		tc.t.Errorf("the next AMF is the killed one")
	}
	if most := tc.paced(10 * time.Second); took > most {
		tc.t.Errorf("the next AMF serves after %v, want %v at most", took, most)
	}
}

// TestTelecom is a base station's way to an AMF, with real associations over two networks: by
// NAPTR and A, and by NAPTR, SRV and A. One network fails, and then the AMF.
func TestTelecom(t *testing.T) {
	const usual, bySRV = "naptr x-3gpp-amf:x-n2", "naptr x-test:n2 s ngap"
	tc := newTelecom(t, usual, usual+"\npool *.amfset "+bySRV)
	tc.show()

	a := tc.ran("x-3gpp-amf:x-n2")
	amf, _, line := tc.associated(a, 1)
	t.Log(line)
	a.says("2 paths")
	tc.cutNetwork(a, amf)
	tc.killed(a, amf, 2, 2)

	s := tc.ran("x-test:n2")
	amf, _, line = tc.associated(s, 1)
	t.Log(line)
	s.says("2 paths")
	tc.told(s, "hello")
	tc.killed(s, amf, 2, 1)

	last, _, _ := tc.associated(s, 2)
	tc.cut(last)
	_, _, line = tc.associated(tc.ran("x-3gpp-amf:x-n2"), 1)
	t.Log("with the first network cut before: ", line)
}

// told has the base station tell its AMF something, and says when that comes back.
func (tc *telecom) told(ran *proc, what string) time.Duration {
	tc.t.Helper()
	if _, err := fmt.Fprintln(ran.stdin, what); err != nil {
		tc.t.Fatal(err)
	}
	ran.says(what + ": back after")
	took, err := time.ParseDuration(regexp.MustCompile(what + `: back after (\S+)`).FindStringSubmatch(ran.out.String())[1])
	if err != nil {
		tc.t.Fatal(err)
	}
	return took
}

// cut cuts the first network at an AMF.
func (tc *telecom) cut(amf string) {
	tc.t.Helper()
	for _, way := range []string{"ingress", "egress"} {
		tc.sh("tc filter add dev " + tc.hosts[amf].ports[0] + " " + way + " protocol all matchall action drop")
	}
}

// cutNetwork cuts the first network at the AMF. Its association and its registration go on.
func (tc *telecom) cutNetwork(ran *proc, amf string) {
	tc.t.Helper()
	before := tc.told(ran, "before")
	tc.cut(amf)
	first, next := tc.told(ran, "first"), tc.told(ran, "next")
	tc.t.Logf("a message to %s and back: %v; the first with one network cut: %v, the next: %v", amf, before, first, next)
	if most := tc.paced(10 * time.Second); first > most || next > most {
		tc.t.Errorf("want %v at most", most)
	}
	if strings.Contains(ran.out.String(), "association lost") {
		tc.t.Errorf("the association is lost:\n%s", ran.out)
	}
	tc.has(amfSet, 3)
}
