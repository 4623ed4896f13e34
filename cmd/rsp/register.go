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

// registerFlags are the flags of rsp register.
type registerFlags struct {
	registrarFlags
	logFlags
	pool, serve, policy, id string
	addresses, advertise    []string
	control                 bool
	life, lifeUnit          string
	reregister              time.Duration
	load                    loadFlags
	check                   checkFlags
	timers                  pe.Timers
	drain                   time.Duration
}

type loadFlags struct {
	source    string
	interval  time.Duration
	threshold string
}

type checkFlags struct {
	probe             string
	interval, timeout time.Duration
	fail, rise        int
}

func newRegister() *cobra.Command {
	f := new(registerFlags)
	cmd := &cobra.Command{
		Use:   "register --pool POOL --serve PROTOCOL:PORT [flags] [-- COMMAND [ARGUMENT...]]",
		Short: "make a server on this machine an element of a pool",
		Long: `Make a server on this machine an element of a pool, for as long as rsp runs.

rsp registers the element, renews the registration, acknowledges the registrar's
keep-alives, and looks for the next registrar if one fails or has no room. A
registrar that takes over finds the element as well. Without COMMAND, SIGTERM,
SIGINT and SIGHUP deregister the element and end rsp.

rsp ends by itself only if a registrar refuses the first registration because of
the element itself, for example if its policy differs from the pool's. If an --id is in
use by another element, rsp tries again for 75 s first: that element may have
died. After a registration has succeeded, no refusal ends rsp: it logs the reason,
goes on to other registrars, and tries again after up to a minute.

With COMMAND, rsp runs the server. The element is registered while COMMAND runs,
and rsp ends with COMMAND's exit status. Only three things end COMMAND: COMMAND
itself, the user's signals, and a first registration that is refused.

Signals are passed on to COMMAND. SIGTERM, SIGINT and SIGQUIT follow the
deregistration and the time of --drain; a second one is passed on at once, unless
it is the same within 250ms. Clients keep an answer for its TTL, so --drain with
that TTL lets the server answer those that have not heard of the deregistration.
SIGHUP is passed on at once, and the element stays registered. Signals that rsp was
started to ignore, as by nohup, stay ignored by rsp and COMMAND.

COMMAND has a process group of its own. SIGINT and SIGQUIT reach the whole group, as
Ctrl-C and Ctrl-\ do without rsp, and so does SIGHUP when the terminal is closed.
Other signals reach only COMMAND. When SIGTERM, SIGINT, SIGQUIT or SIGHUP from rsp
has ended COMMAND, rsp sends SIGTERM to the rest of the group, so that a start
script leaves no server behind. A start script should still end with exec SERVER:
rsp waits for COMMAND, and not for the rest. A daemon that leaves the group (setsid)
runs on. So does everything that COMMAND leaves behind when it ends by itself. If
rsp is killed (kill -9), COMMAND gets SIGTERM, but the rest of its group does not.

If COMMAND runs on for 10s after SIGTERM, SIGINT or SIGQUIT, rsp logs that and leaves
the element deregistered: COMMAND may be about to end. SIGCONT to rsp registers it
again. Send a signal that does not end the server, such as SIGQUIT for the threads
of a Java program, to the server and not to rsp.

COMMAND gets the terminal if it reads from it and rsp is in the foreground; Ctrl-C
and Ctrl-Z then reach COMMAND directly. While COMMAND is stopped, it is not
registered. If COMMAND does not read the terminal, Ctrl-Z deregisters the element,
waits up to 1s for that, and stops COMMAND's group and rsp. When rsp continues (fg,
bg), so does the group, and rsp registers the element again. Without COMMAND, Ctrl-Z
stops only rsp: the element is removed after a missed keep-alive, and registered
again when rsp continues.

As process 1 of a container, rsp also reaps orphaned processes. In a systemd unit,
set KillMode=mixed: SIGTERM then goes only to rsp, which passes it on.

If the log cannot be written, because the reader of the pipe hangs or has ended,
rsp and COMMAND run on; rsp counts the lines that it loses, and logs the number
when it can write again.

COMMAND runs whatever the network does: while this machine has no address, or no
registrar answers, rsp keeps trying to register the element.

Restart without a gap:
  With --id, start a second rsp on the same machine, and send SIGTERM to the first
  one when the second one has registered. The second one takes the element's place
  at once, and the deregistration of the first one removes nothing. An --id that
  is registered from another machine waits until the former element has missed a
  keep-alive.

Addresses:
  Without --address, rsp registers the address from which it reaches the
  registrars. It reads that address again every 2 s. If the address changes (a new
  DHCP lease, another IPv6 prefix), rsp registers the element again from the new
  one, with the same identifier. Of several IPv6 addresses it takes a stable one
  rather than a temporary one. A loopback address is registered only if the
  registrar is on the loopback too.
  Behind a NAT or in a container, over SCTP in UDP, the registrar registers the
  address where it sees rsp in place of the private one, and rsp logs both.
  --advertise ADDRESS registers a given address that this machine does not have;
  the registrar must see rsp there.

Policies, their short names and their values:
` + policyHelp() + `
  Write a single value after a colon, and several values by name:
    WeightedRoundRobin:7   LeastUsed:0.25   LUD:load=20%,degradation=5%
  Weights and priorities are whole numbers (default 1 and 0). Loads,
  degradations and dpf are fractions, 0 to 1 or 0% to 100% (default 0). All elements
  of a pool have the same policy; their values may differ.

Checks (--check):
  tcp, tcp:HOST:PORT      a connection; without HOST:PORT to the served address
  http://HOST:PORT/PATH   GET with a status of 2xx or 3xx; https too
  http:/PATH              the same at the served address and port
  cmd:COMMAND             a command of the shell that exits with status 0
  A check that takes longer than --check-timeout has failed. One that this machine
  cannot make (no more processes, memory, files, or ports) is logged and not counted.
  The element is registered once the check passes, deregistered when it fails
  --check-fail times in a row, and registered again when it passes --check-rise
  times in a row.

Loads (--load), for the policies with a load:
  fixed                   the load given with --policy
  cpu                     the part of the time that this machine's processors work
  file:PATH, cmd:COMMAND  a fraction in a file, or printed by a command of the shell
  A load that has changed by --load-threshold is sent to the registrar at once.
  A source must give a value within --load-interval, but has at least 1s and at most
  10s. If it gives none, the last value stays, at first that of --policy. The first
  registration waits 2s for a value.

Commands of checks and loads may print 64 KiB. When one ends, all processes of
its process group end with it.

Registration life:
  RFC 5354 counts it in seconds, the reference implementation RSPLIB in
  milliseconds. The default goes on the wire as 90000, which works with both:
  read as milliseconds it is 90 s, read as seconds 25 h; rsp renews it every 30 s. Keep-alives detect a
  dead element long before that. --life-unit selects the unit.

` + registrarHelp + `
  A registrar that takes over from a failed one connects to the address and port
  that the element registered from. If it connects by SCTP in UDP and does not know
  the element's UDP port, it uses 9899: --encap 9899 binds that port, if no other
  program on this machine needs it. Otherwise the element registers with the next
  --registrar on its own.

` + exitHelp + `
  With COMMAND: its exit status, 128+N if signal N ended it, 126 and 127 if it
  could not be run.`,
		Example: `  # a web server that listens on port 8080 already
  rsp register --pool web --serve tcp:8080

  # run it, and register it while it answers
  rsp register --pool web --serve tcp:8080 --check http:/health -- ./server -port 8080

  # three times the share of an element with weight 1, two registrars
  rsp register -p web -s tcp:8080 --policy WeightedRoundRobin:3 -r 192.0.2.1 -r 192.0.2.2

  # the least busy machine first
  rsp register -p jobs -s sctp:5001 --policy LeastUsed --load cpu

  # an SCTP server with two addresses
  rsp register -p jobs -s sctp:5001 --address 192.0.2.11 --address 2001:db8::11`,
		Args: usageArgs(checkCommand),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.supervisor(cmd, args)
			if err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	f.add(cmd)
	return cmd
}

// checkCommand refuses arguments that are not a command behind "--". A command
// that is empty is a mistake, such as a variable of the shell that is not set.
func checkCommand(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case len(args) > 0 && dash != 0:
		return fmt.Errorf("unexpected argument %q: write the command to run after --, and the value of --announce after a =", args[0])
	case dash == 0 && len(args) == 0:
		return errors.New("nothing to run after --: name the command, or leave out -- to register a server that runs already")
	case dash == 0 && args[0] == "":
		return errors.New("the command to run after -- is empty: is a variable of the shell not set?")
	}
	return nil
}

