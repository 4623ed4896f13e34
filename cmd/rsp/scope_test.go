package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/enrp/guest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// newENRPRegistry is a registrar on loopback that serves ENRP as well, in the
// scope of another one if there is one.
func newENRPRegistry(t *testing.T, other *registry) *registry {
	t.Helper()
	port, enrpPort := here.FreePort(t), here.FreePort(t)
	at := func(p uint16) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p)}
	}
	cfg := host.Config{
		Config: registrar.Config{Timers: registrar.Timers{
			PeerHeartbeat: 300 * time.Millisecond, MaxTimeLastHeard: time.Second, MaxTimeNoResponse: 500 * time.Millisecond,
		}},
		ASAP: at(port), ENRP: at(enrpPort), EncapPort: port, Via: rserpool.ViaUDP,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if other != nil {
		r, err := rserpool.ParseRegistrar(other.enrp)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Peers, cfg.PeerEncapPort = r.AddrPorts(), r.EncapPort
	}
	r := startRegistry(t, cfg)
	r.enrp = fmt.Sprintf("127.0.0.1:%d/%d", enrpPort, port)
	return r
}

// scopeOfTwo are two registrars with one pool of two elements each; the pools of
// the first are web and "print er", that of the second is web.
func scopeOfTwo(t *testing.T) (one, two *registry) {
	t.Helper()
	one = newENRPRegistry(t, nil)
	two = newENRPRegistry(t, one)
	eventually(t, "the second has joined", two.Ready)
	startRSP(t, register(one, "--id", "1", "--policy", "LeastUsed:25%", "--address", "127.0.0.1")...)
	startRSP(t, register(one, "--id", "2", "--pool", "print er")...)
	startRSP(t, register(two, "--id", "3", "--policy", "LeastUsed:50%")...)
	for _, r := range []*registry{one, two} {
		r.has(t, "web", 2)
		r.has(t, "print er", 1)
	}
	return one, two
}

// TestPeersCommand: each of two registrars names the other one.
func TestPeersCommand(t *testing.T) {
	one, two := scopeOfTwo(t)
	for _, r := range []struct{ asked, other *registry }{{one, two}, {two, one}} {
		out, errs, status := rsp(t, "peers", "--json", "--via", "udp", "--registrar", r.asked.enrp)
		var got jsonPeers
		if err := json.Unmarshal([]byte(out), &got); status != exitOK || err != nil {
			t.Fatalf("status %d, %v\n%s%s", status, err, out, errs)
		}
		at := netip.MustParseAddrPort(r.other.enrp[:strings.Index(r.other.enrp, "/")])
		if got.Registrar != r.asked.ID().String() || len(got.Peers) != 1 || got.Peers[0].ID != r.other.ID().String() ||
			got.Peers[0].Port != at.Port() || !slices.Equal(got.Peers[0].Addresses, []string{"127.0.0.1"}) {
			t.Errorf("got %s, want %v at %v", out, r.other.ID(), at)
		}
	}
	out, errs, status := rsp(t, "peers", "--via", "udp", "--registrar", one.enrp)
	if lines := strings.Split(out, "\n"); status != exitOK || len(lines) != 4 ||
		!strings.HasPrefix(lines[0], "registrar "+one.ID().String()+" at 127.0.0.1:") || !strings.HasSuffix(lines[0], ", 1 peer") ||
		!strings.HasPrefix(lines[1], "ID ") || !strings.HasPrefix(lines[2], two.ID().String()+" ") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
}

// TestDumpCommand: a registrar sends all elements, or its own.
func TestDumpCommand(t *testing.T) {
	one, two := scopeOfTwo(t)
	read := func(args ...string) (pools []string) {
		t.Helper()
		out, errs, status := rsp(t, append([]string{"dump", "--json", "--via", "udp"}, args...)...)
		var got jsonDump
		if err := json.Unmarshal([]byte(out), &got); status != exitOK || err != nil {
			t.Fatalf("status %d, %v\n%s%s", status, err, out, errs)
		}
		for _, p := range got.Pools {
			for _, e := range p.Elements {
				if e.ASAP == nil || e.ASAP.Port == 0 || e.ASAP.EncapPort == 0 || !slices.Equal(e.ASAP.Addresses, []string{"127.0.0.1"}) {
					t.Errorf("element %s takes calls at %+v", e.ID, e.ASAP)
				}
				pools = append(pools, fmt.Sprintf("%s %s %s@%s", p.Pool, p.Policy, e.ID, e.Home))
			}
		}
		return pools
	}
	printer := fmt.Sprintf("print er RoundRobin 00000002@%v", one.ID())
	first, second := fmt.Sprintf("web LeastUsed 00000001@%v", one.ID()), fmt.Sprintf("web LeastUsed 00000003@%v", two.ID())
	if got, want := read("--registrar", two.enrp), []string{printer, first, second}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := read("--own", "--registrar", one.enrp), []string{printer, first}; !slices.Equal(got, want) {
		t.Errorf("its own are %q, want %q", got, want)
	}
	out, errs, status := rsp(t, "dump", "--via", "udp", "--registrar", two.enrp)
	for _, want := range []string{", 2 pools, 3 elements\n", "\npool \"print er\", policy RoundRobin, 1 element\n", "\npool \"web\", policy LeastUsed, 2 elements\n", "load 25.0%"} {
		if status != exitOK || !strings.Contains(out, want) {
			t.Errorf("status %d, no %q in\n%s%s", status, want, out, errs)
		}
	}
}

