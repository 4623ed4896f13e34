package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// elementFlags are the flags of the commands that register an element.
type elementFlags struct {
	registrarFlags
	logFlags
	pool, policy, id     string
	addresses, advertise []string
	life, lifeUnit       string
	reregister           time.Duration
	timers               pe.Timers
	drain                time.Duration
}

// registerFlags are the flags of rsp register.
type registerFlags struct {
	elementFlags
	serve   string
	control bool // refused
	notify  bool
	load    loadFlags
	check   checkFlags
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
		Use:     "register --pool POOL --serve PROTOCOL:PORT [flags] [-- COMMAND [ARGUMENT...]]",
		Short:   "make a server on this machine an element of a pool",
		Long:    registerHelp(),
		Example: registerExample,
		Args:    usageArgs(checkCommand),
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

// checkCommand refuses arguments that are not a command after "--". An empty command
// is a mistake, such as a shell variable that is not set.
func checkCommand(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case len(args) > 0 && dash != 0:
		return fmt.Errorf("unexpected argument %q: write the command to run after --, and the value of --announce after a =", args[0])
	case dash == 0 && len(args) == 0:
		return errors.New("nothing to run after --: name the command, or omit -- to register a server that is already running")
	case dash == 0 && args[0] == "":
		return emptyError("the command to run after --")
	}
	return nil
}

func (f *registerFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&f.pool, "pool", "p", "", "`HANDLE` of the pool to join: its name in DNS, without the zone (required)")
	fl.StringVarP(&f.serve, "serve", "s", "", "what the server's users connect to: `PROTOCOL:PORT`, with a protocol of sctp, tcp, udp, udplite or dccp[/SERVICECODE] (required)")
	f.addElement(cmd)
	fl.BoolVar(&f.control, "control", false, "removed: see the error")
	_ = fl.MarkHidden("control") // former versions had it, and command lines may still have it
	f.registrarFlags.add(cmd, overSCTP)
	fl.StringVar(&f.check.probe, "check", "", "register the server only while this `CHECK` passes (default: none)")
	fl.DurationVar(&f.check.interval, "check-interval", 2*time.Second, "time between two checks, at least 50ms; at most 250ms until a check has passed")
	fl.DurationVar(&f.check.timeout, "check-timeout", time.Second, "time after which a check has failed")
	fl.IntVar(&f.check.fail, "check-fail", 3, "failures in a row that deregister the element")
	fl.IntVar(&f.check.rise, "check-rise", 2, "passes in a row that register it again")
	fl.StringVar(&f.load.source, "load", "fixed", "where the load comes from (`SOURCE`): fixed, cpu, file:PATH or cmd:COMMAND")
	fl.DurationVar(&f.load.interval, "load-interval", 2*time.Second, "time between two reads of the load, at least 50ms")
	fl.StringVar(&f.load.threshold, "load-threshold", "2%", "smallest change of the load that is sent to the registrar, a `FRACTION`")
	f.addElementTimers(cmd)
	fl.DurationVar(&f.drain, "drain", 0, "time between the deregistration and the signal to COMMAND (without COMMAND: the end of rsp); set it to the TTL of the DNS answers")
	fl.BoolVar(&f.notify, "notify", false, "tell systemd (Type=notify) in place of COMMAND that the service is ready: when the element is registered")
	f.logFlags.add(cmd)

	noFiles(cmd, "drain", "pool", "serve", "check", "load-threshold")
	fixedWords(cmd, "serve", "sctp:", "tcp:", "udp:", "udplite:", "dccp:")
	fixedWords(cmd, "load", "fixed", "cpu", "file:", "cmd:")
	fixedWords(cmd, "check", "tcp", "http:/", "http://", "https://", "cmd:")
}

// addElement adds the flags that describe the element. Their completions belong to it.
func (f *elementFlags) addElement(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.addresses, "address", "a", nil, "`ADDRESS` of this machine at which clients reach the server; repeatable with sctp (default: the address from which rsp reaches the registrar, and its new value after a change)")
	fl.StringArrayVar(&f.advertise, "advertise", nil, "`ADDRESS` to register that this machine does not have, such as that of a NAT or of a container's host; repeatable with sctp")
	fl.StringVar(&f.policy, "policy", "RoundRobin", "the pool's `POLICY`, with this element's values")
	fl.StringVar(&f.id, "id", "", "element identifier, 8 hexadecimal `DIGITS` (default: random)")
	fl.StringVar(&f.life, "life", "90s", "registration life: a `DURATION` of at least 3s, or infinite")
	fl.StringVar(&f.lifeUnit, "life-unit", "milliseconds", "`UNIT` of the life on the wire: milliseconds or seconds")
	fl.DurationVar(&f.reregister, "reregister", 0, "time between registrations, at least 1s and shorter than the life (default: a third of the life, at most 10m)")
	noFiles(cmd, "address", "advertise", "id", "life", "reregister")
	var names []string
	for _, t := range rserpool.Policies() {
		names = append(names, t.String())
	}
	fixedWords(cmd, "policy", names...)
	fixedWords(cmd, "life-unit", "milliseconds", "seconds")
}

// addElementTimers adds the flags of the timers toward registrars.
func (f *elementFlags) addElementTimers(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.DurationVar(&f.timers.Registration, "t2-registration", 30*time.Second, "T2: time to wait for the answer to a registration, at least 100ms")
	fl.IntVar(&f.timers.MaxRegAttempt, "max-reg-attempt", 2, "registrations without an answer before rsp tries the next registrar")
	fl.DurationVar(&f.timers.ServerHunt, "t5-serverhunt", 10*time.Second, "T5: time to wait for an association, at least 100ms")
	fl.DurationVar(&f.timers.Stop, "stop-timeout", 3*time.Second, "time to deregister at the end; each of several registrars has a third of it to answer")
}

// fixedWords completes a flag's value to one of some words.
func fixedWords(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
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
	if err := f.reachRegistrars(cmd, &cfg); err != nil {
		return nil, err
	}
	s := &supervisor{
		command: command,
		log:     f.logger(cmd.ErrOrStderr()),
		drain:   f.drain,

		notifies: f.notify,
	}
	s.log.warnOfName(cfg.Pool)
	s.teller = teller{log: s.log, pool: cfg.Pool, tls: cfg.TLS.Set()}
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
