package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// trustedRegistry is a registrar in TLS, with the authority of its scope.
func trustedRegistry(t *testing.T, allow ...host.Allow) (*registry, *trusttest.CA) {
	t.Helper()
	port := here.FreePort(t)
	return trustedRegistryAt(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), port, allow...)
}

// trustedRegistryAt is trustedRegistry with an address for ASAP, and a port of UDP.
func trustedRegistryAt(t *testing.T, at netip.AddrPort, udp uint16, allow ...host.Allow) (*registry, *trusttest.CA) {
	t.Helper()
	ca := trusttest.New(t, "example.org", time.Now())
	files := rserpool.TLSFiles(issue(t, ca, "registrar/ns1"))
	r := startRegistry(t, host.Config{
		ASAP:      []netip.AddrPort{at},
		ENRP:      []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), here.FreePort(t))},
		Via:       rserpool.ViaUDP,
		EncapPort: udp,
		Trust:     host.Trust{TLSFiles: files, Allow: allow},
		Logger:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	r.tls = files
	return r, ca
}

// issue makes the files of a member in a directory of its own.
func issue(t *testing.T, ca *trusttest.CA, name string) (files struct{ Cert, Key, CA, Secret string }) {
	t.Helper()
	now := time.Now()
	return ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/"+name, now, now.Add(time.Hour))
}

// TestTLS: the commands in a trusted scope, and what they print if it does not trust them.
func TestTLS(t *testing.T) {
	t.Parallel()
	r, ca := trustedRegistry(t)
	dir := func(name string) string { return filepath.Dir(issue(t, ca, name).Cert) }
	users := filepath.Join(t.TempDir(), "ca.pem")
	trusttest.Write(t, users, ca.PEM())
	other := trusttest.New(t, "example.org", time.Now())
	foreign := issue(t, other, "pool/web/h1")
	trusttest.Write(t, foreign.CA, append(ca.PEM(), other.PEM()...))

	p := startRSP(t, register(r, "--tls", dir("pool/web/h1"), "--id", "0x0d000001")...)
	p.says("registered")
	for _, args := range [][]string{
		{"resolve", "--tls", filepath.Dir(users)},
		{"resolve", "--tls-ca", users},
		{"resolve", "--tls", dir("pool/web/h2")},
	} {
		for _, via := range []string{"udp", "tcp"} {
			out, errs, status := rsp(t, append(args, "--via", via, "-r", r.at, "web")...)
			if status != exitOK || !strings.Contains(out, "0d000001") {
				t.Errorf("rsp %q --via %s: status %d\n%s%s", args, via, status, out, errs)
			}
		}
	}
	enrp := fmt.Sprintf("%v/%d", r.ENRPAddrs()[0], r.LocalAddrs()[0].Port())
	if out, errs, status := rsp(t, "dump", "--tls", dir("registrar/ns2"), "--via", "udp", "-r", enrp); status != exitOK || !strings.Contains(out, "0d000001") {
		t.Errorf("rsp dump with the certificate of a registrar: status %d\n%s%s", status, out, errs)
	}

	h3 := dir("pool/web/h3")
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"the wrong pool", register(r, "--tls", dir("pool/bank/h1")), "rsp ca issue pool/POOL/NAME"},
		{"no certificate", register(r, "--tls-ca", users), "is enough for users only"},
		{"another authority", register(r, "--tls", filepath.Dir(foreign.Cert)), `refuses our certificate`},
		{"another authority, to resolve", []string{"resolve", "--tls", filepath.Dir(foreign.Cert), "--timeout", "2s", "--via", "udp", "-r", r.at, "web"}, `(ours is spiffe://example.org/rserpool/pool/web/h1, signed by "CN=RSerPool CA of example.org")`},
		{"another authority, over TCP", []string{"resolve", "--tls", filepath.Dir(foreign.Cert), "--timeout", "2s", "--via", "tcp", "-r", r.at, "web"}, `refuses our certificate`},
		{"an unknown registrar", []string{"resolve", "--tls", filepath.Dir(issue(t, other, "pool/web/h2").Cert), "--timeout", "2s", "--via", "udp", "-r", r.at, "web"}, "unknown authority"},
		{"ENRP without the role", []string{"dump", "--tls", h3, "--timeout", "2s", "--via", "udp", "-r", enrp}, "the one in " + h3 + "/cert.pem is that of spiffe://example.org/rserpool/pool/web/h3"},
		{"ENRP without a certificate", []string{"peers", "--tls-ca", users, "--via", "udp", "-r", enrp}, "there is none beside " + users},
	} {
		p := startRSP(t, tt.args...)
		p.says(tt.want)
		p.cmd.Process.Kill()
		p.wait()
	}
	p.says("registered")
}