func (f *registerFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&f.pool, "pool", "p", "", "`HANDLE` of the pool to join (needed)")
	fl.StringVarP(&f.serve, "serve", "s", "", "what the server's users connect to: `PROTOCOL:PORT`, with a protocol of sctp, tcp, udp, udplite or dccp[/SERVICECODE] (needed)")
	fl.StringArrayVarP(&f.addresses, "address", "a", nil, "address of this machine where the server is reached; repeatable with sctp, else one (default: the address from which rsp reaches the registrar, also after it changes)")
	fl.StringArrayVar(&f.advertise, "advertise", nil, "`ADDRESS` to register that this machine does not have: that of a NAT or a container's host; repeatable with sctp")
	fl.StringVar(&f.policy, "policy", "RoundRobin", "the pool's policy, with this element's values")
	fl.BoolVar(&f.control, "control", false, "the server has an ASAP control channel (only with sctp)")
	fl.StringVar(&f.id, "id", "", "element identifier, 8 hexadecimal digits (default: random)")
	fl.StringVar(&f.life, "life", "90s", "registration life: a `DURATION` of at least 3s, or infinite")
	fl.StringVar(&f.lifeUnit, "life-unit", "milliseconds", "`UNIT` of the life on the wire: milliseconds or seconds")
	fl.DurationVar(&f.reregister, "reregister", 0, "time between registrations, at least 1s and at most a third of the life (default: a third of the life, at most 10m)")
	f.registrarFlags.add(cmd, "auto, kernel, udp")
	fl.StringVar(&f.check.probe, "check", "", "register the server only while this `CHECK` passes (default: none)")
	fl.DurationVar(&f.check.interval, "check-interval", 2*time.Second, "time between two checks, at least 50ms; at most 250ms before the first that passes")
	fl.DurationVar(&f.check.timeout, "check-timeout", time.Second, "time that one check may take")
	fl.IntVar(&f.check.fail, "check-fail", 3, "failures in a row that deregister the element")
	fl.IntVar(&f.check.rise, "check-rise", 2, "passes in a row that register it again")
	fl.StringVar(&f.load.source, "load", "fixed", "where the load comes from (`SOURCE`): fixed, cpu, file:PATH or cmd:COMMAND")
	fl.DurationVar(&f.load.interval, "load-interval", 2*time.Second, "time between two reads of the load, at least 50ms")
	fl.StringVar(&f.load.threshold, "load-threshold", "2%", "least change of the load that is sent to the registrar")
	fl.DurationVar(&f.timers.Registration, "t2-registration", 30*time.Second, "T2: time that a registrar has to answer a registration, at least 100ms")
	fl.IntVar(&f.timers.MaxRegAttempt, "max-reg-attempt", 2, "unanswered registrations before the next registrar is sought")
	fl.DurationVar(&f.timers.ServerHunt, "t5-serverhunt", 10*time.Second, "T5: time to establish an association, at least 100ms")
	fl.DurationVar(&f.timers.Stop, "stop-timeout", 3*time.Second, "time that the deregistration may take at the end")
	fl.DurationVar(&f.drain, "drain", 0, "time between the deregistration and the signal to COMMAND, or the end of rsp; use the TTL of the DNS answers")
	f.logFlags.add(cmd)

	noFiles(cmd, "drain", "pool", "serve", "address", "advertise", "id", "life", "reregister", "check", "load-threshold")
	fixed := func(flag string, words ...string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	}
	var names []string
	for _, t := range rserpool.Policies() {
		names = append(names, t.String())
	}
	fixed("policy", names...)
	fixed("serve", "sctp:", "tcp:", "udp:", "udplite:", "dccp:")
	fixed("life-unit", "milliseconds", "seconds")
	fixed("load", "fixed", "cpu", "file:", "cmd:")
	fixed("check", "tcp", "http:/", "http://", "https://", "cmd:")
}

