package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/health"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/load"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// minLook is the least time between two checks, or two reads of the load. Each can
// start a process.
const minLook = 50 * time.Millisecond

// checkUnused refuses options of a check or a load that is not used.
func (f *registerFlags) checkUnused(cmd *cobra.Command) error {
	for _, of := range []struct {
		option string
		used   bool
		need   string
	}{
		{"check", f.check.probe != "", "--check"},
		{"load", f.load.source != "fixed", "--load cpu, file:PATH or cmd:COMMAND"},
	} {
		var unused []string
		cmd.Flags().Visit(func(fl *pflag.Flag) {
			if strings.HasPrefix(fl.Name, of.option+"-") && !of.used {
				unused = append(unused, "--"+fl.Name)
			}
		})
		if len(unused) > 0 {
			return fmt.Errorf("%s: no effect without %s", strings.Join(unused, ", "), of.need)
		}
	}
	return nil
}

func (f *registerFlags) addCheck(s *supervisor, t rserpool.Transport) error {
	if f.check.probe == "" {
		return nil
	}
	probe, err := health.Parse(f.check.probe, func() string {
		return net.JoinHostPort(f.servedAt(s.registration.state()), strconv.Itoa(int(t.Port)))
	})
	if err != nil {
		return fmt.Errorf("--check: %w", err)
	}
	if f.check.probe == "tcp" && t.Type != rserpool.TCP {
		return fmt.Errorf("--check tcp: the server is reached by %s; use tcp:HOST:PORT, or another check", t.Type)
	}
	switch {
	case f.check.interval < minLook:
		return fmt.Errorf("--check-interval must be at least %v, got %v", minLook, f.check.interval)
	case f.check.timeout <= 0 || f.check.fail < 1 || f.check.rise < 1:
		return errors.New("--check-timeout must be positive, --check-fail and --check-rise at least 1")
	}
	s.checker = &health.Checker{
		Probe: probe, Interval: f.check.interval, Timeout: f.check.timeout,
		Fail: f.check.fail, Rise: f.check.rise, Notify: s.onCheck,
		Warn: func(err error) { s.log.log(quiet, "check could not be made, and does not count: %v", err) },
	}
	return nil
}

// servedAt returns the address at which this machine reaches the server. An advertised
// address may not be reachable from here.
func (f *registerFlags) servedAt(s pe.State) string {
	if len(s.Addrs) > 0 && len(f.advertise) == 0 {
		return s.Addrs[0].String()
	}
	if len(s.Local) > 0 {
		return s.Local[0].Addr().String()
	}
	// rsp has no address toward a registrar yet.
	if all := localaddr.Reachable(); len(all) > 0 {
		return all[0].String()
	}
	return "localhost"
}

func (f *registerFlags) addLoad(s *supervisor, policy rserpool.PolicyType) error {
	if f.load.source == "fixed" {
		return nil
	}
	src, err := load.Parse(f.load.source)
	if err != nil {
		return fmt.Errorf("--load: %w", err)
	}
	if !policy.Has(rserpool.FieldLoad) {
		return fmt.Errorf("--load: policy %v has no load: only the least-used policies have a load", policy)
	}
	if f.load.interval < minLook {
		return fmt.Errorf("--load-interval must be at least %v, got %v", minLook, f.load.interval)
	}
	threshold, err := rserpool.ParseFraction(f.load.threshold)
	if err != nil {
		return fmt.Errorf("--load-threshold: %w", err)
	}
	s.source, s.loadName, s.loadInterval, s.loadThreshold = src, f.load.source, f.load.interval, threshold
	return nil
}