// TestGuestErrors: errors name the reason.
func TestGuestErrors(t *testing.T) {
	free := here.FreePort(t)
	nobody := fmt.Sprintf("127.0.0.1:%d/%d", free, free)
	starting := newENRPRegistry(t, &registry{enrp: nobody})
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"nobody", []string{"dump", "--via", "udp", "--timeout", "300ms", "--registrar", nobody}, exitUnreachable, nobody + ": "},
		{"what to try", []string{"peers", "--via", "udp", "--timeout", "300ms", "--registrar", nobody}, exitUnreachable, "serve ENRP there?"},
		{"no handlespace yet", []string{"dump", "--via", "udp", "--registrar", starting.enrp}, exitRefused, "it has no handlespace yet"},
		{"no time", []string{"peers", "--timeout", "0s"}, exitUsage, "--timeout"},
		{"TCP", []string{"peers", "--via", "tcp"}, exitUsage, "--via"},
		{"argument", []string{"dump", "web"}, exitUsage, "web"},
	} {
		out, errs, status := rsp(t, tt.args...)
		if status != tt.status || !strings.Contains(errs, tt.says) || out != "" {
			t.Errorf("%s: status %d, want %d, and %q in %q (%q)", tt.name, status, tt.status, tt.says, errs, out)
		}
	}
}

// TestGuestLeavesNothing: after a guest has left, the registrar removes it from its peers,
// and has nothing to take over.
func TestGuestLeavesNothing(t *testing.T) {
	r := newENRPRegistry(t, nil)
	g, err := guest.Open(guest.Config{Registrars: []string{r.enrp}, Via: rserpool.ViaUDP, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	peers := func() (n uint64) {
		for _, k := range r.Stats().Peers {
			n += k
		}
		return n
	}
	if _, list, err := g.Peers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the guest is forgotten", func() bool { return peers() == 0 })
	if got := r.Stats().Takeovers; got != (registrar.TakeoverResults{}) {
		t.Errorf("got takeovers %v", got)
	}
}

// TestDumpSuspects: a dump says which elements are suspects, and since when, in whatever order
// and parts they come.
func TestDumpSuspects(t *testing.T) {
	now := time.Now()
	element := func(id rserpool.PEID) rserpool.PoolElement {
		return rserpool.PoolElement{ID: id, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, Life: 60}
	}
	d := &dump{registrar: 0xcafe, at: "192.0.2.1:9901", pools: []dumpedPool{{handle: "web"}}}
	d.add(&d.pools[0], enrp.PoolEntry{Elements: []rserpool.PoolElement{element(7), element(3)}, Suspects: map[int]time.Duration{1: 90 * time.Second}}, now)
	d.add(&d.pools[0], enrp.PoolEntry{Elements: []rserpool.PoolElement{element(5), element(9)}, Suspects: map[int]time.Duration{0: 48 * time.Hour}}, now)
	d.sort()
	var table, object strings.Builder
	if err := d.printTable(&table); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`(?m)^([0-9a-f]{8} |registrar|pool).*?(, 1 pool.*|, policy.*|(member|suspect).*)$`).FindAllStringSubmatch(table.String(), -1)
	want := []string{
		"registrar, 1 pool, 4 elements, 2 suspects", "pool, policy RoundRobin, 4 elements, 2 suspects",
		"00000003 suspect since " + stateTime(now.Add(-90*time.Second), now), "00000005 suspect since " + now.Add(-48*time.Hour).Format("2006-01-02 15:04:05"), "00000007 member", "00000009 member",
	}
	var lines []string
	for _, m := range got {
		lines = append(lines, m[1]+m[2])
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%q\nwant\n%q\nin\n%s", lines, want, &table)
	}
	if err := d.printJSON(&object); err != nil {
		t.Fatal(err)
	}
	var out jsonDump
	if err := json.Unmarshal([]byte(object.String()), &out); err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Duration{90 * time.Second, 48 * time.Hour, 0, 0} {
		e := out.Pools[0].Elements[i]
		switch {
		case want == 0 && (e.State != "member" || e.Since != nil):
			t.Errorf("got %+v, want a member", e)
		case want > 0 && (e.State != "suspect" || e.Since == nil || !e.Since.Equal(now.Add(-want).Truncate(time.Second))):
			t.Errorf("got %+v, want a suspect for %v", e, want)
		}
	}
}

// stateTime is how a time is shown: with its date if that is not today's.
func stateTime(at, now time.Time) string {
	if at.Day() != now.Day() {
		return at.Format("2006-01-02 15:04:05")
	}
	return at.Format("15:04:05")
}