// TestTLSSessions: rsp serve and rsp connect in TLS. The user needs no certificate.
func TestTLSSessions(t *testing.T) {
	t.Parallel()
	r, ca := trustedRegistry(t)
	dir := func(name string) string { return filepath.Dir(issue(t, ca, name).Cert) }
	server := startRSP(t, "serve", "echo", "--pool", "echo", "--tls", dir("pool/echo/h1"), "--via", "udp", "-r", r.at)
	server.says("registered")
	users := filepath.Join(t.TempDir(), "ca.pem")
	trusttest.Write(t, users, ca.PEM())
	user, in := startConnect(t, "connect", "--tls", filepath.Dir(users), "--via", "udp", "-r", r.at, "echo")
	if _, err := io.WriteString(in, "hello\n"); err != nil {
		t.Fatal(err)
	}
	user.says("hello\n")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if status := user.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestTLSElements: the user of an element whose certificate names no pool says which one it may
// be.
func TestTLSElements(t *testing.T) {
	t.Parallel()
	const sa = "spiffe://example.org/ns/prod/sa/echo"
	r, ca := trustedRegistry(t, host.Allow{Pools: "echo", Names: sa})
	now := time.Now()
	own := ca.Issue(t, t.TempDir(), sa, now, now.Add(time.Hour))
	server := startRSP(t, "serve", "echo", "--pool", "echo", "--tls", filepath.Dir(own.Cert), "--via", "udp", "-r", r.at)
	server.says("registered")
	connect := []string{"connect", "--tls-ca", own.CA, "--via", "udp", "-r", r.at, "--tls-elements", "spiffe://example.org/ns/*/sa/echo", "echo"}
	user, in := startConnect(t, connect...)
	if _, err := io.WriteString(in, "hello\n"); err != nil {
		t.Fatal(err)
	}
	user.says("hello\n")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if status := user.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestTLSDenied: an element that loses the right to be there says who refuses it, and what to do,
// once.
func TestTLSDenied(t *testing.T) {
	t.Parallel()
	r, ca := trustedRegistry(t)
	const own = "spiffe://example.org/rserpool/pool/web/h1"
	files := issue(t, ca, "pool/web/h1")
	p := startRSP(t, register(r, "--tls", filepath.Dir(files.Cert), "-v")...)
	p.says("registered")
	trust := host.Trust{TLSFiles: r.tls}
	trust.Deny = []string{own}
	if err := r.SetTrust(trust); err != nil {
		t.Fatal(err)
	}
	p.says("registrar " + r.at + " does not let us in: peer refuses our certificate: its log says why (ours is " + own)
	const advice = "the registrar's log says why: its Corefile denies the certificate (deny)"
	p.says(advice)
	p.cmd.Process.Kill()
	p.wait()
	if got := strings.Count(p.String(), advice); got != 1 {
		t.Errorf("the advice is given %d times:\n%s", got, p)
	}
}

// TestRefusalHints: what users are told to do who are refused, or refuse an element.
func TestRefusalHints(t *testing.T) {
	attempt := func(err error) error {
		return &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.MustParseRegistrar("192.0.2.1:1"), Err: err}}}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{attempt(errors.Join(sctp.ErrUntrusted, secure.ErrOurs)), "the registrar's log says why: its Corefile denies the certificate (deny)"},
		{attempt(sctp.ErrUntrusted), ""},
		{&rserpool.FailoverError{Attempts: []rserpool.ElementAttempt{{Err: io.EOF}, {Err: client.Trust{TLSFiles: rserpool.TLSFiles{CA: "ca"}}.Serves("dns:h1", "web")}}}, "name it with --tls-elements"},
		{&rserpool.FailoverError{Attempts: []rserpool.ElementAttempt{{Err: io.EOF}}}, ""},
	} {
		if got := hint(tt.err, true); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%v: got hint %q, want %q", tt.err, got, tt.want)
		}
	}
}

