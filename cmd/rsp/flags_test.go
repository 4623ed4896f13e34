package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestParsePolicy(t *testing.T) {
	for in, want := range map[string]rserpool.Policy{
		"RoundRobin":           {Type: rserpool.RoundRobin},
		"rr":                   {Type: rserpool.RoundRobin},
		"round-robin":          {Type: rserpool.RoundRobin},
		"WeightedRoundRobin":   {Type: rserpool.WeightedRoundRobin, Weight: 1},
		"WeightedRoundRobin:7": {Type: rserpool.WeightedRoundRobin, Weight: 7},
		"wrand:weight=0":       {Type: rserpool.WeightedRandom},
		"PRIO:4294967295":      {Type: rserpool.Priority, Priority: 0xffffffff},
		"Priority":             {Type: rserpool.Priority},
		"LeastUsed":            {Type: rserpool.LeastUsed},
		"LeastUsed:0.25":       {Type: rserpool.LeastUsed, Load: 0x40000000},
		"LU:100%":              {Type: rserpool.LeastUsed, Load: 0xffffffff},
		"LUD:load=50%,degradation=0.25": {
			Type: rserpool.LeastUsedDegradation, Load: 0x80000000, LoadDegradation: 0x40000000,
		},
		"LUD:degradation=0.25": {Type: rserpool.LeastUsedDegradation, LoadDegradation: 0x40000000},
		"WRAND-DPF:weight=9,dpf=0.25": {
			Type: rserpool.WeightedRandomDPF, Weight: 9, DPF: 0x40000000,
		},
		"LeastUsedDegradationDPF:load=0,degradation=1,dpf=1": {
			Type: rserpool.LeastUsedDegradationDPF, LoadDegradation: 0xffffffff, DPF: 0xffffffff,
		},
		"0x40000001:0.5": {Type: rserpool.LeastUsed, Load: 0x80000000},
	} {
		if got, err := parsePolicy(in); err != nil || got != want {
			t.Errorf("parsePolicy(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                       "unknown policy",
		"Fair":                   "unknown policy",
		"RoundRobin:1":           "no value allowed: RoundRobin has none",
		"RoundRobin:weight=1":    "RoundRobin has none",
		"WRR:x":                  "not a number",
		"WRR:-1":                 "not a number",
		"WRR:4294967296":         "not a number",
		"LU:1.5":                 "not a fraction",
		"LUD:0.5":                "want LeastUsedDegradation:load=...,degradation=...",
		"LUD:weight=1":           "no value \"weight\"",
		"0x12345678":             "values are not known",
		"0x40000000":             "reserved",
		"LeastUsed:load=0.5,x=1": "no value \"x\"",
	} {
		if got, err := parsePolicy(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parsePolicy(%q) = %+v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestParseServe(t *testing.T) {
	for in, want := range map[string]rserpool.Transport{
		"tcp:8080":    {Type: rserpool.TCP, Port: 8080},
		"SCTP:1":      {Type: rserpool.SCTP, Port: 1},
		"udp:65535":   {Type: rserpool.UDP, Port: 65535},
		"udplite:7":   {Type: rserpool.UDPLite, Port: 7},
		"dccp:5001":   {Type: rserpool.DCCP, Port: 5001},
		"dccp:7/0x2a": {Type: rserpool.DCCP, Port: 7, ServiceCode: 42},
	} {
		if got, err := parseServe(in); err != nil || !got.Equal(want) {
			t.Errorf("parseServe(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "8080", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:http", "quic:1", "tcp:1/2", "dccp:1/x", "tcp:127.0.0.5:80", "sctp:5001+control", "opaque:00"} {
		if got, err := parseServe(bad); err == nil || strings.Contains(err.Error(), "PROTOCOL:ADDRESS") || !strings.HasSuffix(err.Error(), "such as tcp:8080. An address goes into --address") {
			t.Errorf("parseServe(%q) = %v, %v, want an error that shows only the form that is taken", bad, got, err)
		}
	}
}

func TestParseID(t *testing.T) {
	for _, in := range []string{"0d000001", "0x0d000001", "0X0D000001", "pe-0d000001", "d000001"} {
		if got, err := parseID(in); err != nil || got != 0x0d000001 {
			t.Errorf("parseID(%q) = %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "0", "0x", "xyz", "123456789", "-1"} {
		if got, err := parseID(bad); err == nil {
			t.Errorf("parseID(%q) = %v, want an error", bad, got)
		}
	}
}

func TestParseLife(t *testing.T) {
	for _, c := range []struct {
		life, unit string
		rereg      time.Duration
		wire       int32
		want       time.Duration
		err        string
	}{
		{"90s", "milliseconds", 0, 90000, 30 * time.Second, ""},
		{"90s", "seconds", 0, 90, 30 * time.Second, ""},
		{"90s", "ms", time.Second, 90000, time.Second, ""},
		{"24h", "seconds", 0, 86400, 10 * time.Minute, ""},
		{"infinite", "seconds", 0, -1, 10 * time.Minute, ""},
		{"infinite", "seconds", time.Minute, -1, time.Minute, ""},
		{"600h", "milliseconds", 0, 0, 0, "a duration of 3s to 596h"},
		{"100ms", "seconds", 0, 0, 0, "a duration of 3s to 596523h"},
		{"0", "seconds", 0, 0, 0, "--life"},
		{"-5s", "seconds", 0, 0, 0, "--life"},
		{"soon", "seconds", 0, 0, 0, "--life"},
		{"90s", "hours", 0, 0, 0, "--life-unit"},
		{"90s", "seconds", 2 * time.Minute, 0, 0, "--reregister must be shorter than the life of 1m30s, got 2m0s"},
		{"90s", "seconds", -time.Second, 0, 0, "--reregister must be at least 1s, got -1s"},
		{"90s", "seconds", time.Millisecond, 0, 0, "--reregister must be at least 1s, got 1ms"},
		{"3ms", "ms", 0, 0, 0, "--life: 3ms is too short: the element would register again every 1ms; use at least 3s"},
		{"3s", "ms", 0, 3000, time.Second, ""},
		{"2s", "ms", time.Second, 2000, time.Second, ""},
	} {
		t.Run(c.life+" "+c.unit, func(t *testing.T) {
			wire, rereg, err := parseLife(c.life, c.unit, c.rereg)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || wire != c.wire || rereg != c.want {
				t.Errorf("got %d, %v, %v, want %d, %v", wire, rereg, err, c.wire, c.want)
			}
		})
	}
}

func TestRegistrars(t *testing.T) {
	read := func(in string) (reach, error) {
		f := &registrarFlags{registrars: []string{in}, port: 3863, via: "auto"}
		return f.reach(newRoot())
	}
	for in, want := range map[string]string{
		"192.0.2.1":              "[192.0.2.1:3863]",
		"192.0.2.1:4000/9900":    "[192.0.2.1:4000/9900]",
		"[2001:db8::1]:4000":     "[[2001:db8::1]:4000]",
		"192.0.2.1,192.0.2.2":    "[192.0.2.1:3863,192.0.2.2:3863]",
		"192.0.2.1:4000,2001::1": "[192.0.2.1:4000,[2001::1]:4000]",
		"localhost:4000/9900":    "[localhost:4000/9900]", // looked up later
	} {
		if got, err := read(in); err != nil || fmt.Sprint(got.registrars) != want {
			t.Errorf("%q is %v, %v, want %s", in, got.registrars, err, want)
		}
	}
	for _, bad := range []string{"", "192.0.2.1:0", "192.0.2.300", "192.0.2.1/0", "a b", "example.org:http/1"} {
		if got, err := read(bad); err == nil {
			t.Errorf("%q is %v, want an error", bad, got.registrars)
		}
	}
}

// TestUsage: after a usage error rsp says what is wrong and ends with status 2.
func TestUsage(t *testing.T) {
	reg := func(more ...string) []string {
		return append([]string{"register", "-p", "web", "-s", "tcp:80"}, more...)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, "unknown command"},
		{[]string{"reslove", "web"}, `unknown command "reslove": did you mean resolve or remove?`},
		{[]string{"--frobnicate"}, "unknown flag: --frobnicate"},
		{[]string{"completion", "foo"}, `unknown command "foo" (see: rsp completion --help)`},
		{[]string{"completion", "bash", "foo"}, `unknown command "foo"`},
		{[]string{"register"}, "--pool is missing"},
		{[]string{"register", "-p", "web"}, "--serve is missing"},
		{[]string{"register", "-p", "web", "-s", "8080"}, "--serve: "},
		{reg("sleep", "1"), `unexpected argument "sleep"`},
		{reg("x", "--", "sleep", "1"), `unexpected argument "x"`},
		{reg("--"), "nothing to run after --"},
		{reg("--", ""), "the command to run after -- is empty"},
		{reg("--load-interval", "1s"), "--load-interval: no effect without --load"},
		{reg("--policy", "LU", "--load", "fixed", "--load-threshold", "1%"), "--load-threshold: no effect without --load"},
		{reg("--check-interval", "1s", "--check-fail", "2"), "--check-interval, --check-fail: no effect without --check"},
		{reg("--check-timeout", "1s"), "--check-timeout: no effect without --check"},
		{reg("--check-rise", "1"), "--check-rise: no effect without --check"},
		{reg("--encap", "99999"), `invalid argument "99999" for "--encap" flag: value out of range`},
		{reg("--encap", "x"), `invalid argument "x" for "--encap" flag: invalid syntax`},
		{reg("--max-reg-attempt", "99999999999999999999"), `"--max-reg-attempt" flag: value out of range`},
		{[]string{"help", "nonsense"}, `no help for "nonsense"`},
		{[]string{"help", "register", "nonsense"}, `no help for "register nonsense"`},
		{reg("--policy", "x"), "--policy: "},
		{reg("--via", "tcp"), "register over SCTP"},
		{reg("--via", "pigeon"), `--via: unknown transport "pigeon": use auto, kernel or udp (see`},
		{[]string{"resolve", "--via", "pigeon", "web"}, `--via: unknown transport "pigeon": use auto, kernel, udp or tcp (see`},
		{reg("--registrar", "300.0.0.1"), "--registrar: "},
		{reg("--announce=192.0.2.1:1"), "--announce: "},
		{reg("--id", "x"), "--id: "},
		{reg("--address", "example.org"), "--address: "},
		{reg("--address", "10.0.0.1", "--address", "10.0.0.2"), "has one address"},
		{reg("--advertise", "example.org"), "--advertise: "},
		{reg("--advertise", "10.0.0.1", "--advertise", "10.0.0.2"), "has one address"},
		{reg("--address", "10.0.0.1", "--local", "10.0.0.2"), "not among the local addresses"},
		{reg("--local", "x"), "--local: "},
		{reg("--control"), "--control: rsp register gives a server no control channel"},
		{[]string{"register", "-p", "web", "-s", "sctp:80", "--control"}, "use rsp serve"},
		{[]string{"watch"}, "POOL is missing"},
		{[]string{"watch", "web", ""}, "a POOL is empty"},
		{[]string{"watch", "--timeout", "0", "web"}, "--timeout"},
		{[]string{"resolve", ""}, "POOL is empty: is a shell variable not set?"},
		{[]string{"connect", ""}, "POOL is empty"},
		{[]string{"unreachable", "", "1"}, "POOL is empty"},
		{[]string{"unreachable", "web", ""}, "ELEMENT is empty"},
		{[]string{"remove", "", "1"}, "POOL is empty"},
		{[]string{"remove", "web", ""}, "ELEMENT is empty"},
		{[]string{"remove", "--control", "", "web", "1"}, "--control is empty: is a shell variable not set?"},
		{[]string{"resolve", "--registrar", "", "web"}, "--registrar is empty"},
		{[]string{"resolve", "-r", "127.0.0.1", "-r", "", "web"}, "--registrar is empty"},
		{[]string{"resolve", "--via", "", "web"}, "--via is empty"},
		{[]string{"resolve", "--announce=", "web"}, "--announce is empty"},
		{[]string{"connect", "--element", "", "web"}, "--element is empty"},
		{[]string{"register", "--pool", "", "--serve", "tcp:80"}, "--pool is empty"},
		{reg("--serve", ""), "--serve is empty"},
		{reg("--id", ""), "--id is empty"},
		{reg("--check", ""), "--check is empty"},
		{reg("--tls-cert", ""), "--tls-cert is empty"},
		{[]string{"serve", "echo", "--cookie-keys", ""}, "--cookie-keys is empty"},
		{[]string{"ca", "init", ""}, "DOMAIN is empty"},
		{[]string{"ca", "init", "--dir", "", "example.org"}, "--dir is empty"},
		{[]string{"ca", "issue", ""}, "registrar/NAME or pool/POOL/NAME is empty"},
		{[]string{"ca", "issue", "registrar/ns1", "--out", ""}, "--out is empty"},
		{[]string{"ca", "secret", ""}, "FILE is empty"},
		{[]string{"ca", "show", ""}, "FILE or DIRECTORY is empty"},
		{[]string{"watch", "--json", "--lines", "web"}, "--json and --lines exclude each other: set one of them (see: rsp watch --help)"},
		{reg("--life", "x"), "--life: "},
		{reg("--t2-registration", "-1s"), "--t2-registration must be at least 100ms, got -1s"},
		{reg("--t5-serverhunt", "0"), "--t5-serverhunt must be at least 100ms, got 0s"},
		{reg("--stop-timeout", "-1ms"), "--stop-timeout must be positive, got -1ms"},
		{reg("--max-reg-attempt", "0"), "--max-reg-attempt must be at least 1, got 0"},
		{reg("--check", "tcp", "--check-interval", "1ms"), "--check-interval must be at least 50ms, got 1ms"},
		{reg("--policy", "LU", "--load", "cpu", "--load-interval", "1ms"), "--load-interval must be at least 50ms, got 1ms"},
		{reg("--drain", "-1s"), "--drain must not be negative, got -1s"},
		{reg("--check", "x"), "check \"x\""},
		{reg("--check", "tcp:127.0.0.1:99999"), "port \"99999\" is not 1 to 65535"},
		{reg("--check", "http://127.0.0.1:0/"), "port \"0\" is not 1 to 65535"},
		{reg("--check", "tcp", "--check-fail", "0"), "at least 1"},
		{reg("--load", "cpu"), "has no load"},
		{reg("--policy", "LU", "--load", "x"), "--load: "},
		{reg("--policy", "LU", "--load", "cpu", "--load-threshold", "2"), "--load-threshold: "},
		{reg("--policy", "LU", "--load", "cpu", "--load-interval", "0"), "--load-interval"},
		{reg("-q", "-v"), "--quiet and --verbose exclude each other: set one of them (see: rsp register --help)"},
		{[]string{"register", "-p", "web", "-s", "sctp:80", "--check", "tcp"}, "--check tcp: the server is reached by sctp"},
		{[]string{"resolve"}, "POOL is missing"},
		{[]string{"resolve", "a", "b"}, "unexpected argument \"b\""},
		{[]string{"resolve", "-n", "-1", "web"}, "invalid argument"},
		{[]string{"resolve", "--timeout", "0", "web"}, "--timeout"},
		{[]string{"unreachable", "web"}, "ELEMENT is missing"},
		{[]string{"remove", "web"}, "ELEMENT is missing"},
		{[]string{"remove", "web", "x"}, "not an element identifier"},
		{[]string{"unreachable", "web", "x"}, "not an element identifier"},
		{[]string{"version", "x"}, `unexpected argument "x"`},
		{[]string{"resolve", "web", "db"}, `unexpected argument "db"`},
		{[]string{"unreachable"}, "POOL is missing"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out, errs, status := rsp(t, c.args...)
			if status != exitUsage || out != "" || !strings.Contains(errs, c.want) {
				t.Errorf("status %d, stdout %q, stderr\n%swant status 2 and %q", status, out, errs, c.want)
			}
			if strings.Count(errs, "\n") > 2 {
				t.Errorf("more than a word of help:\n%s", errs)
			}
		})
	}
}

// TestHelp: each command prints its help on standard output.
func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"register", "resolve", "unreachable", "version", "completion", "Exit status"}},
		{[]string{"help"}, []string{"register"}},
		{[]string{"register", "--help"}, []string{"Examples:", "--registrar", "Exit status", "LeastUsedDegradationDPF", `default "90s"`, "default 127.0.0.1"}},
		{[]string{"help", "resolve"}, []string{"Examples:", "--watch", "Exit status", "default 10s"}},
		{[]string{"help", "watch"}, []string{"Examples:", "--json", "NO_COLOR", "restored", "Exit status"}},
		{[]string{"unreachable", "-h"}, []string{"Examples:", "Exit status"}},
		{[]string{"help", "remove"}, []string{"Examples:", "Exit status", "--control PATH", usualControl}},
		{[]string{"completion", "bash"}, []string{"__start_rsp"}},
		{[]string{"version"}, []string{"rsp ", "go1."}},
		{[]string{"--version"}, []string{"rsp ", "go1."}},
		{[]string{"help", "completion", "bash"}, []string{"completion"}},
		{[]string{"help", "help"}, []string{"help [COMMAND]"}},
		{[]string{"__complete", "help", ""}, []string{"register\n"}},
		{[]string{"__complete", "register", "--policy", "Least"}, []string{"LeastUsed\n", "LeastUsedDegradation\n"}},
		{[]string{"__complete", "resolve", "--via", ""}, []string{"kernel", "tcp"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out, errs, status := rsp(t, c.args...)
			if status != exitOK {
				t.Errorf("status %d\n%s", status, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
		})
	}
}

// TestHintListen: if rsp cannot listen, the hint is not about registrars.
func TestHintListen(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.LocalAddr().(*net.UDPAddr).AddrPort()
	_, err = client.Open(client.Config{Via: rserpool.ViaUDP, Local: []netip.AddrPort{netip.AddrPortFrom(at.Addr(), 0)}, EncapPort: at.Port()})
	failed := func(err error) error {
		return &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.MustParseRegistrar("127.0.0.1:3863"), Err: err}}}
	}
	if h := hint(failed(err), false); !strings.HasPrefix(h, "end the process that has the port") {
		t.Errorf("%v: hint %q", err, h)
	}
	// On all addresses, of which another process has one, on a machine with a registrar.
	r := newRegistry(t)
	for _, command := range []string{"resolve", "unreachable"} {
		args := []string{command, "--via", "udp", "--registrar", r.at, "--encap", fmt.Sprint(at.Port()), "web", "00000001"}
		if command == "resolve" {
			args = args[:len(args)-1]
		}
		_, errs, status := rsp(t, args...)
		for _, text := range []string{"rsp: cannot listen: ", "address already in use", "rsp: end the process that has the port"} {
			if status != exitFailed || !strings.Contains(errs, text) {
				t.Errorf("rsp %q: status %d, want %q and %d:\n%s", args, status, text, exitFailed, errs)
			}
		}
	}
	tr, err := client.Open(client.Config{Via: rserpool.ViaUDP, Local: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	err = tr.Bind([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")})
	if h := hint(failed(err), false); !strings.HasPrefix(h, "check --local") || !strings.Contains(h, "--address of rsp register") || !strings.Contains(h, "--advertise") {
		t.Errorf("%v: hint %q", err, h)
	}
}

// TestHintLookup: if no name could be looked up, the hint is about names, not ports.
func TestHintLookup(t *testing.T) {
	named := rserpool.Attempt{Registrar: rserpool.Registrar{Host: "r.example.org", Port: 3863}, Err: &net.DNSError{Err: "no such host", Name: "r.example.org"}}
	called := rserpool.Attempt{Registrar: rserpool.Registrar{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 3863}}
	if h := hint(&rserpool.UnreachableError{Attempts: []rserpool.Attempt{named}}, false); !strings.Contains(h, "check the name") {
		t.Errorf("hint %q", h)
	}
	named.Err = nil // no name server has answered
	if h := hint(&rserpool.UnreachableError{Attempts: []rserpool.Attempt{named}}, false); !strings.Contains(h, "check the name") {
		t.Errorf("hint %q", h)
	}
	if h := hint(&rserpool.UnreachableError{Attempts: []rserpool.Attempt{named, called}}, false); !strings.Contains(h, "port 3863") {
		t.Errorf("hint %q", h)
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), exitFailed},
		{os.ErrNotExist, exitFailed},
		{&usageError{errors.New("x")}, exitUsage},
		{fmt.Errorf("w: %w", &pe.RejectedError{}), exitRefused},
		{fmt.Errorf("w: %w", &pu.NoElementsError{}), exitRefused},
		{&pu.RefusedError{}, exitRefused},
		{&pu.TimeoutError{}, exitUnreachable},
		{&rserpool.UnreachableError{}, exitUnreachable},
		{&statusError{status: 143}, 143},
	} {
		if got := exitStatus(c.err); got != c.want {
			t.Errorf("%T: status %d, want %d", c.err, got, c.want)
		}
	}
}

func TestPrint(t *testing.T) {
	r := &pu.Resolution{
		Pool: "we\x00b", Registrar: "10.0.0.1:3863", Policy: rserpool.Policy{Type: rserpool.LeastUsed},
		Elements: []rserpool.PoolElement{
			{
				ID: 1, Home: 0x1001, Life: -1, Policy: rserpool.Policy{Type: rserpool.LeastUsed, Load: 0x40000000},
				UserTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 80, Use: rserpool.DataPlusControl, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}},
			},
			{
				ID: 2, Life: 90, Policy: rserpool.Policy{Type: rserpool.Random},
				UserTransport: rserpool.Transport{Type: rserpool.Opaque, Opaque: []byte{1}},
			},
		},
	}
	var b strings.Builder
	if err := printTable(&b, r); err != nil {
		t.Fatal(err)
	}
	want := `pool "we\x00b", policy LeastUsed, registrar 10.0.0.1:3863
ID        HOME      TRANSPORT        ADDRESSES             VALUES      LIFE
00000001  00001001  sctp:80+control  10.0.0.1,2001:db8::1  load 25.0%  infinite
00000002  00000000  opaque:0                               Random      90
`
	if b.String() != want {
		t.Errorf("table\n%swant\n%s", &b, want)
	}
	b.Reset()
	if err := printJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"pool":"we\u0000b"`, `"load":0.25`, `"addresses":["10.0.0.1","2001:db8::1"]`, `"life":-1`, `"control":true`, `"addresses":[]`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing in %s", want, &b)
		}
	}
}
