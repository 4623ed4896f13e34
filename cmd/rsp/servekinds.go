package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/serve"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/spf13/cobra"
)

// serviceKinds are the services, in the order of the help.
func serviceKinds() []serviceKind {
	const policyLoad = "\n\nUnder a policy with a load, such as LeastUsed, the load is the number of sessions as a part\nof --capacity; rsp tells the registrar when it changes."
	return []serviceKind{
		{
			name: "echo", pool: services.EchoPool, short: "send each message back", policy: "RoundRobin", flags: simple(serve.Echo{}),
			long: "Send each message back to the user. There is no state, and there are no cookies." + policyLoad,
		},
		{
			name: "discard", pool: services.DiscardPool, short: "take messages and do nothing with them", policy: "RoundRobin", flags: simple(serve.Discard{}),
			long: "Take messages and do nothing with them." + policyLoad,
		},
		{
			name: "daytime", pool: services.DaytimePool, short: "send the time and end the session", policy: "RoundRobin", flags: simple(serve.Daytime{}),
			long: "Send a line with the time of the day, and end the session. RSPLIB's rspterminal takes the end\nfor a failure, and asks the next element at once." + policyLoad,
		},
		{
			name: "chargen", pool: services.ChargenPool, short: "send lines of characters without end", policy: "RoundRobin", flags: simple(serve.Chargen{}),
			long: "Send lines of 72 characters (RFC 864), as fast as the user takes them. RSPLIB 3.4.4 has no element\nof this service that can be started." + policyLoad,
		},
		{
			name: "pingpong", pool: services.PingPongPool, short: "answer requests, and count the answers", policy: "RoundRobin",
			ppid: services.PPIDPingPong, flags: simple(serve.PingPong{}),
			long: "Answer each request of RSPLIB's pingpongclient. The number of answers is the state of the\nsession: after each answer, a cookie takes it to the user, so that another element goes on with\nthe next number." + policyLoad,
		},
		{
			name: "calc", pool: services.CalcPool, short: "model a computer that users share", policy: "LeastUsed",
			ppid: services.PPIDCalc, flags: calcFlags,
			long: `Run the jobs of RSPLIB's calcappclient on a model of a computer. A job is a number of
calculations, and the jobs that run share --speed equally; nothing is really calculated. A
cookie takes the state of a job to its user after --cookie-time or --cookie-calculations, so
that another element goes on with the job. When rsp ends, each user gets the last state.

The load of the element is the number of sessions as a part of --max-jobs, and rsp tells the
registrar when it changes.`,
		},
		{
			name: "scripting", pool: services.ScriptingPool, short: "run programs that users send", policy: "LeastUsed",
			ppid: services.PPIDScripting, flags: scriptingFlags, long: scriptingHelp,
		},
	}
}

type makeService = func(*logger) (serve.Service, func(), error)

// simple makes the flags function of a service without flags of its own.
func simple(s serve.Service) func(*cobra.Command, *serveFlags) makeService {
	return func(cmd *cobra.Command, f *serveFlags) makeService {
		cmd.Flags().IntVar(&f.capacity, "capacity", 100, "sessions that are a load of 100%, for policies with a load")
		noFiles(cmd, "capacity")
		return func(*logger) (serve.Service, func(), error) {
			if f.capacity < 1 {
				return nil, nil, fmt.Errorf("--capacity must be at least 1, got %d", f.capacity)
			}
			return s, func() {}, nil
		}
	}
}

func calcFlags(cmd *cobra.Command, f *serveFlags) makeService {
	var cfg serve.CalcConfig
	fl := cmd.Flags()
	fl.Float64Var(&cfg.Capacity, "speed", 1e6, "calculations a second, for all jobs together")
	fl.IntVar(&f.capacity, "max-jobs", 10, "most jobs at a time; further ones are refused")
	fl.DurationVar(&cfg.CookieTime, "cookie-time", time.Second, "time after which a job's state is sent to its user")
	fl.Float64Var(&cfg.CookieCalcs, "cookie-calculations", 2e6, "calculations after which a job's state is sent to its user")
	fl.DurationVar(&cfg.KeepAlive, "keep-alive", 2500*time.Millisecond, "time between two keep-alives to a user, and time to wait for the answer")
	noFiles(cmd, "speed", "max-jobs", "cookie-time", "cookie-calculations", "keep-alive")
	return func(*logger) (serve.Service, func(), error) {
		positive := func(v float64) bool { return v > 0 && v <= math.MaxFloat64 }
		switch {
		case !positive(cfg.Capacity) || !positive(cfg.CookieCalcs):
			return nil, nil, errors.New("--speed and --cookie-calculations must be positive")
		case f.capacity < 1:
			return nil, nil, fmt.Errorf("--max-jobs must be at least 1, got %d", f.capacity)
		case cfg.CookieTime < minLook || cfg.KeepAlive < minLook:
			return nil, nil, fmt.Errorf("--cookie-time and --keep-alive must be at least %v", minLook)
		}
		cfg.MaxJobs = f.capacity
		return serve.NewCalc(cfg), func() {}, nil
	}
}

// newCookieKey makes the command that prints a key for rsp serve --cookie-keys.
func newCookieKey() *cobra.Command {
	return &cobra.Command{
		Use:   "cookie-key",
		Short: "print a new key that seals state cookies",
		Long: `Print a new random key for the state cookies of a pool.

All elements of the pool need the same keys, in the file of rsp serve --cookie-keys, or in
a Go program with asap/cookie. To change the key without a failure, add the new one as the
last line of each file and restart the elements, then move it to the first line. With
a key, anyone can forge the pool's cookies: keep the file readable for the elements only.

` + exitHelp,
		Example: "  (umask 077; rsp cookie-key >keys)\n  rsp serve pingpong --cookie-keys keys",
		Args:    namedArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), cookie.GenerateKey().Secret())
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}