// TestTellRefusals: a refusal that does not change is told once a minute, the reason of others at
// once. What follows from it is left out.
func TestTellRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		told := &teller{log: &logger{w: &out, level: normal}, pool: "web"}
		refused := pe.Event{Type: pe.HomeLost, Registrar: "r1:1", Err: fmt.Errorf("why: %w", secure.ErrOurs)}
		lost := pe.Event{Type: pe.HomeLost, Registrar: "r1:1", Err: io.EOF}
		none := func(errs ...error) pe.Event {
			u := &rserpool.UnreachableError{}
			for _, err := range errs {
				u.Attempts = append(u.Attempts, rserpool.Attempt{Registrar: rserpool.MustParseRegistrar("192.0.2.1:1"), Err: err})
			}
			return pe.Event{Type: pe.NoRegistrar, Err: u}
		}
		security := pe.Event{Type: pe.Refused, Registrar: "r1:1", Err: &pe.RejectedError{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}}}
		const doesNot, silent, gone, again = "does not let us in", "no registrar could be reached", "lost registrar", "trying again"
		for i, step := range []struct {
			ev   pe.Event
			wait time.Duration
			want string // in the log, "" for nothing
		}{
			{lost, 0, gone},
			{none(io.EOF), 0, silent},
			{refused, 0, doesNot},
			{none(io.EOF), 0, ""},
			{none(io.EOF, io.EOF), 0, silent},
			{refused, 0, ""},
			{refused, tellAgain, doesNot},
			{lost, 0, gone},
			{refused, 0, doesNot},
			{pe.Event{Type: pe.Registered}, 0, "registered"},
			{none(io.EOF), 0, silent},
			{refused, 0, doesNot},
			{security, 0, again},
			{security, 0, again},
		} {
			time.Sleep(step.wait)
			out.Reset()
			told.notify(step.ev)
			if got := out.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
				t.Errorf("step %d: log %q, want %q", i, got, step.want)
			}
			if advises := strings.Contains(out.String(), "the registrar's log says why"); advises != (i == 2) {
				t.Errorf("step %d: advice %v", i, advises)
			}
		}
		fresh := &teller{log: &logger{w: &out, level: normal}, pool: "web"}
		out.Reset()
		if fresh.notify(security); !strings.Contains(out.String(), "needs --tls with a certificate for its pool") {
			t.Errorf("log %q", out.String())
		}
	})
}

// TestPlainToTLS: an element without TLS at a registrar that has it says the reason once before it
// says what to do, and does not say that it has lost a registrar.
func TestPlainToTLS(t *testing.T) {
	t.Parallel()
	r, _ := trustedRegistryAt(t, netip.AddrPortFrom(here.Loopback(), asap.TLSPort), here.FreePort(t))
	p := startRSP(t, register(r)...)
	const advice = "its Corefile needs tls, and rsp needs --tls"
	p.says(advice)
	before, _, _ := strings.Cut(p.String(), advice)
	if strings.Count(before, "is for TLS, which this side does not speak") != 1 || strings.Contains(before, "lost registrar") {
		t.Errorf("log:\n%s", before)
	}
}

