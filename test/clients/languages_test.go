package clients_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// language is a language of docs/clients.md.
type language struct {
	need    func(testing.TB)
	command []string // runs a program, whose path is added
	program string   // in the page: it fetches a page
	edns    uint16   // the buffer size with which it asks for SRV records; 0: no EDNS
	// The program's beginning up to `until`, followed by `order`, prints for each of
	// LOOKUPS lookups the number of SRV records and the first target. Go: see goOrder.
	until, order string
}

var languages = map[string]language{
	"Go":     {need: func(testing.TB) {}, command: []string{"go", "run"}, program: "lookup.go", edns: 1232},
	"Python": {needPython, []string{python}, "lookup.py", 0, "def fetch(", pythonOrder},
	"Node":   {needNode, []string{"node"}, "lookup.mjs", 0, "let failed;", nodeOrder},
	"Java":   {needJava, []string{"java"}, "Lookup.java", 0, "    public static void main(", javaOrder},
}

const (
	pythonOrder = `
for _ in range(LOOKUPS):
    found = list(servers("web.pool.example.org"))
    print(len(found), found[0][0])
`
	nodeOrder = `
for (let i = 0; i < LOOKUPS; i++) {
  const found = byRFC2782(await resolveSrv("web.pool.example.org"));
  console.log(found.length, found[0].name);
}
`
	javaOrder = `
    public static void main(String[] args) throws Exception {
        for (int i = 0; i < LOOKUPS; i++) {
            var found = servers("web.pool.example.org");
            System.out.println(found.size() + " " + found.get(0).host);
        }
    }
}
`
)

// python is Debian's: it finds Debian's packages.
const python = "/usr/bin/python3"

func needPython(t testing.TB) {
	t.Helper()
	clients.Need(t, python, "python3")
	if err := exec.Command(python, "-c", "import dns.resolver").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no test may be left out in CI: Debian's package python3-dnspython is missing (test/setup): %v", err)
		}
		t.Skip("LEFT OUT: dnspython is not installed (Debian package python3-dnspython, see test/setup)")
	}
}

func needNode(t testing.TB) { t.Helper(); clients.Need(t, "node", "nodejs") }

// needJava leaves a test out without a JDK also in CI, which would have to install 270 MB.
func needJava(t testing.TB) {
	t.Helper()
	if out, err := exec.Command("java", "--list-modules").Output(); err != nil || !strings.Contains(string(out), "jdk.compiler@") {
		t.Skip("LEFT OUT: no JDK on this machine (Debian package openjdk-17-jdk-headless)")
	}
}

// write writes a program of the page, and returns the command that runs it.
func (l language) write(t *testing.T, text string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), l.program)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return append(slices.Clone(l.command), file)
}

// TestLanguagePrograms: the programs of docs/clients.md fetch a page. The servers with the
// highest priorities refuse connections: they try them one after the other.
func TestLanguagePrograms(t *testing.T) {
	t.Parallel()
	s := clients.New(t, corefile("ttl 0"))
	dead := s.Host("dead", "203.0.113.200")
	var want []string // the names that a client looks up, in this order
	for _, priority := range []string{"9", "8", "7"} {
		id := "0000dea" + priority
		dead.RSP("register", "--registrar", clients.Server, "--via", "udp", "--pool", "web",
			"--serve", "tcp:8080", "--id", id, "--policy", "PRIO:"+priority)
		want = append(want, "pe-"+id+".web."+network.Zone)
	}
	want = append(want, "pe-00000001.web."+network.Zone)
	s.Elements("web", clients.Element{ID: 1, Policy: "PRIO:5"}, clients.Element{ID: 2, Policy: "PRIO:1"})
	s.Registrar.Has(clients.Server, "web", 5)
	for name, l := range languages {
		c := client(s, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l.need(t)
			command := l.write(t, recipe.Text(t, l.program))
			q := clients.Watch(s.Net.LAN, clients.Server)
			got, err := c.Try(command...)
			if want := (clients.Element{ID: 1}).Page(); got != want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			list := q.Of(c)
			if len(list) == 0 || list[0].Type != dns.TypeSRV || list[0].EDNS != l.edns {
				t.Errorf("got %v, want SRV with EDNS %d first", list, l.edns)
			}
			var targets []string
			for _, x := range list {
				if x.Type == dns.TypeA {
					targets = append(targets, x.Name)
				}
			}
			if !slices.Equal(targets, want) {
				t.Errorf("got addresses of %v, want of %v", targets, want)
			}
		})
	}
}

