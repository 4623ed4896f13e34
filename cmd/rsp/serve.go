package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/serve"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

const serveHelp = `Serve one of the example services of RSerPool as an element of a pool, until a signal ends
rsp. Users of the reference implementation RSPLIB can use these elements, and elements of
rsp and of RSPLIB can be in one pool. rsp registers the element, renews the registration,
and acknowledges keep-alives, as rsp register does.

Sessions are over SCTP: the kernel's, SCTP in UDP, or both, as --via says. Users with
SCTP in UDP need --udp-port only if a firewall lets certain ports pass.

If a registrar refuses the element within 10 s after the start, and has not accepted it
before, rsp ends. Later no refusal ends rsp, as rsp help register explains: rsp logs the
reason, serves on, and retries after at most a minute.

SIGTERM, SIGINT, SIGQUIT and SIGHUP end rsp: it deregisters the element, accepts no more
sessions, recommends the other elements of the pool to its users, waits up to --drain for the
sessions to end, and ends them. Their users then fail over, with the state cookies that
they have. A second signal ends rsp at once: it ends the sessions without --drain, and waits
neither for a registrar nor for a user that does not answer.

In a systemd unit with Type=notify, rsp tells systemd when the element is registered
(READY=1), its state (STATUS=), and when the end begins (STOPPING=1).

State cookies are sent as RSPLIB sends them: a user can read and change them. With
--cookie-keys, rsp seals them with a key that all elements of the pool share, so that users
can do neither. Elements of RSPLIB cannot read sealed cookies, and rsp with keys accepts no
others. The file has a key a line, as rsp cookie-key prints it: the first one seals, all
open.`

// serveFlags are the flags of the commands rsp serve SERVICE.
type serveFlags struct {
	elementFlags
	service     serviceKind
	port        uint16
	udpPort     uint16
	cookieKeys  string
	capacity    int
	maxSessions int
}

// serviceKind is a service of rsp serve.
type serviceKind struct {
	name, pool, short, long string
	policy                  string // the default
	ppid                    uint32
	// flags adds the service's own flags, and returns what makes the service from them.
	flags func(cmd *cobra.Command, f *serveFlags) func(*logger) (serve.Service, func(), error)
}

func newServe() *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "serve SERVICE",
		Short: "serve an example service as an element of a pool",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, fmt.Errorf("SERVICE is missing: one of %s", strings.Join(names, ", ")))
			}
			return usage(cmd, fmt.Errorf("unknown service %q: want one of %s", args[0], strings.Join(names, ", ")))
		},
	}
	var list strings.Builder
	for _, k := range serviceKinds() {
		names = append(names, k.name)
		fmt.Fprintf(&list, "  %-10s %s (pool %s)\n", k.name, k.short, k.pool)
		cmd.AddCommand(newService(k))
	}
	cmd.Long = serveHelp + "\n\nServices, and the pool without --pool:\n" + list.String() + "\n" + exitHelp
	return cmd
}

func newService(k serviceKind) *cobra.Command {
	f := &serveFlags{service: k}
	cmd := &cobra.Command{
		Use:               k.name,
		Short:             k.short,
		Long:              k.long + "\n\nrsp help serve explains what all services have in common.\n\n" + registrarHelp + "\n\n" + exitHelp,
		Example:           "  rsp serve " + k.name + "\n  rsp serve " + k.name + " --registrar 192.0.2.1 --pool my" + k.pool + " --policy " + k.policy,
		Args:              namedArgs(),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVarP(&f.pool, "pool", "p", k.pool, "`HANDLE` of the pool to join")
	fl.Uint16Var(&f.port, "port", 0, "SCTP `PORT` of the service; 0 selects a free one")
	fl.Uint16Var(&f.udpPort, "udp-port", 0, "UDP `PORT` of the service for SCTP in UDP; 0 selects a free one")
	makeService := k.flags(cmd, f)
	f.addElement(cmd)
	_ = fl.Set("policy", k.policy)
	fl.Lookup("policy").DefValue = k.policy
	fl.Lookup("policy").Changed = false
	f.registrarFlags.add(cmd, overSCTP)
	fl.StringVar(&f.cookieKeys, "cookie-keys", "", "`FILE` with the keys that seal state cookies (default: cookies are not sealed)")
	fl.IntVar(&f.maxSessions, "max-sessions", 1000, "most sessions at a time; further ones are refused")
	f.addElementTimers(cmd)
	fl.DurationVar(&f.drain, "drain", 0, "time that sessions get to end after a signal")
	f.logFlags.add(cmd)
	noFiles(cmd, "pool", "port", "udp-port", "max-sessions", "drain")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.listenConfig(cmd)
		if err != nil {
			return err
		}
		log := f.logger(cmd.ErrOrStderr())
		log.warnOfName(cfg.Pool)
		service, done, err := makeService(log)
		if err != nil {
			return usage(cmd, err)
		}
		defer done()
		return f.run(cmd.Context(), cfg, log, service)
	}
	return cmd
}

