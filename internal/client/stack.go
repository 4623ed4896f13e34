package client

import (
	"fmt"
	"log/slog"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// framing is that of ASAP over TCP.
var framing = sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID}

// openStack opens the machine's transports, with TLS if m is not nil.
func openStack(cfg Config, m *member.Member) (ListenFunc, func() error, error) {
	of := stack.Config{Only: cfg.Via, EncapPort: cfg.EncapPort, Framing: framing, Logf: logf(cfg.Logger)}
	if m != nil {
		of.TLS = m.TLS()
	}
	stack, err := stack.New(of)
	if err != nil {
		return nil, nil, err
	}
	return stack.Listen, stack.Close, nil
}

// protocol is the name of the protocol in TLS (ALPN).
func (c *Config) protocol() string {
	if c.PPID == enrp.PPID {
		return "enrp"
	}
	return "asap"
}

// logf is the Logger in the form that package sctp takes, nil without one.
func logf(l *slog.Logger) func(format string, args ...any) {
	if l == nil {
		return nil
	}
	return func(format string, args ...any) { l.Info(fmt.Sprintf(format, args...)) }
}