// TestLanguageSRV: each language gets all 30 elements of a pool, by TCP, because the answer
// by UDP is cut. Each element is the first one as often as its weight says.
func TestLanguageSRV(t *testing.T) {
	t.Parallel()
	s := clients.New(t, corefile("ttl 0"))
	list := pool(1, 30)
	for i := range list {
		list[i].Policy = fmt.Sprintf("WRR:%d", []int{1, 2, 3}[i%3])
	}
	s.Elements("web", list...)
	for name, l := range languages {
		c := client(s, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l.need(t)
			const lookups = 200
			runs := 1
			if *long {
				runs = 50
			}
			q := clients.Watch(s.Net.LAN, clients.Server)
			var lines []string
			for range runs {
				lines = append(lines, l.lookups(t, c, lookups)...)
			}
			if tcp := q.TCP(c); tcp < runs*lookups { // more, if it has lost patience once
				t.Errorf("%d connections by TCP, want %d", tcp, runs*lookups)
			}
			checkShares(t, lines, runs*lookups)
		})
	}
}

// lookups runs the program's beginning up to until, and then order.
func (l language) lookups(t *testing.T, c *network.Host, n int) []string {
	t.Helper()
	if l.until == "" {
		return goOrder(t, c, n)
	}
	begin, _, ok := strings.Cut(recipe.Text(t, l.program), l.until)
	if !ok {
		t.Fatalf("%s has no %q", l.program, l.until)
	}
	text := begin + strings.ReplaceAll(l.order, "LOOKUPS", fmt.Sprint(n))
	return strings.Split(strings.TrimSpace(c.Run(l.write(t, text)...)), "\n")
}

// goOrder is the order of the Go resolver, which is that of the page's program.
func goOrder(t *testing.T, h *network.Host, lookups int) (lines []string) {
	for range lookups {
		_, list, err := resolver(h).LookupSRV(context.Background(), "http", "tcp", "web."+network.Zone)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(len(list), " ", list[0].Target))
	}
	return lines
}

// resolver is Go's own resolver on a host.
func resolver(h *network.Host) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, netw, _ string) (net.Conn, error) {
		return h.DialContext(ctx, netw, clients.Server+":53")
	}}
}

// checkShares: each line is "30 TARGET"; the elements with the weights 1, 2 and 3 are
// first in proportion.
func checkShares(t *testing.T, lines []string, lookups int) {
	t.Helper()
	var got [3]float64
	for _, line := range lines {
		var n, id int
		if _, err := fmt.Sscanf(line, "%d pe-%x.web.pool.example.org", &n, &id); err != nil || n != 30 {
			t.Fatalf("%q, want 30 records and an element: %v", line, err)
		}
		got[(id-1)%3]++
	}
	chi := 0.0
	for i, n := range got {
		want := float64(lookups) * float64(i+1) / 6
		chi += (n - want) * (n - want) / want
	}
	t.Logf("weights 1, 2 and 3 were first %v times, chi-square %.1f", got, chi)
	if len(lines) != lookups || chi > 25 { // more than 25 once in 270,000 runs
		t.Error("want them in proportion")
	}
}

// addresses are commands that look NAME up LOOKUPS times, one after the other, and print
// the addresses of each lookup in a line; and the ports from which they ask A and AAAA.
var addresses = map[string]struct {
	need    func(testing.TB)
	command []string
	ports   int
}{
	"glibc": {func(testing.TB) {}, []string{"sh", "-c", `for i in $(seq LOOKUPS); do echo $(getent ahosts NAME | awk '/STREAM/ {print $1}'); done`}, 1},
	"Python": {needPython, []string{python, "-c", `import socket
for i in range(LOOKUPS): print(*{x[4][0] for x in socket.getaddrinfo("NAME", 80)})`}, 1},
	"Node": {needNode, []string{"node", "-e", `(async () => { for (let i = 0; i < LOOKUPS; i++)
console.log((await require("dns/promises").lookup("NAME", {all: true})).map((a) => a.address).join(" ")) })()`}, 1},
	"Java": {needJava, []string{"sh", "-c", hostsJava + "java -Dsun.net.inetaddr.ttl=0 Hosts.java"}, 1},
	"Go":   {func(testing.TB) {}, nil, 2},
}

// hostsJava writes the program for Java.
const hostsJava = `cat >Hosts.java <<'END'
import java.net.InetAddress;
import java.util.Arrays;
import java.util.stream.Collectors;
public class Hosts {
    public static void main(String[] args) throws Exception {
        for (int i = 0; i < LOOKUPS; i++)
            System.out.println(Arrays.stream(InetAddress.getAllByName("NAME"))
                .map(InetAddress::getHostAddress).collect(Collectors.joining(" ")));
    }
}
END
`