// TestTLSToPlain: TLS with a registrar that has none.
func TestTLSToPlain(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	ca := trusttest.New(t, "example.org", time.Now())
	_, errs, status := rsp(t, "resolve", "--tls", filepath.Dir(issue(t, ca, "pool/web/h1").Cert), "--timeout", "2s", "--via", "udp", "-r", r.at, "web")
	if status != exitUnreachable || !strings.Contains(errs, "does not speak TLS") {
		t.Errorf("status %d, want %d\n%s", status, exitUnreachable, errs)
	}
}

// TestTLSFlags: which files the flags and the environment name.
func TestTLSFlags(t *testing.T) {
	ca := trusttest.New(t, "example.org", time.Now())
	files := rserpool.TLSFiles(issue(t, ca, "pool/web/h1"))
	dir := filepath.Dir(files.Cert)
	now := time.Now()
	old := rserpool.TLSFiles(ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/pool/web/h2", now.Add(-2*time.Hour), now.Add(-time.Hour)))
	mixed := issue(t, ca, "pool/web/h3")
	key, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	trusttest.Write(t, mixed.Key, key)
	none, secret := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "secret")
	ok(t, "ca", "secret", secret)
	for _, tt := range []struct {
		env  string
		args []string
		want rserpool.TLSFiles
		err  string
	}{
		{"", nil, rserpool.TLSFiles{}, ""},
		{"", []string{"--tls", dir}, files, ""},
		{dir, nil, files, ""},
		{dir, []string{"--tls", ""}, rserpool.TLSFiles{}, ""},
		{dir, []string{"--tls-secret", secret}, rserpool.TLSFiles{Secret: secret}, ""},
		{"", []string{"--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-ca", files.CA}, files, ""},
		{"", []string{"--tls-cert", old.Cert, "--tls-key", old.Key, "--tls-ca", old.CA}, old, ""}, // may be renewed
		{"", []string{"--tls", filepath.Dir(old.Cert)}, old, ""},
		{"", []string{"--tls", dir, "--tls-ca", "a"}, rserpool.TLSFiles{}, "--tls names all files"},
		{"", []string{"--tls", t.TempDir()}, rserpool.TLSFiles{}, "--tls: "},
		{"/no/such/directory", nil, rserpool.TLSFiles{}, "$RSP_TLS: "},
		{"", []string{"--tls-registrars", "dns:a"}, rserpool.TLSFiles{}, "--tls-registrars needs --tls"},
		{"", []string{"--tls-elements", "dns:a"}, rserpool.TLSFiles{}, "--tls-elements needs --tls"},
		{"", []string{"--tls", dir, "--tls-registrars", "dns:["}, rserpool.TLSFiles{}, "--tls-registrars: "},
		{"", []string{"--tls", dir, "--tls-elements", "dns:["}, rserpool.TLSFiles{}, "--tls-elements: "},
		{"", []string{"--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-ca", none}, rserpool.TLSFiles{}, "--tls-ca: stat " + none + ": no such file"},
		{"", []string{"--tls-cert", none, "--tls-key", files.Key, "--tls-ca", files.CA}, rserpool.TLSFiles{}, "--tls-cert: stat " + none},
		{"", []string{"--tls-cert", files.Cert, "--tls-key", old.Key, "--tls-ca", files.CA}, rserpool.TLSFiles{}, "--tls-key: the key in " + old.Key},
		{"", []string{"--tls-secret", none}, rserpool.TLSFiles{}, "--tls-secret: stat " + none},
		{filepath.Dir(mixed.Cert), nil, rserpool.TLSFiles{}, "$RSP_TLS: the key in " + mixed.Key},
	} {
		t.Setenv(tlsVariable, tt.env)
		var f tlsFlags
		cmd := &cobra.Command{RunE: func(*cobra.Command, []string) error { return nil }}
		f.add(cmd)
		f.addElements(cmd)
		if err := cmd.ParseFlags(tt.args); err != nil {
			t.Fatal(err)
		}
		got, err := f.read(cmd)
		switch {
		case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%q, %q: got error %v, want %q", tt.env, tt.args, err, tt.err)
		case err == nil && got != tt.want:
			t.Errorf("%q, %q: got %+v, want %+v", tt.env, tt.args, got, tt.want)
		}
	}
}

