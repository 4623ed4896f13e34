package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// config reads the flags that describe the element and its server.
func (f *registerFlags) config() (pe.Config, error) {
	switch {
	case f.pool == "":
		return pe.Config{}, errors.New("--pool is missing: the handle of the pool to join")
	case f.serve == "":
		return pe.Config{}, errors.New("--serve is missing: what the server's users connect to, such as tcp:8080")
	case f.control:
		return pe.Config{}, errors.New("--control: rsp register gives a server no control channel. ASAP's control messages travel in the server's own associations, so the server itself must read them: use rsp serve, or asap/pe.Listen in a Go program")
	}
	t, err := parseServe(f.serve)
	if err != nil {
		return pe.Config{}, fmt.Errorf("--serve: %w", err)
	}
	return f.elementFlags.config(t)
}

// config reads the flags that describe the element. t is where users reach its server.
func (f *elementFlags) config(t rserpool.Transport) (pe.Config, error) {
	cfg := pe.Config{Pool: rserpool.PoolHandle(f.pool), Transport: t, Timers: f.timers}
	if f.via == rserpool.ViaTCP.String() {
		return cfg, errors.New("--via tcp: elements register over SCTP; use auto, kernel or udp")
	}
	var err error
	if cfg.Transport.Addrs, err = f.parseAddrs("--address", f.addresses, cfg.Transport); err != nil {
		return cfg, err
	}
	if cfg.Advertise, err = f.parseAddrs("--advertise", f.advertise, cfg.Transport); err != nil {
		return cfg, err
	}
	if cfg.Policy, err = parsePolicy(f.policy); err != nil {
		return cfg, fmt.Errorf("--policy: %w", err)
	}
	if f.id != "" {
		if cfg.ID, err = parseID(f.id); err != nil {
			return cfg, fmt.Errorf("--id: %w", err)
		}
	}
	if err = f.checkTimers(); err != nil {
		return cfg, err
	}
	if strings.HasPrefix(f.lifeUnit, "s") {
		cfg.Dialect = rserpool.RFC5354
	}
	var life int32
	life, cfg.Timers.Reregistration, err = parseLife(f.life, f.lifeUnit, f.reregister)
	cfg.Life = time.Duration(life) * cfg.Dialect.Unit()
	return cfg, err
}

// reachRegistrars sets where the registrars are, and how they are reached.
func (f *elementFlags) reachRegistrars(cmd *cobra.Command, cfg *pe.Config) error {
	r, err := f.reach(cmd)
	if err != nil {
		return err
	}
	if r.tls.CA != "" && r.tls.Cert == "" {
		return usage(cmd, fmt.Errorf("%s is enough for users only: an element needs a certificate for its pool, too: make its directory with rsp ca issue pool/POOL/NAME, and name it with --tls", r.tls.CA))
	}
	cfg.Registrars, cfg.AnnounceGroup, cfg.Via, cfg.Local, cfg.EncapPort = r.registrars, r.announce, r.via, r.local, f.encap
	cfg.TLS, cfg.TLSRegistrars = r.tls, f.tls.registrars
	return nil
}

// minTimer is the least T2 and T5. A timer shorter than a round trip would end every
// registration before its answer, and start the next one.
const minTimer = 100 * time.Millisecond

// parseAddrs reads the addresses of a flag.
func (f *elementFlags) parseAddrs(flag string, list []string, t rserpool.Transport) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an IP address", flag, s)
		}
		addrs = append(addrs, a)
	}
	if len(addrs) > 1 && t.Type != rserpool.SCTP {
		return nil, fmt.Errorf("%s: a %s element has one address (RFC 5354, Section 3.5): register one element for each address, or serve sctp", flag, t.Type.String())
	}
	return addrs, nil
}

// checkTimers refuses timers that would silently be replaced by the default, or that
// would flood the registrars.
func (f *elementFlags) checkTimers() error {
	for _, t := range []struct {
		flag string
		d    time.Duration
	}{
		{"--t2-registration", f.timers.Registration},
		{"--t5-serverhunt", f.timers.ServerHunt},
	} {
		if t.d < minTimer {
			return fmt.Errorf("%s must be at least %v, got %v", t.flag, minTimer, t.d)
		}
	}
	if f.timers.Stop <= 0 {
		return fmt.Errorf("--stop-timeout must be positive, got %v", f.timers.Stop)
	}
	if f.timers.MaxRegAttempt < 1 {
		return fmt.Errorf("--max-reg-attempt must be at least 1, got %d", f.timers.MaxRegAttempt)
	}
	if f.drain < 0 {
		return fmt.Errorf("--drain must not be negative, got %v", f.drain)
	}
	return nil
}

// parseServe reads PROTOCOL:PORT, and a service code for dccp behind a slash. Addresses
// and the control channel have options of their own.
func parseServe(s string) (rserpool.Transport, error) {
	t, err := rserpool.ParseTransport(s)
	if err != nil || len(t.Addrs) > 0 || t.Type == rserpool.Opaque || t.Use != rserpool.DataOnly {
		return t, fmt.Errorf("%q is not PROTOCOL:PORT with a protocol of sctp, tcp, udp, udplite or dccp[/SERVICECODE], such as tcp:8080. An address goes into --address", s)
	}
	return t, nil
}

// parseID reads an element identifier: hexadecimal digits, with or without 0x or pe-
// before them.
func parseID(s string) (rserpool.PEID, error) {
	id, err := rserpool.ParsePEID(s)
	if err == nil && id == 0 {
		err = fmt.Errorf("%q is not an element identifier: it must not be 0", s)
	}
	return id, err
}

// parseLife gives the life on the wire and the time between registrations.
func parseLife(life, unit string, reregister time.Duration) (int32, time.Duration, error) {
	const most = 10 * time.Minute // T4-reregistration (RFC 5352, Section 7.1)
	var per time.Duration
	switch unit {
	case "milliseconds", "ms":
		per = time.Millisecond
	case "seconds", "s":
		per = time.Second
	default:
		return 0, 0, fmt.Errorf("--life-unit: %q is neither milliseconds nor seconds", unit)
	}
	if reregister != 0 && reregister < pe.MinReregistration {
		return 0, 0, fmt.Errorf("--reregister must be at least %v, got %v", pe.MinReregistration, reregister)
	}
	if life == "infinite" {
		if reregister == 0 {
			reregister = most
		}
		return -1, reregister, nil
	}
	d, err := time.ParseDuration(life)
	if err != nil || d < per || d/per > 1<<31-1 {
		return 0, 0, fmt.Errorf("--life: %q is neither infinite nor a duration of %v to %v, such as 90s", life, 3*pe.MinReregistration, (1<<31-1)*per)
	}
	if reregister == 0 {
		reregister = min(d/3, most)
		if reregister < pe.MinReregistration {
			return 0, 0, fmt.Errorf("--life: %v is too short: the element would register again every %v; use at least %v", d, reregister, 3*pe.MinReregistration)
		}
	}
	if reregister >= d {
		return 0, 0, fmt.Errorf("--reregister must be shorter than the life of %[2]v, got %[1]v", reregister, d)
	}
	return int32(d / per), reregister, nil
}