// TestJavaCache: Java asks once, and keeps the answer longer than its TTL of 0.
func TestJavaCache(t *testing.T) {
	t.Parallel()
	needJava(t)
	s := clients.New(t, corefile("ttl 0"))
	s.Elements("web", pool(1, 3)...)
	c := client(s, "client")
	q := clients.Watch(s.Net.LAN, clients.Server)
	c.Run("sh", "-c", strings.NewReplacer("LOOKUPS", "9", "NAME", "web.pool.example.org").Replace(hostsJava)+"java Hosts.java")
	if got := len(q.Of(c)); got != 2 {
		t.Errorf("%d questions in nine lookups, want A and AAAA", got)
	}
}

// TestLanguageAddresses: the addresses of both families that a client gets in one lookup
// are those of one element, and a round robin goes on by one element each time.
func TestLanguageAddresses(t *testing.T) {
	t.Parallel()
	n := pairs(t)
	i := 100
	for name, test := range addresses {
		i++
		c := n.Host(name, fmt.Sprintf("192.0.2.%d/24", i), fmt.Sprintf("2001:db8::%d/64", i))
		c.File("/etc/resolv.conf", "nameserver "+clients.Server+"\n")
		t.Run(name, func(t *testing.T) {
			test.need(t)
			const lookups = 9
			q := clients.Watch(n.LAN, clients.Server)
			var lines []string
			if test.command == nil {
				lines = goAddresses(t, c, lookups)
			} else {
				replace := strings.NewReplacer("LOOKUPS", fmt.Sprint(lookups), "NAME", "pair.pool.example.org")
				var command []string
				for _, a := range test.command {
					command = append(command, replace.Replace(a))
				}
				lines = strings.Split(strings.TrimSpace(c.Run(command...)), "\n")
			}
			checkPairs(t, lines, lookups)
			ports := map[uint16]bool{}
			for _, x := range q.Of(c) {
				ports[x.Client.Port()] = true
			}
			if len(q.Of(c)) != 2*lookups || len(ports) != test.ports*lookups {
				t.Errorf("%d questions from %d ports, want %d from %d", len(q.Of(c)), len(ports), 2*lookups, test.ports*lookups)
			}
		})
	}
}

func goAddresses(t *testing.T, h *network.Host, lookups int) (lines []string) {
	for range lookups {
		list, err := resolver(h).LookupHost(context.Background(), "pair."+network.Zone)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Join(list, " "))
	}
	return lines
}

// checkPairs: each line has both addresses of an element, and each of three elements
// comes in its turn.
func checkPairs(t *testing.T, lines []string, lookups int) {
	t.Helper()
	got := map[int]int{}
	for _, line := range lines {
		last := map[int]bool{}
		for f := range strings.FieldsSeq(line) {
			a, err := netip.ParseAddr(f)
			if err != nil {
				t.Fatal(err)
			}
			b := a.AsSlice()
			last[int(b[len(b)-1]&3)] = true
		}
		if len(last) != 1 || len(strings.Fields(line)) != 2 {
			t.Errorf("got %s, want both addresses of one element", line)
		}
		for i := range last {
			got[i]++
		}
	}
	if len(lines) != lookups || got[1] != lookups/3 || got[2] != lookups/3 || got[3] != lookups/3 {
		t.Errorf("got %v in %d lookups, want each element %d times", got, len(lines), lookups/3)
	}
}

// pairs is a LAN with a pool of three elements, each with an address of both families:
// 192.0.2.N and 2001:db8::x, in which the last two bits count.
func pairs(t *testing.T) *network.Network {
	t.Helper()
	n := network.New(t)
	r := n.Host("registrar", clients.Server+"/24", "2001:db8::53/64")
	r.CoreDNS(strings.Replace(corefile("ttl 0"), "asap "+clients.Server, "asap "+clients.Server+" 2001:db8::53", 1))
	r.Serving(clients.Server)
	for i := 65; i < 68; i++ {
		v4, v6 := fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("2001:db8::%x", i)
		n.Host(fmt.Sprintf("element%d", i), v4+"/24", v6+"/64").RSP("register", "--registrar", clients.Server+",2001:db8::53",
			"--via", "udp", "--pool", "pair", "--serve", "sctp:5001", "--address", v4, "--address", v6)
	}
	network.Eventually(t, "the elements have both addresses", func() error {
		m, err := r.Query(clients.Server, "pair."+network.Zone, dns.TypeSRV)
		if err == nil && len(m.Extra) != 7 {
			err = fmt.Errorf("%v", m)
		}
		return err
	})
	return n
}