// TestTLSMissingFiles: all commands that speak to registrars refuse incomplete files at once.
func TestTLSMissingFiles(t *testing.T) {
	t.Parallel()
	f := issue(t, trusttest.New(t, "example.org", time.Now()), "pool/web/h1")
	for _, command := range [][]string{
		{"register", "--pool", "web", "--serve", "tcp:8080"}, {"serve", "echo", "--pool", "web"}, {"resolve", "web"},
		{"connect", "web"}, {"unreachable", "web", "0d000001"}, {"watch", "web"}, {"peers"}, {"dump"},
	} {
		for _, tt := range []struct {
			flags []string
			want  string
		}{
			{[]string{"--tls-cert", f.Cert}, "--tls-ca: the file with the certificates of the CA is missing"},
			{[]string{"--tls-cert", f.Cert, "--tls-key", f.Key}, "--tls-ca: the file with the certificates of the CA is missing"},
			{[]string{"--tls-key", f.Key}, "--tls-ca: the file with the certificates of the CA is missing"},
			{[]string{"--tls-cert", f.Cert, "--tls-ca", f.CA}, "--tls-key: the file with the private key is missing"},
			{[]string{"--tls-key", f.Key, "--tls-ca", f.CA}, "--tls-cert: the file with the certificate is missing"},
			{[]string{"--tls-secret", f.Key, "--tls-ca", f.CA}, "--tls-secret: a shared secret and certificates exclude each other"},
		} {
			args := slices.Concat(command, tt.flags)
			_, errs, status := rsp(t, args...)
			if status != exitUsage || !strings.Contains(errs, tt.want) || !strings.Contains(errs, "(see: rsp "+command[0]) {
				t.Errorf("rsp %q: status %d, %s\nwant status %d and %s", args, status, errs, exitUsage, tt.want)
			}
		}
	}
}

// TestWrongPort: the hints for TLS at the plain port and for the TLS port without TLS.
func TestWrongPort(t *testing.T) {
	for _, tt := range []struct {
		port uint16
		tls  bool
		err  error
		want string
	}{
		{3863, true, sctp.ErrUntrusted, "registrar 192.0.2.53:3863 does not speak TLS: its TLS port is 3864, or leave --tls out"},
		{9901, true, sctp.ErrUntrusted, "registrar 192.0.2.53:9901 does not speak TLS: its TLS port is 9902, or leave --tls out"},
		{3864, false, io.EOF, "is a registrar running there? Port 3864 is for TLS: its Corefile needs tls, and rsp needs --tls"},
		{3864, true, sctp.ErrUntrusted, ""},
		{3864, true, io.EOF, ""},
		{9902, true, io.EOF, ""},
		{3863, false, io.EOF, ""},
		{5000, false, sctp.ErrAborted, ""},
		{5000, true, sctp.ErrUntrusted, ""},
	} {
		e := &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{
			Registrar: rserpool.Registrar{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Port: tt.port}, Err: tt.err,
		}}}
		if got := wrongPort(e, tt.tls); got != tt.want {
			t.Errorf("port %d, TLS %t, %v: got %q, want %q", tt.port, tt.tls, tt.err, got, tt.want)
		}
	}
}