// listenConfig reads the flags that describe the element.
func (f *serveFlags) listenConfig(cmd *cobra.Command) (pe.ListenConfig, error) {
	var cfg pe.ListenConfig
	var err error
	cfg.Config, err = f.elementFlags.config(rserpool.Transport{Type: rserpool.SCTP, Port: f.port, Use: rserpool.DataPlusControl})
	if err == nil && f.maxSessions < 1 {
		err = fmt.Errorf("--max-sessions must be at least 1, got %d", f.maxSessions)
	}
	if err != nil {
		return cfg, usage(cmd, err)
	}
	if err := f.reachRegistrars(cmd, &cfg.Config); err != nil {
		return cfg, err
	}
	cfg.UserEncapPort, cfg.MistakeTime = f.udpPort, mistakeTime
	cfg.MaxSessions, cfg.MaxSessionsPerHost, cfg.PPID = f.maxSessions, f.maxSessions, f.service.ppid
	if cfg.Policy.Type.Has(rserpool.FieldLoad) {
		cfg.Capacity = f.capacity
	}
	if f.cookieKeys != "" {
		if cfg.Cookies, err = f.sealer(); err != nil {
			return cfg, usage(cmd, fmt.Errorf("--cookie-keys: %w", err))
		}
	}
	return cfg, nil
}

// sealer reads the keys of cookies.
func (f *serveFlags) sealer() (*cookie.Sealer, error) {
	text, err := os.ReadFile(f.cookieKeys)
	if err != nil {
		return nil, err
	}
	keys, err := cookie.ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.cookieKeys, err)
	}
	return cookie.New(cookie.Config{Pool: rserpool.PoolHandle(f.pool), Keys: keys})
}

const (
	// leaveLimit is the least time for the last wills of an element that leaves.
	leaveLimit = 500 * time.Millisecond
	// lastTime is how long the end may take after a second signal.
	lastTime = 250 * time.Millisecond
)

// run serves until a signal, or until a registrar refuses the element within mistakeTime.
func (f *serveFlags) run(ctx context.Context, cfg pe.ListenConfig, log *logger, service serve.Service) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals, stop := take(endAlone, endAlone)
	defer stop()
	told := &teller{log: log, pool: cfg.Pool, tls: cfg.TLS.Set(), manager: takeManager(log)}
	told.manager.begin(false)
	cfg.Notify, cfg.Logger = told.notify, log.transport()
	l, err := pe.Listen(cfg)
	if err != nil {
		return err
	}
	log.log(normal, "serving %s on sctp:%d", f.service.name, l.LocalAddrs()[0].Port())
	h := &handlers{log: log, service: service}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.accept(ctx, l)
	}()
	leave := context.CancelFunc(func() {})
	closed := make(chan error, 1)
	select {
	case <-ended: // refused
		go func() { closed <- l.Close() }()
	case sig := <-signals:
		log.log(verbose, "%v: deregistering", sig)
		var drain context.Context
		drain, leave = context.WithTimeout(ctx, max(f.drain, leaveLimit))
		go func() { // a service manager that hangs delays no second signal
			told.manager.stop()
			_ = l.Leave(drain)
			cancel()
			<-ended
			closed <- l.Close()
		}()
	}
	defer leave()
	select {
	case err := <-closed:
		return err
	case sig := <-signals:
		leave()
		return closedSoon(closed, sig)
	}
}

// closedSoon waits for the end after a second signal: the sessions are told of it if that takes no
// longer than lastTime. A registrar or a user that does not answer could take longer.
func closedSoon(closed <-chan error, sig os.Signal) error {
	select {
	case err := <-closed:
		return err
	case <-time.After(lastTime):
		return fmt.Errorf("%v: rsp ended before the deregistration was confirmed and all sessions had ended", sig)
	}
}