// supervisor turns the flags into a supervisor.
func (f *registerFlags) supervisor(cmd *cobra.Command, command []string) (*supervisor, error) {
	if err := f.checkUnused(cmd); err != nil {
		return nil, usage(cmd, err)
	}
	cfg, err := f.config()
	if err != nil {
		return nil, usage(cmd, err)
	}
	r, err := f.reach(cmd)
	if err != nil {
		return nil, err
	}
	cfg.Registrars, cfg.AnnounceGroup, cfg.Via, cfg.Local, cfg.EncapPort = r.registrars, r.announce, r.via, r.local, f.encap
	s := &supervisor{
		command: command,
		log:     f.logger(cmd.ErrOrStderr()),
		drain:   f.drain,
	}
	if err := f.addCheck(s, cfg.Transport); err != nil {
		return nil, usage(cmd, err)
	}
	if err := f.addLoad(s, cfg.Policy.Type); err != nil {
		return nil, usage(cmd, err)
	}
	cfg.Notify = s.notify
	cfg.Logger = s.log.transport()
	if s.registration, err = newRegistration(cfg, s.log); err != nil {
		return nil, usage(cmd, err)
	}
	return s, nil
}

// config reads what describes the element.
func (f *registerFlags) config() (pe.Config, error) {
	cfg := pe.Config{Pool: rserpool.PoolHandle(f.pool), Timers: f.timers}
	var err error
	switch {
	case f.pool == "":
		return cfg, errors.New("--pool is missing: the handle of the pool to join")
	case f.serve == "":
		return cfg, errors.New("--serve is missing: what the server's users connect to, such as tcp:8080")
	case f.via == rserpool.ViaTCP.String():
		return cfg, errors.New("--via tcp: elements register over SCTP; use auto, kernel or udp")
	}
	if cfg.Transport, err = parseServe(f.serve); err != nil {
		return cfg, fmt.Errorf("--serve: %w", err)
	}
	if f.control {
		if cfg.Transport.Type != rserpool.SCTP {
			return cfg, errors.New("--control: only sctp servers can have a control channel (RFC 5354, Section 3.4)")
		}
		cfg.Transport.Use = rserpool.DataPlusControl
	}
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

// minTimer is the least that T2 and T5 can be: what is shorter than a round
// trip ends every registration before its answer, and starts the next.
const minTimer = 100 * time.Millisecond

// parseAddrs reads the addresses of a flag.
func (f *registerFlags) parseAddrs(flag string, list []string, t rserpool.Transport) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an IP address", flag, s)
		}
		addrs = append(addrs, a)
	}
	if len(addrs) > 1 && t.Type != rserpool.SCTP {
		return nil, fmt.Errorf("%s: a %s element has one address (RFC 5354, Section 3.5): register one element for each, or serve sctp", flag, t.Type.String())
	}
	return addrs, nil
}

// checkTimers refuses timers that would silently stand for the default, or
// flood the registrars.
func (f *registerFlags) checkTimers() error {
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

// parseID reads an element identifier as it is shown everywhere: hexadecimal
// digits, with or without 0x or pe- before them.
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
		return 0, 0, fmt.Errorf("--life: %q is not infinite, nor a duration such as 90s of at least one and at most 2147483647 %s", life, unit)
	}
	if reregister == 0 {
		reregister = min(d/3, most)
		if reregister < pe.MinReregistration {
			return 0, 0, fmt.Errorf("--life: %v is too short: the element would register again every %v; use at least %v", d, reregister, 3*pe.MinReregistration)
		}
	}
	if reregister >= d {
		return 0, 0, fmt.Errorf("--reregister: after %v the life of %v is over already", reregister, d)
	}
	return int32(d / per), reregister, nil
}