// TestMayHaveTLS: if SCTP runs there, and nobody serves the port for those without TLS, the hint
// begins with TLS. It does not if nothing runs there, or if rsp speaks TLS.
func TestMayHaveTLS(t *testing.T) {
	refused := fmt.Errorf("%w: %w", sctp.ErrRefused, sctp.ErrAborted)
	for _, tt := range []struct {
		port  uint16
		tls   bool
		err   error
		begin string
	}{
		{3863, false, refused, "if the registrar's Corefile has tls, rsp needs --tls, and uses port 3864. If not: is a registrar running there?"},
		{3863, false, sctp.JoinFailures([]error{sctp.ErrRefused, refused}), "if the registrar's Corefile has tls, "},
		{3863, false, sctp.ErrRefused, "is a registrar running there?"},
		{3863, false, sctp.ErrTimeout, "is a registrar running there?"},
		{3863, true, refused, "is a registrar running there?"},
		{5000, false, refused, "is a registrar running there?"},
	} {
		e := &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.Registrar{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Port: tt.port}, Err: tt.err}}}
		if got := hint(e, tt.tls); !strings.HasPrefix(got, tt.begin) {
			t.Errorf("port %d, TLS %t, %v: got %q, want %q first", tt.port, tt.tls, tt.err, got, tt.begin)
		}
	}
	e := &noENRPError{error: &rserpool.UnreachableError{Attempts: []rserpool.Attempt{{Registrar: rserpool.Registrar{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, Port: 9901}, Err: refused}}}}
	if got, want := hint(e, false), "if the registrar's Corefile has tls, rsp needs --tls, and uses port 9902. If not: does a registrar serve ENRP there?"; !strings.HasPrefix(got, want) {
		t.Errorf("ENRP: got %q, want %q first", got, want)
	}
}

// TestInTLS: rsp speaks TLS if a flag or the environment says so.
func TestInTLS(t *testing.T) {
	for _, tt := range []struct {
		env  string
		args []string
		want bool
	}{
		{"", nil, false},
		{"", []string{"--tls", "host1"}, true},
		{"", []string{"--tls-ca", "ca.pem"}, true},
		{"", []string{"--tls-secret", "secret"}, true},
		{"host1", nil, true},
		{"host1", []string{"--tls", ""}, false},
	} {
		t.Setenv(tlsVariable, tt.env)
		var f tlsFlags
		cmd := new(cobra.Command)
		f.add(cmd)
		if err := cmd.ParseFlags(tt.args); err != nil {
			t.Fatal(err)
		}
		if got := inTLS(cmd); got != tt.want {
			t.Errorf("%q, %q: got %t, want %t", tt.env, tt.args, got, tt.want)
		}
	}
}

// TestRole: whose certificate may ask by ENRP, as far as rsp can know.
func TestRole(t *testing.T) {
	ca := trusttest.New(t, "example.org", time.Now())
	registrar, element := rserpool.TLSFiles(issue(t, ca, "registrar/ns1")), rserpool.TLSFiles(issue(t, ca, "pool/web/h1"))
	const own = "spiffe://example.org/rserpool/pool/web/h1"
	secret := filepath.Join(t.TempDir(), "secret")
	ok(t, "ca", "secret", secret)
	for _, tt := range []struct {
		files      rserpool.TLSFiles
		registrars []string
		role, err  string
	}{
		{registrar, nil, "", ""},
		{rserpool.TLSFiles{Secret: secret}, []string{"shared-secret"}, "", ""},
		{element, nil, "the one in " + element.Cert + " is that of " + own, ""},
		{element, []string{own}, "", ""},
		{rserpool.TLSFiles{CA: element.CA}, nil, "", "there is none beside " + element.CA},
	} {
		f := &guestFlags{}
		f.tls.registrars = tt.registrars
		role, err := f.roleOf(tt.files)
		if (role == "") != (tt.role == "") || !strings.HasSuffix(role, tt.role) {
			t.Errorf("%+v: got role %q, want %q", tt.files, role, tt.role)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.HasSuffix(err.Error(), tt.err) {
			t.Errorf("%+v: got error %v, want %q", tt.files, err, tt.err)
		}
	}
}
